/* protobuf-c with an allocator that takes from one arena of a stated size: a hostile file cannot make the unpacked form
 * grow past it, and freeing is one call whatever happened half-way. */
#include "server/onnx/onnx_parse.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "server/onnx/onnx_model.h"

enum { IR_VERSION_MIN = 3, IR_VERSION_MAX = 11 };

/* The unpacked form holds the tensors' bytes once, and records for what the scan has counted. */
static const size_t UNPACKED_BASE = (size_t)256 << 20;

static void *take(void *user, size_t size) {
    return arena_alloc(user, 1, size);
}

static void give_back(void *user, void *block) {
    (void)user;
    (void)block; /* the arena is freed as a whole */
}

enum status onnx_unpack(const uint8_t *bytes, size_t length, struct onnx_message *out, struct error *error) {
    size_t budget = length > (SIZE_MAX - UNPACKED_BASE) / 2 ? SIZE_MAX : UNPACKED_BASE + 2 * length;
    struct arena *arena = arena_new(budget);
    if (arena == NULL) {
        return error_no_memory(error, "the unpacked ONNX file");
    }
    ProtobufCAllocator allocator = {.alloc = take, .free = give_back, .allocator_data = arena};
    Onnx__ModelProto *model = onnx__model_proto__unpack(&allocator, length, bytes);
    if (model == NULL) {
        /* The scan has checked the form, so what is left is memory: our budget or the machine's. */
        arena_free(arena);
        return error_set(error, STATUS_NO_MEMORY, NULL,
                         "failed to unpack ONNX file: got no memory, or more than the limit of %zu bytes", budget);
    }
    out->arena = arena;
    out->model = model;
    return STATUS_OK;
}

void onnx_message_deinit(struct onnx_message *message) {
    arena_free(message->arena);
    message->arena = NULL;
    message->model = NULL;
}

int onnx_is_standard_domain(const char *domain) {
    return domain == NULL || domain[0] == '\0' || strcmp(domain, "ai.onnx") == 0;
}

const char *onnx_text(const char *text) {
    return text != NULL ? text : "";
}

const char *onnx_node_name(const Onnx__NodeProto *node, size_t index, char *out, size_t size) {
    if (node->name != NULL && node->name[0] != '\0') {
        (void)snprintf(out, size, "%s", node->name);
    } else {
        (void)snprintf(out, size, "%s_%zu", onnx_text(node->op_type), index);
    }
    return out;
}

void onnx_node_place(const Onnx__NodeProto *node, size_t index, char where[ERROR_WHERE_MAX]) {
    char name[ERROR_WHERE_MAX - 8];
    (void)snprintf(where, ERROR_WHERE_MAX, "node '%s'", onnx_node_name(node, index, name, sizeof name));
}

static enum status check_opset(const Onnx__ModelProto *model, int64_t *opset, struct error *error) {
    const Onnx__OperatorSetIdProto *found = NULL;
    for (size_t i = 0; i < model->n_opset_import; i++) {
        const Onnx__OperatorSetIdProto *import = model->opset_import[i];
        if (!onnx_is_standard_domain(import->domain)) {
            continue; /* harmless as long as no node uses it, which is checked for each node */
        }
        if (found != NULL) {
            return error_set(error, STATUS_INVALID, "opset_import",
                             "failed to read opset: got two versions of the standard operators, expected one");
        }
        found = import;
    }
    if (found == NULL) {
        return error_set(error, STATUS_INVALID, "opset_import",
                         "failed to read opset: got none for the standard operators, expected %d to %d", ONNX_OPSET_MIN,
                         ONNX_OPSET_MAX);
    }
    if (found->version < ONNX_OPSET_MIN || found->version > ONNX_OPSET_MAX) {
        return error_set(error, STATUS_UNSUPPORTED, "opset_import",
                         "failed to read opset: got version %lld, expected %d to %d", (long long)found->version,
                         ONNX_OPSET_MIN, ONNX_OPSET_MAX);
    }
    *opset = found->version;
    return STATUS_OK;
}

