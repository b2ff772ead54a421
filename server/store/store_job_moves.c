/* The moves of a job from state to state. The writer thread runs them one at a time, so a move looks at the row, asks the table
 * of allowed moves, compares the attempt (fencing), and then writes. Each state reached leaves an event. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/mem.h"
#include "server/store/store_internal.h"

enum { ARTIFACTS_MAX = 16, RECOVER_MAX = 256 };

struct move {
    const char *id;
    uint64_t attempt;
    enum job_state to;
    const struct error *problem; /* of JOB_FAILED, JOB_INTERRUPTED */
    bool is_loss;                /* of JOB_INTERRUPTED */
    enum job_state reached;
    const json_t *report; /* of JOB_SUCCEEDED */
    const struct store_artifact *artifacts;
    size_t artifact_count;
};

/* What a move needs to know of the row. */
struct standing {
    enum job_state state;
    uint64_t attempt, losses, max_attempts;
    bool cancel_requested;
};

static enum status look(struct store_write *write, const char *id, struct standing *standing, struct error *error) {
    struct store_query query;
    char state[32];
    bool row = false;
    enum status status =
        store_query_init(&query, &write->sql,
                         "SELECT state, attempt, losses, max_attempts, cancel_requested FROM jobs WHERE id = ?", error);
    if (status != STATUS_OK) {
        return status;
    }
    store_query_text(&query, id);
    status = store_query_step(&query, &row, error);
    if (status == STATUS_OK && !row) {
        status = error_set(error, STATUS_NOT_FOUND, "", "failed to find job %.80s: there is none", id);
    } else if (status == STATUS_OK) {
        store_column_text(&query, 0, state, sizeof state);
        standing->state = job_state_from_name(state);
        standing->attempt = store_column_u64(&query, 1);
        standing->losses = store_column_u64(&query, 2);
        standing->max_attempts = store_column_u64(&query, 3);
        standing->cancel_requested = store_column_i64(&query, 4) != 0;
    }
    store_query_end(&query);
    return status;
}

/* As look(), and only if this attempt still holds the job and may do this. */
static enum status look_fenced(struct store_write *write, const char *id, uint64_t attempt, enum job_state to,
                               struct standing *standing, struct error *error) {
    enum status status = look(write, id, standing, error);
    if (status == STATUS_OK && standing->attempt != attempt) {
        status = error_set(error, STATUS_CONFLICT, "", "failed to move job %s: got attempt %llu, expected %llu", id,
                           (unsigned long long)attempt, (unsigned long long)standing->attempt);
    }
    if (status == STATUS_OK && to != JOB_STATE_COUNT && !store_job_may_move(standing->state, to)) {
        status = error_set(error, STATUS_CONFLICT, "", "failed to move job %s: got state %s, which may not become %s",
                           id, job_state_name(standing->state), job_state_name(to));
    }
    return status;
}

static enum status set_state(struct store_write *write, const char *id, uint64_t attempt, enum job_state to,
                             const struct error *problem, struct error *error) {
    struct store_query query;
    bool keeps_problem = to == JOB_FAILED && problem != NULL;
    int64_t now = clock_wall_ms();
    enum status status =
        store_query_init(&query, &write->sql,
                         "UPDATE jobs SET state = ?, version = version + 1, updated_ms = ?, finished_ms = ?,"
                         " problem_status = ?, problem_where = ?, problem_message = ?,"
                         " fraction = iif(?1 = 'succeeded', 1.0, fraction),"
                         " eta_s = iif(?1 IN ('running', 'cancelling'), eta_s, NULL) WHERE id = ?",
                         error);
    if (status == STATUS_OK) {
        store_query_text(&query, job_state_name(to));
        store_query_i64(&query, now);
        store_query_i64(&query, job_state_is_terminal(to) ? now : 0);
        store_query_text(&query, keeps_problem ? status_name(problem->status) : NULL);
        store_query_text(&query, keeps_problem ? problem->where : NULL);
        store_query_text(&query, keeps_problem ? problem->message : NULL);
        store_query_text(&query, id);
        status = store_query_finish(&query, NULL, error);
    }
    return status == STATUS_OK ? store_event_state(write, id, to, attempt, problem, error) : status;
}

/* --- simple moves --- */

static enum status make_move(struct store_write *write, void *user, struct error *error) {
    const struct move *move = user;
    struct standing standing = {0};
    enum status status = look_fenced(write, move->id, move->attempt, move->to, &standing, error);
    return status == STATUS_OK ? set_state(write, move->id, move->attempt, move->to, move->problem, error) : status;
}

