/* Names must be unique over initializers, inputs and node outputs (single assignment), and every input of a node must be
 * defined by something earlier in the file: ONNX asks for topological order, and with that a cycle cannot be written. */
#include "server/onnx/onnx_validate.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/onnx/onnx_parse.h"

static enum status define(struct onnx_graph *graph, const char *name, const char *what, struct error *error) {
    char where[ERROR_WHERE_MAX];
    size_t index = 0;
    (void)snprintf(where, sizeof where, "%s '%.120s'", what, onnx_text(name));
    if (onnx_text(name)[0] == '\0') {
        return error_set(error, STATUS_INVALID, where, "failed to check graph: got %s without a name, expected one",
                         what);
    }
    if (!onnx_names_add(graph->names, name, &index)) {
        return error_set(error, STATUS_INVALID, where,
                         "failed to check graph: got the name '%s' twice, expected unique names", name);
    }
    return STATUS_OK;
}

/* The node that makes `name`, for a message about order; NULL if none does. */
static const Onnx__NodeProto *maker_of(const Onnx__GraphProto *graph, const char *name, size_t *index) {
    for (size_t i = 0; i < graph->n_node; i++) {
        for (size_t k = 0; k < graph->node[i]->n_output; k++) {
            if (strcmp(onnx_text(graph->node[i]->output[k]), name) == 0) {
                *index = i;
                return graph->node[i];
            }
        }
    }
    return NULL;
}

static enum status undefined(const Onnx__GraphProto *graph, size_t node, const char *name, struct error *error) {
    char where[ERROR_WHERE_MAX], other[ERROR_WHERE_MAX];
    size_t maker = 0;
    onnx_node_place(graph->node[node], node, where);
    const Onnx__NodeProto *found = maker_of(graph, name, &maker);
    if (found == NULL) {
        return error_set(error, STATUS_INVALID, where,
                         "failed to check graph: got undefined input '%s', expected the name of a value", name);
    }
    onnx_node_place(found, maker, other);
    return error_set(error, STATUS_INVALID, where,
                     "failed to check graph: got input '%s', which %s makes only later, expected nodes in topological "
                     "order without cycles",
                     name, other);
}

static enum status check_node(struct onnx_graph *graph, size_t index, struct error *error) {
    const Onnx__NodeProto *node = graph->proto->node[index];
    char where[ERROR_WHERE_MAX];
    size_t known = 0;
    for (size_t i = 0; i < node->n_input; i++) {
        const char *name = onnx_text(node->input[i]);
        if (name[0] != '\0' && !onnx_names_find(graph->names, name, &known)) {
            return undefined(graph->proto, index, name, error);
        }
    }
    onnx_node_place(node, index, where);
    if (onnx_text(node->op_type)[0] == '\0' || node->n_output == 0) {
        return error_set(error, STATUS_INVALID, where, "failed to check graph: got a node without %s, expected one",
                         node->n_output == 0 ? "output" : "operator");
    }
    for (size_t i = 0; i < node->n_output; i++) {
        const char *name = onnx_text(node->output[i]);
        if (name[0] == '\0') {
            continue; /* an optional output that is not wanted */
        }
        if (!onnx_names_add(graph->names, name, &known)) {
            return error_set(error, STATUS_INVALID, where,
                             "failed to check graph: got output '%s', a name that is taken, expected unique names",
                             name);
        }
    }
    return STATUS_OK;
}

/* The tensor type of an input or output; NULL if it has none. */
static const Onnx__TypeProto__Tensor *tensor_type(const Onnx__ValueInfoProto *info) {
    if (info->type == NULL || info->type->value_case != ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE) {
        return NULL;
    }
    return info->type->tensor_type;
}

static enum status check_dimension(struct onnx_graph *graph, const Onnx__TensorShapeProto__Dimension *dimension,
                                   size_t axis, const char *where, struct error *error) {
    bool fixed = dimension->value_case == ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
    if (axis == 0) {
        /* Exporters write a batch that is not fixed as a name, as nothing, or (some) as 0 or -1. */
        graph->batch_is_dynamic = !fixed || dimension->dim_value <= 0;
        graph->fixed_batch = graph->batch_is_dynamic ? 0 : (size_t)dimension->dim_value;
        graph->input_shape.dim[0] = 1;
        return STATUS_OK;
    }
    if (!fixed) {
        return error_set(error, STATUS_UNSUPPORTED, where,
                         "failed to read input '%s': got an open dimension %zu, expected all but the batch fixed",
                         graph->input, axis);
    }
    if (dimension->dim_value <= 0) {
        return error_set(error, STATUS_INVALID, where,
                         "failed to read input '%s': got %lld in dimension %zu, expected at least 1", graph->input,
                         (long long)dimension->dim_value, axis);
    }
    graph->input_shape.dim[axis] = (size_t)dimension->dim_value;
    return STATUS_OK;
}

