/* A network of ours, written as ONNX and read again, computes the same; and the table of operators is what it says. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/rng.h"
#include "server/nn/engine.h"
#include "server/onnx/onnx_lower.h"
#include "server/onnx/onnx_model.h"
#include "tests/support/cm.h"
#include "tests/support/near.h"

enum { SAMPLES = 5, CHANNELS = 4, SIDE = 8, CLASSES = 3 };

struct maker {
    struct network *network;
    struct rng rng;
    size_t made;
};

static size_t constant(struct maker *maker, struct shape shape, float low, float high) {
    size_t count = shape_count(&shape), value = NETWORK_NONE;
    float *data = mem_alloc(count, sizeof *data);
    struct error error = {0};
    assert_non_null(data);
    for (size_t i = 0; i < count; i++) {
        data[i] = rng_range(&maker->rng, low, high);
    }
    /* All of one name: the export must make them different. */
    assert_int_equal(network_add_constant(maker->network, "w", &shape, data, &value, &error), STATUS_OK);
    mem_free(data);
    return value;
}

static size_t node(struct maker *maker, enum op_kind op, const size_t *inputs, size_t count,
                   const struct op_attr *attr) {
    struct error error = {0};
    size_t output = NETWORK_NONE;
    char name[32];
    (void)snprintf(name, sizeof name, "n%zu", maker->made++);
    if (network_add_node(maker->network, op, name, inputs, count, attr, NETWORK_NONE, &output, &error) != STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    return output;
}

static size_t unary(struct maker *maker, enum op_kind op, size_t x, struct op_attr attr) {
    return node(maker, op, &x, 1, &attr);
}

static size_t conv(struct maker *maker, size_t x, size_t group, bool bias) {
    struct op_attr attr = {.window = {.kernel = {3, 3},
                                      .stride = {1, 1},
                                      .dilation = {1, 1},
                                      .pad_begin = {1, 1},
                                      .pad_end = {1, 1},
                                      .group = group}};
    size_t inputs[3] = {x, constant(maker, (struct shape){4, {CHANNELS, CHANNELS / group, 3, 3}}, -0.5F, 0.5F),
                        NETWORK_NONE};
    if (bias) {
        inputs[2] = constant(maker, (struct shape){1, {CHANNELS}}, -1, 1);
    }
    return node(maker, OP_CONV, inputs, bias ? 3 : 2, &attr);
}

static size_t batch_norm(struct maker *maker, size_t x) {
    struct op_attr attr = {.epsilon = 1e-4F, .momentum = 0.8F};
    struct shape channels = {1, {CHANNELS}};
    size_t inputs[5] = {x, constant(maker, channels, 0.5F, 1.5F), constant(maker, channels, -1, 1),
                        constant(maker, channels, -1, 1), constant(maker, channels, 0.5F, 2)};
    return node(maker, OP_BATCH_NORM, inputs, 5, &attr);
}

static size_t binary(struct maker *maker, enum op_kind op, size_t a, size_t b) {
    return node(maker, op, (size_t[]){a, b}, 2, &(struct op_attr){0});
}

/* Every activation in turn on the same value, concatenated: (1, 8 C, H, W). */
static size_t activations(struct maker *maker, size_t x) {
    size_t parts[8];
    parts[0] = unary(maker, OP_RELU, x, (struct op_attr){0});
    parts[1] = unary(maker, OP_LEAKY_RELU, x, (struct op_attr){.alpha = 0.2F});
    parts[2] = unary(maker, OP_CLIP, x, (struct op_attr){.low = -0.5F, .high = 0.75F});
    parts[3] = unary(maker, OP_SIGMOID, x, (struct op_attr){0});
    parts[4] = unary(maker, OP_TANH, x, (struct op_attr){0});
    parts[5] = unary(maker, OP_HARD_SIGMOID, x, (struct op_attr){.alpha = 0.3F, .beta = 0.4F});
    parts[6] = unary(maker, OP_HARD_SWISH, x, (struct op_attr){0});
    parts[7] = unary(maker, OP_SOFTMAX, x, (struct op_attr){.axis = 1});
    return node(maker, OP_CONCAT, parts, 8, &(struct op_attr){.axis = 1});
}

/* All pools of the same value, their results added: (1, C, H / 2, W / 2). */
static size_t pools(struct maker *maker, size_t x) {
    struct op_attr attr = {.window = {.kernel = {3, 3},
                                      .stride = {2, 2},
                                      .dilation = {1, 1},
                                      .pad_begin = {1, 1},
                                      .pad_end = {0, 0},
                                      .group = 1}};
    size_t a = unary(maker, OP_MAX_POOL, x, attr), b = unary(maker, OP_AVERAGE_POOL, x, attr);
    attr.window.count_include_pad = true;
    size_t c = unary(maker, OP_AVERAGE_POOL, x, attr);
    return binary(maker, OP_ADD, a, binary(maker, OP_SUB, b, c));
}

static struct network *make_network(struct maker *maker) {
    struct error error = {0};
    size_t x = NETWORK_NONE;
    rng_seed(&maker->rng, 11);
    maker->network = network_new();
    assert_non_null(maker->network);
    assert_int_equal(network_add_input(maker->network, "x", &(struct shape){4, {1, CHANNELS, SIDE, SIDE}}, &x, &error),
                     STATUS_OK);
    size_t plane = constant(maker, (struct shape){3, {CHANNELS, 1, 1}}, 1, 2);
    size_t h = binary(maker, OP_DIV, binary(maker, OP_MUL, x, plane), plane);
    h = binary(maker, OP_ADD, batch_norm(maker, conv(maker, h, 1, false)), h);
    h = unary(maker, OP_IDENTITY, conv(maker, h, 2, true), (struct op_attr){0});
    h = pools(maker, h);
    h = unary(maker, OP_PAD, h,
              (struct op_attr){.pad_begin = {0, 0, 1, 0}, .pad_end = {0, 0, 0, 2}, .pad_value = 0.5F});
    h = activations(maker, h);
    size_t gates = binary(maker, OP_ADD, unary(maker, OP_GLOBAL_AVERAGE_POOL, h, (struct op_attr){0}),
                          unary(maker, OP_GLOBAL_MAX_POOL, h, (struct op_attr){0}));
    h = binary(maker, OP_MUL, h, gates);
    h = unary(maker, OP_TRANSPOSE, h, (struct op_attr){.axes = {0, 2, 3, 1}, .axes_count = 4});
    h = unary(maker, OP_REDUCE_MEAN, h, (struct op_attr){.axes = {1, 2}, .axes_count = 2, .keep_dims = true});
    size_t features = shape_count(&maker->network->values[h].shape);
    h = unary(maker, OP_RESHAPE, h, (struct op_attr){.shape = {2, {1, features}}});
    size_t hidden[3] = {h, constant(maker, (struct shape){2, {features, 6}}, -1, 1),
                        constant(maker, (struct shape){1, {6}}, -1, 1)};
    h = node(maker, OP_GEMM, hidden, 3, &(struct op_attr){.alpha = 0.5F, .beta = 2});
    size_t head[2] = {h, constant(maker, (struct shape){2, {CLASSES, 6}}, -1, 1)};
    h = node(maker, OP_GEMM, head, 2, &(struct op_attr){.alpha = 1, .beta = 1, .trans_b = true});
    assert_int_equal(network_set_output(maker->network, h, &error), STATUS_OK);
    return maker->network;
}

/* The other kinds, one after the other, each on a value in the range that it is defined for. */
static size_t rare_units(struct maker *maker, size_t x) {
    static const enum op_kind KINDS[] = {OP_SOFTPLUS, OP_SQRT, OP_LOG, OP_ABS, OP_ERF, OP_EXP, OP_NEG, OP_MISH};
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        x = unary(maker, KINDS[i], x, (struct op_attr){0});
    }
    x = unary(maker, OP_ELU, x, (struct op_attr){.alpha = 0.7F, .beta = 1.1F});
    size_t slope = constant(maker, (struct shape){3, {CHANNELS, 1, 1}}, 0, 1);
    x = binary(maker, OP_PRELU, x, slope);
    x = unary(maker, OP_RECIPROCAL, binary(maker, OP_ADD, unary(maker, OP_ABS, x, (struct op_attr){0}), slope),
              (struct op_attr){0});
    x = binary(maker, OP_POW, x, slope);
    return binary(maker, OP_MAX, binary(maker, OP_MIN, x, slope), binary(maker, OP_MUL, x, slope));
}

