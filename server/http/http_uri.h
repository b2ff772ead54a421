/* The request target: path and query, percent-decoded with checks. Pure; the raw text is what came on the wire, because
 * libmicrohttpd decodes in place and would turn "%2F" into a separator and cut at "%00". */
#ifndef ONP_SERVER_HTTP_HTTP_URI_H
#define ONP_SERVER_HTTP_HTTP_URI_H

#include <stddef.h>

#include "common/error.h"

enum { HTTP_PATH_SIZE = 512, HTTP_QUERY_SIZE = 2048, HTTP_QUERY_ITEMS_MAX = 24 };

struct http_query_item {
    const char *name, *value; /* decoded, into `store` of the same struct; value "" if there was no '=' */
};

/* Holds pointers into itself: do not copy. */
struct http_uri {
    char path[HTTP_PATH_SIZE]; /* decoded, starts with '/' */
    struct http_query_item query[HTTP_QUERY_ITEMS_MAX];
    size_t query_count;
    char store[HTTP_QUERY_SIZE];
};

/* Parses origin form ("/a?b=c") or absolute form ("http://host/a"). STATUS_INVALID for malformed escapes, control bytes or an
 * escaped '/'; STATUS_LIMIT for too long a path or query. */
enum status http_uri_parse(const char *raw, struct http_uri *out, struct error *error);
/* The first value of a query parameter, or NULL. */
const char *http_uri_query(const struct http_uri *uri, const char *name);

#endif
