/* BatchNorm by its formulas, with the constants' statistics and with the chunk's own. */
#include <math.h>

#include "tests/support/cm.h"
#include "tests/unit/nn/op_rig.h"

enum { IN_X, IN_SCALE, IN_BIAS, IN_MEAN, IN_VARIANCE };

static void statistics(const struct rig *rig, size_t n, const double *x, size_t c, double *mean, double *variance) {
    const struct shape *shape = rig_shape(rig, IN_X);
    const size_t inner = shape_count_from(shape, 2), samples = n * shape->dim[0];
    double sum = 0.0, squares = 0.0;

    for (size_t i = 0; i < samples * inner; i++) {
        sum += x[(i / inner * shape->dim[1] + c) * inner + i % inner];
    }
    *mean = sum / (double)(samples * inner);
    for (size_t i = 0; i < samples * inner; i++) {
        double d = x[(i / inner * shape->dim[1] + c) * inner + i % inner] - *mean;
        squares += d * d;
    }
    *variance = squares / (double)(samples * inner);
}

static void reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    const struct shape *shape = rig_shape(rig, IN_X);
    const size_t inner = shape_count_from(shape, 2);

    for (size_t c = 0; c < shape->dim[1]; c++) {
        double mean = in[IN_MEAN][c], variance = in[IN_VARIANCE][c];
        if (rig->train) {
            statistics(rig, n, in[IN_X], c, &mean, &variance);
        }
        for (size_t i = 0; i < rig_count(rig, IN_X, n); i++) {
            if (i / inner % shape->dim[1] == c) {
                out[i] = in[IN_SCALE][c] * (in[IN_X][i] - mean) / sqrt(variance + (double)rig->node.attr.epsilon) +
                         in[IN_BIAS][c];
            }
        }
    }
}

static void build(struct rig *rig, uint64_t seed, bool train) {
    static const struct shape shapes[] = {
        {4, {1, 5, 7, 3}}, {4, {1, 16, 8, 8}}, {2, {1, 9}}, {3, {1, 4, 11}}, {4, {1, 1, 1, 33}}, {5, {1, 2, 3, 2, 3}},
    };
    const struct shape *shape = &shapes[seed % (sizeof shapes / sizeof shapes[0])];

    rig_init(rig, OP_BATCH_NORM, seed + 1);
    rig->reference = reference;
    rig->train = train;
    rig->low = -1.0f;
    rig->high = 3.0f;
    rig->tolerance = 3e-5; /* division by the deviation of a few values loses some digits */
    rig->fixed = 1u << IN_MEAN | 1u << IN_VARIANCE;
    rig->node.attr.epsilon = seed % 2 == 0 ? 1e-5f : 0.1f;
    rig_data(rig, shape->rank, shape->dim);
    rig_constant(rig, 1, &shape->dim[1], -1.0f, 1.0f);
    rig_constant(rig, 1, &shape->dim[1], -1.0f, 1.0f);
    rig_constant(rig, 1, &shape->dim[1], -1.0f, 1.0f);
    rig_constant(rig, 1, &shape->dim[1], 0.2f, 2.0f);
}

static void inference(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct rig rig;
        build(&rig, seed, false);
        rig_check(&rig, seed % 4 + 1);
        rig_deinit(&rig);
    }
}

static void training(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 12; seed++) {
        struct rig rig;
        build(&rig, seed, true);
        rig_check(&rig, seed % 4 + 5);
        rig_deinit(&rig);
    }
}

/* The engine hands `saved` on as mean (C), biased variance (C). */
static void saved_statistics(void **state) {
    (void)state;
    enum { N = 6, C = 5, INNER = 21 };
    struct rig rig;
    struct error error = {0};
    float x[N * C * INNER], y[N * C * INNER], saved[2 * C];
    double wide[N * C * INNER];

    build(&rig, 0, true);
    assert_int_equal(rig_infer(&rig, &error), STATUS_OK);
    for (size_t i = 0; i < N * C * INNER; i++) {
        x[i] = 100.0f + rng_normal(&rig.rng); /* far from zero: variance must not come from a difference of squares */
        wide[i] = (double)x[i];
    }
    const float *in[] = {x, rig.values[1].data, rig.values[2].data, rig.values[3].data, rig.values[4].data};
    struct op_args args = {.network = &rig.network, .node = &rig.node, .n = N, .in = in, .out = y, .train = true};
    op_find(OP_BATCH_NORM)->forward(&args); /* without `saved`: forward only */
    args.saved = saved;
    assert_int_equal(op_find(OP_BATCH_NORM)->saved_floats(&rig.network, &rig.node, N), 2 * C);
    op_find(OP_BATCH_NORM)->forward(&args);
    for (size_t c = 0; c < C; c++) {
        double mean, variance;
        statistics(&rig, N, wide, c, &mean, &variance);
        assert_true(fabs((double)saved[c] - mean) < 1e-5 * mean);
        assert_true(fabs((double)saved[C + c] - variance) < 1e-5 * variance);
    }
    rig_deinit(&rig);
}

static void refusals(void **state) {
    (void)state;
    struct rig rig;

    build(&rig, 0, false);
    rig.values[3].shape.dim[0] = 4;
    rig_refuses(&rig, STATUS_INVALID, "mean of shape [4], expected [5]");
    build(&rig, 0, false);
    rig.values[2].kind = VALUE_COMPUTED;
    rig_refuses(&rig, STATUS_UNSUPPORTED, "computed bias");
    build(&rig, 0, false);
    rig.node.input_count = 4;
    rig_refuses(&rig, STATUS_INVALID, "got 4 inputs");
    build(&rig, 0, false);
    rig.values[0].shape.rank = 1;
    rig_refuses(&rig, STATUS_INVALID, "rank 2 or more");
    build(&rig, 0, false);
    rig.node.attr.epsilon = NAN;
    rig_refuses(&rig, STATUS_INVALID, "epsilon");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inference),
        cmocka_unit_test(training),
        cmocka_unit_test(saved_statistics),
        cmocka_unit_test(refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
