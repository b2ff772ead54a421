/* Checks of uploads: in a child, within a time, and never the end of the daemon. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/mem.h"
#include "server/jobs/job_child.h"
#include "tests/unit/jobs/fake_methods.h"

static const char *file_with(const struct fixture *f, const char *text) {
    struct error error = {0};
    const char *path = scratch_path(&f->scratch, "upload");
    assert_ok(file_write_atomic(path, text, strlen(text), &error), &error);
    return path;
}

static void a_good_file_gives_its_facts_from_a_child(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    json_t *info = NULL;
    fixture_start(f);
    assert_ok(jobs_check_file(f->jobs, STORE_MODEL, file_with(f, "net"), &info, &error), &error);
    assert_string_equal(json_string_value(json_object_get(info, "text")), "net");
    assert_true(json_integer_value(json_object_get(info, "pid")) != (json_int_t)getpid());
    json_decref(info);
    assert_ok(jobs_check_file(f->jobs, STORE_SAMPLES, file_with(f, "set"), &info, &error), &error);
    json_decref(info);
}

static void a_bad_file_is_refused_in_its_own_words(void **state) {
    struct fixture *f = *state;
    for (int isolation = JOB_ISOLATION_PROCESS; isolation <= JOB_ISOLATION_THREAD; isolation++) {
        struct error error = {0};
        json_t *info = NULL;
        f->options.isolation = (enum job_isolation)isolation;
        if (f->jobs == NULL) {
            fixture_start(f);
        } else {
            fixture_restart(f, 0);
        }
        assert_int_equal(jobs_check_file(f->jobs, STORE_MODEL, file_with(f, "bad"), &info, &error), STATUS_UNSUPPORTED);
        assert_string_equal(error.where, "node 'x'");
        assert_string_equal(error.message, "failed to load node x: got operator Foo");
        assert_null(info);
    }
}

static void a_crash_is_the_fault_of_the_file(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    json_t *info = NULL;
    fixture_start(f);
    assert_int_equal(jobs_check_file(f->jobs, STORE_MODEL, file_with(f, "crash"), &info, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "failed to check model"));
    assert_ok(jobs_check_alive(f->jobs, &error), &error);
}

static void children_that_cannot_start_are_told(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    json_t *info = NULL;
    char path[4096], self[4096];
    const ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(length > 0);
    self[length] = '\0';
    (void)snprintf(path, sizeof path, "%s", scratch_path(&f->scratch, "program"));
    f->options.executable = path;
    fixture_start(f);
    assert_ok(jobs_check_children(f->jobs, &error), &error); /* nothing is known against it yet */
    assert_int_equal(jobs_check_file(f->jobs, STORE_MODEL, file_with(f, "net"), &info, &error), STATUS_UNAVAILABLE);
    error_clear(&error);
    assert_int_equal(jobs_check_children(f->jobs, &error), STATUS_UNAVAILABLE);
    assert_non_null(strstr(error.message, "failed to be ready"));
    assert_int_equal(symlink(self, path), 0);
    error_clear(&error);
    assert_ok(jobs_check_children(f->jobs, &error), &error);
    assert_ok(jobs_check_file(f->jobs, STORE_MODEL, file_with(f, "net"), &info, &error), &error);
    json_decref(info);
}

/* Keeps the store's writer busy until it is let go. */
struct brake {
    atomic_bool on, held;
};

static void hold_writer(void *user, const char *job_id) {
    struct brake *brake = user;
    (void)job_id;
    while (atomic_load(&brake->on)) {
        atomic_store(&brake->held, true);
        (void)usleep(1000);
    }
}

/* A machine that stood still may make others look stalled for a moment, too. */
static bool worker_is_told(struct fixture *f, struct error *error) {
    error_clear(error);
    return jobs_check_alive(f->jobs, error) != STATUS_OK && strstr(error->message, "looked for no job") != NULL;
}

/* Submits a job, after which the writer stands still, and with it who claims. A claim may go in one transaction with the submission;
 * then the worker has a job, nothing is stalled, and false is returned. Nothing is asserted while the writer stands still: a failed
 * assertion would leave it so, and the end of the fixture waits for it. */
static bool stall_a_worker(struct fixture *f, struct brake *brake, struct error *error) {
    char id[ID_SIZE];
    struct patience patience = {0};
    atomic_store(&brake->on, true);
    atomic_store(&brake->held, false);
    store_set_listener(f->store, hold_writer, brake);
    fixture_submit(f, "succeed", NULL, id); /* its commit is answered, then the writer stands still */
    while (!worker_is_told(f, error) && jobs_running(f->jobs) == 0 && patience_nap(&patience)) {
    }
    while (store_stalled_s(f->store) <= 0.5 && patience_nap(&patience)) {
    }
    const bool stalled = store_stalled_s(f->store) > 0.5, held = atomic_load(&brake->held);
    const bool running = jobs_running(f->jobs) > 0;
    atomic_store(&brake->on, false);
    store_set_listener(f->store, NULL, NULL);
    assert_true(held);
    assert_true(stalled);
    while (jobs_running(f->jobs) > 0 && patience_nap(&patience)) {
    }
    return !running;
}

static void await_alive(struct fixture *f) {
    struct error error = {0};
    struct patience patience = {0};
    while (jobs_check_alive(f->jobs, &error) != STATUS_OK && patience_nap(&patience)) {
        error_clear(&error);
    }
    assert_ok(jobs_check_alive(f->jobs, &error), &error);
}

