/* Slice (parts, steps, reversals, repeats), MatMul of stacks, Resize. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "tests/support/cm.h"
#include "tests/unit/nn/op_rig.h"

static void slice_reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    const struct shape *x = rig_shape(rig, 0), *y = rig_out_shape(rig);

    for (size_t at = 0; at < n * shape_count(y); at++) {
        size_t rest = at % shape_count(y), offset = at / shape_count(y) * shape_count(x), stride = 1;
        for (size_t d = x->rank; d-- > 0;) {
            ptrdiff_t index =
                (ptrdiff_t)rig->node.attr.slice_start[d] + (ptrdiff_t)(rest % y->dim[d]) * rig->node.attr.slice_step[d];
            offset += (size_t)index * stride;
            stride *= x->dim[d];
            rest /= y->dim[d];
        }
        out[at] = in[0][offset];
    }
}

struct slice_case {
    struct shape x, y;
    size_t start[4];
    ptrdiff_t step[4];
};

static void slice_rig(struct rig *rig, const struct slice_case *c, uint64_t seed) {
    rig_init(rig, OP_SLICE, seed);
    rig->reference = slice_reference;
    rig->node.attr.shape = c->y;
    memcpy(rig->node.attr.slice_start, c->start, sizeof c->start);
    memcpy(rig->node.attr.slice_step, c->step, sizeof c->step);
    rig_data(rig, c->x.rank, c->x.dim);
}

static void slices(void **state) {
    (void)state;
    static const struct slice_case cases[] = {
        {{4, {1, 6, 5, 7}}, {4, {1, 3, 5, 7}}, {0, 2, 0, 0}, {1, 1, 1, 1}},
        {{4, {1, 6, 5, 7}}, {4, {1, 6, 2, 3}}, {0, 0, 1, 1}, {1, 1, 2, 2}},
        {{4, {1, 6, 5, 7}}, {4, {1, 3, 5, 7}}, {0, 5, 4, 6}, {1, -2, -1, -1}},
        {{4, {1, 3, 1, 1}}, {4, {1, 3, 4, 5}}, {0, 0, 0, 0}, {1, 1, 0, 0}},
        {{2, {1, 9}}, {2, {1, 1}}, {0, 8}, {1, 1}},
        {{1, {1}}, {1, {1}}, {0}, {1}},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t n = 1; n <= 3; n += 2) {
            struct rig rig;
            slice_rig(&rig, &cases[i], i + 1);
            rig_check(&rig, n);
            rig_deinit(&rig);
        }
    }
}

static void slice_refusals(void **state) {
    (void)state;
    static const struct {
        struct slice_case c;
        enum status status;
        const char *text;
    } cases[] = {
        {{{2, {1, 4}}, {2, {1, 4}}, {0, 1}, {1, 1}}, STATUS_INVALID, "of axis 1"},
        {{{2, {1, 4}}, {2, {1, 3}}, {0, 1}, {1, -1}}, STATUS_INVALID, "of axis 1"},
        {{{2, {1, 4}}, {2, {1, 1}}, {0, 4}, {1, 1}}, STATUS_INVALID, "of axis 1"},
        {{{2, {1, 4}}, {2, {1, 0}}, {0, 0}, {1, 1}}, STATUS_INVALID, "of axis 1"},
        {{{2, {1, 4}}, {2, {1, 3}}, {0, 0}, {1, PTRDIFF_MIN}}, STATUS_INVALID, "of axis 1"},
        {{{2, {1, 4}}, {2, {1, 3}}, {0, 0}, {1, PTRDIFF_MAX}}, STATUS_INVALID, "of axis 1"},
        {{{2, {1, 4}}, {2, {2, 4}}, {0, 0}, {0, 1}}, STATUS_UNSUPPORTED, "batch axis"},
        {{{2, {1, 4}}, {1, {1}}, {0, 0}, {1, 1}}, STATUS_INVALID, "rank 1"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rig rig;
        slice_rig(&rig, &cases[i].c, 1);
        rig_refuses(&rig, cases[i].status, cases[i].text);
    }
}

/* Offset of matrix `index` of the output in input i. */
static size_t matrix_of(const struct rig *rig, size_t i, size_t index) {
    const struct shape *out = rig_out_shape(rig), *own = rig_shape(rig, i);
    size_t missing = out->rank - own->rank, stride = own->dim[own->rank - 1] * own->dim[own->rank - 2], offset = 0;
    for (size_t d = out->rank - 2; d-- > missing;) {
        bool samples = d == 0 && rig->values[rig->inputs[i]].kind != VALUE_CONSTANT;
        size_t coordinate = d == 0 ? index : index % out->dim[d];
        offset += own->dim[d - missing] == 1 && !samples ? 0 : coordinate * stride;
        stride *= own->dim[d - missing];
        index /= out->dim[d];
    }
    return offset;
}

