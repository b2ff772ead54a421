/* Builders of whole networks, layer by layer. */
#include "tests/support/architectures.h"

#include <math.h>
#include <stdio.h>

enum { NAME_SIZE = 48 };

/* The first failure is kept, and what follows does nothing, so that a builder reads as the network. */
struct builder {
    struct network *network;
    struct rng *rng;
    size_t layers; /* so far, for names */
    enum status status;
    struct error *error;
};

static size_t channels_of(const struct builder *b, size_t x) {
    return b->status == STATUS_OK ? b->network->values[x].shape.dim[1] : 1;
}

static size_t add(struct builder *b, enum op_kind op, const size_t *inputs, size_t count, const struct op_attr *attr) {
    char name[NAME_SIZE];
    size_t output = 0;

    if (b->status == STATUS_OK) {
        (void)snprintf(name, sizeof name, "/%zu/%s", b->layers++, op_kind_name(op));
        b->status = network_add_node(b->network, op, name, inputs, count, attr, NETWORK_NONE, &output, b->error);
    }
    return output;
}

/* Normal with variance gain / fan-in. */
static size_t weight(struct builder *b, const struct shape *shape, float gain) {
    char name[NAME_SIZE];
    size_t value = 0;

    if (b->status == STATUS_OK) {
        (void)snprintf(name, sizeof name, "%zu.%s", b->layers, shape->rank == 1 ? "bias" : "weight");
        b->status = network_add_constant(b->network, name, shape, NULL, &value, b->error);
    }
    if (b->status == STATUS_OK) {
        float *data = network_constant_data(b->network, value);
        const float deviation = sqrtf(gain / (float)shape_count_from(shape, 1));
        for (size_t i = 0; i < shape_count(shape); i++) {
            data[i] = deviation * rng_normal(b->rng);
        }
    }
    return value;
}

static size_t conv(struct builder *b, size_t x, size_t out, size_t kernel, size_t stride, size_t group) {
    const size_t pad = kernel / 2;
    const struct op_attr attr = {.window = {.kernel = {kernel, kernel},
                                            .stride = {stride, stride},
                                            .dilation = {1, 1},
                                            .pad_begin = {pad, pad},
                                            .pad_end = {pad, pad},
                                            .group = group}};
    const size_t w = weight(b, &(struct shape){4, {out, channels_of(b, x) / group, kernel, kernel}}, 1.5f);
    const size_t bias = weight(b, &(struct shape){1, {out}}, 0.01f);

    return add(b, OP_CONV, (size_t[]){x, w, bias}, 3, &attr);
}

static size_t relu(struct builder *b, size_t x) {
    return add(b, OP_RELU, &x, 1, &(struct op_attr){0});
}

static size_t relu6(struct builder *b, size_t x) {
    return add(b, OP_CLIP, &x, 1, &(struct op_attr){.low = 0.0f, .high = 6.0f});
}

static size_t pool(struct builder *b, size_t x, size_t kernel, size_t pad) {
    return add(b, OP_MAX_POOL, &x, 1,
               &(struct op_attr){.window = {.kernel = {kernel, kernel},
                                            .stride = {2, 2},
                                            .dilation = {1, 1},
                                            .pad_begin = {pad, pad},
                                            .pad_end = {pad, pad},
                                            .group = 1}});
}

static void head(struct builder *b, size_t x, size_t classes) {
    const size_t features = channels_of(b, x);

    x = add(b, OP_GLOBAL_AVERAGE_POOL, &x, 1, &(struct op_attr){0});
    x = add(b, OP_RESHAPE, &x, 1, &(struct op_attr){.shape = {2, {1, features}}});
    const size_t w = weight(b, &(struct shape){2, {classes, features}}, 1.0f);
    const size_t bias = weight(b, &(struct shape){1, {classes}}, 0.01f);
    x = add(b, OP_GEMM, (size_t[]){x, w, bias}, 3, &(struct op_attr){.alpha = 1.0f, .beta = 1.0f, .trans_b = true});
    if (b->status == STATUS_OK) {
        b->status = network_set_output(b->network, x, b->error);
    }
}

