/* Activations, arithmetic with broadcasting, Softmax, ReduceMean: operators that work value by value or along axes. */
#include <float.h>

#include "server/onnx/onnx_lower.h"

static enum status emit_unary(struct lower *lower, enum op_kind op, const struct op_attr *attr) {
    size_t x = NETWORK_NONE;
    enum status status = lower_arity(lower, 1, 1);
    if (status == STATUS_OK) {
        status = lower_value(lower, 0, &x);
    }
    return status != STATUS_OK ? status : lower_emit(lower, op, &x, 1, attr);
}

enum status lower_relu(struct lower *lower) {
    return emit_unary(lower, OP_RELU, &(struct op_attr){0});
}

enum status lower_leaky_relu(struct lower *lower) {
    struct op_attr attr = {0};
    enum status status = lower_attr_float(lower, "alpha", 0.01F, &attr.alpha);
    return status != STATUS_OK ? status : emit_unary(lower, OP_LEAKY_RELU, &attr);
}

/* The bounds are attributes before opset 11, inputs since. */
enum status lower_clip(struct lower *lower) {
    struct op_attr attr = {0};
    size_t x = NETWORK_NONE;
    bool as_inputs = lower->opset >= 11;
    if (as_inputs && lower->node->n_attribute > 0) {
        return lower_refuse(lower, STATUS_INVALID, "got attributes in opset %lld, expected inputs",
                            (long long)lower->opset);
    }
    enum status status = lower_arity(lower, 1, as_inputs ? 3 : 1);
    if (status == STATUS_OK) {
        status = lower_value(lower, 0, &x);
    }
    if (status == STATUS_OK) {
        status = as_inputs ? lower_scalar(lower, 1, -FLT_MAX, &attr.low)
                           : lower_attr_float(lower, "min", -FLT_MAX, &attr.low);
    }
    if (status == STATUS_OK) {
        status = as_inputs ? lower_scalar(lower, 2, FLT_MAX, &attr.high)
                           : lower_attr_float(lower, "max", FLT_MAX, &attr.high);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (attr.low > attr.high) {
        return lower_refuse(lower, STATUS_INVALID, "got bounds %g and %g, expected the lower one first",
                            (double)attr.low, (double)attr.high);
    }
    return lower_emit(lower, OP_CLIP, &x, 1, &attr);
}

enum status lower_sigmoid(struct lower *lower) {
    return emit_unary(lower, OP_SIGMOID, &(struct op_attr){0});
}

enum status lower_tanh(struct lower *lower) {
    return emit_unary(lower, OP_TANH, &(struct op_attr){0});
}

enum status lower_hard_sigmoid(struct lower *lower) {
    struct op_attr attr = {0};
    enum status status = lower_attr_float(lower, "alpha", 0.2F, &attr.alpha);
    if (status == STATUS_OK) {
        status = lower_attr_float(lower, "beta", 0.5F, &attr.beta);
    }
    return status != STATUS_OK ? status : emit_unary(lower, OP_HARD_SIGMOID, &attr);
}

enum status lower_hard_swish(struct lower *lower) {
    return emit_unary(lower, OP_HARD_SWISH, &(struct op_attr){0});
}

/* Before opset 13 Softmax works on the input as a matrix, all axes from `axis` on taken together; that is the same only
 * if those after `axis` have size 1. */
enum status lower_softmax(struct lower *lower) {
    struct op_attr attr = {0};
    size_t x = NETWORK_NONE;
    int64_t axis = 0;
    enum status status = lower_arity(lower, 1, 1);
    if (status == STATUS_OK) {
        status = lower_value(lower, 0, &x);
    }
    if (status == STATUS_OK) {
        status = lower_attr_int(lower, "axis", lower->opset < 13 ? 1 : -1, &axis);
    }
    if (status == STATUS_OK) {
        status = lower_axis(lower, axis, lower_shape(lower, x)->rank, &attr.axis);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (attr.axis == 0 || (lower->opset < 13 && shape_count_from(lower_shape(lower, x), attr.axis + 1) != 1)) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got axis %zu, expected one axis that is not the batch",
                            attr.axis);
    }
    return lower_emit(lower, OP_SOFTMAX, &x, 1, &attr);
}

/* Broadcasting aligns the last axes. The batch is the first one, so every value that has it must have as many axes as
 * the result, and a constant of that many must not vary along it. */
