/* The client's side of HTTP against canned answers over a UNIX socket. */
#include "client/api_client.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/cm.h"
#include "tests/unit/client/exchange.h"

static void test_call(void **state) {
    static const char *const answers[] = {
        OK_HEAD "ETag: \"v1\"\r\nContent-Length: 8\r\n\r\n{\"a\": 1}",
        "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
    };
    struct exchange exchange;
    struct error error = {0};
    struct api_reply reply;
    (void)state;
    exchange_begin(&exchange, answers, 3);
    assert_int_equal(api_client_call(exchange.client, "GET", "/v1/jobs/x", NULL, NULL, 10, &reply, &error), STATUS_OK);
    assert_int_equal(reply.code, 200);
    assert_string_equal(reply.etag, "\"v1\"");
    assert_int_equal(json_integer_value(json_object_get(reply.body, "a")), 1);
    json_decref(reply.body);
    assert_int_equal(api_client_call(exchange.client, "GET", "/v1/jobs/x", NULL, "\"v1\"", 10, &reply, &error),
                     STATUS_OK);
    assert_int_equal(reply.code, 304);
    assert_null(reply.body);
    json_t *body = json_pack("{s:i}", "seed", 7);
    assert_int_equal(api_client_call(exchange.client, "POST", "/v1/jobs", body, NULL, 10, &reply, &error), STATUS_OK);
    json_decref(body);
    json_decref(reply.body);
    canned_server_join(exchange.server);
    assert_non_null(strstr(canned_server_request(exchange.server, 0), "Authorization: Bearer secret\r\n"));
    assert_non_null(strstr(canned_server_request(exchange.server, 1), "If-None-Match: \"v1\"\r\n"));
    assert_int_equal(strncmp(canned_server_request(exchange.server, 2), "POST /v1/jobs HTTP/1.1\r\n", 24), 0);
    assert_non_null(strstr(canned_server_request(exchange.server, 2), "\r\nIdempotency-Key: key_"));
    assert_non_null(strstr(canned_server_request(exchange.server, 2), "\r\n\r\n{\"seed\":7}"));
    exchange_end(&exchange);
}

static void test_problem(void **state) {
    static const char *const answers[] = {
        "HTTP/1.1 422 X\r\nConnection: close\r\nContent-Type: application/problem+json\r\n\r\n"
        "{\"detail\": \"no\", \"errors\": [{\"pointer\": \"/seed\", \"detail\": \"got -1\"}]}",
        "HTTP/1.1 500 X\r\nConnection: close\r\n\r\n<html>",
    };
    struct exchange exchange;
    struct error error = {0};
    json_t *body = NULL;
    (void)state;
    exchange_begin(&exchange, answers, 2);
    assert_int_equal(api_client_get(exchange.client, "/x", &body, &error), STATUS_INVALID);
    assert_string_equal(error.where, "/seed");
    assert_string_equal(error.message, "no; got -1");
    error_clear(&error);
    assert_int_equal(api_client_get(exchange.client, "/x", &body, &error), STATUS_INTERNAL);
    assert_non_null(strstr(error.message, "500"));
    assert_null(body);
    canned_server_join(exchange.server);
    exchange_end(&exchange);
}

/* A server that asks for a moment gets it; the same POST carries the same key. */
static void test_busy_is_tried_again(void **state) {
    static const char *const answers[] = {
        "HTTP/1.1 503 X\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
        OK_HEAD "Content-Length: 2\r\n\r\n{}",
    };
    struct exchange exchange;
    struct error error = {0};
    struct api_reply reply;
    (void)state;
    exchange_begin(&exchange, answers, 2);
    assert_int_equal(api_client_call(exchange.client, "POST", "/x", NULL, NULL, 10, &reply, &error), STATUS_OK);
    json_decref(reply.body);
    canned_server_join(exchange.server);
    const char *first = strstr(canned_server_request(exchange.server, 0), "Idempotency-Key: ");
    const char *second = strstr(canned_server_request(exchange.server, 1), "Idempotency-Key: ");
    assert_non_null(first);
    assert_non_null(second);
    assert_int_equal(strncmp(first, second, 40), 0);
    exchange_end(&exchange);
}

