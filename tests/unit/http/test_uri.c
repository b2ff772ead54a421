/* Request targets: decoding, refusals, limits. */
#include "tests/support/cm.h"

#include <string.h>

#include "server/http/http_uri.h"

static enum status parse(const char *raw, struct http_uri *uri) {
    struct error error = {0};
    return http_uri_parse(raw, uri, &error);
}

static void test_path_and_query(void **state) {
    struct http_uri uri;

    (void)state;
    assert_int_equal(parse("/v1/models?name=a%20b+c&limit=5&flag&name=second", &uri), STATUS_OK);
    assert_string_equal(uri.path, "/v1/models");
    assert_int_equal(uri.query_count, 4);
    assert_string_equal(http_uri_query(&uri, "name"), "a b c");
    assert_string_equal(http_uri_query(&uri, "limit"), "5");
    assert_string_equal(http_uri_query(&uri, "flag"), "");
    assert_null(http_uri_query(&uri, "absent"));
}

static void test_value_keeps_later_equals(void **state) {
    struct http_uri uri;

    (void)state;
    assert_int_equal(parse("/?label=team%3Da=b&&x=%26", &uri), STATUS_OK);
    assert_string_equal(http_uri_query(&uri, "label"), "team=a=b");
    assert_string_equal(http_uri_query(&uri, "x"), "&");
    assert_int_equal(uri.query_count, 2);
}

static void test_absolute_form(void **state) {
    struct http_uri uri;

    (void)state;
    assert_int_equal(parse("http://host:80/a/b?c=d", &uri), STATUS_OK);
    assert_string_equal(uri.path, "/a/b");
    assert_string_equal(http_uri_query(&uri, "c"), "d");
    assert_int_equal(parse("HTTPS://host", &uri), STATUS_OK);
    assert_string_equal(uri.path, "/");
}

static void test_path_escapes(void **state) {
    struct http_uri uri;

    (void)state;
    assert_int_equal(parse("/%61%2Db", &uri), STATUS_OK);
    assert_string_equal(uri.path, "/a-b");
}

static void test_refused(void **state) {
    static const char *const bad[] = {"/a%2Fb", "/a%00b", "/a%0", "/a%",     "/a%zz",  "/a%0Ab",
                                      "*",      "a/b",    "",     "/?q=%00", "/?q=%1", "/?%zz=1"};
    struct http_uri uri;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(parse(bad[i], &uri), STATUS_INVALID);
    }
}

/* Fills `text` with a target of `length` bytes that starts with `start`. */
static void fill(char *text, const char *start, size_t length) {
    size_t used = strlen(start);

    memcpy(text, start, used);
    memset(text + used, 'x', length - used);
    text[length] = '\0';
}

static void test_limits(void **state) {
    static char text[4 * HTTP_QUERY_SIZE];
    struct http_uri uri;

    (void)state;
    fill(text, "/", HTTP_PATH_SIZE - 1);
    assert_int_equal(parse(text, &uri), STATUS_OK);
    fill(text, "/", HTTP_PATH_SIZE);
    assert_int_equal(parse(text, &uri), STATUS_LIMIT);
    fill(text, "/?a=", HTTP_QUERY_SIZE - 10);
    assert_int_equal(parse(text, &uri), STATUS_OK);
    fill(text, "/?a=", 2 * HTTP_QUERY_SIZE);
    assert_int_equal(parse(text, &uri), STATUS_LIMIT);
}

static void test_too_many_items(void **state) {
    char text[3 * HTTP_QUERY_ITEMS_MAX + 8] = "/?";
    struct http_uri uri;
    size_t used = 2;

    (void)state;
    for (int i = 0; i < HTTP_QUERY_ITEMS_MAX; i++) {
        memcpy(text + used, "a&", 2);
        used += 2;
    }
    assert_int_equal(parse(text, &uri), STATUS_OK);
    memcpy(text + used, "a", 2);
    assert_int_equal(parse(text, &uri), STATUS_LIMIT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_path_and_query), cmocka_unit_test(test_value_keeps_later_equals),
        cmocka_unit_test(test_absolute_form),  cmocka_unit_test(test_path_escapes),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_too_many_items),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
