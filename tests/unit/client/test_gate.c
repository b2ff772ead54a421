/* Gates: what is read, what is refused, and that an absent figure never passes. */
#include "client/gate.h"

#include <stdlib.h>
#include <string.h>

#include "common/json_read.h"
#include "tests/support/cm.h"

static const char REPORT[] = "{\"verdict\": \"removed\", \"accuracy\": {\"before\": 0.834, \"after\": 0.814},"
                             " \"probe\": {\"asr_before\": 1.0, \"asr_after\": 0.015}, \"pruned_units\": 3}";

static json_t *parse(const char *text) {
    struct error error = {0};
    json_t *value = NULL;
    assert_int_equal(json_read_text(text, strlen(text), &value, &error), STATUS_OK);
    return value;
}

static enum gate_outcome outcome(const char *gate_text, const char *report_text) {
    struct error error = {0};
    struct gate gate;
    assert_int_equal(gate_parse(gate_text, &gate, &error), STATUS_OK);
    json_t *report = parse(report_text);
    enum gate_outcome result = gate_check(&gate, report);
    json_decref(report);
    return result;
}

static void test_relations(void **state) {
    static const struct {
        const char *gate;
        enum gate_outcome expected;
    } cases[] = {
        {"asr_after>0.05", GATE_PASSED},   {"asr_after>0.01", GATE_TRIPPED},   {"asr_after >= 0.015", GATE_TRIPPED},
        {"asr_after>0.015", GATE_PASSED},  {"asr_after<=0.015", GATE_TRIPPED}, {"asr_after<0.015", GATE_PASSED},
        {"pruned_units==3", GATE_TRIPPED}, {"pruned_units!=3", GATE_PASSED},   {" pruned_units < 1e1 ", GATE_TRIPPED},
        {"verdict!=removed", GATE_PASSED}, {"verdict==removed", GATE_TRIPPED}, {"verdict == reduced", GATE_PASSED},
        {"asr_drop<0.9", GATE_PASSED},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(outcome(cases[i].gate, REPORT), cases[i].expected);
    }
}

/* 0.834 - 0.814 is 0.02000000000000002 in binary. */
static void test_exact_limit_does_not_trip(void **state) {
    (void)state;
    assert_int_equal(outcome("accuracy_drop>0.02", REPORT), GATE_PASSED);
    assert_int_equal(outcome("accuracy_drop>0.0199", REPORT), GATE_TRIPPED);
}

static void test_absent_figure_is_no_pass(void **state) {
    (void)state;
    assert_int_equal(outcome("asr_after>0.05", "{\"probe\": null}"), GATE_NO_FIGURE);
    assert_int_equal(outcome("asr_after>0.05", "{\"probe\": {\"asr_after\": null}}"), GATE_NO_FIGURE);
    assert_int_equal(outcome("verdict!=removed", "{\"verdict\": 3}"), GATE_NO_FIGURE);
    assert_int_equal(outcome("accuracy_drop>0.5", "{\"accuracy\": {\"before\": 1}}"), GATE_NO_FIGURE);
    assert_int_equal(outcome("seconds>5", "[]"), GATE_NO_FIGURE);
}

static void test_refused(void **state) {
    static const char *const cases[] = {
        "",
        "asr_after",
        "asr_after>",
        ">0.5",
        "asr_after=0.5",
        "asr_after>0.5x",
        "asr_after>>0.5",
        "asr_after>nan",
        "asr_after>0.5 0.6",
        "asr-after>0.5",
        "asr_aftr>0.5",
        "verdict>removed",
        "verdict==gone",
        "verdict==",
        "asr_after>5%",
        "asr_after => 1",
        "asr_after>0.5,der<1",
        "verdict==removed or",
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error error = {0};
        struct gate gate = {.text = "untouched"};
        assert_int_equal(gate_parse(cases[i], &gate, &error), STATUS_INVALID);
        assert_string_equal(gate.text, "untouched");
        assert_string_equal(error.where, "--fail-on");
    }
}

static void test_nearest_name(void **state) {
    struct error error = {0};
    struct gate gate;
    (void)state;
    assert_int_equal(gate_parse("acuracy_drop>0.1", &gate, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "perhaps accuracy_drop"));
}

static void test_check_all_says_why(void **state) {
    struct error error = {0};
    struct gates gates;
    const struct option_list list = {.items = {"asr_after>0.01", "pruned_units>100", "der<0.9"}, .count = 3};
    char *text = NULL;
    size_t length = 0;
    (void)state;
    assert_int_equal(gates_parse(&list, &gates, &error), STATUS_OK);
    json_t *report = parse(REPORT);
    FILE *file = open_memstream(&text, &length);
    assert_non_null(file);
    assert_false(gates_check(&gates, report, file));
    assert_int_equal(fclose(file), 0);
    assert_non_null(strstr(text, "asr_after>0.01: asr_after is 0.015"));
    assert_non_null(strstr(text, "the report has no der"));
    assert_null(strstr(text, "pruned_units"));
    free(text); /* of open_memstream() */
    json_decref(report);
    gates.count = 0;
    assert_true(gates_check(&gates, NULL, stderr));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_relations),
        cmocka_unit_test(test_exact_limit_does_not_trip),
        cmocka_unit_test(test_absent_figure_is_no_pass),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_nearest_name),
        cmocka_unit_test(test_check_all_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
