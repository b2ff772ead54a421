/* Names of strangers on a terminal. */
#include "client/terminal_text.h"

#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/cm.h"

struct row {
    const char *text;
    size_t columns;
    const char *shown;
    size_t used;
};

static void expect(const struct row *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        char out[64];
        size_t used = terminal_text(out, sizeof out, rows[i].text, rows[i].columns);
        assert_string_equal(out, rows[i].shown);
        assert_int_equal(used, rows[i].used);
    }
}

static void test_plain(void **state) {
    static const struct row rows[] = {
        {"conv1", 10, "conv1", 5},
        {"conv1", 5, "conv1", 5},
        {"convolution", 8, "convo...", 8},
        {NULL, 8, "-", 1},
        {"", 8, "-", 1},
        {"a\033[2Jb\x7f", 20, "a?[2Jb?", 7},
        {"line\nbreak\t", 20, "line?break?", 11},
        {"abcd", 3, "...", 3},
        {"abcd", 2, "..", 2},
    };
    (void)state;
    expect(rows, sizeof rows / sizeof rows[0]);
}

/* Letters of two columns, bytes that are no letters, and marks that turn the direction. */
static void test_letters(void **state) {
    static const struct row rows[] = {
        {"Gr\xc3\xb6\xc3\x9f"
         "e",
         10,
         "Gr\xc3\xb6\xc3\x9f"
         "e",
         5},
        {"\xe6\xa8\xa1\xe5\x9e\x8b", 4, "\xe6\xa8\xa1\xe5\x9e\x8b", 4},
        {"\xe6\xa8\xa1\xe5\x9e\x8b", 3, "...", 3},
        {"a\xe2\x80\xaexnno", 10, "a?xnno", 6},
        {"a\xff\xc3", 10, "a??", 3},
    };
    (void)state;
    if (setlocale(LC_CTYPE, "C.UTF-8") == NULL) {
        skip();
    }
    expect(rows, sizeof rows / sizeof rows[0]);
    (void)setlocale(LC_CTYPE, "C");
}

/* Whatever the room, the text stays in it. */
static void test_room(void **state) {
    static const char text[] = "abcdefghijklmnopqrstuvwxyz";
    (void)state;
    for (size_t size = 5; size < 32; size++) {
        for (size_t columns = 0; columns < 32; columns++) {
            char out[32];
            memset(out, '#', sizeof out);
            size_t used = terminal_text(out, size, text, columns);
            assert_true(used <= columns);
            assert_true(strlen(out) == used);
            assert_true(used < size);
        }
    }
}

/* A pipe is not cut into lines. */
static void test_cells(void **state) {
    char *text = NULL;
    size_t length = 0;
    size_t column = 0;
    (void)state;
    FILE *file = tmpfile();
    assert_non_null(file);
    terminal_cell(file, "one", 5, &column);
    terminal_cell(file, "t\033wo", 1, &column);
    assert_int_equal(column, 11);
    rewind(file);
    FILE *copy = open_memstream(&text, &length);
    assert_non_null(copy);
    for (int c = fgetc(file); c != EOF; c = fgetc(file)) {
        (void)fputc(c, copy);
    }
    (void)fclose(copy);
    (void)fclose(file);
    assert_string_equal(text, "one   t?wo ");
    free(text); /* of open_memstream() */
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_plain), cmocka_unit_test(test_letters),
                                       cmocka_unit_test(test_room), cmocka_unit_test(test_cells)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
