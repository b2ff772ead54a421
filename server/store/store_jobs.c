/* Rows of jobs: insert, find, list, count, delete. Their moves are in store_job_moves.c. */
#include "server/store/store_jobs.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/mem.h"
#include "server/store/store_internal.h"

enum { DEFAULT_ATTEMPTS = 3, LABEL_LENGTH_MAX = 256, FILTER_TEXT_MAX = 4096 };

#define JOB_COLUMNS                                                                                                    \
    "id, state, version, attempt, losses, max_attempts, model_id, samples_id, probe_id, method, parameters, seed,"     \
    " priority, deadline_s, cancel_requested, stage, step, total, fraction, eta_s, best_reward, message,"              \
    " evaluations, mean_reward, greedy_reward,"                                                                        \
    " problem_status, problem_where, problem_message, created_ms, started_ms, finished_ms, updated_ms,"                \
    " (SELECT json_group_object(key, value) FROM labels WHERE labels.job_id = jobs.id),"                               \
    " (SELECT summary FROM results WHERE results.job_id = jobs.id)"

enum column {
    COLUMN_ID,
    COLUMN_STATE,
    COLUMN_VERSION,
    COLUMN_ATTEMPT,
    COLUMN_LOSSES,
    COLUMN_MAX_ATTEMPTS,
    COLUMN_MODEL_ID,
    COLUMN_SAMPLES_ID,
    COLUMN_PROBE_ID,
    COLUMN_METHOD,
    COLUMN_PARAMETERS,
    COLUMN_SEED,
    COLUMN_PRIORITY,
    COLUMN_DEADLINE,
    COLUMN_CANCEL_REQUESTED,
    COLUMN_STAGE,
    COLUMN_STEP,
    COLUMN_TOTAL,
    COLUMN_FRACTION,
    COLUMN_ETA,
    COLUMN_BEST_REWARD,
    COLUMN_MESSAGE,
    COLUMN_EVALUATIONS,
    COLUMN_MEAN_REWARD,
    COLUMN_GREEDY_REWARD,
    COLUMN_PROBLEM_STATUS,
    COLUMN_PROBLEM_WHERE,
    COLUMN_PROBLEM_MESSAGE,
    COLUMN_CREATED,
    COLUMN_STARTED,
    COLUMN_FINISHED,
    COLUMN_UPDATED,
    COLUMN_LABELS,
    COLUMN_SUMMARY,
};

void store_job_deinit(struct store_job *job) {
    json_decref(job->parameters);
    json_decref(job->labels);
    json_decref(job->summary);
    *job = (struct store_job){0};
}

void store_jobs_free(struct store_job *jobs, size_t count) {
    for (size_t i = 0; i < count; i++) {
        store_job_deinit(&jobs[i]);
    }
    mem_free(jobs);
}

static void read_progress(const struct store_query *query, struct store_progress *progress) {
    char stage[32];
    store_column_text(query, COLUMN_STAGE, stage, sizeof stage);
    progress->stage = job_stage_from_name(stage);
    progress->step = store_column_u64(query, COLUMN_STEP);
    progress->total = store_column_u64(query, COLUMN_TOTAL);
    progress->fraction = store_column_real(query, COLUMN_FRACTION);
    progress->eta_s = store_column_is_null(query, COLUMN_ETA) ? -1.0 : store_column_real(query, COLUMN_ETA);
    progress->best_reward = store_column_real(query, COLUMN_BEST_REWARD);
    progress->evaluations = store_column_u64(query, COLUMN_EVALUATIONS);
    progress->mean_reward = store_column_real(query, COLUMN_MEAN_REWARD);
    progress->greedy_reward = store_column_real(query, COLUMN_GREEDY_REWARD);
    store_column_text(query, COLUMN_MESSAGE, progress->message, sizeof progress->message);
}

static void read_problem(const struct store_query *query, struct error *problem) {
    char word[32];
    if (store_column_is_null(query, COLUMN_PROBLEM_STATUS)) {
        return;
    }
    store_column_text(query, COLUMN_PROBLEM_STATUS, word, sizeof word);
    problem->status = status_from_name(word);
    store_column_text(query, COLUMN_PROBLEM_WHERE, problem->where, sizeof problem->where);
    store_column_text(query, COLUMN_PROBLEM_MESSAGE, problem->message, sizeof problem->message);
}

