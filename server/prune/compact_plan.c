/* Finds constant and unneeded channels, ties those that go together, and decides which are removed. */
#include "server/prune/compact_plan.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"

/* A merged channel's weights are multiplied by the ratio of the constants: beyond this, rounding would show. */
static const float RATIO_MAX = 1e3F;

static const struct shape *shape_of(const struct compact_plan *plan, size_t value) {
    return &plan->network->values[value].shape;
}

static size_t width(const struct compact_plan *plan, size_t value) {
    return plan->base[value + 1] - plan->base[value];
}

static size_t find(const struct compact_plan *plan, size_t i) {
    while (plan->parent[i] != i) {
        plan->parent[i] = plan->parent[plan->parent[i]];
        i = plan->parent[i];
    }
    return i;
}

static void tie(struct compact_plan *plan, size_t a, size_t b) {
    a = find(plan, a);
    b = find(plan, b);
    plan->parent[a > b ? a : b] = a > b ? b : a;
}

static void fix(struct compact_plan *plan, size_t value) {
    for (size_t i = plan->base[value]; i < plan->base[value + 1]; i++) {
        plan->fixed[i] = true;
    }
}

/* A node whose channels we do not follow. */
static void fix_node(struct compact_plan *plan, const struct node *node) {
    for (size_t k = 0; k < node->input_count; k++) {
        if (node->inputs[k] != NETWORK_NONE) {
            fix(plan, node->inputs[k]);
        }
    }
    fix(plan, node->output);
}

bool compact_is_padded(const struct node *node) {
    const struct window_attr *w = &node->attr.window;
    return node->op == OP_CONV && (w->pad_begin[0] | w->pad_begin[1] | w->pad_end[0] | w->pad_end[1]) != 0;
}

bool compact_is_mixing(const struct network *network, const struct node *node) {
    if (node->op == OP_GEMM) {
        const struct shape *weight = &network->values[node->inputs[1]].shape;
        const size_t bias = node->input_count > 2 && node->inputs[2] != NETWORK_NONE
                                ? shape_count(&network->values[node->inputs[2]].shape)
                                : 1;
        const size_t outputs = weight->dim[node->attr.trans_b ? 0 : 1];
        return network->values[node->inputs[0]].shape.rank == 2 && (bias == 1 || bias == outputs);
    }
    return node->op == OP_CONV && node->attr.window.group == 1;
}

/* Where the weights from c to m start, and how many they are. */
static const float *weights_at(const struct network *network, const struct node *node, size_t m, size_t c,
                               size_t *count) {
    const struct value *weight = &network->values[node->inputs[1]];
    *count = node->op == OP_GEMM ? 1 : weight->shape.dim[2] * weight->shape.dim[3];
    const size_t columns = weight->shape.dim[1];
    return weight->data + (node->op == OP_GEMM && !node->attr.trans_b ? c * columns + m : (m * columns + c) * *count);
}

double compact_weight(const struct network *network, const struct node *node, size_t m, size_t c) {
    size_t count = 0;
    const float *w = weights_at(network, node, m, c, &count);
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)w[i];
    }
    return node->op == OP_GEMM ? sum * (double)node->attr.alpha : sum;
}

bool compact_has_weight(const struct network *network, const struct node *node, size_t m, size_t c) {
    size_t count = 0;
    const float *w = weights_at(network, node, m, c, &count);
    for (size_t i = 0; i < count; i++) {
        if (w[i] != 0.0F) {
            return true;
        }
    }
    return false;
}

static double bias_of(const struct network *network, const struct node *node, size_t m) {
    if (node->input_count < 3 || node->inputs[2] == NETWORK_NONE) {
        return 0.0;
    }
    const struct value *bias = &network->values[node->inputs[2]];
    const double b = (double)bias->data[shape_count(&bias->shape) == 1 ? 0 : m];
    return node->op == OP_GEMM ? b * (double)node->attr.beta : b;
}

/* Is what channel c of the input gives to this node the same at every position? */
static bool is_even(const struct compact_plan *plan, const struct node *node, size_t in) {
    return plan->known[in] && (plan->value[in] == 0.0F || !compact_is_padded(node));
}

