/* Add, Sub, Mul, Div with broadcasting against an index-by-index reference. */
#include "tests/support/cm.h"
#include "tests/unit/nn/op_rig.h"

/* Offset in input `i` of the output element with the multi-index of `at`, sample included. */
static size_t offset_in(const struct rig *rig, size_t i, size_t at) {
    const struct shape *out = rig_out_shape(rig);
    const struct shape *in = rig_shape(rig, i);
    const size_t sample = at / shape_count(out);
    size_t rest = at % shape_count(out);
    size_t offset = 0, stride = 1;

    for (size_t d = out->rank; d-- > 0;) {
        size_t index = rest % out->dim[d];
        rest /= out->dim[d];
        if (d + in->rank >= out->rank) {
            size_t dim = in->dim[d + in->rank - out->rank];
            offset += (dim == 1 ? 0 : index) * stride;
            stride *= dim;
        }
    }
    return offset + (rig_count(rig, i, 2) == rig_count(rig, i, 1) ? 0 : sample * shape_count(in));
}

static void reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    for (size_t at = 0; at < n * shape_count(rig_out_shape(rig)); at++) {
        double a = in[0][offset_in(rig, 0, at)];
        double b = in[1][offset_in(rig, 1, at)];
        switch (rig->node.op) {
        case OP_ADD:
            out[at] = a + b;
            break;
        case OP_SUB:
            out[at] = a - b;
            break;
        case OP_MUL:
            out[at] = a * b;
            break;
        default:
            out[at] = a / b;
            break;
        }
    }
}

struct broadcast_case {
    struct shape a, b;
    int constant; /* 0: none, 1: a, 2: b */
};

/* Values between 0.5 and 1.5, so that a quotient's derivative is tame. */
static void check_case(enum op_kind op, const struct broadcast_case *c, uint64_t seed, size_t n) {
    struct rig rig;

    rig_init(&rig, op, seed);
    rig.reference = reference;
    rig.low = 0.5f;
    rig.high = 1.5f;
    for (int i = 0; i < 2; i++) {
        const struct shape *shape = i == 0 ? &c->a : &c->b;
        if (c->constant == i + 1) {
            rig_constant(&rig, shape->rank, shape->dim, 0.5f, 1.5f);
        } else {
            rig_data(&rig, shape->rank, shape->dim);
        }
    }
    rig_check(&rig, n);
    rig_deinit(&rig);
}

static void broadcasts(void **state) {
    (void)state;
    static const struct broadcast_case cases[] = {
        {{4, {1, 3, 5, 7}}, {4, {1, 3, 5, 7}}, 0},
        {{4, {1, 3, 5, 7}}, {4, {1, 3, 1, 1}}, 2},
        {{4, {1, 3, 1, 1}}, {4, {1, 3, 5, 7}}, 1},
        {{4, {1, 3, 5, 7}}, {0, {0}}, 2},
        {{4, {1, 3, 5, 7}}, {1, {1}}, 2},
        {{4, {1, 3, 5, 7}}, {1, {7}}, 2},
        {{4, {1, 3, 5, 7}}, {3, {3, 1, 1}}, 2},
        {{4, {1, 3, 5, 7}}, {3, {1, 5, 1}}, 2},
        {{4, {1, 3, 5, 7}}, {3, {3, 1, 7}}, 2},
        {{4, {1, 3, 1, 1}}, {4, {1, 3, 5, 7}}, 0},
        {{4, {1, 3, 5, 7}}, {4, {1, 1, 5, 7}}, 0},
        {{4, {1, 3, 1, 7}}, {4, {1, 1, 5, 1}}, 0},
        {{4, {1, 3, 1, 1}}, {4, {1, 3, 5, 7}}, 2},
        {{2, {1, 10}}, {1, {10}}, 2},
        {{2, {1, 10}}, {2, {1, 1}}, 0},
        {{1, {1}}, {1, {1}}, 0},
        {{1, {6}}, {1, {6}}, 0},
        {{4, {1, 2, 20, 30}}, {4, {1, 2, 20, 30}}, 0},
        {{4, {2, 3, 4, 5}}, {3, {3, 1, 5}}, 2},
        {{6, {1, 2, 3, 2, 3, 2}}, {6, {1, 1, 3, 1, 3, 1}}, 2},
        {{3, {1, 600, 2}}, {3, {1, 600, 1}}, 0},
        {{3, {1, 2, 600}}, {3, {1, 1, 600}}, 2},
        {{4, {1, 1, 1, 1}}, {4, {1, 4, 3, 3}}, 2},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (enum op_kind op = OP_ADD; op <= OP_DIV; op++) {
            check_case(op, &cases[i], i + 1, 1);
            check_case(op, &cases[i], i + 100, 3);
        }
    }
}

