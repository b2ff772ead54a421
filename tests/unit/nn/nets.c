/* See nets.h. */
#include "tests/unit/nn/nets.h"

#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/nn/op.h"
#include "tests/support/cm.h"

static void check(enum status status, const struct error *error) {
    if (status != STATUS_OK) {
        print_error("%s: %s\n", error->where, error->message);
    }
    assert_int_equal(status, STATUS_OK);
}

struct network *nets_start(size_t channels, size_t size, size_t *input) {
    struct error error = {0};
    struct network *network = network_new();
    assert_non_null(network);
    check(network_add_input(network, "x", &(struct shape){4, {1, channels, size, size}}, input, &error), &error);
    return network;
}

float *nets_floats(struct rng *rng, size_t count, float low, float high) {
    float *data = mem_alloc(count, sizeof *data);
    assert_non_null(data);
    for (size_t i = 0; i < count; i++) {
        data[i] = rng_range(rng, low, high);
    }
    return data;
}

size_t nets_constant(struct network *network, struct rng *rng, const char *name, const struct shape *shape, float low,
                     float high) {
    struct error error = {0};
    size_t value = 0;
    float *data = nets_floats(rng, shape_count(shape), low, high);
    check(network_add_constant(network, name, shape, data, &value, &error), &error);
    mem_free(data);
    return value;
}

size_t nets_node(struct network *network, enum op_kind op, const char *name, const size_t *inputs, size_t count,
                 const struct op_attr *attr) {
    struct error error = {0};
    size_t output = 0;
    check(network_add_node(network, op, name, inputs, count, attr, 7, &output, &error), &error);
    return output;
}

size_t nets_unary(struct network *network, enum op_kind op, const char *name, size_t x) {
    struct op_attr attr = {.alpha = 0.1f};
    return nets_node(network, op, name, &x, 1, &attr);
}

size_t nets_binary(struct network *network, enum op_kind op, const char *name, size_t a, size_t b) {
    size_t inputs[2] = {a, b};
    return nets_node(network, op, name, inputs, 2, NULL);
}

size_t nets_conv(struct network *network, struct rng *rng, const char *name, size_t x, size_t out, size_t stride) {
    char weight_name[64];
    size_t in = network->values[x].shape.dim[1];
    struct op_attr attr = {.window = {.kernel = {3, 3},
                                      .stride = {stride, stride},
                                      .dilation = {1, 1},
                                      .pad_begin = {1, 1},
                                      .pad_end = {1, 1},
                                      .group = 1}};
    (void)snprintf(weight_name, sizeof weight_name, "%s.w", name);
    float bound = 1.7f / (float)in / 3.0f + 0.1f;
    size_t weight = nets_constant(network, rng, weight_name, &(struct shape){4, {out, in, 3, 3}}, -bound, bound);
    size_t inputs[2] = {x, weight};
    return nets_node(network, OP_CONV, name, inputs, 2, &attr);
}

size_t nets_norm(struct network *network, struct rng *rng, const char *name, size_t x) {
    static const char *const parts[4] = {"scale", "bias", "mean", "variance"};
    static const float low[4] = {0.7f, -0.2f, -0.2f, 0.5f};
    static const float high[4] = {1.4f, 0.2f, 0.2f, 1.5f};
    char part_name[64];
    size_t inputs[5] = {x};
    struct op_attr attr = {.epsilon = 1e-5f, .momentum = 0.9f};

    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(part_name, sizeof part_name, "%s.%s", name, parts[i]);
        struct shape shape = {1, {network->values[x].shape.dim[1]}};
        inputs[i + 1] = nets_constant(network, rng, part_name, &shape, low[i], high[i]);
    }
    return nets_node(network, OP_BATCH_NORM, name, inputs, 5, &attr);
}

void nets_head(struct network *network, struct rng *rng, size_t x) {
    struct error error = {0};
    size_t channels = network->values[x].shape.dim[1];
    size_t pooled = nets_unary(network, OP_GLOBAL_AVERAGE_POOL, "pool", x);
    struct op_attr flatten = {.shape = {2, {1, channels}}};
    size_t flat = nets_node(network, OP_RESHAPE, "flatten", &pooled, 1, &flatten);
    size_t inputs[3] = {flat};
    struct op_attr gemm = {.alpha = 1.0f, .beta = 1.0f, .trans_b = true};
    inputs[1] = nets_constant(network, rng, "fc.w", &(struct shape){2, {NETS_CLASSES, channels}}, -1.0f, 1.0f);
    inputs[2] = nets_constant(network, rng, "fc.b", &(struct shape){1, {NETS_CLASSES}}, -0.5f, 0.5f);
    size_t logits = nets_node(network, OP_GEMM, "fc", inputs, 3, &gemm);
    check(network_set_output(network, logits, &error), &error);
}

