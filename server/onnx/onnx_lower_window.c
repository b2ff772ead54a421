/* Conv, BatchNormalization and the pools: NCHW, two-dimensional windows. */
#include <string.h>

#include "server/onnx/onnx_lower.h"

/* Two non-negative integers of an attribute (height, width); absent: `fallback`. */
static enum status read_pair(struct lower *lower, const char *name, size_t fallback, size_t out[2]) {
    const int64_t *values = NULL;
    size_t count = 0;
    out[0] = out[1] = fallback;
    enum status status = lower_attr_ints(lower, name, &values, &count);
    if (status != STATUS_OK || values == NULL) {
        return status;
    }
    if (count != 2) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got %zu values in '%s', expected 2 (a 2-D window)", count,
                            name);
    }
    for (size_t i = 0; i < 2; i++) {
        if (values[i] < 1 || values[i] > INT32_MAX) {
            return lower_refuse(lower, STATUS_INVALID, "got %lld in '%s', expected 1 to %d", (long long)values[i], name,
                                INT32_MAX);
        }
        out[i] = (size_t)values[i];
    }
    return STATUS_OK;
}

/* pads = [top, left, bottom, right]. */
static enum status read_pads(struct lower *lower, struct window_attr *window) {
    const int64_t *values = NULL;
    size_t count = 0;
    enum status status = lower_attr_ints(lower, "pads", &values, &count);
    if (status != STATUS_OK || values == NULL) {
        return status;
    }
    if (count != 4) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got %zu values in 'pads', expected 4 (a 2-D window)", count);
    }
    for (size_t i = 0; i < 4; i++) {
        if (values[i] < 0 || values[i] > INT32_MAX) {
            return lower_refuse(lower, STATUS_UNSUPPORTED, "got %lld in 'pads', expected 0 to %d", (long long)values[i],
                                INT32_MAX);
        }
        *(i < 2 ? &window->pad_begin[i] : &window->pad_end[i - 2]) = (size_t)values[i];
    }
    return STATUS_OK;
}

/* SAME: output = ceil(input / stride); an odd pad goes to the end (UPPER) or to the begin (LOWER). */
static void pad_same(struct window_attr *window, const struct shape *x, bool lower_side) {
    for (size_t i = 0; i < 2; i++) {
        size_t input = x->dim[2 + i];
        size_t output = input / window->stride[i] + (input % window->stride[i] != 0);
        size_t span = (window->kernel[i] - 1) * window->dilation[i] + 1;
        size_t reach = (output - 1) * window->stride[i] + span;
        size_t pad = reach > input ? reach - input : 0;
        window->pad_begin[i] = lower_side ? pad - pad / 2 : pad / 2;
        window->pad_end[i] = pad - window->pad_begin[i];
    }
}

static enum status read_window(struct lower *lower, const struct shape *x, struct window_attr *window) {
    char auto_pad[LOWER_TEXT_MAX];
    if (x->rank != 4) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got an input of rank %zu, expected 4 (N, C, H, W)", x->rank);
    }
    enum status status = read_pair(lower, "strides", 1, window->stride);
    if (status == STATUS_OK) {
        status = read_pair(lower, "dilations", 1, window->dilation);
    }
    if (status == STATUS_OK) {
        status = read_pads(lower, window);
    }
    if (status == STATUS_OK) {
        status = lower_attr_text(lower, "auto_pad", "NOTSET", auto_pad);
    }
    if (status != STATUS_OK || strcmp(auto_pad, "NOTSET") == 0 || auto_pad[0] == '\0') {
        return status;
    }
    if ((window->pad_begin[0] | window->pad_begin[1] | window->pad_end[0] | window->pad_end[1]) != 0) {
        return lower_refuse(lower, STATUS_INVALID, "got auto_pad '%s' beside pads, expected one of them", auto_pad);
    }
    if (strcmp(auto_pad, "VALID") == 0) {
        return STATUS_OK;
    }
    if (strcmp(auto_pad, "SAME_UPPER") != 0 && strcmp(auto_pad, "SAME_LOWER") != 0) {
        return lower_refuse(lower, STATUS_INVALID,
                            "got auto_pad '%s', expected NOTSET, VALID, SAME_UPPER or SAME_LOWER", auto_pad);
    }
    pad_same(window, x, strcmp(auto_pad, "SAME_LOWER") == 0);
    return STATUS_OK;
}

/* kernel_shape may be left out; if it is there it must be that of the weight. */
static enum status read_conv_kernel(struct lower *lower, const struct shape *weight, struct window_attr *window) {
    if (weight->rank != 4) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got a weight of rank %zu, expected 4 (M, C/group, kH, kW)",
                            weight->rank);
    }
    enum status status = read_pair(lower, "kernel_shape", 0, window->kernel);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < 2; i++) {
        if (window->kernel[i] == 0) {
            window->kernel[i] = weight->dim[2 + i];
        } else if (window->kernel[i] != weight->dim[2 + i]) {
            return lower_refuse(lower, STATUS_INVALID, "got kernel_shape %zu, expected the weight's %zu",
                                window->kernel[i], weight->dim[2 + i]);
        }
    }
    return STATUS_OK;
}

