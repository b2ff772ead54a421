/* The slow-drip sweep. libmicrohttpd's timeout counts from the last byte, so a client that sends one byte a minute
 * keeps its connection for ever; here a body must keep up a least rate and header fields must be whole in time. Bodies that broke off
 * unnoticed are ended, too. */
#include <sys/socket.h>

#include "common/clock.h"
#include "common/log.h"
#include "server/http/http_internal.h"

/* Both directions: libmicrohttpd then meets the end of the stream and cleans up by itself. */
static void cut(int socket) {
    (void)shutdown(socket, SHUT_RDWR);
}

/* An end of the stream that came together with bytes of the body is missed by libmicrohttpd 0.9.75: its epoll is edge-triggered, and
 * after a short read it waits for an edge that will not come. The client would be taken as alive until the idle time-out, and an upload
 * that it resumes be refused until then. */
static bool body_has_broken_off(const struct http_request *request, int socket) {
    char byte;

    return (request->phase == PHASE_BODY || request->phase == PHASE_SWALLOW) &&
           recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static bool body_is_slow(struct http_request *request, double now) {
    const struct http_config *config = &request->server->config;
    bool slow;

    if (request->phase != PHASE_BODY && request->phase != PHASE_SWALLOW) {
        return false;
    }
    if (now - request->window_started < config->slow_window_s) {
        return false;
    }
    slow = request->window_bytes < config->slow_window_bytes && !request->suspended; /* else it is we who are slow */
    request->window_started = now;
    request->window_bytes = 0;
    return slow;
}

double http_watch_seconds(const struct http_server *server) {
    return clock_seconds() - server->stood_still;
}

void http_watch_tick(struct http_server *server) {
    const double now = clock_seconds(), expected = HTTP_TICK_MS / 1000.0, passed = now - server->watched;

    if (passed > 2 * expected) {
        server->stood_still += passed - expected;
    }
    server->watched = now;
}

void http_sweep(struct http_server *server) {
    double now = http_watch_seconds(server);

    for (struct http_request *request = server->requests; request != NULL; request = request->next) {
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        if (info == NULL) {
            continue;
        }
        if (body_has_broken_off(request, info->connect_fd)) {
            cut(info->connect_fd);
        } else if (body_is_slow(request, now)) {
            log_event(LOG_WARN, "http_slow_body", "request %s: less than %llu bytes in %.0f s, closing", request->id,
                      (unsigned long long)server->config.slow_window_bytes, server->config.slow_window_s);
            cut(info->connect_fd);
        }
    }
    for (struct http_connection *c = server->connections; c != NULL; c = c->next) {
        if (!c->in_request && now - c->idle_since > (double)server->config.idle_timeout_s) {
            c->idle_since = now;
            cut(c->socket);
        }
    }
}
