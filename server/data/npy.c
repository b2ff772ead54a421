/* The header is parsed by hand and strictly: exactly the three keys that NumPy writes, each once, each of its own kind.
 * Object arrays (which would be Python pickles), structured and big-endian ones are refused by their type. */
#include "server/data/npy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/mem.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "arrays are read in place");

enum { TYPE_TEXT_MAX = 16, HEADER_ALIGN = 64 };

static const struct {
    const char *text;
    size_t width;
} TYPES[] = {
    [NPY_U1] = {"|u1", 1}, [NPY_I4] = {"<i4", 4}, [NPY_I8] = {"<i8", 8},
    [NPY_F2] = {"<f2", 2}, [NPY_F4] = {"<f4", 4}, [NPY_F8] = {"<f8", 8},
};
enum { TYPE_COUNT = sizeof TYPES / sizeof TYPES[0] };

struct header {
    const char *at, *end;
    const char *place;
    struct error *error;
};

size_t npy_width(enum npy_type type) {
    return TYPES[type].width;
}

const char *npy_type_text(enum npy_type type) {
    return TYPES[type].text;
}

enum status npy_prefix(const unsigned char prefix[NPY_PREFIX_V2], const char *place, size_t *before, size_t *length,
                       struct error *error) {
    static const unsigned char MAGIC[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
    if (memcmp(prefix, MAGIC, sizeof MAGIC) != 0) {
        return error_set(error, STATUS_INVALID, place, "failed to read %s: got no npy magic, expected an npy array",
                         place);
    }
    if ((prefix[6] != 1 && prefix[6] != 2) || prefix[7] != 0) {
        return error_set(error, STATUS_UNSUPPORTED, place,
                         "failed to read %s: got npy version %d.%d, expected 1.0 or 2.0", place, prefix[6], prefix[7]);
    }
    bool first = prefix[6] == 1;
    size_t bytes = (size_t)prefix[8] | (size_t)prefix[9] << 8;
    if (!first) {
        bytes |= (size_t)prefix[10] << 16 | (size_t)prefix[11] << 24;
    }
    if (bytes > NPY_HEADER_MAX) {
        return error_set(error, STATUS_LIMIT, place,
                         "failed to read %s: got a header of %zu bytes, expected at most %d", place, bytes,
                         NPY_HEADER_MAX);
    }
    *before = first ? NPY_PREFIX_V1 : NPY_PREFIX_V2;
    *length = bytes;
    return STATUS_OK;
}

static enum status bad_header(struct header *header, const char *expected) {
    return error_set(header->error, STATUS_INVALID, header->place,
                     "failed to read the npy header of %s: got something else, expected %s", header->place, expected);
}

static void skip_blanks(struct header *header) {
    while (header->at < header->end && (*header->at == ' ' || *header->at == '\n')) {
        header->at++;
    }
}

/* Takes `symbol` if it comes next. */
static bool take(struct header *header, char symbol) {
    skip_blanks(header);
    if (header->at < header->end && *header->at == symbol) {
        header->at++;
        return true;
    }
    return false;
}

/* A quoted string without escapes. */
static bool take_text(struct header *header, char out[TYPE_TEXT_MAX]) {
    skip_blanks(header);
    char quote = header->at < header->end ? *header->at : '\0';
    if (quote != '\'' && quote != '"') {
        return false;
    }
    const char *begin = header->at + 1;
    const char *close = memchr(begin, quote, (size_t)(header->end - begin));
    if (close == NULL || close - begin >= TYPE_TEXT_MAX || memchr(begin, '\\', (size_t)(close - begin)) != NULL) {
        return false;
    }
    memcpy(out, begin, (size_t)(close - begin));
    out[close - begin] = '\0';
    header->at = close + 1;
    return true;
}

static bool take_word(struct header *header, const char *word) {
    size_t length = strlen(word);
    skip_blanks(header);
    if ((size_t)(header->end - header->at) < length || memcmp(header->at, word, length) != 0) {
        return false;
    }
    header->at += length;
    return true;
}

static enum status read_type(struct header *header, struct npy *array) {
    char text[TYPE_TEXT_MAX];
    if (!take_text(header, text)) {
        return error_set(header->error, STATUS_UNSUPPORTED, header->place,
                         "failed to read %s: got a structured or unknown element type, expected one of |u1 <i4 <i8 <f2 "
                         "<f4 <f8",
                         header->place);
    }
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        if (strcmp(text, TYPES[i].text) == 0) {
            array->type = (enum npy_type)i;
            return STATUS_OK;
        }
    }
    return error_set(header->error, STATUS_UNSUPPORTED, header->place,
                     "failed to read %s: got element type '%s'%s, expected one of |u1 <i4 <i8 <f2 <f4 <f8",
                     header->place, text, strcmp(text, "|O") == 0 ? " (Python objects)" : "");
}

static enum status read_order(struct header *header) {
    if (take_word(header, "False")) {
        return STATUS_OK;
    }
    if (take_word(header, "True")) {
        return error_set(header->error, STATUS_UNSUPPORTED, header->place,
                         "failed to read %s: got Fortran order, expected C order", header->place);
    }
    return bad_header(header, "fortran_order True or False");
}

