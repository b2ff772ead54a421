/* Constant, Identity, Dropout, Cast, Shape: where constants and shapes come from. */
#include <math.h>
#include <stdio.h>

#include "server/onnx/onnx_lower.h"
#include "server/onnx/onnx_parse.h"

static enum status constant_from_floats(struct lower *lower, const float *values, const struct shape *shape) {
    float *data = NULL;
    for (size_t i = 0; i < shape_count(shape); i++) {
        if (!isfinite(values[i])) {
            return lower_refuse(lower, STATUS_INVALID, "got %g at element %zu, expected finite numbers",
                                (double)values[i], i);
        }
    }
    enum status status = fold_floats(lower, shape, &data);
    for (size_t i = 0; status == STATUS_OK && i < shape_count(shape); i++) {
        data[i] = values[i];
    }
    return status;
}

static enum status constant_from_integers(struct lower *lower, const int64_t *values, const struct shape *shape) {
    int64_t *data = NULL, times = 0;
    enum status status = fold_integers(lower, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, shape, &data);
    for (size_t i = 0; status == STATUS_OK && i < shape_count(shape); i++) {
        if (onnx_is_batch(values[i], &times)) {
            return lower_refuse(lower, STATUS_UNSUPPORTED, "got the number %lld, which has a meaning of its own here",
                                (long long)values[i]);
        }
        data[i] = values[i];
    }
    return status;
}

static enum status constant_from_tensor(struct lower *lower, const Onnx__TensorProto *tensor) {
    struct onnx_constant *constant = arena_alloc(lower->arena, 1, sizeof *constant);
    if (constant == NULL) {
        return error_no_memory(lower->error, "a constant");
    }
    enum status status = onnx_tensor_read(tensor, lower->where, lower->arena, constant, lower->error);
    if (status != STATUS_OK) {
        return status;
    }
    constant->name = onnx_text(lower->node->output[0]); /* the tensor itself often has no name */
    return lower_bind_constant(lower, constant);
}

/* Exactly one attribute, named after its kind. */
enum status lower_constant_node(struct lower *lower) {
    static const struct shape SCALAR = {.rank = 0};
    if (lower->node->n_input != 0 || lower->node->n_attribute != 1) {
        return lower_refuse(lower, STATUS_INVALID, "got %zu inputs and %zu attributes, expected none and one",
                            lower->node->n_input, lower->node->n_attribute);
    }
    const Onnx__AttributeProto *tensor = lower_attr(lower, "value");
    if (tensor != NULL && tensor->t != NULL) {
        return constant_from_tensor(lower, tensor->t);
    }
    const Onnx__AttributeProto *floats = lower_attr(lower, "value_floats");
    if (floats != NULL && floats->n_floats > 0) {
        return constant_from_floats(lower, floats->floats, &(struct shape){.rank = 1, .dim = {floats->n_floats}});
    }
    const Onnx__AttributeProto *integers = lower_attr(lower, "value_ints");
    if (integers != NULL) {
        return constant_from_integers(lower, integers->ints, &(struct shape){.rank = 1, .dim = {integers->n_ints}});
    }
    enum status status = STATUS_OK;
    if (lower_attr(lower, "value_float") != NULL) {
        float value = 0;
        status = lower_attr_float(lower, "value_float", 0, &value);
        return status != STATUS_OK ? status : constant_from_floats(lower, &value, &SCALAR);
    }
    if (lower_attr(lower, "value_int") != NULL) {
        int64_t value = 0;
        status = lower_attr_int(lower, "value_int", 0, &value);
        return status != STATUS_OK ? status : constant_from_integers(lower, &value, &SCALAR);
    }
    return lower_refuse(lower, STATUS_INVALID, "got an empty '%s', expected a value",
                        onnx_text(lower->node->attribute[0]->name));
}

/* Exporters give initializers that several nodes share to them by Identity: an alias. */
static enum status pass(struct lower *lower) {
    if (lower_constant(lower, 0) != NULL) {
        return lower_bind_constant(lower, lower_binding(lower, 0)->constant);
    }
    struct lower_view x;
    enum status status = lower_view(lower, 0, &x);
    return status != STATUS_OK ? status
                               : lower_emit_in(lower, OP_IDENTITY, &x.value, 1, &(struct op_attr){0}, &x.layout);
}

enum status lower_identity(struct lower *lower) {
    enum status status = lower_arity(lower, 1, 1);
    return status != STATUS_OK ? status : pass(lower);
}

/* At inference, or if it drops nothing, Dropout passes its input on; since opset 12 an input says whether this is training. */
enum status lower_dropout(struct lower *lower) {
    const struct onnx_constant *training = NULL;
    float ratio = 0;
    enum status status = lower_arity(lower, 1, lower->opset < 12 ? 1 : 3);
    if (status == STATUS_OK && lower_has_input(lower, 2)) {
        status = lower_integers(lower, 2, &training);
    }
    if (status == STATUS_OK && training != NULL && (training->count != 1 || training->integers[0] != 0)) {
        status = lower_scalar(lower, 1, 0.5F, &ratio);
        if (status == STATUS_OK && ratio > 0) {
            return lower_refuse(lower, STATUS_UNSUPPORTED,
                                "got its training form, expected a model exported for inference");
        }
    }
    return status != STATUS_OK ? status : pass(lower);
}

