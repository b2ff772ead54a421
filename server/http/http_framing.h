/* Checks of a request's framing that libmicrohttpd leaves to its user, against request smuggling (RFC 9112, sections 5 and 6). */
#ifndef ONP_SERVER_HTTP_HTTP_FRAMING_H
#define ONP_SERVER_HTTP_HTTP_FRAMING_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

enum { HTTP_FIELDS_MAX = 64, HTTP_FIELD_BYTES_MAX = 32768 };

/* One header field as the parser cut it out of its receive buffer: both texts end with a NUL that was written over the
 * byte that followed them. In order of arrival. */
struct http_field {
    const char *name, *value;
    size_t name_length, value_length;
};

/* STATUS_INVALID for: both Content-Length and Transfer-Encoding, either or Host repeated, no Host in HTTP/1.1, a transfer coding
 * other than "chunked", names that are not tokens, control bytes, folded lines, NUL bytes. STATUS_LIMIT for too many fields or bytes.
 * The last two are seen from where the fields lie: a value starts right after its name, and the next name right
 * after the value's line end, unless the parser met a fold or stopped at a NUL. */
enum status http_framing_check(const struct http_field *fields, size_t count, bool http_1_1, struct error *error);

#endif
