/* Rows that only move data: Identity, Reshape, Transpose, Pad, Concat. */
#include <string.h>

#include "tests/support/cm.h"
#include "tests/unit/nn/op_rig.h"

static void copy_reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    memcpy(out, in[0], rig_count(rig, 0, n) * sizeof *out);
}

static void copies(void **state) {
    (void)state;
    struct rig rig;

    rig_init(&rig, OP_IDENTITY, 1);
    rig.reference = copy_reference;
    RIG_DATA(&rig, 1, 3, 4, 5);
    rig_check(&rig, 3);
    rig_deinit(&rig);
    rig_init(&rig, OP_RESHAPE, 1);
    rig.reference = copy_reference;
    rig.node.attr.shape = (struct shape){2, {1, 60}};
    RIG_DATA(&rig, 1, 3, 4, 5);
    rig_check(&rig, 2);
    assert_true(shape_equal(rig_out_shape(&rig), &rig.node.attr.shape));
    rig_deinit(&rig);
}

/* Index of dimension d in element `at` of a block of this shape. */
static size_t index_of(const struct shape *shape, size_t at, size_t d) {
    return at / shape_count_from(shape, d + 1) % shape->dim[d];
}

static void transpose_reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    const struct shape *x = rig_shape(rig, 0), *y = rig_out_shape(rig);
    const size_t count = shape_count(y);

    for (size_t at = 0; at < n * count; at++) {
        size_t offset = at / count * count;
        for (size_t d = 0; d < y->rank; d++) {
            offset += index_of(y, at % count, d) * shape_count_from(x, rig->node.attr.axes[d] + 1);
        }
        out[at] = in[0][offset];
    }
}

static void transposes(void **state) {
    (void)state;
    static const size_t perms[][5] = {{0, 1, 2, 3, 4}, {0, 4, 3, 2, 1}, {0, 2, 1, 4, 3}, {0, 3, 4, 1, 2}};

    for (size_t i = 0; i < sizeof perms / sizeof perms[0]; i++) {
        struct rig rig;
        rig_init(&rig, OP_TRANSPOSE, i + 1);
        rig.reference = transpose_reference;
        rig.node.attr.axes_count = 5;
        memcpy(rig.node.attr.axes, perms[i], sizeof perms[i]);
        RIG_DATA(&rig, 1, 2, 3, 4, 5);
        rig_check(&rig, i + 1);
        rig_deinit(&rig);
    }
    struct rig rig;
    rig_init(&rig, OP_TRANSPOSE, 1);
    rig.reference = transpose_reference;
    rig.node.attr.axes_count = 1;
    RIG_DATA(&rig, 7);
    rig_check(&rig, 3);
    rig_deinit(&rig);
}

static void pad_reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    const struct shape *x = rig_shape(rig, 0), *y = rig_out_shape(rig);
    const size_t count = shape_count(y);

    for (size_t at = 0; at < n * count; at++) {
        size_t offset = at / count * shape_count(x);
        bool inside = true;
        for (size_t d = 0; d < y->rank; d++) {
            size_t index = index_of(y, at % count, d), begin = rig->node.attr.pad_begin[d];
            inside = inside && index >= begin && index < begin + x->dim[d];
            offset += (index - begin) * shape_count_from(x, d + 1);
        }
        out[at] = inside ? in[0][offset] : (double)rig->node.attr.pad_value;
    }
}

static void pads(void **state) {
    (void)state;
    static const struct {
        struct shape x;
        size_t begin[4], end[4];
    } cases[] = {
        {{4, {1, 2, 3, 5}}, {0, 0, 1, 2}, {0, 0, 2, 1}},
        {{4, {1, 2, 3, 5}}, {0, 1, 0, 0}, {0, 3, 0, 0}},
        {{3, {1, 2, 3}}, {0, 1, 0}, {0, 0, 1}},
        {{4, {1, 2, 3, 5}}, {0, 0, 0, 0}, {0, 0, 0, 0}},
        {{2, {1, 6}}, {0, 2}, {0, 3}},
        {{1, {6}}, {0}, {0}},
        {{4, {2, 2, 2, 2}}, {0, 1, 1, 1}, {0, 1, 2, 0}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig rig;
        rig_init(&rig, OP_PAD, i + 1);
        rig.reference = pad_reference;
        rig.node.attr.pad_value = 0.25f * (float)i;
        memcpy(rig.node.attr.pad_begin, cases[i].begin, sizeof cases[i].begin);
        memcpy(rig.node.attr.pad_end, cases[i].end, sizeof cases[i].end);
        rig_data(&rig, cases[i].x.rank, cases[i].x.dim);
        rig_check(&rig, i % 3 + 1);
        rig_deinit(&rig);
    }
}

static void concat_reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    const struct shape *y = rig_out_shape(rig);
    const size_t axis = rig->node.attr.axis, count = shape_count(y), inner = shape_count_from(y, axis + 1);

    for (size_t at = 0; at < n * count; at++) {
        size_t index = index_of(y, at % count, axis), i = 0;
        while (index >= rig_shape(rig, i)->dim[axis]) {
            index -= rig_shape(rig, i++)->dim[axis];
        }
        bool constant = rig->values[rig->inputs[i]].kind == VALUE_CONSTANT;
        size_t outer = (constant ? at % count : at) / shape_count_from(y, axis);
        out[at] = in[i][(outer * rig_shape(rig, i)->dim[axis] + index) * inner + at % inner];
    }
}

