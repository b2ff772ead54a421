/* A thread with blocking sockets; what it does is fixed before it starts. */
#include "tests/unit/client/canned_server.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/file.h"
#include "common/mem.h"
#include "tests/support/cm.h"

struct canned_server {
    int fd;
    pthread_t thread;
    const char *const *answers;
    size_t count;
    char *requests[CANNED_MAX];
};

static size_t declared_length(const char *head) {
    const char *line = strcasestr(head, "\r\ncontent-length:");
    return line != NULL ? (size_t)strtoul(line + strlen("\r\ncontent-length:"), NULL, 10) : 0;
}

/* Head and body; a client that waits for "100 Continue" gets it. */
static void read_request(int fd, char *text) {
    size_t length = 0;
    size_t wanted = SIZE_MAX;
    while (length < wanted && length + 1 < CANNED_REQUEST_MAX) {
        ssize_t got = read(fd, text + length, CANNED_REQUEST_MAX - 1 - length);
        if (got <= 0) {
            break;
        }
        length += (size_t)got;
        text[length] = '\0';
        const char *end = strstr(text, "\r\n\r\n");
        if (end != NULL && wanted == SIZE_MAX) {
            wanted = (size_t)(end - text) + 4 + declared_length(text);
            if (strcasestr(text, "\r\nexpect: 100") != NULL) {
                static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
                (void)file_write_all(fd, go_on, sizeof go_on - 1);
            }
        }
    }
}

static void *serve(void *user) {
    struct canned_server *server = user;
    for (size_t i = 0; i < server->count; i++) {
        int fd = accept(server->fd, NULL, NULL);
        if (fd < 0) {
            break;
        }
        read_request(fd, server->requests[i]);
        (void)file_write_all(fd, server->answers[i], strlen(server->answers[i]));
        (void)close(fd);
    }
    return NULL;
}

struct canned_server *canned_server_start(const char *socket_path, const char *const *answers, size_t count) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct canned_server *server = mem_calloc(1, sizeof *server);
    assert_non_null(server);
    assert_in_range(strlen(socket_path), 1, sizeof address.sun_path - 1);
    assert_in_range(count, 1, CANNED_MAX);
    memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
    server->answers = answers;
    server->count = count;
    for (size_t i = 0; i < count; i++) {
        server->requests[i] = mem_calloc(CANNED_REQUEST_MAX, 1);
        assert_non_null(server->requests[i]);
    }
    server->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(server->fd >= 0);
    assert_int_equal(bind(server->fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(server->fd, CANNED_MAX), 0);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
    return server;
}

void canned_server_join(struct canned_server *server) {
    assert_int_equal(pthread_join(server->thread, NULL), 0);
    (void)close(server->fd);
}

const char *canned_server_request(const struct canned_server *server, size_t i) {
    return server->requests[i];
}

void canned_server_free(struct canned_server *server) {
    for (size_t i = 0; i < server->count; i++) {
        mem_free(server->requests[i]);
    }
    mem_free(server);
}
