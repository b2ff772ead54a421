/* Figures and retention. */
#include "server/store/store_upkeep.h"

#include <sys/statvfs.h>

#include "common/clock.h"
#include "server/store/store_internal.h"

static enum status read_number(struct store_sql *sql, const char *text, int64_t *out, struct error *error) {
    struct store_query query;
    bool row = false;
    enum status status = store_query_init_once(&query, sql, text, error);
    if (status == STATUS_OK) {
        status = store_query_step(&query, &row, error);
        *out = status == STATUS_OK && row ? store_column_i64(&query, 0) : 0;
        store_query_end(&query);
    }
    return status;
}

enum status store_figures(struct store *store, struct store_figures *out, struct error *error) {
    struct store_figures figures = {.commits = atomic_load(&store->commits),
                                    .failed_commits = atomic_load(&store->failed_commits)};
    struct store_sql *sql = NULL;
    struct statvfs disk;
    int64_t models = 0, samples = 0, oldest = 0;
    enum status status = store_read_begin(store, &sql, error);
    if (status == STATUS_OK) {
        status = read_number(sql, "SELECT count(*) FROM models", &models, error);
    }
    if (status == STATUS_OK) {
        status = read_number(sql, "SELECT count(*) FROM samples", &samples, error);
    }
    if (status == STATUS_OK) {
        status =
            read_number(sql, "SELECT coalesce(min(updated_ms), 0) FROM jobs WHERE state = 'queued'", &oldest, error);
    }
    store_read_end(store, sql);
    if (status == STATUS_OK && statvfs(store->data_dir, &disk) != 0) {
        status = error_io(error, "data folder", "failed to look at the disk of the store");
    }
    if (status == STATUS_OK) {
        figures.models = (uint64_t)models;
        figures.samples = (uint64_t)samples;
        figures.queue_age_s = oldest > 0 ? (double)(clock_wall_ms() - oldest) / 1000.0 : 0;
        figures.queue_age_s = figures.queue_age_s > 0 ? figures.queue_age_s : 0;
        figures.disk_free = (uint64_t)disk.f_bavail * (uint64_t)disk.f_frsize;
        figures.disk_total = (uint64_t)disk.f_blocks * (uint64_t)disk.f_frsize;
        *out = figures;
    }
    return status;
}

struct retaining {
    const struct store_retention *retention;
    size_t deleted;
};

static enum status delete_before(struct store_write *write, const char *text, int64_t before_ms, size_t *deleted,
                                 struct error *error) {
    struct store_query query;
    size_t changed = 0;
    if (before_ms <= 0) {
        return STATUS_OK;
    }
    enum status status = store_query_init_once(&query, &write->sql, text, error);
    if (status == STATUS_OK) {
        store_query_i64(&query, before_ms);
        store_query_i64(&query, STORE_RETAIN_BATCH);
        status = store_query_finish(&query, &changed, error);
        *deleted += changed;
    }
    return status;
}

/* Ids grow with time, so the oldest stand first in their index; only those are looked at. */
#define DELETE_JOBS(state)                                                                                             \
    "DELETE FROM jobs WHERE id IN (SELECT id FROM (SELECT id, finished_ms FROM jobs WHERE state = '" state             \
    "' ORDER BY id LIMIT ?2) WHERE finished_ms < ?1)"
#define UNUSED(table, column)                                                                                          \
    "DELETE FROM " table " WHERE id IN (SELECT id FROM (SELECT id, created_ms FROM " table                             \
    " AS o WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE " column ") ORDER BY id LIMIT ?2) WHERE created_ms < ?1)"

static enum status retain(struct store_write *write, void *user, struct error *error) {
    struct retaining *retaining = user;
    const struct store_retention *r = retaining->retention;
    const struct {
        const char *text;
        int64_t before_ms;
    } steps[] = {
        {DELETE_JOBS("succeeded"), r->succeeded_before_ms},
        {DELETE_JOBS("failed"), r->failed_before_ms},
        {DELETE_JOBS("cancelled"), r->failed_before_ms},
        {UNUSED("models", "jobs.model_id = o.id"), r->unused_before_ms},
        {UNUSED("samples", "jobs.samples_id = o.id) AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.probe_id = o.id"),
         r->unused_before_ms},
    };
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0] && status == STATUS_OK; i++) {
        status = delete_before(write, steps[i].text, steps[i].before_ms, &retaining->deleted, error);
    }
    return status;
}

enum status store_retain(struct store *store, const struct store_retention *retention, size_t *deleted,
                         struct error *error) {
    struct retaining retaining = {.retention = retention};
    const enum status status = store_write_run(store, retain, &retaining, error);
    if (status == STATUS_OK) {
        *deleted = retaining.deleted;
    }
    return status;
}
