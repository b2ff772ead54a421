/* Loading: scan, unpack, check, lower. The unpacked form is freed as soon as the network stands; what is kept is the
 * network and the bytes of the file, from which onnx_write.c makes the repaired one. */
#include "server/onnx/onnx_model.h"

#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/onnx/onnx_lower.h"
#include "server/onnx/onnx_parse.h"
#include "server/onnx/onnx_private.h"
#include "server/onnx/onnx_validate.h"

const struct onnx_limits onnx_default_limits = {
    .max_bytes = (size_t)640 << 20, /* VGG-16 has 528 MiB, for 138 million parameters */
    .max_nodes = 20000,
    .max_initializers = 20000,
    .max_depth = 32,
    .max_parameters = (size_t)160 << 20,
    .max_activation = (size_t)64 << 20,
};

/* Names and producer, copied out of the message. */
static enum status keep_info(struct onnx_model *model, const Onnx__ModelProto *proto, const struct onnx_graph *graph,
                             int64_t opset, const struct lower_ends *ends, struct error *error) {
    char producer[256];
    const char *name = onnx_text(proto->producer_name), *version = onnx_text(proto->producer_version);
    (void)snprintf(producer, sizeof producer, "%.120s%s%.120s", name, version[0] != '\0' ? " " : "", version);
    struct onnx_info *info = &model->info;
    info->producer = arena_strdup(model->arena, producer);
    info->input_name = arena_strdup(model->arena, graph->input);
    info->output_name = arena_strdup(model->arena, graph->output);
    if (info->producer == NULL || info->input_name == NULL || info->output_name == NULL) {
        return error_no_memory(error, "the description of a model");
    }
    const struct shape *input = &model->network->values[model->network->input].shape;
    bool image = input->rank == 4;
    info->ir_version = proto->ir_version;
    info->opset = opset;
    info->batch_is_dynamic = graph->batch_is_dynamic;
    info->channels_last = ends->channels_last;
    info->probabilities = ends->probabilities;
    info->channels = input->dim[1];
    info->height = image ? input->dim[2] : 1;
    info->width = image ? input->dim[3] : 1;
    info->classes = model->network->values[model->network->output].shape.dim[1];
    info->parameters = network_parameter_count(model->network);
    info->nodes = proto->graph->n_node;
    return STATUS_OK;
}

/* From the unpacked message to a network; `scratch` holds what only the lowering needs. */
static enum status build(struct onnx_model *model, const Onnx__ModelProto *proto, const struct onnx_limits *limits,
                         struct arena *scratch, struct error *error) {
    struct onnx_graph graph;
    struct lower_ends ends = {false, false};
    int64_t opset = 0;
    enum status status = onnx_check_features(proto, &opset, error);
    if (status == STATUS_OK) {
        status = onnx_validate(proto->graph, scratch, &graph, error);
    }
    if (status == STATUS_OK) {
        status = onnx_lower(&graph, opset, limits, scratch, model->network, &ends, error);
    }
    return status != STATUS_OK ? status : keep_info(model, proto, &graph, opset, &ends, error);
}

enum status onnx_model_load(const uint8_t *bytes, size_t length, const struct onnx_limits *limits,
                            struct onnx_model **out, struct error *error) {
    struct onnx_message message = {0};
    struct arena *scratch = NULL;
    struct onnx_model *model = mem_calloc(1, sizeof *model);
    enum status status = STATUS_OK;
    if (model == NULL) {
        status = error_no_memory(error, "a model");
        goto done;
    }
    model->arena = arena_new(0);
    model->network = network_new();
    scratch = arena_new(ONNX_SCRATCH_MAX + 4 * length);
    if (model->arena == NULL || model->network == NULL || scratch == NULL) {
        status = error_no_memory(error, "a model");
        goto done;
    }
    status = onnx_scan(bytes, length, limits, error);
    if (status == STATUS_OK) {
        status = onnx_unpack(bytes, length, &message, error);
    }
    if (status == STATUS_OK) {
        status = build(model, message.model, limits, scratch, error);
    }
    if (status != STATUS_OK) {
        goto done;
    }
    onnx_message_deinit(&message); /* before the copy: never three forms of the weights at once */
    model->bytes = mem_dup(bytes, length);
    model->length = length;
    if (model->bytes == NULL) {
        status = error_no_memory(error, "the bytes of a model");
        goto done;
    }
    *out = model;
    model = NULL;

done:
    onnx_message_deinit(&message);
    arena_free(scratch);
    onnx_model_free(model);
    return status;
}

void onnx_model_free(struct onnx_model *model) {
    if (model == NULL) {
        return;
    }
    network_free(model->network);
    arena_free(model->arena);
    mem_free(model->bytes);
    mem_free(model);
}

const struct network *onnx_model_network(const struct onnx_model *model) {
    return model->network;
}

void onnx_model_info(const struct onnx_model *model, struct onnx_info *info) {
    *info = model->info;
}