struct network *nets_residual(struct rng *rng, size_t channels, size_t size, enum op_kind activation) {
    size_t x = 0;
    struct network *network = nets_start(3, size, &x);
    size_t stem = nets_conv(network, rng, "stem", x, channels, 1);
    stem = nets_unary(network, activation, "stem.act", nets_norm(network, rng, "stem.bn", stem));

    size_t a = nets_conv(network, rng, "a1", stem, channels, 1);
    a = nets_unary(network, activation, "a1.act", nets_norm(network, rng, "a1.bn", a));
    a = nets_norm(network, rng, "a2.bn", nets_conv(network, rng, "a2", a, channels, 1));
    a = nets_unary(network, activation, "a.act", nets_binary(network, OP_ADD, "a.sum", a, stem));

    size_t b = nets_conv(network, rng, "b1", a, 2 * channels, 2);
    b = nets_unary(network, activation, "b1.act", nets_norm(network, rng, "b1.bn", b));
    b = nets_norm(network, rng, "b2.bn", nets_conv(network, rng, "b2", b, 2 * channels, 1));
    size_t shortcut = nets_norm(network, rng, "bs.bn", nets_conv(network, rng, "bs", a, 2 * channels, 2));
    b = nets_unary(network, activation, "b.act", nets_binary(network, OP_ADD, "b.sum", b, shortcut));
    nets_head(network, rng, b);
    return network;
}

/* One more node of a random graph over `made` values of one shape (1, C, H, W). */
static size_t add_random_node(struct network *network, struct rng *rng, size_t index, const size_t *made, size_t count,
                              size_t *layer) {
    static const enum op_kind kinds[] = {OP_RELU,       OP_SIGMOID,  OP_TANH,    OP_HARD_SWISH, OP_ADD,
                                         OP_ADD,        OP_SUB,      OP_MUL,     OP_MASK,       OP_RESHAPE,
                                         OP_BATCH_NORM, OP_IDENTITY, OP_SOFTMAX, OP_RELU};
    char name[32];
    enum op_kind op = kinds[rng_below(rng, sizeof kinds / sizeof kinds[0])];
    /* Recent values are read more often, so that there are chains; older ones now and then, so that there are branches. */
    size_t a = made[count - 1 - rng_below(rng, count < 3 ? count : 3)];
    size_t b = made[rng_below(rng, count)];
    struct op_attr attr = {.axis = 1};

    (void)snprintf(name, sizeof name, "n%zu", index);
    if (op == OP_ADD || op == OP_SUB || op == OP_MUL) {
        return nets_binary(network, op, name, a, b);
    }
    if (op == OP_BATCH_NORM) {
        return nets_norm(network, rng, name, a);
    }
    if (op == OP_RESHAPE) {
        /* There and back, so that aliases of aliases occur and shapes stay the same. */
        const struct shape *shape = &network->values[a].shape;
        attr.shape = (struct shape){2, {1, shape_count(shape)}};
        size_t flat = nets_node(network, op, name, &a, 1, &attr);
        attr.shape = *shape;
        return nets_node(network, op, name, &flat, 1, &attr);
    }
    if (op == OP_MASK) {
        attr.mask_layer = *layer;
        attr.mask_first = *layer * network->values[a].shape.dim[1];
        (*layer)++;
    }
    return nets_node(network, op, name, &a, 1, &attr);
}

struct network *nets_random(struct rng *rng, size_t nodes) {
    size_t made[64];
    size_t count = 1;
    size_t layer = 0;
    struct network *network = nets_start(4, 3, &made[0]);

    assert_true(nodes < 64);
    for (size_t i = 0; i < nodes; i++) {
        made[count] = add_random_node(network, rng, i, made, count, &layer);
        count++;
    }
    nets_head(network, rng, made[count - 1]);
    return network;
}