static void concats(void **state) {
    (void)state;
    for (size_t axis = 1; axis <= 3; axis++) {
        for (size_t parts = 1; parts <= 4; parts++) {
            struct rig rig;
            rig_init(&rig, OP_CONCAT, axis * 10 + parts);
            rig.reference = concat_reference;
            rig.node.attr.axis = axis;
            for (size_t i = 0; i < parts; i++) {
                size_t dims[] = {1, 3, 4, 5};
                dims[axis] = 1 + (i * 3 + axis) % 5;
                if (i % 2 == 1 && parts > 2) {
                    rig_constant(&rig, 4, dims, -1.0f, 1.0f);
                } else {
                    rig_data(&rig, 4, dims);
                }
            }
            rig_check(&rig, parts);
            rig_deinit(&rig);
        }
    }
}

static void concat_refusals(void **state) {
    (void)state;
    struct rig rig;

    rig_init(&rig, OP_CONCAT, 1);
    rig_refuses(&rig, STATUS_INVALID, "got 0 inputs");
    rig_init(&rig, OP_CONCAT, 1);
    RIG_DATA(&rig, 1, 4);
    RIG_DATA(&rig, 1, 4);
    rig_refuses(&rig, STATUS_UNSUPPORTED, "axis 0");
    rig_init(&rig, OP_CONCAT, 1);
    rig.node.attr.axis = 1;
    RIG_DATA(&rig, 1, 4, 3);
    RIG_DATA(&rig, 1, 4, 2);
    rig_refuses(&rig, STATUS_INVALID, "[1, 4, 2] as input 1");
    rig_init(&rig, OP_CONCAT, 1);
    rig.node.attr.axis = 1;
    RIG_DATA(&rig, 1, 4, 3);
    RIG_DATA(&rig, 1, 4);
    rig_refuses(&rig, STATUS_INVALID, "[1, 4] as input 1");
    rig_init(&rig, OP_CONCAT, 1);
    rig.node.attr.axis = 1;
    RIG_DATA(&rig, 1, 4);
    RIG_CONSTANT(&rig, 0.0f, 1.0f, 2, 4);
    rig_refuses(&rig, STATUS_UNSUPPORTED, "constant as input 1");
    rig_init(&rig, OP_CONCAT, 1);
    rig.node.attr.axis = 1;
    RIG_DATA(&rig, 1, 4);
    rig_omit(&rig);
    rig_refuses(&rig, STATUS_INVALID, "no input 1");
}

static void shape_refusals(void **state) {
    (void)state;
    struct rig rig;

    rig_init(&rig, OP_RESHAPE, 1);
    rig.node.attr.shape = (struct shape){2, {1, 61}};
    RIG_DATA(&rig, 1, 3, 4, 5);
    rig_refuses(&rig, STATUS_INVALID, "[1, 61] for an input of shape [1, 3, 4, 5]");
    rig_init(&rig, OP_RESHAPE, 1);
    rig.node.attr.shape.rank = SHAPE_RANK_MAX + 1;
    RIG_DATA(&rig, 1, 3);
    rig_refuses(&rig, STATUS_INVALID, "too many dimensions");
    rig_init(&rig, OP_RESHAPE, 1);
    rig.node.attr.shape = (struct shape){3, {SIZE_MAX / 2 + 1, 2, 1}};
    RIG_DATA(&rig, 1, 3);
    rig_refuses(&rig, STATUS_INVALID, "as many values");

    static const struct {
        size_t count, axes[3];
        enum status status;
        const char *text;
    } perms[] = {
        {2, {0, 1, 0}, STATUS_INVALID, "permutation of 2"},
        {3, {0, 1, 1}, STATUS_INVALID, "axis 1 at place 2"},
        {3, {0, 1, 3}, STATUS_INVALID, "axis 3 at place 2"},
        {3, {1, 0, 2}, STATUS_UNSUPPORTED, "expected the batch axis"},
    };
    for (size_t i = 0; i < sizeof perms / sizeof perms[0]; i++) {
        rig_init(&rig, OP_TRANSPOSE, 1);
        rig.node.attr.axes_count = perms[i].count;
        memcpy(rig.node.attr.axes, perms[i].axes, sizeof perms[i].axes);
        RIG_DATA(&rig, 1, 3, 4);
        rig_refuses(&rig, perms[i].status, perms[i].text);
    }
    rig_init(&rig, OP_PAD, 1);
    rig.node.attr.pad_begin[0] = 1;
    RIG_DATA(&rig, 1, 3);
    rig_refuses(&rig, STATUS_UNSUPPORTED, "batch axis");
    rig_init(&rig, OP_PAD, 1);
    rig.node.attr.pad_end[1] = SIZE_MAX;
    RIG_DATA(&rig, 1, 3);
    rig_refuses(&rig, STATUS_LIMIT, "on axis 1");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies),  cmocka_unit_test(transposes),      cmocka_unit_test(pads),
        cmocka_unit_test(concats), cmocka_unit_test(concat_refusals), cmocka_unit_test(shape_refusals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
