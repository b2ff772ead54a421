/* Flatten, Reshape, Squeeze, Unsqueeze, Transpose, Concat, Pad: operators that move data without computing. Where they put the
 * batch, onnx_lower_layout.c keeps track. */
#include <string.h>

#include "server/onnx/onnx_lower.h"

/* `perm` is in the file's order; what is merged with the batch moves with it. */
static enum status transpose_value(struct lower *lower) {
    struct op_attr attr = {0};
    struct lower_view x;
    size_t y = 0, perm[SHAPE_RANK_MAX] = {0};
    enum status status = lower_view(lower, 0, &x);
    if (status == STATUS_OK) {
        status = lower_permutation(lower, x.shape.rank, perm);
    }
    if (status != STATUS_OK) {
        return status;
    }
    struct lower_layout layout = x.layout;
    bool same = true;
    attr.axes_count = 1; /* the batch stays our first axis */
    for (size_t i = 0; i < x.shape.rank; i++) {
        if (perm[i] != x.layout.axis) {
            attr.axes[attr.axes_count++] = lower_our_axis(&x.layout, perm[i]);
            continue;
        }
        layout.axis = i;
        for (size_t k = 0; k < (size_t)layout.lead + layout.trail; k++) {
            attr.axes[attr.axes_count++] = x.layout.axis + 1 + k;
        }
    }
    for (size_t i = 0; i < attr.axes_count; i++) {
        same = same && attr.axes[i] == i;
    }
    /* Back to what another Transpose came from: nothing to do. */
    size_t producer = lower->network->values[x.value].producer;
    const struct node *before = producer != NETWORK_NONE ? &lower->network->nodes[producer] : NULL;
    bool back = before != NULL && before->op == OP_TRANSPOSE;
    for (size_t i = 0; back && i < attr.axes_count; i++) {
        back = before->attr.axes[attr.axes[i]] == i;
    }
    if (back) {
        return lower_bind_output(lower, 0, before->inputs[0], &layout);
    }
    if (same && !(lower_is_plain(&layout) && lower_is_plain(&x.layout))) {
        return lower_bind_output(lower, 0, x.value, &layout);
    }
    status = lower_step(lower, OP_TRANSPOSE, &x.value, 1, &attr, &y);
    return status != STATUS_OK ? status : lower_bind_output(lower, 0, y, &layout);
}

/* What the first input is: a constant, or a computed value. */
struct source {
    const struct onnx_constant *constant; /* or NULL */
    struct lower_view view;
    struct shape shape; /* in the file's order */
};

static enum status read_source(struct lower *lower, struct source *source) {
    *source = (struct source){.constant = lower_constant(lower, 0), .view.layout.axis = LOWER_HIDDEN};
    if (source->constant != NULL) {
        source->shape = source->constant->shape;
        return STATUS_OK;
    }
    enum status status = lower_view(lower, 0, &source->view);
    source->shape = status == STATUS_OK ? source->view.shape : source->shape;
    return status;
}

static enum status refuse_batch(struct lower *lower, const struct shape *shape) {
    char text[SHAPE_TEXT_SIZE];
    return lower_refuse(lower, STATUS_UNSUPPORTED,
                        "got a result that mixes the batch of an input %s (for one sample) with other dimensions, "
                        "expected the batch to stay the first dimension",
                        shape_text(shape, text));
}

/* To a matrix: axes before `axis` together, then the rest together. */
enum status lower_flatten(struct lower *lower) {
    struct source in;
    int64_t attribute = 1, parts[2] = {1, 1};
    enum status status = lower_arity(lower, 1, 1);
    if (status == STATUS_OK) {
        status = read_source(lower, &in);
    }
    if (status == STATUS_OK) {
        status = lower_attr_int(lower, "axis", 1, &attribute);
    }
    if (status != STATUS_OK) {
        return status;
    }
    size_t axis = in.shape.rank;
    if (attribute != (int64_t)in.shape.rank) { /* one past the last axis is allowed */
        status = lower_axis(lower, attribute, in.shape.rank, &axis);
    }
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < in.shape.rank; i++) {
        int64_t *part = &parts[i < axis ? 0 : 1];
        if (__builtin_mul_overflow(*part, in.shape.dim[i], part)) { /* beside a dimension of 0 */
            return lower_refuse(lower, STATUS_INVALID, "got dimensions that overflow");
        }
    }
    if (in.constant != NULL) {
        struct shape out = {.rank = 2, .dim = {(size_t)parts[0], (size_t)parts[1]}};
        return fold_reshape(lower, in.constant, &out);
    }
    if (in.view.layout.axis != LOWER_HIDDEN) {
        int64_t *with = &parts[in.view.layout.axis < axis ? 0 : 1];
        if (*with > ONNX_BATCH_TIMES_MAX) {
            return refuse_batch(lower, &in.shape);
        }
        *with = onnx_batch(*with);
    }
    return lower_reshape_to(lower, &in.view, parts, 2, false);
}

