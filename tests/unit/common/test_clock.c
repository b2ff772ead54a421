/* Time: it moves forward, and dates are written as RFC 3339 has them. */
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "tests/support/cm.h"

static void monotonic_time_moves_forward(void **state) {
    (void)state;
    double before = clock_seconds();
    const struct timespec pause = {.tv_nsec = 5000000};
    (void)nanosleep(&pause, NULL);
    double passed = clock_seconds() - before;
    assert_true(passed >= 0.005 && passed < 60.0);
}

static void wall_time_is_now(void **state) {
    (void)state;
    int64_t low = (int64_t)time(NULL) * 1000 - 1000;
    int64_t now = clock_wall_ms();
    assert_true(now >= low && now <= low + 5000);
}

static void dates_are_written(void **state) {
    (void)state;
    static const struct {
        int64_t ms;
        const char *text;
    } CASES[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {1769903999123, "2026-01-31T23:59:59.123Z"},
        {951782400000, "2000-02-29T00:00:00.000Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {-1000, "1969-12-31T23:59:59.000Z"},
        {253402300799999, "9999-12-31T23:59:59.999Z"},
    };
    char text[CLOCK_RFC3339_SIZE];
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        clock_rfc3339(CASES[i].ms, text);
        assert_string_equal(text, CASES[i].text);
    }
    const int64_t extremes[] = {INT64_MAX, INT64_MIN};
    for (size_t i = 0; i < 2; i++) { /* no such year: bounded text all the same */
        clock_rfc3339(extremes[i], text);
        assert_in_range(strlen(text), 24, CLOCK_RFC3339_SIZE - 1);
        assert_int_equal(text[strlen(text) - 1], 'Z');
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(monotonic_time_moves_forward),
        cmocka_unit_test(wall_time_is_now),
        cmocka_unit_test(dates_are_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
