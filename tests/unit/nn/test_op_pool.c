/* MaxPool and AveragePool tap by tap, over windows of every sort. */
#include <math.h>

#include "tests/support/cm.h"
#include "tests/unit/nn/op_rig.h"

/* The window in whole numbers with a sign, as the ONNX text has it. */
static void reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    const struct window_attr *w = &rig->node.attr.window;
    const struct shape *x = rig_shape(rig, 0), *y = rig_out_shape(rig);
    const long height = (long)x->dim[2], width = (long)x->dim[3];
    const size_t planes = n * x->dim[0] * x->dim[1];

    for (size_t at = 0; at < planes * y->dim[2] * y->dim[3]; at++) {
        const long oh = (long)(at / y->dim[3] % y->dim[2]), ow = (long)(at % y->dim[3]);
        const double *plane = in[0] + at / (y->dim[2] * y->dim[3]) * x->dim[2] * x->dim[3];
        double best = -INFINITY, sum = 0.0, inside = 0.0, padded = 0.0;
        for (long i = 0; i < (long)w->kernel[0]; i++) {
            for (long j = 0; j < (long)w->kernel[1]; j++) {
                long h = oh * (long)w->stride[0] + i * (long)w->dilation[0] - (long)w->pad_begin[0];
                long v = ow * (long)w->stride[1] + j * (long)w->dilation[1] - (long)w->pad_begin[1];
                if (h < height + (long)w->pad_end[0] && v < width + (long)w->pad_end[1]) {
                    padded += 1.0;
                }
                if (h >= 0 && h < height && v >= 0 && v < width) {
                    double value = plane[h * width + v];
                    best = fmax(best, value);
                    sum += value;
                    inside += 1.0;
                }
            }
        }
        out[at] = rig->node.op == OP_MAX_POOL ? best : sum / (w->count_include_pad ? padded : inside);
    }
}

static const struct {
    size_t height, width;
    struct window_attr window;
} cases[] = {
    {8, 8, {{2, 2}, {2, 2}, {1, 1}, {0, 0}, {0, 0}, 1, false, false}},
    {9, 7, {{3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}, 1, false, false}},
    {9, 7, {{3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}, 1, false, true}},
    {7, 10, {{3, 2}, {2, 3}, {1, 1}, {1, 0}, {0, 1}, 1, true, false}},
    {7, 10, {{3, 2}, {2, 3}, {1, 1}, {1, 0}, {0, 1}, 1, true, true}},
    {11, 11, {{3, 3}, {1, 2}, {2, 3}, {2, 1}, {1, 2}, 1, false, false}},
    {11, 11, {{3, 3}, {1, 2}, {2, 3}, {2, 1}, {1, 2}, 1, false, true}},
    {5, 5, {{2, 2}, {2, 2}, {1, 1}, {0, 0}, {0, 0}, 1, true, false}},
    {5, 5, {{2, 2}, {2, 2}, {1, 1}, {0, 0}, {0, 0}, 1, true, true}},
    {1, 1, {{1, 1}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 1, false, false}},
    {4, 4, {{4, 4}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, 1, false, false}},
    {6, 6, {{1, 1}, {3, 3}, {1, 1}, {0, 0}, {0, 0}, 1, false, false}},
    {6, 13, {{3, 5}, {3, 3}, {1, 1}, {1, 2}, {1, 2}, 1, true, true}},
};

static void windows(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (enum op_kind op = OP_MAX_POOL; op <= OP_AVERAGE_POOL; op++) {
            for (size_t n = 1; n <= 3; n += 2) {
                struct rig rig;
                rig_init(&rig, op, i + 1);
                rig.reference = reference;
                rig.node.attr.window = cases[i].window;
                RIG_DATA(&rig, 1, 1 + i % 3, cases[i].height, cases[i].width);
                rig_check(&rig, n);
                rig_deinit(&rig);
            }
        }
    }
}

