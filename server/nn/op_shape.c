/* Rows that move data and compute nothing: Identity, Reshape, Transpose, Pad. */
#include <string.h>

#include "server/nn/kernels.h"
#include "server/nn/op_rows.h"

static void copy_forward(const struct op_args *args) {
    op_give(op_out_count(args), args->in[0], args->out, false);
}

static void copy_backward(const struct op_args *args) {
    if (args->din[0] != NULL) {
        op_give(op_out_count(args), args->dout, args->din[0], args->accumulate[0]);
    }
}

static enum status reshape_infer(const struct network *network, const struct node *node, struct shape *out,
                                 struct error *error) {
    size_t count = 0;
    enum status status = op_infer_same(network, node, out, error);

    if (status != STATUS_OK) {
        return status;
    }
    const struct shape *to = &node->attr.shape;
    if (to->rank < 1 || to->rank > SHAPE_RANK_MAX || !shape_count_checked(to, &count) || count != shape_count(out)) {
        char from_text[SHAPE_TEXT_SIZE], to_text[SHAPE_TEXT_SIZE];
        return op_refuse(node, error, STATUS_INVALID, "got shape %s for an input of shape %s, expected as many values",
                         to->rank <= SHAPE_RANK_MAX ? shape_text(to, to_text) : "of too many dimensions",
                         shape_text(out, from_text));
    }
    *out = *to;
    return STATUS_OK;
}

static enum status transpose_infer(const struct network *network, const struct node *node, struct shape *out,
                                   struct error *error) {
    bool seen[SHAPE_RANK_MAX] = {false};
    enum status status = op_infer_same(network, node, out, error);

    if (status != STATUS_OK) {
        return status;
    }
    const struct shape *x = op_in_shape(network, node, 0);
    if (node->attr.axes_count != x->rank) {
        return op_refuse(node, error, STATUS_INVALID, "got a permutation of %zu axes, expected %zu",
                         node->attr.axes_count, x->rank);
    }
    for (size_t d = 0; d < x->rank; d++) {
        size_t axis = node->attr.axes[d];
        if (axis >= x->rank || seen[axis]) {
            return op_refuse(node, error, STATUS_INVALID, "got axis %zu at place %zu, expected a permutation", axis, d);
        }
        seen[axis] = true;
        out->dim[d] = x->dim[axis];
    }
    if (node->attr.axes[0] != 0) {
        return op_refuse(node, error, STATUS_UNSUPPORTED, "got axis %zu at place 0, expected the batch axis",
                         node->attr.axes[0]);
    }
    return STATUS_OK;
}

/* Walks the output of a transposition in order, row by row of its last axis, with the input's offset of each row. */
struct transpose_walk {
    size_t rank;
    size_t extent[SHAPE_RANK_MAX];
    size_t step[SHAPE_RANK_MAX]; /* floats that the input moves a step of the output's axis */
};

static struct transpose_walk transpose_walk(const struct op_args *args) {
    const struct shape *x = op_in_shape(args->network, args->node, 0);
    struct transpose_walk walk = {.rank = x->rank};

    for (size_t d = 0; d < x->rank; d++) {
        size_t axis = args->node->attr.axes[d];
        walk.extent[d] = x->dim[axis] * (d == 0 ? args->n : 1);
        walk.step[d] = shape_count_from(x, axis + 1);
    }
    return walk;
}

static bool transpose_next(const struct transpose_walk *walk, size_t *index, size_t *at) {
    for (size_t d = walk->rank - 1; d-- > 0;) {
        *at += walk->step[d];
        if (++index[d] < walk->extent[d]) {
            return true;
        }
        *at -= walk->step[d] * walk->extent[d];
        index[d] = 0;
    }
    return false;
}

static void transpose_forward(const struct op_args *args) {
    const struct transpose_walk walk = transpose_walk(args);
    const size_t length = walk.extent[walk.rank - 1], step = walk.step[walk.rank - 1];
    size_t index[SHAPE_RANK_MAX] = {0};
    size_t at = 0;
    float *y = args->out;

    do {
        const float *x = args->in[0] + at;
        for (size_t i = 0; i < length; i++, x += step) {
            *y++ = *x;
        }
    } while (transpose_next(&walk, index, &at));
}