/* Rows and columns resized, reversed, thinned and repeated. */
static size_t rare_moves(struct maker *maker, size_t x) {
    struct op_attr resize = {.resize = {.linear = true, .scale = {1.75F, 1.2F}, .size = {14, 9}}};
    struct op_attr nearest = {.resize = {.coordinates = RESIZE_ASYMMETRIC,
                                         .rounding = RESIZE_FLOOR,
                                         .scale = {6.0F / 14.0F, 7.0F / 9.0F},
                                         .size = {6, 7}}};
    struct op_attr slice = {
        .shape = {4, {1, CHANNELS, 3, 4}}, .slice_start = {0, CHANNELS - 1, 1, 6}, .slice_step = {1, -1, 2, -2}};
    struct op_attr repeat = {
        .shape = {4, {1, CHANNELS, 3, 5}}, .slice_start = {0, 0, 0, 2}, .slice_step = {1, 1, 1, 0}};
    x = unary(maker, OP_RESIZE, x, resize);
    x = unary(maker, OP_RESIZE, x, nearest);
    x = unary(maker, OP_SLICE, x, slice);
    return binary(maker, OP_ADD, unary(maker, OP_SLICE, x, repeat), constant(maker, (struct shape){1, {5}}, -1, 1));
}

static struct network *make_rare_network(struct maker *maker) {
    struct error error = {0};
    size_t x = NETWORK_NONE;
    rng_seed(&maker->rng, 12);
    maker->network = network_new();
    assert_non_null(maker->network);
    assert_int_equal(network_add_input(maker->network, "x", &(struct shape){4, {1, CHANNELS, SIDE, SIDE}}, &x, &error),
                     STATUS_OK);
    x = rare_moves(maker, rare_units(maker, x));
    size_t turned = unary(maker, OP_TRANSPOSE, x, (struct op_attr){.axes = {0, 1, 3, 2}, .axes_count = 4});
    x = binary(maker, OP_MATMUL, turned, x); /* (1, C, 5, 5) */
    size_t tokens[3] = {x, constant(maker, (struct shape){2, {6, 5}}, -1, 1),
                        constant(maker, (struct shape){1, {6}}, -1, 1)};
    x = node(maker, OP_GEMM, tokens, 3, &(struct op_attr){.alpha = 0.5F, .beta = 2, .trans_b = true});
    size_t plain[2] = {x, constant(maker, (struct shape){2, {6, CLASSES}}, -1, 1)};
    x = node(maker, OP_GEMM, plain, 2, &(struct op_attr){.alpha = 1, .beta = 1});
    x = unary(maker, OP_LOG_SOFTMAX, x, (struct op_attr){.axis = 3});
    x = unary(maker, OP_REDUCE_SUM, x, (struct op_attr){.axes = {2}, .axes_count = 1});
    x = unary(maker, OP_REDUCE_MAX, x, (struct op_attr){.axes = {1}, .axes_count = 1});
    assert_int_equal(network_set_output(maker->network, x, &error), STATUS_OK);
    return maker->network;
}

