/* A worker: claims a job, sees it through, takes the next. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/mem.h"
#include "server/jobs/job_checkpoint.h"
#include "server/jobs/job_message.h"
#include "server/jobs/job_queue.h"
#include "server/jobs/jobs_internal.h"

static const double SLEEP_S = 2.0; /* between looks into the queue when nobody wakes us */

/* One attempt at one job. */
struct attempt {
    struct job_slot *slot;
    struct store_job job;
    char folder[STORE_PATH_SIZE];
    char paths[3][STORE_PATH_SIZE]; /* model, samples, probe */
    struct mitigate_request request;
};

void job_slot_stop(struct job_slot *slot, enum job_stop reason) {
    int none = JOB_STOP_NONE;
    if (slot->busy && atomic_compare_exchange_strong(&slot->stop, &none, (int)reason)) {
        atomic_store(&slot->cancel, true);
    }
}

static int64_t lease_ms(const struct jobs *jobs) {
    return (int64_t)(jobs->options.lease_s * 1000);
}

/* --- the two ways to run --- */

static void note_progress(void *user, const struct store_progress *progress) {
    const struct attempt *attempt = user;
    /* Progress that cannot be written is not worth the job. */
    (void)store_job_progress(attempt->slot->jobs->store, attempt->job.id, attempt->job.attempt,
                             lease_ms(attempt->slot->jobs), progress, NULL);
}

static void note_stages(void *user, const struct mitigate_progress *from) {
    struct store_progress progress;
    job_message_from_stages(from, &progress);
    note_progress(user, &progress);
}

static bool wants_stop(void *user) {
    const struct attempt *attempt = user;
    return atomic_load(&attempt->slot->cancel);
}

static void run_in_process(struct attempt *attempt, struct job_outcome *outcome) {
    const struct jobs_options *options = &attempt->slot->jobs->options;
    const struct job_process process = {.executable = options->executable,
                                        .folder = attempt->folder,
                                        .threads = options->threads,
                                        .grace_s = options->cancel_grace_s,
                                        .line_max = JOB_LINE_MAX,
                                        .user = attempt,
                                        .progress = note_progress,
                                        .stop = wants_stop};
    const struct job_request request = {.task = JOB_TASK_RUN,
                                        .limits = {.memory = options->memory_limit,
                                                   .file = options->file_limit,
                                                   .sandbox = options->sandbox,
                                                   .uid = options->sandbox_uid,
                                                   .jit = true}, /* oneDNN makes code for this machine */
                                        .run = attempt->request};
    job_process_run(&process, &request, outcome);
    jobs_note_end(attempt->slot->jobs, outcome);
}

static void run_in_thread(struct attempt *attempt, struct job_outcome *outcome) {
    const struct mitigate_hooks hooks = {.user = attempt, .progress = note_stages, .cancel = &attempt->slot->cancel};
    json_t *report = NULL;
    *outcome = (struct job_outcome){.end = JOB_END_DONE};
    enum status status = attempt->slot->jobs->methods->run(&attempt->request, &hooks, &report, &outcome->problem);
    json_decref(report); /* it is in its file as well, and both ways of running end alike */
    if (status != STATUS_OK) {
        outcome->end = status == STATUS_CANCELLED && wants_stop(attempt) ? JOB_END_STOPPED : JOB_END_ERROR;
        (void)error_set(&outcome->problem, status, "", "failed to run the job: %s", status_name(status));
    }
}

/* --- preparing --- */

static enum status find_file(struct jobs *jobs, enum store_kind kind, const char *id, char path[STORE_PATH_SIZE],
                             struct error *error) {
    struct store_object object;
    enum status status = store_object_find(jobs->store, kind, id, &object, error);
    if (status == STATUS_OK) {
        status = store_blob_path(jobs->store, object.blob.sha256, path, error);
        store_object_deinit(&object);
    }
    return status;
}

static enum status prepare(struct attempt *attempt, struct error *error) {
    struct jobs *jobs = attempt->slot->jobs;
    const struct store_job *job = &attempt->job;
    char name[ID_SIZE + 32];
    (void)snprintf(name, sizeof name, "%s-%llu", job->id, (unsigned long long)job->attempt);
    enum status status = jobs_make_folder(jobs, name, attempt->folder, error);
    if (status == STATUS_OK) {
        status = find_file(jobs, STORE_MODEL, job->model_id, attempt->paths[0], error);
    }
    if (status == STATUS_OK) {
        status = find_file(jobs, STORE_SAMPLES, job->samples_id, attempt->paths[1], error);
    }
    if (status == STATUS_OK && job->probe_id[0] != '\0') {
        status = find_file(jobs, STORE_SAMPLES, job->probe_id, attempt->paths[2], error);
    }
    attempt->request = (struct mitigate_request){.model_path = attempt->paths[0],
                                                 .samples_path = attempt->paths[1],
                                                 .probe_path = job->probe_id[0] != '\0' ? attempt->paths[2] : NULL,
                                                 .out_dir = attempt->folder,
                                                 .method = job->method,
                                                 .parameters = job->parameters,
                                                 .seed = job->seed,
                                                 .threads = jobs->options.threads,
                                                 .checkpoint = true};
    if (status == STATUS_OK && job_checkpoint_take(jobs, job->id, attempt->folder)) {
        log_event(LOG_INFO, "job_resumed", "job %s attempt %llu goes on from its checkpoint", job->id,
                  (unsigned long long)job->attempt);
    }
    return status;
}

/* --- the course of one attempt --- */

