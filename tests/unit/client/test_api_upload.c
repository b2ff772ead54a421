/* Uploads against canned answers: what is sent, and what is made of connections that break. */
#include "client/api_upload.h"

#include <string.h>

#include "common/file.h"
#include "tests/support/cm.h"
#include "tests/unit/client/exchange.h"

#define ABC_SHA256 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define BEGUN                                                                                                          \
    "HTTP/1.1 201 X\r\nConnection: close\r\nLocation: /v1/uploads/upl_01J00000000000000000000000\r\n"                  \
    "Content-Length: 0\r\n\r\n"
#define STANDS_AT(offset)                                                                                              \
    "HTTP/1.1 200 X\r\nConnection: close\r\nUpload-Offset: " offset "\r\nContent-Length: 0\r\n\r\n"
#define TOOK(offset) "HTTP/1.1 204 X\r\nConnection: close\r\nUpload-Offset: " offset "\r\n\r\n"
#define MADE(sha256) "HTTP/1.1 201 X\r\nConnection: close\r\n\r\n{\"id\": \"mdl_x\", \"sha256\": \"" sha256 "\"}"
#define REFUSED(code) "HTTP/1.1 " code " X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
#define BROKEN ""

static enum status upload_abc(struct exchange *exchange, json_t **object, struct error *error) {
    const char *file = scratch_path(&exchange->scratch, "model.onnx");
    assert_int_equal(file_write_atomic(file, "abc", 3, error), STATUS_OK);
    return api_upload_file(exchange->client, "model", "m", file, object, error);
}

static void expect_request(const struct exchange *exchange, size_t i, const char *begins, const char *has) {
    const char *request = canned_server_request(exchange->server, i);
    if (strncmp(request, begins, strlen(begins)) != 0 || strstr(request, has) == NULL) {
        print_error("request %zu is\n%s\nexpected %s and %s\n", i, request, begins, has);
    }
    assert_int_equal(strncmp(request, begins, strlen(begins)), 0);
    assert_non_null(strstr(request, has));
}

static void test_whole(void **state) {
    static const char *const answers[] = {BEGUN, STANDS_AT("0"), TOOK("3"), MADE(ABC_SHA256)};
    struct exchange exchange;
    struct error error = {0};
    json_t *object = NULL;
    (void)state;
    exchange_begin(&exchange, answers, 4);
    assert_int_equal(upload_abc(&exchange, &object, &error), STATUS_OK);
    assert_string_equal(json_string_value(json_object_get(object, "id")), "mdl_x");
    json_decref(object);
    canned_server_join(exchange.server);
    expect_request(&exchange, 0, "POST /v1/uploads HTTP/1.1\r\n", "\r\nUpload-Length: 3\r\n");
    expect_request(&exchange, 0, "POST", "\r\nUpload-Metadata: kind bW9kZWw=,name bQ==\r\n");
    expect_request(&exchange, 0, "POST", "\r\nIdempotency-Key: upload_");
    expect_request(&exchange, 0, "POST", "\r\nAuthorization: Bearer secret\r\n");
    expect_request(&exchange, 1, "HEAD /v1/uploads/upl_01J00000000000000000000000 HTTP/1.1\r\n",
                   "Tus-Resumable: 1.0.0");
    expect_request(&exchange, 2, "PATCH /v1/uploads/upl_", "\r\nContent-Type: application/offset+octet-stream\r\n");
    expect_request(&exchange, 2, "PATCH", "\r\nUpload-Offset: 0\r\n");
    expect_request(&exchange, 2, "PATCH", "\r\n\r\nabc");
    expect_request(&exchange, 3, "POST /v1/uploads/upl_01J00000000000000000000000/complete HTTP/1.1\r\n", "\r\n\r\n");
    exchange_end(&exchange);
}

/* Each kind of request loses its connection once. */
static void test_breaks(void **state) {
    static const char *const answers[] = {BROKEN,         BEGUN,          STANDS_AT("0"),  BROKEN,
                                          STANDS_AT("1"), REFUSED("409"), BROKEN,          STANDS_AT("3"),
                                          BROKEN,         STANDS_AT("3"), MADE(ABC_SHA256)};
    struct exchange exchange;
    struct error error = {0};
    json_t *object = NULL;
    (void)state;
    exchange_begin(&exchange, answers, sizeof answers / sizeof answers[0]);
    assert_int_equal(upload_abc(&exchange, &object, &error), STATUS_OK);
    json_decref(object);
    canned_server_join(exchange.server);
    const char *first = strstr(canned_server_request(exchange.server, 0), "Idempotency-Key: ");
    const char *second = strstr(canned_server_request(exchange.server, 1), "Idempotency-Key: ");
    assert_non_null(first);
    assert_non_null(second);
    assert_int_equal(strncmp(first, second, 80), 0);
    expect_request(&exchange, 5, "PATCH", "\r\nUpload-Offset: 1\r\n");
    expect_request(&exchange, 5, "PATCH", "\r\n\r\nbc");
    expect_request(&exchange, 10, "POST /v1/uploads/upl_01J00000000000000000000000/complete", "\r\n\r\n");
    exchange_end(&exchange);
}

