/* Flatten, Reshape, Squeeze, Unsqueeze, Transpose, Concat, Pad: operators that move data without computing.
 *
 * For a value that depends on the input, the first dimension must stay the batch. Which target shapes do that can be told
 * at batch 1, because a file says the batch in one of four ways: 0 (copy), -1 (what is left), the batch taken from Shape
 * (ONNX_BATCH), or the fixed number of the file. */
#include <string.h>

#include "server/onnx/onnx_lower.h"

/* A Transpose may put the batch elsewhere for a while, as attention does with (3, N, ...): ours keeps it first, the binding
 * remembers where the file has it. `perm` is in the file's order. */
static enum status transpose_moved(struct lower *lower) {
    struct op_attr attr = {0};
    size_t x = NETWORK_NONE, batch_axis = 0, y = 0, perm[SHAPE_RANK_MAX] = {0}, moved = 0;
    enum status status = lower_moved_value(lower, 0, &x, &batch_axis);
    size_t rank = status == STATUS_OK ? lower_shape(lower, x)->rank : 0;
    if (status == STATUS_OK) {
        status = lower_permutation(lower, rank, perm);
    }
    if (status != STATUS_OK) {
        return status;
    }
    bool same = true;
    attr.axes_count = 1; /* the batch stays our first axis */
    for (size_t i = 0; i < rank; i++) {
        if (perm[i] == batch_axis) {
            moved = i;
            continue;
        }
        size_t ours = perm[i] < batch_axis ? perm[i] + 1 : perm[i];
        same = same && ours == attr.axes_count;
        attr.axes[attr.axes_count++] = ours;
    }
    if (same && (moved != 0 || batch_axis != 0)) {
        return lower_bind_output(lower, 0, x, moved);
    }
    status = lower_step(lower, OP_TRANSPOSE, &x, 1, &attr, &y);
    return status != STATUS_OK ? status : lower_bind_output(lower, 0, y, moved);
}

static enum status input_shape(struct lower *lower, const struct shape **shape, bool *constant) {
    const struct onnx_constant *found = lower_constant(lower, 0);
    *constant = found != NULL;
    if (found != NULL) {
        *shape = &found->shape;
        return STATUS_OK;
    }
    size_t value = NETWORK_NONE;
    enum status status = lower_value(lower, 0, &value);
    if (status == STATUS_OK) {
        *shape = lower_shape(lower, value);
    }
    return status;
}

static enum status refuse_batch(struct lower *lower, const struct shape *shape) {
    char text[SHAPE_TEXT_SIZE];
    return lower_refuse(lower, STATUS_UNSUPPORTED,
                        "got a result that mixes the batch of an input %s (for one sample) with other dimensions, "
                        "expected the batch to stay the first dimension",
                        shape_text(shape, text));
}

/* Gives the first input another shape, folded or as a node. */
static enum status finish(struct lower *lower, const struct shape *shape) {
    const struct onnx_constant *constant = lower_constant(lower, 0);
    if (constant != NULL) {
        return fold_reshape(lower, constant, shape);
    }
    struct op_attr attr = {.shape = *shape};
    size_t x = NETWORK_NONE;
    enum status status = lower_value(lower, 0, &x);
    return status != STATUS_OK ? status : lower_emit(lower, OP_RESHAPE, &x, 1, &attr);
}

/* To a matrix: axes before `axis` together, then the rest together. */
enum status lower_flatten(struct lower *lower) {
    const struct shape *in = NULL;
    struct shape out = {.rank = 2, .dim = {1, 1}};
    bool constant = false;
    int64_t attribute = 1;
    enum status status = lower_arity(lower, 1, 1);
    if (status == STATUS_OK) {
        status = input_shape(lower, &in, &constant);
    }
    if (status == STATUS_OK) {
        status = lower_attr_int(lower, "axis", 1, &attribute);
    }
    if (status != STATUS_OK) {
        return status;
    }
    size_t axis = in->rank;
    if (attribute != (int64_t)in->rank) { /* one past the last axis is allowed */
        status = lower_axis(lower, attribute, in->rank, &axis);
    }
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < in->rank; i++) {
        out.dim[i < axis ? 0 : 1] *= in->dim[i];
    }
    if (!constant && (axis == 0 || out.dim[0] != 1)) {
        return refuse_batch(lower, in);
    }
    return finish(lower, &out);
}

