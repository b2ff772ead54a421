/* Jobs with methods that do what the test wants: each way a job can go, in a child process and in a thread. This program is its own
 * child: main() hands over when it is started as one. */
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/mem.h"
#include "server/jobs/job_child.h"
#include "tests/unit/jobs/fake_methods.h"

static size_t attempts_left(const struct fixture *f) {
    size_t count = 0;
    DIR *dir = opendir(scratch_path(&f->scratch, "data/attempts"));
    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        count += entry->d_name[0] != '.' ? 1 : 0;
    }
    closedir(dir);
    return count;
}

static void await_no_folder(const struct fixture *f) {
    struct patience patience = {0};
    while (attempts_left(f) > 0 && patience_nap(&patience)) {
    }
    assert_int_equal(attempts_left(f), 0);
}

static void expect_result(struct fixture *f, const char *id, bool in_child) {
    struct error error = {0};
    json_t *report = NULL;
    struct store_artifact artifact;
    assert_ok(store_job_result(f->store, id, &report, &error), &error);
    assert_string_equal(json_string_value(json_object_get(report, "model")), "model bytes");
    assert_string_equal(json_string_value(json_object_get(report, "method")), "onp");
    assert_int_equal(json_integer_value(json_object_get(report, "seed")), 7);
    assert_true(json_integer_value(json_object_get(report, "threads")) >= 1);
    if (in_child) {
        assert_string_equal(json_string_value(json_object_get(report, "openblas")), "1");
        assert_false(json_is_true(json_object_get(report, "secret")));
        assert_int_equal(json_integer_value(json_object_get(report, "core")), 0);
    }
    json_decref(report);
    assert_ok(store_artifact_find(f->store, id, ARTIFACT_MODEL, &artifact, &error), &error);
    assert_int_equal(artifact.blob.size, 8);
}

static void succeeds(struct fixture *f, bool in_child) {
    char id[ID_SIZE];
    struct store_job job;
    fixture_start(f);
    assert_int_equal(jobs_check_alive(f->jobs, NULL), STATUS_OK);
    fixture_submit(f, "succeed", NULL, id);
    fixture_await(f, id, JOB_SUCCEEDED, &job);
    assert_int_equal(job.attempt, 1);
    assert_int_equal(job.progress.stage, STAGE_SEARCH);
    assert_int_equal(job.progress.step, 3);
    assert_true(job.progress.best_reward == 0.5);
    assert_string_equal(job.progress.message, "searching");
    store_job_deinit(&job);
    expect_result(f, id, in_child);
    await_no_folder(f);
}

static void a_job_succeeds_in_a_child(void **state) {
    struct fixture *f = *state;
    assert_int_equal(setenv("ONP_TOKEN", "secret", 1), 0);
    succeeds(f, true);
}

static void a_job_succeeds_in_a_thread(void **state) {
    struct fixture *f = *state;
    f->options.isolation = JOB_ISOLATION_THREAD;
    succeeds(f, false);
}

static void fails(struct fixture *f) {
    char id[ID_SIZE];
    struct store_job job;
    fixture_start(f);
    fixture_submit(f, "fail", NULL, id);
    fixture_await(f, id, JOB_FAILED, &job);
    assert_int_equal(job.attempt, 1);
    assert_int_equal(job.problem.status, STATUS_NUMERIC);
    assert_string_equal(job.problem.where, "node 'conv1'");
    assert_string_equal(job.problem.message, "failed to compute node conv1: got NaN");
    store_job_deinit(&job);
}

static void a_failure_is_told_as_it_was(void **state) {
    fails(*state);
}

static void a_failure_in_a_thread_is_told_as_it_was(void **state) {
    struct fixture *f = *state;
    f->options.isolation = JOB_ISOLATION_THREAD;
    fails(f);
}

static void a_crash_is_tried_again_three_times(void **state) {
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct store_job job;
    fixture_start(f);
    fixture_submit(f, "crash", scratch_path(&f->scratch, "runs"), id);
    fixture_await(f, id, JOB_FAILED, &job);
    assert_int_equal(job.attempt, 3);
    assert_int_equal(job.losses, 3);
    assert_int_equal(job.problem.status, STATUS_INTERNAL);
    assert_non_null(strstr(job.problem.message, "signal 6 (ABRT)"));
    store_job_deinit(&job);
    assert_int_equal(fixture_lines(f, "runs"), 3);
}

