/* One request as its handler sees it: what was asked, and the ways to answer. Loop thread only.
 *
 * A handler ends in one of three ways: it replies (http_reply_*), it waits (http_request_wait(), and is called again), or it
 * holds the request (http_request_hold()) until another thread has done the work. One reply a request: the first counts. */
#ifndef ONP_SERVER_HTTP_HTTP_REQUEST_H
#define ONP_SERVER_HTTP_HTTP_REQUEST_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/digest.h"
#include "common/error.h"
#include "server/http/http_server.h"

/* --- what was asked; strings live as long as the request --- */

const char *http_request_path(const struct http_request *request);
/* A {name} of the route's path; NULL if the route has none of this name. */
const char *http_request_param(const struct http_request *request, const char *name);
/* A query parameter, decoded; NULL if absent. */
const char *http_request_query(const struct http_request *request, const char *name);
/* Query parameter `index` in the order of the request; false past the last. */
bool http_request_query_item(const struct http_request *request, size_t index, const char **name, const char **value);
/* STATUS_INVALID naming the first query parameter that is not in `known` (ends with NULL). */
enum status http_request_check_query(const struct http_request *request, const char *const *known, struct error *error);
/* A header field, NULL if absent. */
const char *http_request_header(const struct http_request *request, const char *name);
/* The body of a HTTP_BODY_JSON route, parsed; *json is a new reference. STATUS_INVALID (answer 400) if it is not JSON. */
enum status http_request_json(const struct http_request *request, json_t **json, struct error *error);
/* The body of a HTTP_BODY_JSON route as it came. */
const char *http_request_body(const struct http_request *request, size_t *length);
/* "GET"; as X-HTTP-Method-Override says where that is taken. */
const char *http_request_method(const struct http_request *request);
struct http_server *http_request_server(const struct http_request *request);
/* Where it comes from. */
enum http_peer { HTTP_PEER_UNIX, HTTP_PEER_LOOPBACK, HTTP_PEER_REMOTE };
enum http_peer http_request_peer(const struct http_request *request);
/* The peer's address without its port, "unix" for a socket file. */
enum { HTTP_ADDRESS_SIZE = 48, HTTP_ETAG_SIZE = DIGEST_HEX_SIZE + 2 };
void http_request_address(const struct http_request *request, char out[HTTP_ADDRESS_SIZE]);
/* Who asks, for limits that each client has of its own: set by the guard, "" before. At most ID_SIZE - 1 bytes are kept. */
void http_request_set_subject(struct http_request *request, const char *subject);
const char *http_request_subject(const struct http_request *request);

/* --- a body in pieces (HTTP_BODY_STREAM) --- */

struct http_sink {
    void *user;
    /* The next piece. After an error no more come, and the error is the answer. */
    enum status (*write)(void *user, const void *data, size_t length, struct error *error);
    /* NULL: it takes all that comes. Else asked before each piece: NULL, or the topic whose notify says that there is room again; the
     * connection sleeps until then. */
    const char *(*full)(void *user);
    /* Called once, when the sink is no longer needed: the body broke off, or the request is over. May be NULL. */
    void (*close)(void *user);
};
/* For `begin` handlers. The request owns sink->user from now on, until http_request_take_sink(). */
void http_request_set_sink(struct http_request *request, const struct http_sink *sink);
/* The sink's user, which is the caller's from now on; `close` will not be called. NULL if there is none. */
void *http_request_take_sink(struct http_request *request);

/* --- later answers --- */

/* A claim on a request that survives its end. */
struct http_hold;
/* Keeps the request until http_hold_release(). NULL without memory. */
struct http_hold *http_request_hold(struct http_request *request);
/* Loop thread. The request, to reply to now, or NULL if it was ended meanwhile. Frees the hold. */
struct http_request *http_hold_release(struct http_hold *hold);

/* The request sleeps until http_server_notify(topic), the end of `seconds` from its first wait, or the drain, then its handler is
 * called again. False, and nothing happens, when that time is over: reply now. */
bool http_request_wait(struct http_request *request, const char *topic, double seconds);

/* --- answers --- */

/* A further header field of the answer, before replying. Values with control bytes are dropped. */
void http_reply_header(struct http_request *request, const char *name, const char *value);
/* Whether a change may be made to a resource whose document is `json` now: true without If-Match, or if that names its ETag; else
 * replies 412. Takes the reference; NULL is answered as no memory. */
bool http_request_if_match(struct http_request *request, json_t *json);
/* JSON with a strong ETag; a 200 to a GET becomes 304 if If-None-Match names it, and 412 if If-Match does not. Takes the reference to `json`; NULL is
 * answered as no memory. */
void http_reply_json(struct http_request *request, unsigned code, json_t *json);
/* A document that was made before: its text and ETag. */
struct http_document {
    char *text; /* with a final newline */
    size_t length;
    char etag[HTTP_ETAG_SIZE];
};
/* Takes the reference; false without memory. */
bool http_document_make(struct http_document *document, json_t *json);
void http_document_deinit(struct http_document *document);
/* As http_reply_json_or_wait(), from a document that is borrowed for the call. */
void http_reply_document_or_wait(struct http_request *request, const struct http_document *document, const char *topic,
                                 double seconds);
/* As http_reply_json() with 200, but while If-None-Match names the present state it waits (http_request_wait()). */
void http_reply_json_or_wait(struct http_request *request, json_t *json, const char *topic, double seconds);
/* Copies text of another type; 200, ETag as above. */
void http_reply_text(struct http_request *request, const char *content_type, const char *text, size_t length);
void http_reply_empty(struct http_request *request, unsigned code);
/* The file's bytes by sendfile, with Range. sha256 becomes the ETag; `download_name` the name in Content-Disposition. */
void http_reply_file(struct http_request *request, const char *path, const char *content_type, const char *sha256,
                     const char *download_name);
/* problem+json with the code that fits error->status; 429 and 503 get Retry-After unless the caller added one. Logs what the answer does not show. */
void http_reply_error(struct http_request *request, const struct error *error);
/* The same with a code of the caller's choice. */
void http_reply_problem(struct http_request *request, unsigned code, const struct error *error);

/* --- streams --- */

enum http_pull { HTTP_PULL_MORE, HTTP_PULL_WAIT, HTTP_PULL_END };
struct http_stream {
    void *user;
    /* Appends the next bytes to `out`. MORE: bytes were appended. WAIT: nothing now; called again after a notify of the topic, or
     * with idle true after `idle_s` seconds (append a heartbeat). END: after these bytes the stream is over. `draining` asks for an end. */
    enum http_pull (*pull)(void *user, struct buf *out, bool idle, bool draining);
    void (*close)(void *user);
    const char *topic; /* copied */
    double idle_s;
};
/* 200 with a body of unknown length. The request owns stream->user from now on, whatever happens. */
void http_reply_stream(struct http_request *request, const char *content_type, const struct http_stream *stream);

#endif
