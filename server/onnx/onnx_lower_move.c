/* Slice, Split, Gather, Expand, ConstantOfShape, DepthToSpace, SpaceToDepth, Resize: parts and repeats. Of constants they are
 * folded; of computed values they become Slice, Reshape and Transpose nodes that leave the batch alone. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "server/onnx/onnx_lower.h"
#include "server/onnx/onnx_parse.h"

enum { GATHER_PARTS_MAX = 64 };

/* The integers at `slot`, or of the attribute in files of opsets below `as_input`; NULL and 0 if there are none. */
static enum status read_list(struct lower *lower, int64_t as_input, const char *attribute, size_t slot,
                             const int64_t **values, size_t *count) {
    *values = NULL;
    *count = 0;
    if (lower->opset < as_input) {
        return attribute != NULL ? lower_attr_ints(lower, attribute, values, count) : STATUS_OK;
    }
    if (!lower_has_input(lower, slot)) {
        return STATUS_OK;
    }
    const struct onnx_constant *constant = NULL;
    enum status status = lower_integers(lower, slot, &constant);
    if (status == STATUS_OK) {
        *values = constant->integers;
        *count = constant->count;
    }
    return status;
}

/* What the first input is: a constant, or a computed value in the file's order of axes. */
struct subject {
    const struct onnx_constant *constant; /* or NULL: */
    size_t value;
    struct lower_layout layout;
    struct shape shape; /* in the file's order, the batch as in struct lower_view */
};

static enum status read_subject(struct lower *lower, struct subject *subject) {
    *subject = (struct subject){.constant = lower_constant(lower, 0)};
    if (subject->constant != NULL) {
        subject->shape = subject->constant->shape;
        return STATUS_OK;
    }
    struct lower_view view;
    enum status status = lower_view(lower, 0, &view);
    if (status == STATUS_OK) {
        *subject = (struct subject){.value = view.value, .layout = view.layout, .shape = view.shape};
    }
    return status;
}

static bool is_batch(const struct subject *subject, size_t axis) {
    return subject->constant == NULL && axis == subject->layout.axis;
}

static struct fold_walk whole(const struct shape *shape) {
    struct fold_walk walk = {.shape = *shape};
    for (size_t i = 0; i < shape->rank; i++) {
        walk.step[i] = 1;
    }
    return walk;
}

/* A part of a computed value, in the file's order; the node keeps ours. */
static enum status slice_value(struct lower *lower, const struct subject *subject, const struct fold_walk *walk,
                               size_t *output) {
    struct op_attr attr = {.shape = *lower_shape(lower, subject->value)};
    for (size_t i = 0; i < attr.shape.rank; i++) {
        attr.slice_step[i] = 1;
    }
    for (size_t i = 0; i < walk->shape.rank; i++) {
        size_t ours = lower_our_axis(&subject->layout, i);
        if (i == subject->layout.axis) {
            continue;
        }
        attr.shape.dim[ours] = walk->shape.dim[i];
        attr.slice_start[ours] = walk->start[i];
        attr.slice_step[ours] = walk->step[i];
    }
    return lower_step(lower, OP_SLICE, &subject->value, 1, &attr, output);
}

/* Slice */