static void transpose_backward(const struct op_args *args) {
    const struct transpose_walk walk = transpose_walk(args);
    const size_t length = walk.extent[walk.rank - 1], step = walk.step[walk.rank - 1];
    size_t index[SHAPE_RANK_MAX] = {0};
    size_t at = 0;
    const float *dy = args->dout;

    if (args->din[0] == NULL) {
        return;
    }
    do {
        float *dx = args->din[0] + at;
        for (size_t i = 0; i < length; i++, dx += step, dy++) {
            *dx = args->accumulate[0] ? *dx + *dy : *dy;
        }
    } while (transpose_next(&walk, index, &at));
}

static enum status pad_infer(const struct network *network, const struct node *node, struct shape *out,
                             struct error *error) {
    enum status status = op_infer_same(network, node, out, error);

    if (status != STATUS_OK) {
        return status;
    }
    for (size_t d = 0; d < out->rank; d++) {
        size_t begin = node->attr.pad_begin[d], end = node->attr.pad_end[d];
        if (d == 0 && (begin != 0 || end != 0)) {
            return op_refuse(node, error, STATUS_UNSUPPORTED, "got pads %zu and %zu on the batch axis, expected none",
                             begin, end);
        }
        if (begin > OP_WINDOW_MAX || end > OP_WINDOW_MAX || out->dim[d] > SIZE_MAX / 4) {
            return op_refuse(node, error, STATUS_LIMIT, "got pads %zu and %zu on axis %zu, expected at most %d", begin,
                             end, d, OP_WINDOW_MAX);
        }
        out->dim[d] += begin + end;
    }
    return STATUS_OK;
}

/* Where row `row` (of the last axis, over all samples) of the unpadded tensor begins in the padded one. */
static size_t padded_offset(const struct op_args *args, const struct shape *inner, const struct shape *outer,
                            size_t row) {
    size_t stride = outer->dim[outer->rank - 1];
    size_t offset = args->node->attr.pad_begin[outer->rank - 1];

    for (size_t d = outer->rank - 1; d-- > 0;) {
        /* Axis 0 has the samples of the chunk as well, and no pads: all that is left of `row` is its index. */
        size_t index = d == 0 ? row : row % inner->dim[d];
        row /= inner->dim[d];
        offset += (index + args->node->attr.pad_begin[d]) * stride;
        stride *= outer->dim[d];
    }
    return offset;
}

static void pad_forward(const struct op_args *args) {
    const struct shape *inner = op_in_shape(args->network, args->node, 0);
    const struct shape *outer = &args->network->values[args->node->output].shape;
    const size_t length = inner->rank > 1 ? inner->dim[inner->rank - 1] : op_in_count(args, 0);
    const size_t rows = op_in_count(args, 0) / length;

    kernels()->fill(op_out_count(args), args->node->attr.pad_value, args->out);
    for (size_t row = 0; row < rows; row++) {
        memcpy(args->out + padded_offset(args, inner, outer, row), args->in[0] + row * length, length * sizeof(float));
    }
}

static void pad_backward(const struct op_args *args) {
    const struct shape *inner = op_in_shape(args->network, args->node, 0);
    const struct shape *outer = &args->network->values[args->node->output].shape;
    const size_t length = inner->rank > 1 ? inner->dim[inner->rank - 1] : op_in_count(args, 0);
    const size_t rows = op_in_count(args, 0) / length;

    for (size_t row = 0; row < rows && args->din[0] != NULL; row++) {
        op_give(length, args->dout + padded_offset(args, inner, outer, row), args->din[0] + row * length,
                args->accumulate[0]);
    }
}

const struct op op_row_identity = {.name = "Identity",
                                   .flags = OP_MAY_ALIAS,
                                   .infer = op_infer_same,
                                   .forward = copy_forward,
                                   .backward = copy_backward};
const struct op op_row_reshape = {.name = "Reshape",
                                  .flags = OP_MAY_ALIAS,
                                  .infer = reshape_infer,
                                  .forward = copy_forward,
                                  .backward = copy_backward};
const struct op op_row_transpose = {
    .name = "Transpose", .infer = transpose_infer, .forward = transpose_forward, .backward = transpose_backward};
const struct op op_row_pad = {.name = "Pad", .infer = pad_infer, .forward = pad_forward, .backward = pad_backward};