enum status store_job_start(struct store *store, const char *id, uint64_t attempt, struct error *error) {
    struct move move = {.id = id, .attempt = attempt, .to = JOB_RUNNING};
    return store_write_run(store, make_move, &move, error);
}

enum status store_job_fail(struct store *store, const char *id, uint64_t attempt, const struct error *problem,
                           struct error *error) {
    struct move move = {.id = id, .attempt = attempt, .to = JOB_FAILED, .problem = problem};
    return store_write_run(store, make_move, &move, error);
}

enum status store_job_cancelled(struct store *store, const char *id, uint64_t attempt, struct error *error) {
    struct move move = {.id = id, .attempt = attempt, .to = JOB_CANCELLED};
    return store_write_run(store, make_move, &move, error);
}

/* --- claiming --- */

struct claim {
    int64_t lease_ms;
    struct store_job *job;
    bool found;
};

static enum status claim(struct store_write *write, void *user, struct error *error) {
    struct claim *wanted = user;
    struct store_query query;
    char id[ID_SIZE];
    uint64_t attempt = 0;
    int64_t now = clock_wall_ms();
    enum status status = store_query_init(
        &query, &write->sql,
        "UPDATE jobs SET state = 'starting', version = version + 1, attempt = attempt + 1, lease_until_ms = ?,"
        " started_ms = ?, updated_ms = ?2, stage = NULL, step = 0, total = 0, fraction = 0, eta_s = NULL,"
        " best_reward = NULL, evaluations = 0, mean_reward = NULL, greedy_reward = NULL, message = '', noted_fraction "
        "= 0, noted_ms = 0"
        " WHERE id = (SELECT id FROM jobs WHERE state = 'queued' ORDER BY priority DESC, id LIMIT 1)"
        " RETURNING id, attempt",
        error);
    if (status != STATUS_OK) {
        return status;
    }
    store_query_i64(&query, now + wanted->lease_ms);
    store_query_i64(&query, now);
    status = store_query_step(&query, &wanted->found, error);
    if (status == STATUS_OK && wanted->found) {
        store_column_text(&query, 0, id, sizeof id);
        attempt = store_column_u64(&query, 1);
    }
    store_query_end(&query);
    if (status == STATUS_OK && wanted->found) {
        status = store_event_state(write, id, JOB_STARTING, attempt, NULL, error);
        if (status == STATUS_OK) {
            status = store_job_load(&write->sql, id, wanted->job, error);
        }
    }
    return status;
}

enum status store_job_claim(struct store *store, int64_t lease_ms, struct store_job *job, struct error *error) {
    struct store_job row = {0};
    struct claim wanted = {.lease_ms = lease_ms, .job = &row};
    enum status status = store_write_run(store, claim, &wanted, error);
    if (status != STATUS_OK) {
        store_job_deinit(&row);
        return status;
    }
    if (!wanted.found) {
        return STATUS_NOT_FOUND;
    }
    *job = row;
    return STATUS_OK;
}

/* --- events of workers --- */

struct note {
    const char *id;
    uint64_t attempt;
    const char *type;
    const json_t *data;
};

static enum status append(struct store_write *write, void *user, struct error *error) {
    const struct note *note = user;
    struct standing standing = {0};
    enum status status = look_fenced(write, note->id, note->attempt, JOB_STATE_COUNT, &standing, error);
    return status == STATUS_OK ? store_event_insert(write, note->id, note->type, note->data, error) : status;
}

enum status store_job_append_event(struct store *store, const char *id, uint64_t attempt, const char *type,
                                   const json_t *data, struct error *error) {
    struct note note = {.id = id, .attempt = attempt, .type = type, .data = data};
    return store_write_run(store, append, &note, error);
}

/* --- cancelling --- */

struct cancel {
    const char *id;
    struct store_job *job;
};

static enum status mark_cancel(struct store_write *write, const char *id, struct error *error) {
    struct store_query query;
    enum status status =
        store_query_init(&query, &write->sql, "UPDATE jobs SET cancel_requested = 1 WHERE id = ?", error);
    if (status == STATUS_OK) {
        store_query_text(&query, id);
        status = store_query_finish(&query, NULL, error);
    }
    return status;
}

