/* Small networks for tests, built in a few words. Weights are drawn from the builder's rng; any failure fails the test. */
#ifndef ONP_TESTS_UNIT_GRAPH_BUILDER_H
#define ONP_TESTS_UNIT_GRAPH_BUILDER_H

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/rng.h"
#include "server/nn/network.h"
#include "tests/support/cm.h"

#define UNUSED __attribute__((unused))

struct builder {
    struct network *network;
    struct rng rng;
    struct error error;
    size_t names;
};

static inline struct shape shape_make(size_t rank, size_t a, size_t b, size_t c, size_t d) {
    return (struct shape){.rank = rank, .dim = {a, b, c, d}};
}

static inline void build_ok(struct builder *b, enum status status) {
    if (status != STATUS_OK) {
        fail_msg("%s: %s", b->error.where, b->error.message);
    }
}

/* Starts a network with an input of (1, channels, side, side); returns the input value. */
UNUSED static size_t build_start(struct builder *b, uint64_t seed, size_t channels, size_t side) {
    *b = (struct builder){.network = network_new()};
    assert_non_null(b->network);
    rng_seed(&b->rng, seed);
    struct shape shape = shape_make(4, 1, channels, side, side);
    size_t value = 0;
    build_ok(b, network_add_input(b->network, "input", &shape, &value, &b->error));
    return value;
}

/* A constant of normals with the given mean and deviation. */
UNUSED static size_t build_constant(struct builder *b, struct shape shape, float mean, float deviation) {
    size_t count = shape_count(&shape), value = 0;
    float *data = mem_alloc(count, sizeof *data);
    assert_non_null(data);
    for (size_t i = 0; i < count; i++) {
        data[i] = mean + deviation * rng_normal(&b->rng);
    }
    char name[32];
    (void)snprintf(name, sizeof name, "c%zu", b->names++);
    build_ok(b, network_add_constant(b->network, name, &shape, data, &value, &b->error));
    mem_free(data);
    return value;
}

UNUSED static size_t build_node(struct builder *b, enum op_kind op, const size_t *inputs, size_t count,
                                const struct op_attr *attr) {
    size_t value = 0;
    char name[32];
    (void)snprintf(name, sizeof name, "n%zu", b->names++);
    build_ok(b, network_add_node(b->network, op, name, inputs, count, attr, b->network->node_count, &value, &b->error));
    return value;
}

static inline const struct shape *build_shape(const struct builder *b, size_t value) {
    return &b->network->values[value].shape;
}

/* "same" convolution, kernel 1 or 3. */
UNUSED static size_t build_conv(struct builder *b, size_t x, size_t out, size_t kernel, size_t stride, size_t group,
                                bool bias) {
    size_t in = build_shape(b, x)->dim[1] / group, pad = kernel / 2;
    float scale = 1.4F / sqrtf((float)(in * kernel * kernel));
    size_t inputs[3] = {x, build_constant(b, shape_make(4, out, in, kernel, kernel), 0, scale), NETWORK_NONE};
    if (bias) {
        inputs[2] = build_constant(b, shape_make(1, out, 0, 0, 0), 0, 0.3F);
    }
    struct op_attr attr = {.window = {.kernel = {kernel, kernel},
                                      .stride = {stride, stride},
                                      .dilation = {1, 1},
                                      .pad_begin = {pad, pad},
                                      .pad_end = {pad, pad},
                                      .group = group}};
    return build_node(b, OP_CONV, inputs, bias ? 3 : 2, &attr);
}

UNUSED static size_t build_norm(struct builder *b, size_t x) {
    size_t c = build_shape(b, x)->dim[1];
    struct shape shape = shape_make(1, c, 0, 0, 0);
    size_t inputs[5] = {x, build_constant(b, shape, 1, 0.3F), build_constant(b, shape, 0.1F, 0.3F),
                        build_constant(b, shape, 0, 0.2F), 0};
    inputs[4] = build_constant(b, shape, 0, 0.3F);
    float *variance = network_constant_data(b->network, inputs[4]);
    for (size_t i = 0; i < c; i++) {
        variance[i] = 0.5F + fabsf(variance[i]);
    }
    struct op_attr attr = {.epsilon = 1e-5F, .momentum = 0.9F};
    return build_node(b, OP_BATCH_NORM, inputs, 5, &attr);
}

UNUSED static size_t build_unary(struct builder *b, enum op_kind op, size_t x) {
    struct op_attr attr = {.alpha = 0.1F, .low = 0, .high = 1, .axis = 1};
    return build_node(b, op, &x, 1, &attr);
}

UNUSED static size_t build_relu(struct builder *b, size_t x) {
    return build_unary(b, OP_RELU, x);
}