/* ( ), (5,) or (5, 3, 32). */
static enum status read_shape(struct header *header, struct npy *array) {
    struct shape shape = {.rank = 0};
    if (!take(header, '(')) {
        return bad_header(header, "a shape in parentheses");
    }
    while (!take(header, ')')) {
        size_t dim = 0, digits = 0;
        skip_blanks(header);
        for (; header->at < header->end && *header->at >= '0' && *header->at <= '9'; header->at++, digits++) {
            if (__builtin_mul_overflow(dim, 10, &dim) ||
                __builtin_add_overflow(dim, (size_t)(*header->at - '0'), &dim)) {
                return bad_header(header, "dimensions that fit in 64 bits");
            }
        }
        if (digits == 0) {
            return bad_header(header, "dimensions that are whole numbers");
        }
        if (shape.rank == SHAPE_RANK_MAX) {
            return error_set(header->error, STATUS_UNSUPPORTED, header->place,
                             "failed to read %s: got more than %d dimensions", header->place, SHAPE_RANK_MAX);
        }
        shape.dim[shape.rank++] = dim;
        if (!take(header, ',')) {
            if (!take(header, ')')) {
                return bad_header(header, "a comma or a closing parenthesis in the shape");
            }
            break;
        }
    }
    array->shape = shape;
    return STATUS_OK;
}

enum status npy_header(const char *text, size_t length, const char *place, struct npy *array, struct error *error) {
    struct header header = {.at = text, .end = text + length, .place = place, .error = error};
    bool seen[3] = {false};
    if (!take(&header, '{')) {
        return bad_header(&header, "a dict");
    }
    while (!take(&header, '}')) {
        char key[TYPE_TEXT_MAX];
        enum status status = STATUS_OK;
        if (!take_text(&header, key) || !take(&header, ':')) {
            return bad_header(&header, "a key and a colon");
        }
        size_t which = strcmp(key, "descr") == 0 ? 0 : strcmp(key, "fortran_order") == 0 ? 1 : 2;
        if (seen[which] || (which == 2 && strcmp(key, "shape") != 0)) {
            return bad_header(&header, "the keys descr, fortran_order and shape, once each");
        }
        seen[which] = true;
        status = which == 0 ? read_type(&header, array) : which == 1 ? read_order(&header) : read_shape(&header, array);
        if (status != STATUS_OK) {
            return status;
        }
        if (!take(&header, ',')) {
            if (!take(&header, '}')) {
                return bad_header(&header, "a comma or the end of the dict");
            }
            break;
        }
    }
    skip_blanks(&header);
    if (header.at != header.end || !seen[0] || !seen[1] || !seen[2]) {
        return bad_header(&header, "the keys descr, fortran_order and shape, and nothing after them");
    }
    return STATUS_OK;
}

char *npy_format_header(const struct npy *array, size_t *length) {
    static const char MAGIC[NPY_PREFIX_V1] = {(char)0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, 0, 0};
    struct buf text;
    buf_init(&text, NPY_HEADER_MAX);
    buf_append(&text, MAGIC, sizeof MAGIC);
    buf_printf(&text, "{'descr': '%s', 'fortran_order': False, 'shape': (", npy_type_text(array->type));
    for (size_t i = 0; i < array->shape.rank; i++) {
        buf_printf(&text, "%zu,%s", array->shape.dim[i], i + 1 < array->shape.rank ? " " : "");
    }
    buf_append_text(&text, "), }");
    while (!text.failed && (text.length + 1) % HEADER_ALIGN != 0) {
        buf_append_text(&text, " ");
    }
    buf_append_text(&text, "\n");
    size_t total = text.length;
    char *bytes = buf_take(&text);
    if (bytes != NULL) {
        size_t header = total - NPY_PREFIX_V1;
        bytes[8] = (char)(header & 0xff);
        bytes[9] = (char)(header >> 8);
        *length = total;
    }
    return bytes;
}

static float half_to_float(uint16_t half) {
    unsigned exponent = (half >> 10) & 0x1f, mantissa = half & 0x3ff;
    float magnitude = 0;
    if (exponent == 0x1f) {
        magnitude = mantissa != 0 ? NAN : INFINITY;
    } else if (exponent == 0) {
        magnitude = ldexpf((float)mantissa, -24); /* zero and subnormals */
    } else {
        magnitude = ldexpf((float)(mantissa + 0x400), (int)exponent - 25);
    }
    return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

int64_t npy_integer(const struct npy *array, size_t i) {
    switch (array->type) {
    case NPY_U1:
        return ((const uint8_t *)array->data)[i];
    case NPY_I4:
        return ((const int32_t *)array->data)[i];
    case NPY_I8:
        return ((const int64_t *)array->data)[i];
    default:
        return 0; /* floats are read by npy_double() */
    }
}

double npy_double(const struct npy *array, size_t i) {
    switch (array->type) {
    case NPY_F2:
        return (double)half_to_float(((const uint16_t *)array->data)[i]);
    case NPY_F4:
        return (double)((const float *)array->data)[i];
    case NPY_F8:
        return ((const double *)array->data)[i];
    default:
        return (double)npy_integer(array, i);
    }
}
