/* Shapes: counts, comparison, text, broadcasting. */
#include "server/nn/tensor.h"

#include <string.h>

#include "tests/support/cm.h"

static void test_counts(void **state) {
    const struct shape shape = {4, {2, 3, 5, 7}};
    const struct shape scalar = {0};
    size_t count = 0;
    (void)state;

    assert_int_equal(shape_count(&shape), 210);
    assert_int_equal(shape_count(&scalar), 1);
    assert_int_equal(shape_count_from(&shape, 0), 210);
    assert_int_equal(shape_count_from(&shape, 2), 35);
    assert_int_equal(shape_count_from(&shape, 4), 1);
    assert_true(shape_count_checked(&shape, &count));
    assert_int_equal(count, 210);
}

static void test_checked_count_refuses_overflow(void **state) {
    const struct shape large = {3, {SIZE_MAX / 2, 2, 2}};
    const struct shape rank = {SHAPE_RANK_MAX + 1, {1}};
    const struct shape zero = {3, {SIZE_MAX, 0, 2}};
    size_t count = 42;
    (void)state;

    assert_false(shape_count_checked(&large, &count));
    assert_false(shape_count_checked(&rank, &count));
    assert_int_equal(count, 42);
    assert_true(shape_count_checked(&zero, &count));
    assert_int_equal(count, 0);
}

static void test_equality(void **state) {
    const struct shape a = {2, {3, 4}};
    const struct shape same = {2, {3, 4, 9}}; /* what lies behind the rank does not count */
    const struct shape other = {2, {3, 5}};
    const struct shape longer = {3, {3, 4, 1}};
    (void)state;

    assert_true(shape_equal(&a, &same));
    assert_false(shape_equal(&a, &other));
    assert_false(shape_equal(&a, &longer));
}

static void test_text(void **state) {
    char text[SHAPE_TEXT_SIZE];
    struct shape large = {.rank = SHAPE_RANK_MAX};
    (void)state;

    assert_string_equal(shape_text(&(struct shape){4, {1, 3, 32, 32}}, text), "[1, 3, 32, 32]");
    assert_string_equal(shape_text(&(struct shape){0}, text), "[]");
    assert_string_equal(shape_text(&(struct shape){1, {7}}, text), "[7]");
    for (size_t i = 0; i < SHAPE_RANK_MAX; i++) {
        large.dim[i] = SIZE_MAX;
    }
    assert_int_equal(strlen(shape_text(&large, text)), SHAPE_TEXT_SIZE - 1); /* cut, and ended */
    assert_int_equal(text[SHAPE_TEXT_SIZE - 2], ']');
}

static void test_broadcast(void **state) {
    static const struct {
        struct shape a, b, out;
        bool fits;
    } cases[] = {
        {{4, {1, 8, 4, 4}}, {4, {1, 8, 4, 4}}, {4, {1, 8, 4, 4}}, true},
        {{4, {1, 8, 4, 4}}, {4, {1, 8, 1, 1}}, {4, {1, 8, 4, 4}}, true},
        {{3, {8, 1, 1}}, {4, {1, 8, 4, 4}}, {4, {1, 8, 4, 4}}, true},
        {{4, {1, 1, 4, 1}}, {4, {1, 8, 1, 3}}, {4, {1, 8, 4, 3}}, true},
        {{2, {1, 5}}, {0, {0}}, {2, {1, 5}}, true},
        {{2, {1, 5}}, {2, {1, 4}}, {0, {0}}, false},
        {{1, {8}}, {4, {1, 8, 4, 4}}, {0, {0}}, false},
    };
    (void)state;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct shape out = {1, {99}};
        assert_int_equal(shape_broadcast(&cases[i].a, &cases[i].b, &out), cases[i].fits);
        if (cases[i].fits) {
            assert_true(shape_equal(&out, &cases[i].out));
        } else {
            assert_int_equal(out.dim[0], 99); /* untouched */
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),    cmocka_unit_test(test_checked_count_refuses_overflow),
        cmocka_unit_test(test_equality),  cmocka_unit_test(test_text),
        cmocka_unit_test(test_broadcast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
