/* The files of these tests are ours and shallow, so this may recurse. */
#include "tests/unit/onnx/messages.h"

#include <stdio.h>
#include <string.h>

#include "tests/support/cm.h"

Onnx__ModelProto *messages_unpack(const uint8_t *bytes, size_t length) {
    Onnx__ModelProto *model = onnx__model_proto__unpack(NULL, length, bytes);
    assert_non_null(model);
    return model;
}

static size_t element_size(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
    case PROTOBUF_C_TYPE_BOOL:
        return 4;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return sizeof(void *);
    }
}

static bool elements_equal(const ProtobufCFieldDescriptor *field, const char *a, const char *b) {
    if (field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_MESSAGE) {
        const void *left = *(const void *const *)(const void *)a, *right = *(const void *const *)(const void *)b;
        if (left == NULL || right == NULL) {
            return left == right;
        }
        return field->type == PROTOBUF_C_TYPE_STRING ? strcmp(left, right) == 0 : messages_equal(left, right);
    }
    if (field->type == PROTOBUF_C_TYPE_BYTES) {
        const ProtobufCBinaryData *left = (const void *)a, *right = (const void *)b;
        return left->len == right->len && (left->len == 0 || memcmp(left->data, right->data, left->len) == 0);
    }
    return memcmp(a, b, element_size(field->type)) == 0;
}

static bool repeated_equal(const ProtobufCFieldDescriptor *field, const char *a, const char *b) {
    size_t left = *(const size_t *)(const void *)(a + field->quantifier_offset);
    size_t right = *(const size_t *)(const void *)(b + field->quantifier_offset);
    const char *left_list = *(const char *const *)(const void *)(a + field->offset);
    const char *right_list = *(const char *const *)(const void *)(b + field->offset);
    bool equal = left == right;
    for (size_t i = 0; equal && i < left; i++) {
        size_t at = i * element_size(field->type);
        equal = elements_equal(field, left_list + at, right_list + at);
    }
    return equal;
}

static bool field_equal(const ProtobufCFieldDescriptor *field, const char *a, const char *b) {
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        return repeated_equal(field, a, b);
    }
    bool is_pointer = field->type == PROTOBUF_C_TYPE_STRING || field->type == PROTOBUF_C_TYPE_MESSAGE;
    bool is_oneof = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
    if (is_oneof || !is_pointer) { /* the case, or whether it is there */
        int left = *(const int *)(const void *)(a + field->quantifier_offset);
        int right = *(const int *)(const void *)(b + field->quantifier_offset);
        if (left != right || (is_oneof ? (uint32_t)left != field->id : left == 0)) {
            return left == right;
        }
    }
    return elements_equal(field, a + field->offset, b + field->offset);
}

bool messages_equal(const ProtobufCMessage *a, const ProtobufCMessage *b) {
    const ProtobufCMessageDescriptor *type = a->descriptor;
    bool equal = type == b->descriptor && a->n_unknown_fields == b->n_unknown_fields;
    for (unsigned i = 0; equal && i < type->n_fields; i++) {
        equal = field_equal(&type->fields[i], (const char *)a, (const char *)b);
        if (!equal) {
            (void)fprintf(stderr, "%s.%s differs\n", type->name, type->fields[i].name);
        }
    }
    for (unsigned i = 0; equal && i < a->n_unknown_fields; i++) {
        const ProtobufCMessageUnknownField *left = &a->unknown_fields[i], *right = &b->unknown_fields[i];
        equal = left->tag == right->tag && left->wire_type == right->wire_type && left->len == right->len &&
                memcmp(left->data, right->data, left->len) == 0;
    }
    return equal;
}