static void matmul_reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    const struct shape *a = rig_shape(rig, 0), *y = rig_out_shape(rig);
    const size_t m = y->dim[y->rank - 2], p = y->dim[y->rank - 1], k = a->dim[a->rank - 1];

    for (size_t i = 0; i < n * shape_count(y) / (m * p); i++) {
        const double *left = in[0] + matrix_of(rig, 0, i), *right = in[1] + matrix_of(rig, 1, i);
        for (size_t at = 0; at < m * p; at++) {
            double sum = 0;
            for (size_t j = 0; j < k; j++) {
                sum += left[at / p * k + j] * right[j * p + at % p];
            }
            out[i * m * p + at] = sum;
        }
    }
}

static void products(void **state) {
    (void)state;
    static const struct {
        struct shape a, b;
        unsigned constant; /* bit i: input i */
    } cases[] = {
        {{3, {1, 4, 5}}, {3, {1, 5, 3}}, 0},       {{4, {1, 2, 4, 5}}, {4, {1, 2, 5, 3}}, 0},
        {{4, {1, 2, 4, 5}}, {4, {1, 1, 5, 3}}, 0}, {{4, {1, 1, 4, 5}}, {4, {1, 3, 5, 2}}, 0},
        {{4, {1, 2, 4, 5}}, {3, {2, 5, 3}}, 2},    {{2, {4, 5}}, {4, {1, 2, 5, 3}}, 1},
        {{4, {1, 1, 4, 5}}, {4, {1, 2, 5, 3}}, 1}, {{3, {1, 1, 6}}, {3, {1, 6, 1}}, 0},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t n = 1; n <= 3; n += 2) {
            struct rig rig;
            rig_init(&rig, OP_MATMUL, i + 1);
            rig.reference = matmul_reference;
            rig.loose_samples = true;
            for (size_t k = 0; k < 2; k++) {
                const struct shape *shape = k == 0 ? &cases[i].a : &cases[i].b;
                if ((cases[i].constant >> k & 1u) != 0) {
                    rig_constant(&rig, shape->rank, shape->dim, -1.0f, 1.0f);
                } else {
                    rig_data(&rig, shape->rank, shape->dim);
                }
            }
            rig_check(&rig, n);
            rig_deinit(&rig);
        }
    }
    struct rig rig;
    rig_init(&rig, OP_MATMUL, 1);
    RIG_DATA(&rig, 1, 4, 5);
    RIG_DATA(&rig, 1, 4, 5);
    rig_refuses(&rig, STATUS_INVALID, "inner lengths");
    rig_init(&rig, OP_MATMUL, 1);
    RIG_DATA(&rig, 1, 4, 5);
    RIG_DATA(&rig, 5, 4);
    rig_refuses(&rig, STATUS_UNSUPPORTED, "batch");
}

