/* The page of a report: the figures stand in it, an attacker's names do no harm, odd reports make a page. */
#include "client/report_html.h"

#include <string.h>

#include "common/json_read.h"
#include "common/mem.h"
#include "tests/support/cm.h"

static const char REPORT[] =
    "{\"method\": \"onp\", \"seed\": 7, \"verdict\": \"removed\", \"model\": {\"units\": 1200},"
    " \"accuracy\": {\"before\": 0.834, \"after\": 0.814, \"interval_after\": [0.78, 0.86]},"
    " \"exposure\": {\"classes\": [{\"class\": 0, \"family\": \"patch\", \"size_before\": 3.1, \"anomaly_before\": "
    "8.2},"
    " {\"class\": 1, \"family\": \"patch\", \"size_before\": 31, \"anomaly_before\": 4.1}], \"suspects\": [0]},"
    " \"probe\": {\"asr_before\": 1.0, \"asr_after\": 0.015, \"recovery_before\": 0, \"recovery_after\": 0.832, "
    "\"der\": 0.98},"
    " \"pruned\": [{\"layer\": \"</td><script>alert(1)</script>\\u001b\\\"'&\", \"channels\": [3, 17]}], "
    "\"pruned_units\": 2, \"search\": {\"evaluations\": 345, \"reward\": {\"none\": -5, \"best\": -0.1},"
    " \"curve\": [{\"best\": -5}, {\"best\": -1}, {\"best\": -0.5}]},"
    " \"seconds\": {\"expose\": 20, \"search\": 30, \"total\": 61.5}}";

static char *render(const char *text) {
    struct error error = {0};
    json_t *report = NULL;
    struct buf page;
    buf_init(&page, 1 << 20);
    assert_int_equal(json_read_text(text, strlen(text), &report, &error), STATUS_OK);
    report_html_write(&page, report);
    json_decref(report);
    assert_false(page.failed);
    return buf_take(&page);
}

/* Every tag that is opened is closed, in order, and is one of ours. */
static void expect_well_formed(const char *page) {
    static const char *const empty[] = {"!DOCTYPE", "meta", "rect", "line", "polyline"};
    static const char *const paired[] = {"html", "head", "title", "style", "body",  "h1", "h2", "p",  "strong", "span",
                                         "bdi",  "div",  "table", "thead", "tbody", "tr", "th", "td", "svg",    "text"};
    const char *open[32];
    size_t depth = 0;
    for (const char *at = strchr(page, '<'); at != NULL; at = strchr(at + 1, '<')) {
        bool closes = at[1] == '/';
        const char *name = at + 1 + (closes ? 1 : 0);
        size_t length = strcspn(name, " >/");
        bool known = false;
        for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
            known = known || (strlen(empty[i]) == length && strncmp(name, empty[i], length) == 0);
        }
        for (size_t i = 0; i < sizeof paired / sizeof paired[0] && !known; i++) {
            if (strlen(paired[i]) != length || strncmp(name, paired[i], length) != 0) {
                continue;
            }
            known = true;
            if (!closes) {
                assert_true(depth < sizeof open / sizeof open[0]);
                open[depth++] = paired[i];
            } else {
                assert_true(depth > 0);
                assert_string_equal(open[--depth], paired[i]);
            }
        }
        if (!known) {
            print_error("unknown tag: %.40s\n", at);
        }
        assert_true(known);
    }
    assert_int_equal(depth, 0);
}

static void test_figures(void **state) {
    static const char *const parts[] = {
        "accuracy</th><td>83.4 %</td><td>81.4 %</td><td class=\"words faint\">95 %: 78.0 to 86.0</td>",
        "attack success</th><td>100.0 %</td><td>1.5 %</td>",
        "recovery</th><td>0.0 %</td><td>83.2 %</td>",
        "pruned units</th><td></td><td>2</td><td class=\"words faint\">of 1200</td>",
        "time</th><td></td><td>1:02</td>",
        "<strong class=\"good\"><bdi>removed</bdi></strong>",
        "seed 7",
        "<td>3.100</td><td>8.200</td><td>-</td><td>-</td>",
        "<rect class=\"bar bad\" x=\"0\" y=\"2\" width=\"220.0\" height=\"8\"/>",
        "<rect class=\"bar\" x=\"0\" y=\"2\" width=\"110.0\" height=\"8\"/>",
        "suspect</td>",
        "<td class=\"words long\">3 17</td>",
        "345 masks",
        "Best reward so far: -5.000 to -0.500",
        "<polyline class=\"best\" points=\"0.0,180.0 320.0,20.0 640.0,0.0 \"/>",
        "search</th><td>30.00</td>",
    };
    (void)state;
    char *page = render(REPORT);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (strstr(page, parts[i]) == NULL) {
            print_error("missing: %s in:\n%s", parts[i], page);
        }
        assert_non_null(strstr(page, parts[i]));
    }
    expect_well_formed(page);
    mem_free(page);
}