static enum status read_row(const struct store_query *query, struct store_job *job, struct error *error) {
    char state[32];
    *job = (struct store_job){0};
    store_column_text(query, COLUMN_ID, job->id, sizeof job->id);
    store_column_text(query, COLUMN_STATE, state, sizeof state);
    job->state = job_state_from_name(state);
    job->version = store_column_u64(query, COLUMN_VERSION);
    job->attempt = store_column_u64(query, COLUMN_ATTEMPT);
    job->losses = store_column_u64(query, COLUMN_LOSSES);
    job->max_attempts = store_column_u64(query, COLUMN_MAX_ATTEMPTS);
    store_column_text(query, COLUMN_MODEL_ID, job->model_id, sizeof job->model_id);
    store_column_text(query, COLUMN_SAMPLES_ID, job->samples_id, sizeof job->samples_id);
    store_column_text(query, COLUMN_PROBE_ID, job->probe_id, sizeof job->probe_id);
    store_column_text(query, COLUMN_METHOD, job->method, sizeof job->method);
    job->seed = store_column_u64(query, COLUMN_SEED);
    job->priority = (int)store_column_i64(query, COLUMN_PRIORITY);
    job->deadline_s = store_column_real(query, COLUMN_DEADLINE);
    job->cancel_requested = store_column_i64(query, COLUMN_CANCEL_REQUESTED) != 0;
    job->created_ms = store_column_i64(query, COLUMN_CREATED);
    job->started_ms = store_column_i64(query, COLUMN_STARTED);
    job->finished_ms = store_column_i64(query, COLUMN_FINISHED);
    job->updated_ms = store_column_i64(query, COLUMN_UPDATED);
    read_progress(query, &job->progress);
    read_problem(query, &job->problem);
    enum status status = store_column_json(query, COLUMN_PARAMETERS, &job->parameters, error);
    if (status == STATUS_OK) {
        status = store_column_json(query, COLUMN_LABELS, &job->labels, error);
    }
    if (status == STATUS_OK && !store_column_is_null(query, COLUMN_SUMMARY)) {
        status = store_column_json(query, COLUMN_SUMMARY, &job->summary, error);
    }
    return status;
}

enum status store_job_load(struct store_sql *sql, const char *id, struct store_job *job, struct error *error) {
    struct store_query query;
    bool row = false;
    enum status status = store_query_init(&query, sql, "SELECT " JOB_COLUMNS " FROM jobs WHERE id = ?", error);
    if (status != STATUS_OK) {
        return status;
    }
    store_query_text(&query, id);
    status = store_query_step(&query, &row, error);
    if (status == STATUS_OK && !row) {
        status = error_set(error, STATUS_NOT_FOUND, "", "failed to find job %.80s: there is none", id);
    } else if (status == STATUS_OK) {
        status = read_row(&query, job, error);
        if (status != STATUS_OK) {
            store_job_deinit(job);
        }
    }
    store_query_end(&query);
    return status;
}

enum status store_job_find(struct store *store, const char *id, struct store_job *job, struct error *error) {
    struct store_sql *sql = NULL;
    enum status status = store_read_begin(store, &sql, error);
    if (status == STATUS_OK) {
        status = store_job_load(sql, id, job, error);
    }
    store_read_end(store, sql);
    return status;
}

/* --- inserting --- */

struct insertion {
    const struct store_job_request *request;
    uint64_t queue_max;
    struct store_job *job;
};

static enum status expect_object(struct store_write *write, enum store_kind kind, const char *id, const char *place,
                                 struct error *error) {
    struct store_query query;
    bool row = false;
    enum status status = store_query_init(
        &query, &write->sql,
        kind == STORE_MODEL ? "SELECT 1 FROM models WHERE id = ?" : "SELECT 1 FROM samples WHERE id = ?", error);
    if (status != STATUS_OK) {
        return status;
    }
    store_query_text(&query, id);
    status = store_query_step(&query, &row, error);
    store_query_end(&query);
    if (status == STATUS_OK && !row) {
        status = error_set(error, STATUS_NOT_FOUND, place, "failed to find %s %.80s: there is none",
                           store_kind_name(kind), id);
    }
    return status;
}

static enum status expect_room(struct store_write *write, uint64_t queue_max, struct error *error) {
    struct store_query query;
    bool row = false;
    if (queue_max == 0) {
        return STATUS_OK;
    }
    enum status status =
        store_query_init(&query, &write->sql, "SELECT count(*) FROM jobs WHERE state = 'queued'", error);
    if (status == STATUS_OK) {
        status = store_query_step(&query, &row, error);
    }
    if (status == STATUS_OK && store_column_u64(&query, 0) >= queue_max) {
        status =
            error_set(error, STATUS_UNAVAILABLE, "queue",
                      "failed to queue a job: got %llu queued, the most there may be", (unsigned long long)queue_max);
    }
    store_query_end(&query);
    return status;
}