static enum status check_input(struct onnx_graph *graph, const Onnx__ValueInfoProto *info, struct error *error) {
    char where[ERROR_WHERE_MAX];
    (void)snprintf(where, sizeof where, "input '%.140s'", onnx_text(info->name));
    const Onnx__TypeProto__Tensor *type = tensor_type(info);
    if (type == NULL || type->elem_type != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT) {
        return error_set(error, STATUS_UNSUPPORTED, where,
                         "failed to read input '%s': got element type %d, expected a tensor of float32 (1)",
                         onnx_text(info->name), type != NULL ? type->elem_type : 0);
    }
    if (type->shape == NULL || (type->shape->n_dim != 4 && type->shape->n_dim != 2)) {
        return error_set(error, STATUS_UNSUPPORTED, where,
                         "failed to read input '%s': got rank %zu, expected 4 (N, C, H, W) or 2 (N, F)",
                         onnx_text(info->name), type->shape != NULL ? type->shape->n_dim : 0);
    }
    graph->input = info->name;
    graph->input_shape.rank = type->shape->n_dim;
    for (size_t i = 0; i < type->shape->n_dim; i++) {
        enum status status = check_dimension(graph, type->shape->dim[i], i, where, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    size_t count = 0;
    if (!shape_count_checked(&graph->input_shape, &count)) {
        return error_set(error, STATUS_INVALID, where, "failed to read input '%s': got dimensions that overflow",
                         graph->input);
    }
    return STATUS_OK;
}

/* Inputs that are initializers too are weights with a default (how files before IR version 4 have to write them). */
static enum status check_inputs(struct onnx_graph *graph, size_t initializers, struct error *error) {
    struct arena *arena = arena_new(0);
    struct onnx_names *seen = arena != NULL ? onnx_names_new(arena, graph->proto->n_input) : NULL;
    enum status status = seen != NULL ? STATUS_OK : error_no_memory(error, "the names of the inputs");
    const Onnx__ValueInfoProto *input = NULL;
    for (size_t i = 0; status == STATUS_OK && i < graph->proto->n_input; i++) {
        const Onnx__ValueInfoProto *info = graph->proto->input[i];
        size_t index = 0;
        if (!onnx_names_add(seen, onnx_text(info->name), &index)) {
            status = error_set(error, STATUS_INVALID, "input",
                               "failed to check graph: got the input '%s' twice, expected unique names",
                               onnx_text(info->name));
        } else if (onnx_names_find(graph->names, onnx_text(info->name), &index) && index < initializers) {
            continue;
        } else if (input != NULL) {
            status = error_set(error, STATUS_UNSUPPORTED, "input",
                               "failed to check graph: got inputs '%s' and '%s', expected one", onnx_text(input->name),
                               onnx_text(info->name));
        } else {
            input = info;
            status = define(graph, info->name, "input", error);
        }
    }
    arena_free(arena);
    if (status == STATUS_OK && input == NULL) {
        status = error_set(error, STATUS_INVALID, "input", "failed to check graph: got no input, expected one");
    }
    return status != STATUS_OK ? status : check_input(graph, input, error);
}

static enum status check_output(struct onnx_graph *graph, struct error *error) {
    const Onnx__GraphProto *proto = graph->proto;
    size_t index = 0;
    if (proto->n_output != 1) {
        return error_set(error, STATUS_UNSUPPORTED, "output",
                         "failed to check graph: got %zu outputs, expected one (the logits)", proto->n_output);
    }
    graph->output = onnx_text(proto->output[0]->name);
    if (!onnx_names_find(graph->names, graph->output, &index)) {
        return error_set(error, STATUS_INVALID, "output",
                         "failed to check graph: got undefined output '%s', expected the name of a value",
                         graph->output);
    }
    return STATUS_OK;
}

static size_t count_names(const Onnx__GraphProto *graph) {
    size_t count = graph->n_initializer + graph->n_input;
    for (size_t i = 0; i < graph->n_node; i++) {
        count += graph->node[i]->n_output;
    }
    return count;
}

enum status onnx_validate(const Onnx__GraphProto *graph, struct arena *arena, struct onnx_graph *out,
                          struct error *error) {
    struct onnx_graph checked = {.proto = graph, .names = onnx_names_new(arena, count_names(graph))};
    if (checked.names == NULL) {
        return error_no_memory(error, "the names of the graph");
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < graph->n_initializer; i++) {
        status = define(&checked, graph->initializer[i]->name, "initializer", error);
    }
    if (status == STATUS_OK) {
        status = check_inputs(&checked, graph->n_initializer, error);
    }
    for (size_t i = 0; status == STATUS_OK && i < graph->n_node; i++) {
        status = check_node(&checked, i, error);
    }
    if (status == STATUS_OK) {
        status = check_output(&checked, error);
    }
    if (status == STATUS_OK) {
        *out = checked;
    }
    return status;
}