static enum status check_broadcast(struct lower *lower, const size_t inputs[2]) {
    const struct shape *shapes[2] = {lower_shape(lower, inputs[0]), lower_shape(lower, inputs[1])};
    struct shape out = {0};
    char text[2][SHAPE_TEXT_SIZE];
    if (!shape_broadcast(shapes[0], shapes[1], &out)) {
        return lower_refuse(lower, STATUS_INVALID, "got shapes %s and %s, expected shapes that broadcast",
                            shape_text(shapes[0], text[0]), shape_text(shapes[1], text[1]));
    }
    for (size_t i = 0; i < 2; i++) {
        bool constant = lower->network->values[inputs[i]].kind == VALUE_CONSTANT;
        bool fits = constant ? shapes[i]->rank < out.rank || shapes[i]->dim[0] == 1 : shapes[i]->rank == out.rank;
        if (out.rank == 0 || !fits) {
            return lower_refuse(lower, STATUS_UNSUPPORTED,
                                "got shapes %s and %s for one sample, expected the batch to stay the first dimension",
                                shape_text(shapes[0], text[0]), shape_text(shapes[1], text[1]));
        }
    }
    return STATUS_OK;
}

static enum status lower_arithmetic(struct lower *lower, enum op_kind op) {
    size_t inputs[2] = {NETWORK_NONE, NETWORK_NONE};
    enum status status = lower_arity(lower, 2, 2);
    if (status != STATUS_OK) {
        return status;
    }
    if (lower_all_constant(lower)) {
        return fold_arithmetic(lower, op);
    }
    status = lower_operand(lower, 0, &inputs[0]);
    if (status == STATUS_OK) {
        status = lower_operand(lower, 1, &inputs[1]);
    }
    if (status == STATUS_OK) {
        status = check_broadcast(lower, inputs);
    }
    return status != STATUS_OK ? status : lower_emit(lower, op, inputs, 2, &(struct op_attr){0});
}

enum status lower_add(struct lower *lower) {
    return lower_arithmetic(lower, OP_ADD);
}

enum status lower_sub(struct lower *lower) {
    return lower_arithmetic(lower, OP_SUB);
}

enum status lower_mul(struct lower *lower) {
    return lower_arithmetic(lower, OP_MUL);
}

enum status lower_div(struct lower *lower) {
    return lower_arithmetic(lower, OP_DIV);
}

/* The axes are an attribute before opset 18, an input since. No axes at all means all of them, the batch included. */
static enum status read_axes(struct lower *lower, const int64_t **axes, size_t *count) {
    if (lower->opset < 18) {
        return lower_attr_ints(lower, "axes", axes, count);
    }
    *axes = NULL;
    *count = 0;
    if (!lower_has_input(lower, 1)) {
        return STATUS_OK;
    }
    const struct onnx_constant *constant = NULL;
    enum status status = lower_integers(lower, 1, &constant);
    if (status == STATUS_OK) {
        *axes = constant->integers;
        *count = constant->count;
    }
    return status;
}

enum status lower_reduce_mean(struct lower *lower) {
    struct op_attr attr = {0};
    size_t x = NETWORK_NONE;
    const int64_t *axes = NULL;
    size_t count = 0;
    bool chosen[SHAPE_RANK_MAX] = {false}, noop = false;
    enum status status = lower_arity(lower, 1, lower->opset < 18 ? 1 : 2);
    if (status == STATUS_OK) {
        status = lower_value(lower, 0, &x);
    }
    if (status == STATUS_OK) {
        status = read_axes(lower, &axes, &count);
    }
    if (status == STATUS_OK) {
        status = lower_attr_bool(lower, "keepdims", true, &attr.keep_dims);
    }
    if (status == STATUS_OK) {
        status = lower_attr_bool(lower, "noop_with_empty_axes", false, &noop);
    }
    if (status == STATUS_OK && count == 0 && noop) {
        return lower_emit(lower, OP_IDENTITY, &x, 1, &attr);
    }
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        size_t axis = 0;
        status = lower_axis(lower, axes[i], lower_shape(lower, x)->rank, &axis);
        if (status == STATUS_OK && chosen[axis]) {
            status = lower_refuse(lower, STATUS_INVALID, "got axis %zu twice, expected it once", axis);
        }
        chosen[axis] = true;
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (chosen[0] || count == 0) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got a mean over the batch, expected one within each sample");
    }
    for (size_t i = 0; i < SHAPE_RANK_MAX; i++) {
        if (chosen[i]) {
            attr.axes[attr.axes_count++] = i;
        }
    }
    return lower_emit(lower, OP_REDUCE_MEAN, &x, 1, &attr);
}
