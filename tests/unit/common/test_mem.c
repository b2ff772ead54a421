/* Checked allocation: products, alignment, clearing, and the hook that makes allocations fail. */
#include <string.h>

#include "common/mem.h"
#include "tests/support/cm.h"

static void multiply_detects_overflow(void **state) {
    (void)state;
    size_t product = 7;
    assert_true(mem_multiply(3, 5, &product));
    assert_int_equal(product, 15);
    assert_true(mem_multiply(0, SIZE_MAX, &product));
    assert_int_equal(product, 0);
    assert_true(mem_multiply(SIZE_MAX, 1, &product));
    assert_true(product == SIZE_MAX);
    assert_false(mem_multiply(SIZE_MAX / 2 + 1, 2, &product));
    assert_false(mem_multiply((size_t)1 << 32, (size_t)1 << 32, &product));
}

static void overflowing_sizes_give_null(void **state) {
    (void)state;
    char *block = mem_alloc(8, 1);
    assert_non_null(block);
    memcpy(block, "content", 8);
    size_t half = (size_t)1 << 33;
    assert_null(mem_alloc(half, half));
    assert_null(mem_calloc(half, half));
    assert_null(mem_aligned(half, half));
    assert_null(mem_realloc(block, half, half));
    assert_null(mem_alloc(SIZE_MAX, 1));
    assert_null(mem_aligned(PTRDIFF_MAX, 1));
    assert_string_equal(block, "content"); /* the old block is still ours */
    mem_free(block);
}

static void zero_bytes_give_a_pointer(void **state) {
    (void)state;
    void *blocks[] = {mem_alloc(0, 4), mem_calloc(4, 0), mem_aligned(0, 0), mem_dup("", 0), mem_realloc(NULL, 0, 1)};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        assert_non_null(blocks[i]);
        mem_free(blocks[i]);
    }
    mem_free(NULL);
}

static void aligned_is_aligned_and_clear(void **state) {
    (void)state;
    for (size_t size = 1; size < 1000; size += 37) {
        unsigned char *block = mem_aligned(size, 3);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % 64, 0);
        for (size_t i = 0; i < size * 3; i++) {
            assert_int_equal(block[i], 0);
        }
        memset(block, 0xff, size * 3); /* dirties it for the next round, and for the sanitizer */
        mem_free(block);
    }
}

static void copies_are_equal(void **state) {
    (void)state;
    char *text = mem_strdup("hello");
    char *bytes = mem_dup("a\0b", 4);
    assert_string_equal(text, "hello");
    assert_memory_equal(bytes, "a\0b", 4);
    assert_null(mem_strdup(NULL));
    mem_free(text);
    mem_free(bytes);
}

static void realloc_keeps_content(void **state) {
    (void)state;
    char *block = mem_realloc(NULL, 4, 1);
    assert_non_null(block);
    memcpy(block, "abc", 4);
    char *larger = mem_realloc(block, 100000, 2);
    assert_non_null(larger);
    assert_string_equal(larger, "abc");
    mem_free(larger);
}

static void nth_allocation_and_all_later_fail(void **state) {
    (void)state;
    uint64_t before = mem_allocation_count();
    mem_fail_after(3);
    void *first = mem_alloc(1, 1);
    void *second = mem_calloc(1, 1);
    void *third = mem_aligned(1, 1);
    void *fourth = mem_strdup("x");
    void *fifth = mem_realloc(NULL, 1, 1);
    mem_fail_after(0);
    void *sixth = mem_alloc(1, 1);
    assert_non_null(first);
    assert_non_null(second);
    assert_null(third);
    assert_null(fourth);
    assert_null(fifth);
    assert_non_null(sixth);
    assert_int_equal(mem_allocation_count() - before, 6);
    mem_free(first);
    mem_free(second);
    mem_free(sixth);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(multiply_detects_overflow),
        cmocka_unit_test(overflowing_sizes_give_null),
        cmocka_unit_test(zero_bytes_give_a_pointer),
        cmocka_unit_test(aligned_is_aligned_and_clear),
        cmocka_unit_test(copies_are_equal),
        cmocka_unit_test(realloc_keeps_content),
        cmocka_unit_test(nth_allocation_and_all_later_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