static void see_mixing(struct compact_plan *plan, const struct node *node) {
    const size_t in = plan->base[node->inputs[0]], out = plan->base[node->output];
    for (size_t m = 0; m < width(plan, node->output); m++) {
        double sum = bias_of(plan->network, node, m);
        bool known = true;
        for (size_t c = 0; c < width(plan, node->inputs[0]) && known; c++) {
            if (compact_has_weight(plan->network, node, m, c)) {
                known = is_even(plan, node, in + c);
                sum += known ? compact_weight(plan->network, node, m, c) * (double)plan->value[in + c] : 0.0;
            }
        }
        plan->known[out + m] = known;
        plan->value[out + m] = (float)sum;
    }
}

static void see_depthwise(struct compact_plan *plan, const struct node *node) {
    const size_t in = plan->base[node->inputs[0]], out = plan->base[node->output];
    for (size_t c = 0; c < width(plan, node->output); c++) {
        const bool has = compact_has_weight(plan->network, node, c, 0);
        tie(plan, in + c, out + c);
        plan->known[out + c] = !has || is_even(plan, node, in + c);
        plan->value[out + c] =
            (float)(bias_of(plan->network, node, c) +
                    (has ? compact_weight(plan->network, node, c, 0) * (double)plan->value[in + c] : 0.0));
    }
}

static void see_norm(struct compact_plan *plan, const struct node *node) {
    const struct value *values = plan->network->values;
    const size_t in = plan->base[node->inputs[0]], out = plan->base[node->output];
    for (size_t c = 0; c < width(plan, node->output); c++) {
        const double scale = (double)values[node->inputs[1]].data[c], shift = (double)values[node->inputs[2]].data[c];
        const double mean = (double)values[node->inputs[3]].data[c], variance = (double)values[node->inputs[4]].data[c];
        tie(plan, in + c, out + c);
        plan->known[out + c] = scale == 0.0 || plan->known[in + c];
        plan->value[out + c] = (float)(scale == 0.0 ? shift
                                                    : shift + scale * ((double)plan->value[in + c] - mean) /
                                                                  sqrt(variance + (double)node->attr.epsilon));
    }
}

/* f(x) of an op that keeps channels and positions; false if the op is none of these. */
static bool activate(const struct node *node, float x, float *y) {
    switch (node->op) {
    case OP_IDENTITY:
        *y = x;
        return true;
    case OP_RELU:
        *y = x > 0.0F ? x : 0.0F;
        return true;
    case OP_LEAKY_RELU:
        *y = x > 0.0F ? x : node->attr.alpha * x;
        return true;
    case OP_CLIP:
        *y = x < node->attr.low ? node->attr.low : x > node->attr.high ? node->attr.high : x;
        return true;
    case OP_SIGMOID:
        *y = 1.0F / (1.0F + expf(-x));
        return true;
    case OP_TANH:
        *y = tanhf(x);
        return true;
    case OP_HARD_SIGMOID:
        *y = fminf(1.0F, fmaxf(0.0F, node->attr.alpha * x + node->attr.beta));
        return true;
    case OP_HARD_SWISH:
        *y = x * fminf(1.0F, fmaxf(0.0F, x / 6.0F + 0.5F));
        return true;
    default:
        return false;
    }
}

static void see_pooling(struct compact_plan *plan, const struct node *node) {
    const struct window_attr *w = &node->attr.window;
    const bool zeros = node->op == OP_AVERAGE_POOL && w->count_include_pad &&
                       (w->pad_begin[0] | w->pad_begin[1] | w->pad_end[0] | w->pad_end[1]) != 0;
    const size_t in = plan->base[node->inputs[0]], out = plan->base[node->output];
    for (size_t c = 0; c < width(plan, node->output); c++) {
        tie(plan, in + c, out + c);
        plan->known[out + c] = plan->known[in + c] && (!zeros || plan->value[in + c] == 0.0F);
        plan->value[out + c] = plan->value[in + c];
    }
}