static void a_stalled_worker_is_told(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct brake brake = {true, false};
    f->options.stall_s = 4; /* a worker without jobs looks for one every two seconds */
    fixture_start(f);
    await_alive(f);
    for (int tries = 0; !stall_a_worker(f, &brake, &error); tries++) {
        assert_true(tries < 20);
        error_clear(&error);
    }
    assert_int_equal(error.status, STATUS_UNAVAILABLE);
    assert_non_null(strstr(error.message, "looked for no job"));
    await_alive(f);
}

static void a_check_ends_in_time(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    json_t *info = NULL;
    f->options.check_timeout_s = 0.3;
    fixture_start(f);
    double began = clock_seconds();
    assert_int_equal(jobs_check_file(f->jobs, STORE_SAMPLES, file_with(f, "hang"), &info, &error), STATUS_LIMIT);
    assert_true(clock_seconds() - began < HANG_S);
}

/* --- in the background --- */

struct answers {
    pthread_t caller;
    atomic_uint good, bad, same_thread;
};

static void count_answer(void *user, enum status status, json_t *info, const struct error *error) {
    struct answers *answers = user;
    if (pthread_equal(answers->caller, pthread_self()) != 0) {
        atomic_fetch_add(&answers->same_thread, 1);
    }
    if (status == STATUS_OK && info != NULL) {
        atomic_fetch_add(&answers->good, 1);
    } else if (info == NULL && error->message[0] != '\0') {
        atomic_fetch_add(&answers->bad, 1);
    }
    json_decref(info);
}

static void checks_in_the_background_answer_once_each(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct answers answers = {.caller = pthread_self()};
    fixture_start(f);
    const char *good = file_with(f, "net");
    for (int i = 0; i < 5; i++) {
        assert_ok(jobs_check_start(f->jobs, STORE_MODEL, good, count_answer, &answers, &error), &error);
    }
    assert_ok(jobs_check_start(f->jobs, STORE_MODEL, "/no/such/file", count_answer, &answers, &error), &error);
    struct patience patience = {0};
    while (atomic_load(&answers.good) + atomic_load(&answers.bad) < 6 && patience_nap(&patience)) {
    }
    assert_int_equal(atomic_load(&answers.good), 5);
    assert_int_equal(atomic_load(&answers.bad), 1);
    assert_int_equal(atomic_load(&answers.same_thread), 0);
}

static void what_waits_is_answered_when_the_server_stops(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct answers answers = {.caller = pthread_self()};
    fixture_start(f);
    const char *slow = file_with(f, "hang");
    for (int i = 0; i < 4; i++) {
        assert_ok(jobs_check_start(f->jobs, STORE_MODEL, slow, count_answer, &answers, &error), &error);
    }
    double began = clock_seconds();
    jobs_stop(f->jobs, 0);
    f->jobs = NULL;
    assert_true(clock_seconds() - began < HANG_S);
    assert_int_equal(atomic_load(&answers.bad), 4);
}

/* --- work that may block --- */

struct gate {
    pthread_mutex_t lock;
    atomic_uint ran;
};

static void pass_gate(void *user) {
    struct gate *gate = user;
    pthread_mutex_lock(&gate->lock);
    pthread_mutex_unlock(&gate->lock);
    atomic_fetch_add(&gate->ran, 1);
}

static void the_queue_of_helpers_has_an_end(void **state) {
    struct fixture *f = *state;
    struct gate gate = {.lock = PTHREAD_MUTEX_INITIALIZER};
    struct error error = {0};
    unsigned taken = 0;
    fixture_start(f);
    pthread_mutex_lock(&gate.lock);
    while (taken < 10000 && jobs_run_later(f->jobs, pass_gate, &gate, &error) == STATUS_OK) {
        taken++;
    }
    assert_int_equal(error.status, STATUS_UNAVAILABLE);
    assert_true(taken >= 200 && taken < 10000);
    pthread_mutex_unlock(&gate.lock);
    jobs_stop(f->jobs, 0);
    f->jobs = NULL;
    assert_int_equal(atomic_load(&gate.ran), taken);
}

static void a_graph_comes_from_a_child(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    json_t *graph = NULL;
    fixture_start(f);
    assert_ok(jobs_describe_graph(f->jobs, file_with(f, "net"), 7, &graph, &error), &error);
    assert_int_equal(json_integer_value(json_object_get(graph, "layer")), 7);
    json_decref(graph);
    assert_int_equal(jobs_describe_graph(f->jobs, file_with(f, "net"), 101, &graph, &error), STATUS_NOT_FOUND);
    assert_string_equal(error.where, "layer");
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], JOB_CHILD_ARGUMENT) == 0) {
        return job_child_main(argc, argv, &fake_methods);
    }
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_good_file_gives_its_facts_from_a_child),  CASE(a_bad_file_is_refused_in_its_own_words),
        CASE(a_crash_is_the_fault_of_the_file),          CASE(a_check_ends_in_time),
        CASE(children_that_cannot_start_are_told),       CASE(a_stalled_worker_is_told),
        CASE(checks_in_the_background_answer_once_each), CASE(what_waits_is_answered_when_the_server_stops),
        CASE(the_queue_of_helpers_has_an_end),           CASE(a_graph_comes_from_a_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
