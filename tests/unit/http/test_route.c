/* The route table: matching, parameters, 404 against 405. */
#include "tests/support/cm.h"

#include <string.h>

#include "server/http/http_route.h"

static void handler(struct http_request *request, void *context) {
    (void)request;
    (void)context;
}

static const struct http_route table[] = {
    {"GET", "/", HTTP_SCOPE_OPEN, HTTP_BODY_NONE, NULL, handler},
    {"GET", "/v1/jobs", HTTP_SCOPE_READ, HTTP_BODY_NONE, NULL, handler},
    {"POST", "/v1/jobs", HTTP_SCOPE_WRITE, HTTP_BODY_JSON, NULL, handler},
    {"GET", "/v1/jobs/{id}", HTTP_SCOPE_READ, HTTP_BODY_NONE, NULL, handler},
    {"DELETE", "/v1/jobs/{id}", HTTP_SCOPE_WRITE, HTTP_BODY_NONE, NULL, handler},
    {"POST", "/v1/jobs/{id}/cancel", HTTP_SCOPE_WRITE, HTTP_BODY_NONE, NULL, handler},
    {"GET", "/v1/jobs/{id}/artifacts/{name}", HTTP_SCOPE_READ, HTTP_BODY_NONE, NULL, handler},
};
enum { ROWS = sizeof(table) / sizeof(table[0]) };

static enum http_match_result match(const char *method, const char *path, struct http_match *out) {
    return http_route_match(table, ROWS, method, path, out);
}

static void test_found(void **state) {
    struct http_match m;

    (void)state;
    assert_int_equal(match("GET", "/", &m), HTTP_MATCH_FOUND);
    assert_int_equal(m.index, 0);
    assert_int_equal(match("POST", "/v1/jobs", &m), HTTP_MATCH_FOUND);
    assert_int_equal(m.index, 2);
    assert_int_equal(match("POST", "/v1/jobs/job_1/cancel", &m), HTTP_MATCH_FOUND);
    assert_int_equal(m.index, 5);
    assert_string_equal(http_match_param(&m, "id"), "job_1");
}

static void test_two_params(void **state) {
    struct http_match m;

    (void)state;
    assert_int_equal(match("GET", "/v1/jobs/job_1/artifacts/model.onnx", &m), HTTP_MATCH_FOUND);
    assert_string_equal(http_match_param(&m, "id"), "job_1");
    assert_string_equal(http_match_param(&m, "name"), "model.onnx");
    assert_null(http_match_param(&m, "nam"));
    assert_null(http_match_param(&m, "i"));
}

static void test_head_is_get(void **state) {
    struct http_match m;

    (void)state;
    assert_int_equal(match("HEAD", "/v1/jobs", &m), HTTP_MATCH_FOUND);
    assert_int_equal(m.index, 1);
    assert_int_equal(match("HEAD", "/v1/jobs/x/cancel", &m), HTTP_MATCH_NO_METHOD);
}

static void test_no_method(void **state) {
    struct http_match m;

    (void)state;
    assert_int_equal(match("PATCH", "/v1/jobs", &m), HTTP_MATCH_NO_METHOD);
    assert_string_equal(m.allow, "GET, HEAD, POST");
    assert_int_equal(match("get", "/v1/jobs/x", &m), HTTP_MATCH_NO_METHOD);
    assert_string_equal(m.allow, "GET, HEAD, DELETE");
    assert_int_equal(m.param_count, 0);
}

static void test_no_path(void **state) {
    static const char *const paths[] = {"/v1",        "/v1/jobs/",         "/v1/jobs//cancel", "/v1/jobs/a/b",
                                        "/v1/jobs/.", "/v1/jobs/..",       "/v1/jobs/a b",     "/v1/jobs/\xc3\xa4",
                                        "/v1/JOBS",   "/v1/jobs/x/cancel/"};
    struct http_match m;

    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        assert_int_equal(match("GET", paths[i], &m), HTTP_MATCH_NO_PATH);
    }
}

static void test_long_param(void **state) {
    char path[HTTP_PARAM_SIZE + 32] = "/v1/jobs/";
    size_t start = strlen(path);
    struct http_match m;

    (void)state;
    memset(path + start, 'a', HTTP_PARAM_SIZE - 1);
    assert_int_equal(match("GET", path, &m), HTTP_MATCH_FOUND);
    assert_int_equal(strlen(http_match_param(&m, "id")), HTTP_PARAM_SIZE - 1);
    path[start + HTTP_PARAM_SIZE - 1] = 'a';
    assert_int_equal(match("GET", path, &m), HTTP_MATCH_NO_PATH);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_found),     cmocka_unit_test(test_two_params), cmocka_unit_test(test_head_is_get),
        cmocka_unit_test(test_no_method), cmocka_unit_test(test_no_path),    cmocka_unit_test(test_long_param),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
