/* Progress: only the latest of each attempt counts, so workers leave it here and the writer takes it along. It becomes an event of
 * its own when it says something new: another stage, another message, half a percent more. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/json_read.h"
#include "common/mem.h"
#include "server/store/store_internal.h"

static const double NOTE_FRACTION = 0.005;
enum { NOTE_MESSAGE_MS = 1000 };

json_t *store_progress_json(const struct store_progress *progress) {
    bool staged = progress->stage < STAGE_COUNT;
    return json_pack("{s:o, s:I, s:I, s:o, s:o, s:o, s:I, s:o, s:o, s:s}", "stage",
                     staged ? json_string(job_stage_name(progress->stage)) : json_null(), "step",
                     (json_int_t)progress->step, "total", (json_int_t)progress->total, "fraction",
                     json_real_or_null(progress->fraction), "eta_s",
                     progress->eta_s < 0 ? json_null() : json_real_or_null(progress->eta_s), "best_reward",
                     json_real_or_null(progress->best_reward), "evaluations", (json_int_t)progress->evaluations,
                     "mean_reward", json_real_or_null(progress->mean_reward), "greedy_reward",
                     json_real_or_null(progress->greedy_reward), "message", progress->message);
}

void store_progress_clean(struct store_progress *progress) {
    progress->message[STORE_MESSAGE_SIZE - 1] = '\0';
    json_t *text = json_string(progress->message);
    for (char *c = progress->message; text == NULL && *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || (unsigned char)*c > 0x7e) {
            *c = '?';
        }
    }
    json_decref(text);
}

/* Finds the entry of this attempt or makes one; the lock is held. */
static struct store_pending *pending_for(struct store *store, const char *id, uint64_t attempt) {
    for (size_t i = 0; i < store->pending_count; i++) {
        if (store->pending[i].attempt == attempt && strcmp(store->pending[i].id, id) == 0) {
            return &store->pending[i];
        }
    }
    if (store->pending_count == STORE_PENDING_MAX) {
        return NULL;
    }
    struct store_pending *grown = mem_realloc(store->pending, store->pending_count + 1, sizeof(*grown));
    if (grown == NULL) {
        return NULL;
    }
    store->pending = grown;
    struct store_pending *entry = &grown[store->pending_count++];
    *entry = (struct store_pending){.attempt = attempt};
    (void)snprintf(entry->id, sizeof entry->id, "%s", id);
    if (store->pending_count == 1) {
        store->pending_since = clock_seconds();
        pthread_cond_signal(&store->wake);
    }
    return entry;
}

enum status store_job_progress(struct store *store, const char *id, uint64_t attempt, int64_t lease_ms,
                               const struct store_progress *progress, struct error *error) {
    enum status status = STATUS_OK;
    pthread_mutex_lock(&store->lock);
    struct store_pending *entry = store->stopping ? NULL : pending_for(store, id, attempt);
    if (entry == NULL) {
        status = error_set(error, STATUS_UNAVAILABLE, "database", "failed to note progress of job %s", id);
    } else {
        entry->lease_until_ms = clock_wall_ms() + lease_ms;
        if (progress != NULL) {
            entry->has_progress = true;
            entry->progress = *progress;
            store_progress_clean(&entry->progress);
        }
    }
    pthread_mutex_unlock(&store->lock);
    return status;
}

static enum status extend_lease(struct store_write *write, const struct store_pending *pending, struct error *error) {
    struct store_query query;
    enum status status = store_query_init(&query, &write->sql,
                                          "UPDATE jobs SET lease_until_ms = ? WHERE id = ? AND attempt = ?"
                                          " AND state IN ('starting', 'running', 'cancelling')",
                                          error);
    if (status == STATUS_OK) {
        store_query_i64(&query, pending->lease_until_ms);
        store_query_text(&query, pending->id);
        store_query_u64(&query, pending->attempt);
        status = store_query_finish(&query, NULL, error);
    }
    return status;
}