/* The answer to a POST is lost: it is sent again, with the same key, and a conflict with the first one is waited out. */
static void test_lost_answer(void **state) {
    static const char *const answers[] = {
        "",
        "HTTP/1.1 409 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 202 X\r\nConnection: close\r\nContent-Length: 12\r\n\r\n{\"id\": \"j1\"}",
    };
    struct exchange exchange;
    struct error error = {0};
    struct api_reply reply;
    (void)state;
    exchange_begin(&exchange, answers, 3);
    json_t *body = json_pack("{s:i}", "seed", 7);
    assert_int_equal(api_client_post(exchange.client, "/v1/jobs", body, "build-17", &reply, &error), STATUS_OK);
    assert_string_equal(json_string_value(json_object_get(reply.body, "id")), "j1");
    json_decref(reply.body);
    json_decref(body);
    canned_server_join(exchange.server);
    for (size_t i = 0; i < 3; i++) {
        const char *request = canned_server_request(exchange.server, i);
        assert_non_null(strstr(request, "\r\nIdempotency-Key: build-17\r\n"));
        assert_non_null(strstr(request, "\r\n\r\n{\"seed\":7}"));
    }
    exchange_end(&exchange);
}

/* A conflict of the first try is an answer; and without patience a lost connection is one, too. */
static void test_no_second_try(void **state) {
    static const char *const answers[] = {
        "HTTP/1.1 409 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        "",
    };
    struct exchange exchange;
    struct error error = {0};
    struct api_reply reply;
    (void)state;
    exchange_begin(&exchange, answers, 2);
    assert_int_equal(api_client_call(exchange.client, "POST", "/x", NULL, NULL, 10, &reply, &error), STATUS_CONFLICT);
    error_clear(&error);
    api_client_set_patience(exchange.client, 0);
    assert_int_equal(api_client_call(exchange.client, "POST", "/x", NULL, NULL, 10, &reply, &error),
                     STATUS_UNAVAILABLE);
    canned_server_join(exchange.server);
    exchange_end(&exchange);
}

static void test_nobody_there(void **state) {
    struct error error = {0};
    struct api_client *client = NULL;
    json_t *body = NULL;
    (void)state;
    assert_int_equal(api_client_new("unix:/nowhere/sock", NULL, &client, &error), STATUS_OK);
    assert_int_equal(api_client_get(client, "/x", &body, &error), STATUS_UNAVAILABLE);
    assert_string_equal(error.where, "unix:/nowhere/sock");
    api_client_free(client);
}

static void test_addresses(void **state) {
    static const struct {
        const char *server;
        enum status status;
    } cases[] = {{"http://h:1", STATUS_OK},      {"https://h", STATUS_OK}, {"h:8080", STATUS_OK},
                 {"unix:/a", STATUS_OK},         {"unix:///a", STATUS_OK}, {"http+unix://%2Fa", STATUS_OK},
                 {"ftp://h", STATUS_INVALID},    {"", STATUS_INVALID},     {"/a", STATUS_INVALID},
                 {"http://[::1]:80/", STATUS_OK}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error error = {0};
        struct api_client *client = NULL;
        assert_int_equal(api_client_new(cases[i].server, NULL, &client, &error), cases[i].status);
        assert_true((client != NULL) == (cases[i].status == STATUS_OK));
        api_client_free(client);
    }
    struct error error = {0};
    struct api_client *client = NULL;
    assert_int_equal(api_client_new("h:1", "a\r\nX: y", &client, &error), STATUS_INVALID);
    assert_null(client);
}

struct count {
    int ticks;
};

static bool stop_at_third(void *user, uint64_t done, uint64_t total, bool waiting) {
    struct count *count = user;
    (void)done;
    (void)total;
    (void)waiting;
    return ++count->ticks < 3;
}

/* A hook stops a call that nobody answers: the socket listens, but no one accepts. */
static void test_hook_stops(void **state) {
    struct scratch scratch;
    struct error error = {0};
    struct count count = {0};
    const struct api_hooks hooks = {.user = &count, .tick = stop_at_third};
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    struct api_client *client = NULL;
    char address[PATH_MAX + 8];
    json_t *body = NULL;
    (void)state;
    scratch_make(&scratch);
    (void)snprintf(place.sun_path, sizeof place.sun_path, "%.90s/sock", scratch.path);
    (void)snprintf(address, sizeof address, "unix:%s", place.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&place, sizeof place), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(api_client_new(address, NULL, &client, &error), STATUS_OK);
    api_client_set_hooks(client, &hooks);
    assert_int_equal(api_client_get(client, "/x", &body, &error), STATUS_CANCELLED);
    assert_int_equal(count.ticks, 3);
    api_client_free(client);
    (void)close(fd);
    scratch_remove(&scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_call),
        cmocka_unit_test(test_problem),
        cmocka_unit_test(test_busy_is_tried_again),
        cmocka_unit_test(test_lost_answer),
        cmocka_unit_test(test_no_second_try),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_hook_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
