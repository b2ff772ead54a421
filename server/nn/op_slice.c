/* Slice: a copy along a straight walk over the input. Output index i of an axis is input index start + i step, so that one row
 * serves Slice, Split, the reversal of an axis, and (with step 0) Expand. */
#include <stdint.h>
#include <string.h>

#include "server/nn/op_rows.h"

static enum status slice_infer(const struct network *network, const struct node *node, struct shape *out,
                               struct error *error) {
    const struct op_attr *attr = &node->attr;
    size_t count = 0;
    enum status status = op_infer_same(network, node, out, error);

    if (status != STATUS_OK) {
        return status;
    }
    const struct shape *x = op_in_shape(network, node, 0);
    if (attr->shape.rank != x->rank || !shape_count_checked(&attr->shape, &count)) {
        return op_refuse(node, error, STATUS_INVALID, "got a result of rank %zu, expected %zu", attr->shape.rank,
                         x->rank);
    }
    if (attr->shape.dim[0] != x->dim[0] || attr->slice_start[0] != 0 || attr->slice_step[0] != 1) {
        return op_refuse(node, error, STATUS_UNSUPPORTED, "got a part of the batch axis, expected all of it");
    }
    for (size_t d = 1; d < x->rank; d++) {
        size_t start = attr->slice_start[d], steps = attr->shape.dim[d] - 1;
        ptrdiff_t step = attr->slice_step[d];
        size_t stride = step < 0 ? 0 - (size_t)step : (size_t)step;
        size_t room = step < 0 ? start : x->dim[d] - 1 - start;
        if (attr->shape.dim[d] == 0 || step == PTRDIFF_MIN || start >= x->dim[d] ||
            (stride > 0 && steps > room / stride)) {
            return op_refuse(node, error, STATUS_INVALID,
                             "got %zu elements from %zu by %td of axis %zu, expected some of its %zu",
                             attr->shape.dim[d], start, step, d, x->dim[d]);
        }
    }
    *out = attr->shape;
    return STATUS_OK;
}

struct slice_walk {
    size_t rank;
    size_t extent[SHAPE_RANK_MAX];  /* of the output */
    ptrdiff_t step[SHAPE_RANK_MAX]; /* floats that the input moves a step of an output axis */
    size_t first;                   /* offset of the output's first element */
};

static struct slice_walk make_walk(const struct op_args *args) {
    const struct shape *x = op_in_shape(args->network, args->node, 0);
    const struct op_attr *attr = &args->node->attr;
    struct slice_walk walk = {.rank = x->rank};

    for (size_t d = 0; d < x->rank; d++) {
        size_t stride = shape_count_from(x, d + 1);
        walk.extent[d] = attr->shape.dim[d] * (d == 0 ? args->n : 1);
        walk.step[d] = attr->slice_step[d] * (ptrdiff_t)stride;
        walk.first += attr->slice_start[d] * stride;
    }
    return walk;
}

/* Moves to the next row of the last axis; false after the last. */
static bool next_row(const struct slice_walk *walk, size_t *index, ptrdiff_t *at) {
    for (size_t d = walk->rank - 1; d-- > 0;) {
        *at += walk->step[d];
        if (++index[d] < walk->extent[d]) {
            return true;
        }
        *at -= walk->step[d] * (ptrdiff_t)walk->extent[d];
        index[d] = 0;
    }
    return false;
}

static void slice_forward(const struct op_args *args) {
    const struct slice_walk walk = make_walk(args);
    const size_t length = walk.extent[walk.rank - 1];
    const ptrdiff_t step = walk.step[walk.rank - 1];
    size_t index[SHAPE_RANK_MAX] = {0};
    ptrdiff_t at = (ptrdiff_t)walk.first;
    float *y = args->out;

    do {
        const float *x = args->in[0] + at;
        for (size_t i = 0; i < length; i++) {
            y[i] = x[(ptrdiff_t)i * step];
        }
        y += length;
    } while (next_row(&walk, index, &at));
}

static void slice_backward(const struct op_args *args) {
    const struct slice_walk walk = make_walk(args);
    const size_t length = walk.extent[walk.rank - 1];
    const ptrdiff_t step = walk.step[walk.rank - 1];
    size_t index[SHAPE_RANK_MAX] = {0};
    ptrdiff_t at = (ptrdiff_t)walk.first;
    const float *dy = args->dout;

    if (args->din[0] == NULL) {
        return;
    }
    if (!args->accumulate[0]) {
        memset(args->din[0], 0, op_in_count(args, 0) * sizeof(float));
    }
    do {
        float *dx = args->din[0] + at;
        for (size_t i = 0; i < length; i++) {
            dx[(ptrdiff_t)i * step] += dy[i];
        }
        dy += length;
    } while (next_row(&walk, index, &at));
}

const struct op op_row_slice = {
    .name = "Slice", .infer = slice_infer, .forward = slice_forward, .backward = slice_backward};
