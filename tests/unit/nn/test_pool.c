/* The pool: every index once, threads in range, runs one after the other, clean ends. */
#include "server/nn/pool.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "common/mem.h"
#include "tests/support/cm.h"

enum { COUNT = 1000 };

struct tally {
    size_t threads;
    atomic_int seen[COUNT];
    atomic_int wrong_thread;
    atomic_int at_work[64]; /* tasks a thread is inside of: never 2 */
    atomic_int doubled;
};

static void tally_one(void *user, size_t index, size_t thread) {
    struct tally *tally = user;
    if (thread >= tally->threads) {
        atomic_fetch_add(&tally->wrong_thread, 1);
        return;
    }
    if (atomic_fetch_add(&tally->at_work[thread], 1) != 0) {
        atomic_fetch_add(&tally->doubled, 1);
    }
    atomic_fetch_add(&tally->seen[index], 1);
    atomic_fetch_sub(&tally->at_work[thread], 1);
}

static void test_every_index_once(void **state) {
    static const size_t counts[] = {0, 1, 2, 3, 7, COUNT};
    static struct tally tally;
    (void)state;

    for (size_t threads = 1; threads <= 5; threads++) {
        struct error error = {0};
        struct pool *pool = NULL;
        assert_int_equal(pool_new(threads, &pool, &error), STATUS_OK);
        assert_int_equal(pool_threads(pool), threads);
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            memset(&tally, 0, sizeof tally);
            tally.threads = threads;
            pool_run(pool, counts[c], tally_one, &tally);
            for (size_t i = 0; i < COUNT; i++) {
                assert_int_equal(atomic_load(&tally.seen[i]), i < counts[c] ? 1 : 0);
            }
            assert_int_equal(atomic_load(&tally.wrong_thread), 0);
            assert_int_equal(atomic_load(&tally.doubled), 0);
        }
        pool_free(pool);
    }
}

static void test_many_short_runs(void **state) {
    struct error error = {0};
    struct pool *pool = NULL;
    static struct tally tally;
    (void)state;

    assert_int_equal(pool_new(3, &pool, &error), STATUS_OK);
    memset(&tally, 0, sizeof tally);
    tally.threads = 3;
    for (int i = 0; i < 3000; i++) {
        pool_run(pool, 4, tally_one, &tally);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(atomic_load(&tally.seen[i]), 3000);
    }
    pool_free(pool);
}

static void sleep_and_note(void *user, size_t index, size_t thread) {
    atomic_int *used = user;
    const struct timespec nap = {.tv_nsec = 20 * 1000 * 1000};
    (void)index;
    (void)nanosleep(&nap, NULL);
    atomic_store(&used[thread], 1);
}

static void test_work_is_shared(void **state) {
    struct error error = {0};
    struct pool *pool = NULL;
    atomic_int used[3] = {0};
    (void)state;

    assert_int_equal(pool_new(3, &pool, &error), STATUS_OK);
    pool_run(pool, 9, sleep_and_note, used); /* sleeping tasks: all threads get some, whatever the cores */
    assert_int_equal(atomic_load(&used[0]) + atomic_load(&used[1]) + atomic_load(&used[2]), 3);
    pool_free(pool);
}

static void test_sizes(void **state) {
    struct error error = {0};
    struct pool *pool = NULL;
    (void)state;

    assert_int_equal(pool_new(0, &pool, &error), STATUS_OK);
    assert_true(pool_threads(pool) >= 1);
    pool_free(pool);
    pool_free(NULL);
    pool = NULL;
    assert_int_equal(pool_new(1000000, &pool, &error), STATUS_LIMIT);
    assert_null(pool);
}

static void test_new_survives_no_memory(void **state) {
    enum status status = STATUS_NO_MEMORY;
    uint64_t tries = 0;
    (void)state;

    for (uint64_t n = 1; status != STATUS_OK; n++, tries++) {
        struct error error = {0};
        struct pool *pool = NULL;
        mem_fail_after(n);
        status = pool_new(2, &pool, &error);
        mem_fail_after(0);
        assert_true(status == STATUS_OK || (status == STATUS_NO_MEMORY && pool == NULL));
        pool_free(pool);
    }
    assert_int_equal(tries, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_index_once),       cmocka_unit_test(test_many_short_runs),
        cmocka_unit_test(test_work_is_shared),         cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_new_survives_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
