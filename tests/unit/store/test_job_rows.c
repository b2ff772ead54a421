/* Rows of jobs: the order of claims, fencing, each way a job can end, and what it leaves. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/mem.h"
#include "tests/unit/store/fixture.h"

static uint64_t claim_and_start(struct fixture *f, const char *id) {
    struct error error = {0};
    struct store_job job;
    assert_ok(store_job_claim(f->store, 60000, &job, &error), &error);
    assert_string_equal(job.id, id);
    assert_int_equal(job.state, JOB_STARTING);
    uint64_t attempt = job.attempt;
    store_job_deinit(&job);
    assert_ok(store_job_start(f->store, id, attempt, &error), &error);
    assert_int_equal(fixture_state(f, id), JOB_RUNNING);
    return attempt;
}

static void a_job_keeps_what_it_was_made_of(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store_job job;
    struct store_job_request request = fixture_request(f);
    json_t *parameters = json_pack("{s:i}", "budget", 40);
    json_t *labels = json_pack("{s:s, s:s}", "team", "vision", "run", "7");
    request.probe_id = f->samples_id;
    request.parameters = parameters;
    request.labels = labels;
    request.seed = UINT64_MAX;
    request.priority = -4;
    request.deadline_s = 90.5;
    assert_ok(store_job_insert(f->store, &request, 0, &job, &error), &error);
    char id[ID_SIZE];
    memcpy(id, job.id, ID_SIZE);
    store_job_deinit(&job);
    fixture_reopen(f);
    assert_ok(store_job_find(f->store, id, &job, &error), &error);
    assert_int_equal(job.state, JOB_QUEUED);
    assert_int_equal(job.version, 1);
    assert_int_equal(job.attempt, 0);
    assert_int_equal(job.max_attempts, 3);
    assert_string_equal(job.model_id, f->model_id);
    assert_string_equal(job.samples_id, f->samples_id);
    assert_string_equal(job.probe_id, f->samples_id);
    assert_string_equal(job.method, "onp");
    assert_true(json_equal(job.parameters, parameters));
    assert_true(json_equal(job.labels, labels));
    assert_true(job.seed == UINT64_MAX);
    assert_int_equal(job.priority, -4);
    assert_true(job.deadline_s == 90.5);
    assert_int_equal(job.progress.stage, STAGE_COUNT);
    assert_true(isnan(job.progress.best_reward));
    assert_int_equal(job.problem.status, STATUS_OK);
    store_job_deinit(&job);
    json_decref(parameters);
    json_decref(labels);
}

static void a_job_over_nothing_is_refused(void **state) {
    struct fixture *f = *state;
    struct store_job job;
    struct store_job_request request = fixture_request(f);
    struct error error = {0};
    request.model_id = "mdl_none";
    assert_int_equal(store_job_insert(f->store, &request, 0, &job, &error), STATUS_NOT_FOUND);
    assert_string_equal(error.where, "/model_id");
    request = fixture_request(f);
    request.probe_id = f->model_id;
    error_clear(&error);
    assert_int_equal(store_job_insert(f->store, &request, 0, &job, &error), STATUS_NOT_FOUND);
    assert_string_equal(error.where, "/probe_id");
    request = fixture_request(f);
    json_t *labels = json_pack("{s:i}", "team", 3);
    request.labels = labels;
    error_clear(&error);
    assert_int_equal(store_job_insert(f->store, &request, 0, &job, &error), STATUS_INVALID);
    assert_string_equal(error.where, "/labels");
    json_decref(labels);
    assert_int_equal(fixture_number(f, "SELECT count(*) FROM jobs"), 0);
}

static void the_queue_has_an_end(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store_job job;
    struct store_job_request request = fixture_request(f);
    for (int i = 0; i < 2; i++) {
        assert_ok(store_job_insert(f->store, &request, 2, &job, &error), &error);
        store_job_deinit(&job);
    }
    assert_int_equal(store_job_insert(f->store, &request, 2, &job, &error), STATUS_UNAVAILABLE);
    assert_string_equal(error.where, "queue");
}

static void claims_go_by_priority_then_age(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store_job job;
    char ids[4][ID_SIZE];
    static const int PRIORITY[4] = {0, 5, 0, 5};
    static const int ORDER[4] = {1, 3, 0, 2};
    for (int i = 0; i < 4; i++) {
        fixture_job(f, PRIORITY[i], ids[i]);
    }
    for (int i = 0; i < 4; i++) {
        assert_ok(store_job_claim(f->store, 1000, &job, &error), &error);
        assert_string_equal(job.id, ids[ORDER[i]]);
        assert_int_equal(job.attempt, 1);
        assert_true(job.started_ms > 0);
        store_job_deinit(&job);
    }
    assert_int_equal(store_job_claim(f->store, 1000, &job, &error), STATUS_NOT_FOUND);
    assert_int_equal(error.status, STATUS_OK);
}

static void success_leaves_result_and_artifacts(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    char id[ID_SIZE];
    fixture_job(f, 0, id);
    uint64_t attempt = claim_and_start(f, id);
    const struct store_artifact_file files[] = {
        {ARTIFACT_MODEL, scratch_path(&f->scratch, "out.onnx")},
        {ARTIFACT_REPORT, scratch_path(&f->scratch, "out.json")},
    };
    json_t *report = json_pack("{s:s}", "verdict", "removed");
    json_t *read = NULL;
    assert_ok(file_write_atomic(files[0].path, "repaired", 8, &error), &error);
    assert_ok(file_write_atomic(files[1].path, "{}", 2, &error), &error);
    struct error early = {0};
    assert_int_equal(store_job_result(f->store, id, &read, &early), STATUS_CONFLICT);
    assert_ok(store_job_succeed(f->store, id, attempt, report, files, 2, &error), &error);
    assert_int_not_equal(access(files[0].path, F_OK), 0);
    fixture_reopen(f);

    struct store_job job;
    assert_ok(store_job_find(f->store, id, &job, &error), &error);
    assert_int_equal(job.state, JOB_SUCCEEDED);
    assert_string_equal(json_string_value(json_object_get(job.summary, "verdict")), "removed");
    assert_true(json_is_null(json_object_get(job.summary, "asr_before")));
    assert_true(job.finished_ms >= job.started_ms);
    assert_true(job.progress.fraction == 1.0);
    store_job_deinit(&job);
    assert_ok(store_job_result(f->store, id, &read, &error), &error);
    assert_true(json_equal(read, report));
    json_decref(read);
    json_decref(report);

    struct store_artifact *list = NULL;
    size_t count = 0;
    assert_ok(store_artifact_list(f->store, id, &list, &count, &error), &error);
    assert_int_equal(count, 2);
    mem_free(list);
    struct store_artifact model;
    char path[STORE_PATH_SIZE];
    char *data = NULL;
    size_t length = 0;
    assert_ok(store_artifact_find(f->store, id, ARTIFACT_MODEL, &model, &error), &error);
    assert_ok(store_blob_path(f->store, model.blob.sha256, path, &error), &error);
    assert_ok(file_read(path, 100, &data, &length, &error), &error);
    assert_string_equal(data, "repaired");
    mem_free(data);
    error_clear(&early);
    assert_int_equal(store_artifact_find(f->store, id, "other", &model, &early), STATUS_NOT_FOUND);

    /* Deleting the job lets go of its blobs. */
    size_t removed = 0;
    assert_ok(store_job_delete(f->store, id, &error), &error);
    assert_int_equal(fixture_number(f, "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM artifacts)"), 0);
    assert_ok(store_collect_blobs(f->store, &removed, &error), &error);
    assert_int_equal(removed, 2);
}

