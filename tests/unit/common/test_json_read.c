/* JSON readers: strictness, pointers, unknown members, depth. */
#include <math.h>
#include <string.h>

#include "common/json_read.h"
#include "tests/support/cm.h"

static json_t *parse(const char *text) {
    json_t *value = NULL;
    struct error error = {0};
    assert_int_equal(json_read_text(text, strlen(text), &value, &error), STATUS_OK);
    assert_non_null(value);
    return value;
}

static void text_is_parsed_strictly(void **state) {
    (void)state;
    static const char *const WRONG[] = {
        "",        "{",     "{\"a\":1,\"a\":2}", "[1,]",     "{} x", "nul",
        "{'a':1}", "[NaN]", "\"\\u0000\"",       "\"\xff\"", "[01]", "99999999999999999999"};
    for (size_t i = 0; i < sizeof WRONG / sizeof WRONG[0]; i++) {
        json_t *value = NULL;
        struct error error = {0};
        assert_int_equal(json_read_text(WRONG[i], strlen(WRONG[i]), &value, &error), STATUS_INVALID);
        assert_null(value);
        assert_memory_equal(error.where, "line ", 5);
    }
    struct error error = {0};
    json_t *value = NULL;
    assert_int_equal(json_read_text("{\n \"a\": ?\n}", 11, &value, &error), STATUS_INVALID);
    assert_string_equal(error.where, "line 2 column 7");
    value = parse("3");
    assert_int_equal(json_integer_value(value), 3);
    json_decref(value);
}

static void depth_is_limited(void **state) {
    (void)state;
    char text[131];
    json_t *value = NULL;
    struct error error = {0};
    memset(text, '[', 64);
    memset(text + 64, ']', 64);
    assert_int_equal(json_read_text(text, 128, &value, &error), STATUS_OK);
    json_decref(value);
    value = NULL;
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    assert_int_equal(json_read_text(text, 130, &value, &error), STATUS_LIMIT);
    assert_string_equal(error.where, "line 1 column 65");
    assert_null(value);
    /* Brackets in strings, also behind escaped quotes, are no levels. */
    char quoted[110];
    memset(quoted, '[', sizeof quoted);
    memcpy(quoted, "[\"\\\"", 4);
    memcpy(quoted + 100, "\\\\\"]", 4);
    error_clear(&error);
    assert_int_equal(json_read_text(quoted, 104, &value, &error), STATUS_OK);
    json_decref(value);
}

static void members_are_read_with_defaults(void **state) {
    (void)state;
    json_t *value = parse("{\"s\":\"text\",\"u\":7,\"i\":-3,\"d\":2,\"e\":0.5,\"b\":true,\"o\":{},\"a\":[1]}");
    struct error error = {0};
    struct json_reader r;
    const char *s = NULL;
    uint64_t u = 0;
    int64_t i = 0;
    double d = 0.0;
    double e = 0.0;
    bool b = false;
    json_t *o = NULL;
    json_t *a = NULL;
    uint64_t absent = 55;
    assert_int_equal(json_reader_init(&r, value, "", &error), STATUS_OK);
    assert_int_equal(json_get_string(&r, "s", JSON_REQUIRED, 4, &s), STATUS_OK);
    assert_int_equal(json_get_u64(&r, "u", JSON_REQUIRED, 7, 7, &u), STATUS_OK);
    assert_int_equal(json_get_i64(&r, "i", JSON_REQUIRED, -3, 0, &i), STATUS_OK);
    assert_int_equal(json_get_double(&r, "d", JSON_REQUIRED, 0.0, 2.0, &d), STATUS_OK);
    assert_int_equal(json_get_double(&r, "e", JSON_OPTIONAL, -INFINITY, INFINITY, &e), STATUS_OK);
    assert_int_equal(json_get_bool(&r, "b", JSON_REQUIRED, &b), STATUS_OK);
    assert_int_equal(json_get_object(&r, "o", JSON_REQUIRED, &o), STATUS_OK);
    assert_int_equal(json_get_array(&r, "a", JSON_REQUIRED, &a), STATUS_OK);
    assert_int_equal(json_get_u64(&r, "absent", JSON_OPTIONAL, 0, 1, &absent), STATUS_OK);
    assert_int_equal(json_reader_finish(&r), STATUS_OK);
    assert_string_equal(s, "text");
    assert_int_equal(u, 7);
    assert_int_equal(i, -3);
    assert_true(d == 2.0 && e == 0.5 && b);
    assert_true(json_is_object(o) && json_array_size(a) == 1);
    assert_int_equal(absent, 55);
    assert_int_equal(error.status, STATUS_OK);
    json_decref(value);
}