/* Whether the first target says "the batch". */
static bool is_batch(const struct lower *lower, int64_t target, bool allow_zero) {
    return target == ONNX_BATCH || target == -1 || (target == 0 && !allow_zero) ||
           (!lower->graph->batch_is_dynamic && target > 0 && (uint64_t)target == lower->graph->fixed_batch);
}

/* Dimensions from `first` on: positive, 0 for a copy, at most one -1 for what is left of `total`. */
static enum status solve_dimensions(struct lower *lower, const struct shape *in, const int64_t *targets, size_t first,
                                    bool allow_zero, size_t total, struct shape *out) {
    size_t open = NETWORK_NONE, product = 1;
    for (size_t i = first; i < out->rank; i++) {
        int64_t target = targets[i];
        if (target == -1 && open == NETWORK_NONE) {
            open = i;
            out->dim[i] = 1;
            continue;
        }
        if (target == 0 && !allow_zero && i < in->rank) {
            target = (int64_t)in->dim[i];
        }
        if (target < 1) {
            return target == ONNX_BATCH ? refuse_batch(lower, in)
                                        : lower_refuse(lower, STATUS_INVALID,
                                                       "got %lld in dimension %zu of the new shape, expected a "
                                                       "size, 0 for one that is there, or one -1",
                                                       (long long)target, i);
        }
        out->dim[i] = (size_t)target;
        if (__builtin_mul_overflow(product, out->dim[i], &product)) {
            return lower_refuse(lower, STATUS_INVALID, "got dimensions that overflow");
        }
    }
    if (open != NETWORK_NONE && total % product == 0) {
        out->dim[open] = total / product;
        product = total;
    }
    if (product != total) {
        char text[SHAPE_TEXT_SIZE];
        return lower_refuse(lower, STATUS_INVALID, "got a new shape of %zu values, expected the %zu of shape %s",
                            product, total, shape_text(in, text));
    }
    return STATUS_OK;
}

enum status lower_reshape(struct lower *lower) {
    const struct shape *in = NULL;
    const struct onnx_constant *targets = NULL;
    bool constant = false, allow_zero = false;
    enum status status = lower_arity(lower, 2, 2);
    if (status == STATUS_OK) {
        status = input_shape(lower, &in, &constant);
    }
    if (status == STATUS_OK) {
        status = lower_integers(lower, 1, &targets);
    }
    if (status == STATUS_OK) {
        status = lower_attr_bool(lower, "allowzero", false, &allow_zero);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (targets->count > SHAPE_RANK_MAX || targets->shape.rank != 1) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got a new shape of rank %zu, expected at most %d",
                            targets->count, SHAPE_RANK_MAX);
    }
    struct shape out = {.rank = targets->count};
    size_t first = 0;
    if (!constant) {
        if (out.rank == 0 || !is_batch(lower, targets->integers[0], allow_zero)) {
            return refuse_batch(lower, in);
        }
        out.dim[0] = 1;
        first = 1;
    }
    status = solve_dimensions(lower, in, targets->integers, first, allow_zero, shape_count(in), &out);
    return status != STATUS_OK ? status : finish(lower, &out);
}

/* The axes of Squeeze and Unsqueeze: an attribute before opset 13, an input since. chosen: one a dimension of `rank`. */
static enum status read_axes(struct lower *lower, size_t rank, bool chosen[SHAPE_RANK_MAX], size_t *count) {
    const int64_t *axes = NULL;
    const struct onnx_constant *constant = NULL;
    enum status status = STATUS_OK;
    *count = 0;
    if (lower->opset < 13) {
        status = lower_attr_ints(lower, "axes", &axes, count);
    } else if (lower_has_input(lower, 1)) {
        status = lower_integers(lower, 1, &constant);
        if (status == STATUS_OK) {
            axes = constant->integers;
            *count = constant->count;
        }
    }
    for (size_t i = 0; status == STATUS_OK && i < *count; i++) {
        size_t axis = 0;
        status = lower_axis(lower, axes[i], rank, &axis);
        if (status == STATUS_OK && chosen[axis]) {
            status = lower_refuse(lower, STATUS_INVALID, "got axis %zu twice, expected it once", axis);
        }
        chosen[axis] = true;
    }
    return status;
}

