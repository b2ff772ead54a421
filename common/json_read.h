/* Readers over jansson objects that name the place of what is wrong as a JSON pointer (RFC 6901) and
 * refuse unknown keys. A reader is created over one object, asked for each member, and finished: finishing
 * reports any member that nobody asked for. The first error wins. */
#ifndef ONP_COMMON_JSON_READ_H
#define ONP_COMMON_JSON_READ_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

enum { JSON_READ_MEMBERS_MAX = 64 };

struct json_reader {
    const json_t *object; /* borrowed */
    char pointer[128];    /* JSON pointer of `object`, "" for the document itself */
    struct error *error;  /* borrowed */
    const char *asked[JSON_READ_MEMBERS_MAX];
    size_t asked_count;
    enum status status; /* of the first error that this reader met */
};

/* Parses `length` bytes with duplicates rejected and a depth limit; error->where is "line L column C". */
enum status json_read_text(const char *text, size_t length, json_t **out, struct error *error);

/* Starts reading `value`, which must be an object (error otherwise). Names passed to the getters below must
 * outlive the reader (string literals). */
enum status json_reader_init(struct json_reader *reader, const json_t *value, const char *pointer, struct error *error);
/* STATUS_INVALID naming the first member nobody asked for; else the first error met so far, else OK. */
enum status json_reader_finish(struct json_reader *reader);

/* Each getter: an absent optional member leaves *out as it is (its default). A wrong type or range is an
 * error with pointer, what was got and what was expected. Strings are borrowed from the object. */
enum json_need { JSON_OPTIONAL, JSON_REQUIRED };
enum status json_get_string(struct json_reader *r, const char *name, enum json_need need, size_t max_length,
                            const char **out);
enum status json_get_u64(struct json_reader *r, const char *name, enum json_need need, uint64_t min, uint64_t max,
                         uint64_t *out);
enum status json_get_i64(struct json_reader *r, const char *name, enum json_need need, int64_t min, int64_t max,
                         int64_t *out);
enum status json_get_double(struct json_reader *r, const char *name, enum json_need need, double min, double max,
                            double *out);
enum status json_get_bool(struct json_reader *r, const char *name, enum json_need need, bool *out);
enum status json_get_object(struct json_reader *r, const char *name, enum json_need need, json_t **out);
enum status json_get_array(struct json_reader *r, const char *name, enum json_need need, json_t **out);

/* Writes a finite number, or null for NaN and infinity (json_pack would give NULL for the whole object).
 * `json_real_or_null(x)` is a new reference. */
json_t *json_real_or_null(double value);

#endif
