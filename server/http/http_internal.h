/* What the files of this module share. Nobody outside includes it: it is the one header with libmicrohttpd in it. */
#ifndef ONP_SERVER_HTTP_HTTP_INTERNAL_H
#define ONP_SERVER_HTTP_HTTP_INTERNAL_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "common/buf.h"
#include "common/id.h"
#include "common/log.h"
#include "server/http/http_request.h"
#include "server/http/http_route.h"
#include "server/http/http_server.h"
#include "server/http/http_tls.h"
#include "server/http/http_uri.h"

enum {
    HTTP_LISTENERS_MAX = 2,
    HTTP_REQUEST_ID_SIZE = 65,
    HTTP_TOPICS_MAX = 64,
    HTTP_EXTRA_HEADERS_MAX = 12,
    HTTP_HEADER_VALUE_SIZE = 320,
    HTTP_SWALLOW_SMALL = 1 << 20, /* a refused body up to this is read first, so that the client sees the answer */
    HTTP_SWALLOW_MAX = 64 << 20,  /* a body refused half-way is read this far before the connection is cut */
    HTTP_CONNECTION_MEMORY =
        48 << 10, /* holds HTTP_FIELD_BYTES_MAX; is cleared for each request, so not more; half is a piece of a body */
    HTTP_TICK_MS = 250,
#ifdef __SANITIZE_ADDRESS__
    HTTP_SPARES_MAX = 0, /* the sanitizer is to see each request's end */
#else
    HTTP_SPARES_MAX = 64,
#endif
};

/* Where a request stands. */
enum http_phase {
    PHASE_HEADERS, /* before the first call of the handler */
    PHASE_BODY,
    PHASE_SWALLOW, /* refused; the rest of the body is read and dropped */
    PHASE_HANDLE,  /* the body is there; the handler has not replied yet */
    PHASE_REPLIED,
};

struct http_extra_header {
    const char *name; /* literal */
    char value[HTTP_HEADER_VALUE_SIZE];
};

struct http_listener {
    struct http_server *server;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t timer;
    int socket;
    bool polled, timed; /* the handles were initialised */
    char unix_path[108];
};

struct http_connection {
    const struct http_server *server;
    struct http_connection *previous, *next;
    int socket;
    bool in_request;
    bool linger;       /* its answer was sent before its request had come whole */
    double idle_since; /* start, or end of the last request */
};

struct http_request {
    struct http_request *previous, *next; /* all requests of the server */
    struct http_server *server;
    struct http_listener *listener;
    struct MHD_Connection *connection;
    enum http_phase phase;

    const char *raw_target; /* in the receive buffer; only compared, never read after the first call */
    size_t raw_target_length;
    enum status uri_status;
    char id[HTTP_REQUEST_ID_SIZE];
    char subject[ID_SIZE]; /* who asks, by the guard; "": nobody in particular */
    char method[16];
    bool has_body, close_after;
    uint64_t announced; /* Content-Length; UINT64_MAX if chunked */

    struct buf body; /* HTTP_BODY_JSON */
    struct http_sink sink;
    bool has_sink;
    uint64_t received, limit;

    double started, window_started;
    uint64_t window_bytes;

    bool wants_suspend, suspended; /* asked for by a wait or hold; done */
    bool waited;                   /* wait_until is set */
    double wait_until;
    double wake_at; /* 0: never */
    bool timed_out; /* woken by wake_at */
    char topic[ID_SIZE];
    struct http_hold *hold;

    size_t extra_count;
    struct MHD_Response *response;
    unsigned code;
    uint64_t reply_bytes;
    bool failed; /* no memory even for an answer: cut the connection */

    /* Too large to be cleared for each request; what is above says how much of it is valid. */
    struct http_match match; /* `route` and `index` always are */
    struct http_extra_header extra[HTTP_EXTRA_HEADERS_MAX];
    struct error uri_error;
    struct http_uri uri;
};

struct http_server {
    uv_loop_t *loop;
    struct http_config config;
    struct http_listener listeners[HTTP_LISTENERS_MAX];
    size_t listener_count;
    uv_async_t async;
    uv_timer_t tick;
    struct http_request *requests;
    struct http_request *spares; /* ended requests, whose memory the next ones take; linked by `next` */
    size_t spare_count;
    struct log_lines lines; /* of requests, written when libmicrohttpd has had its turn */
    struct http_connection *connections;
    struct http_linger *lingers;
    size_t linger_count;
    size_t active, connection_count;
    uint64_t received;
    struct http_route_stats *stats; /* (route_count + 1) */
    struct http_tls *tls;           /* of TCP listeners; NULL: none */
    bool draining, closing;
    size_t open_handles;
    double ticked; /* when config.tick was called last */
    double watched,
        stood_still; /* when the tick was last here, and for how long the loop was not, in all; see http_watch_seconds() */
    void (*closed)(void *user);
    void *closed_user;

    pthread_mutex_t lock; /* guards all below */
    bool async_usable;
    struct http_post *posts, *last_post;
    char topics[HTTP_TOPICS_MAX][ID_SIZE];
    size_t topic_count;
    bool all_topics; /* more topics than fit: wake everybody */
};

/* http_connection.c: the callbacks of libmicrohttpd. */
void *http_on_target(void *user, const char *target, struct MHD_Connection *connection);
enum MHD_Result http_on_request(void *listener, struct MHD_Connection *connection, const char *url, const char *method,
                                const char *version, const char *data, size_t *size, void **state);
void http_on_completed(void *user, struct MHD_Connection *connection, void **state,
                       enum MHD_RequestTerminationCode code);
void http_on_connection(void *user, struct MHD_Connection *connection, void **state,
                        enum MHD_ConnectionNotificationCode code);

/* http_admit.c: everything that is checked before the body. True: it may go on. False: a reply is set. */
bool http_admit(struct http_request *request, const char *method, const char *version);

/* http_reply.c: replies with a response made elsewhere (taken; NULL: no memory). */
void http_reply_response(struct http_request *request, unsigned code, struct MHD_Response *response, const char *type);

/* http_wait.c */
void http_wake(struct http_request *request);
/* Wakes those whose time has come, or (all) everybody. */
void http_wake_due(struct http_server *server, bool all);
void http_wake_topic(struct http_server *server, const char *topic);
/* The request ends; whoever holds it will learn that from http_hold_release(). */
void http_hold_orphan(struct http_request *request);

/* http_sweep.c: cuts connections whose body or header fields come too slowly. */
void http_sweep(struct http_server *server);
/* The time by which clients are measured, in seconds. It leaves out what the loop stood still, as on a machine that was suspended:
 * nobody is cut off for bytes that lay there unread. */
double http_watch_seconds(const struct http_server *server);
/* At each tick, before the sweeps. */
void http_watch_tick(struct http_server *server);

/* http_linger.c: reads on for a moment from a connection that is being closed, over a copy of its socket. */
void http_linger_start(struct http_server *server, int socket);
/* Ends those whose time is over, or all. */
void http_linger_sweep(struct http_server *server, bool all);

/* http_listen.c */
enum status http_listener_start(struct http_server *server, int socket, const char *unix_path, struct error *error);
void http_listener_quiesce(struct http_listener *listener);
/* Lets libmicrohttpd work soon (not at once: the caller may be inside of it). */
void http_listener_kick(struct http_listener *listener);
void http_listener_stop(struct http_listener *listener);
/* http_server.c: one handle of the loop is gone. */
void http_handle_closed(struct http_server *server);

#endif
