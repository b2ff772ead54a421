/* The error record: first error wins, bounded and clean text, names that round-trip. */
#include <errno.h>
#include <string.h>

#include "common/error.h"
#include "tests/support/cm.h"

static void first_error_wins(void **state) {
    (void)state;
    struct error error = {0};
    assert_int_equal(error_set(&error, STATUS_INVALID, "byte 7", "failed to read %s: got %d", "x", 3), STATUS_INVALID);
    assert_int_equal(error_set(&error, STATUS_IO, "byte 9", "later"), STATUS_IO);
    assert_int_equal(error.status, STATUS_INVALID);
    assert_string_equal(error.where, "byte 7");
    assert_string_equal(error.message, "failed to read x: got 3");
    error_clear(&error);
    assert_int_equal(error.status, STATUS_OK);
    assert_string_equal(error.where, "");
    assert_string_equal(error.message, "");
    (void)error_set(&error, STATUS_LIMIT, NULL, "new");
    assert_int_equal(error.status, STATUS_LIMIT);
    assert_string_equal(error.where, "");
}

static void no_record_is_fine(void **state) {
    (void)state;
    error_clear(NULL);
    assert_int_equal(error_set(NULL, STATUS_LIMIT, NULL, "x"), STATUS_LIMIT);
    assert_int_equal(error_no_memory(NULL, NULL), STATUS_NO_MEMORY);
    assert_int_equal(error_io(NULL, NULL, "x"), STATUS_IO);
}

static void text_is_clean_and_bounded(void **state) {
    (void)state;
    struct error error = {0};
    char longer[2 * ERROR_MESSAGE_MAX];
    memset(longer, 'a', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    (void)error_set(&error, STATUS_INVALID, longer, "%s", longer);
    assert_int_equal(strlen(error.where), ERROR_WHERE_MAX - 1);
    assert_int_equal(strlen(error.message), ERROR_MESSAGE_MAX - 1);
    error_clear(&error);
    (void)error_set(&error, STATUS_INVALID, "node '\x1b[31m'", "name \"%s\"", "a\nb\x7f\xc3\xa9");
    assert_string_equal(error.where, "node '?[31m'");
    assert_string_equal(error.message, "name \"a?b???\"");
}

static void io_names_the_reason_and_keeps_errno(void **state) {
    (void)state;
    struct error error = {0};
    errno = ENOSPC;
    assert_int_equal(error_io(&error, "here", "failed to write file %s", "f"), STATUS_IO);
    assert_int_equal(errno, ENOSPC);
    assert_string_equal(error.message, "failed to write file f: No space left on device");
    assert_string_equal(error.where, "here");
}

static void no_memory_says_for_what(void **state) {
    (void)state;
    struct error error = {0};
    assert_int_equal(error_no_memory(&error, "a tensor"), STATUS_NO_MEMORY);
    assert_string_equal(error.message, "failed to allocate a tensor");
}

static void names_round_trip(void **state) {
    (void)state;
    for (int i = 0; i < STATUS_COUNT; i++) {
        assert_int_equal(status_from_name(status_name((enum status)i)), i);
    }
    assert_string_equal(status_name(STATUS_NO_MEMORY), "no_memory");
    assert_string_equal(status_name(STATUS_COUNT), "internal");
    assert_int_equal(status_from_name("no such"), STATUS_INTERNAL);
    assert_int_equal(status_from_name(NULL), STATUS_INTERNAL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_error_wins),          cmocka_unit_test(no_record_is_fine),
        cmocka_unit_test(text_is_clean_and_bounded), cmocka_unit_test(io_names_the_reason_and_keeps_errno),
        cmocka_unit_test(no_memory_says_for_what),   cmocka_unit_test(names_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
