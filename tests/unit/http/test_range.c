/* Byte ranges and entity tags. */
#include "tests/support/cm.h"

#include "server/http/http_range.h"

struct range_case {
    const char *header;
    uint64_t size;
    enum http_range_result result;
    uint64_t first, length;
};

static const struct range_case range_cases[] = {
    {NULL, 100, HTTP_RANGE_WHOLE, 0, 0},
    {"bytes=0-0", 100, HTTP_RANGE_PART, 0, 1},
    {"bytes=0-99", 100, HTTP_RANGE_PART, 0, 100},
    {"bytes=10-19", 100, HTTP_RANGE_PART, 10, 10},
    {"bytes=90-1000", 100, HTTP_RANGE_PART, 90, 10},
    {"bytes=50-", 100, HTTP_RANGE_PART, 50, 50},
    {"bytes=-10", 100, HTTP_RANGE_PART, 90, 10},
    {"bytes=-1000", 100, HTTP_RANGE_PART, 0, 100},
    {"bytes=100-", 100, HTTP_RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=100-200", 100, HTTP_RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=-0", 100, HTTP_RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=0-", 0, HTTP_RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=-5", 0, HTTP_RANGE_UNSATISFIABLE, 0, 0},
    {"bytes=20-10", 100, HTTP_RANGE_WHOLE, 0, 0},
    {"bytes=1-2,5-6", 100, HTTP_RANGE_WHOLE, 0, 0},
    {"bytes=", 100, HTTP_RANGE_WHOLE, 0, 0},
    {"bytes=-", 100, HTTP_RANGE_WHOLE, 0, 0},
    {"bytes=a-b", 100, HTTP_RANGE_WHOLE, 0, 0},
    {"bytes=1-2x", 100, HTTP_RANGE_WHOLE, 0, 0},
    {"bytes= 1-2", 100, HTTP_RANGE_WHOLE, 0, 0},
    {"items=1-2", 100, HTTP_RANGE_WHOLE, 0, 0},
    {"bytes=99999999999999999999-", 100, HTTP_RANGE_WHOLE, 0, 0},
    {"bytes=0-18446744073709551615", 100, HTTP_RANGE_PART, 0, 100},
};

static void test_ranges(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(range_cases) / sizeof(range_cases[0]); i++) {
        const struct range_case *c = &range_cases[i];
        uint64_t first = 0, length = 0;
        assert_int_equal(http_range_parse(c->header, c->size, &first, &length), c->result);
        if (c->result == HTTP_RANGE_PART) {
            assert_int_equal(first, c->first);
            assert_int_equal(length, c->length);
        }
    }
}

static void test_etags(void **state) {
    (void)state;
    assert_true(http_etag_matches("\"abc\"", "\"abc\""));
    assert_true(http_etag_matches("W/\"abc\"", "\"abc\""));
    assert_true(http_etag_matches("\"x\", \"abc\" , \"y\"", "\"abc\""));
    assert_true(http_etag_matches("*", "\"abc\""));
    assert_false(http_etag_matches(NULL, "\"abc\""));
    assert_false(http_etag_matches("", "\"abc\""));
    assert_false(http_etag_matches("abc", "\"abc\""));
    assert_false(http_etag_matches("\"abcd\"", "\"abc\""));
    assert_false(http_etag_matches("\"x\"\"abc\"", "\"abc\""));
}

static void test_if_range(void **state) {
    (void)state;
    assert_true(http_if_range_holds(NULL, "\"abc\""));
    assert_true(http_if_range_holds("\"abc\"", "\"abc\""));
    assert_false(http_if_range_holds("W/\"abc\"", "\"abc\""));
    assert_false(http_if_range_holds("Sun, 06 Nov 1994 08:49:37 GMT", "\"abc\""));
}

static void test_if_match(void **state) {
    (void)state;
    assert_true(http_if_match_holds(NULL, "\"a\""));
    assert_true(http_if_match_holds("*", "\"a\""));
    assert_true(http_if_match_holds("\"b\", \"a\"", "\"a\""));
    assert_false(http_if_match_holds("\"b\"", "\"a\""));
    assert_false(http_if_match_holds("W/\"a\"", "\"a\"")); /* a weak tag is never enough */
    assert_false(http_if_match_holds("", "\"a\""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_etags),
        cmocka_unit_test(test_if_range),
        cmocka_unit_test(test_if_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
