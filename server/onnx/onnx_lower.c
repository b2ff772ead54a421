/* The driver of the lowering: the operator table, the bindings of names, and the helpers that the rows share. */
#include "server/onnx/onnx_lower.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/onnx/onnx_parse.h"

/* clang-format off */
const struct lower_row onnx_lower_table[] = {
    {"Abs", 9, 18, {NULL}, lower_abs},
    {"Add", 9, 18, {NULL}, lower_add},
    {"And", 9, 18, {NULL}, lower_logic},
    {"AveragePool", 9, 18, {"auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides", NULL},
     lower_average_pool},
    {"BatchNormalization", 9, 18, {"epsilon", "momentum", "training_mode", NULL}, lower_batch_norm},
    {"Cast", 9, 18, {"to", NULL}, lower_cast},
    {"Ceil", 9, 18, {NULL}, lower_ceil},
    {"Clip", 9, 18, {"max", "min", NULL}, lower_clip},
    {"Concat", 9, 18, {"axis", NULL}, lower_concat},
    {"Constant", 9, 18, {"value", "value_float", "value_floats", "value_int", "value_ints", NULL}, lower_constant_node},
    {"ConstantOfShape", 9, 18, {"value", NULL}, lower_constant_of_shape},
    {"Conv", 9, 18, {"auto_pad", "dilations", "group", "kernel_shape", "pads", "strides", NULL}, lower_conv},
    {"DepthToSpace", 9, 18, {"blocksize", "mode", NULL}, lower_depth_to_space},
    {"Div", 9, 18, {NULL}, lower_div},
    {"Dropout", 9, 18, {"ratio", "seed", NULL}, lower_dropout},
    {"Elu", 9, 18, {"alpha", NULL}, lower_elu},
    {"Equal", 9, 18, {NULL}, lower_compare},
    {"Erf", 9, 18, {NULL}, lower_erf},
    {"Exp", 9, 18, {NULL}, lower_exp},
    {"Expand", 9, 18, {NULL}, lower_expand},
    {"Flatten", 9, 18, {"axis", NULL}, lower_flatten},
    {"Floor", 9, 18, {NULL}, lower_floor},
    {"Gather", 9, 18, {"axis", NULL}, lower_gather},
    {"Gemm", 9, 18, {"alpha", "beta", "transA", "transB", NULL}, lower_gemm},
    {"GlobalAveragePool", 9, 18, {NULL}, lower_global_average_pool},
    {"GlobalMaxPool", 9, 18, {NULL}, lower_global_max_pool},
    {"Greater", 9, 18, {NULL}, lower_compare},
    {"GreaterOrEqual", 12, 18, {NULL}, lower_compare},
    {"GroupNormalization", 18, 18, {"epsilon", "num_groups", NULL}, lower_group_norm},
    {"HardSigmoid", 9, 18, {"alpha", "beta", NULL}, lower_hard_sigmoid},
    {"HardSwish", 14, 18, {NULL}, lower_hard_swish},
    {"Identity", 9, 18, {NULL}, lower_identity},
    {"InstanceNormalization", 9, 18, {"epsilon", NULL}, lower_instance_norm},
    {"LRN", 9, 18, {"alpha", "beta", "bias", "size", NULL}, lower_lrn},
    {"LayerNormalization", 17, 18, {"axis", "epsilon", "stash_type", NULL}, lower_layer_norm},
    {"LeakyRelu", 9, 18, {"alpha", NULL}, lower_leaky_relu},
    {"Less", 9, 18, {NULL}, lower_compare},
    {"LessOrEqual", 12, 18, {NULL}, lower_compare},
    {"Log", 9, 18, {NULL}, lower_log},
    {"LogSoftmax", 9, 18, {"axis", NULL}, lower_log_softmax},
    {"MatMul", 9, 18, {NULL}, lower_matmul},
    {"Max", 9, 18, {NULL}, lower_max},
    {"MaxPool", 9, 18, {"auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides", NULL},
     lower_max_pool},
    {"Min", 9, 18, {NULL}, lower_min},
    {"Mish", 18, 18, {NULL}, lower_mish},
    {"Mod", 10, 18, {"fmod", NULL}, lower_mod},
    {"Mul", 9, 18, {NULL}, lower_mul},
    {"Neg", 9, 18, {NULL}, lower_neg},
    {"Not", 9, 18, {NULL}, lower_not},
    {"Or", 9, 18, {NULL}, lower_logic},
    {"PRelu", 9, 18, {NULL}, lower_prelu},
    {"Pad", 9, 18, {"mode", "pads", "value", NULL}, lower_pad},
    {"Pow", 9, 18, {NULL}, lower_pow},
    {"Range", 11, 18, {NULL}, lower_range},
    {"Reciprocal", 9, 18, {NULL}, lower_reciprocal},
    {"ReduceMax", 9, 18, {"axes", "keepdims", "noop_with_empty_axes", NULL}, lower_reduce_max},
    {"ReduceMean", 9, 18, {"axes", "keepdims", "noop_with_empty_axes", NULL}, lower_reduce_mean},
    {"ReduceSum", 9, 18, {"axes", "keepdims", "noop_with_empty_axes", NULL}, lower_reduce_sum},
    {"Relu", 9, 18, {NULL}, lower_relu},
    {"Reshape", 9, 18, {"allowzero", NULL}, lower_reshape},
    {"Resize", 10, 18,
     {"antialias", "axes", "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside",
      "extrapolation_value", "keep_aspect_ratio_policy", "mode", "nearest_mode", NULL},
     lower_resize},
    {"ScatterND", 11, 18, {"reduction", NULL}, lower_scatter_nd},
    {"Selu", 9, 18, {"alpha", "gamma", NULL}, lower_selu},
    {"Shape", 9, 18, {"end", "start", NULL}, lower_shape_of},
    {"Sigmoid", 9, 18, {NULL}, lower_sigmoid},
    {"Slice", 9, 18, {"axes", "ends", "starts", NULL}, lower_slice},
    {"Softmax", 9, 18, {"axis", NULL}, lower_softmax},
    {"Softplus", 9, 18, {NULL}, lower_softplus},
    {"SpaceToDepth", 9, 18, {"blocksize", NULL}, lower_space_to_depth},
    {"Split", 9, 18, {"axis", "num_outputs", "split", NULL}, lower_split},
    {"Sqrt", 9, 18, {NULL}, lower_sqrt},
    {"Squeeze", 9, 18, {"axes", NULL}, lower_squeeze},
    {"Sub", 9, 18, {NULL}, lower_sub},
    {"Sum", 9, 18, {NULL}, lower_sum},
    {"Tanh", 9, 18, {NULL}, lower_tanh},
    {"Transpose", 9, 18, {"perm", NULL}, lower_transpose},
    {"Unsqueeze", 9, 18, {"axes", NULL}, lower_unsqueeze},
    {"Where", 9, 18, {NULL}, lower_where},
};
/* clang-format on */
const size_t onnx_lower_table_count = sizeof onnx_lower_table / sizeof onnx_lower_table[0];