/* One axis: start and end as the operator clamps them; a reversed walk may run down to the element before the first. */
static enum status slice_axis(struct lower *lower, const struct subject *subject, size_t axis, int64_t start,
                              int64_t end, int64_t step, struct fold_walk *walk) {
    int64_t size = (int64_t)subject->shape.dim[axis], times = 0;
    if (is_batch(subject, axis)) {
        bool all = start == 0 && step == 1 && (onnx_is_batch(end, &times) || end >= INT32_MAX);
        return all ? STATUS_OK : lower_refuse(lower, STATUS_UNSUPPORTED, "got a part of the batch, expected all of it");
    }
    if (onnx_is_batch(start, &times) || onnx_is_batch(end, &times) || step == 0 || step < -INT32_MAX ||
        step > INT32_MAX) {
        return lower_refuse(lower, STATUS_UNSUPPORTED,
                            "got the batch size as a bound, or step %lld, expected numbers and another step than 0",
                            (long long)step);
    }
    int64_t low = step > 0 ? 0 : -1, high = step > 0 ? size : size - 1;
    start = start < 0 ? (start < -size ? low : start + size) : start;
    end = end < 0 ? (end < -size ? low : end + size) : end;
    start = start > high ? high : start < low ? low : start;
    end = end > size ? size : end < low ? low : end;
    int64_t span = step > 0 ? end - start : start - end, stride = step > 0 ? step : -step;
    int64_t count = span > 0 ? (span + stride - 1) / stride : 0;
    walk->shape.dim[axis] = (size_t)count;
    walk->start[axis] = count > 0 ? (size_t)start : 0;
    walk->step[axis] = (ptrdiff_t)step;
    return STATUS_OK;
}

enum status lower_slice(struct lower *lower) {
    static const char *const NAMES[4] = {"starts", "ends", "axes", NULL};
    struct subject subject;
    const int64_t *lists[4] = {NULL};
    size_t counts[4] = {0}, y = 0;
    bool chosen[SHAPE_RANK_MAX] = {false};
    enum status status = lower_arity(lower, lower->opset < 10 ? 1 : 3, lower->opset < 10 ? 1 : 5);
    if (status == STATUS_OK) {
        status = read_subject(lower, &subject);
    }
    for (size_t i = 0; status == STATUS_OK && i < 4; i++) {
        status = read_list(lower, 10, NAMES[i], 1 + i, &lists[i], &counts[i]);
    }
    if (status != STATUS_OK) {
        return status;
    }
    size_t count = counts[0];
    if (count > subject.shape.rank || counts[1] != count || (lists[2] != NULL && counts[2] != count) ||
        (lists[3] != NULL && counts[3] != count)) {
        return lower_refuse(lower, STATUS_INVALID, "got %zu starts and %zu ends for rank %zu, expected as many of each",
                            count, counts[1], subject.shape.rank);
    }
    struct fold_walk walk = whole(&subject.shape);
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        size_t axis = 0;
        status = lower_axis_once(lower, lists[2] != NULL ? lists[2][i] : (int64_t)i, subject.shape.rank, chosen, &axis);
        if (status == STATUS_OK) {
            status =
                slice_axis(lower, &subject, axis, lists[0][i], lists[1][i], lists[3] != NULL ? lists[3][i] : 1, &walk);
        }
    }
    if (status != STATUS_OK || subject.constant != NULL) {
        return status != STATUS_OK ? status : fold_strided(lower, subject.constant, &walk);
    }
    status = slice_value(lower, &subject, &walk, &y);
    return status != STATUS_OK ? status : lower_bind_output(lower, 0, y, &subject.layout);
}