static void a_crash_may_be_followed_by_success(void **state) {
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct store_job job;
    fixture_start(f);
    fixture_submit(f, "crash_once", scratch_path(&f->scratch, "runs"), id);
    fixture_await(f, id, JOB_SUCCEEDED, &job);
    assert_int_equal(job.attempt, 2);
    store_job_deinit(&job);
    expect_result(f, id, true);
}

static void a_silent_end_is_a_loss(void **state) {
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct store_job job;
    f->options.max_attempts = 1;
    fixture_start(f);
    fixture_submit(f, "exit", NULL, id);
    fixture_await(f, id, JOB_FAILED, &job);
    assert_int_equal(job.attempt, 1);
    assert_non_null(strstr(job.problem.message, "status 5"));
    store_job_deinit(&job);
}

static void a_child_that_is_not_ours_is_never_run_again(void **state) {
    struct fixture *f = *state;
    static const char *const ACTS[] = {"babble", "flood", "lie", "symlink", "nothing"};
    fixture_start(f);
    for (size_t i = 0; i < sizeof ACTS / sizeof ACTS[0]; i++) {
        char id[ID_SIZE];
        struct store_job job;
        struct store_artifact *artifacts = NULL;
        size_t count = 9;
        struct error error = {0};
        fixture_submit(f, ACTS[i], NULL, id);
        fixture_await(f, id, JOB_FAILED, &job);
        assert_int_equal(job.attempt, 1);
        assert_int_equal(job.problem.status, STATUS_INTERNAL);
        assert_true(job.problem.message[0] != '\0');
        assert_true(job.progress.fraction <= 1);
        store_job_deinit(&job);
        assert_ok(store_artifact_list(f->store, id, &artifacts, &count, &error), &error);
        assert_int_equal(count, 0);
        mem_free(artifacts);
    }
}

static void a_child_keeps_to_its_limits(void **state) {
    struct fixture *f = *state;
    static const char *const ACTS[] = {"big_file", "hungry"};
    static const enum status EXPECTED[] = {STATUS_IO, STATUS_NO_MEMORY};
    size_t count = 2;
    f->options.file_limit = 100000;
    f->options.memory_limit = 256 << 20;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    /* A sanitizer's shadow memory is larger than any limit of sense. */
    f->options.memory_limit = 0;
    count = 1;
#endif
    fixture_start(f);
    for (size_t i = 0; i < count; i++) {
        char id[ID_SIZE];
        struct store_job job;
        fixture_submit(f, ACTS[i], NULL, id);
        fixture_await(f, id, JOB_FAILED, &job);
        assert_int_equal(job.attempt, 1);
        assert_int_equal(job.problem.status, EXPECTED[i]);
        store_job_deinit(&job);
    }
}

static void cancels(struct fixture *f, const char *act) {
    char id[ID_SIZE];
    char other[ID_SIZE];
    struct store_job job;
    struct error error = {0};
    fixture_submit(f, act, NULL, id);
    fixture_submit(f, "succeed", NULL, other);
    fixture_await(f, id, JOB_RUNNING, &job);
    store_job_deinit(&job);
    assert_ok(jobs_cancel(f->jobs, id, &job, &error), &error);
    assert_int_equal(job.state, JOB_CANCELLING);
    store_job_deinit(&job);
    assert_ok(jobs_cancel(f->jobs, id, NULL, &error), &error);
    fixture_await(f, id, JOB_CANCELLED, &job);
    assert_int_equal(job.attempt, 1);
    store_job_deinit(&job);
    /* The worker goes on with the next. */
    fixture_await(f, other, JOB_SUCCEEDED, &job);
    store_job_deinit(&job);
}

static void a_running_job_is_cancelled(void **state) {
    struct fixture *f = *state;
    fixture_start(f);
    cancels(f, "hang");
}

static void a_job_that_does_not_listen_is_killed(void **state) {
    struct fixture *f = *state;
    fixture_start(f);
    cancels(f, "deaf");
}

