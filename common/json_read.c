/* Strict readers over jansson objects: every complaint has a JSON pointer, says what was got and what was expected, and
 * a member that nobody asked for is an error, because a misspelt parameter that is ignored is a wrong result later. */
#include "common/json_read.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DEPTH_MAX = 64, POINTER_MAX = ERROR_WHERE_MAX, GOT_MAX = 64 };

/* jansson recurses once a level, up to 2048; the depth is counted before it is believed. */
static bool depth_is_fine(const char *text, size_t length, size_t *line, size_t *column) {
    size_t depth = 0;
    bool in_string = false;
    *line = 1;
    *column = 0;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        *column += 1;
        if (c == '\n') {
            *line += 1;
            *column = 0;
        }
        if (in_string) {
            if (c == '\\') {
                i++;
                *column += 1;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > DEPTH_MAX) {
                return false;
            }
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return true;
}

enum status json_read_text(const char *text, size_t length, json_t **out, struct error *error) {
    char where[64];
    size_t line = 0;
    size_t column = 0;
    if (!depth_is_fine(text, length, &line, &column)) {
        (void)snprintf(where, sizeof where, "line %zu column %zu", line, column);
        return error_set(error, STATUS_LIMIT, where, "failed to parse JSON: got more than %d levels, expected fewer",
                         DEPTH_MAX);
    }
    json_error_t cause;
    json_t *value = json_loadb(text, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &cause);
    if (value == NULL) {
        (void)snprintf(where, sizeof where, "line %d column %d", cause.line, cause.column);
        if (json_error_code(&cause) == json_error_out_of_memory) {
            return error_no_memory(error, "a JSON document");
        }
        return error_set(error, STATUS_INVALID, where, "failed to parse JSON: %s", cause.text);
    }
    *out = value;
    return STATUS_OK;
}

/* Appends "/name" with '~' and '/' escaped (RFC 6901); what does not fit is cut off. */
static void pointer_to(const struct json_reader *reader, const char *name, char out[POINTER_MAX]) {
    int head = snprintf(out, POINTER_MAX, "%s/", reader->pointer);
    size_t at = head < 0 ? 0 : (size_t)head;
    for (; *name != '\0' && at + 3 < POINTER_MAX; name++) {
        if (*name == '~' || *name == '/') {
            out[at++] = '~';
            out[at++] = *name == '~' ? '0' : '1';
        } else {
            out[at++] = *name;
        }
    }
    out[at] = '\0';
}

/* What a message says it got: the value of a short scalar, else the type. */
static void describe(const json_t *value, char out[GOT_MAX]) {
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        (void)snprintf(out, GOT_MAX, "an object");
        break;
    case JSON_ARRAY:
        (void)snprintf(out, GOT_MAX, "an array");
        break;
    case JSON_STRING:
        (void)snprintf(out, GOT_MAX, "the string \"%.32s\"", json_string_value(value));
        break;
    case JSON_INTEGER:
        (void)snprintf(out, GOT_MAX, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
        break;
    case JSON_REAL:
        (void)snprintf(out, GOT_MAX, "%.9g", json_real_value(value));
        break;
    case JSON_TRUE:
        (void)snprintf(out, GOT_MAX, "true");
        break;
    case JSON_FALSE:
        (void)snprintf(out, GOT_MAX, "false");
        break;
    case JSON_NULL:
        (void)snprintf(out, GOT_MAX, "null");
        break;
    }
}

static enum status fail(struct json_reader *reader, enum status status) {
    if (reader->status == STATUS_OK) {
        reader->status = status;
    }
    return status;
}

static enum status wrong(struct json_reader *reader, const char *name, const json_t *value, const char *expected) {
    char where[POINTER_MAX];
    char got[GOT_MAX];
    pointer_to(reader, name, where);
    describe(value, got);
    return fail(reader, error_set(reader->error, STATUS_INVALID, where, "failed to read member %s: got %s, expected %s",
                                  name, got, expected));
}

enum status json_reader_init(struct json_reader *reader, const json_t *value, const char *pointer,
                             struct error *error) {
    *reader = (struct json_reader){.object = value, .error = error};
    (void)snprintf(reader->pointer, sizeof reader->pointer, "%s", pointer);
    if (json_is_object(value)) {
        return STATUS_OK;
    }
    char got[GOT_MAX] = "nothing";
    if (value != NULL) {
        describe(value, got);
    }
    reader->object = NULL;
    return fail(reader, error_set(error, STATUS_INVALID, pointer, "failed to read %s: got %s, expected an object",
                                  pointer[0] == '\0' ? "the document" : pointer, got));
}

static bool was_asked(const struct json_reader *reader, const char *name) {
    for (size_t i = 0; i < reader->asked_count; i++) {
        if (strcmp(reader->asked[i], name) == 0) {
            return true;
        }
    }
    return false;
}

enum status json_reader_finish(struct json_reader *reader) {
    if (reader->status != STATUS_OK) {
        return reader->status;
    }
    /* The iterator API takes a mutable object although it changes nothing. */
    json_t *object = (json_t *)(uintptr_t)reader->object;
    for (void *at = json_object_iter(object); at != NULL; at = json_object_iter_next(object, at)) {
        const char *name = json_object_iter_key(at);
        if (!was_asked(reader, name)) {
            char where[POINTER_MAX];
            pointer_to(reader, name, where);
            return fail(reader, error_set(reader->error, STATUS_INVALID, where,
                                          "failed to read %s: got unknown member \"%.64s\", expected only known ones",
                                          reader->pointer[0] == '\0' ? "the document" : reader->pointer, name));
        }
    }
    if (reader->error != NULL && reader->error->status != STATUS_OK) {
        return reader->error->status; /* met by a reader of a nested object that shares the record */
    }
    return STATUS_OK;
}

/* Notes that `name` is known and gives its value; NULL with *status OK if it is optional and absent. */
static json_t *ask(struct json_reader *reader, const char *name, enum json_need need, const char *expected,
                   enum status *status) {
    *status = STATUS_OK;
    if (reader->object == NULL) {
        *status = reader->status; /* already reported by json_reader_init() */
        return NULL;
    }
    if (!was_asked(reader, name)) {
        if (reader->asked_count == JSON_READ_MEMBERS_MAX) {
            *status = fail(reader, error_set(reader->error, STATUS_INTERNAL, reader->pointer,
                                             "failed to read member %s: got more than %d members, expected fewer", name,
                                             JSON_READ_MEMBERS_MAX));
            return NULL;
        }
        reader->asked[reader->asked_count++] = name;
    }
    json_t *value = json_object_get(reader->object, name);
    if (value == NULL && need == JSON_REQUIRED) {
        char where[POINTER_MAX];
        pointer_to(reader, name, where);
        *status = fail(reader, error_set(reader->error, STATUS_INVALID, where,
                                         "failed to read member %s: got nothing, expected %s", name, expected));
    }
    return value;
}

enum status json_get_string(struct json_reader *r, const char *name, enum json_need need, size_t max_length,
                            const char **out) {
    char expected[64];
    enum status status = STATUS_OK;
    (void)snprintf(expected, sizeof expected, "a string of at most %zu bytes", max_length);
    const json_t *value = ask(r, name, need, expected, &status);
    if (value == NULL) {
        return status;
    }
    if (!json_is_string(value) || json_string_length(value) > max_length) {
        return wrong(r, name, value, expected);
    }
    *out = json_string_value(value);
    return STATUS_OK;
}

enum status json_get_u64(struct json_reader *r, const char *name, enum json_need need, uint64_t min, uint64_t max,
                         uint64_t *out) {
    char expected[96];
    enum status status = STATUS_OK;
    (void)snprintf(expected, sizeof expected, "an integer from %llu to %llu", (unsigned long long)min,
                   (unsigned long long)max);
    const json_t *value = ask(r, name, need, expected, &status);
    if (value == NULL) {
        return status;
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return wrong(r, name, value, expected);
    }
    uint64_t number = (uint64_t)json_integer_value(value);
    if (number < min || number > max) {
        return wrong(r, name, value, expected);
    }
    *out = number;
    return STATUS_OK;
}

enum status json_get_i64(struct json_reader *r, const char *name, enum json_need need, int64_t min, int64_t max,
                         int64_t *out) {
    char expected[96];
    enum status status = STATUS_OK;
    (void)snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)min, (long long)max);
    const json_t *value = ask(r, name, need, expected, &status);
    if (value == NULL) {
        return status;
    }
    int64_t number = json_is_integer(value) ? json_integer_value(value) : 0;
    if (!json_is_integer(value) || number < min || number > max) {
        return wrong(r, name, value, expected);
    }
    *out = number;
    return STATUS_OK;
}

