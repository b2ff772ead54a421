/* The checks that the infer functions share, so that each rule and each message is written once. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/nn/op_rows.h"

enum status op_refuse(const struct node *node, struct error *error, enum status status, const char *format, ...) {
    char where[ERROR_WHERE_MAX];
    char text[ERROR_MESSAGE_MAX];
    va_list list;

    snprintf(where, sizeof where, "node '%s'", node->name != NULL ? node->name : "");
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    return error_set(error, status, where, "failed to infer the shape of %s: %s", op_kind_name(node->op), text);
}

const struct shape *op_in_shape(const struct network *network, const struct node *node, size_t i) {
    return &network->values[node->inputs[i]].shape;
}

bool op_has_input(const struct node *node, size_t i) {
    return i < node->input_count && node->inputs[i] != NETWORK_NONE;
}

enum status op_check_arity(const struct network *network, const struct node *node, size_t min, size_t max,
                           struct error *error) {
    if (node->input_count < min || node->input_count > max) {
        return op_refuse(node, error, STATUS_INVALID, "got %zu inputs, expected %zu to %zu", node->input_count, min,
                         max);
    }
    for (size_t i = 0; i < node->input_count; i++) {
        if (node->inputs[i] == NETWORK_NONE) {
            if (i < min) {
                return op_refuse(node, error, STATUS_INVALID, "got no input %zu, expected one", i);
            }
        } else if (node->inputs[i] >= network->value_count) {
            return op_refuse(node, error, STATUS_INTERNAL, "got value %zu as input %zu, expected less than %zu",
                             node->inputs[i], i, network->value_count);
        }
    }
    return STATUS_OK;
}

enum status op_check_data(const struct network *network, const struct node *node, size_t i, size_t min_rank,
                          struct error *error) {
    const struct value *value = &network->values[node->inputs[i]];

    if (value->kind == VALUE_CONSTANT) {
        return op_refuse(node, error, STATUS_UNSUPPORTED, "got a constant as input %zu, expected a computed value", i);
    }
    if (value->shape.rank < min_rank) {
        char text[SHAPE_TEXT_SIZE];
        return op_refuse(node, error, STATUS_INVALID, "got shape %s as input %zu, expected rank %zu or more",
                         shape_text(&value->shape, text), i, min_rank);
    }
    return STATUS_OK;
}

enum status op_check_vector(const struct network *network, const struct node *node, size_t i, size_t count,
                            const char *what, struct error *error) {
    const struct value *value = &network->values[node->inputs[i]];

    if (value->kind != VALUE_CONSTANT) {
        return op_refuse(node, error, STATUS_UNSUPPORTED, "got a computed %s, expected a constant", what);
    }
    if (value->shape.rank != 1 || value->shape.dim[0] != count) {
        char text[SHAPE_TEXT_SIZE];
        return op_refuse(node, error, STATUS_INVALID, "got %s of shape %s, expected [%zu]", what,
                         shape_text(&value->shape, text), count);
    }
    return STATUS_OK;
}

enum status op_check_window(const struct node *node, const struct shape *in, size_t out[2], struct error *error) {
    static const char *const side[2] = {"height", "width"};
    const struct window_attr *w = &node->attr.window;

    for (size_t d = 0; d < 2; d++) {
        size_t input = in->dim[2 + d];

        if (w->kernel[d] < 1 || w->stride[d] < 1 || w->dilation[d] < 1) {
            return op_refuse(node, error, STATUS_INVALID,
                             "got kernel %zu, stride %zu, dilation %zu in %s, expected at least 1 each", w->kernel[d],
                             w->stride[d], w->dilation[d], side[d]);
        }
        if (w->kernel[d] > OP_WINDOW_MAX || w->stride[d] > OP_WINDOW_MAX || w->dilation[d] > OP_WINDOW_MAX ||
            w->pad_begin[d] > OP_WINDOW_MAX || w->pad_end[d] > OP_WINDOW_MAX || input > SIZE_MAX / 4) {
            return op_refuse(node, error, STATUS_LIMIT,
                             "got kernel %zu, stride %zu, dilation %zu, pads %zu and %zu in %s, expected at most %d",
                             w->kernel[d], w->stride[d], w->dilation[d], w->pad_begin[d], w->pad_end[d], side[d],
                             OP_WINDOW_MAX);
        }
        size_t span = (w->kernel[d] - 1) * w->dilation[d] + 1;
        size_t padded = input + w->pad_begin[d] + w->pad_end[d];
        if (span > padded) {
            return op_refuse(node, error, STATUS_INVALID,
                             "got a window of %zu in %s, expected at most the padded input's %zu", span, side[d],
                             padded);
        }
        out[d] = (padded - span) / w->stride[d] + 1;
        /* A last, partial window counts only if it begins before the end padding (as PyTorch and ONNX 1.16 have it). */
        if (w->ceil_mode && (padded - span) % w->stride[d] != 0 && out[d] * w->stride[d] < input + w->pad_begin[d]) {
            out[d]++;
        }
    }
    return STATUS_OK;
}

enum status op_infer_same(const struct network *network, const struct node *node, struct shape *out,
                          struct error *error) {
    enum status status = op_check_arity(network, node, 1, 1, error);

    if (status == STATUS_OK) {
        status = op_check_data(network, node, 0, 1, error);
    }
    if (status == STATUS_OK) {
        *out = *op_in_shape(network, node, 0);
    }
    return status;
}

size_t op_in_count(const struct op_args *args, size_t i) {
    const struct value *value = &args->network->values[args->node->inputs[i]];

    return shape_count(&value->shape) * (value->kind == VALUE_CONSTANT ? 1 : args->n);
}

size_t op_out_count(const struct op_args *args) {
    return shape_count(&args->network->values[args->node->output].shape) * args->n;
}

void op_give(size_t count, const float *src, float *dst, bool accumulate) {
    if (accumulate) {
        for (size_t i = 0; i < count; i++) {
            dst[i] += src[i];
        }
    } else if (dst != src) {
        memcpy(dst, src, count * sizeof *dst);
    }
}
