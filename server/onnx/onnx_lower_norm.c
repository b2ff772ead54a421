/* LayerNormalization, InstanceNormalization, GroupNormalization and LRN, as the small nodes of their definitions: the same
 * nodes that exporters of older opsets write for them. */
#include "server/onnx/onnx_lower.h"

static enum status scalar(struct lower *lower, float number, size_t *value) {
    return lower_new_constant(lower, &(struct shape){.rank = 1, .dim = {1}}, &number, value);
}

static enum status binary(struct lower *lower, enum op_kind op, size_t a, size_t b, size_t *out) {
    return lower_step(lower, op, (size_t[]){a, b}, 2, &(struct op_attr){0}, out);
}

/* y = (x - mean) / sqrt(variance + epsilon) over the axes from `first` on. */
static enum status normalise(struct lower *lower, size_t x, size_t first, float epsilon, size_t *y) {
    struct op_attr mean_of = {.keep_dims = true};
    size_t mean = 0, centred = 0, square = 0, variance = 0, shift = 0, sum = 0, root = 0;
    for (size_t axis = first; axis < lower_shape(lower, x)->rank; axis++) {
        mean_of.axes[mean_of.axes_count++] = axis;
    }
    enum status status = lower_step(lower, OP_REDUCE_MEAN, &x, 1, &mean_of, &mean);
    if (status == STATUS_OK) {
        status = binary(lower, OP_SUB, x, mean, &centred);
    }
    if (status == STATUS_OK) {
        status = binary(lower, OP_MUL, centred, centred, &square);
    }
    if (status == STATUS_OK) {
        status = lower_step(lower, OP_REDUCE_MEAN, &square, 1, &mean_of, &variance);
    }
    if (status == STATUS_OK) {
        status = scalar(lower, epsilon, &shift);
    }
    if (status == STATUS_OK) {
        status = binary(lower, OP_ADD, variance, shift, &sum);
    }
    if (status == STATUS_OK) {
        status = lower_step(lower, OP_SQRT, &sum, 1, &(struct op_attr){0}, &root);
    }
    return status != STATUS_OK ? status : binary(lower, OP_DIV, centred, root, y);
}

enum status lower_layer_norm(struct lower *lower) {
    int64_t attribute = -1, stash = 1;
    float epsilon = 1e-5F;
    size_t axis = 0, scale = 0, y = 0, scaled = 0, bias = 0;
    struct lower_view x;
    enum status status = lower_arity(lower, 2, 3);
    if (status == STATUS_OK) {
        status = lower_view(lower, 0, &x);
    }
    if (status == STATUS_OK) {
        status = lower_attr_int(lower, "axis", -1, &attribute);
    }
    if (status == STATUS_OK) {
        status = lower_attr_int(lower, "stash_type", 1, &stash);
    }
    if (status == STATUS_OK) {
        status = lower_attr_float(lower, "epsilon", 1e-5F, &epsilon);
    }
    if (status == STATUS_OK) {
        status = lower_axis(lower, attribute, x.shape.rank, &axis);
    }
    if (status == STATUS_OK && x.layout.axis != LOWER_HIDDEN && axis <= x.layout.axis) {
        return lower_refuse(lower, STATUS_UNSUPPORTED,
                            "got axis %zu and the batch at %zu, expected one within each sample", axis, x.layout.axis);
    }
    if (status == STATUS_OK) {
        status = lower_weight(lower, 1, &scale);
    }
    if (status == STATUS_OK) {
        status = normalise(lower, x.value, lower_our_axis(&x.layout, axis), epsilon, &y);
    }
    if (status == STATUS_OK) {
        status = binary(lower, OP_MUL, y, scale, &scaled);
    }
    if (status != STATUS_OK || !lower_has_input(lower, 2)) {
        return status != STATUS_OK ? status : lower_bind_output(lower, 0, scaled, &x.layout);
    }
    status = lower_weight(lower, 2, &bias);
    return status != STATUS_OK
               ? status
               : lower_emit_in(lower, OP_ADD, (size_t[]){scaled, bias}, 2, &(struct op_attr){0}, &x.layout);
}

/* x (N, C, ...) is seen as (N, groups, rest); scale and bias have one number a group, or a channel if these are the same. */
static enum status normalise_groups(struct lower *lower, size_t x, size_t groups, float epsilon) {
    const struct shape shape = *lower_shape(lower, x);
    struct shape grouped = {.rank = 3, .dim = {1, groups, shape_count(&shape) / groups}};
    size_t view = 0, y = 0, scale = 0, bias = 0, scaled = 0, shifted = 0, back = 0;
    enum status status = lower_reshaped(lower, x, &grouped, &view);
    if (status == STATUS_OK) {
        status = normalise(lower, view, 2, epsilon, &y);
    }
    if (status == STATUS_OK) {
        status = lower_channel_constant(lower, 1, groups, 3, &scale);
    }
    if (status == STATUS_OK) {
        status = lower_channel_constant(lower, 2, groups, 3, &bias);
    }
    if (status == STATUS_OK) {
        status = binary(lower, OP_MUL, y, scale, &scaled);
    }
    if (status == STATUS_OK) {
        status = binary(lower, OP_ADD, scaled, bias, &shifted);
    }
    if (status == STATUS_OK) {
        status = lower_reshaped(lower, shifted, &shape, &back);
    }
    return status != STATUS_OK ? status : lower_bind_value(lower, back);
}