/* Binds the slot to the job, so that others can stop it. */
static void occupy(struct job_slot *slot, const struct store_job *job) {
    struct jobs *jobs = slot->jobs;
    pthread_mutex_lock(&jobs->lock);
    slot->busy = true;
    memcpy(slot->job_id, job->id, sizeof slot->job_id);
    slot->attempt = job->attempt;
    slot->beat_at = clock_seconds() + jobs->options.lease_s / 3;
    slot->deadline_at = 0;
    atomic_store(&slot->stop, JOB_STOP_NONE);
    atomic_store(&slot->cancel, false);
    if (job->deadline_s > 0) {
        double left = job->deadline_s - (double)(clock_wall_ms() - job->created_ms) / 1000.0;
        /* Not more than was asked for, should the clock have gone back. */
        slot->deadline_at = clock_seconds() + fmin(fmax(left, 0.001), job->deadline_s);
    }
    if (jobs->stopping) {
        job_slot_stop(slot, JOB_STOP_SHUTDOWN);
    }
    pthread_mutex_unlock(&jobs->lock);
}

static void vacate(struct job_slot *slot) {
    pthread_mutex_lock(&slot->jobs->lock);
    slot->busy = false;
    slot->job_id[0] = '\0';
    pthread_cond_signal(&slot->jobs->idle);
    pthread_mutex_unlock(&slot->jobs->lock);
}

static bool is_past_deadline(const struct store_job *job) {
    return job->deadline_s > 0 && (double)(clock_wall_ms() - job->created_ms) >= job->deadline_s * 1000.0;
}

/* A job can be cancelled between its claim and its start; then it has not become running, and is cancelled. */
static bool start(struct attempt *attempt, struct job_outcome *outcome) {
    struct jobs *jobs = attempt->slot->jobs;
    struct error error = {0};
    if (is_past_deadline(&attempt->job)) {
        job_slot_stop(attempt->slot, JOB_STOP_DEADLINE);
        outcome->end = JOB_END_STOPPED;
        return false;
    }
    if (prepare(attempt, &outcome->problem) != STATUS_OK) {
        outcome->end = JOB_END_ERROR;
        return false;
    }
    if (store_job_start(jobs->store, attempt->job.id, attempt->job.attempt, &error) != STATUS_OK) {
        if (error.status == STATUS_CONFLICT) {
            job_slot_stop(attempt->slot, JOB_STOP_CANCEL);
        }
        outcome->end = JOB_END_STOPPED;
        outcome->problem = error;
        return false;
    }
    return true;
}

static void see_through(struct attempt *attempt) {
    struct job_slot *slot = attempt->slot;
    struct jobs *jobs = slot->jobs;
    struct job_outcome outcome = {.end = JOB_END_ERROR};
    double began = clock_seconds();
    occupy(slot, &attempt->job);
    log_event(LOG_INFO, "job_started", "job %s attempt %llu", attempt->job.id,
              (unsigned long long)attempt->job.attempt);
    if (start(attempt, &outcome)) {
        if (jobs->options.isolation == JOB_ISOLATION_PROCESS) {
            run_in_process(attempt, &outcome);
        } else {
            run_in_thread(attempt, &outcome);
        }
    }
    /* Before it is in the queue again, where another worker may claim it at once. */
    if (attempt->folder[0] != '\0') {
        job_checkpoint_put_back(jobs, attempt->job.id, attempt->folder);
    }
    enum job_state reached =
        job_queue_finish(jobs, &attempt->job, &outcome, (enum job_stop)atomic_load(&slot->stop), attempt->folder);
    log_event(LOG_INFO, "job_ended", "job %s attempt %llu: %s after %.1f s%s%s", attempt->job.id,
              (unsigned long long)attempt->job.attempt, job_state_name(reached), clock_seconds() - began,
              outcome.problem.message[0] != '\0' ? ": " : "", outcome.problem.message);
    if (job_state_is_terminal(reached)) {
        job_checkpoint_drop(jobs, attempt->job.id);
    }
    json_decref(outcome.info);
    vacate(slot);
    if (attempt->folder[0] != '\0') {
        (void)file_remove_tree(attempt->folder, NULL);
    }
}

static enum status claim_next(struct attempt *attempt) {
    struct error error = {0};
    struct jobs *jobs = attempt->slot->jobs;
    enum status status = store_job_claim(jobs->store, lease_ms(jobs), &attempt->job, &error);
    if (status != STATUS_OK && status != STATUS_NOT_FOUND) {
        log_event(LOG_ERROR, "job_claim_failed", "%s", error.message);
    }
    return status;
}

void *job_worker_main(void *user) {
    struct job_slot *slot = user;
    struct jobs *jobs = slot->jobs;
    struct attempt *attempt = NULL;
    pthread_mutex_lock(&jobs->lock);
    while (!jobs->stopping) {
        uint64_t generation = jobs->generation;
        slot->seen_at = clock_seconds();
        pthread_mutex_unlock(&jobs->lock);
        if (attempt == NULL) {
            attempt = mem_calloc(1, sizeof(*attempt));
        }
        if (attempt != NULL) {
            *attempt = (struct attempt){.slot = slot};
        }
        bool claimed = attempt != NULL && claim_next(attempt) == STATUS_OK;
        if (claimed) {
            see_through(attempt);
            store_job_deinit(&attempt->job);
        }
        pthread_mutex_lock(&jobs->lock);
        if (!claimed && !jobs->stopping && jobs->generation == generation) {
            jobs_wait(jobs, &jobs->work, SLEEP_S);
        }
    }
    pthread_mutex_unlock(&jobs->lock);
    mem_free(attempt);
    return NULL;
}
