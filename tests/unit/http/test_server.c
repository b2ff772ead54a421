/* The server over real sockets: bodies, limits, framing, files. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/mem.h"
#include "tests/support/cm.h"
#include "tests/support/patience.h"
#include "tests/unit/http/world.h"

static void test_get(void **state) {
    struct world *world = *state;
    const char *answer =
        live_ask(&world->live, "GET /hello?q=a%20b HTTP/1.1\r\nX-Request-Id: my.id-7\r\n" CLOSE "\r\n");

    assert_int_equal(live_code(answer), 200);
    assert_string_equal(live_body(answer), "{\"hello\":\"world\",\"q\":\"a b\"}\n");
    assert_non_null(strstr(answer, "X-Request-Id: my.id-7\r\n"));
    assert_non_null(strstr(answer, "X-Content-Type-Options: nosniff\r\n"));
    assert_non_null(strstr(answer, "ETag: \""));
    answer = live_ask(&world->live, "GET /hello HTTP/1.1\r\nX-Request-Id: not allowed\r\n" CLOSE "\r\n");
    assert_non_null(strstr(answer, "X-Request-Id: req_"));
}

static void test_head(void **state) {
    struct world *world = *state;
    const char *answer = live_ask(&world->live, "HEAD /hello HTTP/1.1\r\n" CLOSE "\r\n");

    assert_int_equal(live_code(answer), 200);
    assert_string_equal(live_body(answer), "");
    assert_non_null(strstr(answer, "Content-Length: 27\r\n"));
}

static void test_not_modified(void **state) {
    struct world *world = *state;
    char etag[80], text[256];
    const char *answer = live_ask(&world->live, "GET /hello HTTP/1.1\r\n" CLOSE "\r\n"), *at = strstr(answer, "ETag: ");

    assert_non_null(at);
    (void)snprintf(etag, sizeof(etag), "%.*s", (int)strcspn(at + 6, "\r"), at + 6);
    (void)snprintf(text, sizeof(text), "GET /hello HTTP/1.1\r\nIf-None-Match: \"x\", %s\r\n" CLOSE "\r\n", etag);
    answer = live_ask(&world->live, text);
    assert_int_equal(live_code(answer), 304);
    assert_non_null(strstr(answer, etag));
}

static void test_errors(void **state) {
    static const struct {
        int code;
        const char *text, *contains;
    } cases[] = {
        {404, "GET /nothing HTTP/1.1\r\n" CLOSE "\r\n", "/problems/not-found"},
        {404, "GET /%ff HTTP/1.1\r\n" CLOSE "\r\n", "\"instance\":\"/?\""},
        {405, "POST /hello HTTP/1.1\r\n" CLOSE "Content-Length: 0\r\n\r\n", "Allow: GET, HEAD\r\n"},
        {400, "GET /hello%zz HTTP/1.1\r\n" CLOSE "\r\n", "/problems/malformed"},
        {401, "GET /admin HTTP/1.1\r\n" CLOSE "\r\n", "WWW-Authenticate: Bearer"},
        {413, "GET /hello HTTP/1.1\r\n" CLOSE "Content-Length: 2\r\n\r\nab", "/problems/too-large"},
        {413, "POST /echo HTTP/1.1\r\n" CLOSE "Content-Length: 1048577\r\n\r\n", "1048576"},
        {413, "POST /upload HTTP/1.1\r\n" CLOSE "Content-Length: 3145729\r\n\r\n", "3145728"},
        {415, "POST /echo HTTP/1.1\r\n" CLOSE "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
         "application/json"},
        {415,
         "POST /upload HTTP/1.1\r\n" CLOSE
         "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 2\r\n\r\n{}",
         "--data-binary"},
        {415, "POST /upload HTTP/1.1\r\n" CLOSE "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
         "Content-Encoding"},
        {400, "POST /echo HTTP/1.1\r\n" CLOSE "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{]",
         "line 1 column"},
        {500, "GET /silent HTTP/1.1\r\n" CLOSE "\r\n", "/problems/internal"},
    };
    struct world *world = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *answer = live_ask(&world->live, cases[i].text);
        assert_int_equal(live_code(answer), cases[i].code);
        assert_non_null(strstr(answer, cases[i].contains));
        assert_non_null(strstr(answer, "Content-Type: application/problem+json\r\n"));
    }
}

static void test_json_body(void **state) {
    struct world *world = *state;
    const char *answer =
        live_ask(&world->live, "POST /echo HTTP/1.1\r\n" CLOSE "Content-Type: application/json; charset=utf-8\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n4\r\n{\"a\"\r\n3\r\n:1}\r\n0\r\n\r\n");

    assert_int_equal(live_code(answer), 200);
    assert_string_equal(live_body(answer), "{\"got\":{\"a\":1}}\n");
}

/* Each of these would be read as something else by another parser; none may reach a handler, each closes. */
static void test_framing(void **state) {
    static const struct {
        const char *text;
        size_t length;
    } cases[] = {
#define CASE(text) {text, sizeof(text) - 1}
        CASE("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        CASE("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
        CASE("GET /hello HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        CASE("GET /hello HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n"),
        CASE("GET /hello HTTP/1.1\r\nHost: a\r\nX: y\r\n\tfolded\r\nZ: w\r\n\r\n"),
        CASE("GET /hello HTTP/1.1\r\nHost: a\r\nX: y\0evil\r\nZ: w\r\n\r\n"),
        CASE("GET /hello HTTP/1.1\r\nHost: a\r\nX: y\0evil\r\n\r\n"),
        CASE("GET /hello\0evil HTTP/1.1\r\nHost: a\r\n\r\n"),
        CASE("GET /hello HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n"),
        CASE("GET /hello HTTP/1.1\r\n X: y\r\nHost: a\r\n\r\n"),
        CASE("GET /hello HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"),
        CASE("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"),
        CASE("GET /hello HTTP/1.1\r\n\r\n"),
        CASE("GET /hello HTTP/1.1\r\nHost: a\r\nX\0: 1\r\n\r\n"),
#undef CASE
    };
    struct world *world = *state;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *answer = live_talk(&world->live, cases[i].text, cases[i].length, NULL);
        assert_int_equal(live_code(answer), 400);
        assert_non_null(strstr(answer, "Connection: close\r\n"));
        assert_true(live_closed());
    }
}

static void test_too_many_fields(void **state) {
    static char text[8192] = "GET /hello HTTP/1.1\r\nHost: a\r\n";
    struct world *world = *state;
    size_t used = strlen(text);

    for (int i = 0; i < 100; i++) {
        memcpy(text + used, "X: y\r\n", 6);
        used += 6;
    }
    memcpy(text + used, "\r\n", 3);
    assert_int_equal(live_code(live_ask(&world->live, text)), 431);
}

static void test_upload(void **state) {
    enum { SIZE = 2 << 20 };
    struct world *world = *state;
    char *text = mem_calloc(SIZE + 200, 1), expected[64];
    const char *answer;
    int head = snprintf(text, 200, "POST /upload HTTP/1.1\r\n" CLOSE "Content-Length: %d\r\n\r\n", SIZE);

    memset(text + head, 'x', SIZE);
    answer = live_talk(&world->live, text, (size_t)head + SIZE, NULL);
    assert_int_equal(live_code(answer), 201);
    (void)snprintf(expected, sizeof(expected), "{\"bytes\":%d}\n", SIZE);
    assert_string_equal(live_body(answer), expected);
    assert_non_null(strstr(answer, "Location: /upload/1\r\n"));
    assert_int_equal(atomic_load(&world->closed), 0);

    /* The sink refuses in the middle; the rest is swallowed and the answer is the sink's. */
    text[head + SIZE / 2] = '!';
    answer = live_talk(&world->live, text, (size_t)head + SIZE, NULL);
    assert_int_equal(live_code(answer), 503);
    assert_non_null(strstr(answer, "Retry-After: "));
    assert_int_equal(atomic_load(&world->closed), 1);
    mem_free(text);
}

static void test_upload_over_limit_in_chunks(void **state) {
    enum { CHUNK = 1 << 20, CHUNKS = 4 };
    struct world *world = *state;
    char *text = mem_calloc(CHUNKS * (CHUNK + 16) + 200, 1);
    const char *answer;
    size_t used = (size_t)snprintf(text, 200, "POST /upload HTTP/1.1\r\n" CLOSE "Transfer-Encoding: chunked\r\n\r\n");

    for (int i = 0; i < CHUNKS; i++) {
        used += (size_t)snprintf(text + used, 16, "%x\r\n", (unsigned)CHUNK);
        memset(text + used, 'x', CHUNK);
        used += CHUNK;
        memcpy(text + used, "\r\n", 2);
        used += 2;
    }
    memcpy(text + used, "0\r\n\r\n", 5);
    answer = live_talk(&world->live, text, used + 5, NULL);
    assert_int_equal(live_code(answer), 413);
    mem_free(text);
}

/* The answer comes before the body is sent; a client that goes on sending for a while must not be reset, as a reset can
 * take the answer away or kill the client by SIGPIPE. */
static void test_refused_early(void **state) {
    static const char head[] = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 8388608\r\n\r\n";
    static char piece[100000];
    struct world *world = *state;
    int fd = live_connect(&world->live);
    char answer[1024];
    ssize_t got;

    assert_int_equal(send(fd, head, sizeof(head) - 1, MSG_NOSIGNAL), sizeof(head) - 1);
    got = recv(fd, answer, sizeof(answer) - 1, 0);
    assert_true(got > 0);
    answer[got] = '\0';
    assert_int_equal(live_code(answer), 413);
    assert_non_null(strstr(answer, "Connection: close\r\n"));
    for (int i = 0; i < 10; i++) {
        (void)usleep(20000);
        assert_int_equal(send(fd, piece, sizeof(piece), MSG_NOSIGNAL), sizeof(piece));
    }
    (void)close(fd);
}

/* Several at once, ended in another order than they came in, the last one by the server's end. */
static void test_refused_together(void **state) {
    static const char head[] = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 8388608\r\n\r\n";
    static const size_t order[] = {1, 3, 2};
    struct world *world = *state;
    int fds[4];
    char answer[1024];

    for (size_t i = 0; i < 4; i++) {
        fds[i] = live_connect(&world->live);
        assert_int_equal(send(fds[i], head, sizeof(head) - 1, MSG_NOSIGNAL), sizeof(head) - 1);
        const ssize_t got = recv(fds[i], answer, sizeof(answer) - 1, 0);
        assert_true(got > 0);
        answer[got] = '\0';
        assert_int_equal(live_code(answer), 413);
        while (recv(fds[i], answer, sizeof(answer), 0) > 0) { /* until the server is done with it */
        }
        assert_int_equal(send(fds[i], head, sizeof(head), MSG_NOSIGNAL), sizeof(head)); /* it still takes what comes */
    }
    for (size_t i = 0; i < 3; i++) {
        (void)close(fds[order[i]]);
        assert_int_equal(live_code(live_ask(&world->live, "GET /hello HTTP/1.1\r\n" CLOSE "\r\n")), 200);
    }
    live_stop(&world->live);
    struct patience patience = {0}; /* nobody is there any more, which the client soon hears */
    while (send(fds[0], head, sizeof(head), MSG_NOSIGNAL) > 0) {
        assert_true(patience_nap(&patience));
    }
    (void)close(fds[0]);
    scratch_remove(&world->scratch);
}

static void test_broken_upload(void **state) {
    struct world *world = *state;

    static const char text[] = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc";
    int fd = live_connect(&world->live);

    assert_int_equal(send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL), sizeof(text) - 1);
    (void)usleep(100000);
    (void)close(fd);
    world_await(&world->closed, 1);
}

