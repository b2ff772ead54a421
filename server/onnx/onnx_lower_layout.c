/* Where the batch is. ONNX has no batch: a file may move it (attention in (L, N, E)), merge it with other axes ((N * windows,
 * L, E), (L * N, E)), or, if it fixes it at 1, drop it. Ours is always the first axis of a value, alone; the binding of a name
 * says what the file has there (struct lower_layout). Elements keep their order but for the batch, so that a Reshape of the
 * file is a Reshape of ours whatever it merges. */
#include <string.h>

#include "server/onnx/onnx_lower.h"

bool lower_is_plain(const struct lower_layout *layout) {
    return layout->axis == 0 && !layout->lead && !layout->trail;
}

size_t lower_our_axis(const struct lower_layout *layout, size_t axis) {
    if (layout->axis == LOWER_HIDDEN || axis < layout->axis) {
        return axis + 1;
    }
    return axis == layout->axis ? 0 : axis + layout->lead + layout->trail;
}

bool lower_is_batch_of_1(const struct lower *lower) {
    return !lower->graph->batch_is_dynamic && lower->graph->fixed_batch == 1;
}

/* The file's order of our shape. */
static struct shape file_shape(const struct shape *ours, const struct lower_layout *layout) {
    bool hidden = layout->axis == LOWER_HIDDEN;
    struct shape shape = {.rank = hidden ? ours->rank - 1 : ours->rank - layout->lead - layout->trail};
    for (size_t i = 0; i < shape.rank; i++) {
        shape.dim[i] = i == layout->axis ? 1 : ours->dim[lower_our_axis(layout, i)];
    }
    for (size_t i = 0; !hidden && i < (size_t)layout->lead + layout->trail; i++) {
        shape.dim[layout->axis] *= ours->dim[layout->axis + 1 + i];
    }
    return shape;
}

enum status lower_view(struct lower *lower, size_t slot, struct lower_view *view) {
    const struct lower_binding *binding = lower_has_input(lower, slot) ? lower_binding(lower, slot) : NULL;
    if (binding == NULL || binding->value == NETWORK_NONE) {
        const char *got = binding == NULL             ? "nothing"
                          : binding->constant != NULL ? "a constant"
                                                      : "an output that we do not make";
        return lower_refuse(lower, binding == NULL ? STATUS_INVALID : STATUS_UNSUPPORTED,
                            "got %s as input %zu, expected a computed value", got, slot);
    }
    view->value = binding->value;
    view->layout = binding->layout;
    view->shape = file_shape(lower_shape(lower, view->value), &view->layout);
    return STATUS_OK;
}

enum status lower_plain_value(struct lower *lower, const struct lower_view *view, size_t *value) {
    const struct shape *shape = &view->shape;
    if (lower_is_plain(&view->layout)) {
        *value = view->value;
        return STATUS_OK;
    }
    if (view->layout.axis == LOWER_HIDDEN && shape->rank > 1 && shape->dim[0] == 1) {
        return lower_reshaped(lower, view->value, shape, value);
    }
    if (view->layout.axis != LOWER_HIDDEN && view->layout.axis != 0) {
        return lower_refuse(lower, STATUS_UNSUPPORTED,
                            "got an input with the batch at axis %zu, expected the batch to stay the first dimension",
                            view->layout.axis);
    }
    char text[SHAPE_TEXT_SIZE];
    return lower_refuse(lower, STATUS_UNSUPPORTED,
                        "got an input that mixes the batch of a value %s (for one sample) with other dimensions, "
                        "expected the batch to stay the first dimension",
                        shape_text(shape, text));
}

enum status lower_value(struct lower *lower, size_t slot, size_t *value) {
    struct lower_view view;
    enum status status = lower_view(lower, slot, &view);
    return status != STATUS_OK ? status : lower_plain_value(lower, &view, value);
}

/* The same value with the batch in no axis of the file: what every layout of a file with a batch of 1 can become. */
static enum status hide_batch(struct lower *lower, struct lower_view *view, size_t rank) {
    struct shape shape = {.rank = rank + 1, .dim = {1}};
    size_t missing = rank - view->shape.rank;
    if (view->layout.axis == LOWER_HIDDEN && missing == 0) {
        return STATUS_OK;
    }
    if (shape.rank > SHAPE_RANK_MAX) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got rank %zu and a batch, expected at most %d", rank,
                            SHAPE_RANK_MAX);
    }
    for (size_t i = 0; i < rank; i++) {
        shape.dim[i + 1] = i < missing ? 1 : view->shape.dim[i - missing];
    }
    view->layout = (struct lower_layout){.axis = LOWER_HIDDEN};
    view->shape = (struct shape){.rank = rank};
    memcpy(view->shape.dim, shape.dim + 1, rank * sizeof *shape.dim);
    return lower_reshaped(lower, view->value, &shape, &view->value);
}

