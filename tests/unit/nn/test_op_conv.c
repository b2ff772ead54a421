/* Conv against seven loops, over kernels, strides, dilations, groups and pads of every sort. */
#include "tests/support/cm.h"
#include "tests/unit/nn/op_rig.h"

static void reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    const struct window_attr *w = &rig->node.attr.window;
    const struct shape *x = rig_shape(rig, 0), *weight = rig_shape(rig, 1), *y = rig_out_shape(rig);
    const size_t channels = weight->dim[1], per_group = weight->dim[0] / w->group;
    const long height = (long)x->dim[2], width = (long)x->dim[3];

    for (size_t at = 0; at < n * shape_count(y); at++) {
        const long oh = (long)(at / y->dim[3] % y->dim[2]), ow = (long)(at % y->dim[3]);
        const size_t m = at / (y->dim[2] * y->dim[3]) % y->dim[1], sample = at / shape_count_from(y, 1);
        double sum = rig->node.input_count > 2 ? in[2][m] : 0.0;
        for (size_t c = 0; c < channels; c++) {
            const double *plane = in[0] + (sample * x->dim[1] + m / per_group * channels + c) * x->dim[2] * x->dim[3];
            for (size_t i = 0; i < w->kernel[0]; i++) {
                for (size_t j = 0; j < w->kernel[1]; j++) {
                    long h = oh * (long)w->stride[0] + (long)(i * w->dilation[0]) - (long)w->pad_begin[0];
                    long v = ow * (long)w->stride[1] + (long)(j * w->dilation[1]) - (long)w->pad_begin[1];
                    if (h >= 0 && h < height && v >= 0 && v < width) {
                        sum += plane[h * width + v] * in[1][((m * channels + c) * w->kernel[0] + i) * w->kernel[1] + j];
                    }
                }
            }
        }
        out[at] = sum;
    }
}

struct conv_case {
    size_t n, channels, height, width, out_channels;
    struct window_attr window;
    bool bias;
};

static void check_case(const struct conv_case *c, uint64_t seed) {
    struct rig rig;

    rig_init(&rig, OP_CONV, seed);
    rig.reference = reference;
    rig.loose_samples = true;
    rig.node.attr.window = c->window;
    RIG_DATA(&rig, 1, c->channels, c->height, c->width);
    RIG_CONSTANT(&rig, -1.0f, 1.0f, c->out_channels, c->channels / c->window.group, c->window.kernel[0],
                 c->window.kernel[1]);
    if (c->bias) {
        RIG_CONSTANT(&rig, -1.0f, 1.0f, c->out_channels);
    }
    rig_check(&rig, c->n);
    rig_deinit(&rig);
}

static void fixed_shapes(void **state) {
    (void)state;
    static const struct conv_case cases[] = {
        {1, 3, 9, 9, 16, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 1, false, false}, true},
        {3, 16, 8, 8, 16, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 1, false, false}, false},
        {5, 16, 4, 4, 32, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 1, false, false}, true},
        {2, 16, 8, 8, 32, {{3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}, 1, false, false}, true},
        {3, 16, 8, 8, 32, {{1, 1}, {2, 2}, {1, 1}, {0, 0}, {0, 0}, 1, false, false}, false},
        {3, 16, 8, 8, 33, {{1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 1, false, false}, true},
        {2, 8, 17, 15, 8, {{1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 2, false, false}, true},
        {2, 6, 11, 13, 6, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 6, false, false}, true},
        {1, 4, 7, 7, 8, {{7, 7}, {2, 2}, {1, 1}, {3, 3}, {3, 3}, 1, false, false}, true},
        {1, 1, 1, 1, 1, {{1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 1, false, false}, false},
        {3, 2, 1, 1, 3, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 1, false, false}, true},
        {2, 2, 5, 6, 3, {{3, 2}, {1, 1}, {3, 2}, {4, 0}, {3, 5}, 1, false, false}, true},
        {1, 2, 20, 20, 2, {{3, 3}, {3, 3}, {1, 1}, {0, 2}, {1, 0}, 1, false, false}, false},
        {1, 2, 3, 3, 2, {{2, 2}, {1, 1}, {1, 1}, {5, 5}, {5, 5}, 1, false, false}, true},
        {2, 5, 16, 16, 17, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 1, false, false}, true},
        {1, 20, 32, 32, 20, {{3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}, 1, false, false}, true},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_case(&cases[i], i + 1);
    }
}

