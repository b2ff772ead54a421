/* Forming groups: which nodes run as one operation, and the affine maps that are folded into weights. */
#include "server/nn/backend_dnnl_group.h"

#include <math.h>

void backend_dnnl_find_consumers(const struct network *network, size_t *consumer) {
    for (size_t v = 0; v < network->value_count; v++) {
        consumer[v] = NETWORK_NONE;
    }
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        for (size_t k = 0; k < node->input_count; k++) {
            const size_t v = node->inputs[k];
            if (v != NETWORK_NONE && network->values[v].use_count == 1 && v != network->output) {
                consumer[v] = i;
            }
        }
    }
}

bool backend_dnnl_is_image(const struct value *value) {
    return value->shape.rank == 4 && value->shape.dim[0] == 1 && value->kind != VALUE_CONSTANT;
}

static bool is_constant(const struct network *network, size_t value) {
    return network->values[value].kind == VALUE_CONSTANT;
}

/* BatchNorm or Mask over the channel axis, which for products is the last of two. */
static bool is_affine(const struct node *node) {
    return node->op == OP_BATCH_NORM || (node->op == OP_MASK && node->attr.axis == 1);
}

static bool activation_of(const struct node *node, struct backend_dnnl_activation *activation) {
    if (!backend_dnnl_has_activation(node->op)) {
        return false;
    }
    *activation = (struct backend_dnnl_activation){.op = node->op};
    if (node->op == OP_LEAKY_RELU) {
        activation->alpha = node->attr.alpha;
    } else if (node->op == OP_CLIP) {
        activation->alpha = node->attr.low;
        activation->beta = node->attr.high;
    }
    return true;
}

/* Both sides computed and of one shape: the other side than `value`; NETWORK_NONE if it is no such addition. */
static size_t addend(const struct network *network, const struct node *node, size_t value) {
    if (node->op != OP_ADD || node->inputs[0] == node->inputs[1]) {
        return NETWORK_NONE;
    }
    const size_t other = node->inputs[node->inputs[0] == value ? 1 : 0];
    return !is_constant(network, other) && shape_equal(&network->values[other].shape, &network->values[value].shape)
               ? other
               : NETWORK_NONE;
}

static enum backend_dnnl_kind kind_of(const struct network *network, const struct node *node) {
    const struct value *in = &network->values[node->inputs[0]], *out = &network->values[node->output];
    struct backend_dnnl_activation activation;

    if (node->op == OP_GEMM) {
        return in->shape.rank == 2 && in->shape.dim[0] == 1 ? GROUP_INNER : GROUP_NONE;
    }
    if (!backend_dnnl_is_image(in) || !backend_dnnl_is_image(out)) {
        return GROUP_NONE;
    }
    if (node->op == OP_CONV) {
        return GROUP_CONV;
    }
    if (is_affine(node)) {
        return GROUP_AFFINE;
    }
    if (node->op == OP_ADD) {
        return addend(network, node, node->inputs[0]) != NETWORK_NONE ? GROUP_ADD : GROUP_NONE;
    }
    if (node->op == OP_MAX_POOL || node->op == OP_AVERAGE_POOL || node->op == OP_GLOBAL_AVERAGE_POOL) {
        return GROUP_POOL;
    }
    if (node->op == OP_CONCAT) {
        bool images = node->attr.axis == 1 && node->input_count >= 2;
        for (size_t k = 0; k < node->input_count && images; k++) {
            images = backend_dnnl_is_image(&network->values[node->inputs[k]]);
        }
        return images ? GROUP_CONCAT : GROUP_NONE;
    }
    return activation_of(node, &activation) ? GROUP_ACTIVATION : GROUP_NONE;
}

/* Whether the group can take this node, which reads its output, along; if so, it has. */
static bool take(const struct network *network, size_t index, struct backend_dnnl_group *group) {
    const struct node *node = &network->nodes[index];
    const bool weights = group->kind == GROUP_CONV || group->kind == GROUP_INNER;

    if (group->activation.op != OP_KIND_COUNT || group->node_count == GROUP_NODES_MAX) {
        return false;
    }
    if (is_affine(node) && (weights || group->kind == GROUP_AFFINE) && group->other == NETWORK_NONE &&
        group->fold_count < GROUP_FOLDS_MAX) {
        group->folds[group->fold_count++] = index;
        return true;
    }
    if (group->kind == GROUP_CONV && group->other == NETWORK_NONE) {
        group->other = addend(network, node, group->output);
        if (group->other != NETWORK_NONE) {
            return true;
        }
    }
    return (weights || group->kind == GROUP_AFFINE || group->kind == GROUP_ADD) &&
           activation_of(node, &group->activation);
}

void backend_dnnl_form(const struct network *network, const size_t *consumer, const bool *used, size_t head,
                       size_t followers, struct backend_dnnl_group *group) {
    const struct node *node = &network->nodes[head];

    *group = (struct backend_dnnl_group){.kind = kind_of(network, node),
                                         .nodes = {head},
                                         .node_count = 1,
                                         .input = node->inputs[0],
                                         .other = NETWORK_NONE,
                                         .output = node->output,
                                         .activation = {.op = OP_KIND_COUNT}};
    if (group->kind == GROUP_AFFINE) {
        group->folds[group->fold_count++] = head;
    } else if (group->kind == GROUP_ADD) {
        group->other = addend(network, node, node->inputs[0]);
    } else if (group->kind == GROUP_ACTIVATION) {
        (void)activation_of(node, &group->activation);
    }
    while (group->kind != GROUP_NONE && group->node_count <= followers) {
        const size_t next = consumer[group->output];
        if (next == NETWORK_NONE || used[next] || !take(network, next, group)) {
            return;
        }
        group->nodes[group->node_count++] = next;
        group->output = network->nodes[next].output;
    }
}

/* The affine map of one BatchNorm or Mask at channel c. */
static void affine_at(const struct network *network, const struct node *node, const float *mask, const float *fill,
                      size_t c, float *scale, float *shift) {
    if (node->op == OP_MASK) {
        const size_t unit = node->attr.mask_first + c;
        *scale = mask != NULL ? mask[unit] : 1.0f;
        *shift = mask != NULL ? (1.0f - mask[unit]) * fill[unit] : 0.0f;
    } else {
        const float *const gamma = network->values[node->inputs[1]].data, *const beta =
                                                                              network->values[node->inputs[2]].data;
        const float *const mean = network->values[node->inputs[3]].data;
        const float *const variance = network->values[node->inputs[4]].data;
        *scale = gamma[c] / sqrtf(variance[c] + node->attr.epsilon);
        *shift = beta[c] - mean[c] * *scale;
    }
}

void backend_dnnl_fold(const struct network *network, const struct backend_dnnl_group *group, const float *mask,
                       const float *fill, size_t channels, float *scale, float *shift) {
    for (size_t c = 0; c < channels; c++) {
        scale[c] = 1.0f;
        shift[c] = 0.0f;
        for (size_t f = 0; f < group->fold_count; f++) {
            float s, t;
            affine_at(network, &network->nodes[group->folds[f]], mask, fill, c, &s, &t);
            scale[c] *= s;
            shift[c] = s * shift[c] + t;
        }
    }
}