enum status json_get_double(struct json_reader *r, const char *name, enum json_need need, double min, double max,
                            double *out) {
    char expected[96];
    enum status status = STATUS_OK;
    (void)snprintf(expected, sizeof expected, "a number from %.9g to %.9g", min, max);
    const json_t *value = ask(r, name, need, expected, &status);
    if (value == NULL) {
        return status;
    }
    double number = json_number_value(value);
    if (!json_is_number(value) || !isfinite(number) || number < min || number > max) {
        return wrong(r, name, value, expected);
    }
    *out = number;
    return STATUS_OK;
}

enum status json_get_bool(struct json_reader *r, const char *name, enum json_need need, bool *out) {
    enum status status = STATUS_OK;
    const json_t *value = ask(r, name, need, "true or false", &status);
    if (value == NULL) {
        return status;
    }
    if (!json_is_boolean(value)) {
        return wrong(r, name, value, "true or false");
    }
    *out = json_is_true(value);
    return STATUS_OK;
}

enum status json_get_object(struct json_reader *r, const char *name, enum json_need need, json_t **out) {
    enum status status = STATUS_OK;
    json_t *value = ask(r, name, need, "an object", &status);
    if (value == NULL) {
        return status;
    }
    if (!json_is_object(value)) {
        return wrong(r, name, value, "an object");
    }
    *out = value;
    return STATUS_OK;
}

enum status json_get_array(struct json_reader *r, const char *name, enum json_need need, json_t **out) {
    enum status status = STATUS_OK;
    json_t *value = ask(r, name, need, "an array", &status);
    if (value == NULL) {
        return status;
    }
    if (!json_is_array(value)) {
        return wrong(r, name, value, "an array");
    }
    *out = value;
    return STATUS_OK;
}

json_t *json_real_or_null(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}
