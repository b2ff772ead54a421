/* The callbacks of libmicrohttpd, and the life of a request: target seen, admitted, body read, handled, replied, done. */
#include <stddef.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "common/text.h"
#include "server/http/http_internal.h"

void http_on_connection(void *user, struct MHD_Connection *connection, void **state,
                        enum MHD_ConnectionNotificationCode code) {
    struct http_listener *listener = user;
    struct http_server *server = listener->server;
    struct http_connection *c = *state;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        c = mem_calloc(1, sizeof(*c));
        if (c == NULL || info == NULL) {
            mem_free(c);
            return; /* served, only not watched by the sweep */
        }
        c->server = server;
        c->socket = info->connect_fd;
        c->idle_since = http_watch_seconds(server);
        c->next = server->connections;
        if (c->next != NULL) {
            c->next->previous = c;
        }
        server->connections = c;
        server->connection_count++;
        *state = c;
    } else if (c != NULL) {
        if (c->linger) {
            http_linger_start(server, c->socket);
        }
        if (c->previous != NULL) {
            c->previous->next = c->next;
        } else {
            server->connections = c->next;
        }
        if (c->next != NULL) {
            c->next->previous = c->previous;
        }
        server->connection_count--;
        mem_free(c);
        *state = NULL;
    }
}

/* NULL for a connection that there was no memory to watch. */
static struct http_connection *connection_of(struct MHD_Connection *connection) {
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info == NULL ? NULL : info->socket_context;
}

static void mark_connection(struct MHD_Connection *connection, bool in_request) {
    struct http_connection *c = connection_of(connection);

    if (c != NULL) {
        c->in_request = in_request;
        c->idle_since = http_watch_seconds(c->server);
    }
}

/* The connection will be closed with bytes of the client still on their way. */
static void mark_linger(struct MHD_Connection *connection) {
    struct http_connection *c = connection_of(connection);

    if (c != NULL) {
        c->linger = true;
    }
}

/* Memory for a request, with all but its large parts cleared. */
static struct http_request *take_spare(struct http_server *server) {
    struct http_request *request = server->spares;

    if (request == NULL) {
        request = mem_alloc(1, sizeof(*request));
    } else {
        server->spares = request->next;
        server->spare_count--;
    }
    if (request != NULL) {
        memset(request, 0, offsetof(struct http_request, match));
        request->match.route = NULL;
        request->match.index = server->config.route_count;
        error_clear(&request->uri_error);
    }
    return request;
}

static void give_back(struct http_server *server, struct http_request *request) {
    if (server->spare_count == HTTP_SPARES_MAX) {
        mem_free(request);
        return;
    }
    request->next = server->spares;
    server->spares = request;
    server->spare_count++;
}

void *http_on_target(void *user, const char *target, struct MHD_Connection *connection) {
    struct http_listener *listener = user;
    struct http_server *server = listener->server;
    struct http_request *request = take_spare(server);

    if (request == NULL) {
        return NULL;
    }
    request->server = server;
    request->listener = listener;
    request->connection = connection;
    request->raw_target = target;
    request->raw_target_length = strlen(target);
    request->uri_status = http_uri_parse(target, &request->uri, &request->uri_error);
    request->started = clock_seconds();
    buf_init(&request->body, HTTP_JSON_MAX);
    request->next = server->requests;
    if (request->next != NULL) {
        request->next->previous = request;
    }
    server->requests = request;
    server->active++;
    return request;
}

static void refuse_body(struct http_request *request, unsigned code, const struct error *error) {
    http_reply_problem(request, code, error);
    request->phase = PHASE_SWALLOW;
}

static void take_body(struct http_request *request, const char *data, size_t size) {
    struct error error = {0};
    enum status status;

    request->received += size;
    request->window_bytes += size;
    request->server->received += size;
    if (request->received > request->limit) {
        error_set(&error, STATUS_LIMIT, NULL, "failed to take the body: got more than %llu bytes",
                  (unsigned long long)request->limit);
        refuse_body(request, 413, &error);
    } else if (request->has_sink) {
        status = request->sink.write(request->sink.user, data, size, &error);
        if (status != STATUS_OK) {
            refuse_body(request, 0, &error);
        }
    } else if (!buf_append(&request->body, data, size)) {
        error_no_memory(&error, "the request body");
        refuse_body(request, 0, &error);
    }
}

/* True: the sink has no room now; the same bytes come again when it says that it has. */
static bool body_must_wait(struct http_request *request) {
    const char *topic = request->has_sink && request->sink.full != NULL ? request->sink.full(request->sink.user) : NULL;

    if (topic == NULL || request->server->closing || strlen(topic) >= sizeof(request->topic)) {
        return false;
    }
    memcpy(request->topic, topic, strlen(topic) + 1);
    request->wake_at = 0;
    request->suspended = true;
    MHD_suspend_connection(request->connection);
    return true;
}

/* Drops body bytes of a refused request; false when it is too much and the connection is better cut. */
static bool swallow_body(struct http_request *request, size_t size) {
    request->received += size;
    request->window_bytes += size;
    request->server->received += size;
    return request->received <= request->limit + HTTP_SWALLOW_MAX;
}

static enum MHD_Result queue_reply(struct http_request *request) {
    enum MHD_Result queued;