static enum status lower_group(struct lower *lower, bool instances) {
    float epsilon = 1e-5F;
    int64_t groups = 0;
    size_t x = NETWORK_NONE;
    enum status status = lower_arity(lower, 3, 3);
    if (status == STATUS_OK) {
        status = lower_value(lower, 0, &x);
    }
    if (status == STATUS_OK) {
        status = lower_attr_float(lower, "epsilon", 1e-5F, &epsilon);
    }
    if (status == STATUS_OK && !instances) {
        status = lower_attr_int(lower, "num_groups", 0, &groups);
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct shape *shape = lower_shape(lower, x);
    if (shape->rank < 3) {
        return lower_refuse(lower, STATUS_INVALID, "got an input of rank %zu, expected at least 3", shape->rank);
    }
    size_t count = instances ? shape->dim[1] : (size_t)groups;
    if (!instances && (groups < 1 || shape->dim[1] % count != 0)) {
        return lower_refuse(lower, STATUS_INVALID, "got %lld groups, expected a divisor of %zu channels",
                            (long long)groups, shape->dim[1]);
    }
    return normalise_groups(lower, x, count, epsilon);
}

enum status lower_instance_norm(struct lower *lower) {
    return lower_group(lower, true);
}

enum status lower_group_norm(struct lower *lower) {
    return lower_group(lower, false);
}

struct lrn {
    float alpha, beta, bias;
    size_t size;
};

/* y = x / (bias + alpha / size * sum of squares)^beta, the sum over `size` neighbouring channels: an AveragePool over the
 * channels that counts what is outside as zeros. */
static enum status emit_lrn(struct lower *lower, size_t x, const struct lrn *lrn) {
    const struct shape shape = *lower_shape(lower, x);
    struct shape plane = {.rank = 4, .dim = {1, 1, shape.dim[1], shape_count_from(&shape, 2)}};
    struct op_attr pool = {.window = {.kernel = {lrn->size, 1},
                                      .stride = {1, 1},
                                      .dilation = {1, 1},
                                      .pad_begin = {(lrn->size - 1) / 2, 0},
                                      .pad_end = {lrn->size / 2, 0},
                                      .group = 1,
                                      .count_include_pad = true}};
    size_t step[6] = {0}, number[3] = {0};
    enum status status = binary(lower, OP_MUL, x, x, &step[0]);
    if (status == STATUS_OK) {
        status = lower_reshaped(lower, step[0], &plane, &step[1]);
    }
    if (status == STATUS_OK) {
        status = lower_step(lower, OP_AVERAGE_POOL, &step[1], 1, &pool, &step[2]);
    }
    if (status == STATUS_OK) {
        status = lower_reshaped(lower, step[2], &shape, &step[3]);
    }
    for (size_t i = 0; status == STATUS_OK && i < 3; i++) {
        status = scalar(lower, i == 0 ? lrn->alpha : i == 1 ? lrn->bias : lrn->beta, &number[i]);
    }
    if (status == STATUS_OK) {
        status = binary(lower, OP_MUL, step[3], number[0], &step[4]);
    }
    if (status == STATUS_OK) {
        status = binary(lower, OP_ADD, step[4], number[1], &step[5]);
    }
    if (status == STATUS_OK) {
        status = binary(lower, OP_POW, step[5], number[2], &step[0]);
    }
    return status != STATUS_OK ? status : lower_emit(lower, OP_DIV, (size_t[]){x, step[0]}, 2, &(struct op_attr){0});
}

enum status lower_lrn(struct lower *lower) {
    struct lrn lrn = {0};
    int64_t size = 0;
    size_t x = NETWORK_NONE;
    enum status status = lower_arity(lower, 1, 1);
    if (status == STATUS_OK) {
        status = lower_value(lower, 0, &x);
    }
    if (status == STATUS_OK) {
        status = lower_attr_float(lower, "alpha", 1e-4F, &lrn.alpha);
    }
    if (status == STATUS_OK) {
        status = lower_attr_float(lower, "beta", 0.75F, &lrn.beta);
    }
    if (status == STATUS_OK) {
        status = lower_attr_float(lower, "bias", 1.0F, &lrn.bias);
    }
    if (status == STATUS_OK) {
        status = lower_attr_int(lower, "size", 0, &size);
    }
    if (status == STATUS_OK && (lower_shape(lower, x)->rank < 3 || size < 1 || size > INT32_MAX)) {
        return lower_refuse(lower, STATUS_INVALID, "got size %lld and rank %zu, expected at least 1 and 3",
                            (long long)size, lower_shape(lower, x)->rank);
    }
    lrn.size = (size_t)size;
    return status != STATUS_OK ? status : emit_lrn(lower, x, &lrn);
}