/* x op x: both gradients go to one place, the second adds. */
static void same_value_twice(void **state) {
    (void)state;
    static const float expected[] = {2.0f, 0.0f, 6.0f, 0.0f}; /* d/dx of 2x, 0, x^2, 1 at x = 3 */

    for (enum op_kind op = OP_ADD; op <= OP_DIV; op++) {
        struct rig rig;
        struct error error = {0};
        float x = 3.0f, y = 0.0f, dy = 1.0f, dx = 77.0f;
        const float *in[] = {&x, &x};
        float *din[] = {&dx, &dx};
        const bool accumulate[] = {false, true};
        rig_init(&rig, op, 1);
        RIG_DATA(&rig, 1, 1);
        rig.inputs[rig.node.input_count++] = rig.inputs[0];
        assert_int_equal(rig_infer(&rig, &error), STATUS_OK);
        struct op_args args = {.network = &rig.network,
                               .node = &rig.node,
                               .n = 1,
                               .in = in,
                               .out = &y,
                               .dout = &dy,
                               .din = din,
                               .accumulate = accumulate};
        op_find(op)->forward(&args);
        op_find(op)->backward(&args);
        assert_true(dx == expected[op - OP_ADD]);
        if ((op_find(op)->flags & OP_MAY_ALIAS) != 0) {
            din[0] = din[1] = &dy;
            op_find(op)->backward(&args);
            assert_true(dy == expected[op - OP_ADD]);
        }
        rig_deinit(&rig);
    }
}

static void refusals(void **state) {
    (void)state;
    static const struct {
        struct broadcast_case c;
        enum status status;
        const char *text;
    } cases[] = {
        {{{4, {1, 3, 5, 7}}, {4, {1, 2, 5, 7}}, 0}, STATUS_INVALID, "[1, 3, 5, 7] and [1, 2, 5, 7]"},
        {{{2, {1, 4}}, {2, {5, 1}}, 2}, STATUS_UNSUPPORTED, "batch axis"},
        {{{2, {1, 4}}, {2, {5, 4}}, 2}, STATUS_UNSUPPORTED, "batch axis"},
        {{{2, {2, 4}}, {2, {2, 4}}, 2}, STATUS_UNSUPPORTED, "batch axis"},
        {{{2, {1, 4}}, {3, {1, 1, 4}}, 2}, STATUS_UNSUPPORTED, "batch axis"},
        {{{2, {1, 4}}, {1, {4}}, 0}, STATUS_UNSUPPORTED, "batch axis"},
        {{{2, {1, 4}}, {2, {2, 4}}, 0}, STATUS_UNSUPPORTED, "batch axis"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig rig;
        rig_init(&rig, OP_ADD, 1);
        rig_data(&rig, cases[i].c.a.rank, cases[i].c.a.dim);
        if (cases[i].c.constant == 2) {
            rig_constant(&rig, cases[i].c.b.rank, cases[i].c.b.dim, 0.0f, 1.0f);
        } else {
            rig_data(&rig, cases[i].c.b.rank, cases[i].c.b.dim);
        }
        rig_refuses(&rig, cases[i].status, cases[i].text);
    }
    struct rig rig;
    rig_init(&rig, OP_MUL, 1);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 1, 4);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 1, 4);
    rig_refuses(&rig, STATUS_UNSUPPORTED, "two constants");
    rig_init(&rig, OP_DIV, 1);
    RIG_DATA(&rig, 1, 4);
    rig_refuses(&rig, STATUS_INVALID, "got 1 inputs");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broadcasts),
        cmocka_unit_test(same_value_twice),
        cmocka_unit_test(refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
