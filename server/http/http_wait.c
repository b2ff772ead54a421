/* Requests that sleep: long-polls, streams without news, and those held while another thread works. A sleeping connection
 * is suspended in libmicrohttpd: it costs no time and is not timed out. */
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "server/http/http_internal.h"

struct http_hold {
    struct http_request *request; /* NULL once it was ended */
};

void http_wake(struct http_request *request) {
    if (request->suspended) {
        request->suspended = false;
        request->wake_at = 0;
        MHD_resume_connection(request->connection);
        http_listener_kick(request->listener);
    }
}

/* A held request is woken only by its reply: whoever holds it still works for it. */
static bool may_wake(const struct http_request *request) {
    return request->suspended && request->hold == NULL;
}

void http_wake_due(struct http_server *server, bool all) {
    double now = clock_seconds();

    for (struct http_request *request = server->requests; request != NULL; request = request->next) {
        bool due = request->wake_at > 0 && now >= request->wake_at;
        if (may_wake(request) && (due || all)) {
            request->timed_out = due;
            http_wake(request);
        }
    }
}

void http_wake_topic(struct http_server *server, const char *topic) {
    for (struct http_request *request = server->requests; request != NULL; request = request->next) {
        if (may_wake(request) && strcmp(request->topic, topic) == 0) {
            http_wake(request);
        }
    }
}

bool http_request_wait(struct http_request *request, const char *topic, double seconds) {
    double now = clock_seconds();
    size_t length = strlen(topic);

    if (!request->waited) {
        request->waited = true;
        request->wait_until = now + seconds;
    }
    if (request->server->draining || now >= request->wait_until || length >= sizeof(request->topic)) {
        return false;
    }
    memcpy(request->topic, topic, length + 1);
    request->wake_at = request->wait_until;
    request->timed_out = false;
    request->wants_suspend = true;
    return true;
}

struct http_hold *http_request_hold(struct http_request *request) {
    struct http_hold *hold;

    if (request->hold != NULL || request->server->closing) {
        return NULL;
    }
    hold = mem_calloc(1, sizeof(*hold));
    if (hold != NULL) {
        hold->request = request;
        request->hold = hold;
        request->wants_suspend = true;
    }
    return hold;
}

struct http_request *http_hold_release(struct http_hold *hold) {
    struct http_request *request = hold->request;

    if (request != NULL) {
        request->hold = NULL;
        request->wants_suspend = false;
    }
    mem_free(hold);
    return request;
}

void http_hold_orphan(struct http_request *request) {
    if (request->hold != NULL) {
        request->hold->request = NULL;
        request->hold = NULL;
    }
}
