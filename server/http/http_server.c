/* Life of the server, and what other threads hand to the loop: posts and notifications. */
#include "server/http/http_server.h"

#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "server/http/http_internal.h"

const double http_latency_bounds[HTTP_LATENCY_BUCKETS - 1] = {0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0};

void http_config_init(struct http_config *config) {
    memset(config, 0, sizeof(*config));
    config->max_upload = (uint64_t)2 << 30;
    config->connection_limit = 1024;
    config->idle_timeout_s = 60;
    config->slow_window_s = 30;
    config->slow_window_bytes = 30000;
}

/* Takes the posts and topics of other threads and sees to them. */
static void on_async(uv_async_t *async) {
    struct http_server *server = async->data;
    char topics[HTTP_TOPICS_MAX][ID_SIZE];
    size_t topic_count;
    bool all;
    struct http_post *post;

    pthread_mutex_lock(&server->lock);
    post = server->posts;
    server->posts = NULL;
    server->last_post = NULL;
    topic_count = server->topic_count;
    memcpy(topics, server->topics, topic_count * sizeof(topics[0]));
    all = server->all_topics;
    server->topic_count = 0;
    server->all_topics = false;
    pthread_mutex_unlock(&server->lock);

    while (post != NULL) {
        struct http_post *next = post->next;
        post->run(post);
        post = next;
    }
    if (all) {
        http_wake_due(server, true);
    } else {
        for (size_t i = 0; i < topic_count; i++) {
            http_wake_topic(server, topics[i]);
        }
    }
}

static void on_tick(uv_timer_t *timer) {
    struct http_server *server = timer->data;
    double now = clock_seconds();

    http_wake_due(server, false);
    http_watch_tick(server);
    http_sweep(server);
    http_linger_sweep(server, false);
    if (server->config.tick != NULL && !server->closing && now - server->ticked >= 1.0) {
        server->ticked = now;
        server->config.tick(server, server->config.context);
    }
}

enum status http_server_new(uv_loop_t *loop, const struct http_config *config, struct http_server **server,
                            struct error *error) {
    struct http_server *made = mem_calloc(1, sizeof(*made));

    if (made != NULL) {
        made->stats = mem_calloc(config->route_count + 1, sizeof(*made->stats));
    }
    if (made == NULL || made->stats == NULL) {
        mem_free(made);
        return error_no_memory(error, "the HTTP server");
    }
    made->loop = loop;
    made->config = *config;
    made->watched = clock_seconds();
    if (pthread_mutex_init(&made->lock, NULL) != 0) {
        goto fail;
    }
    if (uv_async_init(loop, &made->async, on_async) != 0) {
        pthread_mutex_destroy(&made->lock);
        goto fail;
    }
    (void)uv_timer_init(loop, &made->tick); /* cannot fail in libuv 1.x */
    made->async.data = made;
    made->tick.data = made;
    made->async_usable = true;
    made->open_handles = 2;
    (void)uv_timer_start(&made->tick, on_tick, HTTP_TICK_MS, HTTP_TICK_MS);
    *server = made;
    return STATUS_OK;
fail:
    mem_free(made->stats);
    mem_free(made);
    return error_set(error, STATUS_INTERNAL, NULL, "failed to set up the HTTP server's loop handles");
}

enum status http_server_use_tls(struct http_server *server, const char *certificate, const char *key,
                                struct error *error) {
    if (server->tls != NULL || MHD_is_feature_supported(MHD_FEATURE_HTTPS_CERT_CALLBACK) != MHD_YES) {
        return error_set(error, STATUS_UNSUPPORTED, "--tls-cert", "failed to set up TLS: the HTTP library has none");
    }
    return http_tls_new(certificate, key, &server->tls, error);
}

enum status http_server_reload_tls(struct http_server *server, struct error *error) {
    if (server->tls == NULL) {
        return error_set(error, STATUS_CONFLICT, "--tls-cert", "failed to read the certificate again: there is none");
    }
    return http_tls_reload(server->tls, error);
}