static void links_are_no_artifacts(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    char id[ID_SIZE];
    fixture_job(f, 0, id);
    uint64_t attempt = claim_and_start(f, id);
    struct store_artifact_file file = {ARTIFACT_MODEL, scratch_path(&f->scratch, "link")};
    json_t *report = json_object();
    assert_int_equal(symlink("/etc/passwd", file.path), 0);
    assert_int_not_equal(store_job_succeed(f->store, id, attempt, report, &file, 1, &error), STATUS_OK);
    file.path = scratch_path(&f->scratch, "hard");
    error_clear(&error);
    assert_int_equal(link(scratch_path(&f->scratch, "data/onp.db"), file.path), 0);
    assert_int_equal(store_job_succeed(f->store, id, attempt, report, &file, 1, &error), STATUS_INVALID);
    error_clear(&error);
    file.path = scratch_path(&f->scratch, "fifo");
    assert_int_equal(mkfifo(file.path, 0600), 0);
    assert_int_equal(store_job_succeed(f->store, id, attempt, report, &file, 1, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "a special file"));
    error_clear(&error);
    struct store_artifact_file many[17] = {{NULL, NULL}};
    assert_int_equal(store_job_succeed(f->store, id, attempt, report, many, 17, &error), STATUS_LIMIT);
    assert_int_equal(fixture_state(f, id), JOB_RUNNING);
    json_decref(report);
}

