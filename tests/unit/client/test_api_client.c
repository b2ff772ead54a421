/* The client's side of HTTP against canned answers over a UNIX socket. */
#include "client/api_client.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/file.h"
#include "common/mem.h"
#include "tests/support/cm.h"
#include "tests/support/scratch.h"
#include "tests/unit/client/canned_server.h"

#define OK_HEAD "HTTP/1.1 200 OK\r\nConnection: close\r\n"

struct fixture {
    struct scratch scratch;
    struct canned_server *server;
    struct api_client *client;
};

static void begin(struct fixture *fixture, const char *const *answers, size_t count) {
    struct error error = {0};
    char address[PATH_MAX + 8];
    scratch_make(&fixture->scratch);
    const char *path = scratch_path(&fixture->scratch, "sock");
    fixture->server = canned_server_start(path, answers, count);
    (void)snprintf(address, sizeof address, "unix:%s", path);
    assert_int_equal(api_client_new(address, "secret", &fixture->client, &error), STATUS_OK);
}

static void end(struct fixture *fixture) {
    api_client_free(fixture->client);
    canned_server_free(fixture->server);
    scratch_remove(&fixture->scratch);
}

static void test_call(void **state) {
    static const char *const answers[] = {
        OK_HEAD "ETag: \"v1\"\r\nContent-Length: 8\r\n\r\n{\"a\": 1}",
        "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nConnection: close\r\n\r\n",
        "HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
    };
    struct fixture fixture;
    struct error error = {0};
    struct api_reply reply;
    (void)state;
    begin(&fixture, answers, 3);
    assert_int_equal(api_client_call(fixture.client, "GET", "/v1/jobs/x", NULL, NULL, 10, &reply, &error), STATUS_OK);
    assert_int_equal(reply.code, 200);
    assert_string_equal(reply.etag, "\"v1\"");
    assert_int_equal(json_integer_value(json_object_get(reply.body, "a")), 1);
    json_decref(reply.body);
    assert_int_equal(api_client_call(fixture.client, "GET", "/v1/jobs/x", NULL, "\"v1\"", 10, &reply, &error),
                     STATUS_OK);
    assert_int_equal(reply.code, 304);
    assert_null(reply.body);
    json_t *body = json_pack("{s:i}", "seed", 7);
    assert_int_equal(api_client_call(fixture.client, "POST", "/v1/jobs", body, NULL, 10, &reply, &error), STATUS_OK);
    json_decref(body);
    json_decref(reply.body);
    canned_server_join(fixture.server);
    assert_non_null(strstr(canned_server_request(fixture.server, 0), "Authorization: Bearer secret\r\n"));
    assert_non_null(strstr(canned_server_request(fixture.server, 1), "If-None-Match: \"v1\"\r\n"));
    assert_int_equal(strncmp(canned_server_request(fixture.server, 2), "POST /v1/jobs HTTP/1.1\r\n", 24), 0);
    assert_non_null(strstr(canned_server_request(fixture.server, 2), "\r\nIdempotency-Key: key_"));
    assert_non_null(strstr(canned_server_request(fixture.server, 2), "\r\n\r\n{\"seed\":7}"));
    end(&fixture);
}

static void test_problem(void **state) {
    static const char *const answers[] = {
        "HTTP/1.1 422 X\r\nConnection: close\r\nContent-Type: application/problem+json\r\n\r\n"
        "{\"detail\": \"no\", \"errors\": [{\"pointer\": \"/seed\", \"detail\": \"got -1\"}]}",
        "HTTP/1.1 500 X\r\nConnection: close\r\n\r\n<html>",
    };
    struct fixture fixture;
    struct error error = {0};
    json_t *body = NULL;
    (void)state;
    begin(&fixture, answers, 2);
    assert_int_equal(api_client_get(fixture.client, "/x", &body, &error), STATUS_INVALID);
    assert_string_equal(error.where, "/seed");
    assert_string_equal(error.message, "no; got -1");
    error_clear(&error);
    assert_int_equal(api_client_get(fixture.client, "/x", &body, &error), STATUS_INTERNAL);
    assert_non_null(strstr(error.message, "500"));
    assert_null(body);
    canned_server_join(fixture.server);
    end(&fixture);
}