static void see_pad(struct compact_plan *plan, const struct node *node) {
    const size_t in = plan->base[node->inputs[0]], out = plan->base[node->output];
    for (size_t c = 0; c < width(plan, node->output); c++) {
        tie(plan, in + c, out + c);
        plan->known[out + c] = plan->known[in + c] && plan->value[in + c] == node->attr.pad_value;
        plan->value[out + c] = plan->value[in + c];
    }
}

/* Of a computed value and a constant a channel (or one number), or of two computed values of one shape; false: of anything else. */
static bool see_add(struct compact_plan *plan, const struct node *node) {
    const struct value *values = plan->network->values;
    size_t slot = 0;
    const bool constant = flow_is_channel_bias(plan->network, node, 1, &slot);
    const size_t a = node->inputs[constant ? 1 - slot : 0], b = node->inputs[constant ? slot : 1];
    if (!constant && (values[a].kind == VALUE_CONSTANT || values[b].kind == VALUE_CONSTANT ||
                      !shape_equal(shape_of(plan, a), shape_of(plan, b)))) {
        return false;
    }
    for (size_t c = 0; c < width(plan, node->output); c++) {
        const size_t out = plan->base[node->output] + c, left = plan->base[a] + c, right = plan->base[b] + c;
        tie(plan, left, out);
        if (constant) {
            plan->known[out] = plan->known[left];
            plan->value[out] = plan->value[left] + values[b].data[c];
            continue;
        }
        tie(plan, right, out);
        plan->known[out] = plan->known[left] && plan->known[right];
        plan->value[out] = plan->value[left] + plan->value[right];
    }
    return true;
}

static void see_concat(struct compact_plan *plan, const struct node *node) {
    size_t out = plan->base[node->output];
    for (size_t k = 0; k < node->input_count; k++) {
        for (size_t i = plan->base[node->inputs[k]]; i < plan->base[node->inputs[k] + 1]; i++, out++) {
            tie(plan, i, out);
            plan->known[out] = plan->known[i];
            plan->value[out] = plan->value[i];
        }
    }
}

/* Channel c becomes the block of features c * inner .. of a flattened plane. */
static bool see_reshape(struct compact_plan *plan, const struct node *node) {
    const struct shape *out = shape_of(plan, node->output);
    const size_t channels = width(plan, node->inputs[0]), features = width(plan, node->output);
    if (channels == 0 || features == 0 || features % channels != 0 || (features != channels && out->rank != 2)) {
        return false;
    }
    for (size_t f = 0; f < features; f++) {
        const size_t i = plan->base[node->inputs[0]] + f / (features / channels), o = plan->base[node->output] + f;
        tie(plan, i, o);
        plan->known[o] = plan->known[i];
        plan->value[o] = plan->value[i];
    }
    return true;
}

static bool keeps_channels(const struct compact_plan *plan, const struct node *node) {
    const struct shape *in = shape_of(plan, node->inputs[0]), *out = shape_of(plan, node->output);
    return in->rank >= 2 && out->rank >= 2 && in->dim[1] == out->dim[1];
}

static bool is_spatial_mean(const struct compact_plan *plan, const struct node *node) {
    bool channel = false;
    for (size_t i = 0; i < node->attr.axes_count; i++) {
        channel = channel || node->attr.axes[i] == 1;
    }
    return shape_of(plan, node->inputs[0])->rank == 4 && !channel && keeps_channels(plan, node);
}

static bool is_spatial_pad(const struct compact_plan *plan, const struct node *node) {
    return shape_of(plan, node->inputs[0])->rank == 4 && keeps_channels(plan, node) && node->attr.pad_begin[1] == 0;
}

