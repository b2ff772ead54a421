/* The records of an ONNX message, made in an arena and never freed one by one. */
#include "server/onnx/onnx_build.h"

#include <string.h>

void *build_alloc(struct onnx_build *build, size_t count, size_t size) {
    void *block = build->failed ? NULL : arena_alloc(build->arena, count, size);
    build->failed = block == NULL;
    return block;
}

char *build_text(struct onnx_build *build, const char *text) {
    size_t size = strlen(text) + 1;
    char *copy = build_alloc(build, size, 1);
    if (copy != NULL) {
        memcpy(copy, text, size);
    }
    return copy;
}

Onnx__NodeProto *build_node(struct onnx_build *build, const char *operator, const char * name, size_t inputs) {
    Onnx__NodeProto *node = build_alloc(build, 1, sizeof *node);
    if (node == NULL) {
        return NULL;
    }
    onnx__node_proto__init(node);
    node->op_type = build_text(build, operator);
    node->name = build_text(build, name);
    node->input = build_alloc(build, inputs, sizeof *node->input);
    node->output = build_alloc(build, 1, sizeof *node->output);
    node->attribute = build_alloc(build, BUILD_ATTRIBUTES_MAX, sizeof(void *));
    return build->failed ? NULL : node;
}

static Onnx__AttributeProto *add_attribute(struct onnx_build *build, Onnx__NodeProto *node, const char *name,
                                           Onnx__AttributeProto__AttributeType type) {
    Onnx__AttributeProto *attribute = node != NULL ? build_alloc(build, 1, sizeof *attribute) : NULL;
    if (attribute == NULL) {
        return NULL;
    }
    onnx__attribute_proto__init(attribute);
    attribute->name = build_text(build, name);
    attribute->has_type = 1;
    attribute->type = type;
    node->attribute[node->n_attribute++] = attribute;
    return attribute;
}

void build_int(struct onnx_build *build, Onnx__NodeProto *node, const char *name, int64_t value) {
    Onnx__AttributeProto *attribute = add_attribute(build, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    if (attribute != NULL) {
        attribute->has_i = 1;
        attribute->i = value;
    }
}

void build_float(struct onnx_build *build, Onnx__NodeProto *node, const char *name, float value) {
    Onnx__AttributeProto *attribute = add_attribute(build, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
    if (attribute != NULL) {
        attribute->has_f = 1;
        attribute->f = value;
    }
}

void build_string(struct onnx_build *build, Onnx__NodeProto *node, const char *name, const char *value) {
    Onnx__AttributeProto *attribute = add_attribute(build, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);
    char *text = attribute != NULL ? build_text(build, value) : NULL;
    if (text != NULL) {
        attribute->has_s = 1;
        attribute->s.data = (uint8_t *)text;
        attribute->s.len = strlen(text);
    }
}

void build_ints(struct onnx_build *build, Onnx__NodeProto *node, const char *name, const size_t *values, size_t count) {
    Onnx__AttributeProto *attribute = add_attribute(build, node, name, ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    int64_t *list = attribute != NULL ? build_alloc(build, count, sizeof *list) : NULL;
    if (list == NULL) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        list[i] = (int64_t)values[i];
    }
    attribute->ints = list;
    attribute->n_ints = count;
}

static void add_tensor(struct onnx_build *build, const char *name, int32_t type, const int64_t *dims, size_t rank,
                       const void *data, size_t bytes) {
    Onnx__TensorProto *tensor = build_alloc(build, 1, sizeof *tensor);
    if (tensor == NULL || build->graph->n_initializer == build->initializer_max) {
        build->failed = true;
        return;
    }
    onnx__tensor_proto__init(tensor);
    tensor->name = build_text(build, name);
    tensor->dims = build_alloc(build, rank, sizeof *tensor->dims);
    tensor->raw_data.data = build_alloc(build, bytes, 1);
    if (build->failed) {
        return;
    }
    memcpy(tensor->dims, dims, rank * sizeof *dims);
    memcpy(tensor->raw_data.data, data, bytes);
    tensor->n_dims = rank;
    tensor->has_data_type = 1;
    tensor->data_type = type;
    tensor->has_raw_data = 1;
    tensor->raw_data.len = bytes;
    build->graph->initializer[build->graph->n_initializer++] = tensor;
}

void build_floats_tensor(struct onnx_build *build, const char *name, const struct shape *shape, const float *data) {
    int64_t dims[SHAPE_RANK_MAX];
    for (size_t i = 0; i < shape->rank; i++) {
        dims[i] = (int64_t)shape->dim[i];
    }
    add_tensor(build, name, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, dims, shape->rank, data,
               shape_count(shape) * sizeof *data);
}

void build_integers_tensor(struct onnx_build *build, const char *name, const int64_t *data, size_t count) {
    int64_t dims[1] = {(int64_t)count};
    add_tensor(build, name, ONNX__TENSOR_PROTO__DATA_TYPE__INT64, dims, 1, data, count * sizeof *data);
}

Onnx__ValueInfoProto *build_value_info(struct onnx_build *build, const char *name, const struct shape *shape) {
    Onnx__ValueInfoProto *info = build_alloc(build, 1, sizeof *info);
    Onnx__TypeProto *type = build_alloc(build, 1, sizeof *type);
    Onnx__TypeProto__Tensor *element = build_alloc(build, 1, sizeof *element);
    Onnx__TensorShapeProto *dims = build_alloc(build, 1, sizeof *dims);
    Onnx__TensorShapeProto__Dimension **list = build_alloc(build, shape->rank, sizeof(void *));
    if (build->failed) {
        return NULL;
    }
    onnx__value_info_proto__init(info);
    onnx__type_proto__init(type);
    onnx__type_proto__tensor__init(element);
    onnx__tensor_shape_proto__init(dims);
    for (size_t i = 0; i < shape->rank; i++) {
        list[i] = build_alloc(build, 1, sizeof *list[i]);
        if (list[i] == NULL) {
            return NULL;
        }
        onnx__tensor_shape_proto__dimension__init(list[i]);
        if (i == 0) {
            list[i]->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
            list[i]->dim_param = build_text(build, "batch");
        } else {
            list[i]->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
            list[i]->dim_value = (int64_t)shape->dim[i];
        }
    }
    dims->dim = list;
    dims->n_dim = shape->rank;
    element->has_elem_type = 1;
    element->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    element->shape = dims;
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = element;
    info->name = build_text(build, name);
    info->type = type;
    return info;
}