static bool same_layout(const struct lower_view *a, const struct lower_view *b) {
    return a->layout.axis == b->layout.axis && a->layout.lead == b->layout.lead && a->layout.trail == b->layout.trail &&
           a->shape.rank == b->shape.rank;
}

/* A file with a fixed batch may hold a constant once a sample (a class token, expanded); one of them will do if all are the same. */
static bool repeats_per_sample(const struct lower *lower, const struct onnx_constant *constant,
                               const struct lower_view *like) {
    size_t batch = lower->graph->fixed_batch, each = batch > 1 ? constant->count / batch : 0;
    if (lower->graph->batch_is_dynamic || batch < 2 || !lower_is_plain(&like->layout) || constant->floats == NULL ||
        constant->shape.rank != like->shape.rank || constant->shape.dim[0] != batch) {
        return false;
    }
    for (size_t i = 1; i < batch; i++) {
        if (memcmp(constant->floats, constant->floats + i * each, each * sizeof *constant->floats) != 0) {
            return false;
        }
    }
    return true;
}

/* A constant that reads along the file's axes, along ours: 1 where the batch is. */
static enum status align_constant(struct lower *lower, size_t slot, const struct lower_view *like, size_t *value) {
    const struct onnx_constant *constant = lower_constant(lower, slot);
    const struct lower_layout *layout = &like->layout;
    size_t rank = like->shape.rank, offset = rank - constant->shape.rank, batch = layout->axis;
    char text[2][SHAPE_TEXT_SIZE];
    if (repeats_per_sample(lower, constant, like)) {
        struct shape one = constant->shape;
        one.dim[0] = 1;
        return lower_new_constant(lower, &one, constant->floats, value);
    }
    if (lower_is_plain(layout) || batch == LOWER_HIDDEN || (constant->shape.rank <= rank && offset > batch)) {
        return lower_weight(lower, slot, value); /* the axes after the batch are the same in both */
    }
    if (constant->shape.rank > rank || constant->shape.dim[batch - offset] != 1 ||
        constant->type != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT) {
        return lower_refuse(lower, STATUS_UNSUPPORTED,
                            "got %s %s and a value %s with the batch at axis %zu, expected one number along the batch",
                            onnx_type_name(constant->type), shape_text(&constant->shape, text[0]),
                            shape_text(&like->shape, text[1]), batch);
    }
    struct shape shape = {.rank = lower_shape(lower, like->value)->rank};
    for (size_t i = 0; i < shape.rank; i++) {
        shape.dim[i] = 1;
    }
    for (size_t i = offset; i < rank; i++) {
        shape.dim[lower_our_axis(layout, i)] = constant->shape.dim[i - offset];
    }
    return lower_new_constant(lower, &shape, constant->floats, value);
}

enum status lower_aligned(struct lower *lower, size_t first, size_t count, size_t *values, struct lower_view *like) {
    struct lower_view *views = arena_alloc(lower->arena, count, sizeof *views);
    size_t rank = 0, known = NETWORK_NONE;
    bool same = true, plain = true;
    if (views == NULL) {
        return error_no_memory(lower->error, "the inputs of a node");
    }
    for (size_t i = 0; i < count; i++) {
        const struct onnx_constant *constant = lower_constant(lower, first + i);
        if (constant != NULL) {
            rank = constant->shape.rank > rank ? constant->shape.rank : rank;
            continue;
        }
        enum status status = lower_view(lower, first + i, &views[i]);
        if (status != STATUS_OK) {
            return status;
        }
        rank = views[i].shape.rank > rank ? views[i].shape.rank : rank;
        same = same && (known == NETWORK_NONE || same_layout(&views[i], &views[known]));
        plain = plain && lower_is_plain(&views[i].layout);
        known = i;
    }
    if (known == NETWORK_NONE) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got constants alone, expected a computed value");
    }
    bool hide = lower_is_batch_of_1(lower) &&
                (!same || (views[known].layout.axis == LOWER_HIDDEN && views[known].shape.rank < rank));
    for (size_t i = 0; i < count; i++) {
        if (lower_constant(lower, first + i) == NULL) {
            enum status status = hide ? hide_batch(lower, &views[i], rank) : STATUS_OK;
            if (status != STATUS_OK) {
                return status;
            }
            values[i] = views[i].value;
        }
    }
    if (!same && !hide && !plain) {
        char text[SHAPE_TEXT_SIZE];
        return lower_refuse(lower, STATUS_UNSUPPORTED,
                            "got inputs that have the batch at different places (one is %s for one sample, with the "
                            "batch at axis %zu), expected the batch to stay at one place",
                            shape_text(&views[known].shape, text), views[known].layout.axis);
    }
    *like = views[known];
    for (size_t i = 0; i < count; i++) {
        if (lower_constant(lower, first + i) != NULL) {
            enum status status = align_constant(lower, first + i, like, &values[i]);
            if (status != STATUS_OK) {
                return status;
            }
        }
    }
    return STATUS_OK;
}

