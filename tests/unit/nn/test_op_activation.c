/* The element-wise rows and Softmax against their formulas in double. */
#include <math.h>
#include <stdlib.h>

#include "tests/support/cm.h"
#include "tests/unit/nn/op_rig.h"

static double value_of(const struct op_attr *attr, enum op_kind op, double x) {
    switch (op) {
    case OP_RELU:
        return fmax(x, 0.0);
    case OP_LEAKY_RELU:
        return x < 0.0 ? (double)attr->alpha * x : x;
    case OP_CLIP:
        return fmin(fmax(x, (double)attr->low), (double)attr->high);
    case OP_SIGMOID:
        return 1.0 / (1.0 + exp(-x));
    case OP_TANH:
        return tanh(x);
    case OP_HARD_SIGMOID:
        return fmax(0.0, fmin(1.0, (double)attr->alpha * x + (double)attr->beta));
    case OP_HARD_SWISH:
        return x * fmax(0.0, fmin(1.0, x / 6.0 + 0.5));
    default:
        fail_msg("no formula for %d", (int)op);
        return 0.0;
    }
}

static void each_reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    for (size_t i = 0; i < rig_count(rig, 0, n); i++) {
        out[i] = value_of(&rig->node.attr, rig->node.op, in[0][i]);
    }
}

static void check_each(enum op_kind op, struct op_attr attr) {
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct rig rig;
        rig_init(&rig, op, seed);
        rig.reference = each_reference;
        rig.low = -5.0f;
        rig.high = 5.0f;
        rig.node.attr = attr;
        if (seed % 2 == 0) {
            RIG_DATA(&rig, 1, 1 + seed, 7, 5);
        } else {
            RIG_DATA(&rig, 1, 13 * seed);
        }
        rig_check(&rig, seed % 4 + 1);
        rig_deinit(&rig);
    }
}

static void relu(void **state) {
    (void)state;
    check_each(OP_RELU, (struct op_attr){0});
}

static void leaky_relu(void **state) {
    (void)state;
    check_each(OP_LEAKY_RELU, (struct op_attr){.alpha = 0.1f});
    check_each(OP_LEAKY_RELU, (struct op_attr){.alpha = 0.0f});
    check_each(OP_LEAKY_RELU, (struct op_attr){.alpha = -0.5f});
}

static void clip(void **state) {
    (void)state;
    check_each(OP_CLIP, (struct op_attr){.low = 0.0f, .high = 3.0f});
    check_each(OP_CLIP, (struct op_attr){.low = -1.5f, .high = 0.25f});
    check_each(OP_CLIP, (struct op_attr){.low = -INFINITY, .high = INFINITY});

    struct rig rig;
    rig_init(&rig, OP_CLIP, 1);
    rig.node.attr.low = 1.0f;
    rig.node.attr.high = -1.0f;
    RIG_DATA(&rig, 1, 4);
    rig_refuses(&rig, STATUS_INVALID, "bounds 1 and -1");
}

static void smooth(void **state) {
    (void)state;
    check_each(OP_SIGMOID, (struct op_attr){0});
    check_each(OP_TANH, (struct op_attr){0});
}

static void hard(void **state) {
    (void)state;
    check_each(OP_HARD_SIGMOID, (struct op_attr){.alpha = 0.2f, .beta = 0.5f});
    check_each(OP_HARD_SWISH, (struct op_attr){0});
}

static void softmax_reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    const struct shape *shape = rig_shape(rig, 0);
    const size_t length = shape->dim[rig->node.attr.axis];
    const size_t inner = shape_count_from(shape, rig->node.attr.axis + 1);

    for (size_t i = 0; i < rig_count(rig, 0, n); i++) {
        size_t first = i - i / inner % length * inner;
        double sum = 0.0;
        for (size_t j = 0; j < length; j++) {
            sum += exp(in[0][first + j * inner]);
        }
        out[i] = exp(in[0][i]) / sum;
    }
}

static void softmax(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 9; seed++) {
        struct rig rig;
        rig_init(&rig, OP_SOFTMAX, seed);
        rig.reference = softmax_reference;
        rig.low = -4.0f;
        rig.high = 4.0f;
        rig.node.attr.axis = 1 + seed % 3;
        RIG_DATA(&rig, 1, 3 + seed, 4, 5);
        rig_check(&rig, seed % 3 + 1);
        rig_deinit(&rig);
    }
    struct rig rig;
    rig_init(&rig, OP_SOFTMAX, 1);
    RIG_DATA(&rig, 1, 10);
    rig_refuses(&rig, STATUS_UNSUPPORTED, "axis 0");
}

/* A NaN must come through, so that the engine's check on the logits sees it; huge values must not overflow. */
static void special_values(void **state) {
    (void)state;
    static const enum op_kind ops[] = {OP_RELU, OP_LEAKY_RELU,   OP_CLIP,       OP_SIGMOID,
                                       OP_TANH, OP_HARD_SIGMOID, OP_HARD_SWISH, OP_SOFTMAX};

    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        struct rig rig;
        struct error error = {0};
        float x[32], y[32];
        const float *in[] = {x};
        rig_init(&rig, ops[i], 1);
        rig.node.attr = (struct op_attr){.alpha = 0.2f, .beta = 0.5f, .low = 0.0f, .high = 6.0f, .axis = 1};
        RIG_DATA(&rig, 1, 32);
        assert_int_equal(rig_infer(&rig, &error), STATUS_OK);
        struct op_args args = {.network = &rig.network, .node = &rig.node, .n = 1, .in = in, .out = y};
        for (size_t j = 0; j < 32; j++) {
            x[j] = j % 2 == 0 ? 1e30f : -1e30f;
        }
        op_find(ops[i])->forward(&args);
        for (size_t j = 0; j < 32; j++) {
            assert_true(isfinite(y[j]));
        }
        x[17] = NAN;
        op_find(ops[i])->forward(&args);
        assert_true(isnan(y[17]));
        rig_deinit(&rig);
    }
}

static void arity(void **state) {
    (void)state;
    struct rig rig;

    rig_init(&rig, OP_RELU, 1);
    rig_refuses(&rig, STATUS_INVALID, "got 0 inputs");
    rig_init(&rig, OP_RELU, 1);
    rig_omit(&rig);
    rig_refuses(&rig, STATUS_INVALID, "no input 0");
    rig_init(&rig, OP_TANH, 1);
    RIG_DATA(&rig, 1, 4);
    RIG_DATA(&rig, 1, 4);
    rig_refuses(&rig, STATUS_INVALID, "got 2 inputs");
    rig_init(&rig, OP_RELU, 1);
    RIG_CONSTANT(&rig, -1.0f, 1.0f, 1, 4);
    rig_refuses(&rig, STATUS_UNSUPPORTED, "constant as input 0");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relu), cmocka_unit_test(leaky_relu), cmocka_unit_test(clip),  cmocka_unit_test(smooth),
        cmocka_unit_test(hard), cmocka_unit_test(softmax),    cmocka_unit_test(arity), cmocka_unit_test(special_values),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