enum status lower_squeeze(struct lower *lower) {
    const struct shape *in = NULL;
    struct shape out = {0};
    bool constant = false, chosen[SHAPE_RANK_MAX] = {false};
    size_t count = 0;
    enum status status = lower_arity(lower, 1, lower->opset < 13 ? 1 : 2);
    if (status == STATUS_OK) {
        status = input_shape(lower, &in, &constant);
    }
    if (status == STATUS_OK) {
        status = read_axes(lower, in->rank, chosen, &count);
    }
    if (status != STATUS_OK) {
        return status;
    }
    /* Without axes all dimensions of 1 go, and the batch with them if the file fixes it at 1. */
    bool drops_batch = count == 0 ? !lower->graph->batch_is_dynamic && lower->graph->fixed_batch == 1 : chosen[0];
    if (!constant && drops_batch) {
        return refuse_batch(lower, in);
    }
    for (size_t i = 0; i < in->rank; i++) {
        bool drop = count == 0 ? in->dim[i] == 1 && (constant || i > 0) : chosen[i];
        if (drop && in->dim[i] != 1) {
            return lower_refuse(lower, STATUS_INVALID, "got axis %zu of size %zu, expected size 1", i, in->dim[i]);
        }
        if (!drop) {
            out.dim[out.rank++] = in->dim[i];
        }
    }
    return finish(lower, &out);
}

enum status lower_unsqueeze(struct lower *lower) {
    const struct shape *in = NULL;
    struct shape out = {0};
    bool constant = false, chosen[SHAPE_RANK_MAX] = {false};
    size_t count = 0, next = 0;
    enum status status = lower_arity(lower, 1, lower->opset < 13 ? 1 : 2);
    if (status == STATUS_OK) {
        status = input_shape(lower, &in, &constant);
    }
    /* Axes count in the result, whose rank depends on how many there are. */
    if (status == STATUS_OK && lower->opset < 13) {
        const int64_t *axes = NULL;
        status = lower_attr_ints(lower, "axes", &axes, &count);
    } else if (status == STATUS_OK) {
        const struct onnx_constant *axes = NULL;
        status = lower_integers(lower, 1, &axes);
        count = status == STATUS_OK ? axes->count : 0;
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (count == 0 || count > SHAPE_RANK_MAX - in->rank) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got %zu axes, expected 1 to %zu", count,
                            SHAPE_RANK_MAX - in->rank);
    }
    out.rank = in->rank + count;
    status = read_axes(lower, out.rank, chosen, &count);
    if (status != STATUS_OK) {
        return status;
    }
    if (!constant && chosen[0]) {
        return refuse_batch(lower, in);
    }
    for (size_t i = 0; i < out.rank; i++) {
        out.dim[i] = chosen[i] ? 1 : in->dim[next++];
    }
    return finish(lower, &out);
}

enum status lower_transpose(struct lower *lower) {
    enum status status = lower_arity(lower, 1, 1);
    if (status != STATUS_OK) {
        return status;
    }
    return lower_all_constant(lower) ? fold_transpose(lower) : transpose_moved(lower);
}

