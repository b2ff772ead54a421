/* The repaired file. The bytes that came are unpacked again, only the edited tensors are changed, and the whole is packed:
 * protobuf-c keeps fields that it does not know, and every field that nobody touched comes out with the value it had.
 *
 * An edit means one input slot of one node. An initializer that something else reads too must stay as it is for the
 * others, so the slot gets a tensor of its own; likewise if the slot reads a Constant, an Identity or what was folded. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/onnx/onnx_names.h"
#include "server/onnx/onnx_parse.h"
#include "server/onnx/onnx_private.h"

/* Before this IR version every initializer is a graph input too. */
enum { IR_VERSION_FREE_INITIALIZERS = 4, BIAS_SLOT = 2 };

/* An Add that follows a MatMul: what has no bias of its own gets one. */
struct insertion {
    size_t after; /* index of the MatMul */
    Onnx__NodeProto *node;
};

struct writer {
    const struct onnx_model *model;
    struct insertion *insertions; /* room for one an edit */
    size_t insertion_count;
    struct onnx_message message;
    Onnx__GraphProto *graph; /* of the message */
    struct onnx_names *names;
    struct error *error;
};

/* A copy of a list of pointers with room for `more`; protobuf-c's own lists are of exact size. */
static void *grow(struct writer *writer, const void *list, size_t count, size_t more) {
    void *copy = arena_alloc(writer->message.arena, count + more, sizeof(void *));
    if (copy != NULL && count > 0) {
        memcpy(copy, list, count * sizeof(void *));
    }
    return copy;
}

static enum status no_memory(struct writer *writer) {
    return error_no_memory(writer->error, "the repaired model");
}

static enum status refuse(struct writer *writer, const struct onnx_edit *edit, const char *got, const char *expected) {
    char where[ERROR_WHERE_MAX];
    if (edit->node < writer->graph->n_node) {
        onnx_node_place(writer->graph->node[edit->node], edit->node, where);
    } else {
        (void)snprintf(where, sizeof where, "node %zu", edit->node);
    }
    return error_set(writer->error, STATUS_INVALID, where, "failed to edit input %zu: got %s, expected %s", edit->slot,
                     got, expected);
}

/* Every name in the file, so that a new one is new. */
static enum status collect_names(struct writer *writer, size_t edits) {
    const Onnx__GraphProto *graph = writer->graph;
    size_t max = 3 * edits + graph->n_initializer + graph->n_input + graph->n_output + graph->n_value_info, unused = 0;
    for (size_t i = 0; i < graph->n_node; i++) {
        max += graph->node[i]->n_input + graph->node[i]->n_output;
    }
    writer->names = onnx_names_new(writer->message.arena, max);
    if (writer->names == NULL) {
        return no_memory(writer);
    }
    for (size_t i = 0; i < graph->n_initializer; i++) {
        (void)onnx_names_add(writer->names, onnx_text(graph->initializer[i]->name), &unused);
    }
    for (size_t i = 0; i < graph->n_input; i++) {
        (void)onnx_names_add(writer->names, onnx_text(graph->input[i]->name), &unused);
    }
    for (size_t i = 0; i < graph->n_value_info; i++) {
        (void)onnx_names_add(writer->names, onnx_text(graph->value_info[i]->name), &unused);
    }
    for (size_t i = 0; i < graph->n_node; i++) {
        for (size_t k = 0; k < graph->node[i]->n_output; k++) {
            (void)onnx_names_add(writer->names, onnx_text(graph->node[i]->output[k]), &unused);
        }
    }
    return STATUS_OK;
}

/* "<base>_onp", or with a number after it if that is taken; in the arena. */
static char *fresh_name(struct writer *writer, const char *base) {
    size_t size = strlen(base) + 32, unused = 0;
    char *name = arena_alloc(writer->message.arena, size, 1);
    for (size_t i = 1; name != NULL; i++) {
        (void)snprintf(name, size, i == 1 ? "%s_onp" : "%s_onp%zu", base, i);
        if (!onnx_names_find(writer->names, name, &unused)) {
            (void)onnx_names_add(writer->names, name, &unused);
            break;
        }
    }
    return name;
}

static Onnx__TensorProto *find_initializer(const struct writer *writer, const char *name) {
    for (size_t i = 0; i < writer->graph->n_initializer; i++) {
        if (strcmp(onnx_text(writer->graph->initializer[i]->name), name) == 0) {
            return writer->graph->initializer[i];
        }
    }
    return NULL;
}

