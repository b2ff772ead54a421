/* The network IR: building it, and small questions about it. The network owns an arena for names and input lists, and one
 * aligned block a constant; the arrays of values and nodes grow by doubling. A failed call leaves the network as it was. */
#include "server/nn/network.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/arena.h"
#include "common/mem.h"
#include "server/nn/network_build.h"
#include "server/nn/op.h"

struct network_memory {
    struct arena *arena; /* names, input lists */
    float **blocks;      /* data of the constants that this network owns (a masked copy owns none) */
    size_t block_count, block_capacity;
    size_t value_capacity, node_capacity;
};

struct network *network_new(void) {
    struct network *network = mem_calloc(1, sizeof *network);
    if (network == NULL) {
        return NULL;
    }
    network->input = NETWORK_NONE;
    network->output = NETWORK_NONE;
    network->memory = mem_calloc(1, sizeof *network->memory);
    if (network->memory == NULL || (network->memory->arena = arena_new(0)) == NULL) {
        network_free(network);
        return NULL;
    }
    return network;
}

void network_free(struct network *network) {
    if (network == NULL) {
        return;
    }
    if (network->memory != NULL) {
        for (size_t i = 0; i < network->memory->block_count; i++) {
            mem_free(network->memory->blocks[i]);
        }
        mem_free(network->memory->blocks);
        arena_free(network->memory->arena);
        mem_free(network->memory);
    }
    mem_free(network->values);
    mem_free(network->nodes);
    mem_free(network);
}

/* Makes room for one more item in an array; the array may move. */
static bool reserve_one(void *array, size_t count, size_t *capacity, size_t size) {
    void **items = array;
    if (count < *capacity) {
        return true;
    }
    size_t wanted = *capacity == 0 ? 64 : *capacity * 2;
    void *grown = mem_realloc(*items, wanted, size);
    if (grown == NULL) {
        return false;
    }
    *items = grown;
    *capacity = wanted;
    return true;
}

static bool reserve_value(struct network *network) {
    void *values = network->values;
    bool ok = reserve_one(&values, network->value_count, &network->memory->value_capacity, sizeof *network->values);
    network->values = values;
    return ok;
}

static bool reserve_node(struct network *network) {
    void *nodes = network->nodes;
    bool ok = reserve_one(&nodes, network->node_count, &network->memory->node_capacity, sizeof *network->nodes);
    network->nodes = nodes;
    return ok;
}

enum status network_append_value(struct network *network, const struct value *value, size_t *index,
                                 struct error *error) {
    char where[ERROR_WHERE_MAX];
    char text[SHAPE_TEXT_SIZE];
    size_t count = 0;
    const char *name = value->name == NULL ? "" : value->name;

    (void)snprintf(where, sizeof where, "value '%s'", name);
    if (!shape_count_checked(&value->shape, &count) || count == 0 || count > SIZE_MAX / sizeof(float)) {
        return error_set(error, STATUS_INVALID, where, "failed to add value: got shape %s, expected %s",
                         shape_text(&value->shape, text), "dims of at least 1 whose product fits in memory");
    }
    char *copy = arena_strdup(network->memory->arena, name);
    if (copy == NULL || !reserve_value(network)) {
        return error_no_memory(error, "value of a network");
    }
    network->values[network->value_count] = *value;
    network->values[network->value_count].name = copy;
    network->values[network->value_count].use_count = 0;
    *index = network->value_count++;
    return STATUS_OK;
}

enum status network_append_node(struct network *network, const struct node *node, const struct shape *shape,
                                const char *value_name, size_t *output, struct error *error) {
    struct node copy = *node;
    size_t *inputs = arena_alloc(network->memory->arena, node->input_count, sizeof *inputs);
    const char *name = arena_strdup(network->memory->arena, node->name == NULL ? "" : node->name);

    if (inputs == NULL || name == NULL || !reserve_node(network)) {
        return error_no_memory(error, "node of a network");
    }
    memcpy(inputs, node->inputs, node->input_count * sizeof *inputs);
    copy.inputs = inputs;
    copy.name = name;
    struct value value = {.kind = VALUE_COMPUTED, .name = value_name, .shape = *shape, .producer = network->node_count};
    enum status status = network_append_value(network, &value, &copy.output, error);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < copy.input_count; i++) {
        if (inputs[i] != NETWORK_NONE) {
            network->values[inputs[i]].use_count++;
        }
    }
    network->nodes[network->node_count++] = copy;
    *output = copy.output;
    return STATUS_OK;
}

