/* ReduceMean over any axes, and the two global pools. */
#include <math.h>
#include <string.h>

#include "tests/support/cm.h"
#include "tests/unit/nn/op_rig.h"

static void mean_reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    const struct shape *x = rig_shape(rig, 0);
    const size_t out_count = shape_count(rig_out_shape(rig));
    const double values = (double)shape_count(x) / (double)out_count;

    memset(out, 0, n * out_count * sizeof *out);
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
        out[offset] += in[0][at] / values;
    }
}

static void means(void **state) {
    (void)state;
    static const struct {
        struct shape x;
        size_t count, axes[3];
    } cases[] = {
        {{4, {1, 3, 5, 7}}, 2, {2, 3}},
        {{4, {1, 3, 5, 7}}, 1, {1}},
        {{4, {1, 3, 5, 7}}, 1, {2}},
        {{4, {1, 3, 5, 7}}, 1, {3}},
        {{4, {1, 3, 5, 7}}, 2, {3, 1}},
        {{4, {1, 3, 5, 7}}, 3, {1, 2, 3}},
        {{2, {1, 40}}, 1, {1}},
        {{6, {1, 2, 3, 2, 3, 2}}, 3, {1, 3, 5}},
        {{6, {1, 2, 3, 2, 3, 2}}, 2, {2, 4}},
        {{3, {2, 3, 4}}, 1, {1}},
        {{4, {1, 1, 1, 1}}, 2, {2, 3}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t n = 1; n <= 3; n++) {
            struct rig rig;
            rig_init(&rig, OP_REDUCE_MEAN, i + 1);
            rig.reference = mean_reference;
            rig.node.attr.axes_count = cases[i].count;
            memcpy(rig.node.attr.axes, cases[i].axes, sizeof cases[i].axes);
            rig.node.attr.keep_dims = n % 2 == 0;
            rig_data(&rig, cases[i].x.rank, cases[i].x.dim);
            rig_check(&rig, n);
            assert_int_equal(rig_out_shape(&rig)->rank, cases[i].x.rank - (n % 2 == 0 ? 0 : cases[i].count));
            rig_deinit(&rig);
        }
    }
}

static void global_reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    const size_t inner = shape_count_from(rig_shape(rig, 0), 2);

    for (size_t p = 0; p < rig_count(rig, 0, n) / inner; p++) {
        double sum = 0.0, best = -INFINITY;
        for (size_t i = 0; i < inner; i++) {
            sum += in[0][p * inner + i];
            best = fmax(best, in[0][p * inner + i]);
        }
        out[p] = rig->node.op == OP_GLOBAL_MAX_POOL ? best : sum / (double)inner;
    }
}

static void globals(void **state) {
    (void)state;
    static const struct shape shapes[] = {{4, {1, 3, 5, 7}}, {4, {1, 17, 1, 1}}, {3, {1, 2, 50}}, {5, {1, 2, 3, 4, 5}}};

    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (enum op_kind op = OP_GLOBAL_AVERAGE_POOL; op <= OP_GLOBAL_MAX_POOL; op++) {
            struct rig rig;
            rig_init(&rig, op, i + 1);
            rig.reference = global_reference;
            rig_data(&rig, shapes[i].rank, shapes[i].dim);
            rig_check(&rig, i + 1);
            assert_int_equal(rig_out_shape(&rig)->rank, shapes[i].rank);
            rig_deinit(&rig);
        }
    }
}

static void refusals(void **state) {
    (void)state;
    static const struct {
        size_t count, axes[2];
        enum status status;
        const char *text;
    } cases[] = {
        {0, {0, 0}, STATUS_UNSUPPORTED, "got 0 axes"}, {1, {0, 0}, STATUS_UNSUPPORTED, "axis 0"},
        {1, {3, 0}, STATUS_INVALID, "axis 3"},         {2, {1, 1}, STATUS_INVALID, "at most once"},
        {3, {0, 1}, STATUS_UNSUPPORTED, "got 3 axes"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig rig;
        rig_init(&rig, OP_REDUCE_MEAN, 1);
        RIG_DATA(&rig, 1, 2, 5);
        rig.node.attr.axes_count = cases[i].count;
        memcpy(rig.node.attr.axes, cases[i].axes, sizeof cases[i].axes);
        rig_refuses(&rig, cases[i].status, cases[i].text);
    }
    struct rig rig;
    rig_init(&rig, OP_GLOBAL_AVERAGE_POOL, 1);
    RIG_DATA(&rig, 1, 2);
    rig_refuses(&rig, STATUS_INVALID, "rank 3 or more");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(means),
        cmocka_unit_test(globals),
        cmocka_unit_test(refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