size_t nets_find(const struct network *network, const char *name) {
    for (size_t i = 0; i < network->value_count; i++) {
        if (strcmp(network->values[i].name, name) == 0) {
            return i;
        }
    }
    fail_msg("no value '%s'", name);
    return NETWORK_NONE;
}

/* Arguments of one node for the plain run. `in` and `din` have room for all inputs. */
struct interpreter {
    const struct network *network;
    size_t n;
    struct nets_result result;
    const float *mask;
    const float *fill;
    float **saved; /* one a node */
    const float *in[8];
    float *din[8];
    bool accumulate[8];
};

static struct op_args arguments(struct interpreter *it, size_t index) {
    const struct node *node = &it->network->nodes[index];
    assert_true(node->input_count <= 8);
    for (size_t k = 0; k < node->input_count; k++) {
        const struct value *value = &it->network->values[node->inputs[k]];
        it->in[k] = value->kind == VALUE_CONSTANT ? value->data : it->result.values[node->inputs[k]];
        it->din[k] = it->result.grads[node->inputs[k]];
        it->accumulate[k] = true;
    }
    return (struct op_args){.network = it->network,
                            .node = node,
                            .n = it->n,
                            .in = it->in,
                            .out = it->result.values[node->output],
                            .saved = it->saved[index],
                            .mask = it->mask,
                            .fill = it->fill};
}

static void interpret_node(struct interpreter *it, size_t index, const float *dlogits) {
    const struct node *node = &it->network->nodes[index];
    const struct op *op = op_find(node->op);
    struct op_args args = arguments(it, index);
    bool backward = dlogits != NULL;
    size_t floats = op->scratch_floats == NULL ? 0 : op->scratch_floats(it->network, node, it->n, backward);

    args.scratch = mem_aligned(floats + 1, sizeof(float));
    assert_non_null(args.scratch);
    if (backward) {
        args.dout = it->result.grads[node->output];
        args.din = it->din;
        args.accumulate = it->accumulate;
        args.mask_grad = node->op == OP_MASK ? it->result.mask_grad : NULL;
        op->backward(&args);
    } else {
        op->forward(&args);
    }
    mem_free(args.scratch);
}

struct nets_result nets_interpret(const struct network *network, size_t n, const float *x, const float *mask,
                                  const float *fill, const float *dlogits) {
    struct interpreter it = {.network = network, .n = n, .mask = mask, .fill = fill};
    size_t classes = network->values[network->output].shape.dim[1];

    it.result.value_count = network->value_count;
    it.result.values = mem_calloc(network->value_count, sizeof(float *));
    it.result.grads = mem_calloc(network->value_count, sizeof(float *));
    it.result.mask_grad = mem_calloc(network->unit_count + 1, sizeof(float));
    it.saved = mem_calloc(network->node_count, sizeof(float *));
    for (size_t v = 0; v < network->value_count; v++) {
        size_t samples = network->values[v].kind == VALUE_CONSTANT ? 1 : n;
        it.result.values[v] = mem_aligned(samples * shape_count(&network->values[v].shape), sizeof(float));
        it.result.grads[v] = mem_aligned(samples * shape_count(&network->values[v].shape), sizeof(float));
    }
    memcpy(it.result.values[network->input], x, n * shape_count(&network->values[network->input].shape) * sizeof *x);
    for (size_t i = 0; i < network->node_count; i++) {
        const struct op *op = op_find(network->nodes[i].op);
        size_t floats = op->saved_floats == NULL ? 0 : op->saved_floats(network, &network->nodes[i], n);
        it.saved[i] = mem_aligned(floats + 1, sizeof(float));
        interpret_node(&it, i, NULL);
    }
    if (dlogits != NULL) {
        memcpy(it.result.grads[network->output], dlogits, n * classes * sizeof *dlogits);
        for (size_t i = network->node_count; i-- > 0;) {
            interpret_node(&it, i, dlogits);
        }
    }
    for (size_t i = 0; i < network->node_count; i++) {
        mem_free(it.saved[i]);
    }
    mem_free(it.saved);
    return it.result;
}

void nets_result_free(struct nets_result *result) {
    for (size_t v = 0; v < result->value_count; v++) {
        mem_free(result->values[v]);
        mem_free(result->grads[v]);
    }
    mem_free(result->values);
    mem_free(result->grads);
    mem_free(result->mask_grad);
}