/* Split: as many parts as there are outputs; without sizes they are equal, the last one smaller if it must. */
enum status lower_split(struct lower *lower) {
    struct subject subject;
    const int64_t *sizes = NULL;
    size_t count = 0, axis = 0, at = 0, parts = lower->node->n_output;
    int64_t attribute = 0;
    enum status status = lower_arity(lower, 1, lower->opset < 13 ? 1 : 2);
    if (status == STATUS_OK) {
        status = read_subject(lower, &subject);
    }
    if (status == STATUS_OK) {
        status = lower_attr_int(lower, "axis", 0, &attribute);
    }
    if (status == STATUS_OK) {
        status = lower_axis(lower, attribute, subject.shape.rank, &axis);
    }
    if (status == STATUS_OK) {
        status = read_list(lower, 13, "split", 1, &sizes, &count);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (subject.constant != NULL || is_batch(&subject, axis) || parts == 0 || (sizes != NULL && count != parts)) {
        return lower_refuse(lower, STATUS_UNSUPPORTED,
                            "got a constant, the batch axis, or %zu sizes for %zu outputs, expected a computed value, "
                            "another axis, and as many sizes as outputs",
                            count, parts);
    }
    size_t length = subject.shape.dim[axis], share = length / parts + (length % parts != 0);
    for (size_t i = 0; status == STATUS_OK && i < parts; i++) {
        size_t y = 0, left = length - at, size = share < left ? share : left;
        struct fold_walk walk = whole(&subject.shape);
        if (sizes != NULL) {
            size = sizes[i] > 0 && (uint64_t)sizes[i] <= left ? (size_t)sizes[i] : 0;
        }
        if (size == 0 || (i + 1 == parts && size != left)) {
            return lower_refuse(lower, STATUS_INVALID, "got part %zu of %zu values, expected a share of the %zu left",
                                i, size, left);
        }
        walk.shape.dim[axis] = size;
        walk.start[axis] = at;
        at += size;
        status = slice_value(lower, &subject, &walk, &y);
        if (status == STATUS_OK) {
            status = lower_bind_output(lower, i, y, &subject.layout);
        }
    }
    return status;
}

/* Gather */

/* Whether the indices are start, start + step, ...: then one Slice does it. */
static bool is_progression(const size_t *index, size_t count) {
    for (size_t i = 2; i < count; i++) {
        if (index[i] - index[i - 1] != index[1] - index[0]) {
            return false;
        }
    }
    return true;
}

static enum status gather_parts(struct lower *lower, const struct subject *subject, size_t axis, const size_t *index,
                                size_t count, size_t *output) {
    size_t parts[GATHER_PARTS_MAX];
    struct fold_walk walk = whole(&subject->shape);
    enum status status = STATUS_OK;
    walk.start[axis] = index[0];
    if (is_progression(index, count)) {
        walk.shape.dim[axis] = count;
        walk.step[axis] = count > 1 ? (ptrdiff_t)(index[1] - index[0]) : 1;
        return slice_value(lower, subject, &walk, output);
    }
    walk.shape.dim[axis] = 1;
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        walk.start[axis] = index[i];
        status = slice_value(lower, subject, &walk, &parts[i]);
    }
    struct op_attr attr = {.axis = lower_our_axis(&subject->layout, axis)};
    return status != STATUS_OK ? status : lower_step(lower, OP_CONCAT, parts, count, &attr, output);
}

static enum status gather_value(struct lower *lower, const struct subject *subject, const struct onnx_constant *indices,
                                size_t axis) {
    size_t index[GATHER_PARTS_MAX] = {0}, y = 0, back = 0;
    struct lower_layout layout = subject->layout;
    enum status status = STATUS_OK;
    if (is_batch(subject, axis) || indices->count == 0 || indices->count > GATHER_PARTS_MAX) {
        return lower_refuse(lower, STATUS_UNSUPPORTED,
                            "got %zu indices along axis %zu, expected 1 to %d and not the batch", indices->count, axis,
                            GATHER_PARTS_MAX);
    }
    /* Ours has more axes than the file's where the batch is hidden or merged. */
    size_t rank = lower_shape(lower, subject->value)->rank - 1 + indices->shape.rank;
    if (rank > SHAPE_RANK_MAX) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got a result of %zu axes, expected at most %d", rank,
                            SHAPE_RANK_MAX);
    }
    for (size_t i = 0; status == STATUS_OK && i < indices->count; i++) {
        status = lower_index(lower, indices->integers[i], subject->shape.dim[axis], &index[i]);
    }
    if (status == STATUS_OK) {
        status = gather_parts(lower, subject, axis, index, indices->count, &y);
    }
    if (status != STATUS_OK || indices->shape.rank == 1) {
        return status != STATUS_OK ? status : lower_bind_output(lower, 0, y, &layout);
    }
    /* The axis becomes those of the indices: none for a scalar. */
    const struct shape *ours = lower_shape(lower, y);
    struct shape out = {.rank = 0};
    size_t at = lower_our_axis(&layout, axis);
    for (size_t d = 0; d < ours->rank; d++) {
        if (d != at) {
            out.dim[out.rank++] = ours->dim[d];
        }
        for (size_t k = 0; d == at && k < indices->shape.rank; k++) {
            out.dim[out.rank++] = indices->shape.dim[k];
        }
    }
    if (layout.axis != LOWER_HIDDEN && axis < layout.axis) {
        layout.axis = layout.axis + indices->shape.rank - 1;
    }
    status = lower_reshaped(lower, y, &out, &back);
    return status != STATUS_OK ? status : lower_bind_output(lower, 0, back, &layout);
}