static void a_job_in_a_thread_is_cancelled(void **state) {
    struct fixture *f = *state;
    f->options.isolation = JOB_ISOLATION_THREAD;
    fixture_start(f);
    cancels(f, "hang");
}

static void a_queued_job_is_cancelled_without_running(void **state) {
    struct fixture *f = *state;
    char first[ID_SIZE];
    char second[ID_SIZE];
    struct store_job job;
    struct error error = {0};
    fixture_start(f);
    fixture_submit(f, "hang", NULL, first);
    fixture_submit(f, "succeed", scratch_path(&f->scratch, "runs"), second);
    assert_ok(jobs_cancel(f->jobs, second, &job, &error), &error);
    assert_int_equal(job.state, JOB_CANCELLED);
    store_job_deinit(&job);
    assert_ok(jobs_cancel(f->jobs, first, NULL, &error), &error);
    fixture_await(f, first, JOB_CANCELLED, &job);
    store_job_deinit(&job);
    assert_int_equal(fixture_lines(f, "runs"), 0);
    struct error conflict = {0};
    fixture_submit(f, "fail", NULL, first);
    fixture_await(f, first, JOB_FAILED, &job);
    store_job_deinit(&job);
    assert_int_equal(jobs_cancel(f->jobs, first, NULL, &conflict), STATUS_CONFLICT);
}

static void a_deadline_ends_a_job(void **state) {
    struct fixture *f = *state;
    for (int isolation = JOB_ISOLATION_PROCESS; isolation <= JOB_ISOLATION_THREAD; isolation++) {
        char ids[2][ID_SIZE];
        f->options.isolation = (enum job_isolation)isolation;
        if (f->jobs == NULL) {
            fixture_start(f);
        } else {
            fixture_restart(f, 0);
        }
        /* The second is past its deadline before the first is over. */
        fixture_submit_hanging(f, 1.0, ids[0]);
        fixture_submit_hanging(f, 0.1, ids[1]);
        for (int i = 0; i < 2; i++) {
            struct store_job job;
            fixture_await(f, ids[i], JOB_FAILED, &job);
            assert_int_equal(job.problem.status, STATUS_LIMIT);
            assert_string_equal(job.problem.where, "/deadline_s");
            assert_true((double)(job.finished_ms - job.created_ms) < 1000 * patience_s(60));
            store_job_deinit(&job);
        }
    }
}

static void a_drain_lets_finish_what_can(void **state) {
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct store_job job;
    fixture_start(f);
    fixture_submit(f, "succeed", NULL, id);
    struct patience patience = {0};
    while (jobs_running(f->jobs) == 0 && patience_nap(&patience)) {
        struct error error = {0};
        assert_ok(store_job_find(f->store, id, &job, &error), &error);
        bool over = job_state_is_terminal(job.state);
        store_job_deinit(&job);
        if (over) {
            break;
        }
    }
    jobs_stop(f->jobs, patience_s(60));
    f->jobs = NULL;
    struct error error = {0};
    assert_ok(store_job_find(f->store, id, &job, &error), &error);
    assert_int_equal(job.state, JOB_SUCCEEDED);
    store_job_deinit(&job);
}

static void a_restart_runs_again_what_ran(void **state) {
    struct fixture *f = *state;
    for (int isolation = JOB_ISOLATION_PROCESS; isolation <= JOB_ISOLATION_THREAD; isolation++) {
        char id[ID_SIZE];
        const char *name = isolation == JOB_ISOLATION_PROCESS ? "runs-p" : "runs-t";
        struct store_job job;
        f->options.isolation = (enum job_isolation)isolation;
        if (f->jobs == NULL) {
            fixture_start(f);
        } else {
            fixture_restart(f, 0);
        }
        fixture_submit(f, "hang_once", scratch_path(&f->scratch, name), id);
        struct patience patience = {0};
        while (fixture_lines(f, name) == 0 && patience_nap(&patience)) {
        }
        fixture_restart(f, 0.05);
        fixture_await(f, id, JOB_SUCCEEDED, &job);
        assert_int_equal(job.attempt, 2);
        assert_int_equal(job.losses, 0);
        store_job_deinit(&job);
        assert_int_equal(fixture_lines(f, name), 2);
    }
}