enum status lower_concat(struct lower *lower) {
    struct op_attr attr = {0};
    int64_t axis = 0;
    if (lower->node->n_input == 0 || lower_attr(lower, "axis") == NULL) {
        return lower_refuse(lower, STATUS_INVALID, "got no %s, expected one",
                            lower->node->n_input == 0 ? "input" : "axis");
    }
    if (lower_all_constant(lower)) {
        return fold_concat(lower);
    }
    size_t *inputs = arena_alloc(lower->arena, lower->node->n_input, sizeof *inputs);
    if (inputs == NULL) {
        return error_no_memory(lower->error, "the inputs of a node");
    }
    enum status status = lower_attr_int(lower, "axis", 0, &axis);
    for (size_t i = 0; status == STATUS_OK && i < lower->node->n_input; i++) {
        status = lower_operand(lower, i, &inputs[i]);
    }
    if (status == STATUS_OK) {
        status = lower_axis(lower, axis, lower_shape(lower, inputs[0])->rank, &attr.axis);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (attr.axis == 0) {
        return refuse_batch(lower, lower_shape(lower, inputs[0]));
    }
    return lower_emit(lower, OP_CONCAT, inputs, lower->node->n_input, &attr);
}

/* pads = [begin of each axis, then end of each axis]; since opset 18 `axes` may say which axes these are. */
static enum status spread_pads(struct lower *lower, size_t rank, const int64_t *pads, size_t pad_count,
                               struct op_attr *attr) {
    const struct onnx_constant *axes = NULL;
    size_t count = rank;
    if (lower->opset >= 18 && lower_has_input(lower, 3)) {
        enum status status = lower_integers(lower, 3, &axes);
        if (status != STATUS_OK) {
            return status;
        }
        count = axes->count;
    }
    if (count > rank || pad_count != 2 * count) {
        return lower_refuse(lower, STATUS_INVALID, "got %zu pads, expected two for each of %zu axes", pad_count, count);
    }
    for (size_t i = 0; i < count; i++) {
        size_t axis = 0;
        enum status status = lower_axis(lower, axes != NULL ? axes->integers[i] : (int64_t)i, rank, &axis);
        if (status != STATUS_OK) {
            return status;
        }
        int64_t begin = pads[i], end = pads[count + i];
        if (begin < 0 || begin > INT32_MAX || end < 0 || end > INT32_MAX || (axis == 0 && (begin > 0 || end > 0))) {
            return lower_refuse(lower, STATUS_UNSUPPORTED,
                                "got pads %lld and %lld of axis %zu, expected 0 to %d, and 0 for the batch",
                                (long long)begin, (long long)end, axis, INT32_MAX);
        }
        attr->pad_begin[axis] = (size_t)begin;
        attr->pad_end[axis] = (size_t)end;
    }
    return STATUS_OK;
}

/* Pads and value are attributes before opset 11, inputs since. */
enum status lower_pad(struct lower *lower) {
    struct op_attr attr = {0};
    size_t x = NETWORK_NONE, count = 0;
    const int64_t *pads = NULL;
    char mode[LOWER_TEXT_MAX];
    bool as_inputs = lower->opset >= 11;
    enum status status = lower_arity(lower, as_inputs ? 2 : 1, as_inputs ? 4 : 1);
    if (status == STATUS_OK) {
        status = lower_value(lower, 0, &x);
    }
    if (status == STATUS_OK) {
        status = lower_attr_text(lower, "mode", "constant", mode);
    }
    if (status == STATUS_OK && strcmp(mode, "constant") != 0) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got mode '%s', expected 'constant'", mode);
    }
    if (status == STATUS_OK && as_inputs) {
        const struct onnx_constant *integers = NULL;
        status = lower_integers(lower, 1, &integers);
        pads = status == STATUS_OK ? integers->integers : NULL;
        count = status == STATUS_OK ? integers->count : 0;
    } else if (status == STATUS_OK) {
        status = lower_attr_ints(lower, "pads", &pads, &count);
    }
    if (status == STATUS_OK) {
        status = as_inputs ? lower_scalar(lower, 2, 0.0F, &attr.pad_value)
                           : lower_attr_float(lower, "value", 0.0F, &attr.pad_value);
    }
    if (status == STATUS_OK) {
        status = spread_pads(lower, lower_shape(lower, x)->rank, pads, count, &attr);
    }
    return status != STATUS_OK ? status : lower_emit(lower, OP_PAD, &x, 1, &attr);
}
