/* The printed report: what stands in it, and that hostile or missing members do no harm. */
#include "client/report_view.h"

#include <stdlib.h>
#include <string.h>

#include "client/report_fields.h"
#include "common/json_read.h"
#include "tests/support/cm.h"

static const char REPORT[] =
    "{\"schema\": 1, \"method\": \"onp\", \"seed\": 7, \"verdict\": \"removed\", \"model\": {\"units\": 1200},"
    " \"accuracy\": {\"before\": 0.834, \"after\": 0.814, \"interval_after\": [0.78, 0.86]},"
    " \"exposure\": {\"classes\": [{\"class\": 0, \"family\": \"patch\", \"size_before\": 3.1, \"anomaly_before\": "
    "8.2},"
    " {\"class\": 1, \"family\": \"patch\", \"size_before\": 31, \"anomaly_before\": 4.1}], \"suspects\": [0]},"
    " \"probe\": {\"asr_before\": 1.0, \"asr_after\": 0.015, \"recovery_before\": 0, \"recovery_after\": 0.832, "
    "\"der\": 0.98},"
    " \"pruned\": [{\"layer\": \"conv\\u001b[2J\", \"channels\": [3, 17]}], \"pruned_units\": 2,"
    " \"search\": {\"evaluations\": 345, \"reward\": {\"none\": -5, \"best\": -0.1}, \"curve\": [{\"best\": -5}, "
    "{\"best\": -1}, {\"best\": -0.5}]},"
    " \"seconds\": {\"expose\": 20, \"search\": 30, \"total\": 61.5}}";

static char *render_at(const char *text, size_t width) {
    const struct progress_style style = {.width = width};
    struct error error = {0};
    json_t *report = NULL;
    char *out = NULL;
    size_t length = 0;
    assert_int_equal(json_read_text(text, strlen(text), &report, &error), STATUS_OK);
    FILE *file = open_memstream(&out, &length);
    assert_non_null(file);
    report_view_full(file, report, &style);
    assert_int_equal(fclose(file), 0);
    json_decref(report);
    return out;
}

static char *render(const char *text) {
    return render_at(text, 80);
}

static void test_figures(void **state) {
    static const char *const lines[] = {
        "  accuracy                   83.4 %     81.4 %   (95 %: 78.0 to 86.0)\n",
        "  attack success            100.0 %      1.5 %\n",
        "  recovery                    0.0 %     83.2 %\n",
        "  pruned units                               2   of 1200\n",
        "  time                                    1:02\n",
        "  verdict                removed   (onp, seed 7)\n",
        "      0  patch         3.100     8.200         -         -  ########### suspect\n",
        "      1  patch        31.000     4.100         -         -  ######\n",
        "  conv?[2J                                2: 3 17\n",
        "  masks evaluated               345\n",
        "  best so far            _##  -5.000 to -0.500\n",
        "  search                      30.00  ############\n",
    };
    (void)state;
    char *text = render(REPORT);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (strstr(text, lines[i]) == NULL) {
            print_error("missing: %sin:\n%s", lines[i], text);
        }
        assert_non_null(strstr(text, lines[i]));
    }
    assert_null(strchr(text, '\033'));
    free(text); /* of open_memstream() */
}

/* No line passes the width, from narrow to wide. */
static void test_widths(void **state) {
    static const char wide[] =
        "{\"verdict\": \"no_backdoor_found\", \"method\": \"onp\", \"seed\": 7, \"accuracy\": {\"before\": 1, "
        "\"after\": 1, \"interval_after\": [0.964, 1], \"locked_before\": 1, \"locked_after\": 1}, \"exposure\": "
        "{\"classes\": [{\"class\": 999, \"family\": \"additive\", \"size_before\": 1234.5, \"anomaly_before\": "
        "-12.25, "
        "\"size_after\": 1234.5, \"anomaly_after\": 12.25}], \"suspects\": [999], \"all_to_all\": {\"suspect\": true, "
        "\"family\": \"patch\"}}, \"pruned\": [{\"layer\": "
        "\"a/layer/with/a/very/long/name/that/passes/any/line/there/is\", "
        "\"channels\": [1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009]}], \"pruned_units\": 10, "
        "\"search\": {\"reward\": {\"none\": -16.55}, \"curve\": [{\"best\": -16}, {\"best\": -3}, {\"best\": -2}, "
        "{\"best\": -1}, {\"best\": -0.5}, {\"best\": -0.4}]}, \"seconds\": {\"search\": 10, \"total\": 10}}";
    static const size_t widths[] = {40, 72, 80, 200};
    (void)state;
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++) {
        for (int which = 0; which < 2; which++) {
            char *text = render_at(which == 0 ? REPORT : wide, widths[i]);
            for (const char *line = text; *line != '\0'; line += strcspn(line, "\n") + 1) {
                size_t length = strcspn(line, "\n");
                if (length > widths[i]) {
                    print_error("%zu columns: %.*s\n", length, (int)length, line);
                }
                assert_true(length <= widths[i]);
            }
            assert_non_null(strstr(text, "suspect"));
            free(text); /* of open_memstream() */
        }
    }
}

static void test_no_probe(void **state) {
    (void)state;
    char *text = render("{\"probe\": null, \"accuracy\": {\"before\": 1, \"after\": 1}}");
    assert_non_null(strstr(text, "no probe was given"));
    assert_null(strstr(text, "recovery"));
    free(text); /* of open_memstream() */
}

static void test_odd_reports(void **state) {
    static const char *const reports[] = {
        "{}",
        "[]",
        "{\"verdict\": 3, \"accuracy\": [], \"probe\": {}, \"pruned\": 3, \"search\": 4, \"seconds\": 5}",
        "{\"exposure\": {\"classes\": [1, null, {}], \"suspects\": {}}, \"pruned\": [null, {\"channels\": \"x\"}]}",
        "{\"search\": {\"curve\": [null, \"x\", 1, {\"best\": null}, {\"best\": 1}]}}",
        "{\"seconds\": {\"total\": 1, \"search\": 50, \"load\": -3}}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof reports / sizeof reports[0]; i++) {
        char *text = render(reports[i]);
        assert_non_null(strstr(text, "verdict"));
        free(text); /* of open_memstream() */
    }
}

static void test_field_names(void **state) {
    (void)state;
    for (size_t i = 0; report_field_at(i) != NULL; i++) {
        assert_ptr_equal(report_field_find(report_field_at(i)->name), report_field_at(i));
    }
    assert_null(report_field_find("nothing"));
    assert_string_equal(report_field_nearest("recovery_afetr"), "recovery_after");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures),     cmocka_unit_test(test_widths),      cmocka_unit_test(test_no_probe),
        cmocka_unit_test(test_odd_reports), cmocka_unit_test(test_field_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
