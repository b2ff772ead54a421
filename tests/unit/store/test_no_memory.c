/* Memory runs out at each allocation of each function of the store in turn: it says so or does its work, keeps nothing half done, and
 * does its work when there is memory again. */
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/store/store_graphs.h"
#include "server/store/store_resumable.h"
#include "server/store/store_tokens.h"
#include "server/store/store_upkeep.h"
#include "tests/unit/store/fixture.h"

enum { ALLOCATIONS_MAX = 300 };

/* What an entry is called with: things that are there, and a number that never comes again. */
struct call {
    struct fixture *fixture;
    struct store *store;
    char job[ID_SIZE]; /* succeeded */
    unsigned number;
    struct error *error;
};

static enum status object_insert(struct call *c) {
    struct store_upload *upload = NULL;
    struct store_object object;
    bool existed = false;
    char text[32];
    int length = snprintf(text, sizeof text, "bytes %u", c->number);
    enum status status = store_upload_begin(c->store, 100, &upload, c->error);
    if (status == STATUS_OK) {
        status = store_upload_write(upload, text, (size_t)length, c->error);
    }
    if (status == STATUS_OK) {
        status = store_object_insert(c->store, STORE_MODEL, upload, "name", NULL, &object, &existed, c->error);
    }
    if (status == STATUS_OK) {
        store_object_deinit(&object);
    }
    store_upload_abort(upload);
    return status;
}

static enum status object_find(struct call *c) {
    struct store_object object;
    enum status status = store_object_find(c->store, STORE_MODEL, c->fixture->model_id, &object, c->error);
    if (status == STATUS_OK) {
        store_object_deinit(&object);
    }
    return status;
}

static enum status object_list(struct call *c) {
    struct store_object *objects = NULL;
    size_t count = 0;
    bool more = false;
    enum status status = store_object_list(c->store, STORE_MODEL, NULL, 200, &objects, &count, &more, c->error);
    if (status == STATUS_OK) {
        store_objects_free(objects, count);
    }
    return status;
}

