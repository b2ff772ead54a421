/* Writes the smaller network that a plan describes, node by node. */
#include "server/prune/compact.h"

#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/prune/compact_plan.h"

enum { INPUTS_MAX = 64 };

struct builder {
    const struct network *from;
    const struct compact_plan *plan;
    struct network *to;
    size_t *value_of; /* (values of `from`): the value in `to`; NETWORK_NONE: not there yet */
    struct error *error;
};

static size_t width(const struct compact_plan *plan, size_t value) {
    return plan->base[value + 1] - plan->base[value];
}

static bool is_gone(const struct builder *b, size_t value, size_t c) {
    return b->plan->gone[b->plan->base[value] + c];
}

/* A constant as it is, once however many read it. */
static enum status copy_constant(struct builder *b, size_t value, size_t *out) {
    const struct value *v = &b->from->values[value];
    enum status status = STATUS_OK;
    if (b->value_of[value] == NETWORK_NONE) {
        status = network_add_constant(b->to, v->name, &v->shape, v->data, &b->value_of[value], b->error);
    }
    *out = b->value_of[value];
    return status;
}

/* Of a constant only the entries along `axis` whose channel of `of` stays. A constant that stays whole is shared. */
static enum status shrink(struct builder *b, size_t value, size_t axis, size_t of, size_t *out) {
    const struct value *v = &b->from->values[value];
    const size_t count = v->shape.dim[axis], inner = shape_count_from(&v->shape, axis + 1);
    const size_t outer = shape_count(&v->shape) / (count * inner);
    struct shape shape = v->shape;
    shape.dim[axis] = compact_kept(b->plan, of);
    if (shape.dim[axis] == count) {
        return copy_constant(b, value, out);
    }
    float *data = mem_alloc(shape_count(&shape), sizeof *data), *to = data;
    if (data == NULL) {
        return error_no_memory(b->error, "compacted weights");
    }
    for (size_t o = 0; o < outer; o++) {
        for (size_t c = 0; c < count; c++) {
            if (!is_gone(b, of, c)) {
                memcpy(to, v->data + (o * count + c) * inner, inner * sizeof *to);
                to += inner;
            }
        }
    }
    const enum status status = network_add_constant(b->to, v->name, &shape, data, out, b->error);
    mem_free(data);
    return status;
}

/* What the mixing node adds to output m for the input channels that go without being merged. */
static double folded(const struct builder *b, const struct node *node, size_t m) {
    const struct compact_plan *plan = b->plan;
    const size_t in = plan->base[node->inputs[0]];
    double sum = 0.0;
    for (size_t c = 0; c < width(plan, node->inputs[0]); c++) {
        const bool goes = plan->gone[in + c] && plan->known[in + c] && plan->value[in + c] != 0.0F;
        if (goes && (plan->into[in + c] == NETWORK_NONE || !compact_is_padded(node))) {
            sum += (double)plan->value[in + c] * compact_weight(b->from, node, m, c);
        }
    }
    return sum;
}

/* Weights of a mixing node: rows and columns that stay, the columns of merged channels added to those they go into. `work` is a copy of
 * the whole. */
static void gather_weights(const struct builder *b, const struct node *node, float *work, float *to) {
    const struct compact_plan *plan = b->plan;
    const struct shape *shape = &b->from->values[node->inputs[1]].shape;
    const size_t inputs = width(plan, node->inputs[0]), outputs = width(plan, node->output);
    const size_t taps = node->op == OP_GEMM ? 1 : shape->dim[2] * shape->dim[3], in = plan->base[node->inputs[0]];
    const bool across = node->op == OP_GEMM && !node->attr.trans_b;
    const size_t rows = across ? inputs : outputs, columns = across ? outputs : inputs;
    for (size_t c = 0; c < inputs && compact_is_padded(node); c++) {
        if (!plan->gone[in + c] || plan->into[in + c] == NETWORK_NONE) {
            continue;
        }
        const size_t target = plan->into[in + c] - in;
        const float ratio = plan->value[in + c] == 0.0F ? 0.0F : plan->value[in + c] / plan->value[in + target];
        for (size_t m = 0; m < outputs; m++) {
            for (size_t t = 0; t < taps; t++) {
                work[(m * inputs + target) * taps + t] += ratio * work[(m * inputs + c) * taps + t];
            }
        }
    }
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < columns; c++) {
            const size_t input = across ? r : c, output = across ? c : r;
            if (!is_gone(b, node->inputs[0], input) && !is_gone(b, node->output, output)) {
                memcpy(to, work + (r * columns + c) * taps, taps * sizeof *to);
                to += taps;
            }
        }
    }
}