/* One wrong member: asks for it as `kind` and checks pointer and message. */
static void expect_wrong(const char *text, char kind, const char *message) {
    json_t *value = parse(text);
    struct error error = {0};
    struct json_reader r;
    enum status status = STATUS_OK;
    const char *s = "default";
    uint64_t u = 55;
    int64_t i = 55;
    double d = 55.0;
    bool b = true;
    json_t *j = NULL;
    assert_int_equal(json_reader_init(&r, value, "/parameters", &error), STATUS_OK);
    switch (kind) {
    case 's':
        status = json_get_string(&r, "x", JSON_REQUIRED, 3, &s);
        break;
    case 'u':
        status = json_get_u64(&r, "x", JSON_REQUIRED, 1, 10, &u);
        break;
    case 'i':
        status = json_get_i64(&r, "x", JSON_REQUIRED, -5, 5, &i);
        break;
    case 'd':
        status = json_get_double(&r, "x", JSON_REQUIRED, 0.0, 1.0, &d);
        break;
    case 'b':
        status = json_get_bool(&r, "x", JSON_REQUIRED, &b);
        break;
    case 'o':
        status = json_get_object(&r, "x", JSON_REQUIRED, &j);
        break;
    default:
        status = json_get_array(&r, "x", JSON_REQUIRED, &j);
        break;
    }
    assert_int_equal(status, STATUS_INVALID);
    assert_int_equal(error.status, STATUS_INVALID);
    assert_string_equal(error.where, "/parameters/x");
    assert_string_equal(error.message, message);
    assert_int_equal(json_reader_finish(&r), STATUS_INVALID);
    assert_true(u == 55 && i == 55 && d == 55.0 && b && j == NULL);
    assert_string_equal(s, "default");
    json_decref(value);
}

static void wrong_members_are_named(void **state) {
    (void)state;
    expect_wrong("{}", 'u', "failed to read member x: got nothing, expected an integer from 1 to 10");
    expect_wrong("{\"x\":0}", 'u', "failed to read member x: got 0, expected an integer from 1 to 10");
    expect_wrong("{\"x\":11}", 'u', "failed to read member x: got 11, expected an integer from 1 to 10");
    expect_wrong("{\"x\":-1}", 'u', "failed to read member x: got -1, expected an integer from 1 to 10");
    expect_wrong("{\"x\":1.0}", 'u', "failed to read member x: got 1, expected an integer from 1 to 10");
    expect_wrong("{\"x\":\"1\"}", 'u',
                 "failed to read member x: got the string \"1\", expected an integer from 1 to 10");
    expect_wrong("{\"x\":-6}", 'i', "failed to read member x: got -6, expected an integer from -5 to 5");
    expect_wrong("{\"x\":null}", 'i', "failed to read member x: got null, expected an integer from -5 to 5");
    expect_wrong("{\"x\":1.5}", 'd', "failed to read member x: got 1.5, expected a number from 0 to 1");
    expect_wrong("{\"x\":true}", 'd', "failed to read member x: got true, expected a number from 0 to 1");
    expect_wrong("{\"x\":\"long\"}", 's',
                 "failed to read member x: got the string \"long\", expected a string of at most 3 bytes");
    expect_wrong("{\"x\":[]}", 's', "failed to read member x: got an array, expected a string of at most 3 bytes");
    expect_wrong("{\"x\":1}", 'b', "failed to read member x: got 1, expected true or false");
    expect_wrong("{\"x\":[]}", 'o', "failed to read member x: got an array, expected an object");
    expect_wrong("{\"x\":{}}", 'a', "failed to read member x: got an object, expected an array");
}