static enum status expect_owners_room(struct store_write *write, const struct store_job_request *request,
                                      struct error *error) {
    struct store_query query;
    bool row = false;
    if (request->owner_max == 0) {
        return STATUS_OK;
    }
    enum status status =
        store_query_init(&query, &write->sql,
                         "SELECT count(*) FROM jobs WHERE owner = ? AND state IN ('queued', 'starting', 'running',"
                         " 'cancelling', 'interrupted')",
                         error);
    if (status != STATUS_OK) {
        return status;
    }
    store_query_text(&query, request->owner != NULL ? request->owner : "");
    status = store_query_step(&query, &row, error);
    if (status == STATUS_OK && store_column_u64(&query, 0) >= request->owner_max) {
        status = error_set(error, STATUS_UNAVAILABLE, "queue",
                           "failed to queue a job: got %llu queued or running, the most one client may have",
                           (unsigned long long)request->owner_max);
    }
    store_query_end(&query);
    return status;
}

static enum status insert_labels(struct store_write *write, const char *id, const json_t *labels, struct error *error) {
    const char *key;
    json_t *value;
    enum status status = STATUS_OK;
    /* jansson's iteration wants a non-const object but changes nothing. */
    json_object_foreach((json_t *)(uintptr_t)labels, key, value) {
        struct store_query query;
        status =
            store_query_init(&query, &write->sql, "INSERT INTO labels (job_id, key, value) VALUES (?, ?, ?)", error);
        if (status == STATUS_OK) {
            store_query_text(&query, id);
            store_query_text(&query, key);
            store_query_text(&query, json_string_value(value));
            status = store_query_finish(&query, NULL, error);
        }
        if (status != STATUS_OK) {
            break;
        }
    }
    return status;
}