static enum status mix_weights(struct builder *b, const struct node *node, size_t *out) {
    const struct value *v = &b->from->values[node->inputs[1]];
    const size_t kept_in = compact_kept(b->plan, node->inputs[0]), kept_out = compact_kept(b->plan, node->output);
    const bool across = node->op == OP_GEMM && !node->attr.trans_b;
    if (kept_in == width(b->plan, node->inputs[0]) && kept_out == width(b->plan, node->output)) {
        return copy_constant(b, node->inputs[1], out);
    }
    struct shape shape = v->shape;
    shape.dim[0] = across ? kept_in : kept_out;
    shape.dim[1] = across ? kept_out : kept_in;
    float *work = mem_dup(v->data, shape_count(&v->shape) * sizeof *v->data);
    float *data = mem_alloc(shape_count(&shape), sizeof *data);
    enum status status = STATUS_OK;
    if (work == NULL || data == NULL) {
        status = error_no_memory(b->error, "compacted weights");
    } else {
        gather_weights(b, node, work, data);
        status = network_add_constant(b->to, v->name, &shape, data, out, b->error);
    }
    mem_free(work);
    mem_free(data);
    return status;
}

/* The bias of a mixing node with what is folded into it; none if there was none and nothing comes. */
static enum status mix_bias(struct builder *b, const struct node *node, size_t *out) {
    const size_t outputs = width(b->plan, node->output);
    const size_t value = node->input_count > 2 ? node->inputs[2] : NETWORK_NONE;
    const struct value *v = value == NETWORK_NONE ? NULL : &b->from->values[value];
    const double beta = node->op == OP_GEMM && v != NULL ? (double)node->attr.beta : 1.0;
    const struct shape shape = {.rank = 1, .dim = {compact_kept(b->plan, node->output)}};
    char name[256];
    bool any = false;
    float *data = mem_alloc(outputs, sizeof *data);
    size_t n = 0;
    if (data == NULL) {
        return error_no_memory(b->error, "a compacted bias");
    }
    for (size_t m = 0; m < outputs; m++) {
        if (!is_gone(b, node->output, m)) {
            const double extra = beta == 0.0 ? 0.0 : folded(b, node, m) / beta;
            any = any || extra != 0.0;
            data[n++] = (float)((v == NULL ? 0.0 : (double)v->data[shape_count(&v->shape) == 1 ? 0 : m]) + extra);
        }
    }
    enum status status = STATUS_OK;
    *out = NETWORK_NONE;
    if (v != NULL && !any && n == outputs) {
        status = copy_constant(b, value, out);
    } else if (v != NULL || any) {
        (void)snprintf(name, sizeof name, "%s", v != NULL ? v->name : node->name);
        if (v == NULL) {
            (void)snprintf(name, sizeof name, "%.240s_bias", node->name);
        }
        status = network_add_constant(b->to, name, &shape, data, out, b->error);
    }
    mem_free(data);
    return status;
}

/* A constant operand of a node that keeps channels: along the axis that holds them, or as it is. */
static enum status other_constant(struct builder *b, const struct node *node, size_t slot, size_t *out) {
    const size_t value = node->inputs[slot];
    size_t bias_slot = 0;
    if (node->op == OP_BATCH_NORM || (node->op == OP_CONV && flow_is_depthwise(b->from, node))) {
        return shrink(b, value, 0, node->output, out);
    }
    if (flow_is_channel_bias(b->from, node, 1, &bias_slot) && bias_slot == slot) {
        const struct shape *shape = &b->from->values[value].shape;
        const size_t rank = b->from->values[node->output].shape.rank;
        return shrink(b, value, shape->rank - (rank - 1), node->output, out);
    }
    return copy_constant(b, value, out);
}