/* *live: this attempt still holds the job. *news: this progress is worth an event. */
static enum status compare(struct store_write *write, const struct store_pending *pending, int64_t now, bool *live,
                           bool *news, struct error *error) {
    const struct store_progress *progress = &pending->progress;
    char stage[32];
    char message[STORE_MESSAGE_SIZE];
    struct store_query query;
    enum status status = store_query_init(&query, &write->sql,
                                          "SELECT stage, message, noted_fraction, noted_ms FROM jobs WHERE id = ?"
                                          " AND attempt = ? AND state IN ('starting', 'running', 'cancelling')",
                                          error);
    if (status != STATUS_OK) {
        return status;
    }
    store_query_text(&query, pending->id);
    store_query_u64(&query, pending->attempt);
    status = store_query_step(&query, live, error);
    if (status == STATUS_OK && *live) {
        store_column_text(&query, 0, stage, sizeof stage);
        store_column_text(&query, 1, message, sizeof message);
        *news = job_stage_from_name(stage) != progress->stage ||
                progress->fraction >= store_column_real(&query, 2) + NOTE_FRACTION ||
                (strcmp(message, progress->message) != 0 && now >= store_column_i64(&query, 3) + NOTE_MESSAGE_MS);
    }
    store_query_end(&query);
    return status;
}

static enum status write_progress(struct store_write *write, const struct store_pending *pending, bool news,
                                  int64_t now, struct error *error) {
    const struct store_progress *progress = &pending->progress;
    struct store_query query;
    enum status status =
        store_query_init(&query, &write->sql,
                         "UPDATE jobs SET version = version + 1, lease_until_ms = ?, stage = ?, step = ?, total = ?,"
                         " fraction = ?, eta_s = ?, best_reward = ?, evaluations = ?, mean_reward = ?,"
                         " greedy_reward = ?, message = ?, updated_ms = ?,"
                         " noted_fraction = iif(?13, ?5, noted_fraction), noted_ms = iif(?13, ?12, noted_ms)"
                         " WHERE id = ?14",
                         error);
    if (status == STATUS_OK) {
        store_query_i64(&query, pending->lease_until_ms);
        store_query_text(&query, progress->stage < STAGE_COUNT ? job_stage_name(progress->stage) : NULL);
        store_query_u64(&query, progress->step);
        store_query_u64(&query, progress->total);
        store_query_real(&query, isnan(progress->fraction) ? 0.0 : progress->fraction);
        store_query_real(&query, progress->eta_s < 0 ? (double)NAN : progress->eta_s);
        store_query_real(&query, progress->best_reward);
        store_query_u64(&query, progress->evaluations);
        store_query_real(&query, progress->mean_reward);
        store_query_real(&query, progress->greedy_reward);
        store_query_text(&query, progress->message);
        store_query_i64(&query, now);
        store_query_i64(&query, news ? 1 : 0);
        store_query_text(&query, pending->id);
        status = store_query_finish(&query, NULL, error);
    }
    return status;
}

static enum status write_one(struct store_write *write, const struct store_pending *pending, struct error *error) {
    int64_t now = clock_wall_ms();
    bool live = false;
    bool news = false;
    if (!pending->has_progress) {
        return extend_lease(write, pending, error);
    }
    enum status status = compare(write, pending, now, &live, &news, error);
    if (status != STATUS_OK || !live) {
        return status;
    }
    status = write_progress(write, pending, news, now, error);
    if (status == STATUS_OK && news) {
        json_t *data = store_progress_json(&pending->progress);
        status = data != NULL ? store_event_insert(write, pending->id, "progress", data, error)
                              : error_no_memory(error, "an event");
        json_decref(data);
    }
    store_write_changed(write, pending->id);
    return status;
}

enum status store_progress_write(struct store_write *write, const struct store_pending *pending, size_t count,
                                 struct error *error) {
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = write_one(write, &pending[i], error);
    }
    return status;
}
