/* The route table: rows of {method, path, scope, body, handlers}, matched by segment. Pure. */
#ifndef ONP_SERVER_HTTP_HTTP_ROUTE_H
#define ONP_SERVER_HTTP_HTTP_ROUTE_H

#include <stddef.h>
#include <stdint.h>

struct http_request;

/* What a request may carry. */
enum http_body {
    HTTP_BODY_NONE,   /* a body is refused (413) */
    HTTP_BODY_JSON,   /* kept in memory, at most HTTP_JSON_MAX bytes; another media type is refused (415) */
    HTTP_BODY_STREAM, /* handed on in pieces as it arrives, through the sink that `begin` sets */
};
enum { HTTP_JSON_MAX = 1 << 20 };

/* What a token must allow; checked by the server's guard. */
enum http_scope { HTTP_SCOPE_OPEN, HTTP_SCOPE_READ, HTTP_SCOPE_WRITE, HTTP_SCOPE_METRICS, HTTP_SCOPE_ADMIN };

/* Called on the loop thread and must not block. `context` is the one of struct http_config. */
typedef void http_handler(struct http_request *request, void *context);

struct http_route {
    const char *method; /* "GET" rows also answer HEAD */
    const char *path;   /* "/v1/models/{id}": {name} matches one segment of [A-Za-z0-9._-], not "." or ".." */
    enum http_scope scope;
    enum http_body body;
    http_handler
        *begin; /* BODY_STREAM: before the body; sets the sink with http_request_set_sink(), or replies to refuse */
    http_handler *handle; /* after the body; replies, holds or waits */
};

enum { HTTP_PARAMS_MAX = 2, HTTP_PARAM_SIZE = 128, HTTP_ALLOW_SIZE = 64 };

struct http_match {
    const struct http_route *route; /* NULL unless found */
    size_t index;                   /* of the route in the table */
    size_t param_count;
    const char *param_names[HTTP_PARAMS_MAX]; /* into the template, not NUL-terminated */
    char params[HTTP_PARAMS_MAX][HTTP_PARAM_SIZE];
    char allow[HTTP_ALLOW_SIZE]; /* for 405: the methods of this path */
};

enum http_match_result { HTTP_MATCH_FOUND, HTTP_MATCH_NO_PATH, HTTP_MATCH_NO_METHOD };

enum http_match_result http_route_match(const struct http_route *routes, size_t count, const char *method,
                                        const char *path, struct http_match *match);
/* The value of {name}, or NULL. */
const char *http_match_param(const struct http_match *match, const char *name);

#endif