/* A constant: positive dimensions, 0 for a copy, at most one -1 for what is left. */
static enum status reshape_constant(struct lower *lower, const struct onnx_constant *constant, const int64_t *targets,
                                    size_t count, bool allow_zero) {
    struct shape out = {.rank = count};
    size_t open = NETWORK_NONE, product = 1;
    for (size_t i = 0; i < count; i++) {
        int64_t target = targets[i];
        if (target == 0 && !allow_zero && i < constant->shape.rank) {
            target = (int64_t)constant->shape.dim[i];
        }
        if (target < -1 || (target == -1 && open != NETWORK_NONE)) {
            return lower_refuse(lower, STATUS_INVALID,
                                "got %lld in dimension %zu of the new shape, expected a size, 0 "
                                "for one that is there, or one -1",
                                (long long)target, i);
        }
        out.dim[i] = target == -1 ? 1 : (size_t)target;
        open = target == -1 ? i : open;
        if (__builtin_mul_overflow(product, out.dim[i], &product)) {
            return lower_refuse(lower, STATUS_INVALID, "got dimensions that overflow");
        }
    }
    if (open != NETWORK_NONE && product > 0 && constant->count % product == 0) {
        out.dim[open] = constant->count / product;
        product = constant->count;
    }
    if (product != constant->count) {
        char text[SHAPE_TEXT_SIZE];
        return lower_refuse(lower, STATUS_INVALID, "got a new shape of %zu values, expected the %zu of shape %s",
                            product, constant->count, shape_text(&constant->shape, text));
    }
    return fold_reshape(lower, constant, &out);
}

enum status lower_reshape(struct lower *lower) {
    struct source in;
    const struct onnx_constant *targets = NULL;
    bool allow_zero = false;
    enum status status = lower_arity(lower, 2, 2);
    if (status == STATUS_OK) {
        status = read_source(lower, &in);
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
    return in.constant != NULL ? reshape_constant(lower, in.constant, targets->integers, targets->count, allow_zero)
                               : lower_reshape_to(lower, &in.view, targets->integers, targets->count, allow_zero);
}

/* The first input with other dimensions of 1, whose batch is now at `batch` (the file's axis). */
static enum status finish(struct lower *lower, const struct source *in, const struct shape *shape, size_t batch) {
    if (in->constant != NULL) {
        return fold_reshape(lower, in->constant, shape);
    }
    struct lower_layout layout = in->view.layout;
    struct shape ours = {.rank = 1, .dim = {1}};
    size_t y = 0, merged = (size_t)layout.lead + layout.trail;
    layout.axis = batch;
    if (shape->rank + 1 + merged > SHAPE_RANK_MAX + (batch != LOWER_HIDDEN)) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got a new shape of rank %zu, expected at most %d", shape->rank,
                            SHAPE_RANK_MAX);
    }
    for (size_t i = 0; i < shape->rank; i++) {
        if (i != batch) {
            ours.dim[ours.rank++] = shape->dim[i];
            continue;
        }
        for (size_t k = 0; k < merged; k++) {
            ours.dim[ours.rank++] = lower_shape(lower, in->view.value)->dim[in->view.layout.axis + 1 + k];
        }
    }
    enum status status = lower_reshaped(lower, in->view.value, &ours, &y);
    return status != STATUS_OK ? status : lower_bind_output(lower, 0, y, &layout);
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
        status = lower_axis_once(lower, axes[i], rank, chosen, &axis);
    }
    return status;
}

enum status lower_squeeze(struct lower *lower) {
    struct source in;
    struct shape out = {0};
    bool chosen[SHAPE_RANK_MAX] = {false};
    size_t count = 0;
    enum status status = lower_arity(lower, 1, lower->opset < 13 ? 1 : 2);
    if (status == STATUS_OK) {
        status = read_source(lower, &in);
    }
    if (status == STATUS_OK) {
        status = read_axes(lower, in.shape.rank, chosen, &count);
    }
    if (status != STATUS_OK) {
        return status;
    }
    /* Without axes all dimensions of 1 go, and the batch with them if the file fixes it at 1. */
    size_t batch = in.view.layout.axis, now = batch;
    bool has_batch = batch != LOWER_HIDDEN,
         drops = has_batch && (count == 0 ? lower_is_batch_of_1(lower) : chosen[batch]);
    if (drops && !lower_is_batch_of_1(lower)) {
        return refuse_batch(lower, &in.shape);
    }
    for (size_t i = 0; i < in.shape.rank; i++) {
        bool drop = count == 0 ? in.shape.dim[i] == 1 && (i != batch || drops) : chosen[i];
        if (drop && in.shape.dim[i] != 1) {
            return lower_refuse(lower, STATUS_INVALID, "got axis %zu of size %zu, expected size 1", i, in.shape.dim[i]);
        }
        if (drop) {
            now -= has_batch && i < batch;
            continue;
        }
        out.dim[out.rank++] = in.shape.dim[i];
    }
    return finish(lower, &in, &out, drops ? LOWER_HIDDEN : now);
}

