/* Queued jobs that missed their deadline. Those that run are stopped by who runs them. */
#include <stdio.h>

#include "common/clock.h"
#include "common/mem.h"
#include "server/store/store_internal.h"

enum { EXPIRE_MAX = 100 };

struct expired {
    char ids[EXPIRE_MAX][ID_SIZE];
    double deadlines[EXPIRE_MAX];
    size_t count;
};

static enum status list(struct store *store, struct expired *expired, struct error *error) {
    struct store_sql *sql = NULL;
    struct store_query query = {0};
    bool row = false;
    enum status status = store_read_begin(store, &sql, error);
    if (status == STATUS_OK) {
        status = store_query_init(&query, sql,
                                  "SELECT id, deadline_s FROM jobs WHERE state = 'queued' AND deadline_s > 0"
                                  " AND created_ms + deadline_s * 1000.0 < ? LIMIT ?",
                                  error);
    }
    if (status == STATUS_OK) {
        store_query_i64(&query, clock_wall_ms());
        store_query_i64(&query, EXPIRE_MAX);
        status = store_query_step(&query, &row, error);
    }
    while (status == STATUS_OK && row && expired->count < EXPIRE_MAX) {
        store_column_text(&query, 0, expired->ids[expired->count], ID_SIZE);
        expired->deadlines[expired->count++] = store_column_real(&query, 1);
        status = store_query_step(&query, &row, error);
    }
    store_query_end(&query);
    store_read_end(store, sql);
    return status;
}

static enum status fail_one(struct store_write *write, const char *id, double deadline_s, struct error *error) {
    struct store_query query;
    struct error problem = {0};
    size_t changed = 0;
    (void)error_set(&problem, STATUS_LIMIT, "/deadline_s",
                    "failed to start the job in time: expected a result within %g s of its submission", deadline_s);
    enum status status = store_query_init(
        &query, &write->sql,
        "UPDATE jobs SET state = 'failed', version = version + 1, updated_ms = ?1, finished_ms = ?1,"
        " problem_status = ?2, problem_where = ?3, problem_message = ?4 WHERE id = ?5 AND state = 'queued'",
        error);
    if (status != STATUS_OK) {
        return status;
    }
    store_query_i64(&query, clock_wall_ms());
    store_query_text(&query, status_name(problem.status));
    store_query_text(&query, problem.where);
    store_query_text(&query, problem.message);
    store_query_text(&query, id);
    status = store_query_finish(&query, &changed, error);
    /* It may have been claimed since it was listed. */
    return status == STATUS_OK && changed > 0 ? store_event_state(write, id, JOB_FAILED, 0, &problem, error) : status;
}

static enum status fail_all(struct store_write *write, void *user, struct error *error) {
    const struct expired *expired = user;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < expired->count && status == STATUS_OK; i++) {
        status = fail_one(write, expired->ids[i], expired->deadlines[i], error);
    }
    return status;
}

enum status store_job_expire_queued(struct store *store, struct error *error) {
    struct expired *expired = mem_calloc(1, sizeof(*expired));
    if (expired == NULL) {
        return error_no_memory(error, "a list of jobs");
    }
    enum status status = list(store, expired, error);
    if (status == STATUS_OK && expired->count > 0) {
        status = store_write_run(store, fail_all, expired, error);
    }
    mem_free(expired);
    return status;
}
