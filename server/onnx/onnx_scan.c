/* First pass over an untrusted ONNX file, on the wire format, before anything is unpacked.
 *
 * protobuf-c has no limit on nesting or on the memory that empty messages take, so this pass walks the bytes with an
 * explicit stack and believes nothing: every length is held against the bytes that remain in its message, messages and
 * strings are counted against limits, fields that may appear once do so. Which fields are messages is read from the
 * descriptors that the unpacker itself uses, so both agree on what is nested. */
#include <stdio.h>
#include <string.h>

#include "onnx.pb-c.h"
#include "server/onnx/onnx_model.h"

enum {
    WIRE_VARINT = 0,
    WIRE_FIXED64 = 1,
    WIRE_BYTES = 2,
    WIRE_FIXED32 = 5,

    STACK_MAX = 64,        /* hard limit of the stack; limits->max_depth is below it */
    VARINT_BYTES_MAX = 10, /* of a 64-bit number */
    SEEN_BITS = 64,        /* field numbers of the schema are below this */
};

/* The most varints in repeated fields (each of one byte becomes eight), and the most fields that the schema does not
 * know (each is kept with a record of its own). */
static const size_t INTEGERS_MAX = (size_t)4 << 20;
static const size_t UNKNOWN_MAX = 10000;

/* Objects a node or an initializer can bring along in a file that is not built to waste memory: attributes, value
 * infos with their types and dimensions, doc strings. */
static const size_t MESSAGES_A_NODE = 64;
static const size_t STRINGS_A_NODE = 64;

struct frame {
    const ProtobufCMessageDescriptor *type;
    size_t end;    /* offset just after the message */
    uint64_t seen; /* bit i: the singular field number i was there */
};

struct scan {
    const uint8_t *bytes;
    size_t offset;
    size_t field; /* offset of the tag of the field that is being read */
    const struct onnx_limits *limits;
    struct error *error;
    struct frame stack[STACK_MAX];
    size_t depth; /* frames in use */
    size_t nodes, tensors, messages, strings, integers, unknown;
};

static void place(size_t offset, char where[ERROR_WHERE_MAX]) {
    (void)snprintf(where, ERROR_WHERE_MAX, "byte %zu", offset);
}

static enum status malformed(struct scan *scan, const char *got, const char *expected) {
    char where[ERROR_WHERE_MAX];
    place(scan->field, where);
    return error_set(scan->error, STATUS_INVALID, where, "failed to read ONNX file: got %s, expected %s", got,
                     expected);
}

static enum status count(struct scan *scan, size_t *counter, size_t more, size_t max, const char *what) {
    if (more > max || *counter > max - more) {
        char where[ERROR_WHERE_MAX];
        place(scan->field, where);
        return error_set(scan->error, STATUS_LIMIT, where, "failed to read ONNX file: got more than %zu %s", max, what);
    }
    *counter += more;
    return STATUS_OK;
}

static struct frame *top(struct scan *scan) {
    return &scan->stack[scan->depth - 1];
}

/* false: no whole varint before `end`. */
static bool read_varint(struct scan *scan, size_t end, uint64_t *value) {
    uint64_t result = 0;
    for (unsigned i = 0; i < VARINT_BYTES_MAX && scan->offset < end; i++) {
        uint8_t byte = scan->bytes[scan->offset++];
        result |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *value = result;
            return true;
        }
    }
    return false;
}

/* Well-formed UTF-8 (RFC 3629) without NUL: names end up in C strings, JSON and logs. */
static bool is_text(const uint8_t *text, size_t length) {
    size_t i = 0;
    while (i < length) {
        uint8_t lead = text[i++];
        if (lead == 0) {
            return false;
        }
        if (lead < 0x80) {
            continue;
        }
        size_t more = lead >= 0xc2 && lead <= 0xdf   ? 1
                      : (lead & 0xf0) == 0xe0        ? 2
                      : lead >= 0xf0 && lead <= 0xf4 ? 3
                                                     : 0;
        if (more == 0 || length - i < more) {
            return false;
        }
        /* Overlong forms, surrogates and code points above U+10FFFF are told by the second byte. */
        uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
        uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
        for (size_t k = 0; k < more; k++, i++) {
            if (text[i] < (k == 0 ? low : 0x80) || text[i] > (k == 0 ? high : 0xbf)) {
                return false;
            }
        }
    }
    return true;
}