void http_server_post(struct http_server *server, struct http_post *post) {
    post->next = NULL;
    pthread_mutex_lock(&server->lock);
    if (server->last_post != NULL) {
        server->last_post->next = post;
    } else {
        server->posts = post;
    }
    server->last_post = post;
    if (server->async_usable) {
        (void)uv_async_send(&server->async);
    }
    pthread_mutex_unlock(&server->lock);
}

void http_server_notify(struct http_server *server, const char *topic) {
    size_t i, length = strlen(topic);

    pthread_mutex_lock(&server->lock);
    for (i = 0; i < server->topic_count && strcmp(server->topics[i], topic) != 0; i++) {
    }
    if (i == HTTP_TOPICS_MAX || length >= ID_SIZE) {
        server->all_topics = true;
    } else if (i == server->topic_count) {
        memcpy(server->topics[i], topic, length + 1);
        server->topic_count++;
    }
    if (server->async_usable) {
        (void)uv_async_send(&server->async);
    }
    pthread_mutex_unlock(&server->lock);
}

void http_server_drain(struct http_server *server) {
    if (server->draining) {
        return;
    }
    server->draining = true;
    for (size_t i = 0; i < server->listener_count; i++) {
        http_listener_quiesce(&server->listeners[i]);
    }
    http_wake_due(server, true);
}

size_t http_server_active(const struct http_server *server) {
    return server->active;
}

void http_handle_closed(struct http_server *server) {
    server->open_handles--;
    if (server->open_handles == 0 && server->closed != NULL) {
        server->closed(server->closed_user);
    }
}

static void on_own_handle_closed(uv_handle_t *handle) {
    http_handle_closed(handle->data);
}

/* libmicrohttpd must not be stopped with suspended connections: each is answered 503, woken, and given the chance to write. */
static void end_requests(struct http_server *server) {
    static const struct error stopping = {STATUS_UNAVAILABLE, "",
                                          "failed to finish the request: the server is stopping"};
    enum { ROUNDS = 64 };

    for (struct http_request *request = server->requests; request != NULL; request = request->next) {
        if (request->suspended) {
            http_hold_orphan(request);
            if (request->phase == PHASE_HANDLE) {
                http_reply_error(request, &stopping);
            }
            http_wake(request);
        }
    }
    for (int round = 0; round < ROUNDS && server->active > 0; round++) {
        for (size_t i = 0; i < server->listener_count; i++) {
            (void)MHD_run(server->listeners[i].daemon);
        }
    }
}

void http_server_close(struct http_server *server, void (*closed)(void *user), void *user) {
    if (server->closing) {
        return;
    }
    http_server_drain(server);
    server->closing = true;
    server->closed = closed;
    server->closed_user = user;
    end_requests(server);

    pthread_mutex_lock(&server->lock);
    server->async_usable = false;
    pthread_mutex_unlock(&server->lock);
    for (size_t i = 0; i < server->listener_count; i++) {
        http_listener_stop(&server->listeners[i]);
    }
    http_linger_sweep(server, true);
    uv_close((uv_handle_t *)&server->tick, on_own_handle_closed);
    uv_close((uv_handle_t *)&server->async, on_own_handle_closed);
}

void http_server_free(struct http_server *server) {
    if (server == NULL) {
        return;
    }
    /* Late posts: their holds find no request, but their memory wants to be freed. */
    while (server->posts != NULL) {
        struct http_post *post = server->posts;
        server->posts = post->next;
        post->run(post);
    }
    while (server->spares != NULL) {
        struct http_request *request = server->spares;
        server->spares = request->next;
        mem_free(request);
    }
    log_lines_write(&server->lines);
    pthread_mutex_destroy(&server->lock);
    http_tls_free(server->tls);
    mem_free(server->stats);
    mem_free(server);
}

const struct http_route_stats *http_server_stats(const struct http_server *server, size_t route) {
    return &server->stats[route <= server->config.route_count ? route : server->config.route_count];
}

size_t http_server_connections(const struct http_server *server) {
    return server->connection_count;
}

uint64_t http_server_received(const struct http_server *server) {
    return server->received;
}
