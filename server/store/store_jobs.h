/* Jobs: rows, the moves between their states, events, results and artifacts.
 *
 * Each write of a worker carries the attempt number it was given when it claimed the job (fencing): if the job has
 * moved on since, nothing is written and STATUS_CONFLICT comes back. `version` of a row grows with each change of
 * it, so it serves as ETag and for long-polls (with store_set_listener()). */
#ifndef ONP_SERVER_STORE_STORE_JOBS_H
#define ONP_SERVER_STORE_STORE_JOBS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/id.h"
#include "common/words.h"
#include "server/store/store.h"
#include "server/store/store_idempotency.h"
#include "server/store/store_objects.h"

enum { STORE_METHOD_SIZE = 32, STORE_MESSAGE_SIZE = 256, STORE_ARTIFACT_NAME_SIZE = 64, STORE_LABELS_MAX = 32 };

/* The one table of allowed moves: true if a job may go from one state to the other. */
bool store_job_may_move(enum job_state from, enum job_state to);

struct store_progress {
    enum job_stage stage; /* STAGE_COUNT: not started */
    uint64_t step, total; /* within the stage */
    double fraction;      /* of the job, [0, 1] */
    double eta_s;         /* < 0: not known */
    double best_reward;   /* NaN: none yet */
    /* of the search: masks scored so far, the mean reward of the latest ones, what greedy reached; 0, NaN: not known */
    uint64_t evaluations;
    double mean_reward, greedy_reward;
    char message[STORE_MESSAGE_SIZE];
};

/* What a new job is made of; all borrowed. */
struct store_job_request {
    const char *model_id;
    const char *samples_id;
    const char *probe_id; /* samples with targets, or NULL */
    const char *method;
    const json_t *parameters; /* object or NULL */
    uint64_t seed;
    int priority;                                    /* higher first */
    const json_t *labels;                            /* object of strings, at most STORE_LABELS_MAX, or NULL */
    double deadline_s;                               /* seconds from submission by which it must be done; 0: none */
    unsigned max_attempts;                           /* losses (crash, kill) after which it fails; 0 means 3 */
    const char *owner;                               /* who it counts for; NULL: nobody */
    uint64_t owner_max;                              /* jobs of the owner that may be queued or run; 0: no limit */
    const struct store_idempotency_key *idempotency; /* of the request that makes it; NULL: none */
};

struct store_job {
    char id[ID_SIZE];
    enum job_state state;
    uint64_t version; /* ETag; grows with every change of the row */
    uint64_t attempt; /* 0 before the first claim */
    uint64_t losses;  /* attempts lost to a crash or a killed daemon */
    uint64_t max_attempts;
    char model_id[ID_SIZE], samples_id[ID_SIZE], probe_id[ID_SIZE]; /* probe_id "" if none */
    char method[STORE_METHOD_SIZE];
    json_t *parameters; /* object, never NULL */
    json_t *labels;     /* object of strings, never NULL */
    uint64_t seed;
    int priority;
    double deadline_s; /* 0: none */
    bool cancel_requested;
    json_t *summary; /* of the result, see store_job_succeed(); NULL: there is no result */
    struct store_progress progress;
    struct error problem; /* of a failed job; status STATUS_OK otherwise */
    int64_t created_ms;
    int64_t started_ms;  /* of the latest attempt; 0 before the first */
    int64_t finished_ms; /* 0 until terminal */
    int64_t updated_ms;
};

void store_job_deinit(struct store_job *job);

/* Inserts a queued job. STATUS_NOT_FOUND with place "/model_id", "/samples_id" or "/probe_id" if one is not there.
 * STATUS_UNAVAILABLE with place "queue" if `queue_max` (0: no limit) jobs are queued already, or the owner has too many. *job is the caller's. */
enum status store_job_insert(struct store *store, const struct store_job_request *request, uint64_t queue_max,
                             struct store_job *job, struct error *error);
enum status store_job_find(struct store *store, const char *id, struct store_job *job, struct error *error);

struct store_job_filter {
    enum job_state state; /* JOB_STATE_COUNT: any */
    const char *method;   /* NULL: any */
    const char *label;    /* "key" or "key=value"; NULL: any */
};
/* Newest first, as store_object_list(). filter NULL: all. Free with store_jobs_free(). */
enum status store_job_list(struct store *store, const struct store_job_filter *filter, const char *after, size_t limit,
                           struct store_job **jobs, size_t *count, bool *has_more, struct error *error);
void store_jobs_free(struct store_job *jobs, size_t count);
/* How many jobs are in each state. */
enum status store_job_counts(struct store *store, uint64_t counts[JOB_STATE_COUNT], struct error *error);

/* -> failed for queued jobs whose deadline is over. Looks first, and writes only if there are some. */
enum status store_job_expire_queued(struct store *store, struct error *error);

/* Deletes a finished job with its events, result and artifacts. STATUS_NOT_FOUND, STATUS_CONFLICT while it is live. */
enum status store_job_delete(struct store *store, const char *id, struct error *error);

