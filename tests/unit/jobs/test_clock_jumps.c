/* The wall clock jumps, by days and both ways, while jobs wait and run: what runs goes on, what has a deadline keeps it, ids still grow.
 * clock_wall_ms() is replaced at link time (-Wl,--wrap, see the Makefile). */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/unit/jobs/fake_methods.h"

static const int64_t DAYS_MS = 10 * 86400 * (int64_t)1000;

static _Atomic int64_t jump_ms;

int64_t __real_clock_wall_ms(void);
int64_t __wrap_clock_wall_ms(void);

int64_t __wrap_clock_wall_ms(void) {
    return __real_clock_wall_ms() + atomic_load(&jump_ms);
}

static void jump(int64_t ms) {
    atomic_store(&jump_ms, ms);
}

static int setup(void **state) {
    int failed = fixture_setup(state);
    struct fixture *f = *state;

    f->options.isolation = JOB_ISOLATION_THREAD;
    f->options.lease_s = 1; /* several are renewed within a test */
    return failed;
}

static int teardown(void **state) {
    jump(0);
    return fixture_teardown(state);
}

static void await(struct fixture *f, const char *id, enum job_state state) {
    struct store_job job;

    fixture_await(f, id, state, &job);
    assert_int_equal(job.losses, 0);
    assert_true(job.attempt <= 1);
    store_job_deinit(&job);
}

static void what_runs_goes_on(void **state) {
    const int64_t jumps[] = {DAYS_MS, -DAYS_MS, 0};
    struct fixture *f = *state;
    struct error error = {0};
    struct store_job job;
    char running[ID_SIZE], waiting[ID_SIZE];

    fixture_start(f);
    fixture_submit(f, "hang", NULL, running);
    await(f, running, JOB_RUNNING);
    fixture_submit(f, "succeed", NULL, waiting);
    for (size_t i = 0; i < sizeof(jumps) / sizeof(jumps[0]); i++) {
        jump(jumps[i]);
        (void)usleep(700 * 1000); /* a lease is renewed, progress is written */
        await(f, running, JOB_RUNNING);
        await(f, waiting, JOB_QUEUED);
    }
    jump(-DAYS_MS);
    assert_ok(jobs_cancel(f->jobs, running, &job, &error), &error);
    store_job_deinit(&job);
    await(f, running, JOB_CANCELLED);
    await(f, waiting, JOB_SUCCEEDED);
    /* And after a restart in that past. */
    fixture_restart(f, 0);
    fixture_submit(f, "succeed", NULL, waiting);
    await(f, waiting, JOB_SUCCEEDED);
}

/* Submits a job that hangs until its deadline, and waits until it runs. On a slow machine it may be over before that is seen: then once
 * more, with a later one. */
static void run_hanging(struct fixture *f, char id[ID_SIZE]) {
    struct error error = {0};
    struct patience patience = {0};
    struct store_job job;
    enum job_state state = JOB_FAILED;

    for (double deadline_s = 2.0; state != JOB_RUNNING; deadline_s *= 2) {
        fixture_submit_hanging(f, deadline_s, id);
        do {
            assert_true(patience_nap(&patience));
            assert_ok(store_job_find(f->store, id, &job, &error), &error);
            state = job.state;
            store_job_deinit(&job);
        } while (state != JOB_RUNNING && !job_state_is_terminal(state));
    }
}

/* Of a job that runs, by how long it may still take; one that is claimed after a jump into the past may not take longer than was asked. */
static void deadlines_are_kept(void **state) {
    struct fixture *f = *state;
    char ids[2][ID_SIZE];
    struct store_job job;

    fixture_start(f);
    run_hanging(f, ids[0]);
    fixture_submit_hanging(f, 2.0, ids[1]);
    jump(-DAYS_MS);
    for (size_t i = 0; i < 2; i++) {
        fixture_await(f, ids[i], JOB_FAILED, &job);
        assert_int_equal(job.problem.status, STATUS_LIMIT);
        assert_string_equal(job.problem.where, "/deadline_s");
        store_job_deinit(&job);
    }
}

/* A jump ahead ends what waits past its deadline, and says so. */
static void waiting_jobs_expire(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    char running[ID_SIZE], waiting[ID_SIZE];
    struct store_job job;

    fixture_start(f);
    fixture_submit(f, "hang", NULL, running);
    await(f, running, JOB_RUNNING);
    fixture_submit_hanging(f, 3600, waiting);
    assert_ok(store_job_expire_queued(f->store, &error), &error);
    await(f, waiting, JOB_QUEUED);
    jump(DAYS_MS);
    assert_ok(store_job_expire_queued(f->store, &error), &error);
    fixture_await(f, waiting, JOB_FAILED, &job);
    assert_string_equal(job.problem.where, "/deadline_s");
    store_job_deinit(&job);
    await(f, running, JOB_RUNNING);
}

/* Lists go by ids, newest first. */
static void ids_still_grow(void **state) {
    struct fixture *f = *state;
    struct store_job *jobs = NULL;
    struct error error = {0};
    char ids[3][ID_SIZE];
    size_t count = 0;
    bool more = false;

    fixture_start(f);
    for (size_t i = 0; i < 3; i++) {
        jump(i == 0 ? 0 : -DAYS_MS * (int64_t)i);
        fixture_submit(f, "succeed", NULL, ids[i]);
    }
    assert_ok(store_job_list(f->store, NULL, NULL, 10, &jobs, &count, &more, &error), &error);
    assert_int_equal(count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(jobs[i].id, ids[2 - i]);
    }
    store_jobs_free(jobs, count);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(what_runs_goes_on),
        CASE(deadlines_are_kept),
        CASE(waiting_jobs_expire),
        CASE(ids_still_grow),
    };
    return cmocka_run_group_tests_name("jobs: jumps of the clock", tests, NULL, NULL);
}