static void unknown_members_are_refused(void **state) {
    (void)state;
    json_t *value = parse("{\"seed\":1,\"se/e~d\":2}");
    struct error error = {0};
    struct json_reader r;
    uint64_t seed = 0;
    assert_int_equal(json_reader_init(&r, value, "/parameters", &error), STATUS_OK);
    assert_int_equal(json_get_u64(&r, "seed", JSON_OPTIONAL, 0, 9, &seed), STATUS_OK);
    assert_int_equal(json_reader_finish(&r), STATUS_INVALID);
    assert_string_equal(error.where, "/parameters/se~1e~0d");
    json_decref(value);
}

static void the_first_error_wins(void **state) {
    (void)state;
    json_t *value = parse("{\"a\":true,\"b\":\"x\",\"c\":1}");
    struct error error = {0};
    struct json_reader r;
    uint64_t u = 0;
    assert_int_equal(json_reader_init(&r, value, "", &error), STATUS_OK);
    assert_int_equal(json_get_u64(&r, "a", JSON_OPTIONAL, 0, 9, &u), STATUS_INVALID);
    assert_int_equal(json_get_u64(&r, "b", JSON_OPTIONAL, 0, 9, &u), STATUS_INVALID);
    assert_int_equal(json_get_u64(&r, "c", JSON_OPTIONAL, 0, 9, &u), STATUS_OK);
    assert_int_equal(json_reader_finish(&r), STATUS_INVALID);
    assert_string_equal(error.where, "/a");
    /* The reader remembers even if the caller gave no record. */
    assert_int_equal(json_reader_init(&r, value, "", NULL), STATUS_OK);
    (void)json_get_u64(&r, "a", JSON_OPTIONAL, 0, 9, &u);
    assert_int_equal(json_reader_finish(&r), STATUS_INVALID);
    json_decref(value);
}

static void only_objects_are_read(void **state) {
    (void)state;
    json_t *value = parse("[1]");
    struct error error = {0};
    struct json_reader r;
    uint64_t u = 5;
    assert_int_equal(json_reader_init(&r, value, "/list/0", &error), STATUS_INVALID);
    assert_string_equal(error.where, "/list/0");
    assert_int_equal(json_get_u64(&r, "a", JSON_REQUIRED, 0, 9, &u), STATUS_INVALID);
    assert_int_equal(json_reader_finish(&r), STATUS_INVALID);
    error_clear(&error);
    assert_int_equal(json_reader_init(&r, NULL, "", &error), STATUS_INVALID);
    assert_int_equal(u, 5);
    json_decref(value);
}

static void long_names_are_cut(void **state) {
    (void)state;
    char name[1000];
    struct error error = {0};
    struct json_reader r;
    memset(name, '~', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    json_t *value = json_object();
    assert_int_equal(json_object_set_new(value, name, json_null()), 0);
    assert_int_equal(json_reader_init(&r, value, name, &error), STATUS_OK);
    assert_int_equal(json_reader_finish(&r), STATUS_INVALID);
    assert_in_range(strlen(error.where), ERROR_WHERE_MAX - 4, ERROR_WHERE_MAX - 1);
    json_decref(value);
}

static void reals_that_are_none_become_null(void **state) {
    (void)state;
    const double values[] = {1.5, NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 4; i++) {
        json_t *value = json_real_or_null(values[i]);
        assert_non_null(value);
        assert_true(json_is_real(value) == (i == 0) && json_is_null(value) == (i != 0));
        json_decref(value);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_parsed_strictly),         cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(members_are_read_with_defaults),  cmocka_unit_test(wrong_members_are_named),
        cmocka_unit_test(unknown_members_are_refused),     cmocka_unit_test(the_first_error_wins),
        cmocka_unit_test(only_objects_are_read),           cmocka_unit_test(long_names_are_cut),
        cmocka_unit_test(reals_that_are_none_become_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