enum status lower_unsqueeze(struct lower *lower) {
    struct source in;
    struct shape out = {0};
    bool chosen[SHAPE_RANK_MAX] = {false};
    size_t count = 0, next = 0, batch = LOWER_HIDDEN;
    enum status status = lower_arity(lower, 1, lower->opset < 13 ? 1 : 2);
    if (status == STATUS_OK) {
        status = read_source(lower, &in);
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
    if (count == 0 || count > SHAPE_RANK_MAX - in.shape.rank) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got %zu axes, expected 1 to %zu", count,
                            SHAPE_RANK_MAX - in.shape.rank);
    }
    out.rank = in.shape.rank + count;
    status = read_axes(lower, out.rank, chosen, &count);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < out.rank; i++) {
        batch = !chosen[i] && next == in.view.layout.axis ? i : batch;
        out.dim[i] = chosen[i] ? 1 : in.shape.dim[next++];
    }
    return finish(lower, &in, &out, batch);
}

enum status lower_transpose(struct lower *lower) {
    enum status status = lower_arity(lower, 1, 1);
    if (status != STATUS_OK) {
        return status;
    }
    return lower_all_constant(lower) ? fold_transpose(lower) : transpose_value(lower);
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
    struct lower_view like;
    enum status status = lower_attr_int(lower, "axis", 0, &axis);
    if (status == STATUS_OK) {
        status = lower_aligned(lower, 0, lower->node->n_input, inputs, &like);
    }
    if (status == STATUS_OK) {
        status = lower_axis(lower, axis, like.shape.rank, &attr.axis);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (attr.axis == like.layout.axis) {
        return refuse_batch(lower, &like.shape);
    }
    attr.axis = lower_our_axis(&like.layout, attr.axis);
    return lower_emit_in(lower, OP_CONCAT, inputs, lower->node->n_input, &attr, &like.layout);
}

/* pads = [begin of each axis, then end of each axis]; since opset 18 `axes` may say which axes these are. */
static enum status spread_pads(struct lower *lower, const struct lower_view *x, const int64_t *pads, size_t pad_count,
                               struct op_attr *attr) {
    const struct onnx_constant *axes = NULL;
    size_t rank = x->shape.rank, count = rank;
    bool chosen[SHAPE_RANK_MAX] = {false};
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
        enum status status = lower_axis_once(lower, axes != NULL ? axes->integers[i] : (int64_t)i, rank, chosen, &axis);
        if (status != STATUS_OK) {
            return status;
        }
        int64_t begin = pads[i], end = pads[count + i];
        if (begin < 0 || begin > INT32_MAX || end < 0 || end > INT32_MAX ||
            (axis == x->layout.axis && (begin > 0 || end > 0))) {
            return lower_refuse(lower, STATUS_UNSUPPORTED,
                                "got pads %lld and %lld of axis %zu, expected 0 to %d, and 0 for the batch",
                                (long long)begin, (long long)end, axis, INT32_MAX);
        }
        attr->pad_begin[lower_our_axis(&x->layout, axis)] = (size_t)begin;
        attr->pad_end[lower_our_axis(&x->layout, axis)] = (size_t)end;
    }
    return STATUS_OK;
}

/* Pads and value are attributes before opset 11, inputs since. */
enum status lower_pad(struct lower *lower) {
    struct op_attr attr = {0};
    struct lower_view x;
    size_t count = 0;
    const int64_t *pads = NULL;
    char mode[LOWER_TEXT_MAX];
    bool as_inputs = lower->opset >= 11;
    enum status status = lower_arity(lower, as_inputs ? 2 : 1, as_inputs ? 4 : 1);
    if (status == STATUS_OK) {
        status = lower_view(lower, 0, &x);
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
        status = spread_pads(lower, &x, pads, count, &attr);
    }
    return status != STATUS_OK ? status : lower_emit_in(lower, OP_PAD, &x.value, 1, &attr, &x.layout);
}
