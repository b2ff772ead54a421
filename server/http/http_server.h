/* The HTTP server: libmicrohttpd driven by a libuv loop through its epoll descriptor. The only module that knows libmicrohttpd.
 *
 * Everything runs on the thread of the loop, handlers too; only http_server_post() and http_server_notify() may be called
 * from other threads. */
#ifndef ONP_SERVER_HTTP_HTTP_SERVER_H
#define ONP_SERVER_HTTP_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "common/error.h"
#include "server/http/http_route.h"

struct http_server;

struct http_config {
    const struct http_route *routes; /* borrowed */
    size_t route_count;
    void *context; /* handed to handlers and guard */
    /* May the request go on? Called after routing, before the body. STATUS_OK, or an error with *code the answer's status
     * (401 adds WWW-Authenticate: Bearer unless the guard did). NULL: everything may. */
    enum status (*guard)(struct http_request *request, const struct http_route *route, void *context, unsigned *code,
                         struct error *error);
    /* Called about once a second on the loop thread, for what must not wait for a request. NULL: nothing. */
    void (*tick)(struct http_server *server, void *context);
    uint64_t max_upload; /* bytes of a HTTP_BODY_STREAM body */
    unsigned connection_limit;
    unsigned idle_timeout_s;    /* without a byte; also the most that header fields may take */
    double slow_window_s;       /* a body must bring ... */
    uint64_t slow_window_bytes; /* ... this much in each such window, or it is closed */
};
/* The limits of the design: 1024 connections, 60 s, 30 kB in 30 s; 2 GiB uploads. routes, context and guard are left empty. */
void http_config_init(struct http_config *config);

/* `loop` must outlive the server and be run by the caller. */
enum status http_server_new(uv_loop_t *loop, const struct http_config *config, struct http_server **server,
                            struct error *error);
/* Listens on an address ("127.0.0.1", "::1", "0.0.0.0"); port 0 takes a free one. *bound is the port. */
enum status http_server_listen_tcp(struct http_server *server, const char *address, uint16_t port, uint16_t *bound,
                                   struct error *error);
/* TCP connections speak TLS 1.2 or 1.3 from then on, with this certificate chain and key (files in PEM). Before listening. */
enum status http_server_use_tls(struct http_server *server, const char *certificate, const char *key,
                                struct error *error);
/* Reads the files again, for new connections; on an error (also if there is no TLS) all stays as it was. */
enum status http_server_reload_tls(struct http_server *server, struct error *error);
/* Listens on a UNIX socket of mode 0600; a stale socket file is replaced, one that answers is STATUS_CONFLICT. */
enum status http_server_listen_unix(struct http_server *server, const char *path, struct error *error);

/* Listens no more; requests in progress go on, streams and long-polls end. */
void http_server_drain(struct http_server *server);
/* Requests in progress. */
size_t http_server_active(const struct http_server *server);
/* Ends everything: held requests are answered 503, connections closed, handles of the loop closed; `closed` (may be NULL)
 * is called from the loop afterwards, then http_server_free() may be. */
void http_server_close(struct http_server *server, void (*closed)(void *user), void *user);
/* After `closed`, or if the loop never ran. Accepts NULL. */
void http_server_free(struct http_server *server);

/* --- from any thread --- */

/* Work for the loop thread. The caller embeds this in its own struct, which must stay until `run` was called. */
struct http_post {
    struct http_post *next;
    void (*run)(struct http_post *post);
};
/* Runs post->run on the loop thread, in order. After http_server_close() it still runs, until http_server_free(). */
void http_server_post(struct http_server *server, struct http_post *post);
/* Something about `topic` (a job id) has changed: requests that wait for it are handled again. Never blocks. */
void http_server_notify(struct http_server *server, const char *topic);

/* --- numbers for /metrics --- */

enum { HTTP_LATENCY_BUCKETS = 8 };
extern const double http_latency_bounds[HTTP_LATENCY_BUCKETS - 1]; /* seconds; the last bucket is +Inf */
struct http_route_stats {
    uint64_t by_class[5]; /* answers 1xx .. 5xx */
    uint64_t latency[HTTP_LATENCY_BUCKETS];
    double seconds; /* sum */
};
/* Of row `route` of the table; route == route_count: requests that matched none. */
const struct http_route_stats *http_server_stats(const struct http_server *server, size_t route);
size_t http_server_connections(const struct http_server *server);
uint64_t http_server_received(const struct http_server *server); /* body bytes since the start */

#endif