static void a_late_worker_is_fenced_off(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    char id[ID_SIZE];
    enum job_state reached = JOB_STATE_COUNT;
    struct error lost = {0};
    (void)error_set(&lost, STATUS_INTERNAL, "child", "signal 6");
    fixture_job(f, 0, id);
    uint64_t first = claim_and_start(f, id);
    assert_ok(store_job_interrupt(f->store, id, first, &lost, true, &reached, &error), &error);
    assert_int_equal(reached, JOB_QUEUED);
    uint64_t second = claim_and_start(f, id);
    assert_int_equal(second, first + 1);
    int64_t events = fixture_number(f, "SELECT count(*) FROM events");
    json_t *report = json_object();
    struct store_progress progress = {.stage = STAGE_SEARCH, .fraction = 0.9, .eta_s = 1};
    struct error conflicts[5] = {0};
    assert_int_equal(store_job_succeed(f->store, id, first, report, NULL, 0, &conflicts[0]), STATUS_CONFLICT);
    assert_int_equal(store_job_fail(f->store, id, first, &lost, &conflicts[1]), STATUS_CONFLICT);
    assert_int_equal(store_job_cancelled(f->store, id, first, &conflicts[2]), STATUS_CONFLICT);
    assert_int_equal(store_job_interrupt(f->store, id, first, &lost, true, NULL, &conflicts[3]), STATUS_CONFLICT);
    assert_int_equal(store_job_append_event(f->store, id, first, "note", NULL, &conflicts[4]), STATUS_CONFLICT);
    assert_ok(store_job_progress(f->store, id, first, 1000, &progress, &error), &error);
    fixture_reopen(f);
    assert_int_equal(fixture_state(f, id), JOB_RUNNING);
    assert_int_equal(fixture_number(f, "SELECT count(*) FROM events"), events);
    assert_int_equal(fixture_number(f, "SELECT count(*) FROM jobs WHERE stage IS NOT NULL"), 0);
    assert_ok(store_job_succeed(f->store, id, second, report, NULL, 0, &error), &error);
    json_decref(report);
}

static void terminal_states_never_change(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    char id[ID_SIZE];
    struct error problem = {0};
    (void)error_set(&problem, STATUS_NUMERIC, "node 'conv1'", "failed to compute: got NaN");
    fixture_job(f, 0, id);
    uint64_t attempt = claim_and_start(f, id);
    assert_ok(store_job_fail(f->store, id, attempt, &problem, &error), &error);
    struct store_job job;
    assert_ok(store_job_find(f->store, id, &job, &error), &error);
    assert_int_equal(job.state, JOB_FAILED);
    assert_int_equal(job.problem.status, STATUS_NUMERIC);
    assert_string_equal(job.problem.where, problem.where);
    assert_string_equal(job.problem.message, problem.message);
    uint64_t version = job.version;
    store_job_deinit(&job);
    struct error conflicts[3] = {0};
    assert_int_equal(store_job_cancelled(f->store, id, attempt, &conflicts[0]), STATUS_CONFLICT);
    assert_int_equal(store_job_request_cancel(f->store, id, NULL, &conflicts[1]), STATUS_CONFLICT);
    assert_int_equal(store_job_start(f->store, id, attempt, &conflicts[2]), STATUS_CONFLICT);
    assert_ok(store_job_find(f->store, id, &job, &error), &error);
    assert_int_equal(job.version, version);
    store_job_deinit(&job);
}

static void cancelling_is_idempotent(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    char queued[ID_SIZE];
    char running[ID_SIZE];
    struct store_job job;
    fixture_job(f, 9, running);
    fixture_job(f, 0, queued);
    uint64_t attempt = claim_and_start(f, running);
    for (int i = 0; i < 2; i++) {
        assert_ok(store_job_request_cancel(f->store, queued, &job, &error), &error);
        assert_int_equal(job.state, JOB_CANCELLED);
        store_job_deinit(&job);
        assert_ok(store_job_request_cancel(f->store, running, &job, &error), &error);
        assert_int_equal(job.state, JOB_CANCELLING);
        assert_true(job.cancel_requested);
        store_job_deinit(&job);
    }
    assert_ok(store_job_cancelled(f->store, running, attempt, &error), &error);
    assert_int_equal(fixture_state(f, running), JOB_CANCELLED);
    assert_int_equal(store_job_request_cancel(f->store, "job_none", NULL, &error), STATUS_NOT_FOUND);
}