/* Names come from the model, which is an attacker's; all other strings, from whoever wrote the file. */
static void test_hostile_names(void **state) {
    static const char *const places[] = {
        "{\"verdict\": \"%s\"}",
        "{\"method\": \"%s\", \"seed\": 1}",
        "{\"pruned\": [{\"layer\": \"%s\", \"channels\": [1]}]}",
        ("{\"exposure\": {\"classes\": [{\"class\": 0, \"family\": \"%s\"}], "
         "\"all_to_all\": {\"suspect\": true, \"family\": \"x\"}}}"),
        "{\"model\": {\"sha256\": \"%s\"}, \"provenance\": {\"version\": \"x\"}}",
    };
    static const char name[] = "</bdi><script>alert(1)</script><img src=x onerror='y'>\\\"&amp;\\u202e\\u0000";
    char text[512];
    (void)state;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *hole = strstr(places[i], "%s");
        assert_non_null(hole);
        (void)snprintf(text, sizeof text, "%.*s%.*s%s", (int)(hole - places[i]), places[i], (int)(sizeof name - 7),
                       name, hole + 2);
        char *page = render(text);
        assert_non_null(strstr(page, "&#60;/bdi&#62;&#60;script&#62;alert(1)"));
        assert_non_null(strstr(page, "onerror=&#39;y&#39;&#62;&#34;&#38;amp;"));
        assert_null(strstr(page, "<script"));
        assert_null(strstr(page, "<img"));
        expect_well_formed(page);
        mem_free(page);
    }
    char *page = render(REPORT);
    assert_non_null(strstr(page, "&#60;/td&#62;&#60;script&#62;alert(1)&#60;/script&#62;\xef\xbf\xbd&#34;&#39;&#38;"));
    assert_non_null(strstr(page, "default-src 'none'; style-src 'unsafe-inline'"));
    assert_null(strstr(page, "http:"));
    assert_null(strstr(page, "https:"));
    mem_free(page);
}

static void test_odd_reports(void **state) {
    static const char *const reports[] = {
        "{}",
        "{\"verdict\": 3, \"accuracy\": [], \"probe\": {}, \"pruned\": 3, \"search\": 4, \"seconds\": 5}",
        "{\"exposure\": {\"classes\": [1, null, {}], \"suspects\": {}}, \"pruned\": [null, {\"channels\": \"x\"}]}",
        "{\"search\": {\"curve\": [null, \"x\", 1, {\"best\": null}, {\"best\": 1}]}}",
        "{\"search\": {\"curve\": [{\"best\": 1, \"mean\": -1e300}, {\"best\": 1e308, \"mean\": 5}, {}]}}",
        ("{\"exposure\": {\"classes\": [{\"anomaly_before\": -1e308, \"anomaly_after\": 1e308}]},"
         " \"seconds\": {\"load\": 1e308, \"total\": 1e-300}}"),
    };
    (void)state;
    for (size_t i = 0; i < sizeof reports / sizeof reports[0]; i++) {
        char *page = render(reports[i]);
        expect_well_formed(page);
        assert_null(strstr(page, "nan"));
        assert_null(strstr(page, "inf"));
        mem_free(page);
    }
}

/* A report may be huge; what is shown is bounded, and what does not fit says so. */
static void test_large(void **state) {
    json_t *report = json_object();
    json_t *pruned = json_array();
    json_t *curve = json_array();
    struct buf page;
    (void)state;
    for (int i = 0; i < 3000; i++) {
        assert_int_equal(json_array_append_new(pruned, json_pack("{s:s, s:[i]}", "layer", "x", "channels", i)), 0);
        assert_int_equal(json_array_append_new(curve, json_pack("{s:i}", "best", i)), 0);
    }
    assert_int_equal(json_object_set_new(report, "pruned", pruned), 0);
    assert_int_equal(json_object_set_new(report, "search", json_pack("{s:o}", "curve", curve)), 0);
    buf_init(&page, 1 << 20);
    report_html_write(&page, report);
    assert_false(page.failed);
    assert_true(page.length < 200000);
    assert_non_null(strstr(page.data, "And 2500 more layers."));
    buf_deinit(&page);
    buf_init(&page, 1000);
    report_html_write(&page, report);
    assert_true(page.failed);
    buf_deinit(&page);
    json_decref(report);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_hostile_names),
        cmocka_unit_test(test_odd_reports),
        cmocka_unit_test(test_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