static enum status cancel(struct store_write *write, void *user, struct error *error) {
    const struct cancel *wanted = user;
    struct standing standing = {0};
    enum status status = look(write, wanted->id, &standing, error);
    if (status != STATUS_OK) {
        return status;
    }
    enum job_state to = standing.state == JOB_QUEUED ? JOB_CANCELLED : JOB_CANCELLING;
    if (store_job_may_move(standing.state, to)) {
        status = mark_cancel(write, wanted->id, error);
        if (status == STATUS_OK) {
            status = set_state(write, wanted->id, standing.attempt, to, NULL, error);
        }
    } else if (standing.state != JOB_CANCELLING && standing.state != JOB_CANCELLED) {
        status = error_set(error, STATUS_CONFLICT, "",
                           "failed to cancel job %s: got state %s, expected one that is not over", wanted->id,
                           job_state_name(standing.state));
    }
    return status == STATUS_OK ? store_job_load(&write->sql, wanted->id, wanted->job, error) : status;
}

enum status store_job_request_cancel(struct store *store, const char *id, struct store_job *job, struct error *error) {
    struct store_job row = {0};
    struct cancel wanted = {.id = id, .job = &row};
    enum status status = store_write_run(store, cancel, &wanted, error);
    if (status == STATUS_OK && job != NULL) {
        *job = row;
    } else {
        store_job_deinit(&row);
    }
    return status;
}

/* --- interruption --- */

static enum status count_loss(struct store_write *write, const char *id, struct error *error) {
    struct store_query query;
    enum status status =
        store_query_init(&query, &write->sql, "UPDATE jobs SET losses = losses + 1 WHERE id = ?", error);
    if (status == STATUS_OK) {
        store_query_text(&query, id);
        status = store_query_finish(&query, NULL, error);
    }
    return status;
}