static void losses_end_in_failure_orderly_stops_do_not(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    char id[ID_SIZE];
    enum job_state reached = JOB_STATE_COUNT;
    struct error lost = {0};
    (void)error_set(&lost, STATUS_INTERNAL, "child", "the child was killed by signal 9");
    fixture_job(f, 0, id);
    for (int i = 0; i < 5; i++) {
        uint64_t attempt = claim_and_start(f, id);
        assert_ok(store_job_interrupt(f->store, id, attempt, NULL, false, &reached, &error), &error);
        assert_int_equal(reached, JOB_QUEUED);
    }
    for (int i = 0; i < 3; i++) {
        uint64_t attempt = claim_and_start(f, id);
        assert_ok(store_job_interrupt(f->store, id, attempt, &lost, true, &reached, &error), &error);
        assert_int_equal(reached, i < 2 ? JOB_QUEUED : JOB_FAILED);
    }
    struct store_job job;
    assert_ok(store_job_find(f->store, id, &job, &error), &error);
    assert_int_equal(job.losses, 3);
    assert_string_equal(job.problem.message, lost.message);
    store_job_deinit(&job);
}

static void a_restart_recovers_what_ran(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    char ids[3][ID_SIZE];
    size_t count = 0;
    for (int i = 0; i < 3; i++) {
        fixture_job(f, 3 - i, ids[i]);
    }
    (void)claim_and_start(f, ids[0]);
    (void)claim_and_start(f, ids[1]);
    assert_ok(store_job_request_cancel(f->store, ids[1], NULL, &error), &error);
    fixture_reopen(f);
    /* Their leases of a minute are still good. */
    assert_ok(store_job_recover(f->store, clock_wall_ms(), &count, &error), &error);
    assert_int_equal(count, 0);
    assert_ok(store_job_recover(f->store, INT64_MAX, &count, &error), &error);
    assert_int_equal(count, 2);
    assert_int_equal(fixture_state(f, ids[0]), JOB_QUEUED);
    assert_int_equal(fixture_state(f, ids[1]), JOB_CANCELLED);
    assert_int_equal(fixture_state(f, ids[2]), JOB_QUEUED);
}

static void events_tell_the_story_in_order(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    char id[ID_SIZE];
    struct store_event *events = NULL;
    size_t count = 0;
    bool more = false;
    json_t *data = json_pack("{s:i}", "class", 3);
    fixture_job(f, 0, id);
    uint64_t attempt = claim_and_start(f, id);
    assert_ok(store_job_append_event(f->store, id, attempt, "suspect", data, &error), &error);
    assert_ok(store_job_interrupt(f->store, id, attempt, NULL, false, NULL, &error), &error);
    static const char *const STATES[] = {"queued", "starting", "running", NULL, "interrupted", "queued"};
    assert_ok(store_event_list(f->store, id, 0, 200, &events, &count, &more, &error), &error);
    assert_int_equal(count, sizeof STATES / sizeof STATES[0]);
    assert_false(more);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(events[i].sequence, i + 1);
        if (STATES[i] != NULL) {
            assert_string_equal(events[i].type, "state");
            assert_string_equal(json_string_value(json_object_get(events[i].data, "state")), STATES[i]);
        } else {
            assert_string_equal(events[i].type, "suspect");
            assert_true(json_equal(events[i].data, data));
        }
    }
    store_events_free(events, count);
    assert_ok(store_event_list(f->store, id, 2, 3, &events, &count, &more, &error), &error);
    assert_int_equal(count, 3);
    assert_int_equal(events[0].sequence, 3);
    assert_true(more);
    store_events_free(events, count);
    assert_int_equal(store_event_list(f->store, "job_none", 0, 3, &events, &count, &more, &error), STATUS_NOT_FOUND);
    json_decref(data);
}

static void progress_is_batched_and_noted(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    char id[ID_SIZE];
    struct store_job job;
    struct store_progress progress = {.stage = STAGE_SEARCH,
                                      .total = 1000,
                                      .eta_s = 12,
                                      .best_reward = 0.25,
                                      .evaluations = 77,
                                      .mean_reward = 0.125,
                                      .greedy_reward = -1};
    fixture_job(f, 0, id);
    uint64_t attempt = claim_and_start(f, id);
    assert_ok(store_job_find(f->store, id, &job, &error), &error);
    uint64_t version = job.version;
    store_job_deinit(&job);
    for (unsigned i = 1; i <= 1000; i++) {
        progress.step = i;
        progress.fraction = 0.0001 * i;
        (void)snprintf(progress.message, sizeof progress.message, "evaluation %u", i);
        assert_ok(store_job_progress(f->store, id, attempt, 60000, &progress, &error), &error);
    }
    struct patience patience = {0};
    do {
        assert_ok(store_job_find(f->store, id, &job, &error), &error);
        if (job.progress.step == 1000 || !patience_nap(&patience)) {
            break;
        }
        store_job_deinit(&job);
    } while (true);
    assert_int_equal(job.progress.step, 1000);
    assert_int_equal(job.progress.stage, STAGE_SEARCH);
    assert_true(job.progress.eta_s == 12);
    assert_true(job.progress.best_reward == 0.25);
    assert_int_equal(job.progress.evaluations, 77);
    assert_true(job.progress.mean_reward == 0.125);
    assert_true(job.progress.greedy_reward == -1);
    assert_string_equal(job.progress.message, "evaluation 1000");
    assert_in_range(job.version, version + 1, version + 20);
    store_job_deinit(&job);
    assert_in_range(fixture_number(f, "SELECT count(*) FROM events WHERE type = 'progress'"), 1, 20);
    /* What is noted last goes along with the next change. */
    progress.step = 1001;
    (void)memcpy(progress.message, "cut \xc3", 6);
    assert_ok(store_job_progress(f->store, id, attempt, 60000, &progress, &error), &error);
    assert_ok(store_job_fail(f->store, id, attempt, &(struct error){.status = STATUS_LIMIT}, &error), &error);
    assert_ok(store_job_find(f->store, id, &job, &error), &error);
    assert_int_equal(job.progress.step, 1001);
    assert_string_equal(job.progress.message, "cut ?");
    store_job_deinit(&job);
}