/* How often the value is read, by nodes and as an output of the graph. */
static size_t count_readers(const struct writer *writer, const char *name) {
    size_t readers = 0;
    for (size_t i = 0; i < writer->graph->n_node; i++) {
        for (size_t k = 0; k < writer->graph->node[i]->n_input; k++) {
            readers += strcmp(onnx_text(writer->graph->node[i]->input[k]), name) == 0;
        }
    }
    for (size_t i = 0; i < writer->graph->n_output; i++) {
        readers += strcmp(onnx_text(writer->graph->output[i]->name), name) == 0;
    }
    return readers;
}

/* In the form that the tensor has: raw stays raw, typed stays typed. */
static enum status overwrite(struct writer *writer, const struct onnx_edit *edit, Onnx__TensorProto *tensor) {
    if (tensor->has_raw_data && tensor->raw_data.len == edit->count * sizeof *edit->data) {
        memcpy(tensor->raw_data.data, edit->data, tensor->raw_data.len);
        return STATUS_OK;
    }
    if (tensor->n_float_data == edit->count) {
        memcpy(tensor->float_data, edit->data, edit->count * sizeof *edit->data);
        return STATUS_OK;
    }
    return refuse(writer, edit, "another number of values than the initializer has", "the same");
}

static enum status declare_input(struct writer *writer, const Onnx__TensorProto *tensor) {
    struct arena *arena = writer->message.arena;
    Onnx__ValueInfoProto *info = arena_alloc(arena, 1, sizeof *info);
    Onnx__TypeProto *type = arena_alloc(arena, 1, sizeof *type);
    Onnx__TypeProto__Tensor *element = arena_alloc(arena, 1, sizeof *element);
    Onnx__TensorShapeProto *shape = arena_alloc(arena, 1, sizeof *shape);
    Onnx__ValueInfoProto **inputs = grow(writer, writer->graph->input, writer->graph->n_input, 1);
    if (info == NULL || type == NULL || element == NULL || shape == NULL || inputs == NULL) {
        return no_memory(writer);
    }
    onnx__tensor_shape_proto__init(shape);
    shape->dim = arena_alloc(arena, tensor->n_dims, sizeof(void *));
    for (size_t i = 0; shape->dim != NULL && i < tensor->n_dims; i++) {
        Onnx__TensorShapeProto__Dimension *dimension = arena_alloc(arena, 1, sizeof *dimension);
        if (dimension == NULL) {
            return no_memory(writer);
        }
        onnx__tensor_shape_proto__dimension__init(dimension);
        dimension->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
        dimension->dim_value = tensor->dims[i];
        shape->dim[shape->n_dim++] = dimension;
    }
    onnx__type_proto__tensor__init(element);
    element->has_elem_type = 1;
    element->elem_type = tensor->data_type;
    element->shape = shape;
    onnx__type_proto__init(type);
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = element;
    onnx__value_info_proto__init(info);
    info->name = tensor->name;
    info->type = type;
    inputs[writer->graph->n_input++] = info;
    writer->graph->input = inputs;
    return shape->dim != NULL ? STATUS_OK : no_memory(writer);
}

/* Adds a float32 initializer of the given shape and gives its name. The list has room for one an edit. */
static enum status add_tensor(struct writer *writer, const struct onnx_edit *edit, const struct shape *shape,
                              const char *base, char **name) {
    struct arena *arena = writer->message.arena;
    Onnx__TensorProto *tensor = arena_alloc(arena, 1, sizeof *tensor);
    size_t bytes = edit->count * sizeof *edit->data;
    if (tensor == NULL) {
        return no_memory(writer);
    }
    onnx__tensor_proto__init(tensor);
    tensor->name = fresh_name(writer, base);
    tensor->dims = arena_alloc(arena, shape->rank, sizeof *tensor->dims);
    tensor->raw_data.data = arena_alloc(arena, bytes, 1);
    if (tensor->name == NULL || tensor->dims == NULL || tensor->raw_data.data == NULL) {
        return no_memory(writer);
    }
    for (size_t i = 0; i < shape->rank; i++) {
        tensor->dims[i] = (int64_t)shape->dim[i];
    }
    tensor->n_dims = shape->rank;
    tensor->has_data_type = 1;
    tensor->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    tensor->has_raw_data = 1;
    tensor->raw_data.len = bytes;
    memcpy(tensor->raw_data.data, edit->data, bytes);
    writer->graph->initializer[writer->graph->n_initializer++] = tensor;
    *name = tensor->name;
    return writer->message.model->ir_version < IR_VERSION_FREE_INITIALIZERS ? declare_input(writer, tensor) : STATUS_OK;
}

/* A MatMul has no bias: its output gets a new name, and an Add of the bias the old one. Nodes are counted by the edits, so the
 * Add is put in only after all of them. */