static void run(const struct network *network, const float *input, float *logits) {
    struct error error = {0};
    struct pool *pool = NULL;
    struct engine *engine = NULL;
    assert_int_equal(pool_new(1, &pool, &error), STATUS_OK);
    assert_int_equal(engine_new(network, pool, &(struct engine_options){0}, &engine, &error), STATUS_OK);
    if (engine_run(engine, &(struct engine_run){.count = SAMPLES, .input = input, .logits = logits}, &error) !=
        STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    engine_free(engine);
    pool_free(pool);
}

static void test_export_and_load(void **state) {
    (void)state;
    struct maker maker = {0};
    struct network *network = make_network(&maker);
    struct error error = {0};
    struct onnx_model *model = NULL;
    struct onnx_info info;
    uint8_t *bytes = NULL;
    size_t length = 0;
    float input[SAMPLES * CHANNELS * SIDE * SIDE], before[SAMPLES * CLASSES], after[SAMPLES * CLASSES];
    for (size_t i = 0; i < sizeof input / sizeof *input; i++) {
        input[i] = rng_normal(&maker.rng);
    }
    assert_int_equal(onnx_export(network, "test", &bytes, &length, &error), STATUS_OK);
    if (onnx_model_load(bytes, length, &onnx_default_limits, &model, &error) != STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    onnx_model_info(model, &info);
    assert_string_equal(info.producer, "test");
    assert_true(info.batch_is_dynamic);
    assert_int_equal(info.opset, 14); /* it has a HardSwish */
    assert_int_equal(info.channels, CHANNELS);
    assert_int_equal(info.height, SIDE);
    assert_int_equal(info.width, SIDE);
    assert_int_equal(info.classes, CLASSES);
    assert_int_equal(info.nodes, network->node_count);
    assert_int_equal(info.parameters, network_parameter_count(network));
    run(network, input, before);
    run(onnx_model_network(model), input, after);
    assert_memory_equal(before, after, sizeof before); /* the same numbers through the same code */
    onnx_model_free(model);
    mem_free(bytes);
    network_free(network);
}

static void test_rare_kinds(void **state) {
    (void)state;
    struct maker maker = {0};
    struct network *network = make_rare_network(&maker);
    struct error error = {0};
    struct onnx_model *model = NULL;
    uint8_t *bytes = NULL;
    size_t length = 0;
    float input[SAMPLES * CHANNELS * SIDE * SIDE], before[SAMPLES * CLASSES], after[SAMPLES * CLASSES];
    for (size_t i = 0; i < sizeof input / sizeof *input; i++) {
        input[i] = rng_normal(&maker.rng);
    }
    assert_int_equal(onnx_export(network, "test", &bytes, &length, &error), STATUS_OK);
    if (onnx_model_load(bytes, length, &onnx_default_limits, &model, &error) != STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    run(network, input, before);
    run(onnx_model_network(model), input, after);
    for (size_t i = 0; i < SAMPLES * CLASSES; i++) {
        assert_near(after[i], before[i], 1e-4F * fabsf(before[i]) + 1e-5F); /* Mish is three nodes in the file */
    }
    onnx_model_free(model);
    mem_free(bytes);
    network_free(network);
}

/* A kind that is added has to be exported, too. */
static void test_every_kind(void **state) {
    (void)state;
    bool seen[OP_KIND_COUNT] = {false};
    for (size_t k = 0; k < 2; k++) {
        struct maker maker = {0};
        struct network *network = k == 0 ? make_network(&maker) : make_rare_network(&maker);
        for (size_t i = 0; i < network->node_count; i++) {
            seen[network->nodes[i].op] = true;
        }
        network_free(network);
    }
    for (size_t kind = 0; kind < OP_KIND_COUNT; kind++) {
        if (!seen[kind] && kind != OP_MASK) {
            fail_msg("%s: in neither of the networks here", op_kind_name((enum op_kind)kind));
        }
    }
}

static void test_mask_is_not_exported(void **state) {
    (void)state;
    struct maker maker = {0};
    struct network *network = make_network(&maker), *masked = NULL;
    struct error error = {0};
    uint8_t *bytes = NULL;
    size_t length = 0;
    const struct mask_site site = {.value = network->nodes[0].output, .axis = 1};
    assert_int_equal(network_with_masks(network, &site, 1, &masked, &error), STATUS_OK);
    assert_int_equal(onnx_export(masked, "test", &bytes, &length, &error), STATUS_UNSUPPORTED);
    assert_null(bytes);
    network_free(masked);
    network_free(network);
}

static void test_no_memory(void **state) {
    (void)state;
    struct maker maker = {0};
    struct network *network = make_network(&maker);
    uint8_t *bytes = NULL;
    size_t length = 0, failures = 0;
    for (uint64_t n = 1; bytes == NULL; n++) {
        struct error error = {0};
        mem_fail_after(n);
        enum status status = onnx_export(network, "test", &bytes, &length, &error);
        mem_fail_after(0);
        assert_int_equal(status, bytes != NULL ? STATUS_OK : STATUS_NO_MEMORY);
        failures += bytes == NULL;
    }
    assert_true(failures >= 3);
    mem_free(bytes);
    network_free(network);
}

/* The table is searched by bisection, and callers are told its names. */
static void test_operator_names(void **state) {
    (void)state;
    for (size_t i = 0; i < onnx_lower_table_count; i++) {
        assert_non_null(onnx_operators[i]);
        assert_string_equal(onnx_operators[i], onnx_lower_table[i].operator);
        assert_true(i == 0 || strcmp(onnx_operators[i - 1], onnx_operators[i]) < 0);
        assert_true(onnx_lower_table[i].since >= ONNX_OPSET_MIN && onnx_lower_table[i].until <= ONNX_OPSET_MAX);
    }
    assert_null(onnx_operators[onnx_lower_table_count]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_export_and_load), cmocka_unit_test(test_rare_kinds),
        cmocka_unit_test(test_every_kind),      cmocka_unit_test(test_mask_is_not_exported),
        cmocka_unit_test(test_no_memory),       cmocka_unit_test(test_operator_names),
    };
    return cmocka_run_group_tests_name("onnx: export", tests, NULL, NULL);
}