static enum status object_delete(struct call *c) {
    enum status status = store_object_delete(c->store, STORE_MODEL, "mdl_00000000000000000000000000", c->error);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status collect_blobs(struct call *c) {
    return store_collect_blobs(c->store, NULL, c->error);
}

static enum status job_insert(struct call *c) {
    struct store_job_request request = fixture_request(c->fixture);
    struct store_job job;
    enum status status = store_job_insert(c->store, &request, 0, &job, c->error);
    if (status == STATUS_OK) {
        store_job_deinit(&job);
    }
    return status;
}

/* From the claim to the end: what was claimed and could not go on is given back. */
static enum status job_run(struct call *c) {
    static const struct store_progress progress = {.stage = STAGE_SEARCH, .message = "searching"};
    struct store_job job;
    struct error ignored = {0};
    json_t *report = json_pack("{s:s}", "verdict", "removed");
    enum status status = store_job_claim(c->store, 30000, &job, c->error);
    if (status == STATUS_OK) {
        status = store_job_start(c->store, job.id, job.attempt, c->error);
        if (status == STATUS_OK) {
            /* A note that may be dropped: "unavailable" is enough. */
            (void)store_job_progress(c->store, job.id, job.attempt, 30000, &progress, &ignored);
        }
        if (status == STATUS_OK) {
            status = store_job_append_event(c->store, job.id, job.attempt, "a_word", report, c->error);
        }
        if (status == STATUS_OK) {
            status = store_job_succeed(c->store, job.id, job.attempt, report, NULL, 0, c->error);
        }
        store_job_deinit(&job);
    }
    json_decref(report);
    return status == STATUS_NOT_FOUND ? STATUS_OK : status;
}

static enum status job_cancel(struct call *c) {
    enum status status = store_job_request_cancel(c->store, c->job, NULL, c->error);
    return status == STATUS_CONFLICT ? STATUS_OK : status; /* it has succeeded */
}

static enum status job_read(struct call *c) {
    struct store_job job, *jobs = NULL;
    struct store_event *events = NULL;
    struct store_artifact *artifacts = NULL;
    uint64_t counts[JOB_STATE_COUNT];
    json_t *report = NULL;
    size_t count = 0;
    bool more = false;
    enum status status = store_job_find(c->store, c->job, &job, c->error);
    if (status == STATUS_OK) {
        store_job_deinit(&job);
        status = store_job_list(c->store, NULL, NULL, 200, &jobs, &count, &more, c->error);
    }
    if (status == STATUS_OK) {
        store_jobs_free(jobs, count);
        status = store_event_list(c->store, c->job, 0, 200, &events, &count, &more, c->error);
    }
    if (status == STATUS_OK) {
        store_events_free(events, count);
        status = store_artifact_list(c->store, c->job, &artifacts, &count, c->error);
    }
    if (status == STATUS_OK) {
        mem_free(artifacts);
        status = store_job_result(c->store, c->job, &report, c->error);
    }
    json_decref(report);
    return status == STATUS_OK ? store_job_counts(c->store, counts, c->error) : status;
}

static enum status job_recover(struct call *c) {
    size_t count = 0;
    enum status status = store_job_recover(c->store, INT64_MAX, &count, c->error);
    return status == STATUS_OK ? store_job_expire_queued(c->store, c->error) : status;
}

static enum status resumable(struct call *c) {
    struct store_resumable row;
    struct store_piece *piece = NULL;
    struct store_upload *upload = NULL;
    enum status status = store_resumable_create(c->store, 4, "kind bW9kZWw=", 60000, &row, c->error);
    if (status != STATUS_OK) {
        return status;
    }
    status = store_piece_begin(c->store, &row, &piece, c->error);
    if (status == STATUS_OK) {
        status = store_piece_write(piece, "abcd", 4, c->error);
    }
    if (status == STATUS_OK) {
        status = store_piece_commit(piece, 4, 60000, c->error);
    }
    store_piece_free(piece);
    if (status == STATUS_OK) {
        status = store_resumable_find(c->store, row.id, &row, c->error);
    }
    if (status == STATUS_OK) {
        assert_int_equal(row.taken, 4);
        status = store_resumable_open(c->store, &row, &upload, c->error);
    }
    store_upload_abort(upload);
    if (status == STATUS_OK) {
        status = store_resumable_delete(c->store, row.id, c->error);
    }
    return status == STATUS_OK ? store_resumable_purge(c->store, 1, c->error) : status;
}

static enum status idempotency(struct call *c) {
    char text[32];
    const struct store_idempotency_key key = {"me", text};
    const struct store_answer answer = {.code = 201, .body = text};
    struct store_answer kept = {0};
    enum store_idempotency found = STORE_IDEMPOTENCY_NEW;
    (void)snprintf(text, sizeof text, "key %u", c->number);
    enum status status = store_idempotency_begin(c->store, &key, "fingerprint", 60000, &found, &kept, c->error);
    if (status == STATUS_OK) {
        assert_int_equal(found, STORE_IDEMPOTENCY_NEW);
        status = store_idempotency_finish(c->store, &key, &answer, c->error);
    }
    if (status == STATUS_OK) {
        status = store_idempotency_begin(c->store, &key, "fingerprint", 60000, &found, &kept, c->error);
    }
    if (status == STATUS_OK) {
        assert_int_equal(found, STORE_IDEMPOTENCY_REPLAY);
        mem_free(kept.body);
    }
    return status;
}

static enum status graphs(struct call *c) {
    struct store_object object;
    json_t *graph = json_pack("{s:i}", "layer", 1), *read = NULL;
    enum status status = store_object_find(c->store, STORE_MODEL, c->fixture->model_id, &object, c->error);
    if (status == STATUS_OK) {
        status = store_graph_insert(c->store, object.blob.sha256, 1, graph, c->error);
        if (status == STATUS_OK) {
            status = store_graph_find(c->store, object.blob.sha256, 1, &read, c->error);
        }
        store_object_deinit(&object);
    }
    json_decref(graph);
    json_decref(read);
    return status;
}

static enum status tokens(struct call *c) {
    struct store_token *list = NULL;
    size_t count = 0;
    enum status status = store_token_list(c->store, &list, &count, c->error);
    if (status == STATUS_OK) {
        mem_free(list);
    }
    return status;
}

static enum status upkeep(struct call *c) {
    static const struct store_retention retention = {.failed_before_ms = 1};
    struct store_figures figures;
    size_t deleted = 0;
    enum status status = store_figures(c->store, &figures, c->error);
    if (status == STATUS_OK) {
        status = store_retain(c->store, &retention, &deleted, c->error);
    }
    if (status == STATUS_OK) {
        status = store_check_ready(c->store, 0, c->error);
    }
    return status;
}

static enum status backup(struct call *c) {
    struct store_backup_figures figures;
    char folder[32];
    (void)snprintf(folder, sizeof folder, "backup%u", c->number);
    const char *path = scratch_path(&c->fixture->scratch, folder);
    enum status status = store_backup(store_data_dir(c->store), path, &figures, c->error);
    (void)snprintf(folder, sizeof folder, "restored%u", c->number);
    return status == STATUS_OK ? store_restore(path, scratch_path(&c->fixture->scratch, folder), &figures, c->error)
                               : status;
}

static enum status open_again(struct call *c) {
    struct store *store = NULL;
    char folder[32];
    (void)snprintf(folder, sizeof folder, "other%u", c->number);
    enum status status = store_open(scratch_path(&c->fixture->scratch, folder), NULL, &store, c->error);
    store_close(store);
    return status;
}

static const struct {
    const char *name;
    enum status (*call)(struct call *call);
} entries[] = {
    {"object_insert", object_insert},
    {"object_find", object_find},
    {"object_list", object_list},
    {"object_delete", object_delete},
    {"collect_blobs", collect_blobs},
    {"job_insert", job_insert},
    {"job_run", job_run},
    {"job_cancel", job_cancel},
    {"job_read", job_read},
    {"job_recover", job_recover},
    {"resumable", resumable},
    {"idempotency", idempotency},
    {"graphs", graphs},
    {"tokens", tokens},
    {"upkeep", upkeep},
    {"backup", backup},
    {"open_again", open_again},
};

static void finished_job(struct fixture *f, char id[ID_SIZE]) {
    struct error error = {0};
    struct store_job job;
    json_t *report = json_pack("{s:s}", "verdict", "removed");
    fixture_job(f, 0, id);
    assert_ok(store_job_claim(f->store, 30000, &job, &error), &error);
    assert_ok(store_job_start(f->store, job.id, job.attempt, &error), &error);
    assert_ok(store_job_succeed(f->store, job.id, job.attempt, report, NULL, 0, &error), &error);
    store_job_deinit(&job);
    json_decref(report);
}

static void each_function_survives(void **state) {
    struct fixture *f = *state;
    struct call call = {.fixture = f, .store = f->store};
    char integrity[32], queued[ID_SIZE];
    size_t refused = 0;

    finished_job(f, call.job);
    for (size_t e = 0; e < sizeof entries / sizeof entries[0]; e++) {
        bool struck = true;
        for (uint64_t n = 1; struck; n++) {
            struct error error = {0};
            call.error = &error;
            call.number++;
            fixture_job(f, 0, queued); /* something to claim */
            uint64_t before = mem_allocation_count();
            mem_fail_after(n);
            enum status status = entries[e].call(&call);
            mem_fail_after(0);
            struck = mem_allocation_count() - before >= n;
            if (status != STATUS_OK && (status != STATUS_NO_MEMORY || error.message[0] == '\0')) {
                fail_msg("%s, allocation %llu: got %s '%s', expected no_memory", entries[e].name, (unsigned long long)n,
                         status_name(status), error.message);
            }
            assert_true(struck || status == STATUS_OK);
            assert_true(n < ALLOCATIONS_MAX);
            refused += status != STATUS_OK;
        }
    }
    assert_true(refused >= 15);
    fixture_reopen(f);
    fixture_text(f, "PRAGMA integrity_check", integrity, sizeof integrity);
    assert_string_equal(integrity, "ok");
    assert_int_equal(fixture_number(f, "SELECT count(*) FROM jobs WHERE state = 'running' AND attempt = 0"), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_function_survives, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests_name("store: no memory", tests, NULL, NULL);
}