/* What the key stands for has gone: it begins anew, with another. */
static void test_gone(void **state) {
    static const char *const answers[] = {BEGUN, REFUSED("404"), BEGUN, STANDS_AT("0"), TOOK("3"), MADE(ABC_SHA256)};
    struct exchange exchange;
    struct error error = {0};
    json_t *object = NULL;
    (void)state;
    exchange_begin(&exchange, answers, 6);
    assert_int_equal(upload_abc(&exchange, &object, &error), STATUS_OK);
    json_decref(object);
    canned_server_join(exchange.server);
    expect_request(&exchange, 2, "POST /v1/uploads ", "\r\nIdempotency-Key: key_");
    exchange_end(&exchange);
}

/* A file that is refused is not kept on the server. */
static void test_refused(void **state) {
    static const char *const answers[] = {
        BEGUN, STANDS_AT("0"), TOOK("3"),
        "HTTP/1.1 422 X\r\nConnection: close\r\n\r\n{\"detail\": \"failed to read model: got x\"}", TOOK("0")};
    struct exchange exchange;
    struct error error = {0};
    json_t *object = NULL;
    (void)state;
    exchange_begin(&exchange, answers, 5);
    assert_int_equal(upload_abc(&exchange, &object, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "/model.onnx: failed to read model: got x"));
    assert_null(object);
    canned_server_join(exchange.server);
    expect_request(&exchange, 4, "DELETE /v1/uploads/upl_", "Tus-Resumable");
    exchange_end(&exchange);
}

static void test_other_bytes(void **state) {
    static const char *const answers[] = {BEGUN, STANDS_AT("3"), MADE("00")};
    static const char *const strange[] = {
        "HTTP/1.1 201 X\r\nConnection: close\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"};
    static const char *const beyond[] = {BEGUN, STANDS_AT("4")};
    struct exchange exchange;
    struct error error = {0};
    json_t *object = NULL;
    (void)state;
    exchange_begin(&exchange, answers, 3);
    assert_int_equal(upload_abc(&exchange, &object, &error), STATUS_IO);
    assert_non_null(strstr(error.message, "SHA-256"));
    canned_server_join(exchange.server);
    exchange_end(&exchange);
    error_clear(&error);
    exchange_begin(&exchange, strange, 1);
    assert_int_equal(upload_abc(&exchange, &object, &error), STATUS_INVALID);
    canned_server_join(exchange.server);
    exchange_end(&exchange);
    error_clear(&error);
    exchange_begin(&exchange, beyond, 2);
    assert_int_equal(upload_abc(&exchange, &object, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "offset"));
    canned_server_join(exchange.server);
    exchange_end(&exchange);
    assert_null(object);
}

static void test_files(void **state) {
    struct scratch scratch;
    struct error error = {0};
    struct api_client *client = NULL;
    json_t *object = NULL;
    (void)state;
    scratch_make(&scratch);
    const char *empty = scratch_path(&scratch, "empty");
    assert_int_equal(api_client_new("unix:/nowhere/sock", NULL, &client, &error), STATUS_OK);
    assert_int_equal(api_upload_file(client, "model", "m", scratch.path, &object, &error), STATUS_INVALID);
    error_clear(&error);
    assert_int_equal(api_upload_file(client, "model", "m", "/nowhere/at/all", &object, &error), STATUS_IO);
    error_clear(&error);
    assert_int_equal(file_write_atomic(empty, "", 0, &error), STATUS_OK);
    assert_int_equal(api_upload_file(client, "model", "m", empty, &object, &error), STATUS_INVALID);
    error_clear(&error);
    assert_int_equal(file_write_atomic(empty, "abc", 3, &error), STATUS_OK);
    assert_int_equal(api_upload_file(client, "model", "m", empty, &object, &error), STATUS_UNAVAILABLE);
    assert_null(object);
    api_client_free(client);
    scratch_remove(&scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),   cmocka_unit_test(test_breaks),      cmocka_unit_test(test_gone),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_other_bytes), cmocka_unit_test(test_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
