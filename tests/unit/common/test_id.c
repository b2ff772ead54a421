/* Ids: well formed, in order, unique over threads. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/id.h"
#include "tests/support/cm.h"

static void made_ids_are_valid_and_in_order(void **state) {
    (void)state;
    char last[ID_SIZE] = "";
    char id[ID_SIZE];
    for (int i = 0; i < 20000; i++) { /* many in one millisecond */
        id_make("job", id);
        assert_true(id_is_valid(id, "job"));
        assert_int_equal(strlen(id), 30);
        assert_true(strcmp(last, id) < 0);
        memcpy(last, id, sizeof last);
    }
}

static void the_time_is_in_front(void **state) {
    (void)state;
    static const char ALPHABET[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    char id[ID_SIZE];
    int64_t before = clock_wall_ms();
    id_make("mdl", id);
    int64_t after = clock_wall_ms();
    int64_t time = 0;
    for (int i = 4; i < 14; i++) { /* ten characters of five bits hold the 48 bits of milliseconds */
        time = time * 32 + (strchr(ALPHABET, id[i]) - ALPHABET);
    }
    assert_true(time >= before - 1000 && time <= after + 1000);
}

static void others_are_refused(void **state) {
    (void)state;
    assert_true(id_is_valid("job_01J9Z3K0000000000000000000", "job"));
    assert_true(id_is_valid("job_7ZZZZZZZZZZZZZZZZZZZZZZZZZ", "job"));
    static const char *const WRONG[] = {
        NULL,
        "",
        "job",
        "job_",
        "job_01J9Z3K000000000000000000",   /* 25 characters */
        "job_01J9Z3K00000000000000000000", /* 27 */
        "mdl_01J9Z3K0000000000000000000",
        "job_01j9z3k0000000000000000000",
        "job_01I9Z3K0000000000000000000", /* no I, L, O, U */
        "job_01L9Z3K0000000000000000000",
        "job_01O9Z3K0000000000000000000",
        "job_01U9Z3K0000000000000000000",
        "job_8ZZZZZZZZZZZZZZZZZZZZZZZZZ", /* more than 128 bits */
        "job-01J9Z3K0000000000000000000",
        "job_01J9Z3K000000000000000000/",
        "../_01J9Z3K0000000000000000000",
    };
    for (size_t i = 0; i < sizeof WRONG / sizeof WRONG[0]; i++) {
        assert_false(id_is_valid(WRONG[i], "job"));
    }
}

static void a_long_prefix_is_cut(void **state) {
    (void)state;
    char id[ID_SIZE];
    id_make("prefix", id);
    assert_int_equal(strlen(id), ID_SIZE - 1);
    assert_true(id_is_valid(id, "pref"));
}

enum { THREADS = 4, PER_THREAD = 2000 };
static char made[THREADS][PER_THREAD][ID_SIZE];

static void *make_many(void *argument) {
    char(*ids)[ID_SIZE] = argument;
    for (int i = 0; i < PER_THREAD; i++) {
        id_make("job", ids[i]);
    }
    return NULL;
}

static int compare(const void *a, const void *b) {
    return memcmp(a, b, ID_SIZE - 2);
}

static void threads_get_different_ids(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, make_many, made[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    qsort(made, (size_t)THREADS * PER_THREAD, ID_SIZE, compare);
    const char(*all)[ID_SIZE] = made[0];
    for (size_t i = 1; i < (size_t)THREADS * PER_THREAD; i++) {
        assert_string_not_equal(all[i - 1], all[i]);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(made_ids_are_valid_and_in_order),
        cmocka_unit_test(the_time_is_in_front),
        cmocka_unit_test(others_are_refused),
        cmocka_unit_test(a_long_prefix_is_cut),
        cmocka_unit_test(threads_get_different_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