static enum status interrupt(struct store_write *write, void *user, struct error *error) {
    struct move *move = user;
    struct standing standing = {0};
    enum status status = look_fenced(write, move->id, move->attempt, JOB_INTERRUPTED, &standing, error);
    if (status == STATUS_OK) {
        status = set_state(write, move->id, move->attempt, JOB_INTERRUPTED, move->problem, error);
    }
    if (status == STATUS_OK && move->is_loss) {
        status = count_loss(write, move->id, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (standing.cancel_requested) {
        move->reached = JOB_CANCELLED;
    } else if (move->is_loss && standing.losses + 1 >= standing.max_attempts) {
        move->reached = JOB_FAILED;
    } else {
        move->reached = JOB_QUEUED;
    }
    return set_state(write, move->id, move->attempt, move->reached, move->reached == JOB_FAILED ? move->problem : NULL,
                     error);
}

enum status store_job_interrupt(struct store *store, const char *id, uint64_t attempt, const struct error *problem,
                                bool is_loss, enum job_state *state, struct error *error) {
    struct move move = {.id = id, .attempt = attempt, .problem = problem, .is_loss = is_loss};
    enum status status = store_write_run(store, interrupt, &move, error);
    if (status == STATUS_OK && state != NULL) {
        *state = move.reached;
    }
    return status;
}

struct recovery {
    int64_t before_ms;
    char ids[RECOVER_MAX][ID_SIZE];
    uint64_t attempts[RECOVER_MAX];
    size_t count;
};

static enum status list_lost(struct store_write *write, struct recovery *recovery, struct error *error) {
    struct store_query query;
    bool row = false;
    enum status status = store_query_init(&query, &write->sql,
                                          "SELECT id, attempt FROM jobs WHERE state IN ('starting', 'running',"
                                          " 'cancelling') AND lease_until_ms < ? ORDER BY id LIMIT ?",
                                          error);
    if (status != STATUS_OK) {
        return status;
    }
    store_query_i64(&query, recovery->before_ms);
    store_query_i64(&query, RECOVER_MAX);
    status = store_query_step(&query, &row, error);
    for (recovery->count = 0; status == STATUS_OK && row && recovery->count < RECOVER_MAX; recovery->count++) {
        store_column_text(&query, 0, recovery->ids[recovery->count], ID_SIZE);
        recovery->attempts[recovery->count] = store_column_u64(&query, 1);
        status = store_query_step(&query, &row, error);
    }
    store_query_end(&query);
    return status;
}

static enum status recover(struct store_write *write, void *user, struct error *error) {
    struct recovery *recovery = user;
    struct error problem = {0};
    (void)error_set(&problem, STATUS_INTERNAL, "worker",
                    "failed to finish the job: the server ended or lost sight of it while it ran");
    enum status status = list_lost(write, recovery, error);
    for (size_t i = 0; i < recovery->count && status == STATUS_OK; i++) {
        struct move move = {
            .id = recovery->ids[i], .attempt = recovery->attempts[i], .problem = &problem, .is_loss = true};
        status = interrupt(write, &move, error);
    }
    return status;
}

enum status store_job_recover(struct store *store, int64_t before_ms, size_t *count, struct error *error) {
    size_t total = 0;
    struct recovery *recovery = mem_calloc(1, sizeof(*recovery));
    if (recovery == NULL) {
        return error_no_memory(error, "a list of jobs");
    }
    enum status status;
    do {
        recovery->before_ms = before_ms;
        status = store_write_run(store, recover, recovery, error);
        total += status == STATUS_OK ? recovery->count : 0;
    } while (status == STATUS_OK && recovery->count == RECOVER_MAX);
    mem_free(recovery);
    if (count != NULL) {
        *count = total;
    }
    return status;
}

/* --- success --- */

static enum status insert_artifact(struct store_write *write, const char *id, const struct store_artifact *artifact,
                                   struct error *error) {
    struct store_query query;
    enum status status = store_blob_insert(write, &artifact->blob, error);
    if (status == STATUS_OK) {
        status = store_query_init(&query, &write->sql, "INSERT INTO artifacts (job_id, name, sha256) VALUES (?, ?, ?)",
                                  error);
    }
    if (status == STATUS_OK) {
        store_query_text(&query, id);
        store_query_text(&query, artifact->name);
        store_query_text(&query, artifact->blob.sha256);
        status = store_query_finish(&query, NULL, error);
    }
    return status;
}

static enum status succeed(struct store_write *write, void *user, struct error *error) {
    const struct move *move = user;
    struct standing standing = {0};
    struct store_query query;
    enum status status = look_fenced(write, move->id, move->attempt, JOB_SUCCEEDED, &standing, error);
    for (size_t i = 0; i < move->artifact_count && status == STATUS_OK; i++) {
        status = insert_artifact(write, move->id, &move->artifacts[i], error);
    }
    if (status == STATUS_OK) {
        status = store_query_init(&query, &write->sql,
                                  "INSERT INTO results (job_id, report, summary) VALUES (?1, ?2,"
                                  " json_object('verdict', json_extract(?2, '$.verdict'),"
                                  " 'accuracy_before', json_extract(?2, '$.accuracy.before'),"
                                  " 'accuracy_after', json_extract(?2, '$.accuracy.after'),"
                                  " 'asr_before', json_extract(?2, '$.probe.asr_before'),"
                                  " 'asr_after', json_extract(?2, '$.probe.asr_after'),"
                                  " 'pruned_units', json_extract(?2, '$.pruned_units')))",
                                  error);
    }
    if (status == STATUS_OK) {
        store_query_text(&query, move->id);
        store_query_json(&query, move->report);
        status = store_query_finish(&query, NULL, error);
    }
    return status == STATUS_OK ? set_state(write, move->id, move->attempt, JOB_SUCCEEDED, NULL, error) : status;
}

static enum status link_artifacts(struct store *store, const struct store_artifact_file *files, size_t count,
                                  struct store_artifact *artifacts, struct error *error) {
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        (void)snprintf(artifacts[i].name, sizeof artifacts[i].name, "%s", files[i].name);
        status = store_blob_seal(store, files[i].path, &artifacts[i].blob, error);
        if (status == STATUS_OK) {
            status = store_blob_link(store, files[i].path, &artifacts[i].blob, error);
        }
    }
    return status;
}

enum status store_job_succeed(struct store *store, const char *id, uint64_t attempt, const json_t *report,
                              const struct store_artifact_file *files, size_t file_count, struct error *error) {
    struct store_artifact artifacts[ARTIFACTS_MAX] = {0};
    struct move move = {
        .id = id, .attempt = attempt, .report = report, .artifacts = artifacts, .artifact_count = file_count};
    if (file_count > ARTIFACTS_MAX) {
        return error_set(error, STATUS_LIMIT, "", "failed to finish job %s: got %zu files, expected at most %d", id,
                         file_count, ARTIFACTS_MAX);
    }
    pthread_rwlock_rdlock(&store->blobs_lock);
    enum status status = link_artifacts(store, files, file_count, artifacts, error);
    if (status == STATUS_OK) {
        status = store_write_run(store, succeed, &move, error);
    }
    pthread_rwlock_unlock(&store->blobs_lock);
    for (size_t i = 0; i < file_count && status == STATUS_OK; i++) {
        (void)unlink(files[i].path);
    }
    return status;
}
