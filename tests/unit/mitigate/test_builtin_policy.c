/* The policy that is compiled in fits the features that a job measures. */
#include "tests/support/cm.h"

#include <string.h>

#include "server/agent/policy_file.h"
#include "server/mitigate/features.h"

static void it_loads_and_has_the_features_of_a_job(void **state) {
    (void)state;
    struct policy *policy = NULL;
    struct error error = {0};
    size_t words = 1;
    for (const char *c = features_names; *c != '\0'; c++) {
        words += *c == ' ';
    }
    assert_int_equal(policy_load_builtin(features_names, &policy, &error), STATUS_OK);
    assert_int_equal(policy_shape_of(policy)->feature_count, words);
    policy_free(policy);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(it_loads_and_has_the_features_of_a_job)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