UNUSED static size_t build_pair(struct builder *b, enum op_kind op, size_t x, size_t y) {
    size_t inputs[2] = {x, y};
    struct op_attr attr = {.axis = 1};
    return build_node(b, op, inputs, 2, &attr);
}

UNUSED static size_t build_pool(struct builder *b, size_t x) {
    struct op_attr attr = {.window = {.kernel = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}, .group = 1}};
    return build_node(b, OP_MAX_POOL, &x, 1, &attr);
}

UNUSED static size_t build_reshape(struct builder *b, size_t x, struct shape shape) {
    struct op_attr attr = {.shape = shape};
    return build_node(b, OP_RESHAPE, &x, 1, &attr);
}

UNUSED static size_t build_flatten(struct builder *b, size_t x) {
    return build_reshape(b, x, shape_make(2, 1, shape_count(build_shape(b, x)), 0, 0));
}

/* bias: 0 none, 1 (out), 2 a single number. */
UNUSED static size_t build_gemm(struct builder *b, size_t x, size_t out, bool transposed, int bias) {
    size_t in = build_shape(b, x)->dim[1];
    float scale = 1.4F / sqrtf((float)in);
    struct shape shape = transposed ? shape_make(2, out, in, 0, 0) : shape_make(2, in, out, 0, 0);
    size_t inputs[3] = {x, build_constant(b, shape, 0, scale), NETWORK_NONE};
    if (bias != 0) {
        inputs[2] = build_constant(b, shape_make(1, bias == 1 ? out : 1, 0, 0, 0), 0, 0.3F);
    }
    struct op_attr attr = {.alpha = 1.5F, .beta = 0.5F, .trans_b = transposed};
    return build_node(b, OP_GEMM, inputs, bias != 0 ? 3 : 2, &attr);
}

/* Global average pool, flatten, Gemm to `classes`, output. */
UNUSED static void build_head(struct builder *b, size_t x, size_t classes) {
    size_t value = build_flatten(b, build_unary(b, OP_GLOBAL_AVERAGE_POOL, x));
    build_ok(b, network_set_output(b->network, build_gemm(b, value, classes, true, 1), &b->error));
}

/* A residual block of post-activation ResNet-18; norms: with BatchNorm, else folded (Conv with bias). */
UNUSED static size_t build_block(struct builder *b, size_t x, size_t out, size_t stride, bool norms) {
    size_t y = build_conv(b, x, out, 3, stride, 1, !norms);
    y = build_relu(b, norms ? build_norm(b, y) : y);
    y = build_conv(b, y, out, 3, 1, 1, !norms);
    y = norms ? build_norm(b, y) : y;
    size_t shortcut = x;
    if (stride != 1 || build_shape(b, x)->dim[1] != out) {
        shortcut = build_conv(b, x, out, 1, stride, 1, !norms);
        shortcut = norms ? build_norm(b, shortcut) : shortcut;
    }
    return build_relu(b, build_pair(b, OP_ADD, y, shortcut));
}

UNUSED static size_t build_preact_block(struct builder *b, size_t x, size_t out, size_t stride) {
    size_t a = build_relu(b, build_norm(b, x)), shortcut = x;
    if (stride != 1 || build_shape(b, x)->dim[1] != out) {
        shortcut = build_conv(b, a, out, 1, stride, 1, false);
    }
    size_t y = build_relu(b, build_norm(b, build_conv(b, a, out, 3, stride, 1, false)));
    return build_pair(b, OP_ADD, build_conv(b, y, out, 3, 1, 1, false), shortcut);
}

/* ResNet-18 of the given width on (3, side, side), as the zoo has it. */
UNUSED static struct network *build_resnet18(uint64_t seed, size_t width, size_t side, bool norms) {
    struct builder b;
    size_t x = build_start(&b, seed, 3, side);
    x = build_pair(&b, OP_SUB, x, build_constant(&b, shape_make(4, 1, 3, 1, 1), 0.5F, 0.1F));
    x = build_conv(&b, x, width, 3, 1, 1, !norms);
    x = build_relu(&b, norms ? build_norm(&b, x) : x);
    for (size_t stage = 0; stage < 4; stage++) {
        x = build_block(&b, x, width << stage, stage == 0 ? 1 : 2, norms);
        x = build_block(&b, x, width << stage, 1, norms);
    }
    build_head(&b, x, 10);
    return b.network;
}

UNUSED static struct network *build_preact18(uint64_t seed, size_t width, size_t side) {
    struct builder b;
    size_t x = build_conv(&b, build_start(&b, seed, 3, side), width, 3, 1, 1, false);
    for (size_t stage = 0; stage < 4; stage++) {
        x = build_preact_block(&b, x, width << stage, stage == 0 ? 1 : 2);
        x = build_preact_block(&b, x, width << stage, 1);
    }
    build_head(&b, build_relu(&b, build_norm(&b, x)), 10);
    return b.network;
}

#endif