static double source_of(const struct resize_attr *attr, size_t d, size_t length, size_t index) {
    double scale = (double)attr->scale[d], at = (double)index;
    switch (attr->coordinates) {
    case RESIZE_ALIGN_CORNERS:
        return attr->size[d] > 1 ? at * ((double)length - 1) / ((double)attr->size[d] - 1) : 0;
    case RESIZE_ASYMMETRIC:
        return at / scale;
    case RESIZE_HALF_PIXEL_TORCH:
        return attr->size[d] > 1 ? (at + 0.5) / scale - 0.5 : 0;
    default:
        return (at + 0.5) / scale - 0.5;
    }
}

/* The share that input `i` of a row of `length` has in the output at source coordinate x: a hat, with the ends held. */
static double share(const struct resize_attr *attr, size_t length, size_t i, double x) {
    double last = (double)length - 1, at = (double)i;
    if (!attr->linear) {
        double near = attr->rounding == RESIZE_FLOOR               ? floor(x)
                      : attr->rounding == RESIZE_CEIL              ? ceil(x)
                      : attr->rounding == RESIZE_ROUND_PREFER_CEIL ? floor(x + 0.5)
                                                                   : ceil(x - 0.5);
        near = fmin(fmax(near, 0), last);
        return fabs(near - at) < 0.5 ? 1 : 0;
    }
    x = fmin(fmax(x, 0), last);
    return fmax(0, 1 - fabs(x - at));
}

static void resize_reference(const struct rig *rig, size_t n, const double *const *in, double *out) {
    const struct shape *x = rig_shape(rig, 0), *y = rig_out_shape(rig);
    const struct resize_attr *attr = &rig->node.attr.resize;
    const size_t height = x->dim[2], width = x->dim[3];

    for (size_t at = 0; at < n * shape_count(y); at++) {
        size_t row = at / y->dim[3] % y->dim[2], column = at % y->dim[3], plane = at / (y->dim[2] * y->dim[3]);
        double sum = 0;
        for (size_t i = 0; i < height * width; i++) {
            sum += share(attr, height, i / width, source_of(attr, 0, height, row)) *
                   share(attr, width, i % width, source_of(attr, 1, width, column)) * in[0][plane * height * width + i];
        }
        out[at] = sum;
    }
}

static void resizes(void **state) {
    (void)state;
    static const size_t sizes[][2] = {{6, 10}, {3, 4}, {2, 3}, {1, 1}, {7, 5}};

    for (size_t i = 0; i < 8 * sizeof sizes / sizeof sizes[0]; i++) {
        struct rig rig;
        rig_init(&rig, OP_RESIZE, i + 1);
        rig.reference = resize_reference;
        struct resize_attr *attr = &rig.node.attr.resize;
        attr->linear = i % 2 == 0;
        attr->coordinates = (enum resize_coordinates)(i / 2 % 4);
        attr->rounding = (enum resize_rounding)(i / 8 % 4);
        for (size_t d = 0; d < 2; d++) {
            attr->size[d] = sizes[i / 8][d];
            attr->scale[d] = (float)attr->size[d] / (d == 0 ? 3.0f : 5.0f);
        }
        RIG_DATA(&rig, 1, 2, 3, 5);
        rig_check(&rig, i % 3 + 1);
        rig_deinit(&rig);
    }
    struct rig rig;
    rig_init(&rig, OP_RESIZE, 1);
    rig.node.attr.resize = (struct resize_attr){.scale = {1.0f, 0.0f}, .size = {1, 1}};
    RIG_DATA(&rig, 1, 2, 3, 5);
    rig_refuses(&rig, STATUS_INVALID, "scale 0");
    rig_init(&rig, OP_RESIZE, 1);
    RIG_DATA(&rig, 1, 2);
    rig_refuses(&rig, STATUS_UNSUPPORTED, "rank 2");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices),
        cmocka_unit_test(slice_refusals),
        cmocka_unit_test(products),
        cmocka_unit_test(resizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