static enum status cast_to_integers(struct lower *lower, const struct onnx_constant *from, int32_t type) {
    int64_t *data = NULL, times = 0;
    bool is_bool = type == ONNX__TENSOR_PROTO__DATA_TYPE__BOOL;
    bool narrow = type == ONNX__TENSOR_PROTO__DATA_TYPE__INT32;
    enum status status = fold_integers(lower, type, &from->shape, &data);
    for (size_t i = 0; status == STATUS_OK && i < from->count; i++) {
        if (from->floats != NULL && fabsf(from->floats[i]) >= 0x1p62F) {
            return lower_refuse(lower, STATUS_INVALID, "got %g at element %zu, expected an integer's range",
                                (double)from->floats[i], i);
        }
        int64_t value = from->floats != NULL ? (int64_t)from->floats[i] : from->integers[i];
        if (is_bool) {
            value = from->floats != NULL ? from->floats[i] != 0.0F : value != 0;
        } else if (narrow && !onnx_is_batch(value, &times) && (value < INT32_MIN || value > INT32_MAX)) {
            return lower_refuse(lower, STATUS_UNSUPPORTED, "got %lld at element %zu, expected 32 bits",
                                (long long)value, i);
        }
        data[i] = value;
    }
    return status;
}

static enum status cast_to_floats(struct lower *lower, const struct onnx_constant *from) {
    float *data = NULL;
    int64_t times = 0;
    enum status status = fold_floats(lower, &from->shape, &data);
    for (size_t i = 0; status == STATUS_OK && i < from->count; i++) {
        if (from->integers == NULL) {
            data[i] = from->floats[i];
            continue;
        }
        if (onnx_is_batch(from->integers[i], &times)) {
            return lower_refuse(lower, STATUS_UNSUPPORTED, "got the batch size, expected a number that is fixed");
        }
        data[i] = (float)from->integers[i];
    }
    return status;
}

enum status lower_cast(struct lower *lower) {
    int64_t to = 0;
    enum status status = lower_arity(lower, 1, 1);
    if (status == STATUS_OK) {
        status = lower_attr_int(lower, "to", 0, &to);
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct onnx_constant *from = lower_constant(lower, 0);
    bool to_float = to == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    if (from == NULL && to_float) {
        return pass(lower); /* computed values are float32 already */
    }
    if (from != NULL && to_float) {
        return cast_to_floats(lower, from);
    }
    if (from != NULL && (to == ONNX__TENSOR_PROTO__DATA_TYPE__INT64 || to == ONNX__TENSOR_PROTO__DATA_TYPE__INT32 ||
                         to == ONNX__TENSOR_PROTO__DATA_TYPE__BOOL)) {
        return cast_to_integers(lower, from, (int32_t)to);
    }
    return lower_refuse(lower, STATUS_UNSUPPORTED, "got a cast of %s to type %lld, expected one to float32%s",
                        from != NULL ? "a constant" : "a computed value", (long long)to,
                        from != NULL ? ", int32, int64 or bool" : "");
}

/* Since opset 15 `start` and `end` pick a part; both are clamped. */
static int64_t clamp_index(int64_t index, int64_t size) {
    if (index < 0) {
        index = index < -size ? 0 : index + size;
    }
    return index > size ? size : index;
}

enum status lower_shape_of(struct lower *lower) {
    const struct onnx_constant *constant = NULL;
    const struct shape *shape = NULL;
    int64_t start = 0, end = 0, *data = NULL;
    struct lower_view x = {.layout = {.axis = LOWER_HIDDEN}};
    enum status status = lower_arity(lower, 1, 1);
    if (status != STATUS_OK) {
        return status;
    }
    constant = lower_constant(lower, 0);
    if (constant == NULL) {
        status = lower_view(lower, 0, &x);
    }
    if (status != STATUS_OK) {
        return status;
    }
    shape = constant != NULL ? &constant->shape : &x.shape;
    status = lower_attr_int(lower, "start", 0, &start);
    if (status == STATUS_OK) {
        status = lower_attr_int(lower, "end", (int64_t)shape->rank, &end);
    }
    if (status != STATUS_OK) {
        return status;
    }
    start = clamp_index(start, (int64_t)shape->rank);
    end = clamp_index(end, (int64_t)shape->rank);
    struct shape out = {.rank = 1, .dim = {end > start ? (size_t)(end - start) : 0}};
    status = fold_integers(lower, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, &out, &data);
    for (size_t i = 0; status == STATUS_OK && i < out.dim[0]; i++) {
        size_t axis = (size_t)start + i;
        bool batch = constant == NULL && axis == x.layout.axis;
        data[i] = batch ? onnx_batch((int64_t)shape->dim[axis]) : (int64_t)shape->dim[axis];
    }
    return status;
}
