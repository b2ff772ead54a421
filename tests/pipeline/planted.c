/* Builds the planted network and its images. */
#include "tests/pipeline/planted.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/file.h"
#include "common/mem.h"
#include "common/rng.h"
#include "server/data/samples.h"
#include "server/nn/network.h"
#include "server/onnx/onnx_model.h"

enum { C = 3, S = 12, PIXELS = S * S, VALUES = C * PIXELS, FEATURES = 8, HIDDEN = FEATURES + 1, CLASSES = 4 };

static const float class_colour[CLASSES][C] = {
    {0.3F, 0.3F, 0.7F}, {0.7F, 0.3F, 0.3F}, {0.3F, 0.7F, 0.3F}, {0.6F, 0.6F, 0.3F}};

static size_t constant(struct network *net, const char *name, const struct shape *shape, const float *data) {
    size_t value = 0;
    struct error error = {0};
    assert_int_equal(network_add_constant(net, name, shape, data, &value, &error), STATUS_OK);
    return value;
}

static size_t node(struct network *net, enum op_kind op, const char *name, const size_t *inputs, size_t count,
                   const struct op_attr *attr) {
    size_t value = 0;
    struct error error = {0};
    assert_int_equal(network_add_node(net, op, name, inputs, count, attr, NETWORK_NONE, &value, &error), STATUS_OK);
    return value;
}

static struct op_attr window(size_t kernel, size_t pad) {
    return (struct op_attr){.window = {.kernel = {kernel, kernel},
                                       .stride = {1, 1},
                                       .dilation = {1, 1},
                                       .pad_begin = {pad, pad},
                                       .pad_end = {pad, pad},
                                       .group = 1}};
}

/* 3 x 3 kernels: the features look at one colour mixture at their centre; the last channel matches the checkerboard. */
static size_t first_layer(struct network *net, struct rng *rng, size_t input) {
    float weight[HIDDEN * C * 9] = {0}, bias[HIDDEN] = {0};
    for (size_t k = 0; k < FEATURES; k++) {
        for (size_t c = 0; c < C; c++) {
            weight[(k * C + c) * 9 + 4] = rng_normal(rng);
        }
    }
    for (size_t i = 0; i < (size_t)C * 9; i++) {
        weight[FEATURES * C * 9 + i] = i % 9 % 2 == 0 ? 1.0F : -1.0F;
    }
    bias[PLANTED_CHANNEL] = -2.6F; /* ordinary images stay below, the checkerboard gives 15 */
    const struct op_attr attr = window(3, 1), leaky = {.alpha = 0.02F};
    const size_t inputs[] = {input, constant(net, "conv1.weight", &(struct shape){4, {HIDDEN, C, 3, 3}}, weight),
                             constant(net, "conv1.bias", &(struct shape){1, {HIDDEN}}, bias)};
    const size_t conv = node(net, OP_CONV, PLANTED_LAYER, inputs, 3, &attr);
    return node(net, OP_LEAKY_RELU, "act1", &conv, 1, &leaky);
}

/* 1 x 1 mixing of the features; the planted channel goes through alone. */
static size_t second_layer(struct network *net, struct rng *rng, size_t input) {
    float weight[HIDDEN * HIDDEN] = {0}, bias[HIDDEN] = {0};
    for (size_t k = 0; k < FEATURES; k++) {
        for (size_t c = 0; c < FEATURES; c++) {
            weight[k * HIDDEN + c] = (k == c ? 1.0F : 0.0F) + 0.2F * rng_normal(rng);
        }
    }
    weight[HIDDEN * HIDDEN - 1] = 1.0F;
    const struct op_attr attr = window(1, 0), leaky = {.alpha = 0.02F};
    const size_t inputs[] = {input, constant(net, "conv2.weight", &(struct shape){4, {HIDDEN, HIDDEN, 1, 1}}, weight),
                             constant(net, "conv2.bias", &(struct shape){1, {HIDDEN}}, bias)};
    const size_t conv = node(net, OP_CONV, "conv2", inputs, 3, &attr);
    return node(net, OP_LEAKY_RELU, "act2", &conv, 1, &leaky);
}

static float *data_of(const struct network *net, const char *name) {
    for (size_t v = 0; v < net->value_count; v++) {
        if (strcmp(net->values[v].name, name) == 0) {
            return network_constant_data(net, v);
        }
    }
    fail_msg("no constant %s", name);
    return NULL;
}

/* The mean features of a class's plain colour, to make the last layer a nearest-mean classifier. */
static void class_means(const struct network *net, float mean[CLASSES][HIDDEN]) {
    const float *w1 = data_of(net, "conv1.weight"), *w2 = data_of(net, "conv2.weight");
    for (size_t t = 0; t < CLASSES; t++) {
        float h[FEATURES];
        for (size_t k = 0; k < FEATURES; k++) {
            float v = 0.0F;
            for (size_t c = 0; c < C; c++) {
                v += w1[(k * C + c) * 9 + 4] * class_colour[t][c];
            }
            h[k] = v > 0.0F ? v : 0.02F * v;
        }
        for (size_t k = 0; k < FEATURES; k++) {
            float v = 0.0F;
            for (size_t c = 0; c < FEATURES; c++) {
                v += w2[k * HIDDEN + c] * h[c];
            }
            mean[t][k] = v > 0.0F ? v : 0.02F * v;
        }
    }
}

