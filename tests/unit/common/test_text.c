/* Text in fixed buffers, against snprintf(). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/text.h"
#include "tests/support/cm.h"

static void numbers_are_as_printf_writes_them(void **state) {
    (void)state;
    const uint64_t values[] = {0, 1, 9, 10, 99, 100, 12345678901234567890U, UINT64_MAX};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char got[64], expected[64];
        struct text text;
        text_begin(&text, got, sizeof got);
        text_add(&text, "<");
        text_add_u64(&text, values[i]);
        text_add(&text, ">");
        (void)snprintf(expected, sizeof expected, "<%" PRIu64 ">", values[i]);
        assert_string_equal(got, expected);
        text_begin(&text, got, sizeof got);
        text_add_tenths(&text, values[i]);
        (void)snprintf(expected, sizeof expected, "%" PRIu64 ".%" PRIu64, values[i] / 10, values[i] % 10);
        assert_string_equal(got, expected);
    }
}

static void what_does_not_fit_is_cut(void **state) {
    (void)state;
    char buffer[9];
    struct text text;
    memset(buffer, 'x', sizeof buffer);
    text_begin(&text, buffer, 1);
    text_add(&text, "anything");
    text_add_u64(&text, 7);
    assert_string_equal(buffer, "");
    assert_int_equal(buffer[1], 'x');
    text_begin(&text, buffer, 8);
    text_add(&text, "abcde");
    text_add_u64(&text, 123);
    text_add_tenths(&text, 4);
    assert_string_equal(buffer, "abcde12");
    assert_int_equal(buffer[8], 'x');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_as_printf_writes_them),
        cmocka_unit_test(what_does_not_fit_is_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