static enum status insert_row(struct store_write *write, const char *id, const struct store_job_request *request,
                              struct error *error) {
    struct store_query query;
    int64_t now = clock_wall_ms();
    enum status status = store_query_init(
        &query, &write->sql,
        "INSERT INTO jobs (id, state, max_attempts, model_id, samples_id, probe_id, method, parameters, seed, priority,"
        " deadline_s, owner, created_ms, updated_ms) VALUES (?, 'queued', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        error);
    if (status != STATUS_OK) {
        return status;
    }
    store_query_text(&query, id);
    store_query_i64(&query, request->max_attempts > 0 ? request->max_attempts : DEFAULT_ATTEMPTS);
    store_query_text(&query, request->model_id);
    store_query_text(&query, request->samples_id);
    store_query_text(&query, request->probe_id);
    store_query_text(&query, request->method);
    store_query_json(&query, request->parameters);
    store_query_u64(&query, request->seed);
    store_query_i64(&query, request->priority);
    store_query_real(&query, request->deadline_s);
    store_query_text(&query, request->owner != NULL ? request->owner : "");
    store_query_i64(&query, now);
    store_query_i64(&query, now);
    return store_query_finish(&query, NULL, error);
}

static enum status insert(struct store_write *write, void *user, struct error *error) {
    struct insertion *insertion = user;
    const struct store_job_request *request = insertion->request;
    char id[ID_SIZE];
    enum status status = expect_object(write, STORE_MODEL, request->model_id, "/model_id", error);
    if (status == STATUS_OK) {
        status = expect_object(write, STORE_SAMPLES, request->samples_id, "/samples_id", error);
    }
    if (status == STATUS_OK && request->probe_id != NULL) {
        status = expect_object(write, STORE_SAMPLES, request->probe_id, "/probe_id", error);
    }
    if (status == STATUS_OK) {
        status = expect_room(write, insertion->queue_max, error);
    }
    if (status == STATUS_OK) {
        status = expect_owners_room(write, request, error);
    }
    id_make("job", id);
    if (status == STATUS_OK) {
        status = insert_row(write, id, request, error);
    }
    if (status == STATUS_OK) {
        status = insert_labels(write, id, request->labels, error);
    }
    if (status == STATUS_OK && request->idempotency != NULL) {
        status = store_idempotency_note(write, request->idempotency, id, error);
    }
    if (status == STATUS_OK) {
        status = store_event_state(write, id, JOB_QUEUED, 0, NULL, error);
    }
    if (status == STATUS_OK) {
        status = store_job_load(&write->sql, id, insertion->job, error);
    }
    store_write_changed(write, id);
    return status;
}

static enum status check_labels(const json_t *labels, struct error *error) {
    const char *key;
    json_t *value;
    if (labels == NULL) {
        return STATUS_OK;
    }
    if (!json_is_object(labels) || json_object_size(labels) > STORE_LABELS_MAX) {
        return error_set(error, STATUS_INVALID, "/labels",
                         "failed to read labels: expected an object of at most %d members", STORE_LABELS_MAX);
    }
    json_object_foreach((json_t *)(uintptr_t)labels, key, value) {
        if (!json_is_string(value) || json_string_length(value) > LABEL_LENGTH_MAX || key[0] == '\0' ||
            strlen(key) > LABEL_LENGTH_MAX || strchr(key, '=') != NULL) {
            return error_set(
                error, STATUS_INVALID, "/labels",
                "failed to read label %.80s: expected a key without '=' and a text, each of at most %d bytes", key,
                LABEL_LENGTH_MAX);
        }
    }
    return STATUS_OK;
}

enum status store_job_insert(struct store *store, const struct store_job_request *request, uint64_t queue_max,
                             struct store_job *job, struct error *error) {
    struct store_job row = {0};
    struct insertion insertion = {.request = request, .queue_max = queue_max, .job = &row};
    if (strlen(request->method) >= STORE_METHOD_SIZE) {
        return error_set(error, STATUS_INVALID, "/method", "failed to read the method: got a name of %zu bytes",
                         strlen(request->method));
    }
    if (!(request->deadline_s >= 0) || isinf(request->deadline_s)) {
        return error_set(error, STATUS_INVALID, "/deadline_s", "failed to read the deadline: got %g, expected seconds",
                         request->deadline_s);
    }
    enum status status = check_labels(request->labels, error);
    if (status == STATUS_OK) {
        status = store_write_run(store, insert, &insertion, error);
    }
    if (status != STATUS_OK) {
        store_job_deinit(&row);
        return status;
    }
    *job = row;
    return STATUS_OK;
}

/* --- listing --- */

struct label {
    char key[LABEL_LENGTH_MAX + 1];
    const char *value; /* NULL: any */
};

static bool split_label(const char *text, struct label *label) {
    const char *equals = strchr(text, '=');
    size_t length = equals != NULL ? (size_t)(equals - text) : strlen(text);
    if (length > LABEL_LENGTH_MAX) {
        return false;
    }
    memcpy(label->key, text, length);
    label->key[length] = '\0';
    label->value = equals != NULL ? equals + 1 : NULL;
    return true;
}

/* Where to start: most jobs have succeeded, and few are in any other state, so a label is looked up first unless such a state is
 * asked for. CROSS JOIN makes SQLite keep to that. */
static bool begins_with_label(const struct store_job_filter *filter) {
    return filter->label != NULL && (filter->state == JOB_STATE_COUNT || filter->state == JOB_SUCCEEDED);
}

/* The statement is put together from constants only; what users give is bound, in the order of bind_list(). */
static enum status prepare_list(struct store_sql *sql, const struct store_job_filter *filter, const struct label *label,
                                struct store_query *query, struct error *error) {
    struct buf text;
    bool by_label = begins_with_label(filter);
    buf_init(&text, FILTER_TEXT_MAX);
    bool fine = buf_append_text(&text, by_label ? "SELECT " JOB_COLUMNS " FROM labels AS l CROSS JOIN jobs"
                                                  " WHERE jobs.id = l.job_id AND l.job_id < ?"
                                                : "SELECT " JOB_COLUMNS " FROM jobs WHERE id < ?");
    if (filter->state < JOB_STATE_COUNT) {
        fine = fine && buf_append_text(&text, " AND state = ?");
    }
    if (filter->method != NULL) {
        fine = fine && buf_append_text(&text, " AND method = ?");
    }
    if (filter->label != NULL && !by_label) {
        fine = fine && buf_append_text(&text, " AND EXISTS (SELECT 1 FROM labels AS l WHERE l.job_id = jobs.id");
    }
    if (filter->label != NULL) {
        fine = fine && buf_append_text(&text, " AND l.key = ?");
        fine = fine && (label->value == NULL || buf_append_text(&text, " AND l.value = ?"));
        fine = fine && (by_label || buf_append_text(&text, ")"));
    }
    fine = fine && buf_append_text(&text, by_label ? " ORDER BY l.job_id DESC LIMIT ?" : " ORDER BY id DESC LIMIT ?");
    enum status status =
        fine ? store_query_init_once(query, sql, text.data, error) : error_no_memory(error, "a statement");
    buf_deinit(&text);
    return status;
}

static void bind_list(struct store_query *query, const struct store_job_filter *filter, const struct label *label,
                      const char *after, size_t limit) {
    store_query_text(query, after != NULL ? after : "~"); /* '~' sorts after every id */
    if (filter->state < JOB_STATE_COUNT) {
        store_query_text(query, job_state_name(filter->state));
    }
    if (filter->method != NULL) {
        store_query_text(query, filter->method);
    }
    if (filter->label != NULL) {
        store_query_text(query, label->key);
        if (label->value != NULL) {
            store_query_text(query, label->value);
        }
    }
    store_query_i64(query, (int64_t)limit + 1);
}

static enum status read_page(struct store_query *query, size_t limit, struct store_job *jobs, size_t *count,
                             bool *has_more, struct error *error) {
    bool row = false;
    enum status status = store_query_step(query, &row, error);
    while (status == STATUS_OK && row && *count < limit) {
        (*count)++;
        status = read_row(query, &jobs[*count - 1], error);
        if (status == STATUS_OK) {
            status = store_query_step(query, &row, error);
        }
    }
    *has_more = row;
    return status;
}

enum status store_job_list(struct store *store, const struct store_job_filter *filter, const char *after, size_t limit,
                           struct store_job **jobs, size_t *count, bool *has_more, struct error *error) {
    static const struct store_job_filter ALL = {.state = JOB_STATE_COUNT};
    const struct store_job_filter *wanted = filter != NULL ? filter : &ALL;
    struct store_sql *sql = NULL;
    struct store_query query = {0};
    struct label label = {0};
    size_t rows = 0;
    bool more = false;
    if (limit < 1 || limit > STORE_LIST_MAX) {
        return error_set(error, STATUS_INVALID, "/limit", "failed to list jobs: got a limit of %zu, expected 1 to %d",
                         limit, STORE_LIST_MAX);
    }
    if (wanted->label != NULL && !split_label(wanted->label, &label)) {
        return error_set(error, STATUS_INVALID, "/label", "failed to list jobs: the key of the label is too long");
    }
    struct store_job *page = mem_calloc(limit, sizeof(*page));
    enum status status = page != NULL ? store_read_begin(store, &sql, error) : error_no_memory(error, "a list");
    if (status == STATUS_OK) {
        status = prepare_list(sql, wanted, &label, &query, error);
    }
    if (status == STATUS_OK) {
        bind_list(&query, wanted, &label, after, limit);
        status = read_page(&query, limit, page, &rows, &more, error);
    }
    store_query_end(&query);
    store_read_end(store, sql);
    if (status != STATUS_OK) {
        store_jobs_free(page, rows);
        return status;
    }
    *jobs = page;
    *count = rows;
    *has_more = more;
    return STATUS_OK;
}

enum status store_job_counts(struct store *store, uint64_t counts[JOB_STATE_COUNT], struct error *error) {
    struct store_sql *sql = NULL;
    struct store_query query = {0};
    bool row = false;
    char state[32];
    memset(counts, 0, JOB_STATE_COUNT * sizeof(counts[0]));
    enum status status = store_read_begin(store, &sql, error);
    if (status == STATUS_OK) {
        status = store_query_init(&query, sql, "SELECT state, count(*) FROM jobs GROUP BY state", error);
    }
    if (status == STATUS_OK) {
        status = store_query_step(&query, &row, error);
    }
    while (status == STATUS_OK && row) {
        store_column_text(&query, 0, state, sizeof state);
        enum job_state index = job_state_from_name(state);
        if (index < JOB_STATE_COUNT) {
            counts[index] = store_column_u64(&query, 1);
        }
        status = store_query_step(&query, &row, error);
    }
    store_query_end(&query);
    store_read_end(store, sql);
    return status;
}

/* --- deleting --- */

static enum status delete (struct store_write *write, void *user, struct error *error) {
    const char *id = user; struct store_query query; struct store_job job = {0};
    enum status status = store_job_load(&write->sql, id, &job, error); if (status != STATUS_OK){return status;}
if (!job_state_is_terminal(job.state)) {
    status = error_set(error, STATUS_CONFLICT, "", "failed to delete job %s: got state %s, expected a finished one", id,
                       job_state_name(job.state));
}
if (status == STATUS_OK) {
    /* Events, labels, result and artifacts go with it. */
    status = store_query_init(&query, &write->sql, "DELETE FROM jobs WHERE id = ?", error);
}
if (status == STATUS_OK) {
    store_query_text(&query, id);
    status = store_query_finish(&query, NULL, error);
}
store_write_changed(write, job.id);
store_job_deinit(&job);
return status;
}

enum status store_job_delete(struct store *store, const char *id, struct error *error) {
    return store_write_run(store, delete, (void *)(uintptr_t)id, error);
}
