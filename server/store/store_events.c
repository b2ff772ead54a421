/* What a job leaves: events, the result, artifacts. */
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "server/store/store_internal.h"

enum status store_event_insert(struct store_write *write, const char *job_id, const char *type, const json_t *data,
                               struct error *error) {
    struct store_query query;
    enum status status = store_query_init(
        &query, &write->sql,
        "INSERT INTO events (job_id, sequence, time_ms, type, data)"
        " VALUES (?1, (SELECT coalesce(max(sequence), 0) + 1 FROM events WHERE job_id = ?1), ?2, ?3, ?4)",
        error);
    if (status == STATUS_OK) {
        store_query_text(&query, job_id);
        store_query_i64(&query, clock_wall_ms());
        store_query_text(&query, type);
        store_query_json(&query, data);
        status = store_query_finish(&query, NULL, error);
    }
    store_write_changed(write, job_id);
    return status;
}

enum status store_event_state(struct store_write *write, const char *job_id, enum job_state state, uint64_t attempt,
                              const struct error *problem, struct error *error) {
    json_t *data = json_pack("{s:s, s:I}", "state", job_state_name(state), "attempt", (json_int_t)attempt);
    if (data != NULL && problem != NULL &&
        json_object_set_new(data, "problem",
                            json_pack("{s:s, s:s, s:s}", "status", status_name(problem->status), "where",
                                      problem->where, "message", problem->message)) != 0) {
        json_decref(data);
        data = NULL;
    }
    if (data == NULL) {
        return error_no_memory(error, "an event");
    }
    enum status status = store_event_insert(write, job_id, "state", data, error);
    json_decref(data);
    return status;
}

void store_events_free(struct store_event *events, size_t count) {
    for (size_t i = 0; i < count; i++) {
        json_decref(events[i].data);
    }
    mem_free(events);
}

/* --- reading --- */

/* Tells "no such job" from "this job has none of these". */
static enum status expect_job(struct store_sql *sql, const char *id, struct error *error) {
    struct store_query query;
    bool row = false;
    enum status status = store_query_init(&query, sql, "SELECT 1 FROM jobs WHERE id = ?", error);
    if (status != STATUS_OK) {
        return status;
    }
    store_query_text(&query, id);
    status = store_query_step(&query, &row, error);
    store_query_end(&query);
    if (status == STATUS_OK && !row) {
        status = error_set(error, STATUS_NOT_FOUND, "", "failed to find job %.80s: there is none", id);
    }
    return status;
}

static enum status read_event(const struct store_query *query, struct store_event *event, struct error *error) {
    event->sequence = store_column_u64(query, 0);
    event->time_ms = store_column_i64(query, 1);
    store_column_text(query, 2, event->type, sizeof event->type);
    return store_column_json(query, 3, &event->data, error);
}

static enum status read_events(struct store_sql *sql, const char *job_id, uint64_t after, size_t limit,
                               struct store_event *events, size_t *count, bool *has_more, struct error *error) {
    struct store_query query;
    bool row = false;
    enum status status = store_query_init(&query, sql,
                                          "SELECT sequence, time_ms, type, data FROM events"
                                          " WHERE job_id = ? AND sequence > ? ORDER BY sequence LIMIT ?",
                                          error);
    if (status != STATUS_OK) {
        return status;
    }
    store_query_text(&query, job_id);
    store_query_i64(&query, after > INT64_MAX ? INT64_MAX : (int64_t)after);
    store_query_i64(&query, (int64_t)limit + 1);
    status = store_query_step(&query, &row, error);
    while (status == STATUS_OK && row && *count < limit) {
        (*count)++;
        status = read_event(&query, &events[*count - 1], error);
        if (status == STATUS_OK) {
            status = store_query_step(&query, &row, error);
        }
    }
    *has_more = row;
    store_query_end(&query);
    return status;
}

