/* Questions about the data flow. Everything here follows values and nodes, never names or node order. */
#include "server/graph/flow.h"

#include "common/mem.h"

enum status flow_new(const struct network *network, struct flow **out, struct error *error) {
    enum status status = STATUS_OK;
    size_t reads = 0;
    for (size_t i = 0; i < network->node_count; i++) {
        reads += network->nodes[i].input_count;
    }
    struct flow *flow = mem_calloc(1, sizeof *flow);
    if (flow == NULL) {
        status = error_no_memory(error, "data flow");
        goto fail;
    }
    flow->start = mem_calloc(network->value_count + 2, sizeof *flow->start);
    flow->reader = mem_calloc(reads, sizeof *flow->reader);
    if (flow->start == NULL || flow->reader == NULL) {
        status = error_no_memory(error, "data flow");
        goto fail;
    }
    /* Counting sort by value: start[v + 2] counts first, and start[v + 1] is the place of the next reader of v while filling. */
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        for (size_t k = 0; k < node->input_count; k++) {
            if (node->inputs[k] != NETWORK_NONE) {
                flow->start[node->inputs[k] + 2]++;
            }
        }
    }
    for (size_t v = 0; v < network->value_count; v++) {
        flow->start[v + 2] += flow->start[v + 1];
    }
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        for (size_t k = 0; k < node->input_count; k++) {
            if (node->inputs[k] != NETWORK_NONE) {
                flow->reader[flow->start[node->inputs[k] + 1]++] = i;
            }
        }
    }
    *out = flow;
    return STATUS_OK;
fail:
    flow_free(flow);
    return status;
}

void flow_free(struct flow *flow) {
    if (flow == NULL) {
        return;
    }
    mem_free(flow->start);
    mem_free(flow->reader);
    mem_free(flow);
}

size_t flow_only_reader(const struct network *network, const struct flow *flow, size_t value) {
    if (value == network->output || flow->start[value + 1] - flow->start[value] != 1) {
        return NETWORK_NONE;
    }
    return flow->reader[flow->start[value]];
}

bool flow_has_constant(const struct network *network, const struct node *node, size_t slot) {
    return slot < node->input_count && node->inputs[slot] != NETWORK_NONE &&
           network->values[node->inputs[slot]].kind == VALUE_CONSTANT;
}

bool flow_is_depthwise(const struct network *network, const struct node *node) {
    if (node->op != OP_CONV) {
        return false;
    }
    size_t channels = network->values[node->inputs[0]].shape.dim[1];
    return channels > 1 && node->attr.window.group == channels;
}

bool flow_is_pointwise(const struct network *network, const struct node *node, size_t *input) {
    switch (node->op) {
    case OP_RELU:
    case OP_LEAKY_RELU:
    case OP_CLIP:
    case OP_SIGMOID:
    case OP_TANH:
    case OP_HARD_SIGMOID:
    case OP_HARD_SWISH:
    case OP_BATCH_NORM:
    case OP_IDENTITY:
    case OP_MASK:
    case OP_ELU:
    case OP_SOFTPLUS:
    case OP_MISH:
    case OP_ERF:
    case OP_SQRT:
    case OP_EXP:
    case OP_LOG:
    case OP_NEG:
    case OP_ABS:
    case OP_RECIPROCAL:
        *input = 0;
        return true;
    case OP_ADD:
    case OP_SUB:
    case OP_MUL:
    case OP_DIV:
    case OP_POW:
    case OP_MIN:
    case OP_MAX:
    case OP_PRELU: {
        bool left = flow_has_constant(network, node, 0), right = flow_has_constant(network, node, 1);
        if (left == right) {
            return false;
        }
        *input = left ? 1 : 0;
        return shape_equal(&network->values[node->inputs[*input]].shape, &network->values[node->output].shape);
    }
    default:
        return false;
    }
}

size_t flow_channel_axis(const struct network *network, const struct node *node) {
    return node->op == OP_GEMM ? network->values[node->output].shape.rank - 1 : 1;
}

bool flow_is_channel_bias(const struct network *network, const struct node *node, size_t axis, size_t *slot) {
    size_t input = 0;
    if (node->op != OP_ADD || !flow_is_pointwise(network, node, &input)) {
        return false;
    }
    *slot = 1 - input;
    const struct shape *shape = &network->values[node->output].shape;
    const struct shape *constant = &network->values[node->inputs[*slot]].shape;
    if (shape->rank <= axis || shape_count(constant) != shape->dim[axis]) {
        return false;
    }
    /* All its numbers lie along the axis of the output: dim -k of the constant meets dim -k of the output. */
    size_t tail = shape->rank - axis; /* distance of the axis from the end */
    return constant->rank >= tail && constant->dim[constant->rank - tail] == shape->dim[axis];
}

void flow_chain_of(const struct network *network, const struct flow *flow, size_t weight_node,
                   struct flow_chain *chain) {
    const struct node *weight = &network->nodes[weight_node];
    bool has_bias = weight->input_count > 2 && weight->inputs[2] != NETWORK_NONE;
    size_t axis = flow_channel_axis(network, weight);
    *chain = (struct flow_chain){weight->output, NETWORK_NONE, 0, NETWORK_NONE};
    size_t reader = flow_only_reader(network, flow, chain->value);
    if (!has_bias && reader != NETWORK_NONE &&
        flow_is_channel_bias(network, &network->nodes[reader], axis, &chain->bias_slot)) {
        chain->bias_node = reader;
        chain->value = network->nodes[reader].output;
        reader = flow_only_reader(network, flow, chain->value);
    }
    if (reader != NETWORK_NONE && axis == 1 && network->nodes[reader].op == OP_BATCH_NORM &&
        network->nodes[reader].inputs[0] == chain->value && flow_has_constant(network, &network->nodes[reader], 1) &&
        flow_has_constant(network, &network->nodes[reader], 2)) {
        chain->norm_node = reader;
        chain->value = network->nodes[reader].output;
    }
}