enum status lower_gather(struct lower *lower) {
    struct subject subject;
    int64_t attribute = 0;
    size_t axis = 0;
    enum status status = lower_arity(lower, 2, 2);
    if (status == STATUS_OK) {
        status = read_subject(lower, &subject);
    }
    if (status == STATUS_OK) {
        status = lower_attr_int(lower, "axis", 0, &attribute);
    }
    if (status == STATUS_OK) {
        status = lower_axis(lower, attribute, subject.shape.rank, &axis);
    }
    const struct onnx_constant *indices = status == STATUS_OK ? lower_constant(lower, 1) : NULL;
    if (status == STATUS_OK && (indices == NULL || indices->integers == NULL)) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got computed indices or floats, expected constant integers");
    }
    if (status != STATUS_OK) {
        return status;
    }
    return subject.constant != NULL ? fold_gather(lower, subject.constant, indices, axis)
                                    : gather_value(lower, &subject, indices, axis);
}

/* Expand and ConstantOfShape */

/* Whether a target for the batch axis leaves it as it is. */
static bool keeps_batch(const struct lower *lower, int64_t target) {
    return target == onnx_batch(1) || target == 1 ||
           (!lower->graph->batch_is_dynamic && target > 0 && (uint64_t)target == lower->graph->fixed_batch);
}

/* A constant that is repeated over the batch is one for a single sample: every reader gives it to each of them. */
enum status lower_expand(struct lower *lower) {
    struct subject subject;
    const struct onnx_constant *targets = NULL;
    struct shape wanted = {.rank = 0}, out = {0};
    char text[SHAPE_TEXT_SIZE];
    enum status status = lower_arity(lower, 2, 2);
    if (status == STATUS_OK) {
        status = read_subject(lower, &subject);
    }
    if (status == STATUS_OK) {
        status = lower_integers(lower, 1, &targets);
    }
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < targets->count && targets->count <= SHAPE_RANK_MAX; i++) {
        int64_t target = targets->integers[i];
        bool batch = i == 0 && (subject.constant == NULL ? keeps_batch(lower, target) : target == onnx_batch(1));
        if (!batch && (target < 1 || (i == 0 && subject.constant == NULL && targets->count == subject.shape.rank))) {
            return lower_refuse(lower, STATUS_UNSUPPORTED, "got %lld as dimension %zu, expected a size",
                                (long long)target, i);
        }
        wanted.dim[wanted.rank++] = batch ? 1 : (size_t)target;
    }
    if (targets->count > SHAPE_RANK_MAX || !shape_broadcast(&subject.shape, &wanted, &out) ||
        (subject.constant == NULL && (!lower_is_plain(&subject.layout) || out.rank != subject.shape.rank))) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got %zu dimensions for an input of shape %s", targets->count,
                            shape_text(&subject.shape, text));
    }
    struct fold_walk walk = {.shape = out};
    size_t missing = out.rank - subject.shape.rank;
    for (size_t i = missing; i < out.rank; i++) {
        walk.step[i] = subject.shape.dim[i - missing] == out.dim[i] ? 1 : 0;
    }
    if (subject.constant == NULL) {
        size_t y = 0;
        status = slice_value(lower, &subject, &walk, &y);
        return status != STATUS_OK ? status : lower_bind_value(lower, y);
    }
    struct onnx_constant aligned = *subject.constant;
    aligned.shape = (struct shape){.rank = out.rank};
    for (size_t i = 0; i < out.rank; i++) {
        aligned.shape.dim[i] = i < missing ? 1 : subject.shape.dim[i - missing];
    }
    return fold_strided(lower, &aligned, &walk);
}

