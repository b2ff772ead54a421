/* Metrics against figures worked out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "server/evaluate/metrics.h"
#include "tests/support/near.h"

static void test_wilson(void **state) {
    (void)state;
    /* 81 of 263: 0.2553 to 0.3662, the example of Newcombe 1998, table I, method 3 */
    const struct interval i = metrics_wilson(81, 263);
    assert_near(i.low, 0.2553, 5e-5);
    assert_near(i.high, 0.3662, 5e-5);
    const struct interval none = metrics_wilson(0, 29), all = metrics_wilson(29, 29), empty = metrics_wilson(0, 0);
    assert_true(none.low == 0.0);
    assert_near(none.high, 0.1170, 5e-5); /* the same table: 0/29 */
    assert_true(all.high == 1.0);
    assert_near(all.low, 1.0 - none.high, 1e-12);
    assert_true(empty.low == 0.0 && empty.high == 1.0);
}

static void test_paired_drop(void **state) {
    (void)state;
    /* 12 lost, 3 won of 100: 0.09 less 1.96 sqrt(15 - 81 / 100) / 100 */
    assert_near(metrics_drop_low(12, 3, 100), 0.016168, 1e-6);
    assert_near(metrics_drop_low(3, 12, 100), -0.163832, 1e-6);
    assert_true(metrics_drop_low(0, 0, 100) == 0.0 && metrics_drop_low(0, 0, 0) == 0.0);
    assert_near(metrics_drop_low(5, 0, 5), 1.0, 1e-12);
}

static void test_hits_and_probe(void **state) {
    (void)state;
    const float logits[] = {3, 1, 0, /* 0 */ 0, 2, 1, /* 1 */ 0, 1, 5, /* 2 */ 4, 4, 0 /* tie: the first */};
    const int32_t labels[] = {0, 0, 2, 1}, targets[] = {1, 1, 2, 0};
    assert_int_equal(metrics_hits(4, 3, logits, labels), 2);
    /* row 2 is of the target class and does not count: rows 0 (recovered), 1 (attacked), 3 (attacked) */
    const struct probe_figures p = metrics_probe(4, 3, logits, labels, targets);
    assert_int_equal(p.count, 3);
    assert_near(p.asr, 2.0 / 3.0, 1e-12);
    assert_near(p.recovery, 1.0 / 3.0, 1e-12);
    const struct probe_figures nothing = metrics_probe(0, 3, logits, labels, targets);
    assert_true(nothing.asr == 0.0 && nothing.recovery == 0.0);
}

static void test_der(void **state) {
    (void)state;
    assert_near(metrics_der(0.9, 0.88, 1.0, 0.1), (0.9 - 0.02 + 1) / 2, 1e-12);
    assert_near(metrics_der(0.9, 0.95, 0.2, 0.5), 0.5, 1e-12); /* gains are not counted */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wilson),
        cmocka_unit_test(test_paired_drop),
        cmocka_unit_test(test_hits_and_probe),
        cmocka_unit_test(test_der),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
