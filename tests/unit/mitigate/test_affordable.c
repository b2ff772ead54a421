/* Work by the price of a network: all of it up to the usual price, in proportion beyond, never less than the least. */
#include <math.h>

#include "server/mitigate/affordable.h"

#include "tests/support/cm.h"

static const double USUAL = 1e8;

static void test_usual_networks_get_all(void **state) {
    (void)state;
    assert_int_equal(affordable(0.0, 400, 80), 400);
    assert_int_equal(affordable(3.6e7, 400, 80), 400);
    assert_int_equal(affordable(USUAL, 400, 80), 400);
    assert_false(is_dear(USUAL));
}

static void test_dear_networks_get_their_share(void **state) {
    (void)state;
    assert_int_equal(affordable(2.0 * USUAL, 400, 80), 200);
    assert_int_equal(affordable(4.0 * USUAL, 400, 80), 100);
    assert_true(is_dear(2.0 * USUAL));
    size_t last = 400;
    for (int step = 0; step < 100; step++) {
        const size_t now = affordable(1e8 * pow(1.1, step), 400, 80);
        assert_in_range(now, 80, last);
        last = now;
    }
    assert_int_equal(last, 80);
}

/* What there is may be less than the least that is wanted. */
static void test_least(void **state) {
    (void)state;
    assert_int_equal(affordable(1e12, 50, 80), 50);
    assert_int_equal(affordable(1e12, 0, 80), 0);
    assert_int_equal(affordable(1e300, 400, 0), 0);
    assert_int_equal(affordable(1e8, 50, 80), 50);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usual_networks_get_all),
        cmocka_unit_test(test_dear_networks_get_their_share),
        cmocka_unit_test(test_least),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