enum status lower_emit_in(struct lower *lower, enum op_kind op, const size_t *inputs, size_t count,
                          const struct op_attr *attr, const struct lower_layout *layout) {
    size_t output = NETWORK_NONE;
    enum status status = lower_step(lower, op, inputs, count, attr, &output);
    return status != STATUS_OK ? status : lower_bind_output(lower, 0, output, layout);
}

/* Reshape */

struct reshape {
    const struct lower_view *from;
    size_t before, after; /* elements before and after the batch in the file's order; a hidden batch has all after it */
    struct shape out;     /* in the file's order; the batch's axis as lead x trail */
};

/* The new shape, with the batch at axis `at`, as one of ours. */
static enum status emit_reshape(struct lower *lower, const struct reshape *reshape, size_t at) {
    struct lower_layout layout = {.axis = at};
    struct shape ours = {.rank = 1, .dim = {1}};
    const struct shape *out = &reshape->out;
    size_t before = 1, after = 1, y = 0;
    for (size_t i = 0; at != LOWER_HIDDEN && i < out->rank; i++) {
        *(i < at ? &before : &after) *= i == at ? 1 : out->dim[i];
    }
    size_t lead = at == LOWER_HIDDEN || before == 0 ? 1 : reshape->before / before;
    size_t trail = at == LOWER_HIDDEN || after == 0 ? 1 : reshape->after / after;
    layout.lead = lead > 1;
    layout.trail = trail > 1;
    if (out->rank + layout.lead + layout.trail + (at == LOWER_HIDDEN) > SHAPE_RANK_MAX) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got a new shape of rank %zu and a batch, expected at most %d",
                            out->rank, SHAPE_RANK_MAX);
    }
    for (size_t i = 0; i < out->rank; i++) {
        if (i != at) {
            ours.dim[ours.rank++] = out->dim[i];
            continue;
        }
        if (layout.lead) {
            ours.dim[ours.rank++] = lead;
        }
        if (layout.trail) {
            ours.dim[ours.rank++] = trail;
        }
    }
    if (!lower_is_plain(&layout) && shape_equal(&ours, lower_shape(lower, reshape->from->value))) {
        return lower_bind_output(lower, 0, reshape->from->value, &layout); /* only the file's view of it changes */
    }
    enum status status = lower_reshaped(lower, reshape->from->value, &ours, &y);
    return status != STATUS_OK ? status : lower_bind_output(lower, 0, y, &layout);
}

static enum status refuse_mixing(struct lower *lower, const struct lower_view *view) {
    char text[SHAPE_TEXT_SIZE];
    return lower_refuse(lower, STATUS_UNSUPPORTED,
                        "got a result that mixes the batch of an input %s (for one sample) with other dimensions, "
                        "expected the batch to stay the first dimension",
                        shape_text(&view->shape, text));
}

/* Whether the batch, `times` it of the file's number, can be at axis `at` of `out`; the dimensions around it are then known. */
static bool fits_at(const struct reshape *reshape, size_t at, size_t times, size_t *merged) {
    size_t before = 1, after = 1;
    for (size_t i = 0; i < reshape->out.rank; i++) {
        *(i < at ? &before : &after) *= i == at ? 1 : reshape->out.dim[i];
    }
    if (before == 0 || after == 0 || reshape->before % before != 0 || reshape->after % after != 0) {
        return false;
    }
    *merged = reshape->before / before * (reshape->after / after);
    return times == 0 || reshape->out.dim[at] == *merged * times;
}

/* A file with a fixed batch has plain numbers: the batch is where it is merged with least. With a batch of 1 it can be at
 * any axis of 1, or at none. */
static enum status place_fixed(struct lower *lower, struct reshape *reshape) {
    size_t best = NETWORK_NONE, least = SIZE_MAX, batch = lower->graph->fixed_batch;
    for (size_t i = 0; batch == 1 && i < reshape->out.rank; i++) {
        if (reshape->out.dim[i] == 1) {
            reshape->before = 1;
            reshape->after = 1;
            for (size_t k = 0; k < reshape->out.rank; k++) {
                *(k < i ? &reshape->before : &reshape->after) *= k == i ? 1 : reshape->out.dim[k];
            }
            return emit_reshape(lower, reshape, i);
        }
    }
    if (batch == 1) {
        return emit_reshape(lower, reshape, LOWER_HIDDEN);
    }
    for (size_t i = 0; i < reshape->out.rank; i++) {
        size_t merged = 0;
        if (fits_at(reshape, i, batch, &merged) && merged < least) {
            least = merged;
            best = i;
        }
    }
    return best == NETWORK_NONE ? refuse_mixing(lower, reshape->from) : emit_reshape(lower, reshape, best);
}

