/* Mask: values, gradient by x, and gradient by the mask. */
#include <math.h>
#include <string.h>

#include "tests/support/cm.h"
#include "tests/unit/nn/op_rig.h"

enum { UNITS = 24, FIRST = 5 };

static size_t unit_of(const struct rig *rig, size_t at) {
    const struct shape *x = rig_shape(rig, 0);
    const size_t axis = rig->node.attr.axis;

    return rig->node.attr.mask_first + at / shape_count_from(x, axis + 1) % x->dim[axis];
}

static void reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    for (size_t i = 0; i < rig_count(rig, 0, n); i++) {
        double m = rig->mask != NULL ? (double)rig->mask[unit_of(rig, i)] : 1.0;
        out[i] = m == 1.0 ? in[0][i] : m * in[0][i] + (1.0 - m) * (double)rig->fill[unit_of(rig, i)];
    }
}

static void vectors(struct rng *rng, float mask[UNITS], float fill[UNITS]) {
    for (size_t i = 0; i < UNITS; i++) {
        mask[i] = i % 3 == 0 ? 0.0f : (i % 3 == 1 ? 1.0f : rng_uniform(rng));
        fill[i] = rng_range(rng, -1.0f, 1.0f);
    }
}

static void build(struct rig *rig, uint64_t seed) {
    static const struct shape shapes[] = {{4, {1, 7, 3, 5}}, {2, {1, 19}}, {3, {1, 4, 6}}, {4, {1, 2, 3, 11}}};

    rig_init(rig, OP_MASK, seed);
    rig->reference = reference;
    rig->node.attr.mask_first = FIRST;
    rig->node.attr.axis = seed % 4 == 3 ? 3 : 1;
    rig_data(rig, shapes[seed % 4].rank, shapes[seed % 4].dim);
}

static void values(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 16; seed++) {
        struct rig rig;
        float mask[UNITS], fill[UNITS];
        build(&rig, seed);
        vectors(&rig.rng, mask, fill);
        rig.mask = seed < 12 ? mask : NULL;
        rig.fill = fill;
        rig_check(&rig, seed % 3 + 1);
        rig_deinit(&rig);
    }
}

static void mask_gradient(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 8; seed++) {
        enum { N = 3, COUNT_MAX = N * 105 };
        struct rig rig;
        struct error error = {0};
        float mask[UNITS], fill[UNITS], gradient[UNITS], before[UNITS], x[COUNT_MAX], dy[COUNT_MAX], dx[COUNT_MAX];
        double expected[UNITS];
        const float *in[] = {x};
        float *din[] = {dx};
        const bool accumulate[] = {false};
        build(&rig, seed);
        assert_int_equal(rig_infer(&rig, &error), STATUS_OK);
        vectors(&rig.rng, mask, fill);
        assert_true(rig_count(&rig, 0, N) <= COUNT_MAX);
        for (size_t u = 0; u < UNITS; u++) {
            gradient[u] = before[u] = rng_uniform(&rig.rng);
            expected[u] = (double)before[u];
        }
        for (size_t i = 0; i < rig_count(&rig, 0, N); i++) {
            x[i] = rng_normal(&rig.rng);
            dy[i] = rng_normal(&rig.rng);
            expected[unit_of(&rig, i)] += (double)dy[i] * ((double)x[i] - (double)fill[unit_of(&rig, i)]);
        }
        struct op_args args = {.network = &rig.network,
                               .node = &rig.node,
                               .n = N,
                               .in = in,
                               .mask = mask,
                               .fill = fill,
                               .mask_grad = gradient,
                               .dout = dy,
                               .din = din,
                               .accumulate = accumulate};
        op_find(OP_MASK)->backward(&args);
        assert_true(rig_error(UNITS, gradient, expected, 1.0) < 1e-5);

        /* Without dx, without a mask, and with dx over dy: the same gradient. */
        memcpy(gradient, before, sizeof before);
        din[0] = NULL;
        args.mask = NULL;
        op_find(OP_MASK)->backward(&args);
        assert_true(rig_error(UNITS, gradient, expected, 1.0) < 1e-5);
        memcpy(gradient, before, sizeof before);
        din[0] = dy;
        args.mask = mask;
        op_find(OP_MASK)->backward(&args);
        assert_true(rig_error(UNITS, gradient, expected, 1.0) < 1e-5);
        rig_deinit(&rig);
    }
}

/* A pruned channel must be exactly its fill whatever x was, even infinite; a kept one exactly x. */
static void exact_ends(void **state) {
    (void)state;
    struct rig rig;
    struct error error = {0};
    float x[] = {INFINITY, NAN, 0.1f, -0.0f}, y[4];
    const float mask[] = {0.0f, 1.0f}, fill[] = {0.3f, 7.0f};
    const float *in[] = {x};

    rig_init(&rig, OP_MASK, 1);
    rig.node.attr.axis = 1;
    RIG_DATA(&rig, 1, 2, 2);
    assert_int_equal(rig_infer(&rig, &error), STATUS_OK);
    struct op_args args = {
        .network = &rig.network, .node = &rig.node, .n = 1, .in = in, .out = y, .mask = mask, .fill = fill};
    op_find(OP_MASK)->forward(&args);
    assert_true(y[0] == 0.3f && y[1] == 0.3f);
    assert_memory_equal(&y[2], &x[2], 2 * sizeof(float));
    rig_deinit(&rig);
}

static void refusals(void **state) {
    (void)state;
    struct rig rig;

    rig_init(&rig, OP_MASK, 1);
    RIG_DATA(&rig, 1, 4);
    rig_refuses(&rig, STATUS_INVALID, "axis 0");
    rig_init(&rig, OP_MASK, 1);
    rig.node.attr.axis = 2;
    RIG_DATA(&rig, 1, 4);
    rig_refuses(&rig, STATUS_INVALID, "axis 2");
    rig_init(&rig, OP_MASK, 1);
    rig.node.attr.axis = 1;
    rig.node.attr.mask_first = SIZE_MAX - 2;
    RIG_DATA(&rig, 1, 4);
    rig_refuses(&rig, STATUS_INVALID, "first unit");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(mask_gradient),
        cmocka_unit_test(exact_ends),
        cmocka_unit_test(refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