/* The same names for callers; a test holds both lists against each other. */
const char *const onnx_operators[] = {
    "Abs",
    "Add",
    "And",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Ceil",
    "Clip",
    "Concat",
    "Constant",
    "ConstantOfShape",
    "Conv",
    "DepthToSpace",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Floor",
    "Gather",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Greater",
    "GreaterOrEqual",
    "GroupNormalization",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LRN",
    "LayerNormalization",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "LogSoftmax",
    "MatMul",
    "Max",
    "MaxPool",
    "Min",
    "Mish",
    "Mod",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pad",
    "Pow",
    "Range",
    "Reciprocal",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Resize",
    "ScatterND",
    "Selu",
    "Shape",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Softplus",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Sum",
    "Tanh",
    "Transpose",
    "Unsqueeze",
    "Where",
    NULL,
};

enum status lower_refuse(struct lower *lower, enum status status, const char *format, ...) {
    char text[ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, format);
    if (vsnprintf(text, sizeof text, format, args) < 0) {
        text[0] = '\0';
    }
    va_end(args);
    return error_set(lower->error, status, lower->where, "failed to lower %s: %s", onnx_text(lower->node->op_type),
                     text);
}

/* Inputs */

bool lower_has_input(const struct lower *lower, size_t slot) {
    return slot < lower->node->n_input && onnx_text(lower->node->input[slot])[0] != '\0';
}