enum status lower_constant_of_shape(struct lower *lower) {
    const struct onnx_constant *targets = NULL;
    struct onnx_constant value = {.count = 1};
    static const float ZERO = 0.0F;
    struct fold_walk walk = {.shape = {.rank = 0}};
    enum status status = lower_arity(lower, 1, 1);
    if (status == STATUS_OK) {
        status = lower_integers(lower, 0, &targets);
    }
    if (status != STATUS_OK) {
        return status;
    }
    const Onnx__AttributeProto *attribute = lower_attr(lower, "value");
    if (attribute != NULL && attribute->t != NULL) {
        status = onnx_tensor_read(attribute->t, lower->where, lower->arena, &value, lower->error);
    } else {
        value.type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
        value.floats = &ZERO;
    }
    if (status == STATUS_OK && (value.count != 1 || targets->count > SHAPE_RANK_MAX)) {
        return lower_refuse(lower, STATUS_INVALID, "got %zu values and %zu dimensions, expected 1 and at most %d",
                            value.count, targets->count, SHAPE_RANK_MAX);
    }
    value.shape = (struct shape){.rank = targets->count};
    for (size_t i = 0; status == STATUS_OK && i < targets->count; i++) {
        int64_t target = targets->integers[i];
        bool batch = i == 0 && target == onnx_batch(1);
        if (!batch && target < 0) {
            return lower_refuse(lower, STATUS_UNSUPPORTED, "got %lld as dimension %zu, expected a size",
                                (long long)target, i);
        }
        value.shape.dim[i] = 1;
        walk.shape.dim[walk.shape.rank++] = batch ? 1 : (size_t)target;
    }
    return status != STATUS_OK ? status : fold_strided(lower, &value, &walk);
}

/* DepthToSpace and SpaceToDepth: a Transpose of six axes between two Reshapes. */

static enum status shuffle(struct lower *lower, size_t x, const struct shape *apart, const size_t perm[6],
                           const struct shape *out) {
    struct op_attr attr = {.axes_count = 6};
    size_t view = 0, moved = 0, y = 0;
    memcpy(attr.axes, perm, 6 * sizeof *perm);
    enum status status = lower_reshaped(lower, x, apart, &view);
    if (status == STATUS_OK) {
        status = lower_step(lower, OP_TRANSPOSE, &view, 1, &attr, &moved);
    }
    if (status == STATUS_OK) {
        status = lower_reshaped(lower, moved, out, &y);
    }
    return status != STATUS_OK ? status : lower_bind_value(lower, y);
}

static enum status read_block(struct lower *lower, size_t *x, size_t *block) {
    int64_t size = 0;
    enum status status = lower_arity(lower, 1, 1);
    if (status == STATUS_OK) {
        status = lower_value(lower, 0, x);
    }
    if (status == STATUS_OK) {
        status = lower_attr_int(lower, "blocksize", 0, &size);
    }
    if (status == STATUS_OK && (lower_shape(lower, *x)->rank != 4 || size < 1 || size > 1 << 15)) {
        return lower_refuse(lower, STATUS_INVALID, "got blocksize %lld and rank %zu, expected 1 to %d and 4",
                            (long long)size, lower_shape(lower, *x)->rank, 1 << 15);
    }
    *block = (size_t)size;
    return status;
}