static pid_t first_process(const struct fixture *f, const char *name) {
    char *text = NULL;
    size_t length = 0;
    struct error error = {0};
    assert_ok(file_read(scratch_path(&f->scratch, name), 1000, &text, &length, &error), &error);
    long number = strtol(text, NULL, 10);
    mem_free(text);
    assert_true(number > 1);
    return (pid_t)number;
}

/* No such process, or one that only waits to be buried by somebody else. */
static bool is_dead(pid_t pid) {
    char path[64];
    char stat[256] = "";
    (void)snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        return true;
    }
    (void)!fread(stat, 1, sizeof stat - 1, file);
    (void)fclose(file);
    const char *after_name = strrchr(stat, ')');
    return after_name == NULL || after_name[1] == '\0' || after_name[2] == 'Z' || after_name[2] == 'X';
}

/* A daemon that is killed: its child goes with it, and the next daemon runs the job again. */
static void a_killed_daemon_loses_no_job(void **state) {
    struct fixture *f = *state;
    char id[ID_SIZE];
    struct store_job job;
    int status = 0;
    int ends[2];
    store_close(f->store);
    f->store = NULL;
    assert_int_equal(pipe(ends), 0);
    pid_t daemon = fork();
    assert_true(daemon >= 0);
    if (daemon == 0) {
        struct error error = {0};
        if (store_open(scratch_path(&f->scratch, "data"), NULL, &f->store, &error) != STATUS_OK) {
            _exit(1);
        }
        fixture_start(f);
        fixture_submit(f, "hang_once", scratch_path(&f->scratch, "runs"), id);
        while (fixture_lines(f, "runs") == 0) {
            (void)usleep(5000);
        }
        (void)!write(ends[1], id, ID_SIZE);
        (void)pause();
        _exit(2);
    }
    assert_int_equal(read(ends[0], id, ID_SIZE), ID_SIZE);
    (void)close(ends[0]);
    (void)close(ends[1]);
    assert_int_equal(kill(daemon, SIGKILL), 0);
    assert_int_equal(waitpid(daemon, &status, 0), daemon);
    pid_t child = first_process(f, "runs");
    struct patience patience = {0};
    while (!is_dead(child) && patience_nap(&patience)) {
    }
    assert_true(is_dead(child));
    struct error error = {0};
    assert_ok(store_open(scratch_path(&f->scratch, "data"), NULL, &f->store, &error), &error);
    fixture_start(f);
    fixture_await(f, id, JOB_SUCCEEDED, &job);
    assert_int_equal(job.attempt, 2);
    assert_int_equal(job.losses, 1);
    store_job_deinit(&job);
    await_no_folder(f);
    assert_int_equal(fixture_lines(f, "runs"), 2);
}

static void two_workers_do_twenty_jobs_once_each(void **state) {
    struct fixture *f = *state;
    enum { COUNT = 20 };
    char ids[COUNT][ID_SIZE];
    f->options.workers = 2;
    fixture_start(f);
    for (int i = 0; i < COUNT; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "runs-%d", i);
        fixture_submit(f, "succeed", scratch_path(&f->scratch, name), ids[i]);
    }
    for (int i = 0; i < COUNT; i++) {
        char name[32];
        struct store_job job;
        (void)snprintf(name, sizeof name, "runs-%d", i);
        fixture_await(f, ids[i], JOB_SUCCEEDED, &job);
        assert_int_equal(job.attempt, 1);
        store_job_deinit(&job);
        assert_int_equal(fixture_lines(f, name), 1);
    }
}

