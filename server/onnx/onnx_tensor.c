/* The numbers of a TensorProto are in raw_data (little endian) or in the typed field of their type; either way there
 * must be exactly as many as the dims say. float32 in place, other floats converted to float32; NaN and infinity are
 * refused, because one such weight silently makes every result meaningless. */
#include "server/onnx/onnx_tensor.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "server/nn/network.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "raw_data is read in place");

struct reader {
    const Onnx__TensorProto *tensor;
    const char *place;
    struct arena *arena;
    struct onnx_constant *out;
    struct error *error;
};

struct type_row {
    int32_t type;
    const char *name;
    size_t width; /* bytes an element in raw_data; 0: not supported */
};

static const struct type_row TYPES[] = {
    {ONNX__TENSOR_PROTO__DATA_TYPE__UNDEFINED, "undefined", 0},
    {ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, "float32", 4},
    {ONNX__TENSOR_PROTO__DATA_TYPE__UINT8, "uint8", 0},
    {ONNX__TENSOR_PROTO__DATA_TYPE__INT8, "int8", 0},
    {ONNX__TENSOR_PROTO__DATA_TYPE__UINT16, "uint16", 0},
    {ONNX__TENSOR_PROTO__DATA_TYPE__INT16, "int16", 0},
    {ONNX__TENSOR_PROTO__DATA_TYPE__INT32, "int32", 4},
    {ONNX__TENSOR_PROTO__DATA_TYPE__INT64, "int64", 8},
    {ONNX__TENSOR_PROTO__DATA_TYPE__STRING, "string", 0},
    {ONNX__TENSOR_PROTO__DATA_TYPE__BOOL, "bool", 1},
    {ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT16, "float16", 0},
    {ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE, "float64", 8},
    {ONNX__TENSOR_PROTO__DATA_TYPE__UINT32, "uint32", 0},
    {ONNX__TENSOR_PROTO__DATA_TYPE__UINT64, "uint64", 0},
    {ONNX__TENSOR_PROTO__DATA_TYPE__COMPLEX64, "complex64", 0},
    {ONNX__TENSOR_PROTO__DATA_TYPE__COMPLEX128, "complex128", 0},
    {ONNX__TENSOR_PROTO__DATA_TYPE__BFLOAT16, "bfloat16", 0},
};
enum { TYPE_COUNT = sizeof TYPES / sizeof TYPES[0] };

static const struct type_row *type_row(int32_t type) {
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        if (TYPES[i].type == type) {
            return &TYPES[i];
        }
    }
    return &TYPES[0];
}

bool onnx_is_batch(int64_t integer, int64_t *times) {
    if (integer < ONNX_BATCH || integer >= ONNX_BATCH + ONNX_BATCH_TIMES_MAX) {
        return false;
    }
    *times = integer - ONNX_BATCH + 1;
    return true;
}

int64_t onnx_batch(int64_t times) {
    return ONNX_BATCH + times - 1;
}

const char *onnx_type_name(int32_t type) {
    return type_row(type)->name;
}

static const char *name_of(const struct reader *reader) {
    return reader->tensor->name != NULL ? reader->tensor->name : "";
}

static enum status read_shape(struct reader *reader) {
    const Onnx__TensorProto *tensor = reader->tensor;
    struct shape shape = {.rank = tensor->n_dims};
    if (tensor->n_dims > SHAPE_RANK_MAX) {
        return error_set(reader->error, STATUS_UNSUPPORTED, reader->place,
                         "failed to read tensor '%s': got rank %zu, expected at most %d", name_of(reader),
                         tensor->n_dims, SHAPE_RANK_MAX);
    }
    size_t count = 1;
    for (size_t i = 0; i < shape.rank; i++) {
        if (tensor->dims[i] < 0 || !mem_multiply(count, (size_t)tensor->dims[i], &count)) {
            return error_set(reader->error, STATUS_INVALID, reader->place,
                             "failed to read tensor '%s': got dimension %lld, expected dimensions whose product is "
                             "the size of its data",
                             name_of(reader), (long long)tensor->dims[i]);
        }
        shape.dim[i] = (size_t)tensor->dims[i];
    }
    reader->out->shape = shape;
    reader->out->count = count;
    return STATUS_OK;
}

/* The data is in exactly one place, and has exactly the size that the shape asks for. */
static enum status check_size(struct reader *reader, size_t width, size_t typed) {
    const Onnx__TensorProto *tensor = reader->tensor;
    bool raw = tensor->has_raw_data && tensor->raw_data.len > 0;
    size_t got = raw ? tensor->raw_data.len : typed;
    size_t expected = reader->out->count;
    if (raw && typed > 0) {
        return error_set(reader->error, STATUS_INVALID, reader->place,
                         "failed to read tensor '%s': got data both raw and typed, expected one of them",
                         name_of(reader));
    }
    if (raw && !mem_multiply(expected, width, &expected)) {
        expected = SIZE_MAX;
    }
    if (got != expected) {
        char text[SHAPE_TEXT_SIZE];
        return error_set(reader->error, STATUS_INVALID, reader->place,
                         "failed to read tensor '%s': got %zu %s, expected %zu for shape %s", name_of(reader), got,
                         raw ? "bytes of raw data" : "values", expected, shape_text(&reader->out->shape, text));
    }
    return STATUS_OK;
}

