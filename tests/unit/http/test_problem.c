/* Errors to problem documents. */
#include "tests/support/cm.h"

#include <string.h>

#include "server/http/http_problem.h"

static const char *text_of(const json_t *json, const char *name) {
    return json_string_value(json_object_get(json, name));
}

static void test_codes(void **state) {
    (void)state;
    assert_int_equal(http_problem_code(STATUS_INVALID), 422);
    assert_int_equal(http_problem_code(STATUS_UNSUPPORTED), 422);
    assert_int_equal(http_problem_code(STATUS_LIMIT), 413);
    assert_int_equal(http_problem_code(STATUS_NOT_FOUND), 404);
    assert_int_equal(http_problem_code(STATUS_CONFLICT), 409);
    assert_int_equal(http_problem_code(STATUS_UNAVAILABLE), 503);
    assert_int_equal(http_problem_code(STATUS_IO), 500);
    for (int status = 0; status <= STATUS_COUNT; status++) {
        assert_true(http_problem_code((enum status)status) >= 400);
        assert_string_not_equal(http_problem_title(http_problem_code((enum status)status)), "Error");
    }
}

static void test_pointer(void **state) {
    struct error error = {0};
    json_t *problem, *entry;

    (void)state;
    error_set(&error, STATUS_INVALID, "/parameters/seed", "failed to read seed: got -1, expected 0 or more");
    problem = http_problem_make(422, &error, "/v1/jobs");
    assert_non_null(problem);
    assert_string_equal(text_of(problem, "type"), "/problems/invalid");
    assert_string_equal(text_of(problem, "detail"), error.message);
    assert_string_equal(text_of(problem, "instance"), "/v1/jobs");
    assert_int_equal(json_integer_value(json_object_get(problem, "status")), 422);
    entry = json_array_get(json_object_get(problem, "errors"), 0);
    assert_string_equal(text_of(entry, "pointer"), "/parameters/seed");
    assert_string_equal(text_of(entry, "code"), "invalid");
    assert_null(json_object_get(entry, "place"));
    json_decref(problem);
}

static void test_place(void **state) {
    struct error error = {0};
    json_t *problem, *entry;

    (void)state;
    error_set(&error, STATUS_UNSUPPORTED, "node 'loop1'", "failed to lower operator Loop");
    problem = http_problem_make(422, &error, "/v1/models");
    entry = json_array_get(json_object_get(problem, "errors"), 0);
    assert_string_equal(text_of(entry, "pointer"), "");
    assert_string_equal(text_of(entry, "place"), "node 'loop1'");
    assert_string_equal(text_of(entry, "code"), "unsupported");
    json_decref(problem);
}

/* What the system said may name files of ours: clients do not see it. */
static void test_internal_is_hidden(void **state) {
    struct error error = {0};
    json_t *problem;

    (void)state;
    error_set(&error, STATUS_IO, "/var/lib/onp/blobs", "failed to open /var/lib/onp/blobs/ab");
    problem = http_problem_make(500, &error, "/v1/models");
    assert_null(strstr(text_of(problem, "detail"), "/var"));
    assert_null(json_object_get(problem, "errors"));
    json_decref(problem);
}

static void test_not_utf8_is_survived(void **state) {
    struct error error = {0};
    json_t *problem;

    (void)state;
    error_set(&error, STATUS_INVALID, "node '\xff'", "failed to read node '\xff\xfe'");
    problem = http_problem_make(422, &error, "/v1/models");
    assert_non_null(problem);
    json_decref(problem);
}

/* Clients switch on the type: one code, one type, each with words for people. */
static void test_kinds(void **state) {
    size_t count = 0;

    (void)state;
    for (const struct http_problem_kind *kind; (kind = http_problem_kind(count)) != NULL; count++) {
        assert_memory_equal(kind->type, "/problems/", 10);
        assert_true(strlen(kind->meaning) > 20);
        assert_string_equal(http_problem_title(kind->code), kind->title);
        for (size_t i = 0; i < count; i++) {
            assert_int_not_equal(http_problem_kind(i)->code, kind->code);
            assert_string_not_equal(http_problem_kind(i)->type, kind->type);
        }
    }
    assert_true(count > 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_codes),
        cmocka_unit_test(test_pointer),
        cmocka_unit_test(test_place),
        cmocka_unit_test(test_internal_is_hidden),
        cmocka_unit_test(test_not_utf8_is_survived),
        cmocka_unit_test(test_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