/* Below the least rate the connection is cut, though it is never silent for long. */
static void test_slow_drip(void **state) {
    struct world *world = *state;
    int fd = live_connect(&world->live);
    static const char head[] = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
    struct patience patience = {0};
    bool cut = false;

    assert_int_equal(write(fd, head, sizeof(head) - 1), sizeof(head) - 1);
    while (!cut && patience_nap(&patience)) {
        cut = send(fd, "x", 1, MSG_NOSIGNAL) != 1;
    }
    (void)close(fd);
    assert_true(cut);
    world_await(&world->closed, 1);
}

/* A client that closes its own half in the middle of a body, and one in the middle of the fields: neither holds anything for long, and
 * others are served meanwhile. */
static void test_half_closed(void **state) {
    static const char body[] = "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc";
    static const char fields[] = "GET /hello HTTP/1.1\r\nHo";
    struct world *world = *state;
    int half_body = live_connect(&world->live), half_fields = live_connect(&world->live);
    const int ends[] = {half_body, half_fields};

    assert_int_equal(write(half_body, body, sizeof(body) - 1), sizeof(body) - 1);
    assert_int_equal(write(half_fields, fields, sizeof(fields) - 1), sizeof(fields) - 1);
    assert_int_equal(shutdown(half_body, SHUT_WR), 0);
    assert_int_equal(shutdown(half_fields, SHUT_WR), 0);
    assert_int_equal(live_code(live_ask(&world->live, "GET /hello HTTP/1.1\r\n" CLOSE "\r\n")), 200);
    for (size_t i = 0; i < 2; i++) {
        char bytes[256];
        struct patience patience = {0};
        do {
            assert_true(patience_read(&patience, ends[i]));
        } while (recv(ends[i], bytes, sizeof(bytes), 0) > 0);
        (void)close(ends[i]);
    }
    world_await(&world->closed, 1);
}