static void see_node(struct compact_plan *plan, const struct node *node) {
    float y = 0.0F;
    switch (node->op) {
    case OP_CONV:
        if (compact_is_mixing(plan->network, node)) {
            see_mixing(plan, node);
        } else if (flow_is_depthwise(plan->network, node) && keeps_channels(plan, node)) {
            see_depthwise(plan, node);
        } else {
            fix_node(plan, node);
        }
        return;
    case OP_GEMM:
        compact_is_mixing(plan->network, node) ? see_mixing(plan, node) : fix_node(plan, node);
        return;
    case OP_BATCH_NORM:
        see_norm(plan, node);
        return;
    case OP_MAX_POOL:
    case OP_AVERAGE_POOL:
    case OP_GLOBAL_AVERAGE_POOL:
    case OP_GLOBAL_MAX_POOL:
        see_pooling(plan, node);
        return;
    case OP_REDUCE_MEAN:
        is_spatial_mean(plan, node) ? see_pooling(plan, node) : fix_node(plan, node);
        return;
    case OP_PAD:
        is_spatial_pad(plan, node) ? see_pad(plan, node) : fix_node(plan, node);
        return;
    case OP_CONCAT:
        node->attr.axis == 1 ? see_concat(plan, node) : fix_node(plan, node);
        return;
    case OP_ADD:
        if (!see_add(plan, node)) {
            fix_node(plan, node);
        }
        return;
    case OP_RESHAPE:
        if (!see_reshape(plan, node)) {
            fix_node(plan, node);
        }
        return;
    default:
        break;
    }
    if (!activate(node, 0.0F, &y) || !keeps_channels(plan, node)) {
        fix_node(plan, node);
        return;
    }
    for (size_t c = 0; c < width(plan, node->output); c++) {
        const size_t in = plan->base[node->inputs[0]] + c, out = plan->base[node->output] + c;
        tie(plan, in, out);
        plan->known[out] = plan->known[in] && activate(node, plan->value[in], &plan->value[out]);
    }
}

/* Does a node that gives channel c from channel c alone look at its input there? */
static bool looks_at(const struct compact_plan *plan, const struct node *node, size_t c) {
    if (node->op == OP_CONV) {
        return compact_has_weight(plan->network, node, c, 0);
    }
    return node->op != OP_BATCH_NORM || plan->network->values[node->inputs[1]].data[c] != 0.0F;
}

static bool is_channelwise(const struct compact_plan *plan, const struct node *node) {
    float y = 0.0F;
    return (node->op == OP_CONV && flow_is_depthwise(plan->network, node)) || node->op == OP_BATCH_NORM ||
           activate(node, 0.0F, &y);
}

/* Backwards: a channel is needed if a reader whose own output is needed and not constant reads it. */
static void see_needs(struct compact_plan *plan, const struct node *node) {
    const size_t out = plan->base[node->output];
    const bool mixing = compact_is_mixing(plan->network, node);
    for (size_t k = 0; k < node->input_count; k++) {
        const size_t value = node->inputs[k];
        for (size_t c = 0; value != NETWORK_NONE && c < width(plan, value); c++) {
            const size_t i = plan->base[value] + c;
            if (mixing) {
                for (size_t m = 0; m < width(plan, node->output) && !plan->needed[i]; m++) {
                    plan->needed[i] = plan->needed[out + m] && !(plan->known[out + m] && !plan->fixed[out + m]) &&
                                      compact_has_weight(plan->network, node, m, c);
                }
            } else if (is_channelwise(plan, node) && width(plan, value) == width(plan, node->output)) {
                plan->needed[i] = plan->needed[i] || (plan->needed[out + c] && looks_at(plan, node, c));
            } else {
                plan->needed[i] = true;
            }
        }
    }
}

enum { REMOVE_NOT, REMOVE, REMOVE_MERGE };

/* Does a padded Conv read this channel and need it, with a constant that is not 0? */
static bool wants_merge(const struct compact_plan *plan, size_t value, size_t i) {
    if (!plan->known[i] || !plan->needed[i] || plan->value[i] == 0.0F) {
        return false;
    }
    for (size_t r = plan->flow->start[value]; r < plan->flow->start[value + 1]; r++) {
        const struct node *node = &plan->network->nodes[plan->flow->reader[r]];
        if (compact_is_mixing(plan->network, node) && compact_is_padded(node)) {
            return true;
        }
    }
    return false;
}

struct member {
    size_t value, channel; /* channel: its number */
};

struct classes {
    size_t *start;          /* (channels + 1) by root: members of root r are list[start[r] .. start[r + 1]) */
    struct member *list;    /* (channels) values ascending */
    unsigned char *verdict; /* (channels) by root */
};