/* Element i of a float64 tensor as a float; what overflows becomes infinite and is refused with the rest. */
static float double_at(const Onnx__TensorProto *tensor, size_t i) {
    double value = 0;
    if (tensor->has_raw_data && tensor->raw_data.len > 0) {
        memcpy(&value, tensor->raw_data.data + i * sizeof value, sizeof value);
    } else {
        value = tensor->double_data[i];
    }
    return (float)value;
}

static enum status read_floats(struct reader *reader) {
    const Onnx__TensorProto *tensor = reader->tensor;
    static const float NOTHING = 0;
    size_t count = reader->out->count;
    if (count == 0 && reader->out->shape.rank == 1) {
        reader->out->floats =
            &NOTHING; /* an empty list, as exporters give for inputs that they leave out (the roi of Resize) */
        return STATUS_OK;
    }
    if (count == 0) {
        char text[SHAPE_TEXT_SIZE];
        return error_set(reader->error, STATUS_INVALID, reader->place,
                         "failed to read tensor '%s': got shape %s, expected dimensions of at least 1", name_of(reader),
                         shape_text(&reader->out->shape, text));
    }
    const float *floats = NULL;
    if (tensor->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT) {
        bool raw = tensor->has_raw_data && tensor->raw_data.len > 0;
        /* The unpacker's blocks are aligned for any type. */
        floats = raw ? (const float *)(const void *)tensor->raw_data.data : tensor->float_data;
    } else {
        float *converted = arena_alloc(reader->arena, count, sizeof *converted);
        if (converted == NULL) {
            return error_no_memory(reader->error, "the values of a tensor");
        }
        for (size_t i = 0; i < count; i++) {
            converted[i] = double_at(tensor, i);
        }
        floats = converted;
    }
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(floats[i])) {
            return error_set(reader->error, STATUS_INVALID, reader->place,
                             "failed to read tensor '%s': got %s at element %zu, expected finite numbers",
                             name_of(reader), isnan(floats[i]) ? "NaN" : "infinity", i);
        }
    }
    reader->out->floats = floats;
    return STATUS_OK;
}

static int64_t integer_at(const Onnx__TensorProto *tensor, size_t i) {
    const uint8_t *raw = tensor->raw_data.data;
    bool typed = !(tensor->has_raw_data && tensor->raw_data.len > 0);
    int64_t wide = 0;
    int32_t narrow = 0;
    if (tensor->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__INT64) {
        if (typed) {
            return tensor->int64_data[i];
        }
        memcpy(&wide, raw + i * sizeof wide, sizeof wide);
        return wide;
    }
    if (typed) {
        return tensor->int32_data[i];
    }
    if (tensor->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__BOOL) {
        return raw[i] != 0;
    }
    memcpy(&narrow, raw + i * sizeof narrow, sizeof narrow);
    return narrow;
}

static enum status read_integers(struct reader *reader) {
    size_t count = reader->out->count;
    int64_t times = 0;
    int64_t *integers = arena_alloc(reader->arena, count, sizeof *integers);
    if (integers == NULL) {
        return error_no_memory(reader->error, "the values of a tensor");
    }
    for (size_t i = 0; i < count; i++) {
        integers[i] = integer_at(reader->tensor, i);
        if (onnx_is_batch(integers[i], &times)) {
            return error_set(reader->error, STATUS_UNSUPPORTED, reader->place,
                             "failed to read tensor '%s': got the number %lld, which has a meaning of its own here",
                             name_of(reader), (long long)integers[i]);
        }
    }
    reader->out->integers = integers;
    return STATUS_OK;
}

/* How many values the typed field of the tensor's type holds. */
static size_t typed_count(const Onnx__TensorProto *tensor) {
    switch (tensor->data_type) {
    case ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT:
        return tensor->n_float_data;
    case ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE:
        return tensor->n_double_data;
    case ONNX__TENSOR_PROTO__DATA_TYPE__INT64:
        return tensor->n_int64_data;
    default:
        return tensor->n_int32_data; /* int32 and bool */
    }
}

enum status onnx_tensor_read(const Onnx__TensorProto *tensor, const char *place, struct arena *arena,
                             struct onnx_constant *out, struct error *error) {
    struct onnx_constant constant = {
        .type = tensor->data_type, .name = tensor->name != NULL ? tensor->name : "", .value = NETWORK_NONE};
    struct reader reader = {.tensor = tensor, .place = place, .arena = arena, .out = &constant, .error = error};
    const struct type_row *row = type_row(tensor->data_type);
    if (row->width == 0 || tensor->segment != NULL) {
        return error_set(error, STATUS_UNSUPPORTED, place,
                         "failed to read tensor '%s': got %s, expected float32, float64, int32, int64 or bool",
                         name_of(&reader), row->width == 0 ? row->name : "a segment");
    }
    enum status status = read_shape(&reader);
    if (status == STATUS_OK) {
        status = check_size(&reader, row->width, typed_count(tensor));
    }
    if (status != STATUS_OK) {
        return status;
    }
    bool is_float = tensor->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT ||
                    tensor->data_type == ONNX__TENSOR_PROTO__DATA_TYPE__DOUBLE;
    status = is_float ? read_floats(&reader) : read_integers(&reader);
    if (status == STATUS_OK) {
        *out = constant;
    }
    return status;
}
