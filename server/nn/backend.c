/* Which backend runs a convolution, by its shape alone, so that a sample gives the same result in any chunk. The rules are
 * from tests/bench/bench_conv.c with 4 to 16 samples a chunk: Winograd's method 1.9 to 3.3 times as fast as the direct
 * kernels on 3x3 layers with 16 channels or more, those 1.3 to 2.5 times as fast as im2col with OpenBLAS. */
#include "server/nn/backend.h"

#include <stdlib.h>
#include <string.h>

#include "server/nn/backend_dnnl.h"
#include "server/nn/kernels_conv.h"

enum {
    DIRECT_OUT_MIN = 5,       /* fewer outputs than this leave most lanes of a vector idle */
    WINOGRAD_SOURCE_MIN = 12, /* channels over which the products add up; fewer do not pay for the transformations */
    WINOGRAD_OUT_MIN = 9,
    WINOGRAD_FILL = 7, /* outputs a 4x4 tile on the average; less, at the rims of small images, does not pay */
};

struct conv_shape conv_shape_of(const struct network *network, const struct node *node) {
    const struct shape *x = &network->values[node->inputs[0]].shape;
    const struct shape *weight = &network->values[node->inputs[1]].shape;
    const struct window_attr *w = &node->attr.window;
    struct conv_shape s = {
        .channels = x->dim[1], .height = x->dim[2], .width = x->dim[3], .out_channels = weight->dim[0], .window = *w};
    size_t out[2];

    /* From the attributes: while a network is being built, the output has no value yet. conv_infer() has checked them. */
    for (size_t d = 0; d < 2; d++) {
        size_t padded = x->dim[2 + d] + w->pad_begin[d] + w->pad_end[d];
        out[d] = (padded - (w->kernel[d] - 1) * w->dilation[d] - 1) / w->stride[d] + 1;
    }
    s.out_height = out[0];
    s.out_width = out[1];
    return s;
}

static bool winograd_pays(size_t source_channels, size_t out_channels, size_t out_height, size_t out_width) {
    const size_t tiles = ((out_height + 3) / 4) * ((out_width + 3) / 4);

    return source_channels >= WINOGRAD_SOURCE_MIN && out_channels >= WINOGRAD_OUT_MIN &&
           out_height * out_width >= WINOGRAD_FILL * tiles;
}

bool backend_choice_from_name(const char *name, enum backend_choice *out) {
    static const char *const names[BACKEND_CHOICES] = {"auto", "blas", "dnnl"};

    for (enum backend_choice i = BACKEND_AUTO; i < BACKEND_CHOICES; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = i;
            return true;
        }
    }
    return false;
}

/* Asked anew each time instead of kept in a global; it is a look into a short list. */
enum backend_choice backend_choice(void) {
    const char *name = getenv("ONP_BACKEND");
    enum backend_choice choice = BACKEND_AUTO;

    return name != NULL && backend_choice_from_name(name, &choice) ? choice : BACKEND_AUTO;
}

/* In f32, measured as below, oneDNN is 0.61 to 0.64 times as fast as our own kernels on ResNet-18 and VGG-11 at 32x32 and
 * 0.95 times on ResNet-50 at 224x224: it has no Winograd here. On MobileNet-V2 at 224x224 it is 1.24 times as fast, but a
 * mask of ones then no longer gives the same bits as none, so it stays the user's choice. */
bool backend_runs_dnnl(const struct network *network) {
    (void)network;
    return backend_choice() == BACKEND_DNNL;
}

/* Without tiles (EPYC with AVX512_BF16, one thread, processor time) bf16 is 1.17 times as fast as our f32 kernels on
 * ResNet-18 and VGG-11 at 32x32, 1.8 times on ResNet-50 and 2.5 times on MobileNet-V2 at 224x224. Only the rows can skip
 * what masks share at the front of the network (prefix_cache.h), so that does not pay. On tiles oneDNN's bf16 is some ten
 * times as fast as its f32. */
bool backend_ranks_in_bf16(void) {
    const enum backend_dnnl_bf16 bf16 = backend_dnnl_bf16();

    return backend_choice() == BACKEND_DNNL   ? bf16 != BACKEND_DNNL_BF16_NONE
           : backend_choice() == BACKEND_AUTO ? bf16 == BACKEND_DNNL_BF16_TILES
                                              : false;
}

const char *backend_description(void) {
    static const char *const words[BACKEND_CHOICES][2] = {
        {"auto", "auto, ranking in bf16"}, {"blas", "blas"}, {"dnnl", "dnnl, ranking in bf16"}};

    return words[backend_choice()][backend_ranks_in_bf16() ? 1 : 0];
}

const struct conv_backend *backend_conv(const struct conv_shape *s, enum conv_pass pass) {
    const enum kernels_level level = conv_kernels_at(KERNELS_AVX512) != NULL ? KERNELS_AVX512 : KERNELS_AVX2;
    const struct conv_backend *winograd = backend_winograd(level), *direct = backend_direct(level);
    const bool by_data = pass == CONV_BACKWARD_DATA;

    if (backend_choice() == BACKEND_BLAS) {
        return backend_blas();
    }
    if (backend_depthwise()->supports(s, pass)) {
        return backend_depthwise();
    }
    if (winograd != NULL && winograd->supports(s, pass) &&
        winograd_pays(by_data ? s->out_channels : s->channels, by_data ? s->channels : s->out_channels,
                      by_data ? s->height : s->out_height, by_data ? s->width : s->out_width)) {
        return winograd;
    }
    if (direct != NULL && direct->supports(s, pass) && (by_data ? s->channels : s->out_channels) >= DIRECT_OUT_MIN) {
        return direct;
    }
    return backend_blas();
}