enum status store_event_list(struct store *store, const char *job_id, uint64_t after, size_t limit,
                             struct store_event **events, size_t *count, bool *has_more, struct error *error) {
    struct store_sql *sql = NULL;
    size_t rows = 0;
    bool more = false;
    if (limit < 1 || limit > STORE_LIST_MAX) {
        return error_set(error, STATUS_INVALID, "/limit", "failed to list events: got a limit of %zu, expected 1 to %d",
                         limit, STORE_LIST_MAX);
    }
    struct store_event *page = mem_calloc(limit, sizeof(*page));
    enum status status = page != NULL ? store_read_begin(store, &sql, error) : error_no_memory(error, "a list");
    if (status == STATUS_OK) {
        status = expect_job(sql, job_id, error);
    }
    if (status == STATUS_OK) {
        status = read_events(sql, job_id, after, limit, page, &rows, &more, error);
    }
    store_read_end(store, sql);
    if (status != STATUS_OK) {
        store_events_free(page, rows);
        return status;
    }
    *events = page;
    *count = rows;
    *has_more = more;
    return STATUS_OK;
}

enum status store_job_result(struct store *store, const char *id, json_t **report, struct error *error) {
    struct store_sql *sql = NULL;
    struct store_query query = {0};
    bool row = false;
    enum status status = store_read_begin(store, &sql, error);
    if (status == STATUS_OK) {
        status = expect_job(sql, id, error);
    }
    if (status == STATUS_OK) {
        status = store_query_init(&query, sql, "SELECT report FROM results WHERE job_id = ?", error);
    }
    if (status == STATUS_OK) {
        store_query_text(&query, id);
        status = store_query_step(&query, &row, error);
    }
    if (status == STATUS_OK && !row) {
        status = error_set(error, STATUS_CONFLICT, "", "failed to read the result of job %s: it has none", id);
    } else if (status == STATUS_OK) {
        status = store_column_json(&query, 0, report, error);
    }
    store_query_end(&query);
    store_read_end(store, sql);
    return status;
}

static enum status read_artifacts(struct store_query *query, struct store_artifact **artifacts, size_t *count,
                                  struct error *error) {
    bool row = false;
    enum status status = store_query_step(query, &row, error);
    while (status == STATUS_OK && row) {
        struct store_artifact *grown = mem_realloc(*artifacts, *count + 1, sizeof(*grown));
        if (grown == NULL) {
            return error_no_memory(error, "a list");
        }
        *artifacts = grown;
        struct store_artifact *artifact = &grown[(*count)++];
        store_column_text(query, 0, artifact->name, sizeof artifact->name);
        store_column_text(query, 1, artifact->blob.sha256, sizeof artifact->blob.sha256);
        artifact->blob.size = store_column_u64(query, 2);
        status = store_query_step(query, &row, error);
    }
    return status;
}

enum status store_artifact_list(struct store *store, const char *job_id, struct store_artifact **artifacts,
                                size_t *count, struct error *error) {
    struct store_sql *sql = NULL;
    struct store_query query = {0};
    struct store_artifact *list = NULL;
    size_t rows = 0;
    enum status status = store_read_begin(store, &sql, error);
    if (status == STATUS_OK) {
        status = expect_job(sql, job_id, error);
    }
    if (status == STATUS_OK) {
        status = store_query_init(&query, sql,
                                  "SELECT name, sha256, size FROM artifacts JOIN blobs USING (sha256)"
                                  " WHERE job_id = ? ORDER BY name",
                                  error);
    }
    if (status == STATUS_OK) {
        store_query_text(&query, job_id);
        status = read_artifacts(&query, &list, &rows, error);
    }
    store_query_end(&query);
    store_read_end(store, sql);
    if (status != STATUS_OK) {
        mem_free(list);
        return status;
    }
    *artifacts = list;
    *count = rows;
    return STATUS_OK;
}

enum status store_artifact_find(struct store *store, const char *job_id, const char *name,
                                struct store_artifact *artifact, struct error *error) {
    struct store_artifact *list = NULL;
    size_t count = 0;
    enum status status = store_artifact_list(store, job_id, &list, &count, error);
    if (status != STATUS_OK) {
        return status;
    }
    status = STATUS_NOT_FOUND;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(list[i].name, name) == 0) {
            *artifact = list[i];
            status = STATUS_OK;
        }
    }
    mem_free(list);
    return status == STATUS_OK ? STATUS_OK
                               : error_set(error, STATUS_NOT_FOUND, "",
                                           "failed to find artifact %.80s of job %s: there is none", name, job_id);
}