static void begin(struct rig *rig, size_t kernel, size_t stride, size_t dilation, size_t pad) {
    rig_init(rig, OP_MAX_POOL, 1);
    rig->node.attr.window = (struct window_attr){.kernel = {kernel, kernel},
                                                 .stride = {stride, stride},
                                                 .dilation = {dilation, dilation},
                                                 .pad_begin = {pad, pad},
                                                 .pad_end = {pad, pad}};
    RIG_DATA(rig, 1, 2, 5, 5);
}

static void refusals(void **state) {
    (void)state;
    struct rig rig;

    begin(&rig, 6, 1, 1, 0);
    rig_refuses(&rig, STATUS_INVALID, "window of 6 in height, expected at most the padded input's 5");
    begin(&rig, 3, 1, 3, 0);
    rig_refuses(&rig, STATUS_INVALID, "window of 7");
    begin(&rig, 0, 1, 1, 0);
    rig_refuses(&rig, STATUS_INVALID, "kernel 0");
    begin(&rig, 2, 0, 1, 0);
    rig_refuses(&rig, STATUS_INVALID, "stride 0");
    begin(&rig, 2, 1, 0, 0);
    rig_refuses(&rig, STATUS_INVALID, "dilation 0");
    begin(&rig, 2, 1, 1, 2);
    rig_refuses(&rig, STATUS_INVALID, "touch the image");
    begin(&rig, 2, 1, 1, SIZE_MAX / 2);
    rig_refuses(&rig, STATUS_LIMIT, "pads");
    begin(&rig, SIZE_MAX, 1, SIZE_MAX, 0);
    rig_refuses(&rig, STATUS_LIMIT, "kernel");
    rig_init(&rig, OP_AVERAGE_POOL, 1);
    RIG_DATA(&rig, 1, 2, 5);
    rig_refuses(&rig, STATUS_UNSUPPORTED, "[N, C, H, W]");

    /* Dilated taps may straddle a small image on both sides. */
    rig_init(&rig, OP_MAX_POOL, 1);
    rig.node.attr.window = (struct window_attr){
        .kernel = {2, 2}, .stride = {1, 1}, .dilation = {2, 2}, .pad_begin = {1, 1}, .pad_end = {1, 1}};
    RIG_DATA(&rig, 1, 1, 1, 1);
    rig_refuses(&rig, STATUS_INVALID, "touch the image");
}

static void ties_and_nan(void **state) {
    (void)state;
    struct rig rig;
    struct error error = {0};
    float x[] = {1.0f, 1.0f, 1.0f, 1.0f}, y = 0.0f, dy = 1.0f, dx[4], scratch[16];
    const float *in[] = {x};
    float *din[] = {dx};
    const bool accumulate[] = {false};

    rig_init(&rig, OP_MAX_POOL, 1);
    rig.node.attr.window = (struct window_attr){.kernel = {2, 2}, .stride = {1, 1}, .dilation = {1, 1}};
    RIG_DATA(&rig, 1, 1, 2, 2);
    assert_int_equal(rig_infer(&rig, &error), STATUS_OK);
    struct op_args args = {.network = &rig.network,
                           .node = &rig.node,
                           .n = 1,
                           .in = in,
                           .out = &y,
                           .dout = &dy,
                           .din = din,
                           .accumulate = accumulate,
                           .scratch = scratch};
    assert_true(op_find(OP_MAX_POOL)->scratch_floats(&rig.network, &rig.node, 1, true) <= 16);
    op_find(OP_MAX_POOL)->backward(&args);
    assert_true(dx[0] == 1.0f && dx[1] == 0.0f && dx[2] == 0.0f && dx[3] == 0.0f);
    x[2] = NAN;
    op_find(OP_MAX_POOL)->forward(&args);
    assert_true(isnan(y));
    rig_deinit(&rig);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows),
        cmocka_unit_test(refusals),
        cmocka_unit_test(ties_and_nan),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