static bool is_external(const Onnx__TensorProto *tensor) {
    return tensor->n_external_data > 0 ||
           (tensor->has_data_location && tensor->data_location != ONNX__TENSOR_PROTO__DATA_LOCATION__DEFAULT);
}

static enum status check_node(const Onnx__NodeProto *node, size_t index, struct error *error) {
    char where[ERROR_WHERE_MAX];
    onnx_node_place(node, index, where);
    if (!onnx_is_standard_domain(node->domain)) {
        return error_set(error, STATUS_UNSUPPORTED, where,
                         "failed to read operator %s: got domain '%s', expected the standard one",
                         onnx_text(node->op_type), node->domain);
    }
    for (size_t i = 0; i < node->n_attribute; i++) {
        const Onnx__AttributeProto *attribute = node->attribute[i];
        const char *name = onnx_text(attribute->name);
        if (attribute->g != NULL || attribute->n_graphs > 0) {
            return error_set(error, STATUS_UNSUPPORTED, where,
                             "failed to read operator %s: got a graph in attribute '%s', expected no control flow",
                             onnx_text(node->op_type), name);
        }
        if (attribute->sparse_tensor != NULL || attribute->n_sparse_tensors > 0 || attribute->tp != NULL ||
            attribute->n_type_protos > 0 || onnx_text(attribute->ref_attr_name)[0] != '\0') {
            return error_set(error, STATUS_UNSUPPORTED, where,
                             "failed to read operator %s: got attribute '%s' of a sparse, type or reference kind, "
                             "expected numbers, text or a tensor",
                             onnx_text(node->op_type), name);
        }
        if (attribute->t != NULL && is_external(attribute->t)) {
            return error_set(error, STATUS_UNSUPPORTED, where,
                             "failed to read attribute '%s': got external data, expected the data in the file", name);
        }
    }
    return STATUS_OK;
}

static enum status check_graph(const Onnx__GraphProto *graph, struct error *error) {
    if (graph->n_sparse_initializer > 0) {
        return error_set(error, STATUS_UNSUPPORTED, "graph",
                         "failed to read graph: got sparse initializers, expected dense ones");
    }
    for (size_t i = 0; i < graph->n_initializer; i++) {
        const Onnx__TensorProto *tensor = graph->initializer[i];
        if (is_external(tensor)) {
            char where[ERROR_WHERE_MAX];
            (void)snprintf(where, sizeof where, "initializer '%.140s'", onnx_text(tensor->name));
            return error_set(error, STATUS_UNSUPPORTED, where,
                             "failed to read initializer '%s': got external data, expected the data in the file",
                             onnx_text(tensor->name));
        }
    }
    for (size_t i = 0; i < graph->n_node; i++) {
        enum status status = check_node(graph->node[i], i, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

enum status onnx_check_features(const Onnx__ModelProto *model, int64_t *opset, struct error *error) {
    if (model->graph == NULL || !model->has_ir_version) {
        return error_set(error, STATUS_INVALID, NULL, "failed to read ONNX file: got no %s, expected an ONNX model",
                         model->graph == NULL ? "graph" : "IR version");
    }
    if (model->ir_version < IR_VERSION_MIN || model->ir_version > IR_VERSION_MAX) {
        return error_set(error, STATUS_UNSUPPORTED, "ir_version",
                         "failed to read ONNX file: got IR version %lld, expected %d to %d",
                         (long long)model->ir_version, IR_VERSION_MIN, IR_VERSION_MAX);
    }
    if (model->n_functions > 0 || model->n_training_info > 0) {
        return error_set(error, STATUS_UNSUPPORTED, NULL, "failed to read ONNX file: got %s, expected a plain graph",
                         model->n_functions > 0 ? "functions" : "training info");
    }
    enum status status = check_opset(model, opset, error);
    return status != STATUS_OK ? status : check_graph(model->graph, error);
}