static void lists_filter_by_state_method_and_label(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store_job job;
    struct store_job *page = NULL;
    size_t count = 0;
    bool more = false;
    char ids[4][ID_SIZE];
    for (int i = 0; i < 4; i++) {
        struct store_job_request request = fixture_request(f);
        json_t *labels = json_pack("{s:s}", "team", i < 2 ? "a" : "b");
        request.labels = i < 3 ? labels : NULL;
        request.method = i == 1 ? "fp" : "onp";
        assert_ok(store_job_insert(f->store, &request, 0, &job, &error), &error);
        memcpy(ids[i], job.id, ID_SIZE);
        store_job_deinit(&job);
        json_decref(labels);
    }
    assert_ok(store_job_request_cancel(f->store, ids[0], NULL, &error), &error);
    const struct {
        struct store_job_filter filter;
        const char *expected; /* indices of ids */
    } CASES[] = {
        {{.state = JOB_STATE_COUNT}, "3210"},
        {{.state = JOB_CANCELLED}, "0"},
        {{.state = JOB_QUEUED, .method = "onp"}, "32"},
        {{.state = JOB_STATE_COUNT, .method = "fp"}, "1"},
        {{.state = JOB_STATE_COUNT, .label = "team"}, "210"},
        {{.state = JOB_STATE_COUNT, .label = "team=a"}, "10"},
        {{.state = JOB_QUEUED, .method = "onp", .label = "team=b"}, "2"},
        {{.state = JOB_STATE_COUNT, .label = "team="}, ""},
        {{.state = JOB_STATE_COUNT, .label = "' OR 1=1 --"}, ""},
    };
    for (size_t c = 0; c < sizeof CASES / sizeof CASES[0]; c++) {
        assert_ok(store_job_list(f->store, &CASES[c].filter, NULL, 10, &page, &count, &more, &error), &error);
        assert_int_equal(count, strlen(CASES[c].expected));
        for (size_t i = 0; i < count; i++) {
            assert_string_equal(page[i].id, ids[CASES[c].expected[i] - '0']);
        }
        store_jobs_free(page, count);
    }
    assert_ok(store_job_list(f->store, NULL, ids[3], 2, &page, &count, &more, &error), &error);
    assert_int_equal(count, 2);
    assert_true(more);
    assert_string_equal(page[0].id, ids[2]);
    store_jobs_free(page, count);
    uint64_t counts[JOB_STATE_COUNT];
    assert_ok(store_job_counts(f->store, counts, &error), &error);
    assert_int_equal(counts[JOB_QUEUED], 3);
    assert_int_equal(counts[JOB_CANCELLED], 1);
    assert_int_equal(store_job_delete(f->store, ids[1], &error), STATUS_CONFLICT);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(a_job_keeps_what_it_was_made_of),
        CASE(a_job_over_nothing_is_refused),
        CASE(the_queue_has_an_end),
        CASE(claims_go_by_priority_then_age),
        CASE(success_leaves_result_and_artifacts),
        CASE(links_are_no_artifacts),
        CASE(a_late_worker_is_fenced_off),
        CASE(terminal_states_never_change),
        CASE(cancelling_is_idempotent),
        CASE(losses_end_in_failure_orderly_stops_do_not),
        CASE(a_restart_recovers_what_ran),
        CASE(events_tell_the_story_in_order),
        CASE(progress_is_batched_and_noted),
        CASE(lists_filter_by_state_method_and_label),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