static size_t draw(struct rng *rng, size_t low, size_t high) {
    return low + (size_t)rng_below(rng, high - low + 1);
}

static void random_shapes(void **state) {
    (void)state;
    struct rng rng;

    rng_seed(&rng, 20);
    for (uint64_t done = 0; done < 40;) {
        struct conv_case c = {.n = draw(&rng, 1, 5), .height = draw(&rng, 1, 13), .width = draw(&rng, 1, 13)};
        const size_t group = draw(&rng, 1, 3);
        c.window.group = group;
        c.channels = group * draw(&rng, 1, 9);
        c.out_channels = group * draw(&rng, 1, 19);
        c.bias = rng_below(&rng, 2) == 1;
        bool fits = true;
        for (size_t d = 0; d < 2; d++) {
            c.window.kernel[d] = draw(&rng, 1, 4);
            c.window.stride[d] = draw(&rng, 1, 3);
            c.window.dilation[d] = draw(&rng, 1, 2);
            c.window.pad_begin[d] = draw(&rng, 0, 2);
            c.window.pad_end[d] = draw(&rng, 0, 2);
            fits = fits && (c.window.kernel[d] - 1) * c.window.dilation[d] <
                               (d == 0 ? c.height : c.width) + c.window.pad_begin[d] + c.window.pad_end[d];
        }
        if (fits) {
            check_case(&c, ++done);
        }
    }
}

static void begin(struct rig *rig, size_t channels, size_t kernel, size_t group) {
    rig_init(rig, OP_CONV, 1);
    rig->node.attr.window =
        (struct window_attr){.kernel = {kernel, kernel}, .stride = {1, 1}, .dilation = {1, 1}, .group = group};
    RIG_DATA(rig, 1, channels, 5, 5);
}

static void refusals(void **state) {
    (void)state;
    struct rig rig;

    begin(&rig, 4, 3, 1);
    rig_refuses(&rig, STATUS_INVALID, "got 1 inputs, expected 2 to 3");
    begin(&rig, 4, 3, 1);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 8, 3, 3, 3);
    rig_refuses(&rig, STATUS_INVALID, "[8, 3, 3, 3] with group 1");
    begin(&rig, 4, 3, 3);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 9, 1, 3, 3);
    rig_refuses(&rig, STATUS_INVALID, "group 3");
    begin(&rig, 4, 3, 2);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 9, 2, 3, 3);
    rig_refuses(&rig, STATUS_INVALID, "group 2");
    begin(&rig, 4, 3, 0);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 8, 4, 3, 3);
    rig_refuses(&rig, STATUS_INVALID, "group 0");
    begin(&rig, 4, 3, 1);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 8, 4, 3, 2);
    rig_refuses(&rig, STATUS_INVALID, "expected a kernel of 3 x 3");
    begin(&rig, 4, 6, 1);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 8, 4, 6, 6);
    rig_refuses(&rig, STATUS_INVALID, "window of 6");
    begin(&rig, 4, 3, 1);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 8, 4, 3, 3);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 7);
    rig_refuses(&rig, STATUS_INVALID, "bias of shape [7], expected [8]");
    begin(&rig, 4, 3, 1);
    RIG_DATA(&rig, 8, 4, 3, 3);
    rig_refuses(&rig, STATUS_UNSUPPORTED, "computed weight");
    rig_init(&rig, OP_CONV, 1);
    RIG_DATA(&rig, 1, 4, 5);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 8, 4, 3);
    rig_refuses(&rig, STATUS_UNSUPPORTED, "[N, C, H, W]");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fixed_shapes),
        cmocka_unit_test(random_shapes),
        cmocka_unit_test(refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