/* queued: cancelled at once. starting, running: cancelling (its worker sees to the rest: use jobs_cancel()). cancelling,
 * cancelled: nothing changes, OK. succeeded, failed: STATUS_CONFLICT. *job (the row afterwards) may be NULL. */
enum status store_job_request_cancel(struct store *store, const char *id, struct store_job *job, struct error *error);

/* --- for workers --- */

/* Takes the next job (highest priority, then oldest): queued -> starting, attempt + 1, a lease of `lease_ms`.
 * STATUS_NOT_FOUND (error untouched) if none is queued. */
enum status store_job_claim(struct store *store, int64_t lease_ms, struct store_job *job, struct error *error);
/* starting -> running. */
enum status store_job_start(struct store *store, const char *id, uint64_t attempt, struct error *error);
/* Notes progress and extends the lease, within 250 ms and without waiting for it; only the latest of a job counts. A
 * write that comes too late (fencing) is dropped silently. progress NULL: only the lease. */
enum status store_job_progress(struct store *store, const char *id, uint64_t attempt, int64_t lease_ms,
                               const struct store_progress *progress, struct error *error);
/* Appends an event now. `type`: snake_case word; data: object or NULL, borrowed. */
enum status store_job_append_event(struct store *store, const char *id, uint64_t attempt, const char *type,
                                   const json_t *data, struct error *error);

struct store_artifact_file {
    const char *name; /* ARTIFACT_MODEL ... */
    const char *path; /* a regular file on the disk of the data folder; moved away on success */
};
/* -> succeeded, with the report and files. All of it or nothing. `report` is borrowed. The job's summary is taken from it: {verdict,
 * accuracy_before, accuracy_after, asr_before, asr_after, pruned_units}, null for what it does not have. */
enum status store_job_succeed(struct store *store, const char *id, uint64_t attempt, const json_t *report,
                              const struct store_artifact_file *files, size_t file_count, struct error *error);
/* -> failed with status, place and message of `problem`. */
enum status store_job_fail(struct store *store, const char *id, uint64_t attempt, const struct error *problem,
                           struct error *error);
/* -> cancelled. */
enum status store_job_cancelled(struct store *store, const char *id, uint64_t attempt, struct error *error);
/* The attempt is over without an outcome: -> interrupted, and in the same transaction -> cancelled if that was asked for, ->
 * queued, or -> failed with `problem` when `is_loss` and losses have reached max_attempts. is_loss false: an orderly
 * stop of the daemon, which is not held against the job. *state (may be NULL): where it ended. */
enum status store_job_interrupt(struct store *store, const char *id, uint64_t attempt, const struct error *problem,
                                bool is_loss, enum job_state *state, struct error *error);
/* store_job_interrupt() as a loss for each job whose lease ended before `before_ms` (INT64_MAX: all that are
 * starting, running or cancelling: at a start nobody else can hold one). *count may be NULL. */
enum status store_job_recover(struct store *store, int64_t before_ms, size_t *count, struct error *error);

/* --- what a job leaves --- */

struct store_event {
    uint64_t sequence; /* grows within a job, from 1, without gaps */
    int64_t time_ms;
    char type[32]; /* "state", "progress", or what a worker appended */
    json_t *data;  /* object */
};
/* Events with sequence > after, oldest first, at most `limit` (1..STORE_LIST_MAX). STATUS_NOT_FOUND: no such job.
 * "state" events hold {"state", "attempt"} and, for failed, {"problem"}; "progress" events hold the progress object. */
enum status store_event_list(struct store *store, const char *job_id, uint64_t after, size_t limit,
                             struct store_event **events, size_t *count, bool *has_more, struct error *error);
void store_events_free(struct store_event *events, size_t count);

/* The report of a succeeded job, new reference. STATUS_NOT_FOUND: no such job; STATUS_CONFLICT: no result (yet). */
enum status store_job_result(struct store *store, const char *id, json_t **report, struct error *error);

struct store_artifact {
    char name[STORE_ARTIFACT_NAME_SIZE];
    struct store_blob blob;
};
/* All artifacts of a job, by name; mem_free() the array. STATUS_NOT_FOUND: no such job. */
enum status store_artifact_list(struct store *store, const char *job_id, struct store_artifact **artifacts,
                                size_t *count, struct error *error);
/* One of them; STATUS_NOT_FOUND. */
enum status store_artifact_find(struct store *store, const char *job_id, const char *name,
                                struct store_artifact *artifact, struct error *error);

/* Progress as the JSON object of the API: {stage, step, total, fraction, eta_s, best_reward, evaluations,
 * mean_reward, greedy_reward, message}, unknown values null.
 * New reference, NULL without memory. */
json_t *store_progress_json(const struct store_progress *progress);
/* Makes the message fit for JSON: one that was cut within a character, or is no UTF-8 at all, loses its odd bytes. */
void store_progress_clean(struct store_progress *progress);

#endif
