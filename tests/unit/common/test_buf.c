/* The byte buffer: growth, the maximum, failure that sticks. */
#include <string.h>

#include "common/buf.h"
#include "common/mem.h"
#include "tests/support/cm.h"

static void appends_grow_and_end_with_nul(void **state) {
    (void)state;
    struct buf buf;
    buf_init(&buf, 1 << 20);
    for (int i = 0; i < 5000; i++) {
        assert_true(buf_printf(&buf, "%d,", i % 10));
        assert_int_equal(buf.data[buf.length], '\0');
    }
    assert_int_equal(buf.length, 10000);
    assert_true(buf_append(&buf, "a\0b", 3));
    assert_true(buf_append_text(&buf, "end"));
    assert_memory_equal(buf.data + 10000, "a\0bend", 7);
    buf_deinit(&buf);
    assert_null(buf.data);
}

static void the_maximum_is_exact_and_failure_sticks(void **state) {
    (void)state;
    struct buf buf;
    buf_init(&buf, 10);
    assert_true(buf_append(&buf, "0123456789", 10));
    assert_string_equal(buf.data, "0123456789");
    assert_true(buf_append(&buf, "", 0));
    assert_false(buf_append(&buf, "x", 1));
    assert_true(buf.failed);
    assert_null(buf.data);
    assert_false(buf_append(&buf, "", 0));
    assert_false(buf_append_text(&buf, "y"));
    assert_false(buf_printf(&buf, "%d", 1));
    assert_null(buf_take(&buf));
    buf_reset(&buf);
    assert_false(buf.failed);
    assert_true(buf_append_text(&buf, "again"));
    assert_string_equal(buf.data, "again");
    assert_false(buf_printf(&buf, "%s", "123456"));
    buf_deinit(&buf);
}

static void huge_lengths_do_not_overflow(void **state) {
    (void)state;
    struct buf buf;
    buf_init(&buf, SIZE_MAX);
    assert_true(buf_append_text(&buf, "x"));
    assert_false(buf_append(&buf, "x", SIZE_MAX));
    assert_true(buf.failed);
    buf_deinit(&buf);
    buf_init(&buf, 0);
    assert_true(buf_append(&buf, "", 0));
    assert_false(buf_append(&buf, "x", 1));
    buf_deinit(&buf);
}

static void reset_keeps_memory(void **state) {
    (void)state;
    struct buf buf;
    buf_init(&buf, 1000);
    assert_true(buf_append_text(&buf, "something"));
    const char *data = buf.data;
    buf_reset(&buf);
    assert_int_equal(buf.length, 0);
    assert_string_equal(buf.data, "");
    assert_true(buf_append_text(&buf, "else"));
    assert_ptr_equal(buf.data, data);
    buf_deinit(&buf);
}

static void take_hands_over(void **state) {
    (void)state;
    struct buf buf;
    buf_init(&buf, 1000);
    assert_true(buf_append_text(&buf, "mine"));
    char *taken = buf_take(&buf);
    assert_string_equal(taken, "mine");
    assert_null(buf.data);
    mem_free(taken);
    taken = buf_take(&buf); /* an empty buffer gives an empty string */
    assert_string_equal(taken, "");
    mem_free(taken);
    buf_deinit(&buf);
}

static void no_memory_fails_cleanly(void **state) {
    (void)state;
    struct buf buf;
    buf_init(&buf, 1 << 20);
    assert_true(buf_append_text(&buf, "first"));
    char large[500];
    memset(large, 'x', sizeof large);
    mem_fail_after(1);
    bool grown = buf_append(&buf, large, sizeof large);
    mem_fail_after(0);
    assert_false(grown);
    assert_true(buf.failed);
    assert_null(buf.data);
    buf_deinit(&buf);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_grow_and_end_with_nul),
        cmocka_unit_test(the_maximum_is_exact_and_failure_sticks),
        cmocka_unit_test(huge_lengths_do_not_overflow),
        cmocka_unit_test(reset_keeps_memory),
        cmocka_unit_test(take_hands_over),
        cmocka_unit_test(no_memory_fails_cleanly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