static unsigned wire_type_of(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_BYTES;
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
        return WIRE_FIXED32;
    case PROTOBUF_C_TYPE_DOUBLE:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
        return WIRE_FIXED64;
    default:
        return WIRE_VARINT;
    }
}

static enum status push(struct scan *scan, const ProtobufCMessageDescriptor *type, size_t end) {
    size_t max_depth = scan->limits->max_depth < STACK_MAX ? scan->limits->max_depth : STACK_MAX;
    if (scan->depth >= max_depth) {
        char where[ERROR_WHERE_MAX];
        place(scan->field, where);
        return error_set(scan->error, STATUS_LIMIT, where,
                         "failed to read ONNX file: got messages nested deeper than %zu", max_depth);
    }
    const struct onnx_limits *limits = scan->limits;
    size_t objects = limits->max_nodes + limits->max_initializers;
    enum status status = count(scan, &scan->messages, 1, MESSAGES_A_NODE * objects, "messages");
    if (status == STATUS_OK && type == &onnx__node_proto__descriptor) {
        status = count(scan, &scan->nodes, 1, limits->max_nodes, "nodes");
    }
    if (status == STATUS_OK && type == &onnx__tensor_proto__descriptor) {
        /* Constants of nodes are tensors too. */
        status = count(scan, &scan->tensors, 1, objects, "tensors");
    }
    if (status == STATUS_OK) {
        scan->stack[scan->depth++] = (struct frame){.type = type, .end = end};
    }
    return status;
}

/* `length` bytes of packed numbers of a repeated field. */
static enum status scan_packed(struct scan *scan, unsigned wire, size_t length) {
    if (wire == WIRE_FIXED32 || wire == WIRE_FIXED64) {
        size_t width = wire == WIRE_FIXED32 ? 4 : 8;
        scan->offset += length;
        return length % width == 0 ? STATUS_OK : malformed(scan, "a part of a packed number", "whole ones");
    }
    size_t end = scan->offset + length;
    size_t numbers = 0;
    while (scan->offset < end) {
        uint64_t value = 0;
        if (!read_varint(scan, end, &value)) {
            return malformed(scan, "a packed number without an end", "at most 10 bytes in its field");
        }
        numbers++;
    }
    return count(scan, &scan->integers, numbers, INTEGERS_MAX, "integers");
}

static enum status scan_bytes(struct scan *scan, const ProtobufCFieldDescriptor *field) {
    struct frame *frame = top(scan);
    uint64_t length = 0;
    if (!read_varint(scan, frame->end, &length)) {
        return malformed(scan, "a length without an end", "a number of at most 10 bytes");
    }
    if (length > frame->end - scan->offset) {
        char got[64], expected[64];
        (void)snprintf(got, sizeof got, "a field of %llu bytes", (unsigned long long)length);
        (void)snprintf(expected, sizeof expected, "at most the %zu that remain", frame->end - scan->offset);
        return malformed(scan, got, expected);
    }
    if (field == NULL || field->type == PROTOBUF_C_TYPE_BYTES) {
        scan->offset += (size_t)length;
        return STATUS_OK;
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        return push(scan, field->descriptor, scan->offset + (size_t)length);
    }
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        if (!is_text(scan->bytes + scan->offset, (size_t)length)) {
            return malformed(scan, "a string that is not UTF-8 text", "UTF-8 without NUL");
        }
        scan->offset += (size_t)length;
        size_t objects = scan->limits->max_nodes + scan->limits->max_initializers;
        return count(scan, &scan->strings, 1, STRINGS_A_NODE * objects, "strings");
    }
    return scan_packed(scan, wire_type_of(field->type), (size_t)length);
}

