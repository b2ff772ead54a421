#include "tests/support/live.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "tests/support/cm.h"
#include "tests/support/patience.h"

static void run_loop(void *user) {
    struct live *live = user;
    (void)uv_run(&live->loop, UV_RUN_DEFAULT);
}

static void close_server(uv_timer_t *timer) {
    struct live *live = timer->data;

    uv_close((uv_handle_t *)timer, NULL);
    http_server_close(live->server, NULL, NULL);
}

/* Loop thread. */
static void on_stop(struct http_post *post) {
    struct live *live = (struct live *)((char *)post - offsetof(struct live, stop));

    if (live->drain_first > 0) {
        http_server_drain(live->server);
    }
    (void)uv_timer_start(&live->timer, close_server, (uint64_t)(1000.0 * live->drain_first), 0);
}

void live_start(struct live *live, const struct http_config *config) {
    struct error error = {0};

    log_set_level(LOG_ERROR);
    memset(live, 0, sizeof(*live));
    assert_int_equal(uv_loop_init(&live->loop), 0);
    assert_int_equal(http_server_new(&live->loop, config, &live->server, &error), STATUS_OK);
    assert_int_equal(http_server_listen_tcp(live->server, "127.0.0.1", 0, &live->port, &error), STATUS_OK);
    assert_int_not_equal(live->port, 0);
    assert_int_equal(uv_timer_init(&live->loop, &live->timer), 0);
    live->timer.data = live;
    assert_int_equal(uv_thread_create(&live->thread, run_loop, live), 0);
}

void live_stop(struct live *live) {
    live->stop.run = on_stop;
    http_server_post(live->server, &live->stop);
    assert_int_equal(uv_thread_join(&live->thread), 0);
    http_server_free(live->server);
    assert_int_equal(uv_loop_close(&live->loop), 0);
}

int live_connect(const struct live *live) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(live->port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static void send_all(int fd, const char *bytes, size_t length) {
    while (length > 0) {
        ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL);
        if (sent <= 0) {
            return; /* the server has had enough; its answer says why */
        }
        bytes += sent;
        length -= (size_t)sent;
    }
}

static bool closed;

bool live_closed(void) {
    return closed;
}

const char *live_exchange(int fd, const char *bytes, size_t length, const char *until) {
    static char answer[LIVE_ANSWER_MAX];
    struct patience patience = {0};
    size_t used = 0;

    send_all(fd, bytes, length);
    answer[0] = '\0';
    closed = false;
    while (used + 1 < sizeof(answer) && patience_read(&patience, fd)) {
        ssize_t got = recv(fd, answer + used, sizeof(answer) - 1 - used, 0);
        if (got <= 0) {
            closed = true;
            break;
        }
        used += (size_t)got;
        answer[used] = '\0';
        if (until != NULL && strstr(answer, until) != NULL) {
            break;
        }
    }
    (void)close(fd);
    return answer;
}

const char *live_talk(const struct live *live, const char *bytes, size_t length, const char *until) {
    return live_exchange(live_connect(live), bytes, length, until);
}

const char *live_ask(const struct live *live, const char *text) {
    return live_talk(live, text, strlen(text), NULL);
}

int live_code(const char *answer) {
    return strncmp(answer, "HTTP/1.1 ", 9) == 0 ? (int)strtol(answer + 9, NULL, 10) : 0;
}

const char *live_body(const char *answer) {
    const char *end = strstr(answer, "\r\n\r\n");
    return end == NULL ? "" : end + 4;
}