enum status lower_conv(struct lower *lower) {
    struct op_attr attr = {0};
    size_t inputs[3] = {NETWORK_NONE, NETWORK_NONE, NETWORK_NONE};
    int64_t group = 1;
    enum status status = lower_arity(lower, 2, 3);
    if (status == STATUS_OK) {
        status = lower_value(lower, 0, &inputs[0]);
    }
    if (status == STATUS_OK) {
        status = lower_weight(lower, 1, &inputs[1]);
    }
    if (status == STATUS_OK && lower_has_input(lower, 2)) {
        status = lower_weight(lower, 2, &inputs[2]);
    }
    if (status == STATUS_OK) {
        status = read_conv_kernel(lower, lower_shape(lower, inputs[1]), &attr.window);
    }
    if (status == STATUS_OK) {
        status = read_window(lower, lower_shape(lower, inputs[0]), &attr.window);
    }
    if (status == STATUS_OK) {
        status = lower_attr_int(lower, "group", 1, &group);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (group < 1 || group > INT32_MAX) {
        return lower_refuse(lower, STATUS_INVALID, "got group %lld, expected at least 1", (long long)group);
    }
    attr.window.group = (size_t)group;
    return lower_emit(lower, OP_CONV, inputs, lower_has_input(lower, 2) ? 3 : 2, &attr);
}

/* Each is a divisor's square: with one that is not above zero all that comes after is NaN or infinite. */
static enum status check_variances(struct lower *lower, size_t value, float epsilon) {
    const float *variance = lower->network->values[value].data;
    for (size_t i = 0; i < shape_count(lower_shape(lower, value)); i++) {
        if (!(variance[i] + epsilon > 0.0F)) {
            return lower_refuse(lower, STATUS_INVALID, "got variance %g of channel %zu, expected more than -epsilon",
                                (double)variance[i], i);
        }
    }
    return STATUS_OK;
}

enum status lower_batch_norm(struct lower *lower) {
    struct op_attr attr = {0};
    size_t inputs[5];
    bool training = false;
    enum status status = lower_arity(lower, 5, 5);
    if (status == STATUS_OK) {
        status = lower_value(lower, 0, &inputs[0]);
    }
    for (size_t i = 1; status == STATUS_OK && i < 5; i++) {
        status = lower_weight(lower, i, &inputs[i]);
    }
    if (status == STATUS_OK) {
        status = lower_attr_float(lower, "epsilon", 1e-5F, &attr.epsilon);
    }
    if (status == STATUS_OK) {
        status = lower_attr_float(lower, "momentum", 0.9F, &attr.momentum);
    }
    if (status == STATUS_OK) {
        status = lower_attr_bool(lower, "training_mode", false, &training);
    }
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 1; i < lower->node->n_output; i++) {
        training = training || lower->node->output[i][0] != '\0'; /* statistics are outputs only in training */
    }
    if (training) {
        return lower_refuse(lower, STATUS_UNSUPPORTED,
                            "got its training form, expected a model exported for inference");
    }
    status = check_variances(lower, inputs[4], attr.epsilon);
    if (status != STATUS_OK) {
        return status;
    }
    return lower_emit(lower, OP_BATCH_NORM, inputs, 5, &attr);
}

static enum status read_pool(struct lower *lower, size_t *x, struct op_attr *attr) {
    bool ceil_mode = false;
    enum status status = lower_arity(lower, 1, 1);
    if (status == STATUS_OK) {
        status = lower_value(lower, 0, x);
    }
    if (status == STATUS_OK) {
        status = read_pair(lower, "kernel_shape", 0, attr->window.kernel);
    }
    if (status == STATUS_OK && attr->window.kernel[0] == 0) {
        return lower_refuse(lower, STATUS_INVALID, "got no kernel_shape, expected one");
    }
    if (status == STATUS_OK) {
        status = read_window(lower, lower_shape(lower, *x), &attr->window);
    }
    if (status == STATUS_OK) {
        status = lower_attr_bool(lower, "ceil_mode", false, &ceil_mode);
    }
    attr->window.ceil_mode = ceil_mode;
    attr->window.group = 1;
    return status;
}

enum status lower_max_pool(struct lower *lower) {
    struct op_attr attr = {0};
    size_t x = NETWORK_NONE;
    int64_t order = 0;
    enum status status = read_pool(lower, &x, &attr);
    if (status == STATUS_OK) {
        status = lower_attr_int(lower, "storage_order", 0, &order);
    }
    if (status != STATUS_OK) {
        return status;
    }
    /* The order only matters for the second output, the indices, which we do not make. */
    if (order != 0 && order != 1) {
        return lower_refuse(lower, STATUS_INVALID, "got storage_order %lld, expected 0 or 1", (long long)order);
    }
    return lower_emit(lower, OP_MAX_POOL, &x, 1, &attr);
}

enum status lower_average_pool(struct lower *lower) {
    struct op_attr attr = {0};
    size_t x = NETWORK_NONE;
    enum status status = read_pool(lower, &x, &attr);
    if (status == STATUS_OK) {
        status = lower_attr_bool(lower, "count_include_pad", false, &attr.window.count_include_pad);
    }
    return status != STATUS_OK ? status : lower_emit(lower, OP_AVERAGE_POOL, &x, 1, &attr);
}

static enum status lower_global_pool(struct lower *lower, enum op_kind op) {
    struct op_attr attr = {0};
    size_t x = NETWORK_NONE;
    enum status status = lower_arity(lower, 1, 1);
    if (status == STATUS_OK) {
        status = lower_value(lower, 0, &x);
    }
    if (status == STATUS_OK && lower_shape(lower, x)->rank != 4) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got an input of rank %zu, expected 4 (N, C, H, W)",
                            lower_shape(lower, x)->rank);
    }
    return status != STATUS_OK ? status : lower_emit(lower, op, &x, 1, &attr);
}

enum status lower_global_average_pool(struct lower *lower) {
    return lower_global_pool(lower, OP_GLOBAL_AVERAGE_POOL);
}

enum status lower_global_max_pool(struct lower *lower) {
    return lower_global_pool(lower, OP_GLOBAL_MAX_POOL);
}