static enum status scan_value(struct scan *scan, const ProtobufCFieldDescriptor *field, unsigned wire) {
    struct frame *frame = top(scan);
    uint64_t value = 0;
    size_t width = wire == WIRE_FIXED32 ? 4 : 8;
    switch (wire) {
    case WIRE_VARINT:
        if (!read_varint(scan, frame->end, &value)) {
            return malformed(scan, "a number without an end", "at most 10 bytes in its message");
        }
        if (field != NULL && field->label == PROTOBUF_C_LABEL_REPEATED) {
            return count(scan, &scan->integers, 1, INTEGERS_MAX, "integers");
        }
        return STATUS_OK;
    case WIRE_FIXED32:
    case WIRE_FIXED64:
        if (frame->end - scan->offset < width) {
            return malformed(scan, "the end of the message", "a number");
        }
        scan->offset += width;
        if (field != NULL && field->label == PROTOBUF_C_LABEL_REPEATED) {
            return count(scan, &scan->integers, 1, INTEGERS_MAX, "unpacked numbers");
        }
        return STATUS_OK;
    case WIRE_BYTES:
        return scan_bytes(scan, field);
    default:
        return malformed(scan, "an unknown wire type", "varint, fixed or length-delimited");
    }
}

/* A known field must have the wire type of its kind (or be a packed list), and appear once unless it is repeated:
 * protobuf would merge the copies, and no exporter writes any. */
static enum status check_field(struct scan *scan, const ProtobufCFieldDescriptor *field, unsigned wire) {
    unsigned expected = wire_type_of(field->type);
    bool repeated = field->label == PROTOBUF_C_LABEL_REPEATED;
    if (wire != expected && !(repeated && wire == WIRE_BYTES)) {
        char got[96];
        (void)snprintf(got, sizeof got, "wire type %u in field '%s' of %s", wire, field->name,
                       top(scan)->type->short_name);
        return malformed(scan, got, "the type of the ONNX schema");
    }
    if (!repeated && field->id < SEEN_BITS) {
        uint64_t bit = UINT64_C(1) << field->id;
        if ((top(scan)->seen & bit) != 0) {
            char got[96];
            (void)snprintf(got, sizeof got, "a second field '%s' in one %s", field->name, top(scan)->type->short_name);
            return malformed(scan, got, "one");
        }
        top(scan)->seen |= bit;
    }
    return STATUS_OK;
}

static enum status scan_field(struct scan *scan) {
    struct frame *frame = top(scan);
    uint64_t tag = 0;
    scan->field = scan->offset;
    if (!read_varint(scan, frame->end, &tag) || tag > UINT32_MAX || (tag >> 3) == 0) {
        return malformed(scan, "a broken field tag", "a field of the ONNX schema");
    }
    const ProtobufCFieldDescriptor *field = protobuf_c_message_descriptor_get_field(frame->type, (unsigned)(tag >> 3));
    unsigned wire = (unsigned)(tag & 7);
    enum status status = field != NULL ? check_field(scan, field, wire)
                                       : count(scan, &scan->unknown, 1, UNKNOWN_MAX, "fields unknown to the schema");
    return status != STATUS_OK ? status : scan_value(scan, field, wire);
}

enum status onnx_scan(const uint8_t *bytes, size_t length, const struct onnx_limits *limits, struct error *error) {
    if (length > limits->max_bytes) {
        return error_set(error, STATUS_LIMIT, NULL, "failed to read ONNX file: got %zu bytes, expected at most %zu",
                         length, limits->max_bytes);
    }
    if (length == 0) {
        return error_set(error, STATUS_INVALID, "byte 0", "failed to read ONNX file: got an empty file");
    }
    struct scan scan = {.bytes = bytes, .limits = limits, .error = error};
    enum status status = push(&scan, &onnx__model_proto__descriptor, length);
    while (status == STATUS_OK && scan.depth > 0) {
        if (scan.offset == top(&scan)->end) {
            scan.depth--;
        } else {
            status = scan_field(&scan);
        }
    }
    return status;
}
