/* The arena: alignment, clearing, the limit, and no memory. */
#include <string.h>

#include "common/arena.h"
#include "common/mem.h"
#include "tests/support/cm.h"

static void memory_is_aligned_clear_and_separate(void **state) {
    (void)state;
    enum { COUNT = 2000 };
    static unsigned char *blocks[COUNT];
    struct arena *arena = arena_new(0);
    assert_non_null(arena);
    for (size_t i = 0; i < COUNT; i++) {
        size_t size = i % 97 + 1;
        blocks[i] = arena_alloc(arena, size, 3);
        assert_non_null(blocks[i]);
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        for (size_t k = 0; k < size * 3; k++) {
            assert_int_equal(blocks[i][k], 0);
        }
        memset(blocks[i], (int)(i % 251) + 1, size * 3);
    }
    for (size_t i = 0; i < COUNT; i++) {
        for (size_t k = 0; k < (i % 97 + 1) * 3; k++) {
            assert_int_equal(blocks[i][k], i % 251 + 1);
        }
    }
    arena_free(arena);
}

static void a_large_object_gets_its_own_block(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    char *small = arena_strdup(arena, "before");
    char *large = arena_alloc(arena, 3, 1 << 20);
    char *after = arena_strdup(arena, "after");
    assert_non_null(large);
    memset(large, 'x', 3U << 20);
    assert_string_equal(small, "before");
    assert_string_equal(after, "after");
    assert_in_range(arena_used(arena), 3U << 20, (3U << 20) + 64);
    arena_free(arena);
}

static void the_limit_holds(void **state) {
    (void)state;
    enum { LIMIT = 100000 };
    struct arena *arena = arena_new(LIMIT);
    size_t got = 0;
    while (arena_alloc(arena, 100, 1) != NULL) {
        got++;
        assert_true(got <= LIMIT / 100);
    }
    assert_true(got > LIMIT / 112 - 10); /* 100 bytes take 112; little is lost to heads of blocks */
    assert_true(arena_used(arena) <= LIMIT);
    assert_null(arena_alloc(arena, 1, LIMIT));
    arena_free(arena);
}

static void overflow_gives_null(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    assert_null(arena_alloc(arena, SIZE_MAX, 2));
    assert_null(arena_alloc(arena, SIZE_MAX, 1));
    assert_null(arena_alloc(arena, SIZE_MAX - 14, 1));
    assert_null(arena_strndup(arena, "x", SIZE_MAX));
    assert_int_equal(arena_used(arena), 0);
    arena_free(arena);
}

static void strings_are_copied_and_ended(void **state) {
    (void)state;
    struct arena *arena = arena_new(0);
    char source[] = "abcdef";
    char *part = arena_strndup(arena, source, 3);
    char *whole = arena_strdup(arena, source);
    char *empty = arena_strndup(arena, NULL, 0);
    memset(source, 'z', 6);
    assert_string_equal(part, "abc");
    assert_string_equal(whole, "abcdef");
    assert_string_equal(empty, "");
    assert_ptr_not_equal(arena_alloc(arena, 0, 5), arena_alloc(arena, 0, 5));
    arena_free(arena);
    arena_free(NULL);
}

static void no_memory_gives_null(void **state) {
    (void)state;
    mem_fail_after(1);
    struct arena *none = arena_new(0);
    mem_fail_after(2);
    struct arena *arena = arena_new(0);
    void *refused = arena_alloc(arena, 1, 1);
    mem_fail_after(0);
    void *given = arena_alloc(arena, 1, 1);
    assert_null(none);
    assert_null(refused);
    assert_non_null(given);
    arena_free(arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_aligned_clear_and_separate),
        cmocka_unit_test(a_large_object_gets_its_own_block),
        cmocka_unit_test(the_limit_holds),
        cmocka_unit_test(overflow_gives_null),
        cmocka_unit_test(strings_are_copied_and_ended),
        cmocka_unit_test(no_memory_gives_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
