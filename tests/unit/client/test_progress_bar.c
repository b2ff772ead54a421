/* The line of the progress bar, and that a file gets no control characters. */
#include "client/progress_bar.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/cm.h"

static const struct progress_state SEARCH = {
    .label = "search", .fraction = 0.5, .eta_s = 65, .best_reward = -0.25, .message = "mask 12 of 45"};

static void test_plain_letters(void **state) {
    const struct progress_style style = {.width = 90};
    char line[512];
    (void)state;
    progress_bar_format(&SEARCH, 7.25, &style, line, sizeof line);
    assert_string_equal(line, "search     [###############---------------]  50 %  7.2 s  left 1:05  reward -0.250  "
                              "mask 1");
    assert_int_equal(strlen(line), 90);
}

static void test_width_is_kept(void **state) {
    char line[512];
    (void)state;
    for (size_t width = 1; width < 120; width++) {
        const struct progress_style style = {.width = width};
        progress_bar_format(&SEARCH, 3, &style, line, sizeof line);
        assert_true(strlen(line) <= width);
    }
}

static void test_colour_and_unicode(void **state) {
    const struct progress_style style = {.width = 60, .color = true, .unicode = true};
    char line[512];
    (void)state;
    progress_bar_format(&SEARCH, 3, &style, line, sizeof line);
    assert_non_null(strstr(line, "\033[32m\u2588"));
    assert_non_null(strstr(line, "\u2591\033[0m"));
}

static void test_edges(void **state) {
    const struct progress_style style = {.width = 80};
    struct progress_state edge = {.label = "l\033oad", .fraction = 7, .eta_s = -1, .best_reward = NAN};
    char line[512];
    (void)state;
    progress_bar_format(&edge, 0, &style, line, sizeof line);
    assert_null(strstr(line, "-"));
    assert_non_null(strstr(line, "] 100 %"));
    assert_null(strchr(line, '\033'));
    assert_null(strstr(line, "left"));
    assert_null(strstr(line, "reward"));
    edge.fraction = 0.9999; /* 100 % is shown at the end only */
    progress_bar_format(&edge, 0, &style, line, sizeof line);
    assert_non_null(strstr(line, " 99 %"));
    edge.fraction = -1;
    progress_bar_format(&edge, 0, &style, line, sizeof line);
    assert_null(strchr(line, '%'));
}

static void test_seconds(void **state) {
    static const struct {
        double seconds;
        const char *text;
    } cases[] = {{0, "0.0 s"},      {59.4, "59.4 s"}, {59.7, "1:00"}, {65, "1:05"},
                 {3723, "1:02:03"}, {-1, "-"},        {NAN, "-"}};
    char text[32];
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        progress_format_seconds(cases[i].seconds, text, sizeof text);
        assert_string_equal(text, cases[i].text);
    }
}

static void test_file_gets_plain_lines(void **state) {
    char *text = NULL;
    size_t length = 0;
    struct progress_state now = SEARCH;
    (void)state;
    FILE *file = open_memstream(&text, &length);
    assert_non_null(file);
    struct progress_bar *bar = progress_bar_new(file, PROGRESS_AUTO);
    assert_non_null(bar);
    for (int i = 0; i < 50; i++) {
        progress_bar_show(bar, &now);
    }
    now.label = "repair";
    progress_bar_show(bar, &now);
    progress_bar_end(bar, true);
    progress_bar_free(bar);
    bar = progress_bar_new(file, PROGRESS_SILENT);
    assert_non_null(bar);
    progress_bar_show(bar, &now);
    progress_bar_free(bar);
    assert_int_equal(fclose(file), 0);
    assert_null(strchr(text, '\033'));
    assert_null(strchr(text, '\r'));
    const char *second = strchr(text, '\n');
    assert_non_null(second);
    assert_int_equal(strncmp(text, " 50 % search ", 13), 0);
    assert_int_equal(strncmp(second + 1, " 50 % repair ", 13), 0);
    assert_ptr_equal(strrchr(text, '\n'), text + length - 1);
    assert_ptr_equal(strchr(second + 1, '\n'), text + length - 1); /* two lines in all */
    free(text);                                                    /* of open_memstream() */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_letters),
        cmocka_unit_test(test_width_is_kept),
        cmocka_unit_test(test_colour_and_unicode),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_seconds),
        cmocka_unit_test(test_file_gets_plain_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
