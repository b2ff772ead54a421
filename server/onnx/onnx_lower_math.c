/* Activations, arithmetic with broadcasting, Softmax, ReduceMean: operators that work value by value or along axes. */
#include <float.h>
#include <math.h>
#include <stdint.h>

#include "server/onnx/onnx_lower.h"

static enum status emit_unary(struct lower *lower, enum op_kind op, const struct op_attr *attr) {
    struct lower_view x;
    enum status status = lower_arity(lower, 1, 1);
    if (status == STATUS_OK) {
        status = lower_view(lower, 0, &x);
    }
    return status != STATUS_OK ? status : lower_emit_in(lower, op, &x.value, 1, attr, &x.layout);
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
    struct lower_view x;
    bool as_inputs = lower->opset >= 11;
    if (as_inputs && lower->node->n_attribute > 0) {
        return lower_refuse(lower, STATUS_INVALID, "got attributes in opset %lld, expected inputs",
                            (long long)lower->opset);
    }
    enum status status = lower_arity(lower, 1, as_inputs ? 3 : 1);
    if (status == STATUS_OK) {
        status = lower_view(lower, 0, &x);
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
    return lower_emit_in(lower, OP_CLIP, &x.value, 1, &attr, &x.layout);
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

enum status lower_elu(struct lower *lower) {
    struct op_attr attr = {.beta = 1.0F};
    enum status status = lower_attr_float(lower, "alpha", 1.0F, &attr.alpha);
    return status != STATUS_OK ? status : emit_unary(lower, OP_ELU, &attr);
}

enum status lower_selu(struct lower *lower) {
    struct op_attr attr = {0};
    enum status status = lower_attr_float(lower, "alpha", 1.67326319217681884765625F, &attr.alpha);
    if (status == STATUS_OK) {
        status = lower_attr_float(lower, "gamma", 1.05070102214813232421875F, &attr.beta);
    }
    return status != STATUS_OK ? status : emit_unary(lower, OP_ELU, &attr);
}

enum status lower_softplus(struct lower *lower) {
    return emit_unary(lower, OP_SOFTPLUS, &(struct op_attr){0});
}

enum status lower_mish(struct lower *lower) {
    return emit_unary(lower, OP_MISH, &(struct op_attr){0});
}

/* Those that exporters write over constants as well. */
static enum status unary_or_fold(struct lower *lower, enum op_kind op, float (*function)(float)) {
    return lower_all_constant(lower) ? fold_unary(lower, function) : emit_unary(lower, op, &(struct op_attr){0});
}

static float negative(float x) {
    return -x;
}

static float inverse(float x) {
    return 1.0F / x;
}

enum status lower_erf(struct lower *lower) {
    return unary_or_fold(lower, OP_ERF, erff);
}

enum status lower_sqrt(struct lower *lower) {
    return unary_or_fold(lower, OP_SQRT, sqrtf);
}

enum status lower_exp(struct lower *lower) {
    return unary_or_fold(lower, OP_EXP, expf);
}

enum status lower_log(struct lower *lower) {
    return unary_or_fold(lower, OP_LOG, logf);
}

enum status lower_neg(struct lower *lower) {
    return unary_or_fold(lower, OP_NEG, negative);
}

enum status lower_abs(struct lower *lower) {
    return unary_or_fold(lower, OP_ABS, fabsf);
}

enum status lower_reciprocal(struct lower *lower) {
    return unary_or_fold(lower, OP_RECIPROCAL, inverse);
}

/* Rounding has no gradient; it is met only around the sizes of a Resize. */
static enum status fold_only(struct lower *lower, float (*function)(float)) {
    if (lower_all_constant(lower)) {
        return fold_unary(lower, function);
    }
    enum status status = lower_arity(lower, 1, 1);
    return status != STATUS_OK ? status
                               : lower_refuse(lower, STATUS_UNSUPPORTED, "got a computed value, expected a constant");
}

enum status lower_floor(struct lower *lower) {
    return fold_only(lower, floorf);
}

enum status lower_ceil(struct lower *lower) {
    return fold_only(lower, ceilf);
}

/* Before opset 13 Softmax works on the input as a matrix, all axes from `axis` on taken together: a Reshape before and
 * after it, unless those after `axis` have size 1. */
static enum status emit_softmax(struct lower *lower, enum op_kind op) {
    struct op_attr attr = {0};
    struct lower_view x;
    size_t view = 0, y = 0, back = 0;
    int64_t axis = 0;
    enum status status = lower_arity(lower, 1, 1);
    if (status == STATUS_OK) {
        status = lower_view(lower, 0, &x);
    }
    if (status == STATUS_OK) {
        status = lower_attr_int(lower, "axis", lower->opset < 13 ? 1 : -1, &axis);
    }
    if (status == STATUS_OK) {
        status = lower_axis(lower, axis, x.shape.rank, &attr.axis);
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct shape shape = *lower_shape(lower, x.value);
    bool alone = lower->opset >= 13 || shape_count_from(&x.shape, attr.axis + 1) == 1;
    bool on_batch =
        attr.axis == x.layout.axis || (!alone && x.layout.axis != LOWER_HIDDEN && attr.axis < x.layout.axis);
    attr.axis = lower_our_axis(&x.layout, attr.axis);
    if (on_batch) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got the batch's axis, expected one that is not the batch");
    }
    bool classes = attr.axis == 1 && shape.rank == 2 && lower_is_plain(&x.layout);
    if (op == OP_SOFTMAX && classes && lower->index == lower->final_softmax) {
        lower->ends.probabilities = true;
        return lower_bind_value(lower, x.value);
    }
    if (alone) {
        return lower_emit_in(lower, op, &x.value, 1, &attr, &x.layout);
    }
    size_t together = shape_count_from(&shape, attr.axis);
    struct shape rows = {.rank = 3, .dim = {1, shape_count(&shape) / together, together}};
    attr.axis = 2;
    status = lower_reshaped(lower, x.value, &rows, &view);
    if (status == STATUS_OK) {
        status = lower_step(lower, op, &view, 1, &attr, &y);
    }
    if (status == STATUS_OK) {
        status = lower_reshaped(lower, y, &shape, &back);
    }
    return status != STATUS_OK ? status : lower_bind_output(lower, 0, back, &x.layout);
}

enum status lower_softmax(struct lower *lower) {
    return emit_softmax(lower, OP_SOFTMAX);
}

enum status lower_log_softmax(struct lower *lower) {
    return emit_softmax(lower, OP_LOG_SOFTMAX);
}

static bool is_constant(const struct lower *lower, size_t value) {
    return lower->network->values[value].kind == VALUE_CONSTANT;
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
        bool fits = is_constant(lower, inputs[i]) ? shapes[i]->rank < out.rank || shapes[i]->dim[0] == 1
                                                  : shapes[i]->rank == out.rank;
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
    struct lower_view like;
    enum status status = lower_arity(lower, 2, 2);
    if (status != STATUS_OK) {
        return status;
    }
    if (lower_all_constant(lower)) {
        return fold_arithmetic(lower, op);
    }
    status = lower_aligned(lower, 0, 2, inputs, &like);
    if (status == STATUS_OK) {
        status = check_broadcast(lower, inputs);
    }
    return status != STATUS_OK ? status : lower_emit_in(lower, op, inputs, 2, &(struct op_attr){0}, &like.layout);
}

/* Sum, Min and Max take any number of inputs: one after the other, from a computed one on, since no node has constants alone. */
static enum status lower_variadic(struct lower *lower, enum op_kind op) {
    size_t count = lower->node->n_input;
    struct lower_view like;
    enum status status = lower_arity(lower, 1, SIZE_MAX);
    if (status == STATUS_OK && count == 2) {
        return lower_arithmetic(lower, op);
    }
    size_t *inputs = arena_alloc(lower->arena, count, sizeof *inputs);
    if (status == STATUS_OK && inputs == NULL) {
        return error_no_memory(lower->error, "the inputs of a node");
    }
    if (status == STATUS_OK) {
        status = lower_aligned(lower, 0, count, inputs, &like);
    }
    for (size_t i = 1; status == STATUS_OK && i < count && is_constant(lower, inputs[0]); i++) {
        size_t first = inputs[0];
        inputs[0] = inputs[i];
        inputs[i] = first;
    }
    for (size_t i = 1; status == STATUS_OK && i < count; i++) {
        size_t pair[2] = {inputs[i - 1], inputs[i]};
        status = check_broadcast(lower, pair);
        if (status == STATUS_OK) {
            status = lower_step(lower, op, pair, 2, &(struct op_attr){0}, &inputs[i]);
        }
    }
    return status != STATUS_OK ? status : lower_bind_output(lower, 0, inputs[count - 1], &like.layout);
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

enum status lower_pow(struct lower *lower) {
    return lower_arithmetic(lower, OP_POW);
}

enum status lower_prelu(struct lower *lower) {
    return lower_all_constant(lower)
               ? lower_refuse(lower, STATUS_UNSUPPORTED, "got constants, expected a computed value")
               : lower_arithmetic(lower, OP_PRELU);
}

enum status lower_min(struct lower *lower) {
    return lower_variadic(lower, OP_MIN);
}

enum status lower_max(struct lower *lower) {
    return lower_variadic(lower, OP_MAX);
}

enum status lower_sum(struct lower *lower) {
    return lower_variadic(lower, OP_ADD);
}

/* The axes are an attribute before opset `as_input`, an input since. No axes at all means all of them, the batch included. */
static enum status read_axes(struct lower *lower, int64_t as_input, const int64_t **axes, size_t *count) {
    if (lower->opset < as_input) {
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

static enum status emit_reduce(struct lower *lower, enum op_kind op, int64_t as_input) {
    struct op_attr attr = {0};
    struct lower_view x;
    const int64_t *axes = NULL;
    size_t count = 0;
    size_t dropped = 0;
    bool chosen[SHAPE_RANK_MAX] = {false}, noop = false;
    enum status status = lower_arity(lower, 1, lower->opset < as_input ? 1 : 2);
    if (status == STATUS_OK) {
        status = lower_view(lower, 0, &x);
    }
    if (status == STATUS_OK) {
        status = read_axes(lower, as_input, &axes, &count);
    }
    if (status == STATUS_OK) {
        status = lower_attr_bool(lower, "keepdims", true, &attr.keep_dims);
    }
    if (status == STATUS_OK) {
        status = lower_attr_bool(lower, "noop_with_empty_axes", false, &noop);
    }
    if (status == STATUS_OK && count == 0 && noop) {
        return lower_emit_in(lower, OP_IDENTITY, &x.value, 1, &attr, &x.layout);
    }
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        size_t axis = 0;
        status = lower_axis_once(lower, axes[i], x.shape.rank, chosen, &axis);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (count == 0 || (x.layout.axis != LOWER_HIDDEN && chosen[x.layout.axis])) {
        return lower_refuse(lower, STATUS_UNSUPPORTED,
                            "got a reduction over the batch, expected one within each sample");
    }
    for (size_t i = 0; i < SHAPE_RANK_MAX; i++) {
        if (chosen[i]) {
            attr.axes[attr.axes_count++] = lower_our_axis(&x.layout, i);
            dropped += !attr.keep_dims && x.layout.axis != LOWER_HIDDEN && i < x.layout.axis;
        }
    }
    x.layout.axis -= dropped;
    return lower_emit_in(lower, op, &x.value, 1, &attr, &x.layout);
}

enum status lower_reduce_mean(struct lower *lower) {
    return emit_reduce(lower, OP_REDUCE_MEAN, 18);
}

enum status lower_reduce_sum(struct lower *lower) {
    return emit_reduce(lower, OP_REDUCE_SUM, 13);
}

enum status lower_reduce_max(struct lower *lower) {
    return emit_reduce(lower, OP_REDUCE_MAX, 18);
}
