/* A residual network (He et al., arXiv 1512.03385) of four blocks: stem 3 -> w at 32x32; blocks w -> w (to 16x16), w -> w,
 * w -> 2w (to 8x8), 2w -> 4w (to 4x4); average over the image; one linear layer. A block adds its input as it is, or through
 * a 1x1 convolution where sizes differ, so that channels are tied across blocks as in the networks that users have.
 * A plain network is the same without what a block adds.
 * Weights by He et al. (arXiv 1502.01852): normal with variance 2 / fan-in. */
#include "tests/forge/classifier.h"

#include <math.h>
#include <stdio.h>

#include "common/mem.h"
#include "tests/forge/render.h"

enum { NAME_SIZE = 64 };

static const float NORM_EPSILON = 1e-5f;
static const float NORM_MOMENTUM = 0.95f; /* a chunk moves the running statistics by a twentieth */

/* The first failure is kept, and what follows does nothing, so that the builder below reads as the network. */
struct builder {
    struct network *network;
    bool plain;
    struct rng *rng;
    enum status status;
    struct error *error;
};

static size_t constant(struct builder *builder, const char *prefix, const char *name, const struct shape *shape,
                       const float *data) {
    char full[NAME_SIZE];
    size_t value = NETWORK_NONE;
    if (builder->status == STATUS_OK) {
        (void)snprintf(full, sizeof full, "%s%s", prefix, name);
        builder->status = network_add_constant(builder->network, full, shape, data, &value, builder->error);
    }
    return value;
}

static size_t node(struct builder *builder, enum op_kind op, const char *prefix, const char *name, const size_t *inputs,
                   size_t count, const struct op_attr *attr) {
    char full[NAME_SIZE];
    size_t output = NETWORK_NONE;
    if (builder->status == STATUS_OK) {
        (void)snprintf(full, sizeof full, "%s%s", prefix, name);
        builder->status =
            network_add_node(builder->network, op, full, inputs, count, attr, NETWORK_NONE, &output, builder->error);
    }
    return output;
}

static size_t vector(struct builder *builder, const char *prefix, const char *name, size_t count, float value) {
    size_t index = constant(builder, prefix, name, &(struct shape){1, {count}}, NULL);
    if (builder->status == STATUS_OK) {
        float *data = network_constant_data(builder->network, index);
        for (size_t i = 0; i < count; i++) {
            data[i] = value;
        }
    }
    return index;
}

/* Normal with variance gain / fan-in. */
static size_t weight(struct builder *builder, const char *prefix, const struct shape *shape, float gain) {
    size_t index = constant(builder, prefix, ".weight", shape, NULL);
    if (builder->status == STATUS_OK) {
        float *data = network_constant_data(builder->network, index);
        float deviation = sqrtf(gain / (float)shape_count_from(shape, 1));
        for (size_t i = 0; i < shape_count(shape); i++) {
            data[i] = deviation * rng_normal(builder->rng);
        }
    }
    return index;
}

/* x (N, from, H, W) through a square kernel: (N, to, H / stride, W / stride). No bias: BatchNorm follows. */
static size_t conv(struct builder *builder, const char *name, size_t x, size_t from, size_t to, size_t kernel,
                   size_t stride) {
    struct shape shape = {4, {to, from, kernel, kernel}};
    size_t pad = kernel / 2;
    struct op_attr attr = {.window = {.kernel = {kernel, kernel},
                                      .stride = {stride, stride},
                                      .dilation = {1, 1},
                                      .pad_begin = {pad, pad},
                                      .pad_end = {pad, pad},
                                      .group = 1}};
    return node(builder, OP_CONV, name, "/Conv", (size_t[]){x, weight(builder, name, &shape, 2.0f)}, 2, &attr);
}

static size_t norm(struct builder *builder, const char *name, size_t x, size_t channels) {
    struct op_attr attr = {.epsilon = NORM_EPSILON, .momentum = NORM_MOMENTUM};
    size_t inputs[5] = {
        x, vector(builder, name, ".weight", channels, 1.0f), vector(builder, name, ".bias", channels, 0.0f),
        vector(builder, name, ".running_mean", channels, 0.0f), vector(builder, name, ".running_var", channels, 1.0f)};
    return node(builder, OP_BATCH_NORM, name, "/BatchNormalization", inputs, 5, &attr);
}

