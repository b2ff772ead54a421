/* A child that dies, or stands still, at each stage of a job: the job ends in a clear state that says where and why, nothing of the child is
 * left, and the next job runs. This program is its own child. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/jobs/job_child.h"
#include "tests/unit/jobs/fake_methods.h"

static const double DEADLINE_S = 4;
enum { WORKERS = 4 };

/* Goes through the stages up to "stage" and sends itself "signal". */
static enum status run(const struct mitigate_request *request, const struct mitigate_hooks *hooks, json_t **report,
                       struct error *error) {
    const json_int_t last = json_integer_value(json_object_get(request->parameters, "stage"));
    const int number = (int)json_integer_value(json_object_get(request->parameters, "signal"));

    if (number == 0) {
        return fake_methods.run(request, hooks, report, error);
    }
    for (json_int_t stage = 0; stage <= last; stage++) {
        const struct mitigate_progress progress = {.stage = (enum job_stage)stage,
                                                   .fraction = (double)stage / STAGE_COUNT,
                                                   .eta_s = -1,
                                                   .best_reward = 0,
                                                   .message = "on the way"};
        hooks->progress(hooks->user, &progress);
    }
    if (number != SIGKILL && number != SIGSTOP) {
        (void)signal(number, SIG_DFL);
    }
    (void)kill(getpid(), number);
    (void)pause();
    return error_set(error, STATUS_INTERNAL, NULL, "failed to die");
}

static struct job_methods methods(void) {
    struct job_methods made = fake_methods;
    made.run = run;
    return made;
}

static void submit(struct fixture *f, int stage, int number, double deadline_s, char id[ID_SIZE]) {
    struct error error = {0};
    struct store_job job;
    json_t *parameters = json_pack("{s:s, s:i, s:i}", "act", "succeed", "stage", stage, "signal", number);
    const struct store_job_request request = {.model_id = f->model_id,
                                              .samples_id = f->samples_id,
                                              .method = "onp",
                                              .parameters = parameters,
                                              .max_attempts = 2,
                                              .deadline_s = deadline_s};

    assert_ok(jobs_submit(f->jobs, &request, &job, &error), &error);
    memcpy(id, job.id, ID_SIZE);
    store_job_deinit(&job);
    json_decref(parameters);
}

static void start(struct fixture *f, const struct job_methods *made, size_t workers) {
    struct error error = {0};

    f->options.workers = workers;
    assert_ok(jobs_start(f->store, made, &f->options, &f->jobs, &error), &error);
}

static void the_next_job_runs(struct fixture *f) {
    char id[ID_SIZE];
    struct store_job job;

    submit(f, 0, 0, 0, id);
    fixture_await(f, id, JOB_SUCCEEDED, &job);
    store_job_deinit(&job);
    jobs_stop(f->jobs, patience_s(60));
    f->jobs = NULL;
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child, dead or alive */
    assert_int_equal(errno, ECHILD);
}

static void a_child_may_die_at_each_stage(void **state) {
    static const struct {
        int number;
        const char *word;
    } deaths[] = {{SIGKILL, "signal 9 (KILL)"}, {SIGSEGV, "signal 11 (SEGV)"}};
    struct fixture *f = *state;
    const struct job_methods made = methods();
    char ids[STAGE_COUNT][2][ID_SIZE];

    start(f, &made, WORKERS);
    for (int stage = 0; stage < STAGE_COUNT; stage++) {
        for (int i = 0; i < 2; i++) {
            submit(f, stage, deaths[i].number, 0, ids[stage][i]);
        }
    }
    for (int stage = 0; stage < STAGE_COUNT; stage++) {
        for (int i = 0; i < 2; i++) {
            struct store_job job;
            fixture_await(f, ids[stage][i], JOB_FAILED, &job);
            assert_int_equal(job.losses, 2);
            assert_int_equal(job.problem.status, STATUS_INTERNAL);
            assert_non_null(strstr(job.problem.message, deaths[i].word));
            assert_int_equal(job.progress.stage, stage);
            store_job_deinit(&job);
        }
    }
    the_next_job_runs(f);
}

/* Whether the job got to its stage, where it stood still until its deadline. It must end by that in any case. */
static bool stood_still(struct fixture *f, int stage, const char *id) {
    struct store_job job;

    fixture_await(f, id, JOB_FAILED, &job);
    assert_int_equal(job.problem.status, STATUS_LIMIT);
    assert_string_equal(job.problem.where, "/deadline_s");
    assert_int_equal(job.losses, 0);
    const bool there = job.attempt == 1 && (int)job.progress.stage == stage;
    store_job_deinit(&job);
    return there;
}

/* SIGTERM does not reach a stopped process; SIGKILL does. */
static void a_child_may_stand_still_at_each_stage(void **state) {
    struct fixture *f = *state;
    const struct job_methods made = methods();
    char ids[STAGE_COUNT][ID_SIZE];

    start(f, &made, STAGE_COUNT);
    for (int stage = 0; stage < STAGE_COUNT; stage++) {
        submit(f, stage, SIGSTOP, DEADLINE_S, ids[stage]);
    }
    for (int stage = 0; stage < STAGE_COUNT; stage++) {
        double deadline_s = DEADLINE_S;
        while (!stood_still(f, stage, ids[stage])) { /* on a slow machine */
            deadline_s *= 2;
            assert_true(deadline_s < patience_s(60));
            submit(f, stage, SIGSTOP, deadline_s, ids[stage]);
        }
    }
    the_next_job_runs(f);
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], JOB_CHILD_ARGUMENT) == 0) {
        const struct job_methods made = methods();
        return job_child_main(argc, argv, &made);
    }
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_child_may_die_at_each_stage),
        CASE(a_child_may_stand_still_at_each_stage),
    };
    return cmocka_run_group_tests_name("jobs: faults of children", tests, NULL, NULL);
}
