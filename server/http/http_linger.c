/* Lingering close. When a request is refused before its body has come, closing the socket with bytes unread makes the
 * system send a reset, and the reset can overtake the answer that says why. So a copy of the descriptor stays for a
 * moment, what comes is read and dropped, and the client gets to see the answer. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/mem.h"
#include "server/http/http_internal.h"

enum { LINGERS_MAX = 64, PIECE_SIZE = 65536, PIECES_AT_ONCE = 16 };
static const double LINGER_S = 3.0;

struct http_linger {
    struct http_linger *previous, *next;
    struct http_server *server;
    uv_poll_t poll;
    int socket;
    double until;
};

static void on_closed(uv_handle_t *handle) {
    struct http_linger *linger = handle->data;
    struct http_server *server = linger->server;

    (void)close(linger->socket);
    mem_free(linger);
    http_handle_closed(server);
}

static void end(struct http_linger *linger) {
    struct http_server *server = linger->server;

    if (linger->previous != NULL) {
        linger->previous->next = linger->next;
    } else {
        server->lingers = linger->next;
    }
    if (linger->next != NULL) {
        linger->next->previous = linger->previous;
    }
    server->linger_count--;
    uv_close((uv_handle_t *)&linger->poll, on_closed);
}

static void on_readable(uv_poll_t *poll, int status, int events) {
    struct http_linger *linger = poll->data;
    char dropped[PIECE_SIZE];

    (void)events;
    for (int i = 0; i < PIECES_AT_ONCE && status == 0; i++) {
        ssize_t got = recv(linger->socket, dropped, sizeof(dropped), MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (got <= 0) {
            status = -1; /* the other side is done */
        }
    }
    if (status != 0) {
        end(linger);
    }
}

void http_linger_start(struct http_server *server, int socket) {
    struct http_linger *linger;

    if (server->closing || server->linger_count >= LINGERS_MAX) {
        return;
    }
    linger = mem_calloc(1, sizeof(*linger));
    if (linger == NULL) {
        return;
    }
    linger->server = server;
    linger->until = http_watch_seconds(server) + LINGER_S;
    linger->socket = fcntl(socket, F_DUPFD_CLOEXEC, 0);
    if (linger->socket < 0 || uv_poll_init(server->loop, &linger->poll, linger->socket) != 0) {
        if (linger->socket >= 0) {
            (void)close(linger->socket);
        }
        mem_free(linger);
        return;
    }
    (void)shutdown(linger->socket, SHUT_WR);
    linger->poll.data = linger;
    server->open_handles++;
    linger->next = server->lingers;
    if (linger->next != NULL) {
        linger->next->previous = linger;
    }
    server->lingers = linger;
    server->linger_count++;
    (void)uv_poll_start(&linger->poll, UV_READABLE, on_readable);
}

void http_linger_sweep(struct http_server *server, bool all) {
    double now = http_watch_seconds(server);
    struct http_linger *next;

    for (struct http_linger *linger = server->lingers; linger != NULL; linger = next) {
        next = linger->next;
        if (all || now >= linger->until) {
            end(linger);
        }
    }
}