static void classes_deinit(struct classes *classes) {
    mem_free(classes->start);
    mem_free(classes->list);
    mem_free(classes->verdict);
}

static enum status classes_init(const struct compact_plan *plan, struct classes *classes, struct error *error) {
    const size_t n = plan->channels;
    size_t *at = mem_calloc(n + 1, sizeof *at);
    classes->start = mem_calloc(n + 2, sizeof *classes->start);
    classes->list = mem_alloc(n, sizeof *classes->list);
    classes->verdict = mem_alloc(n, 1);
    if (at == NULL || classes->start == NULL || classes->list == NULL || classes->verdict == NULL) {
        mem_free(at);
        return error_no_memory(error, "the classes of channels");
    }
    memset(classes->verdict, REMOVE, n);
    for (size_t i = 0; i < n; i++) {
        classes->start[find(plan, i) + 1]++;
    }
    for (size_t i = 0; i < n; i++) {
        classes->start[i + 1] += classes->start[i];
    }
    for (size_t v = 0; v < plan->network->value_count; v++) {
        for (size_t i = plan->base[v]; i < plan->base[v + 1]; i++) {
            const size_t root = find(plan, i);
            classes->list[classes->start[root] + at[root]++] = (struct member){v, i};
            if (plan->fixed[i] || !(plan->known[i] || !plan->needed[i])) {
                classes->verdict[root] = REMOVE_NOT;
            } else if (classes->verdict[root] == REMOVE && wants_merge(plan, v, i)) {
                classes->verdict[root] = REMOVE_MERGE;
            }
        }
    }
    mem_free(at);
    return STATUS_OK;
}

static void remove_class(struct compact_plan *plan, const struct classes *classes, size_t root) {
    for (size_t k = classes->start[root]; k < classes->start[root + 1]; k++) {
        plan->gone[classes->list[k].channel] = true;
    }
}

/* Do the two lie side by side in the same values, and can `root` take over what `other` gives wherever a padded Conv reads it? */
static bool can_take(const struct compact_plan *plan, const struct classes *classes, size_t root, size_t other) {
    const size_t a = classes->start[root], b = classes->start[other], count = classes->start[root + 1] - a;
    if (classes->start[other + 1] - b != count) {
        return false;
    }
    for (size_t k = 0; k < count; k++) {
        const size_t x = classes->list[a + k].channel, y = classes->list[b + k].channel;
        if (classes->list[a + k].value != classes->list[b + k].value) {
            return false;
        }
        if (wants_merge(plan, classes->list[b + k].value, y) &&
            (!plan->known[x] || !(fabsf(plan->value[y]) <= RATIO_MAX * fabsf(plan->value[x])))) {
            return false;
        }
    }
    return true;
}

/* Each class that must be merged is offered to those that stayed before it; the first that can takes it. */
static void merge_classes(struct compact_plan *plan, struct classes *classes) {
    for (size_t other = 0; other < plan->channels; other++) {
        if (classes->start[other] == classes->start[other + 1] || classes->verdict[other] != REMOVE_MERGE) {
            continue;
        }
        classes->verdict[other] = REMOVE_NOT; /* unless one takes it */
        const struct member *first = &classes->list[classes->start[other]];
        for (size_t i = plan->base[first->value]; i < first->channel; i++) {
            const size_t root = find(plan, i);
            if (root >= other || plan->gone[i] || !plan->known[i] || !can_take(plan, classes, root, other)) {
                continue;
            }
            const size_t a = classes->start[root], b = classes->start[other];
            for (size_t k = 0; k < classes->start[other + 1] - b; k++) {
                plan->into[classes->list[b + k].channel] = classes->list[a + k].channel;
            }
            remove_class(plan, classes, other);
            classes->verdict[other] = REMOVE;
            break;
        }
    }
}

