/* Strict number parsing: tables of what is read and what is refused. */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "common/parse.h"
#include "tests/support/cm.h"

#define COUNT_OF(array) (sizeof(array) / sizeof(array)[0])

static const char *const NOT_NUMBERS[] = {NULL, "",    " 1",  "1 ",  "+1",  "0x10", "1a", "a", "--1",
                                          "1-", "1,5", "1_0", "\t1", "1\n", "²",    "-",  "e"};

static void u64_accepts(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t value;
    } CASES[] = {{"0", 0}, {"7", 7}, {"0042", 42}, {"18446744073709551615", UINT64_MAX}};
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        uint64_t value = 99;
        assert_true(parse_u64(CASES[i].text, UINT64_MAX, &value));
        assert_true(value == CASES[i].value);
    }
}

static void u64_refuses(void **state) {
    (void)state;
    uint64_t value = 99;
    for (size_t i = 0; i < COUNT_OF(NOT_NUMBERS); i++) {
        assert_false(parse_u64(NOT_NUMBERS[i], UINT64_MAX, &value));
    }
    assert_false(parse_u64("-1", UINT64_MAX, &value));
    assert_false(parse_u64("-0", UINT64_MAX, &value));
    assert_false(parse_u64("1.0", UINT64_MAX, &value));
    assert_false(parse_u64("18446744073709551616", UINT64_MAX, &value));
    assert_false(parse_u64("99999999999999999999", UINT64_MAX, &value));
    assert_false(parse_u64("11", 10, &value));
    assert_true(value == 99); /* untouched on failure */
    assert_true(parse_u64("10", 10, &value));
}

static void i64_reaches_both_ends(void **state) {
    (void)state;
    int64_t value = 99;
    assert_true(parse_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &value));
    assert_true(value == INT64_MIN);
    assert_true(parse_i64("9223372036854775807", INT64_MIN, INT64_MAX, &value));
    assert_true(value == INT64_MAX);
    assert_true(parse_i64("-0", INT64_MIN, INT64_MAX, &value));
    assert_true(value == 0);
    assert_true(parse_i64("-12", -12, 0, &value));
    assert_true(value == -12);
    assert_false(parse_i64("-13", -12, 0, &value));
    assert_false(parse_i64("1", -12, 0, &value));
    assert_false(parse_i64("-9223372036854775809", INT64_MIN, INT64_MAX, &value));
    assert_false(parse_i64("9223372036854775808", INT64_MIN, INT64_MAX, &value));
    for (size_t i = 0; i < COUNT_OF(NOT_NUMBERS); i++) {
        assert_false(parse_i64(NOT_NUMBERS[i], INT64_MIN, INT64_MAX, &value));
    }
    assert_true(value == -12);
}

static void double_accepts(void **state) {
    (void)state;
    static const struct {
        const char *text;
        double value;
    } CASES[] = {{"0", 0.0},
                 {"-1.5", -1.5},
                 {".5", 0.5},
                 {"5.", 5.0},
                 {"1e3", 1000.0},
                 {"1E-3", 0.001},
                 {"2e+2", 200},
                 {"1e-400", 0.0},
                 {"-.25e2", -25.},
                 {"0.1", 0.1},
                 {"123456789.125", 123456789.125},
                 {"1e308", 1e308},
                 {"4.9e-324", DBL_TRUE_MIN}};
    for (size_t i = 0; i < COUNT_OF(CASES); i++) {
        double value = 99.0;
        assert_true(parse_double(CASES[i].text, -DBL_MAX, DBL_MAX, &value));
        assert_true(value == CASES[i].value);
    }
}

static void double_refuses(void **state) {
    (void)state;
    static const char *const MORE[] = {"nan", "inf",   "-inf",  "INFINITY", "1e",    "1e+", ".",
                                       "-.",  "1e309", "1.2.3", "0x1p3",    "1e1.5", "1f",  "-e5"};
    double value = 99.0;
    for (size_t i = 0; i < COUNT_OF(NOT_NUMBERS); i++) {
        assert_false(parse_double(NOT_NUMBERS[i], -DBL_MAX, DBL_MAX, &value));
    }
    for (size_t i = 0; i < COUNT_OF(MORE); i++) {
        assert_false(parse_double(MORE[i], -INFINITY, INFINITY, &value));
    }
    assert_false(parse_double("1.01", 0.0, 1.0, &value));
    assert_false(parse_double("-0.01", 0.0, 1.0, &value));
    assert_true(value == 99.0);
    assert_true(parse_double("1", 0.0, 1.0, &value));
}

static void bool_words(void **state) {
    (void)state;
    bool value = false;
    assert_true(parse_bool("true", &value) && value);
    assert_true(parse_bool("0", &value) && !value);
    assert_true(parse_bool("on", &value) && value);
    assert_true(parse_bool("off", &value) && !value);
    assert_true(parse_bool("1", &value) && value);
    assert_true(parse_bool("false", &value) && !value);
    static const char *const WRONG[] = {NULL, "", "True", "yes", "2", "on ", "TRUE", "01"};
    for (size_t i = 0; i < COUNT_OF(WRONG); i++) {
        assert_false(parse_bool(WRONG[i], &value));
    }
}

static void bytes_units(void **state) {
    (void)state;
    uint64_t value = 0;
    assert_true(parse_bytes("500", UINT64_MAX, &value) && value == 500);
    assert_true(parse_bytes("64k", UINT64_MAX, &value) && value == 65536);
    assert_true(parse_bytes("64K", UINT64_MAX, &value) && value == 65536);
    assert_true(parse_bytes("10M", UINT64_MAX, &value) && value == UINT64_C(10) << 20);
    assert_true(parse_bytes("2G", UINT64_MAX, &value) && value == UINT64_C(2) << 30);
    assert_true(parse_bytes("0G", UINT64_MAX, &value) && value == 0);
    static const char *const WRONG[] = {NULL, "", "k", "1kk", "1kB", "1 k", "-1k", "1.5M", "1m", "1T", "17179869184G"};
    for (size_t i = 0; i < COUNT_OF(WRONG); i++) {
        assert_false(parse_bytes(WRONG[i], UINT64_MAX, &value));
    }
    assert_false(parse_bytes("2k", 2047, &value));
    assert_true(parse_bytes("2k", 2048, &value) && value == 2048);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(u64_accepts),    cmocka_unit_test(u64_refuses),    cmocka_unit_test(i64_reaches_both_ends),
        cmocka_unit_test(double_accepts), cmocka_unit_test(double_refuses), cmocka_unit_test(bool_words),
        cmocka_unit_test(bytes_units),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