static void a_wrong_request_is_refused_with_its_place(void **state) {
    struct fixture *f = *state;
    fixture_start(f);
    json_t *parameters = json_pack("{s:s}", "act", "succeed");
    const struct store_job_request good = {
        .model_id = f->model_id, .samples_id = f->samples_id, .method = "onp", .parameters = parameters};
    struct store_job_request bad[4] = {good, good, good, good};
    static const char *const PLACES[] = {"/method", "/parameters/act", "/model_id", "/probe_id"};
    static const enum status STATUSES[] = {STATUS_INVALID, STATUS_INVALID, STATUS_NOT_FOUND, STATUS_NOT_FOUND};
    bad[0].method = "magic";
    bad[1].parameters = NULL;
    bad[2].model_id = "mdl_none";
    bad[3].probe_id = f->model_id;
    for (size_t i = 0; i < sizeof PLACES / sizeof PLACES[0]; i++) {
        struct error error = {0};
        struct store_job job;
        assert_int_equal(jobs_submit(f->jobs, &bad[i], &job, &error), STATUSES[i]);
        assert_string_equal(error.where, PLACES[i]);
    }
    json_decref(parameters);
}

static void options_out_of_range_are_refused(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct jobs *jobs = NULL;
    f->options.workers = 0;
    assert_int_equal(jobs_start(f->store, &fake_methods, &f->options, &jobs, &error), STATUS_INVALID);
    assert_null(jobs);
}

static void behind_the_walls_a_job_runs_and_a_breach_ends_it(void **state) {
    struct fixture *f = *state;
    struct jobs_sandbox sandbox;
    struct store_job job;
    struct error error = {0};
    char id[ID_SIZE];
    json_t *info = NULL;
    f->options.sandbox = JOB_SANDBOX_AUTO;
    fixture_start(f);
    fixture_submit(f, "succeed", NULL, id);
    fixture_await(f, id, JOB_SUCCEEDED, &job);
    store_job_deinit(&job);
    jobs_sandbox(f->jobs, &sandbox);
    assert_int_equal(sandbox.breaches, 0);
    if (!sandbox.calls) {
        print_message("skipped: this kernel cannot filter system calls\n");
        skip();
    }
    fixture_submit(f, "breach", NULL, id);
    fixture_await(f, id, JOB_FAILED, &job);
    assert_int_equal(job.attempt, 1);
    assert_non_null(strstr(job.problem.message, "failed to stay in the sandbox"));
    store_job_deinit(&job);
    const char *path = scratch_path(&f->scratch, "upload");
    assert_ok(file_write_atomic(path, "breach", 6, &error), &error);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(jobs_check_file(f->jobs, STORE_MODEL, path, &info, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "failed to stay in the sandbox"));
    jobs_sandbox(f->jobs, &sandbox);
    assert_int_equal(sandbox.breaches, 2);
    assert_int_equal(jobs_check_alive(f->jobs, NULL), STATUS_OK);
}

static void what_is_required_and_missing_stops_the_start(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    f->options.sandbox = JOB_SANDBOX_REQUIRE;
    f->options.isolation = JOB_ISOLATION_THREAD;
    assert_int_equal(jobs_start(f->store, &fake_methods, &f->options, &f->jobs, &error), STATUS_UNSUPPORTED);
    assert_null(f->jobs);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], JOB_CHILD_ARGUMENT) == 0) {
        return job_child_main(argc, argv, &fake_methods);
    }
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_job_succeeds_in_a_child),
        CASE(a_job_succeeds_in_a_thread),
        CASE(a_failure_is_told_as_it_was),
        CASE(a_failure_in_a_thread_is_told_as_it_was),
        CASE(a_crash_is_tried_again_three_times),
        CASE(a_crash_may_be_followed_by_success),
        CASE(a_silent_end_is_a_loss),
        CASE(a_child_that_is_not_ours_is_never_run_again),
        CASE(a_child_keeps_to_its_limits),
        CASE(behind_the_walls_a_job_runs_and_a_breach_ends_it),
        CASE(what_is_required_and_missing_stops_the_start),
        CASE(a_running_job_is_cancelled),
        CASE(a_job_that_does_not_listen_is_killed),
        CASE(a_job_in_a_thread_is_cancelled),
        CASE(a_queued_job_is_cancelled_without_running),
        CASE(a_deadline_ends_a_job),
        CASE(a_drain_lets_finish_what_can),
        CASE(a_restart_runs_again_what_ran),
        CASE(a_killed_daemon_loses_no_job),
        CASE(two_workers_do_twenty_jobs_once_each),
        CASE(a_wrong_request_is_refused_with_its_place),
        CASE(options_out_of_range_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
