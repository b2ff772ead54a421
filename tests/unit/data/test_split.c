/* The split: every sample once, shares kept class by class and as a whole, fixed by the seed. */
#include <string.h>

#include "common/mem.h"
#include "server/data/split.h"
#include "tests/support/cm.h"

enum { LABELS_MAX = 1000, CLASSES_MAX = 100 };

static const size_t SHARE[3] = {3, 1, 1}; /* of five */

/* Counts each sample and class; each class within one of its shares (two in the sum of what is left over). */
static void check(const int32_t *labels, size_t count, size_t classes, const struct split *split) {
    const size_t *parts[3] = {split->build, split->score, split->locked};
    const size_t counts[3] = {split->build_count, split->score_count, split->locked_count};
    size_t seen[LABELS_MAX] = {0}, sizes[CLASSES_MAX] = {0}, of_class[3][CLASSES_MAX] = {{0}};
    for (size_t i = 0; i < count; i++) {
        sizes[labels[i]]++;
    }
    for (size_t p = 0; p < 3; p++) {
        assert_true(counts[p] >= 1);
        for (size_t i = 0; i < counts[p]; i++) {
            assert_true(parts[p][i] < count);
            seen[parts[p][i]]++;
            of_class[p][labels[parts[p][i]]]++;
        }
        assert_true(counts[p] * 5 < count * SHARE[p] + 10 && counts[p] * 5 + 10 > count * SHARE[p]);
    }
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(seen[i], 1);
    }
    for (size_t c = 0; c < classes; c++) {
        for (size_t p = 0; p < 3; p++) {
            assert_true(of_class[p][c] * 5 < sizes[c] * SHARE[p] + 5 && of_class[p][c] * 5 + 5 > sizes[c] * SHARE[p]);
        }
    }
}

static struct split *split_of(const int32_t *labels, size_t count, size_t classes, uint64_t seed) {
    struct rng rng;
    struct split *split = NULL;
    struct error error = {0};
    rng_seed(&rng, seed);
    assert_int_equal(split_new(labels, count, classes, &rng, &split, &error), STATUS_OK);
    return split;
}

static void test_stratified(void **state) {
    (void)state;
    int32_t labels[LABELS_MAX];
    for (size_t i = 0; i < LABELS_MAX; i++) {
        labels[i] = (int32_t)(i * i % 7 * (i % 3)); /* uneven, some classes empty */
    }
    for (size_t count = 5; count <= LABELS_MAX; count += 37) {
        struct split *split = split_of(labels, count, 20, count);
        check(labels, count, 20, split);
        split_free(split);
    }
}

static void test_five_hundred_of_ten(void **state) {
    (void)state;
    int32_t labels[500];
    for (size_t i = 0; i < 500; i++) {
        labels[i] = (int32_t)(i % 10);
    }
    struct split *split = split_of(labels, 500, 10, 1);
    assert_int_equal(split->build_count, 300);
    assert_int_equal(split->score_count, 100);
    assert_int_equal(split->locked_count, 100);
    check(labels, 500, 10, split);
    split_free(split);
}

/* All ways to give 5 to 9 samples class sizes, in order: no part may stay empty. */
static void test_small_sets(void **state) {
    (void)state;
    for (size_t count = 5; count <= 9; count++) {
        for (unsigned cuts = 0; cuts < 1u << (count - 1); cuts++) {
            int32_t labels[9] = {0};
            for (size_t i = 1; i < count; i++) {
                labels[i] = labels[i - 1] + (int32_t)(cuts >> (i - 1) & 1);
            }
            struct split *split = split_of(labels, count, 9, cuts);
            check(labels, count, 9, split);
            split_free(split);
        }
    }
}

/* As many classes as samples: shares can only be kept over all of them. */
static void test_singletons(void **state) {
    (void)state;
    int32_t labels[CLASSES_MAX];
    for (size_t i = 0; i < CLASSES_MAX; i++) {
        labels[i] = (int32_t)i;
    }
    struct split *split = split_of(labels, CLASSES_MAX, CLASSES_MAX, 3);
    assert_int_equal(split->build_count, 60);
    assert_int_equal(split->score_count, 20);
    assert_int_equal(split->locked_count, 20);
    split_free(split);
}

static void test_seed(void **state) {
    (void)state;
    int32_t labels[200];
    for (size_t i = 0; i < 200; i++) {
        labels[i] = (int32_t)(i % 4);
    }
    struct split *a = split_of(labels, 200, 4, 5), *b = split_of(labels, 200, 4, 5), *c = split_of(labels, 200, 4, 6);
    assert_memory_equal(a->build, b->build, a->build_count * sizeof *a->build);
    assert_memory_equal(a->score, b->score, a->score_count * sizeof *a->score);
    assert_memory_equal(a->locked, b->locked, a->locked_count * sizeof *a->locked);
    assert_memory_not_equal(a->build, c->build, a->build_count * sizeof *a->build);
    split_free(a);
    split_free(b);
    split_free(c);
}

static void test_refused(void **state) {
    (void)state;
    const int32_t labels[6] = {0, 1, 0, 1, 5, 0}, negative[5] = {0, 0, -1, 0, 0};
    struct rng rng;
    struct split *split = NULL;
    struct error error = {0};
    rng_seed(&rng, 1);
    assert_int_equal(split_new(labels, 4, 2, &rng, &split, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "got 4, expected at least 5"));
    error_clear(&error);
    assert_int_equal(split_new(labels, 6, 2, &rng, &split, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "got class 5 of sample 4"));
    error_clear(&error);
    assert_int_equal(split_new(negative, 5, 2, &rng, &split, &error), STATUS_INVALID);
    assert_null(split);
}

static void test_no_memory(void **state) {
    (void)state;
    const int32_t labels[6] = {0, 1, 0, 1, 1, 0};
    struct rng rng;
    struct split *split = NULL;
    rng_seed(&rng, 1);
    for (uint64_t n = 1; split == NULL; n++) {
        struct error error = {0};
        mem_fail_after(n);
        enum status status = split_new(labels, 6, 2, &rng, &split, &error);
        mem_fail_after(0);
        assert_int_equal(status, split != NULL ? STATUS_OK : STATUS_NO_MEMORY);
    }
    split_free(split);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stratified), cmocka_unit_test(test_five_hundred_of_ten),
        cmocka_unit_test(test_small_sets), cmocka_unit_test(test_singletons),
        cmocka_unit_test(test_seed),       cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("data: split", tests, NULL, NULL);
}
