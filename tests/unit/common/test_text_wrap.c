/* Lines that fit. */
#include "common/text_wrap.h"

#include <stdlib.h>

#include "tests/support/cm.h"

static void test_wrap(void **state) {
    static const struct {
        const char *text;
        size_t column, indent, width;
        const char *shown;
    } cases[] = {
        {"one two three", 0, 0, 0, "one two three"},
        {"one two three", 0, 0, 13, "one two three"},
        {"one two three", 0, 0, 12, "one two\nthree"},
        {"one two three", 0, 2, 7, "one two\n  three"},
        {"one two", 6, 2, 8, "\n  one\n  two"},
        {"one two", 4, 4, 8, "one\n    two"},
        {"a-word-longer-than-the-line b", 0, 1, 8, "a-word-longer-than-the-line\n b"},
        {"", 3, 3, 8, ""},
        {"  blanks  between  ", 0, 0, 80, "blanks between"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *out = NULL;
        size_t length = 0;
        FILE *file = open_memstream(&out, &length);
        assert_non_null(file);
        text_wrap(file, cases[i].text, cases[i].column, cases[i].indent, cases[i].width);
        assert_int_equal(fclose(file), 0);
        assert_string_equal(out, cases[i].shown);
        free(out); /* of open_memstream() */
    }
}

static void test_no_terminal(void **state) {
    (void)state;
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(text_terminal_width(file), 0);
    (void)fclose(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_wrap), cmocka_unit_test(test_no_terminal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