static void test_file(void **state) {
    static const struct {
        const char *fields;
        int code;
        const char *contains, *body;
    } cases[] = {
        {"Range: bytes=10-14\r\n", 206, "Content-Range: bytes 10-14/1000\r\n", "01234"},
        {"Range: bytes=-3\r\n", 206, "Content-Range: bytes 997-999/1000\r\n", "789"},
        {"Range: bytes=10-14\r\nIf-Range: \"abc\"\r\n", 206, "Content-Length: 5\r\n", "01234"},
        {"Range: bytes=10-14\r\nIf-Range: \"old\"\r\n", 200, "Content-Length: 1000\r\n", NULL},
        {"Range: bytes=1000-\r\n", 416, "Content-Range: bytes */1000\r\n", NULL},
        {"", 200, "Accept-Ranges: bytes\r\n", NULL},
        {"", 200, "Content-Disposition: attachment; filename=\"digits.bin\"\r\n", NULL},
        {"If-None-Match: \"abc\"\r\n", 304, "ETag: \"abc\"\r\n", ""},
        {"If-Match: \"old\"\r\n", 412, "application/problem+json", NULL},
    };
    struct world *world = *state;
    char text[512];

    assert_int_equal(live_code(live_ask(&world->live, "GET /gone HTTP/1.1\r\n" CLOSE "\r\n")), 500);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *answer;
        (void)snprintf(text, sizeof(text), "GET /file HTTP/1.1\r\n" CLOSE "%s\r\n", cases[i].fields);
        answer = live_ask(&world->live, text);
        assert_int_equal(live_code(answer), cases[i].code);
        assert_non_null(strstr(answer, cases[i].contains));
        if (cases[i].body != NULL) {
            assert_string_equal(live_body(answer), cases[i].body);
        } else if (cases[i].code == 200) {
            assert_int_equal(strlen(live_body(answer)), WORLD_FILE_SIZE);
        }
    }
}