static size_t relu(struct builder *builder, const char *name, const char *suffix, size_t x) {
    return node(builder, OP_RELU, name, suffix, &x, 1, &(struct op_attr){0});
}

/* conv, BatchNorm; "<name>.conv<i>" and "<name>.bn<i>". */
static size_t conv_norm(struct builder *builder, const char *name, const char *index, size_t x, size_t from, size_t to,
                        size_t kernel, size_t stride) {
    char conv_name[NAME_SIZE], norm_name[NAME_SIZE];
    (void)snprintf(conv_name, sizeof conv_name, "%s.conv%s", name, index);
    (void)snprintf(norm_name, sizeof norm_name, "%s.bn%s", name, index);
    return norm(builder, norm_name, conv(builder, conv_name, x, from, to, kernel, stride), to);
}

static size_t block(struct builder *builder, const char *name, size_t x, size_t from, size_t to, size_t stride) {
    size_t h = conv_norm(builder, name, "1", x, from, to, 3, stride);
    h = relu(builder, name, ".relu1/Relu", h);
    h = conv_norm(builder, name, "2", h, to, to, 3, 1);
    if (builder->plain) {
        return relu(builder, name, ".relu2/Relu", h);
    }
    if (from != to || stride != 1) {
        x = conv_norm(builder, name, "_shortcut", x, from, to, 1, stride);
    }
    h = node(builder, OP_ADD, name, "/Add", (size_t[]){h, x}, 2, &(struct op_attr){0});
    return relu(builder, name, ".relu2/Relu", h);
}

/* Per channel, near to the mean and deviation of the rendered images. */
static size_t normalise(struct builder *builder, size_t x) {
    static const float mean[RENDER_CHANNELS] = {0.44f, 0.42f, 0.39f},
                       deviation[RENDER_CHANNELS] = {0.26f, 0.25f, 0.26f};
    const struct shape shape = {4, {1, RENDER_CHANNELS, 1, 1}};
    size_t h = node(builder, OP_SUB, "normalize", "/Sub", (size_t[]){x, constant(builder, "", "mean", &shape, mean)}, 2,
                    &(struct op_attr){0});
    return node(builder, OP_DIV, "normalize", "/Div", (size_t[]){h, constant(builder, "", "std", &shape, deviation)}, 2,
                &(struct op_attr){0});
}

static size_t head(struct builder *builder, size_t x, size_t features, size_t classes) {
    struct op_attr flat = {.shape = {2, {1, features}}};
    struct op_attr gemm = {.alpha = 1.0f, .beta = 1.0f, .trans_b = true};
    size_t h = node(builder, OP_GLOBAL_AVERAGE_POOL, "", "pool/GlobalAveragePool", &x, 1, &(struct op_attr){0});
    h = node(builder, OP_RESHAPE, "", "flatten/Reshape", &h, 1, &flat);
    size_t w = weight(builder, "fc", &(struct shape){2, {classes, features}}, 1.0f);
    size_t b = vector(builder, "fc", ".bias", classes, 0.0f);
    return node(builder, OP_GEMM, "", "logits", (size_t[]){h, w, b}, 3, &gemm);
}

enum status classifier_new(size_t width, size_t classes, bool plain, struct rng *rng, struct network **out,
                           struct error *error) {
    struct builder builder = {.network = network_new(), .plain = plain, .rng = rng, .error = error};
    size_t x = NETWORK_NONE;

    if (builder.network == NULL) {
        return error_no_memory(error, "network");
    }
    builder.status = network_add_input(builder.network, "input",
                                       &(struct shape){4, {1, RENDER_CHANNELS, RENDER_SIDE, RENDER_SIDE}}, &x, error);
    x = normalise(&builder, x);
    x = conv_norm(&builder, "stem", "", x, RENDER_CHANNELS, width, 3, 1);
    x = relu(&builder, "stem", ".relu/Relu", x);
    x = block(&builder, "layer1.0", x, width, width, 2);
    x = block(&builder, "layer1.1", x, width, width, 1);
    x = block(&builder, "layer2.0", x, width, 2 * width, 2);
    x = block(&builder, "layer3.0", x, 2 * width, 4 * width, 2);
    x = head(&builder, x, 4 * width, classes);
    if (builder.status == STATUS_OK) {
        builder.status = network_set_output(builder.network, x, error);
    }
    if (builder.status != STATUS_OK) {
        network_free(builder.network);
        return builder.status;
    }
    *out = builder.network;
    return STATUS_OK;
}
