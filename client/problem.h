/* Answers of the server that are not successes: application/problem+json (RFC 9457) to a struct error. */
#ifndef ONP_CLIENT_PROBLEM_H
#define ONP_CLIENT_PROBLEM_H

#include <jansson.h>

#include "common/error.h"

/* The status that an HTTP status code stands for. */
enum status problem_status(long code);
/* Records the problem: `where` is the pointer of its first error (or `what`, the request), the message is its detail
 * followed by the other errors with their pointers. `body` may be NULL or anything: the code alone is reported then.
 * Returns the status. */
enum status problem_to_error(long code, const json_t *body, const char *what, struct error *error);

#endif
