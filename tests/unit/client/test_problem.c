/* problem+json to struct error. */
#include "client/problem.h"

#include <stdio.h>
#include <string.h>

#include "common/json_read.h"
#include "tests/support/cm.h"

static struct error decode(long code, const char *text, enum status *status) {
    struct error error = {0};
    json_t *body = NULL;
    if (text != NULL) {
        assert_int_equal(json_read_text(text, strlen(text), &body, &error), STATUS_OK);
    }
    *status = problem_to_error(code, body, "POST /v1/jobs", &error);
    json_decref(body);
    assert_int_equal(error.status, *status);
    return error;
}

static void test_all_errors_are_kept(void **state) {
    enum status status = STATUS_OK;
    (void)state;
    struct error error = decode(422,
                                "{\"title\": \"Invalid content\", \"detail\": \"failed to read job\", \"errors\": ["
                                "{\"pointer\": \"/seed\", \"detail\": \"got -1, expected 0 or more\"},"
                                "{\"pointer\": \"/method\", \"detail\": \"got fish, expected onp\"}]}",
                                &status);
    assert_int_equal(status, STATUS_INVALID);
    assert_string_equal(error.where, "/seed");
    assert_string_equal(error.message,
                        "failed to read job; got -1, expected 0 or more; /method: got fish, expected onp");
}

static void test_repeated_detail_is_said_once(void **state) {
    enum status status = STATUS_OK;
    (void)state;
    struct error error = decode(422,
                                "{\"detail\": \"failed to lower node\", \"errors\": [{\"pointer\": \"\", \"place\": "
                                "\"node 'conv1'\", \"detail\": \"failed to lower node\"}]}",
                                &status);
    assert_string_equal(error.where, "node 'conv1'");
    assert_string_equal(error.message, "failed to lower node");
}

static void test_codes(void **state) {
    static const struct {
        long code;
        enum status status;
    } cases[] = {{400, STATUS_INVALID},     {401, STATUS_INVALID},  {404, STATUS_NOT_FOUND},
                 {409, STATUS_CONFLICT},    {413, STATUS_LIMIT},    {429, STATUS_UNAVAILABLE},
                 {503, STATUS_UNAVAILABLE}, {500, STATUS_INTERNAL}, {302, STATUS_INTERNAL}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum status status = STATUS_OK;
        struct error error = decode(cases[i].code, NULL, &status);
        assert_int_equal(status, cases[i].status);
        assert_non_null(strstr(error.message, "POST /v1/jobs"));
    }
}

static void test_odd_bodies(void **state) {
    static const char *const bodies[] = {"[]", "3", "{\"errors\": 3}", "{\"errors\": [3, {}, null]}",
                                         "{\"detail\": 7}"};
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        enum status status = STATUS_OK;
        struct error error = decode(422, bodies[i], &status);
        assert_int_equal(status, STATUS_INVALID);
        assert_true(error.message[0] != '\0');
    }
}

static void test_long_text_is_cut(void **state) {
    enum status status = STATUS_OK;
    char text[4096];
    char detail[1500];
    (void)state;
    memset(detail, 'x', sizeof detail - 1);
    detail[sizeof detail - 1] = '\0';
    (void)snprintf(text, sizeof text,
                   "{\"detail\": \"%s\", \"errors\": [{\"pointer\": \"/a\", \"detail\": \"%.1000s y\"}]}", detail,
                   detail);
    struct error error = decode(422, text, &status);
    assert_true(strlen(error.message) > 300);
    assert_string_equal(error.where, "/a");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_errors_are_kept),
        cmocka_unit_test(test_repeated_detail_is_said_once),
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_odd_bodies),
        cmocka_unit_test(test_long_text_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