/* No value may lose all its channels. */
static void keep_one(struct compact_plan *plan, const struct classes *classes) {
    for (size_t v = 0; v < plan->network->value_count; v++) {
        if (width(plan, v) > 0 && compact_kept(plan, v) == 0) {
            const size_t root = find(plan, plan->base[v]);
            for (size_t k = classes->start[root]; k < classes->start[root + 1]; k++) {
                plan->gone[classes->list[k].channel] = false;
                plan->into[classes->list[k].channel] = NETWORK_NONE;
            }
        }
    }
}

static enum status decide(struct compact_plan *plan, struct error *error) {
    struct classes classes = {0};
    const enum status status = classes_init(plan, &classes, error);
    if (status == STATUS_OK) {
        for (size_t root = 0; root < plan->channels; root++) {
            if (classes.start[root] < classes.start[root + 1] && classes.verdict[root] == REMOVE) {
                remove_class(plan, &classes, root);
            }
        }
        merge_classes(plan, &classes);
        keep_one(plan, &classes);
    }
    classes_deinit(&classes);
    return status;
}

size_t compact_kept(const struct compact_plan *plan, size_t value) {
    size_t kept = 0;
    for (size_t i = plan->base[value]; i < plan->base[value + 1]; i++) {
        kept += !plan->gone[i];
    }
    return kept;
}

static enum status plan_allocate(struct compact_plan *plan, struct error *error) {
    const struct network *network = plan->network;
    plan->base = mem_alloc(network->value_count + 1, sizeof *plan->base);
    if (plan->base == NULL) {
        return error_no_memory(error, "a compaction");
    }
    for (size_t v = 0; v < network->value_count; v++) {
        const struct value *value = &network->values[v];
        plan->base[v] = plan->channels;
        plan->channels += value->kind != VALUE_CONSTANT && value->shape.rank >= 2 ? value->shape.dim[1] : 0;
    }
    plan->base[network->value_count] = plan->channels;
    plan->parent = mem_alloc(plan->channels, sizeof *plan->parent);
    plan->fixed = mem_calloc(plan->channels, sizeof *plan->fixed);
    plan->known = mem_calloc(plan->channels, sizeof *plan->known);
    plan->value = mem_calloc(plan->channels, sizeof *plan->value);
    plan->needed = mem_calloc(plan->channels, sizeof *plan->needed);
    plan->gone = mem_calloc(plan->channels, sizeof *plan->gone);
    plan->into = mem_alloc(plan->channels, sizeof *plan->into);
    if (plan->parent == NULL || plan->fixed == NULL || plan->known == NULL || plan->value == NULL ||
        plan->needed == NULL || plan->gone == NULL || plan->into == NULL) {
        return error_no_memory(error, "a compaction");
    }
    for (size_t i = 0; i < plan->channels; i++) {
        plan->parent[i] = i;
        plan->into[i] = NETWORK_NONE;
    }
    return flow_new(network, &plan->flow, error);
}

enum status compact_plan_new(const struct network *network, struct compact_plan **out, struct error *error) {
    struct compact_plan *plan = mem_calloc(1, sizeof *plan);
    if (plan == NULL) {
        return error_no_memory(error, "a compaction");
    }
    plan->network = network;
    enum status status = plan_allocate(plan, error);
    if (status == STATUS_OK) {
        fix(plan, network->input);
        fix(plan, network->output);
        for (size_t i = 0; i < network->node_count; i++) {
            see_node(plan, &network->nodes[i]);
        }
        for (size_t i = plan->base[network->output]; i < plan->base[network->output + 1]; i++) {
            plan->needed[i] = true;
        }
        for (size_t i = network->node_count; i-- > 0;) {
            see_needs(plan, &network->nodes[i]);
        }
        status = decide(plan, error);
    }
    if (status != STATUS_OK) {
        compact_plan_free(plan);
        return status;
    }
    *out = plan;
    return STATUS_OK;
}

void compact_plan_free(struct compact_plan *plan) {
    if (plan == NULL) {
        return;
    }
    flow_free(plan->flow);
    mem_free(plan->base);
    mem_free(plan->parent);
    mem_free(plan->fixed);
    mem_free(plan->known);
    mem_free(plan->value);
    mem_free(plan->needed);
    mem_free(plan->gone);
    mem_free(plan->into);
    mem_free(plan);
}