static enum status insert_bias(struct writer *writer, const struct onnx_edit *edit, char *bias) {
    struct arena *arena = writer->message.arena;
    Onnx__NodeProto *matmul = writer->graph->node[edit->node];
    Onnx__NodeProto *add = arena_alloc(arena, 1, sizeof *add);
    char **inputs = arena_alloc(arena, 2, sizeof *inputs), **outputs = arena_alloc(arena, 1, sizeof *outputs);
    char *product = fresh_name(writer, matmul->output[0]);
    if (add == NULL || inputs == NULL || outputs == NULL || product == NULL) {
        return no_memory(writer);
    }
    onnx__node_proto__init(add);
    add->op_type = arena_strdup(arena, "Add");
    add->name = fresh_name(writer, bias);
    if (add->op_type == NULL || add->name == NULL) {
        return no_memory(writer);
    }
    inputs[0] = product;
    inputs[1] = bias;
    outputs[0] = matmul->output[0];
    matmul->output[0] = product;
    add->input = inputs;
    add->n_input = 2;
    add->output = outputs;
    add->n_output = 1;
    writer->insertions[writer->insertion_count++] = (struct insertion){edit->node, add};
    return STATUS_OK;
}

static enum status insert_nodes(struct writer *writer) {
    Onnx__GraphProto *graph = writer->graph;
    size_t count = 0;
    Onnx__NodeProto **list = arena_alloc(writer->message.arena, graph->n_node + writer->insertion_count, sizeof *list);
    if (list == NULL) {
        return no_memory(writer);
    }
    for (size_t i = 0; i < graph->n_node; i++) {
        list[count++] = graph->node[i];
        for (size_t k = 0; k < writer->insertion_count; k++) {
            if (writer->insertions[k].after == i) {
                list[count++] = writer->insertions[k].node;
            }
        }
    }
    graph->node = list;
    graph->n_node = count;
    return STATUS_OK;
}

/* The slot had no input: only the bias of a Conv, a Gemm or a MatMul may come in this way. */
static enum status add_bias(struct writer *writer, const struct onnx_edit *edit, const struct node *lowered) {
    Onnx__NodeProto *node = writer->graph->node[edit->node];
    const struct shape *output = &writer->model->network->values[lowered->output].shape;
    const struct shape shape = {.rank = 1, .dim = {edit->count}};
    char base[ERROR_WHERE_MAX], *name = NULL;
    bool product = strcmp(node->op_type, "MatMul") == 0;
    bool takes_bias = product || strcmp(node->op_type, "Conv") == 0 || strcmp(node->op_type, "Gemm") == 0;
    if (!takes_bias || edit->slot != BIAS_SLOT || edit->slot > node->n_input) {
        return refuse(writer, edit, "an empty slot", "one that has an input, or the bias of a Conv, Gemm or MatMul");
    }
    if (edit->count != output->dim[strcmp(node->op_type, "Conv") == 0 ? 1 : output->rank - 1]) {
        return refuse(writer, edit, "a bias of another length", "one value an output channel");
    }
    (void)onnx_node_name(node, edit->node, base, sizeof base - 5);
    (void)snprintf(base + strlen(base), sizeof base - strlen(base), "_bias");
    enum status status = add_tensor(writer, edit, &shape, base, &name);
    if (status == STATUS_OK && product) {
        return insert_bias(writer, edit, name);
    }
    if (status == STATUS_OK && edit->slot == node->n_input) {
        char **inputs = grow(writer, node->input, node->n_input, 1);
        if (inputs == NULL) {
            return no_memory(writer);
        }
        node->input = inputs;
        node->n_input++;
    }
    if (status == STATUS_OK) {
        node->input[edit->slot] = name;
    }
    return status;
}

/* The last node that an ONNX node became: what is before it only puts its inputs into shape. */
static const struct node *find_lowered(const struct network *network, size_t origin) {
    for (size_t i = network->node_count; i-- > 0;) {
        if (network->nodes[i].origin == origin) {
            return &network->nodes[i];
        }
    }
    return NULL;
}