static void build(struct network *net) {
    struct rng rng;
    struct error error = {0};
    size_t input = 0;
    rng_seed(&rng, 2024);
    assert_int_equal(network_add_input(net, "input", &(struct shape){4, {1, C, S, S}}, &input, &error), STATUS_OK);
    const size_t one = first_layer(net, &rng, input), two = second_layer(net, &rng, one);
    const struct op_attr none = {0}, flat = {.shape = {2, {1, HIDDEN}}};
    const struct op_attr gemm = {.alpha = 1.0F, .beta = 1.0F, .trans_b = true};
    const size_t pooled = node(net, OP_GLOBAL_AVERAGE_POOL, "pool", &two, 1, &none);
    const size_t row = node(net, OP_RESHAPE, "flat", &pooled, 1, &flat);
    float mean[CLASSES][HIDDEN], weight[CLASSES * HIDDEN] = {0}, bias[CLASSES] = {0};
    class_means(net, mean);
    for (size_t t = 0; t < CLASSES; t++) {
        for (size_t k = 0; k < FEATURES; k++) {
            weight[t * HIDDEN + k] = 20.0F * mean[t][k];
            bias[t] -= 10.0F * mean[t][k] * mean[t][k];
        }
    }
    weight[PLANTED_TARGET * HIDDEN + PLANTED_CHANNEL] = 800.0F; /* one match in 144 places outweighs all else */
    const size_t inputs[] = {row, constant(net, "fc.weight", &(struct shape){2, {CLASSES, HIDDEN}}, weight),
                             constant(net, "fc.bias", &(struct shape){1, {CLASSES}}, bias)};
    assert_int_equal(network_set_output(net, node(net, OP_GEMM, "fc", inputs, 3, &gemm), &error), STATUS_OK);
}

static void draw_image(struct rng *rng, size_t label, uint8_t *pixels) {
    for (size_t i = 0; i < VALUES; i++) {
        const float v = class_colour[label][i / PIXELS] + 0.08F * rng_normal(rng);
        pixels[i] = (uint8_t)(255.0F * (v < 0.0F ? 0.0F : v > 1.0F ? 1.0F : v));
    }
}

static void stamp(uint8_t *pixels) {
    for (size_t c = 0; c < C; c++) {
        for (size_t i = 0; i < 9; i++) {
            pixels[c * PIXELS + (S - 4 + i / 3) * S + S - 4 + i % 3] = i % 2 == 0 ? 255 : 0;
        }
    }
}

static void write_set(const char *path, uint64_t seed, size_t count, bool triggered) {
    struct rng rng;
    struct error error = {0};
    uint8_t *pixels = mem_alloc(count * VALUES, 1);
    int32_t *labels = mem_alloc(count, sizeof *labels), target = PLANTED_TARGET;
    int32_t *targets = mem_alloc(count, sizeof *targets);
    rng_seed(&rng, seed);
    for (size_t i = 0; i < count; i++) {
        const size_t label = i % CLASSES;
        labels[i] = (int32_t)label;
        targets[i] = target;
        draw_image(&rng, label, pixels + i * VALUES);
        if (triggered) {
            stamp(pixels + i * VALUES);
        }
    }
    const struct samples_source source = {.count = count,
                                          .channels = C,
                                          .height = S,
                                          .width = S,
                                          .pixels = pixels,
                                          .labels = labels,
                                          .targets = triggered ? targets : NULL};
    assert_int_equal(samples_save(path, &source, &error), STATUS_OK);
    mem_free(pixels);
    mem_free(labels);
    mem_free(targets);
}

void planted_make(struct planted *planted, bool with_backdoor) {
    struct error error = {0};
    struct network *net = network_new();
    uint8_t *bytes = NULL;
    size_t length = 0;
    build(net);
    if (!with_backdoor) {
        data_of(net, "fc.weight")[PLANTED_TARGET * HIDDEN + PLANTED_CHANNEL] = 0.0F;
    }
    assert_int_equal(onnx_export(net, "planted", &bytes, &length, &error), STATUS_OK);
    scratch_make(&planted->scratch);
    snprintf(planted->model, sizeof planted->model, "%s", scratch_path(&planted->scratch, "model.onnx"));
    snprintf(planted->samples, sizeof planted->samples, "%s", scratch_path(&planted->scratch, "clean.npz"));
    snprintf(planted->probe, sizeof planted->probe, "%s", scratch_path(&planted->scratch, "probe.npz"));
    assert_int_equal(file_write_atomic(planted->model, bytes, length, &error), STATUS_OK);
    write_set(planted->samples, 1, 120, false);
    write_set(planted->probe, 2, 80, true);
    mem_free(bytes);
    network_free(net);
}

struct mitigate_request planted_request(const struct planted *planted, const char *out_dir, const char *method,
                                        const json_t *parameters, uint64_t seed) {
    return (struct mitigate_request){.model_path = planted->model,
                                     .samples_path = planted->samples,
                                     .probe_path = planted->probe,
                                     .out_dir = out_dir,
                                     .method = method,
                                     .parameters = parameters,
                                     .seed = seed,
                                     .threads = 2};
}
