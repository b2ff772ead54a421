/* A server with a small route table in a thread of its own, and a client that sends raw bytes. */
#ifndef ONP_TESTS_SUPPORT_LIVE_H
#define ONP_TESTS_SUPPORT_LIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/http/http_request.h"
#include "server/http/http_server.h"

enum { LIVE_ANSWER_MAX = 1 << 20 };

struct live {
    struct http_server *server;
    uint16_t port;
    uv_loop_t loop;
    uv_thread_t thread;
    struct http_post stop;
    double drain_first; /* > 0: seconds between drain and close */
    uv_timer_t timer;
};

/* Starts a server over these routes; fails the test if it does not come up. */
void live_start(struct live *live, const struct http_config *config);
/* Closes it and waits for its thread. */
void live_stop(struct live *live);

/* Sends the bytes over a connection, which is closed afterwards, and reads until the server closes, `until` was seen in the answer
 * (NULL: not looked for), or patience is over. The answer is NUL-terminated in a static buffer. */
const char *live_exchange(int fd, const char *bytes, size_t length, const char *until);
/* The same over a new connection. */
const char *live_talk(const struct live *live, const char *bytes, size_t length, const char *until);
/* Whether the last answer ended because the server closed the connection. */
bool live_closed(void);
/* live_talk() of a text, with "Connection: close" expected of the text itself. */
const char *live_ask(const struct live *live, const char *text);
/* The status code of an answer, 0 if there is none. */
int live_code(const char *answer);
/* The body of an answer (after the empty line), "" if there is none. */
const char *live_body(const char *answer);
int live_connect(const struct live *live);

#endif