static enum status apply(struct writer *writer, const struct onnx_edit *edit) {
    const struct network *network = writer->model->network;
    const struct node *lowered = find_lowered(network, edit->node);
    if (edit->node >= writer->graph->n_node || lowered == NULL) {
        return refuse(writer, edit, "a node that is not in the network", "one of it");
    }
    for (size_t i = 0; i < edit->count; i++) {
        if (!isfinite(edit->data[i])) {
            return refuse(writer, edit, "NaN or infinity", "finite numbers");
        }
    }
    Onnx__NodeProto *node = writer->graph->node[edit->node];
    bool empty = edit->slot >= node->n_input || node->input[edit->slot][0] == '\0';
    if (empty) {
        return add_bias(writer, edit, lowered);
    }
    size_t value = edit->slot < lowered->input_count ? lowered->inputs[edit->slot] : NETWORK_NONE;
    if (value == NETWORK_NONE || network->values[value].kind != VALUE_CONSTANT) {
        return refuse(writer, edit, "an input that is computed", "a constant");
    }
    const struct shape *shape = &network->values[value].shape;
    const struct shape row = {.rank = 1, .dim = {edit->count}};
    bool spread = lowered->op == OP_GEMM && edit->slot == BIAS_SLOT && shape_count(shape) == 1; /* one number for all */
    shape = spread ? &row : shape;
    if (shape_count(shape) != edit->count) {
        return refuse(writer, edit, "another number of values than the input has", "the same");
    }
    Onnx__TensorProto *tensor = find_initializer(writer, node->input[edit->slot]);
    if (!spread && tensor != NULL && count_readers(writer, tensor->name) == 1) {
        return overwrite(writer, edit, tensor);
    }
    char *name = NULL;
    enum status status = add_tensor(writer, edit, shape, node->input[edit->slot], &name);
    if (status == STATUS_OK) {
        node->input[edit->slot] = name;
    }
    return status;
}

static enum status set_metadata(struct writer *writer, const struct onnx_metadata *metadata, size_t count) {
    Onnx__ModelProto *model = writer->message.model;
    Onnx__StringStringEntryProto **list = grow(writer, model->metadata_props, model->n_metadata_props, count);
    if (list == NULL) {
        return no_memory(writer);
    }
    model->metadata_props = list;
    for (size_t i = 0; i < count; i++) {
        Onnx__StringStringEntryProto *entry = NULL;
        for (size_t k = 0; k < model->n_metadata_props && entry == NULL; k++) {
            entry = strcmp(onnx_text(list[k]->key), metadata[i].key) == 0 ? list[k] : NULL;
        }
        if (entry == NULL) {
            entry = arena_alloc(writer->message.arena, 1, sizeof *entry);
            if (entry == NULL) {
                return no_memory(writer);
            }
            onnx__string_string_entry_proto__init(entry);
            entry->key = arena_strdup(writer->message.arena, metadata[i].key);
            list[model->n_metadata_props++] = entry;
        }
        entry->value = arena_strdup(writer->message.arena, metadata[i].value);
        if (entry->key == NULL || entry->value == NULL) {
            return no_memory(writer);
        }
    }
    return STATUS_OK;
}

static enum status pack(struct writer *writer, uint8_t **bytes, size_t *length) {
    size_t size = onnx__model_proto__get_packed_size(writer->message.model);
    uint8_t *packed = mem_alloc(size, 1);
    if (packed == NULL) {
        return no_memory(writer);
    }
    if (onnx__model_proto__pack(writer->message.model, packed) != size) {
        mem_free(packed);
        return error_set(writer->error, STATUS_INTERNAL, NULL, "failed to pack the repaired model");
    }
    *bytes = packed;
    *length = size;
    return STATUS_OK;
}

enum status onnx_model_write(const struct onnx_model *model, const struct onnx_edit *edits, size_t edit_count,
                             const struct onnx_metadata *metadata, size_t metadata_count, uint8_t **bytes,
                             size_t *length, struct error *error) {
    struct writer writer = {.model = model, .error = error};
    enum status status = onnx_unpack(model->bytes, model->length, &writer.message, error);
    if (status != STATUS_OK) {
        return status;
    }
    writer.graph = writer.message.model->graph;
    status = collect_names(&writer, edit_count);
    if (status == STATUS_OK) {
        Onnx__TensorProto **list = grow(&writer, writer.graph->initializer, writer.graph->n_initializer, edit_count);
        writer.insertions = arena_alloc(writer.message.arena, edit_count, sizeof *writer.insertions);
        status = list != NULL && writer.insertions != NULL ? STATUS_OK : no_memory(&writer);
        writer.graph->initializer = list;
    }
    for (size_t i = 0; status == STATUS_OK && i < edit_count; i++) {
        status = apply(&writer, &edits[i]);
    }
    if (status == STATUS_OK) {
        status = insert_nodes(&writer);
    }
    if (status == STATUS_OK) {
        status = set_metadata(&writer, metadata, metadata_count);
    }
    if (status == STATUS_OK) {
        status = pack(&writer, bytes, length);
    }
    onnx_message_deinit(&writer.message);
    return status;
}