const struct lower_binding *lower_binding(const struct lower *lower, size_t slot) {
    size_t index = 0;
    (void)onnx_names_find(lower->graph->names, lower->node->input[slot], &index); /* validated: it is there */
    return &lower->bindings[index];
}

const struct onnx_constant *lower_constant(const struct lower *lower, size_t slot) {
    return lower_has_input(lower, slot) ? lower_binding(lower, slot)->constant : NULL;
}

bool lower_all_constant(const struct lower *lower) {
    for (size_t i = 0; i < lower->node->n_input; i++) {
        if (lower_constant(lower, i) == NULL) {
            return false;
        }
    }
    return lower->node->n_input > 0;
}

enum status lower_weight(struct lower *lower, size_t slot, size_t *value) {
    struct onnx_constant *constant = lower_has_input(lower, slot) ? lower_binding(lower, slot)->constant : NULL;
    if (constant == NULL) {
        bool there = lower_has_input(lower, slot);
        return lower_refuse(lower, there ? STATUS_UNSUPPORTED : STATUS_INVALID,
                            "got %s as input %zu, expected a constant", there ? "a computed value" : "nothing", slot);
    }
    if (constant->type != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT) {
        return lower_refuse(lower, STATUS_INVALID, "got %s as input %zu, expected float32",
                            onnx_type_name(constant->type), slot);
    }
    if (constant->value == NETWORK_NONE) {
        size_t max = lower->limits->max_parameters;
        if (constant->count > max || lower->parameters > max - constant->count) {
            return lower_refuse(lower, STATUS_LIMIT, "got more than %zu parameters", max);
        }
        lower->parameters += constant->count;
        enum status status = network_add_constant(lower->network, constant->name, &constant->shape, constant->floats,
                                                  &constant->value, lower->error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    *value = constant->value;
    return STATUS_OK;
}

enum status lower_integers(struct lower *lower, size_t slot, const struct onnx_constant **integers) {
    const struct onnx_constant *constant = lower_constant(lower, slot);
    if (constant == NULL) {
        bool there = lower_has_input(lower, slot);
        return lower_refuse(lower, there ? STATUS_UNSUPPORTED : STATUS_INVALID,
                            "got %s as input %zu, expected constant integers", there ? "a computed value" : "nothing",
                            slot);
    }
    if (constant->integers == NULL || constant->shape.rank > 1) {
        char text[SHAPE_TEXT_SIZE];
        return lower_refuse(lower, STATUS_INVALID, "got %s of shape %s as input %zu, expected integers of rank 1",
                            onnx_type_name(constant->type), shape_text(&constant->shape, text), slot);
    }
    *integers = constant;
    return STATUS_OK;
}

enum status lower_scalar(struct lower *lower, size_t slot, float fallback, float *value) {
    if (!lower_has_input(lower, slot)) {
        *value = fallback;
        return STATUS_OK;
    }
    const struct onnx_constant *constant = lower_constant(lower, slot);
    if (constant == NULL) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got a computed value as input %zu, expected a constant", slot);
    }
    if (constant->type != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT || constant->count != 1) {
        return lower_refuse(lower, STATUS_INVALID, "got %zu values of %s as input %zu, expected one float32",
                            constant->count, onnx_type_name(constant->type), slot);
    }
    *value = constant->floats[0];
    return STATUS_OK;
}

const struct shape *lower_shape(const struct lower *lower, size_t value) {
    return &lower->network->values[value].shape;
}

enum status lower_arity(struct lower *lower, size_t min, size_t max) {
    size_t got = lower->node->n_input;
    while (got > 0 && !lower_has_input(lower, got - 1)) {
        got--; /* empty names at the end are inputs left out */
    }
    if (got < min || got > max) {
        return lower_refuse(lower, STATUS_INVALID, "got %zu inputs, expected %zu to %zu", got, min, max);
    }
    return STATUS_OK;
}

/* A place among `size`, where negative ones count from the end. */
static bool find_place(int64_t place, size_t size, size_t *out) {
    const int64_t signed_size = (int64_t)size;
    if (place < -signed_size || place >= signed_size) {
        return false;
    }
    *out = (size_t)(place < 0 ? place + signed_size : place);
    return true;
}

enum status lower_axis(struct lower *lower, int64_t axis, size_t rank, size_t *out) {
    return find_place(axis, rank, out)
               ? STATUS_OK
               : lower_refuse(lower, STATUS_INVALID, "got axis %lld, expected one of a value of rank %zu",
                              (long long)axis, rank);
}

enum status lower_axis_once(struct lower *lower, int64_t axis, size_t rank, bool chosen[SHAPE_RANK_MAX], size_t *out) {
    enum status status = lower_axis(lower, axis, rank, out);
    if (status == STATUS_OK && chosen[*out]) {
        status = lower_refuse(lower, STATUS_INVALID, "got axis %zu twice, expected it once", *out);
    }
    if (status == STATUS_OK) {
        chosen[*out] = true;
    }
    return status;
}

enum status lower_index(struct lower *lower, int64_t index, size_t size, size_t *out) {
    return find_place(index, size, out)
               ? STATUS_OK
               : lower_refuse(lower, STATUS_INVALID, "got index %lld, expected one of an axis of %zu", (long long)index,
                              size);
}

/* Outputs */

static struct lower_binding *first_output(struct lower *lower) {
    size_t index = 0;
    const char *name = onnx_text(lower->node->output[0]);
    return onnx_names_find(lower->graph->names, name, &index) ? &lower->bindings[index] : NULL;
}

enum status lower_bind_constant(struct lower *lower, struct onnx_constant *constant) {
    struct lower_binding *binding = first_output(lower);
    if (binding != NULL) {
        binding->constant = constant;
    }
    return STATUS_OK;
}

enum status lower_bind_value(struct lower *lower, size_t value) {
    struct lower_binding *binding = first_output(lower);
    if (binding != NULL) {
        binding->value = value;
    }
    return STATUS_OK;
}

enum status lower_bind_output(struct lower *lower, size_t slot, size_t value, const struct lower_layout *layout) {
    size_t index = 0;
    const char *name = slot < lower->node->n_output ? onnx_text(lower->node->output[slot]) : "";
    if (name[0] != '\0' && onnx_names_find(lower->graph->names, name, &index)) {
        lower->bindings[index].value = value;
        lower->bindings[index].layout = *layout;
    }
    return STATUS_OK;
}

enum status lower_new_constant(struct lower *lower, const struct shape *shape, const float *data, size_t *value) {
    size_t max = lower->limits->max_parameters, count = 0;
    if (!shape_count_checked(shape, &count) || count > max || lower->parameters > max - count) {
        return lower_refuse(lower, STATUS_LIMIT, "got more than %zu parameters", max);
    }
    lower->parameters += count;
    return network_add_constant(lower->network, lower->name, shape, data, value, lower->error);
}

enum status lower_channel_constant(struct lower *lower, size_t slot, size_t count, size_t rank, size_t *value) {
    const struct onnx_constant *constant = lower_constant(lower, slot);
    struct shape shape = {.rank = rank, .dim = {1, count}};
    if (constant == NULL || constant->type != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT || constant->count != count) {
        return lower_refuse(lower, STATUS_UNSUPPORTED,
                            "got something else as input %zu, expected a constant of %zu float32 values", slot, count);
    }
    for (size_t d = 2; d < rank; d++) {
        shape.dim[d] = 1;
    }
    return lower_new_constant(lower, &shape, constant->floats, value);
}

enum status lower_reshaped(struct lower *lower, size_t x, const struct shape *shape, size_t *output) {
    return lower_step(lower, OP_RESHAPE, &x, 1, &(struct op_attr){.shape = *shape}, output);
}

enum status lower_emit(struct lower *lower, enum op_kind op, const size_t *inputs, size_t count,
                       const struct op_attr *attr) {
    size_t output = NETWORK_NONE;
    enum status status = lower_step(lower, op, inputs, count, attr, &output);
    return status != STATUS_OK ? status : lower_bind_value(lower, output);
}

enum status lower_step(struct lower *lower, enum op_kind op, const size_t *inputs, size_t count,
                       const struct op_attr *attr, size_t *out) {
    size_t output = NETWORK_NONE;
    enum status status =
        network_add_node(lower->network, op, lower->name, inputs, count, attr, lower->index, &output, lower->error);
    if (status != STATUS_OK) {
        return status;
    }
    const struct shape *shape = lower_shape(lower, output);
    char text[SHAPE_TEXT_SIZE];
    if (shape->rank < 1 || shape->dim[0] != 1) {
        return lower_refuse(lower, STATUS_UNSUPPORTED,
                            "got an output of shape %s for one sample, expected the batch to stay the first dimension",
                            shape_text(shape, text));
    }
    size_t floats = 0;
    if (!shape_count_checked(shape, &floats) || floats > lower->limits->max_activation) {
        return lower_refuse(lower, STATUS_LIMIT, "got an output of shape %s, expected at most %zu values",
                            shape_text(shape, text), lower->limits->max_activation);
    }
    *out = output;
    return STATUS_OK;
}

/* The driver */

static const struct lower_row *find_row(const char *operator) {
    size_t low = 0, high = onnx_lower_table_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(operator, onnx_lower_table[middle].operator);
        if (order == 0) {
            return &onnx_lower_table[middle];
        }
        if (order < 0) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return NULL;
}

/* An attribute that we do not know could change what the node means. */
static enum status check_attributes(struct lower *lower, const struct lower_row *row) {
    for (size_t i = 0; i < lower->node->n_attribute; i++) {
        const char *name = onnx_text(lower->node->attribute[i]->name);
        bool known = false;
        for (size_t k = 0; row->attributes[k] != NULL && !known; k++) {
            known = strcmp(row->attributes[k], name) == 0;
        }
        if (!known) {
            return lower_refuse(lower, STATUS_UNSUPPORTED, "got attribute '%s', expected one that the operator has",
                                name);
        }
        for (size_t k = 0; k < i; k++) {
            if (strcmp(onnx_text(lower->node->attribute[k]->name), name) == 0) {
                return lower_refuse(lower, STATUS_INVALID, "got attribute '%s' twice, expected it once", name);
            }
        }
    }
    return STATUS_OK;
}

static enum status lower_node(struct lower *lower, size_t index) {
    char name[ERROR_WHERE_MAX];
    lower->node = lower->graph->proto->node[index];
    lower->index = index;
    lower->name = onnx_text(lower->node->name);
    if (lower->name[0] == '\0') {
        lower->name = onnx_node_name(lower->node, index, name, sizeof name); /* copied by the network */
    }
    onnx_node_place(lower->node, index, lower->where);
    const struct lower_row *row = find_row(lower->node->op_type);
    if (row == NULL || lower->opset < row->since || lower->opset > row->until) {
        return error_set(lower->error, STATUS_UNSUPPORTED, lower->where,
                         "failed to lower operator: got '%s' of opset %lld, expected a supported operator",
                         lower->node->op_type, (long long)lower->opset);
    }
    enum status status = check_attributes(lower, row);
    return status != STATUS_OK ? status : row->lower(lower);
}

static enum status bind_initializers(struct lower *lower) {
    const Onnx__GraphProto *graph = lower->graph->proto;
    for (size_t i = 0; i < graph->n_initializer; i++) {
        char where[ERROR_WHERE_MAX];
        (void)snprintf(where, sizeof where, "initializer '%.140s'", onnx_text(graph->initializer[i]->name));
        struct onnx_constant *constant = arena_alloc(lower->arena, 1, sizeof *constant);
        if (constant == NULL) {
            return error_no_memory(lower->error, "the constants of the graph");
        }
        enum status status = onnx_tensor_read(graph->initializer[i], where, lower->arena, constant, lower->error);
        if (status != STATUS_OK) {
            return status;
        }
        lower->bindings[i].constant = constant; /* onnx_validate() numbers initializers first */
    }
    return STATUS_OK;
}

static enum status bind_input(struct lower *lower) {
    static const struct op_attr TO_LAST = {.axes = {0, 2, 3, 1}, .axes_count = 4};
    size_t value = NETWORK_NONE, index = 0, floats = 0;
    const struct shape *file = &lower->graph->input_shape;
    const struct shape first = {.rank = 4, .dim = {1, file->dim[3], file->dim[1], file->dim[2]}};
    lower->ends.channels_last = lower_is_channels_last(lower->graph, lower->arena);
    const struct shape *shape = lower->ends.channels_last ? &first : file;
    if (!shape_count_checked(shape, &floats) || floats > lower->limits->max_activation) {
        char text[SHAPE_TEXT_SIZE];
        return error_set(lower->error, STATUS_LIMIT, "input",
                         "failed to lower input '%s': got shape %s, expected at most %zu values", lower->graph->input,
                         shape_text(shape, text), lower->limits->max_activation);
    }
    enum status status = network_add_input(lower->network, lower->graph->input, shape, &value, lower->error);
    if (status == STATUS_OK && lower->ends.channels_last) {
        size_t input = value;
        status = network_add_node(lower->network, OP_TRANSPOSE, lower->graph->input, &input, 1, &TO_LAST, NETWORK_NONE,
                                  &value, lower->error);
    }
    if (status == STATUS_OK && onnx_names_find(lower->graph->names, lower->graph->input, &index)) {
        lower->bindings[index].value = value;
    }
    return status;
}

static enum status set_output(struct lower *lower) {
    size_t index = 0;
    (void)onnx_names_find(lower->graph->names, lower->graph->output, &index); /* validated: it is there */
    const struct lower_binding *binding = &lower->bindings[index];
    if (binding->value == NETWORK_NONE) {
        return error_set(lower->error, STATUS_INVALID, "output",
                         "failed to lower output '%s': got a constant or nothing, expected a value that depends on the "
                         "input",
                         lower->graph->output);
    }
    if (!lower_is_plain(&binding->layout)) {
        return error_set(lower->error, STATUS_UNSUPPORTED, "output",
                         "failed to lower output '%s': got a value that mixes the batch with other dimensions, or has "
                         "it at another axis, expected [N, K]",
                         lower->graph->output);
    }
    return network_set_output(lower->network, binding->value, lower->error);
}

enum status onnx_lower(const struct onnx_graph *graph, int64_t opset, const struct onnx_limits *limits,
                       struct arena *arena, struct network *network, struct lower_ends *ends, struct error *error) {
    struct lower lower = {
        .graph = graph, .opset = opset, .limits = limits, .arena = arena, .network = network, .error = error};
    size_t names = onnx_names_count(graph->names);
    lower.bindings = arena_alloc(arena, names, sizeof *lower.bindings);
    if (lower.bindings == NULL) {
        return error_no_memory(error, "the bindings of the graph");
    }
    for (size_t i = 0; i < names; i++) {
        lower.bindings[i] = (struct lower_binding){.value = NETWORK_NONE};
    }
    lower.final_softmax = lower_final_softmax(graph);
    enum status status = bind_initializers(&lower);
    if (status == STATUS_OK) {
        status = bind_input(&lower);
    }
    for (size_t i = 0; status == STATUS_OK && i < graph->proto->n_node; i++) {
        status = lower_node(&lower, i);
    }
    *ends = lower.ends;
    return status != STATUS_OK ? status : set_output(&lower);
}