static void test_keep_alive(void **state) {
    struct world *world = *state;
    static const char two[] = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\nGET /hello?q=last HTTP/1.1\r\nHost: a\r\n\r\n";
    const char *answer = live_talk(&world->live, two, sizeof(two) - 1, "last");

    assert_non_null(strstr(answer, "\"q\":null"));
    assert_non_null(strstr(answer, "\"q\":\"last\""));
}

struct stats_reader {
    struct http_post post;
    struct http_server *server;
    uint64_t found, missed;
    atomic_bool done;
};

/* Loop thread, where the numbers live. */
static void read_stats(struct http_post *post) {
    struct stats_reader *reader = (struct stats_reader *)post; /* its first member */

    reader->found = http_server_stats(reader->server, 0)->by_class[1];
    reader->missed = http_server_stats(reader->server, WORLD_ROUTES)->by_class[3];
    atomic_store(&reader->done, true);
}

static void test_stats(void **state) {
    struct world *world = *state;
    struct stats_reader reader = {.post.run = read_stats, .server = world->live.server};

    assert_int_equal(live_code(live_ask(&world->live, "GET /hello HTTP/1.1\r\n" CLOSE "\r\n")), 200);
    assert_int_equal(live_code(live_ask(&world->live, "GET /none HTTP/1.1\r\n" CLOSE "\r\n")), 404);
    http_server_post(world->live.server, &reader.post);
    while (!atomic_load(&reader.done)) {
        (void)usleep(1000);
    }
    assert_int_equal(reader.found, 1);
    assert_int_equal(reader.missed, 1);
}

int main(void) {
#define LIVE(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)
#define HASTY(test) cmocka_unit_test_setup_teardown(test, world_setup_hasty, world_teardown)
    const struct CMUnitTest tests[] = {
        LIVE(test_get),
        LIVE(test_head),
        LIVE(test_not_modified),
        LIVE(test_errors),
        LIVE(test_json_body),
        LIVE(test_framing),
        LIVE(test_too_many_fields),
        LIVE(test_upload),
        LIVE(test_upload_over_limit_in_chunks),
        LIVE(test_refused_early),
        cmocka_unit_test_setup(test_refused_together, world_setup),
        LIVE(test_broken_upload),
        HASTY(test_slow_drip),
        HASTY(test_half_closed),
        LIVE(test_file),
        LIVE(test_keep_alive),
        LIVE(test_stats),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
