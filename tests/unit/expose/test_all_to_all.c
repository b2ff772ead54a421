/* Which moves between the classes count as a permutation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "server/expose/all_to_all.h"

static void test_each_class_to_the_next(void **state) {
    (void)state;
    const size_t counts[] = {1, 8, 1, 0, 2, 8, 9, 1, 0};
    int32_t map[3];
    assert_true(all_to_all_read(3, counts, map));
    for (int32_t y = 0; y < 3; y++) {
        assert_int_equal(map[y], (y + 1) % 3);
    }
}

static void test_two_classes_that_change_places(void **state) {
    (void)state;
    const size_t counts[] = {1, 9, 9, 1};
    int32_t map[2];
    assert_true(all_to_all_read(2, counts, map));
}

/* Of few classes three quarters obey such a map, and half of them are somebody's goal. */
static void test_a_collapse_into_one_class(void **state) {
    (void)state;
    const size_t counts[] = {0, 10, 0, 0, 1, 9, 0, 0, 0, 10, 0, 0, 0, 10, 0, 0};
    int32_t map[4];
    assert_false(all_to_all_read(4, counts, map));
    assert_int_equal(map[1], 0);
    assert_int_equal(map[2], 1);
}

static void test_samples_that_scatter(void **state) {
    (void)state;
    size_t counts[36];
    int32_t map[6];
    for (size_t i = 0; i < 36; i++) {
        counts[i] = i % 7 == 0 ? 0 : 2;
    }
    assert_false(all_to_all_read(6, counts, map));
}

static void test_samples_that_stay(void **state) {
    (void)state;
    const size_t counts[] = {9, 0, 0, 0, 9, 0, 0, 0, 9};
    int32_t map[3];
    assert_false(all_to_all_read(3, counts, map));
    assert_int_equal(map[0], TRIGGER_AWAY);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_class_to_the_next),    cmocka_unit_test(test_two_classes_that_change_places),
        cmocka_unit_test(test_a_collapse_into_one_class), cmocka_unit_test(test_samples_that_scatter),
        cmocka_unit_test(test_samples_that_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