static void resnet18(struct builder *b, size_t x) {
    x = relu(b, conv(b, x, 64, 3, 1, 1));
    for (size_t i = 0; i < 8; i++) {
        const size_t out = (size_t)64 << i / 2, stride = i > 0 && i % 2 == 0 ? 2 : 1;
        const size_t h = conv(b, relu(b, conv(b, x, out, 3, stride, 1)), out, 3, 1, 1);
        x = stride == 2 ? conv(b, x, out, 1, 2, 1) : x;
        x = relu(b, add(b, OP_ADD, (size_t[]){h, x}, 2, &(struct op_attr){0}));
    }
    head(b, x, 10);
}

static void vgg16(struct builder *b, size_t x) {
    static const size_t depth[] = {2, 2, 3, 3, 3}, width[] = {64, 128, 256, 512, 512};

    for (size_t i = 0; i < 5; i++) {
        for (size_t k = 0; k < depth[i]; k++) {
            x = relu(b, conv(b, x, width[i], 3, 1, 1));
        }
        x = pool(b, x, 2, 0);
    }
    head(b, x, 10);
}

static void resnet50(struct builder *b, size_t x) {
    static const size_t depth[] = {3, 4, 6, 3};

    x = pool(b, relu(b, conv(b, x, 64, 7, 2, 1)), 3, 1);
    for (size_t i = 0; i < 4; i++) {
        const size_t width = (size_t)64 << i;
        for (size_t k = 0; k < depth[i]; k++) {
            const size_t stride = i > 0 && k == 0 ? 2 : 1;
            const size_t h = relu(b, conv(b, relu(b, conv(b, x, width, 1, 1, 1)), width, 3, stride, 1));
            const size_t out = conv(b, h, 4 * width, 1, 1, 1);
            x = k == 0 ? conv(b, x, 4 * width, 1, stride, 1) : x;
            x = relu(b, add(b, OP_ADD, (size_t[]){out, x}, 2, &(struct op_attr){0}));
        }
    }
    head(b, x, 1000);
}

static void mobilenet_v2(struct builder *b, size_t x) {
    static const struct {
        size_t expand, out, times, stride;
    } rows[] = {{1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2}, {6, 64, 4, 2},
                {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};

    x = relu6(b, conv(b, x, 32, 3, 2, 1));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (size_t k = 0; k < rows[i].times; k++) {
            const size_t stride = k == 0 ? rows[i].stride : 1, in = channels_of(b, x), wide = in * rows[i].expand;
            size_t h = wide == in ? x : relu6(b, conv(b, x, wide, 1, 1, 1));
            h = conv(b, relu6(b, conv(b, h, wide, 3, stride, wide)), rows[i].out, 1, 1, 1);
            x = stride == 1 && in == rows[i].out ? add(b, OP_ADD, (size_t[]){x, h}, 2, &(struct op_attr){0}) : h;
        }
    }
    head(b, relu6(b, conv(b, x, 1280, 1, 1, 1)), 1000);
}

static const struct {
    const char *name;
    size_t size;
    void (*build)(struct builder *b, size_t x);
} table[ARCHITECTURES] = {
    [ARCHITECTURE_RESNET18] = {"resnet18", 32, resnet18},
    [ARCHITECTURE_VGG16] = {"vgg16", 32, vgg16},
    [ARCHITECTURE_RESNET50] = {"resnet50", 224, resnet50},
    [ARCHITECTURE_MOBILENET_V2] = {"mobilenet_v2", 224, mobilenet_v2},
};

const char *architecture_name(enum architecture architecture) {
    return table[architecture].name;
}

size_t architecture_size(enum architecture architecture) {
    return table[architecture].size;
}

enum status architecture_new(enum architecture architecture, struct rng *rng, struct network **out,
                             struct error *error) {
    const size_t size = table[architecture].size;
    struct builder b = {.network = network_new(), .rng = rng, .error = error};
    size_t x = 0;

    if (b.network == NULL) {
        return error_no_memory(error, "a network");
    }
    b.status = network_add_input(b.network, "x", &(struct shape){4, {1, 3, size, size}}, &x, error);
    table[architecture].build(&b, x);
    if (b.status != STATUS_OK) {
        network_free(b.network);
        return b.status;
    }
    *out = b.network;
    return STATUS_OK;
}