enum status lower_depth_to_space(struct lower *lower) {
    static const size_t DCR[6] = {0, 3, 4, 1, 5, 2}, CRD[6] = {0, 1, 4, 2, 5, 3};
    size_t x = NETWORK_NONE, b = 1;
    char mode[LOWER_TEXT_MAX];
    enum status status = read_block(lower, &x, &b);
    if (status == STATUS_OK) {
        status = lower_attr_text(lower, "mode", "DCR", mode);
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct shape in = *lower_shape(lower, x);
    bool depth_first = strcmp(mode, "DCR") == 0;
    if (in.dim[1] % (b * b) != 0 || (!depth_first && strcmp(mode, "CRD") != 0)) {
        return lower_refuse(lower, STATUS_INVALID,
                            "got %zu channels and mode '%s', expected a multiple of %zu and "
                            "DCR or CRD",
                            in.dim[1], mode, b * b);
    }
    size_t c = in.dim[1] / (b * b);
    struct shape apart = {.rank = 6, .dim = {1, depth_first ? b : c, b, depth_first ? c : b, in.dim[2], in.dim[3]}};
    struct shape out = {.rank = 4, .dim = {1, c, in.dim[2] * b, in.dim[3] * b}};
    return shuffle(lower, x, &apart, depth_first ? DCR : CRD, &out);
}

enum status lower_space_to_depth(struct lower *lower) {
    static const size_t PERM[6] = {0, 3, 5, 1, 2, 4};
    size_t x = NETWORK_NONE, b = 1;
    enum status status = read_block(lower, &x, &b);
    if (status != STATUS_OK) {
        return status;
    }
    const struct shape in = *lower_shape(lower, x);
    if (in.dim[2] % b != 0 || in.dim[3] % b != 0) {
        return lower_refuse(lower, STATUS_INVALID, "got %zu rows and %zu columns, expected multiples of %zu", in.dim[2],
                            in.dim[3], b);
    }
    struct shape apart = {.rank = 6, .dim = {1, in.dim[1], in.dim[2] / b, b, in.dim[3] / b, b}};
    struct shape out = {.rank = 4, .dim = {1, in.dim[1] * b * b, in.dim[2] / b, in.dim[3] / b}};
    return shuffle(lower, x, &apart, PERM, &out);
}

/* Resize */

struct choice {
    const char *name;
    int value;
};

static enum status choose(struct lower *lower, const char *attribute, const char *fallback,
                          const struct choice *choices, int *value) {
    char text[LOWER_TEXT_MAX], known[128] = "";
    enum status status = lower_attr_text(lower, attribute, fallback, text);
    for (size_t at = 0; status == STATUS_OK && choices->name != NULL; choices++) {
        if (strcmp(choices->name, text) == 0) {
            *value = choices->value;
            return STATUS_OK;
        }
        int length = snprintf(known + at, sizeof known - at, "%s%s", at > 0 ? ", " : "", choices->name);
        at = length > 0 && at + (size_t)length < sizeof known ? at + (size_t)length : sizeof known - 1;
    }
    return status != STATUS_OK
               ? status
               : lower_refuse(lower, STATUS_UNSUPPORTED, "got %s '%s', expected one of %s", attribute, text, known);
}

static enum status read_resize_modes(struct lower *lower, struct resize_attr *attr) {
    static const struct choice MODES[] = {{"nearest", 0}, {"linear", 1}, {NULL, 0}};
    static const struct choice COORDINATES[] = {{"half_pixel", RESIZE_HALF_PIXEL},
                                                {"pytorch_half_pixel", RESIZE_HALF_PIXEL_TORCH},
                                                {"align_corners", RESIZE_ALIGN_CORNERS},
                                                {"asymmetric", RESIZE_ASYMMETRIC},
                                                {NULL, 0}};
    static const struct choice ROUNDING[] = {{"round_prefer_floor", RESIZE_ROUND_PREFER_FLOOR},
                                             {"round_prefer_ceil", RESIZE_ROUND_PREFER_CEIL},
                                             {"floor", RESIZE_FLOOR},
                                             {"ceil", RESIZE_CEIL},
                                             {NULL, 0}};
    bool old = lower->opset < 11, antialias = false;
    int linear = 0, coordinates = 0, rounding = 0;
    enum status status = choose(lower, "mode", "nearest", MODES, &linear);
    if (status == STATUS_OK) {
        status = choose(lower, "coordinate_transformation_mode", old ? "asymmetric" : "half_pixel", COORDINATES,
                        &coordinates);
    }
    if (status == STATUS_OK) {
        status = choose(lower, "nearest_mode", old ? "floor" : "round_prefer_floor", ROUNDING, &rounding);
    }
    if (status == STATUS_OK) {
        status = lower_attr_bool(lower, "antialias", false, &antialias);
    }
    if (status == STATUS_OK &&
        (antialias || lower_attr(lower, "axes") != NULL || lower_attr(lower, "keep_aspect_ratio_policy") != NULL)) {
        return lower_refuse(lower, STATUS_UNSUPPORTED,
                            "got antialias, axes or keep_aspect_ratio_policy, expected none");
    }
    attr->linear = linear != 0;
    attr->coordinates = (enum resize_coordinates)coordinates;
    attr->rounding = (enum resize_rounding)rounding;
    return status;
}

/* Rows and columns from scales or from sizes; the batch and the channels keep theirs. */
static enum status read_resize_sizes(struct lower *lower, const struct shape *in, struct resize_attr *attr) {
    const struct onnx_constant *scales = lower_constant(lower, lower->opset < 11 ? 1 : 2);
    const struct onnx_constant *sizes = lower->opset < 11 ? NULL : lower_constant(lower, 3);
    if (sizes != NULL && sizes->integers != NULL && sizes->count == 4) {
        const int64_t *size = sizes->integers;
        if (keeps_batch(lower, size[0]) && size[1] == (int64_t)in->dim[1] && size[2] > 0 && size[3] > 0) {
            for (size_t d = 0; d < 2; d++) {
                attr->size[d] = (size_t)size[2 + d];
                attr->scale[d] = (float)size[2 + d] / (float)in->dim[2 + d];
            }
            return STATUS_OK;
        }
    } else if (scales != NULL && scales->type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT && scales->count == 4) {
        const float *scale = scales->floats;
        bool plain = scale[0] >= 1.0F && scale[0] <= 1.0F && scale[1] >= 1.0F && scale[1] <= 1.0F;
        for (size_t d = 0; plain && d < 2; d++) {
            double size = floor((double)in->dim[2 + d] * (double)scale[2 + d]);
            plain = size >= 1 && size <= 1 << 20;
            attr->size[d] = plain ? (size_t)size : 0;
            attr->scale[d] = scale[2 + d];
        }
        if (plain) {
            return STATUS_OK;
        }
    }
    return lower_refuse(lower, STATUS_UNSUPPORTED,
                        "got other scales or sizes than constants for the rows and columns of (N, C, H, W)");
}

enum status lower_resize(struct lower *lower) {
    struct op_attr attr = {0};
    size_t x = NETWORK_NONE;
    enum status status = lower_arity(lower, 2, 4);
    if (status == STATUS_OK) {
        status = lower_value(lower, 0, &x);
    }
    if (status == STATUS_OK && lower_shape(lower, x)->rank != 4) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got an input of rank %zu, expected 4 (N, C, H, W)",
                            lower_shape(lower, x)->rank);
    }
    if (status == STATUS_OK) {
        status = read_resize_modes(lower, &attr.resize);
    }
    if (status == STATUS_OK) {
        status = read_resize_sizes(lower, lower_shape(lower, x), &attr.resize);
    }
    return status != STATUS_OK ? status : lower_emit(lower, OP_RESIZE, &x, 1, &attr);
}
