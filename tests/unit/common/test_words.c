/* The shared words: every name round-trips, terminal states are the ones the interface promises. */
#include <string.h>

#include "common/words.h"
#include "tests/support/cm.h"

static void states_round_trip(void **state) {
    (void)state;
    for (int i = 0; i < JOB_STATE_COUNT; i++) {
        assert_int_equal(job_state_from_name(job_state_name((enum job_state)i)), i);
    }
    assert_string_equal(job_state_name(JOB_CANCELLING), "cancelling");
    assert_string_equal(job_state_name(JOB_STATE_COUNT), "unknown");
    assert_int_equal(job_state_from_name("Queued"), JOB_STATE_COUNT);
    assert_int_equal(job_state_from_name(NULL), JOB_STATE_COUNT);
}

static void terminal_states(void **state) {
    (void)state;
    static const bool TERMINAL[JOB_STATE_COUNT] = {[JOB_SUCCEEDED] = true, [JOB_FAILED] = true, [JOB_CANCELLED] = true};
    for (int i = 0; i < JOB_STATE_COUNT; i++) {
        assert_int_equal(job_state_is_terminal((enum job_state)i), TERMINAL[i]);
    }
}

static void stages_round_trip_in_order(void **state) {
    (void)state;
    static const char *const NAMES[STAGE_COUNT] = {"load",   "baseline", "expose",   "graph",
                                                   "search", "repair",   "evaluate", "export"};
    for (int i = 0; i < STAGE_COUNT; i++) {
        assert_string_equal(job_stage_name((enum job_stage)i), NAMES[i]);
        assert_int_equal(job_stage_from_name(NAMES[i]), i);
    }
    assert_int_equal(job_stage_from_name(""), STAGE_COUNT);
}

static void verdicts_have_names(void **state) {
    (void)state;
    assert_string_equal(verdict_name(VERDICT_REMOVED), "removed");
    assert_string_equal(verdict_name(VERDICT_REDUCED), "reduced");
    assert_string_equal(verdict_name(VERDICT_NO_BACKDOOR_FOUND), "no_backdoor_found");
    assert_string_equal(verdict_name(VERDICT_FAILED_BUDGET), "failed_budget");
    assert_string_equal(verdict_name(VERDICT_UNJUDGED), "unjudged");
    assert_string_equal(verdict_name(VERDICT_COUNT), "unknown");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(states_round_trip),
        cmocka_unit_test(terminal_states),
        cmocka_unit_test(stages_round_trip_in_order),
        cmocka_unit_test(verdicts_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