static enum status add_node(struct builder *b, const struct node *node) {
    const bool mixing = compact_is_mixing(b->from, node) && (node->op == OP_CONV || node->op == OP_GEMM);
    struct op_attr attr = node->attr;
    size_t inputs[INPUTS_MAX] = {0}, count = node->input_count;
    enum status status = STATUS_OK;
    if (count > INPUTS_MAX) {
        return error_set(b->error, STATUS_UNSUPPORTED, node->name,
                         "failed to compact the network: got a node of %zu inputs, expected at most %d", count,
                         INPUTS_MAX);
    }
    for (size_t k = 0; k < count && status == STATUS_OK; k++) {
        const size_t value = node->inputs[k];
        if (value == NETWORK_NONE || (mixing && k == 2)) {
            inputs[k] = NETWORK_NONE;
        } else if (mixing && k == 1) {
            status = mix_weights(b, node, &inputs[k]);
        } else if (b->from->values[value].kind == VALUE_CONSTANT) {
            status = other_constant(b, node, k, &inputs[k]);
        } else {
            inputs[k] = b->value_of[value];
        }
    }
    if (status == STATUS_OK && mixing) {
        status = mix_bias(b, node, &inputs[2]);
        count = inputs[2] == NETWORK_NONE ? 2 : 3;
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (node->op == OP_CONV && !mixing && attr.window.group == width(b->plan, node->inputs[0])) {
        attr.window.group = compact_kept(b->plan, node->inputs[0]);
    }
    if (node->op == OP_RESHAPE && attr.shape.rank >= 2) {
        attr.shape.dim[1] = compact_kept(b->plan, node->output);
    }
    return network_add_node(b->to, node->op, node->name, inputs, count, &attr, node->origin, &b->value_of[node->output],
                            b->error);
}

static enum status build(struct builder *b) {
    const struct network *from = b->from;
    const struct value *input = &from->values[from->input];
    enum status status = network_add_input(b->to, input->name, &input->shape, &b->value_of[from->input], b->error);
    for (size_t i = 0; i < from->node_count && status == STATUS_OK; i++) {
        status = add_node(b, &from->nodes[i]);
    }
    return status == STATUS_OK ? network_set_output(b->to, b->value_of[from->output], b->error) : status;
}

static void count_figures(const struct compact_plan *plan, struct compact_figures *figures) {
    const struct network *network = plan->network;
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        if (node->op != OP_CONV && node->op != OP_GEMM) {
            continue;
        }
        for (size_t c = plan->base[node->output]; c < plan->base[node->output + 1]; c++) {
            figures->removed += plan->gone[c];
            figures->merged += plan->gone[c] && plan->into[c] != NETWORK_NONE;
            figures->kept += plan->known[c] && !plan->gone[c];
        }
    }
}

enum status compact_network(const struct network *network, struct network **out, struct compact_figures *figures,
                            struct error *error) {
    struct compact_plan *plan = NULL;
    struct builder b = {.from = network, .error = error};
    struct compact_figures f = {0};
    enum status status = compact_plan_new(network, &plan, error);
    if (status != STATUS_OK) {
        return status;
    }
    b.plan = plan;
    b.to = network_new();
    b.value_of = mem_alloc(network->value_count, sizeof *b.value_of);
    if (b.to == NULL || b.value_of == NULL) {
        status = error_no_memory(error, "a compacted network");
        goto done;
    }
    for (size_t v = 0; v < network->value_count; v++) {
        b.value_of[v] = NETWORK_NONE;
    }
    status = build(&b);
    if (status != STATUS_OK) {
        goto done;
    }
    count_figures(plan, &f);
    f.parameters_before = network_parameter_count(network);
    f.parameters_after = network_parameter_count(b.to);
    f.macs_before = network_macs(network);
    f.macs_after = network_macs(b.to);
    *figures = f;
    *out = b.to;
    b.to = NULL;
done:
    network_free(b.to);
    mem_free(b.value_of);
    compact_plan_free(plan);
    return status;
}
