/* Pow, Min, Max, PRelu with broadcasting; ReduceSum and ReduceMax. */
#include <math.h>
#include <string.h>

#include "tests/support/cm.h"
#include "tests/unit/nn/op_rig.h"

static double value_of(enum op_kind op, double a, double b) {
    switch (op) {
    case OP_POW:
        return pow(a, b);
    case OP_MIN:
        return a < b ? a : b;
    case OP_MAX:
        return a > b ? a : b;
    default:
        return a < 0 ? b * a : a;
    }
}

/* Element of input i that meets element `at` of the output. */
static double operand(const struct rig *rig, size_t i, const double *in, size_t at) {
    const struct shape *out = rig_out_shape(rig), *own = rig_shape(rig, i);
    bool constant = rig->values[rig->inputs[i]].kind == VALUE_CONSTANT;
    size_t offset = constant ? 0 : at / shape_count(out) * shape_count(own), stride = 1, rest = at % shape_count(out);
    for (size_t d = out->rank; d-- > out->rank - own->rank;) {
        size_t dim = own->dim[d - (out->rank - own->rank)];
        offset += dim == 1 ? 0 : rest % out->dim[d] * stride;
        stride *= dim;
        rest /= out->dim[d];
    }
    return in[offset];
}

static void binary_reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    for (size_t at = 0; at < n * shape_count(rig_out_shape(rig)); at++) {
        out[at] = value_of(rig->node.op, operand(rig, 0, in[0], at), operand(rig, 1, in[1], at));
    }
}

static void broadcasts(void **state) {
    (void)state;
    static const struct {
        struct shape a, b;
        bool constant;
    } cases[] = {
        {{4, {1, 3, 5, 7}}, {4, {1, 3, 5, 7}}, false}, {{4, {1, 3, 5, 7}}, {4, {1, 3, 1, 1}}, false},
        {{4, {1, 3, 5, 7}}, {3, {3, 1, 1}}, true},     {{4, {1, 3, 5, 7}}, {1, {7}}, true},
        {{4, {1, 3, 5, 7}}, {1, {1}}, true},           {{2, {1, 6}}, {2, {1, 6}}, true},
    };

    for (enum op_kind op = OP_POW; op <= OP_PRELU; op++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            struct rig rig;
            rig_init(&rig, op, i + 1);
            rig.reference = binary_reference;
            rig.low = op == OP_POW ? 0.5f : -1.0f;
            rig.high = op == OP_POW ? 2.0f : 1.0f;
            rig_data(&rig, cases[i].a.rank, cases[i].a.dim);
            if (cases[i].constant) {
                rig_constant(&rig, cases[i].b.rank, cases[i].b.dim, rig.low, rig.high);
            } else {
                rig_data(&rig, cases[i].b.rank, cases[i].b.dim);
            }
            rig_check(&rig, i % 3 + 1);
            rig_deinit(&rig);
        }
    }
}

/* A square is right for negative numbers, with its derivative. */
static void squares(void **state) {
    (void)state;
    struct rig rig;
    rig_init(&rig, OP_POW, 5);
    rig.reference = binary_reference;
    rig.fixed = 2;
    RIG_DATA(&rig, 1, 3, 4);
    size_t two = RIG_CONSTANT(&rig, 0.0f, 1.0f, 1);
    rig.values[rig.inputs[two]].data[0] = 2.0f;
    rig_check(&rig, 2);
    rig_deinit(&rig);
}

static void reduce_reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    const struct shape *x = rig_shape(rig, 0);
    const size_t out_count = shape_count(rig_out_shape(rig));
    const bool sums = rig->node.op == OP_REDUCE_SUM;

    for (size_t i = 0; i < n * out_count; i++) {
        out[i] = sums ? 0 : -INFINITY;
    }
    for (size_t at = 0; at < rig_count(rig, 0, n); at++) {
        size_t rest = at % shape_count(x), stride = 1, offset = at / shape_count(x) * out_count;
        for (size_t d = x->rank; d-- > 0;) {
            bool reduced = false;
            for (size_t i = 0; i < rig->node.attr.axes_count; i++) {
                reduced = reduced || rig->node.attr.axes[i] == d;
            }
            offset += reduced ? 0 : rest % x->dim[d] * stride;
            stride *= reduced ? 1 : x->dim[d];
            rest /= x->dim[d];
        }
        out[offset] = sums ? out[offset] + in[0][at] : fmax(out[offset], in[0][at]);
    }
}

static void reductions(void **state) {
    (void)state;
    static const struct {
        struct shape x;
        size_t count, axes[3];
    } cases[] = {
        {{4, {1, 3, 5, 7}}, 2, {2, 3}}, {{4, {1, 3, 5, 7}}, 1, {1}}, {{4, {1, 3, 5, 7}}, 1, {3}},
        {{4, {1, 3, 5, 7}}, 2, {3, 1}}, {{2, {1, 40}}, 1, {1}},      {{4, {1, 3, 5, 7}}, 3, {1, 2, 3}},
    };

    for (enum op_kind op = OP_REDUCE_SUM; op <= OP_REDUCE_MAX; op++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            struct rig rig;
            rig_init(&rig, op, i + 1);
            rig.reference = reduce_reference;
            rig.node.attr.axes_count = cases[i].count;
            memcpy(rig.node.attr.axes, cases[i].axes, sizeof cases[i].axes);
            rig.node.attr.keep_dims = i % 2 == 0;
            rig_data(&rig, cases[i].x.rank, cases[i].x.dim);
            rig_check(&rig, i % 3 + 1);
            rig_deinit(&rig);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broadcasts),
        cmocka_unit_test(squares),
        cmocka_unit_test(reductions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