enum status network_add_input(struct network *network, const char *name, const struct shape *shape, size_t *value,
                              struct error *error) {
    char where[ERROR_WHERE_MAX];
    char text[SHAPE_TEXT_SIZE];

    (void)snprintf(where, sizeof where, "input '%s'", name == NULL ? "" : name);
    if (network->input != NETWORK_NONE) {
        return error_set(error, STATUS_UNSUPPORTED, where, "failed to add input: got a second one, expected one");
    }
    if (shape->rank < 2 || shape->rank > SHAPE_RANK_MAX || shape->dim[0] != 1) {
        return error_set(error, STATUS_INVALID, where, "failed to add input: got shape %s, expected [1, C, ...]",
                         shape_text(shape, text));
    }
    struct value input = {.kind = VALUE_INPUT, .name = name, .shape = *shape, .producer = NETWORK_NONE};
    enum status status = network_append_value(network, &input, &network->input, error);
    if (status == STATUS_OK) {
        *value = network->input;
    }
    return status;
}

enum status network_add_constant(struct network *network, const char *name, const struct shape *shape,
                                 const float *data, size_t *value, struct error *error) {
    struct network_memory *memory = network->memory;
    void *blocks = memory->blocks;
    size_t count = 0;
    float *block = NULL;
    enum status status = STATUS_OK;

    if (!reserve_one(&blocks, memory->block_count, &memory->block_capacity, sizeof *memory->blocks)) {
        return error_no_memory(error, "constant of a network");
    }
    memory->blocks = blocks;
    if (shape_count_checked(shape, &count) && count > 0) { /* else network_append_value() says what is wrong */
        block = mem_aligned(count, sizeof(float));
        if (block == NULL) {
            return error_no_memory(error, "constant of a network");
        }
        if (data != NULL) {
            memcpy(block, data, count * sizeof(float));
        }
    }
    struct value constant = {
        .kind = VALUE_CONSTANT, .name = name, .shape = *shape, .data = block, .producer = NETWORK_NONE};
    status = network_append_value(network, &constant, value, error);
    if (status != STATUS_OK) {
        mem_free(block);
        return status;
    }
    memory->blocks[memory->block_count++] = block;
    return STATUS_OK;
}

/* Every node must depend on the input: values computed from constants alone would have no batch. */
static enum status check_inputs(const struct network *network, const char *where, const size_t *inputs,
                                size_t input_count, struct error *error) {
    bool depends_on_input = false;
    for (size_t i = 0; i < input_count; i++) {
        if (inputs[i] == NETWORK_NONE) {
            continue;
        }
        if (inputs[i] >= network->value_count) {
            return error_set(error, STATUS_INVALID, where,
                             "failed to add node: input %zu: got value %zu, expected one below %zu", i, inputs[i],
                             network->value_count);
        }
        depends_on_input = depends_on_input || network->values[inputs[i]].kind != VALUE_CONSTANT;
    }
    if (!depends_on_input) {
        return error_set(error, STATUS_UNSUPPORTED, where,
                         "failed to add node: got only constant inputs, expected one that is computed");
    }
    return STATUS_OK;
}

enum status network_add_node(struct network *network, enum op_kind op, const char *name, const size_t *inputs,
                             size_t input_count, const struct op_attr *attr, size_t origin, size_t *output,
                             struct error *error) {
    char where[ERROR_WHERE_MAX];
    struct shape shape = {0};
    struct node node = {
        .op = op, .name = name, .inputs = inputs, .input_count = input_count, .output = NETWORK_NONE, .origin = origin};
    const struct op *row = op_find(op);

    node.name = name == NULL ? "" : name;
    if (attr != NULL) {
        node.attr = *attr;
    }
    (void)snprintf(where, sizeof where, "node '%s'", node.name);
    if (row == NULL) {
        return error_set(error, STATUS_UNSUPPORTED, where, "failed to add node: got operator %d, expected one of ours",
                         (int)op);
    }
    enum status status = check_inputs(network, where, inputs, input_count, error);
    if (status == STATUS_OK) {
        status = row->infer(network, &node, &shape, error);
    }
    if (status == STATUS_OK) {
        status = network_append_node(network, &node, &shape, node.name, output, error);
    }
    if (status == STATUS_OK && op == OP_MASK) {
        size_t end = node.attr.mask_first + shape.dim[node.attr.axis];
        network->unit_count = end > network->unit_count ? end : network->unit_count;
    }
    return status;
}

