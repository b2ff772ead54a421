/* Errors as answers: struct error to a status code and a problem+json document (RFC 9457). Pure. */
#ifndef ONP_SERVER_HTTP_HTTP_PROBLEM_H
#define ONP_SERVER_HTTP_HTTP_PROBLEM_H

#include <jansson.h>
#include <stddef.h>

#include "common/error.h"

/* The HTTP status code for an error that came from content: INVALID and UNSUPPORTED 422, LIMIT 413, NOT_FOUND 404, CONFLICT 409,
 * UNAVAILABLE, NO_MEMORY and CANCELLED 503, the rest 500. */
unsigned http_problem_code(enum status status);

/* {"type", "title", "status", "detail", "instance", "errors": [{"pointer", "code", "detail", "place"?}]}, a new reference, or NULL without
 * memory. `errors` is there for 400, 413, 415 and 422 when the error has a place: a place that starts with '/' is the pointer; any other
 * ("node 'conv1'", "byte 12") stands in `place` with pointer "". For 500 and up the message is not shown (it may name files of ours). */
json_t *http_problem_make(unsigned code, const struct error *error, const char *instance);

/* The kinds of problems there are, for their pages and the interface's description. */
struct http_problem_kind {
    unsigned code;
    const char *type; /* "/problems/not-found" */
    const char *title;
    const char *meaning; /* a sentence or two for people */
};
/* Row `index`, or NULL past the last. */
const struct http_problem_kind *http_problem_kind(size_t index);

/* "Not Found" for 404; "Error" for a code we never send. */
const char *http_problem_title(unsigned code);

#endif