    if (request->failed || request->response == NULL) {
        return MHD_NO;
    }
    request->phase = PHASE_REPLIED;
    queued = MHD_queue_response(request->connection, request->code, request->response);
    MHD_destroy_response(request->response); /* libmicrohttpd keeps its own reference */
    request->response = NULL;
    return queued;
}

static enum MHD_Result first_call(struct http_request *request, const char *method, const char *version) {
    mark_connection(request->connection, true);
    request->window_started = http_watch_seconds(request->server);
    if (http_admit(request, method, version)) {
        request->phase = request->has_body ? PHASE_BODY : PHASE_HANDLE;
        return MHD_YES;
    }
    if (request->close_after) {
        mark_linger(request->connection);
        return queue_reply(request);
    }
    request->limit = 0;
    request->phase = request->has_body ? PHASE_SWALLOW : PHASE_HANDLE;
    return MHD_YES;
}

/* The body is whole, or the request was woken: handle it, then reply or sleep. */
static enum MHD_Result handle(struct http_request *request) {
    static const struct error silent = {STATUS_INTERNAL, "", "failed to answer: the handler gave no reply"};

    request->phase = PHASE_HANDLE;
    if (request->response == NULL && !request->failed) {
        request->wants_suspend = false;
        request->match.route->handle(request, request->server->config.context);
        if (request->response == NULL && request->wants_suspend) {
            request->suspended = true;
            MHD_suspend_connection(request->connection);
            return MHD_YES;
        }
    }
    if (request->response == NULL && !request->failed) {
        http_reply_error(request, &silent);
    }
    return queue_reply(request);
}

enum MHD_Result http_on_request(void *listener, struct MHD_Connection *connection, const char *url, const char *method,
                                const char *version, const char *data, size_t *size, void **state) {
    struct http_request *request = *state;
    size_t length = *size;

    (void)listener;
    (void)connection;
    (void)url;
    if (request == NULL) {
        return MHD_NO; /* no memory for it: cut the connection */
    }
    if (request->phase == PHASE_HEADERS) {
        return first_call(request, method, version);
    }
    if (length > 0) {
        if (request->phase == PHASE_BODY && body_must_wait(request)) {
            return MHD_YES;
        }
        *size = 0;
        if (request->phase == PHASE_BODY) {
            take_body(request, data, length);
        } else if (request->phase == PHASE_SWALLOW) {
            return swallow_body(request, length) ? MHD_YES : MHD_NO;
        }
        return MHD_YES;
    }
    if (request->phase == PHASE_REPLIED) {
        return MHD_YES;
    }
    return handle(request);
}

static void count_request(struct http_request *request, double seconds) {
    struct http_route_stats *stats = &request->server->stats[request->match.index];
    unsigned class = request->code / 100;
    size_t bucket = 0;

    if (class >= 1 && class <= 5) {
        stats->by_class[class - 1]++;
    }
    while (bucket < HTTP_LATENCY_BUCKETS - 1 && seconds > http_latency_bounds[bucket]) {
        bucket++;
    }
    stats->latency[bucket]++;
    stats->seconds += seconds;
}

static void log_request(struct http_request *request, double seconds, enum MHD_RequestTerminationCode code) {
    const struct http_route *route = request->match.route;
    /* Probes and scrapes come every few seconds for ever. */
    bool quiet =
        route != NULL && (route->scope == HTTP_SCOPE_OPEN || route->scope == HTTP_SCOPE_METRICS) && request->code < 500;
    char line[HTTP_PATH_SIZE + 256];
    struct text text;

    text_begin(&text, line, sizeof(line));
    text_add(&text, request->method[0] != '\0' ? request->method : "-");
    text_add(&text, " ");
    text_add(&text, request->uri.path);
    text_add(&text, " ");
    text_add_u64(&text, request->code);
    text_add(&text, " in ");
    text_add_u64(&text, request->received);
    text_add(&text, " out ");
    text_add_u64(&text, request->reply_bytes);
    text_add(&text, " ");
    text_add_tenths(&text, (uint64_t)(10000.0 * seconds + 0.5)); /* of milliseconds */
    text_add(&text, " ms request ");
    text_add(&text, request->id[0] != '\0' ? request->id : "-");
    text_add(&text, code == MHD_REQUEST_TERMINATED_COMPLETED_OK ? "" : " (broken off)");
    log_lines_add(&request->server->lines, quiet ? LOG_DEBUG : LOG_INFO, "http_request", line);
}

void http_on_completed(void *user, struct MHD_Connection *connection, void **state,
                       enum MHD_RequestTerminationCode code) {
    struct http_listener *listener = user;
    struct http_server *server = listener->server;
    struct http_request *request = *state;
    double seconds;

    if (request == NULL) {
        return;
    }
    seconds = clock_seconds() - request->started;
    mark_connection(connection, false);
    count_request(request, seconds);
    log_request(request, seconds, code);
    http_hold_orphan(request);
    if (request->has_sink && request->sink.close != NULL) {
        request->sink.close(request->sink.user);
    }
    if (request->response != NULL) {
        MHD_destroy_response(request->response);
    }
    buf_deinit(&request->body);
    if (request->previous != NULL) {
        request->previous->next = request->next;
    } else {
        server->requests = request->next;
    }
    if (request->next != NULL) {
        request->next->previous = request->previous;
    }
    server->active--;
    give_back(server, request);
    *state = NULL;
}
