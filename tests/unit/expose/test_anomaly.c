/* The median and the anomaly index against figures worked out by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "server/expose/anomaly.h"
#include "tests/support/near.h"

static void test_median(void **state) {
    (void)state;
    double odd[] = {3, 1, 2}, even[] = {4, 1, 3, 2}, one[] = {7};
    assert_true(anomaly_median(odd, 3) == 2.0);
    assert_true(anomaly_median(even, 4) == 2.5);
    assert_true(anomaly_median(one, 1) == 7.0);
}

static void test_index_of_an_outlier(void **state) {
    (void)state;
    /* median 40; deviations 37 4 2 0 2 4 10, MAD 4, spread 5.9304 */
    const double sizes[] = {3, 36, 38, 40, 42, 44, 50};
    double scratch[7], index[7];
    assert_true(anomaly_index(sizes, 7, scratch, index) == 40.0);
    assert_near(index[0], 37.0 / 5.9304, 1e-9);
    assert_true(index[3] == 0.0);
    assert_near(index[6], -10.0 / 5.9304, 1e-9);
}

static void test_equal_classes_make_no_outlier(void **state) {
    (void)state;
    /* MAD is 0; its floor, a tenth of the median, keeps a trifle from being an outlier. */
    const double sizes[] = {10, 10, 10, 10, 9.5};
    double scratch[5], index[5];
    anomaly_index(sizes, 5, scratch, index);
    assert_near(index[4], 0.5 / 1.4826, 1e-9);
    const double zeros[] = {0, 0, 0};
    anomaly_index(zeros, 3, scratch, index);
    assert_true(index[0] == 0.0 && index[2] == 0.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_median),
        cmocka_unit_test(test_index_of_an_outlier),
        cmocka_unit_test(test_equal_classes_make_no_outlier),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