/* Gives `out` its numbers: those that are there, copies for 0, what is left for -1. `total` elements in all. */
static enum status solve(struct lower *lower, const struct shape *in, const int64_t *targets, bool allow_zero,
                         size_t total, size_t skip, struct shape *out) {
    size_t open = NETWORK_NONE, product = 1;
    for (size_t i = 0; i < out->rank; i++) {
        int64_t target = targets[i];
        if (i == skip) {
            continue;
        }
        if (target == -1 && open == NETWORK_NONE) {
            open = i;
            out->dim[i] = 1;
            continue;
        }
        if (target == 0 && !allow_zero && i < in->rank) {
            target = (int64_t)in->dim[i];
        }
        if (target < 1) {
            return lower_refuse(lower, STATUS_INVALID,
                                "got %lld in dimension %zu of the new shape, expected a size, 0 for one that is there, "
                                "or one -1",
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
    if (skip == NETWORK_NONE ? product != total : total % product != 0) {
        char text[SHAPE_TEXT_SIZE];
        return lower_refuse(lower, STATUS_INVALID, "got a new shape of %zu values, expected the %zu of shape %s",
                            product, total, shape_text(in, text));
    }
    return STATUS_OK;
}

/* The axis that has the batch in a file where it is open: a multiple of what Shape gave, a copy of where it was, or what
 * is left. */
static size_t find_open_batch(const struct lower_view *from, const int64_t *targets, size_t count, bool allow_zero) {
    int64_t times = 0;
    for (size_t i = 0; i < count; i++) {
        if (onnx_is_batch(targets[i], &times)) {
            return i;
        }
    }
    if (from->layout.axis < count && targets[from->layout.axis] == 0 && !allow_zero) {
        return from->layout.axis;
    }
    for (size_t i = 0; i < count; i++) {
        if (targets[i] == -1) {
            return i;
        }
    }
    return NETWORK_NONE;
}

static enum status reshape_open(struct lower *lower, struct reshape *reshape, const int64_t *targets, bool allow_zero) {
    const struct lower_view *from = reshape->from;
    size_t at = find_open_batch(from, targets, reshape->out.rank, allow_zero), merged = 0, batches = 0;
    int64_t times = 0;
    for (size_t i = 0; i < reshape->out.rank; i++) {
        batches += onnx_is_batch(targets[i], &times);
    }
    if (at == NETWORK_NONE || batches > 1) {
        return refuse_mixing(lower, from);
    }
    bool given = onnx_is_batch(targets[at], &times);
    size_t total = reshape->before * reshape->after;
    /* With the batch's multiple given, what is left is left of the rest. */
    if (given && (times < 1 || total % (size_t)times != 0)) {
        return refuse_mixing(lower, from);
    }
    enum status status =
        solve(lower, &from->shape, targets, allow_zero, given ? total / (size_t)times : total, at, &reshape->out);
    if (status != STATUS_OK) {
        return status;
    }
    if (!fits_at(reshape, at, 0, &merged) || (given && merged != (size_t)times)) {
        return refuse_mixing(lower, from);
    }
    return emit_reshape(lower, reshape, at);
}

enum status lower_reshape_to(struct lower *lower, const struct lower_view *from, const int64_t *targets, size_t count,
                             bool allow_zero) {
    struct reshape reshape = {.from = from, .before = 1, .after = 1, .out = {.rank = count}};
    const struct shape *ours = lower_shape(lower, from->value);
    size_t batch = lower->graph->fixed_batch;
    for (size_t i = 1; i < ours->rank; i++) {
        bool first = from->layout.axis != LOWER_HIDDEN && i <= from->layout.axis + from->layout.lead;
        *(first ? &reshape.before : &reshape.after) *= ours->dim[i];
    }
    if (lower->graph->batch_is_dynamic) {
        return reshape_open(lower, &reshape, targets, allow_zero);
    }
    struct shape in = from->shape;
    int64_t numbers[SHAPE_RANK_MAX] = {0}, times = 0;
    size_t total = 0;
    if (from->layout.axis != LOWER_HIDDEN) {
        in.dim[from->layout.axis] *= batch;
    }
    if (!shape_count_checked(&in, &total) || batch > INT32_MAX) {
        return lower_refuse(lower, STATUS_INVALID, "got dimensions that overflow");
    }
    for (size_t i = 0; i < count; i++) {
        numbers[i] = targets[i];
        if (onnx_is_batch(targets[i], &times)) {
            numbers[i] = times * (int64_t)batch;
        }
    }
    enum status status = solve(lower, &in, numbers, allow_zero, total, NETWORK_NONE, &reshape.out);
    return status != STATUS_OK ? status : place_fixed(lower, &reshape);
}