/* A server that asks for a moment gets it; the same POST carries the same key. */
static void test_busy_is_tried_again(void **state) {
    static const char *const answers[] = {
        "HTTP/1.1 503 X\r\nConnection: close\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
        OK_HEAD "Content-Length: 2\r\n\r\n{}",
    };
    struct fixture fixture;
    struct error error = {0};
    struct api_reply reply;
    (void)state;
    begin(&fixture, answers, 2);
    assert_int_equal(api_client_call(fixture.client, "POST", "/x", NULL, NULL, 10, &reply, &error), STATUS_OK);
    json_decref(reply.body);
    canned_server_join(fixture.server);
    const char *first = strstr(canned_server_request(fixture.server, 0), "Idempotency-Key: ");
    const char *second = strstr(canned_server_request(fixture.server, 1), "Idempotency-Key: ");
    assert_non_null(first);
    assert_non_null(second);
    assert_int_equal(strncmp(first, second, 40), 0);
    end(&fixture);
}

static void test_upload(void **state) {
    /* SHA-256 of "abc"; then one that is not. */
    static const char *const answers[] = {
        "HTTP/1.1 201 X\r\nConnection: close\r\n\r\n{\"id\": \"mdl_x\", \"sha256\": "
        "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"}",
        "HTTP/1.1 201 X\r\nConnection: close\r\n\r\n{\"id\": \"mdl_x\", \"sha256\": \"00\"}",
    };
    struct fixture fixture;
    struct error error = {0};
    json_t *object = NULL;
    (void)state;
    begin(&fixture, answers, 2);
    const char *file = scratch_path(&fixture.scratch, "model.onnx");
    assert_int_equal(file_write_atomic(file, "abc", 3, &error), STATUS_OK);
    assert_int_equal(api_client_upload(fixture.client, "/v1/models?name=m", file, &object, &error), STATUS_OK);
    assert_string_equal(json_string_value(json_object_get(object, "id")), "mdl_x");
    json_decref(object);
    object = NULL;
    assert_int_equal(api_client_upload(fixture.client, "/v1/models?name=m", file, &object, &error), STATUS_IO);
    assert_null(object);
    assert_non_null(strstr(error.message, "SHA-256"));
    canned_server_join(fixture.server);
    const char *request = canned_server_request(fixture.server, 0);
    assert_int_equal(strncmp(request, "POST /v1/models?name=m HTTP/1.1\r\n", 33), 0);
    assert_non_null(strstr(request, "\r\nContent-Length: 3\r\n"));
    assert_non_null(strstr(request, "\r\n\r\nabc"));
    error_clear(&error);
    assert_int_equal(api_client_upload(fixture.client, "/x", fixture.scratch.path, &object, &error), STATUS_INVALID);
    error_clear(&error);
    assert_int_equal(api_client_upload(fixture.client, "/x", "/nowhere/at/all", &object, &error), STATUS_IO);
    end(&fixture);
}

/* A download that breaks off leaves the old file as it was, and no part of the new. */
static void test_download(void **state) {
    static const char *const answers[] = {
        OK_HEAD "Content-Length: 5\r\n\r\nfresh",
        OK_HEAD "Content-Length: 50\r\n\r\nhalf",
        "HTTP/1.1 404 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    };
    struct fixture fixture;
    struct error error = {0};
    char *text = NULL;
    size_t length = 0;
    char part[PATH_MAX + 32];
    (void)state;
    begin(&fixture, answers, 3);
    const char *file = scratch_path(&fixture.scratch, "out");
    assert_int_equal(api_client_download(fixture.client, "/a", file, &error), STATUS_OK);
    assert_int_equal(api_client_download(fixture.client, "/a", file, &error), STATUS_UNAVAILABLE);
    error_clear(&error);
    assert_int_equal(api_client_download(fixture.client, "/a", file, &error), STATUS_NOT_FOUND);
    error_clear(&error);
    assert_int_equal(file_read(file, 100, &text, &length, &error), STATUS_OK);
    assert_string_equal(text, "fresh");
    mem_free(text);
    (void)snprintf(part, sizeof part, "%s.part-%ld", file, (long)getpid());
    assert_int_not_equal(access(part, F_OK), 0);
    canned_server_join(fixture.server);
    end(&fixture);
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

static bool stop_at_third(void *user, uint64_t done, uint64_t total) {
    struct count *count = user;
    (void)done;
    (void)total;
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
        cmocka_unit_test(test_call),      cmocka_unit_test(test_problem),    cmocka_unit_test(test_busy_is_tried_again),
        cmocka_unit_test(test_upload),    cmocka_unit_test(test_download),   cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_addresses), cmocka_unit_test(test_hook_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
