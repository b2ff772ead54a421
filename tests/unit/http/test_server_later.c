/* Answers that come later: long-polls, held requests, streams, and what a stop does to them. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/support/cm.h"
#include "tests/unit/http/world.h"

enum { WAIT_S = 50 }; /* of what must end before: less than the patience of an exchange */

static void *change_later(void *user) {
    struct world *world = user;

    world_await(&world->sleepers, 1);
    (void)usleep(100000);
    atomic_fetch_add(&world->version, 1);
    http_server_notify(world->live.server, "other");
    http_server_notify(world->live.server, "doc");
    return NULL;
}

/* Asks for the document with a wait of so many seconds and the ETag of its present state. */
static const char *ask_doc(struct world *world, int seconds) {
    const char *answer = live_ask(&world->live, "GET /doc HTTP/1.1\r\n" CLOSE "\r\n"), *at = strstr(answer, "ETag: ");
    char text[256];

    assert_non_null(at);
    (void)snprintf(text, sizeof(text), "GET /doc?wait=%d HTTP/1.1\r\nIf-None-Match: %.*s\r\n" CLOSE "\r\n", seconds,
                   (int)strcspn(at + 6, "\r"), at + 6);
    return live_ask(&world->live, text);
}

static void test_long_poll(void **state) {
    struct world *world = *state;
    double start = clock_seconds();
    pthread_t thread;
    const char *answer;

    assert_int_equal(pthread_create(&thread, NULL, change_later, world), 0);
    answer = ask_doc(world, WAIT_S);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(live_code(answer), 200);
    assert_string_equal(live_body(answer), "{\"version\":1}\n");
    assert_true(clock_seconds() - start < WAIT_S);

    start = clock_seconds();
    assert_int_equal(live_code(ask_doc(world, 1)), 304);
    assert_true(clock_seconds() - start >= 0.95);
}

static void test_hold(void **state) {
    struct world *world = *state;
    const char *answer = live_ask(&world->live, "GET /held HTTP/1.1\r\n" CLOSE "\r\n");

    assert_int_equal(pthread_join(world->helper, NULL), 0);
    assert_int_equal(live_code(answer), 202);
    assert_string_equal(live_body(answer), "{\"held\":true}\n");
}

static void *stop_soon(void *user) {
    struct world *world = user;

    world_await(&world->sleepers, 1);
    (void)usleep(200000);
    live_stop(&world->live);
    return NULL;
}

/* Nobody releases the hold: the stop answers 503, and the late release finds no request. */
static void test_stop_with_held_request(void **state) {
    struct world *world = *state;
    pthread_t thread;
    const char *answer;

    world->release_held = false;
    assert_int_equal(pthread_create(&thread, NULL, stop_soon, world), 0);
    answer = live_ask(&world->live, "GET /held HTTP/1.1\r\n" CLOSE "\r\n");
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(live_code(answer), 503);
    assert_non_null(world->hold);
    assert_null(http_hold_release(world->hold));
    scratch_remove(&world->scratch);
}

/* A drain ends long-polls with the present state. */
static void test_stop_with_waiting_request(void **state) {
    struct world *world = *state;
    double start = clock_seconds();
    pthread_t thread;

    world->live.drain_first = 0.2;
    assert_int_equal(pthread_create(&thread, NULL, stop_soon, world), 0);
    assert_int_equal(live_code(ask_doc(world, WAIT_S)), 304);
    assert_true(clock_seconds() - start < WAIT_S);
    assert_int_equal(pthread_join(thread, NULL), 0);
    scratch_remove(&world->scratch);
}

static void *make_room(void *user) {
    struct world *world = user;

    world_await(&world->sleepers, 1);
    (void)usleep(200000);
    atomic_fetch_add(&world->version, 1);
    http_server_notify(world->live.server, "room");
    return NULL;
}

/* A sink without room: the connection sleeps until it is told that there is some. */
static void test_upload_waits_for_room(void **state) {
    struct world *world = *state;
    double start = clock_seconds();
    pthread_t thread;
    const char *answer;

    assert_int_equal(pthread_create(&thread, NULL, make_room, world), 0);
    answer = live_ask(&world->live, "POST /upload?wait=1 HTTP/1.1\r\n" CLOSE "Content-Length: 5\r\n\r\nabcde");
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(live_code(answer), 201);
    assert_string_equal(live_body(answer), "{\"bytes\":5}\n");
    assert_true(clock_seconds() - start >= 0.2);
}

/* Listening is for the loop thread. */
struct sixth {
    struct http_post post;
    struct world *world;
    uint16_t port;
    enum status status;
    atomic_bool done;
};

static void listen_on_six(struct http_post *post) {
    struct sixth *sixth = (struct sixth *)post; /* its first member */
    struct error error = {0};

    sixth->status = http_server_listen_tcp(sixth->world->live.server, "::1", 0, &sixth->port, &error);
    atomic_store(&sixth->done, true);
}

/* Who asks, over both kinds of addresses. */
static void test_addresses(void **state) {
    static const char ask[] = "GET /who HTTP/1.1\r\n" CLOSE "\r\n";
    struct world *world = *state;
    struct sixth sixth = {.post.run = listen_on_six, .world = world};
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    const char *answer;
    char expected[64];
    int fd;

    (void)snprintf(expected, sizeof(expected), "\"peer\":%d", (int)HTTP_PEER_LOOPBACK);
    answer = live_ask(&world->live, ask);
    assert_non_null(strstr(answer, "\"address\":\"127.0.0.1\""));
    assert_non_null(strstr(answer, expected));
    http_server_post(world->live.server, &sixth.post);
    while (!atomic_load(&sixth.done)) {
        (void)usleep(1000);
    }
    if (sixth.status != STATUS_OK) {
        (void)printf("skipped: this machine has no IPv6\n");
        skip();
    }
    address.sin6_port = htons(sixth.port);
    fd = socket(AF_INET6, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    answer = live_exchange(fd, ask, sizeof(ask) - 1, NULL);
    assert_non_null(strstr(answer, "\"address\":\"::1\""));
    assert_non_null(strstr(answer, expected));
}

static void *change_three_times(void *user) {
    struct world *world = user;

    for (int i = 0; i < 3; i++) {
        world_await(&world->pings, atomic_load(&world->pings) + 1);
        atomic_fetch_add(&world->version, 1);
        http_server_notify(world->live.server, "doc");
    }
    return NULL;
}

static void test_stream(void **state) {
    struct world *world = *state;
    pthread_t thread;
    const char *answer, *one, *two, *three, *ping;

    assert_int_equal(pthread_create(&thread, NULL, change_three_times, world), 0);
    answer = live_ask(&world->live, "GET /stream HTTP/1.1\r\n" CLOSE "\r\n");
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(live_code(answer), 200);
    assert_non_null(strstr(answer, "text/event-stream"));
    one = strstr(answer, "id: 1");
    two = strstr(answer, "id: 2");
    three = strstr(answer, "id: 3");
    ping = strstr(answer, ": ping");
    assert_non_null(one);
    assert_non_null(ping);
    assert_true(ping < one && one < two && two < three);
}

int main(void) {
#define LIVE(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)
#define STOPS(test) cmocka_unit_test_setup(test, world_setup)
    const struct CMUnitTest tests[] = {
        LIVE(test_long_poll),
        LIVE(test_hold),
        STOPS(test_stop_with_held_request),
        STOPS(test_stop_with_waiting_request),
        LIVE(test_upload_waits_for_room),
        LIVE(test_addresses),
        LIVE(test_stream),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