enum status network_set_output(struct network *network, size_t value, struct error *error) {
    char where[ERROR_WHERE_MAX];
    char text[SHAPE_TEXT_SIZE];

    if (value >= network->value_count) {
        return error_set(error, STATUS_INVALID, "", "failed to set output: got value %zu, expected one below %zu",
                         value, network->value_count);
    }
    const struct value *logits = &network->values[value];
    (void)snprintf(where, sizeof where, "output '%s'", logits->name);
    if (logits->kind != VALUE_COMPUTED) {
        return error_set(error, STATUS_INVALID, where, "failed to set output: got %s, expected a computed value",
                         logits->kind == VALUE_INPUT ? "the input" : "a constant");
    }
    if (logits->shape.rank != 2 || logits->shape.dim[0] != 1 || logits->shape.dim[1] < 2) {
        return error_set(error, STATUS_UNSUPPORTED, where,
                         "failed to set output: got shape %s, expected [1, K] with at least 2 classes",
                         shape_text(&logits->shape, text));
    }
    if (network->output != NETWORK_NONE) {
        network->values[network->output].use_count--;
    }
    network->output = value;
    network->values[value].use_count++;
    return STATUS_OK;
}

float *network_constant_data(const struct network *network, size_t value) {
    if (value >= network->value_count || network->values[value].kind != VALUE_CONSTANT) {
        return NULL;
    }
    return network->values[value].data;
}

/* A multiplicative hash in four lanes, so that it keeps up with memory. */
static uint64_t hash_floats(const float *data, size_t count) {
    const uint64_t prime = 0x9E3779B97F4A7C15U;
    uint64_t lane[4] = {1, 2, 3, 4};
    size_t i = 0;

    for (; i + 8 <= count; i += 8) {
        uint64_t word[4];
        memcpy(word, data + i, sizeof word);
        for (size_t k = 0; k < 4; k++) {
            lane[k] = (lane[k] ^ word[k]) * prime;
            lane[k] ^= lane[k] >> 29;
        }
    }
    for (; i < count; i++) {
        uint32_t word;
        memcpy(&word, data + i, sizeof word);
        lane[0] = (lane[0] ^ word) * prime;
        lane[0] ^= lane[0] >> 29;
    }
    return ((lane[0] * prime ^ lane[1]) * prime ^ lane[2]) * prime ^ lane[3];
}

uint64_t network_constant_hash(const struct network *network, size_t value) {
    return hash_floats(network->values[value].data, shape_count(&network->values[value].shape));
}

size_t network_parameter_count(const struct network *network) {
    size_t count = 0;
    for (size_t i = 0; i < network->value_count; i++) {
        if (network->values[i].kind == VALUE_CONSTANT) {
            count += shape_count(&network->values[i].shape);
        }
    }
    return count;
}

double network_node_macs(const struct network *network, size_t index) {
    const struct node *node = &network->nodes[index];
    const struct shape *out = &network->values[node->output].shape;

    if (node->op == OP_MATMUL) {
        const struct shape *x = &network->values[node->inputs[0]].shape;
        return (double)x->dim[x->rank - 1] * (double)shape_count(out);
    }
    if ((node->op != OP_CONV && node->op != OP_GEMM) || node->input_count < 2) {
        return 0.0;
    }
    /* Each output element is one dot product over a filter; there are as many filters as output channels. */
    const double weights = (double)shape_count(&network->values[node->inputs[1]].shape);
    return weights / (double)out->dim[1] * (double)shape_count(out);
}

double network_macs(const struct network *network) {
    double macs = 0.0;
    for (size_t i = 0; i < network->node_count; i++) {
        macs += network_node_macs(network, i);
    }
    return macs;
}
