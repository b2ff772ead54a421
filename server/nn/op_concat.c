/* Concat along any axis but the batch. A constant part (the class token of a transformer) is the same for every sample. */
#include <string.h>

#include "server/nn/op_rows.h"

static enum status concat_infer(const struct network *network, const struct node *node, struct shape *out,
                                struct error *error) {
    const size_t axis = node->attr.axis;
    enum status status = op_check_arity(network, node, 1, SIZE_MAX, error);

    for (size_t i = 0; i < node->input_count && status == STATUS_OK; i++) {
        if (node->inputs[i] == NETWORK_NONE) {
            return op_refuse(node, error, STATUS_INVALID, "got no input %zu, expected one", i);
        }
        bool constant = network->values[node->inputs[i]].kind == VALUE_CONSTANT;
        if (!constant || op_in_shape(network, node, i)->rank < 2 || op_in_shape(network, node, i)->dim[0] != 1) {
            status = op_check_data(network, node, i, 2, error);
        }
    }
    if (status != STATUS_OK) {
        return status;
    }
    struct shape shape = *op_in_shape(network, node, 0);
    if (axis < 1 || axis >= shape.rank) {
        return op_refuse(node, error, STATUS_UNSUPPORTED, "got axis %zu, expected 1 to %zu", axis, shape.rank - 1);
    }
    for (size_t i = 1; i < node->input_count; i++) {
        struct shape next = *op_in_shape(network, node, i);
        size_t length = axis < next.rank ? next.dim[axis] : 0;
        bool fits = next.rank == shape.rank && length <= SIZE_MAX - shape.dim[axis];

        if (fits) {
            next.dim[axis] = shape.dim[axis];
            fits = shape_equal(&next, &shape);
        }
        if (!fits) {
            char text[SHAPE_TEXT_SIZE], first[SHAPE_TEXT_SIZE];
            return op_refuse(node, error, STATUS_INVALID, "got shape %s as input %zu, expected %s but for axis %zu",
                             shape_text(op_in_shape(network, node, i), text), i,
                             shape_text(op_in_shape(network, node, 0), first), axis);
        }
        shape.dim[axis] += length;
    }
    *out = shape;
    return STATUS_OK;
}

/* Rows of input i: those of the output, but a constant has one sample's only. */
static size_t rows_of(const struct op_args *args, size_t i, size_t rows) {
    return args->network->values[args->node->inputs[i]].kind == VALUE_CONSTANT ? rows / args->n : rows;
}

static void concat_forward(const struct op_args *args) {
    const struct shape *out = &args->network->values[args->node->output].shape;
    const size_t row = shape_count_from(out, args->node->attr.axis);
    const size_t rows = op_out_count(args) / row;
    size_t at = 0;

    for (size_t i = 0; i < args->node->input_count; i++) {
        const size_t own = rows_of(args, i, rows), part = op_in_count(args, i) / own;
        for (size_t r = 0; r < rows; r++) {
            memcpy(args->out + r * row + at, args->in[i] + r % own * part, part * sizeof(float));
        }
        at += part;
    }
}

static void concat_backward(const struct op_args *args) {
    const struct shape *out = &args->network->values[args->node->output].shape;
    const size_t row = shape_count_from(out, args->node->attr.axis);
    const size_t rows = op_out_count(args) / row;
    size_t at = 0;

    for (size_t i = 0; i < args->node->input_count; i++) {
        const size_t own = rows_of(args, i, rows), part = op_in_count(args, i) / own;
        for (size_t r = 0; r < rows && args->din[i] != NULL; r++) {
            op_give(part, args->dout + r * row + at, args->din[i] + r % own * part, args->accumulate[i]);
        }
        at += part;
    }
}

const struct op op_row_concat = {
    .name = "Concat", .infer = concat_infer, .forward = concat_forward, .backward = concat_backward};
