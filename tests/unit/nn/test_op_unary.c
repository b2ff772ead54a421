/* Functions of one number, and LogSoftmax, against their formulas in double. */
#include <math.h>

#include "tests/support/cm.h"
#include "tests/unit/nn/op_rig.h"

static double value_of(const struct rig *rig, double x) {
    double alpha = (double)rig->node.attr.alpha, beta = (double)rig->node.attr.beta;
    switch (rig->node.op) {
    case OP_ELU:
        return beta * (x < 0 ? alpha * (exp(x) - 1) : x);
    case OP_SOFTPLUS:
        return log(1 + exp(x));
    case OP_MISH:
        return x * tanh(log(1 + exp(x)));
    case OP_ERF:
        return erf(x);
    case OP_SQRT:
        return sqrt(x);
    case OP_EXP:
        return exp(x);
    case OP_LOG:
        return log(x);
    case OP_NEG:
        return -x;
    case OP_ABS:
        return fabs(x);
    default:
        return 1 / x;
    }
}

static void unary_reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    for (size_t i = 0; i < rig_count(rig, 0, n); i++) {
        out[i] = value_of(rig, in[0][i]);
    }
}

static void functions(void **state) {
    (void)state;
    for (enum op_kind op = OP_ELU; op <= OP_RECIPROCAL; op++) {
        bool positive = op == OP_SQRT || op == OP_LOG || op == OP_RECIPROCAL;
        for (size_t n = 1; n <= 3; n += 2) {
            struct rig rig;
            rig_init(&rig, op, (uint64_t)op);
            rig.reference = unary_reference;
            rig.node.attr.alpha = 1.5f;
            rig.node.attr.beta = 1.1f;
            rig.low = positive ? 0.3f : -4.0f;
            rig.high = positive ? 5.0f : 4.0f;
            RIG_DATA(&rig, 1, 3, 5, 7);
            rig_check(&rig, n);
            rig_deinit(&rig);
        }
    }
}

/* Far from zero nothing overflows that has a finite value. */
static void far_values(void **state) {
    (void)state;
    static const struct {
        enum op_kind op;
        float x, y, slope;
    } cases[] = {
        {OP_SOFTPLUS, 200.0f, 200.0f, 1.0f}, {OP_SOFTPLUS, -200.0f, 0.0f, 0.0f}, {OP_MISH, 200.0f, 200.0f, 1.0f},
        {OP_MISH, -200.0f, 0.0f, 0.0f},      {OP_ERF, 200.0f, 1.0f, 0.0f},       {OP_ELU, -200.0f, -2.0f, 0.0f},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig rig;
        struct error error = {0};
        float y = 0.0f, dy = 1.0f, dx = 0.0f;
        const float *in[] = {&cases[i].x};
        float *din[] = {&dx};
        bool accumulate[] = {false};
        rig_init(&rig, cases[i].op, 1);
        rig.node.attr.alpha = 2.0f;
        rig.node.attr.beta = 1.0f;
        RIG_DATA(&rig, 1, 1);
        assert_int_equal(rig_infer(&rig, &error), STATUS_OK);
        struct op_args args = {.network = &rig.network,
                               .node = &rig.node,
                               .n = 1,
                               .in = in,
                               .out = &y,
                               .dout = &dy,
                               .din = din,
                               .accumulate = accumulate};
        op_find(cases[i].op)->forward(&args);
        op_find(cases[i].op)->backward(&args);
        assert_true(fabsf(y - cases[i].y) < 1e-6f);
        assert_true(fabsf(dx - cases[i].slope) < 1e-6f);
        rig_deinit(&rig);
    }
}

static void log_softmax_reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    const struct shape *x = rig_shape(rig, 0);
    const size_t length = x->dim[rig->node.attr.axis], inner = shape_count_from(x, rig->node.attr.axis + 1);

    for (size_t at = 0; at < rig_count(rig, 0, n); at++) {
        size_t first = at / (length * inner) * length * inner + at % inner;
        double sum = 0;
        for (size_t i = 0; i < length; i++) {
            sum += exp(in[0][first + i * inner]);
        }
        out[at] = in[0][at] - log(sum);
    }
}

static void log_softmax(void **state) {
    (void)state;
    for (size_t axis = 1; axis < 4; axis++) {
        struct rig rig;
        rig_init(&rig, OP_LOG_SOFTMAX, axis);
        rig.reference = log_softmax_reference;
        rig.node.attr.axis = axis;
        rig.low = -6.0f;
        rig.high = 6.0f;
        RIG_DATA(&rig, 1, 4, 3, 5);
        rig_check(&rig, axis);
        rig_deinit(&rig);
    }
    struct rig rig;
    rig_init(&rig, OP_LOG_SOFTMAX, 1);
    RIG_DATA(&rig, 1, 4);
    rig_refuses(&rig, STATUS_UNSUPPORTED, "got axis 0");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions),
        cmocka_unit_test(far_values),
        cmocka_unit_test(log_softmax),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
