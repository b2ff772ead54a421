/* The life of the jobs: start, submit, cancel, drain. */
#include "server/jobs/jobs.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/mem.h"
#include "server/jobs/job_checkpoint.h"
#include "server/jobs/jobs_internal.h"

enum { NOBODY = 65534 };

void jobs_options_init(struct jobs_options *options) {
    *options = (struct jobs_options){.workers = 1,
                                     .helpers = 2,
                                     .isolation = JOB_ISOLATION_PROCESS,
                                     .max_attempts = 3,
                                     .cancel_grace_s = 5,
                                     .check_timeout_s = 60,
                                     .lease_s = 30,
                                     .stall_s = 30,
                                     .sandbox = JOB_SANDBOX_AUTO,
                                     .sandbox_uid = NOBODY};
}

void jobs_wait(struct jobs *jobs, pthread_cond_t *condition, double seconds) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    double whole = (double)until.tv_nsec * 1e-9 + seconds;
    time_t carry = (time_t)whole;
    until.tv_sec += carry;
    until.tv_nsec = (long)((whole - (double)carry) * 1e9);
    (void)pthread_cond_timedwait(condition, &jobs->lock, &until);
}

enum status jobs_make_folder(const struct jobs *jobs, const char *name, char out[STORE_PATH_SIZE],
                             struct error *error) {
    char path[STORE_PATH_SIZE];
    enum status status = file_join(path, sizeof path, jobs->attempts_dir, name, error);
    if (status == STATUS_OK && mkdir(path, 0700) != 0) {
        status = errno == ENOSPC ? error_set(error, STATUS_UNAVAILABLE, "disk",
                                             "failed to make a folder to work in: the disk is full")
                                 : error_io(error, "data folder", "failed to make a folder to work in");
    }
    if (status == STATUS_OK) {
        memcpy(out, path, sizeof path);
    }
    return status;
}

static bool init_locks(struct jobs *jobs) {
    pthread_condattr_t monotonic;
    if (pthread_condattr_init(&monotonic) != 0) {
        return false;
    }
    bool fine = pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0 &&
                pthread_mutex_init(&jobs->lock, NULL) == 0 && pthread_cond_init(&jobs->work, &monotonic) == 0 &&
                pthread_cond_init(&jobs->idle, &monotonic) == 0 && pthread_cond_init(&jobs->tick, &monotonic) == 0 &&
                pthread_cond_init(&jobs->help, &monotonic) == 0;
    pthread_condattr_destroy(&monotonic);
    return fine;
}

static enum status set_options(struct jobs *jobs, const struct jobs_options *options, struct error *error) {
    jobs->options = *options;
    if (options->workers < 1 || options->workers > 256 || options->helpers < 1 || options->helpers > 64) {
        return error_set(error, STATUS_INVALID, "workers",
                         "failed to start workers: got %zu and %zu helpers, expected 1 to 256 and 1 to 64",
                         options->workers, options->helpers);
    }
    if (!(options->lease_s >= 1) || !(options->cancel_grace_s >= 0) || !(options->check_timeout_s > 0)) {
        return error_set(error, STATUS_INVALID, "workers", "failed to start workers: got a time that is not positive");
    }
    if (options->threads == 0) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        size_t each = cores > 0 ? (size_t)cores / options->workers : 1;
        jobs->options.threads = each > 0 ? each : 1;
    }
    return STATUS_OK;
}

/* What an earlier run left: folders of attempts, and jobs that nobody runs any more. */
static enum status clear_the_past(struct jobs *jobs, struct error *error) {
    size_t count = 0;
    enum status status =
        file_join(jobs->attempts_dir, sizeof jobs->attempts_dir, store_data_dir(jobs->store), "attempts", error);
    if (status == STATUS_OK) {
        status = job_checkpoint_salvage(jobs, error);
    }
    if (status == STATUS_OK) {
        status = file_remove_tree(jobs->attempts_dir, error);
    }
    if (status == STATUS_OK) {
        status = file_make_dir(jobs->attempts_dir, error);
    }
    if (status == STATUS_OK) {
        status = store_job_recover(jobs->store, INT64_MAX, &count, error);
    }
    if (status == STATUS_OK) {
        job_checkpoint_clean(jobs);
    }
    if (status == STATUS_OK && count > 0) {
        log_event(LOG_WARN, "jobs_recovered", "%zu jobs were running when the server ended", count);
    }
    return status;
}

/* What is missing is said once, at the start, and refused if it must be there. */
static enum status prepare_walls(struct jobs *jobs, struct error *error) {
    const bool process = jobs->options.isolation == JOB_ISOLATION_PROCESS;
    const struct job_walls *walls = &jobs->walls;
    job_sandbox_probe(jobs->options.sandbox_uid, &jobs->walls);
    if (jobs->options.sandbox == JOB_SANDBOX_REQUIRE && (!process || walls->landlock == 0 || !walls->calls)) {
        return error_set(error, STATUS_UNSUPPORTED, "--sandbox", "failed to require the sandbox: got %s",
                         !process               ? "jobs in threads"
                         : walls->landlock == 0 ? "a kernel without Landlock"
                                                : "a kernel without filters of system calls");
    }
    if (!process || jobs->options.sandbox == JOB_SANDBOX_OFF) {
        log_event(LOG_WARN, "sandbox", "what users send is read without a sandbox");
        return STATUS_OK;
    }
    log_event(walls->landlock > 0 && walls->calls ? LOG_INFO : LOG_WARN, "sandbox",
              "walls around children: Landlock %s (ABI %d), system calls %s, user of its own %s, memory %s",
              walls->landlock > 0 ? "yes" : "no", walls->landlock, walls->calls ? "yes" : "no",
              walls->user ? "yes" : "no", walls->address_space ? "yes" : "no");
    return STATUS_OK;
}

static enum status start_threads(struct jobs *jobs, struct error *error) {
    int code = pthread_create(&jobs->keeper, NULL, job_keeper_main, jobs);
    jobs->keeper_started = code == 0;
    for (size_t i = 0; i < jobs->options.workers && code == 0; i++) {
        struct job_slot *slot = &jobs->slots[i];
        code = pthread_create(&slot->thread, NULL, job_worker_main, slot);
        pthread_mutex_lock(&jobs->lock);
        slot->started = code == 0;
        pthread_mutex_unlock(&jobs->lock);
    }
    if (code != 0) {
        errno = code;
        return error_io(error, "workers", "failed to start a worker thread");
    }
    return job_helpers_start(jobs, error);
}

enum status jobs_start(struct store *store, const struct job_methods *methods, const struct jobs_options *options,
                       struct jobs **out, struct error *error) {
    struct jobs *jobs = mem_calloc(1, sizeof(*jobs));
    if (jobs == NULL || !init_locks(jobs)) {
        mem_free(jobs);
        return error_no_memory(error, "the jobs");
    }
    jobs->store = store;
    jobs->methods = methods;
    jobs->keeper_seen_at = clock_seconds();
    enum status status = set_options(jobs, options, error);
    if (status == STATUS_OK) {
        status = prepare_walls(jobs, error);
    }
    if (status == STATUS_OK) {
        jobs->slots = mem_calloc(options->workers, sizeof(*jobs->slots));
        status = jobs->slots != NULL ? STATUS_OK : error_no_memory(error, "workers");
    }
    if (status == STATUS_OK) {
        for (size_t i = 0; i < options->workers; i++) {
            jobs->slots[i].jobs = jobs;
            jobs->slots[i].seen_at = clock_seconds();
        }
        status = clear_the_past(jobs, error);
    }
    if (status == STATUS_OK) {
        status = start_threads(jobs, error);
    }
    if (status != STATUS_OK) {
        jobs_stop(jobs, 0);
        return status;
    }
    *out = jobs;
    return STATUS_OK;
}

/* --- stopping --- */

static size_t count_busy(const struct jobs *jobs) {
    size_t count = 0;
    for (size_t i = 0; jobs->slots != NULL && i < jobs->options.workers; i++) {
        count += jobs->slots[i].busy ? 1 : 0;
    }
    return count;
}

static void stop_workers(struct jobs *jobs, double grace_s) {
    double until = clock_seconds() + grace_s;
    pthread_mutex_lock(&jobs->lock);
    jobs->stopping = true;
    pthread_cond_broadcast(&jobs->work);
    for (double left = grace_s; count_busy(jobs) > 0 && left > 0; left = until - clock_seconds()) {
        jobs_wait(jobs, &jobs->idle, left);
    }
    for (size_t i = 0; jobs->slots != NULL && i < jobs->options.workers; i++) {
        job_slot_stop(&jobs->slots[i], JOB_STOP_SHUTDOWN);
    }
    pthread_mutex_unlock(&jobs->lock);
    for (size_t i = 0; jobs->slots != NULL && i < jobs->options.workers; i++) {
        if (jobs->slots[i].started) {
            pthread_join(jobs->slots[i].thread, NULL);
        }
    }
}

void jobs_stop(struct jobs *jobs, double grace_s) {
    if (jobs == NULL) {
        return;
    }
    stop_workers(jobs, grace_s);
    pthread_mutex_lock(&jobs->lock);
    jobs->keeper_done = true;
    pthread_cond_signal(&jobs->tick);
    pthread_mutex_unlock(&jobs->lock);
    if (jobs->keeper_started) {
        pthread_join(jobs->keeper, NULL);
    }
    atomic_store(&jobs->hurry, true);
    job_helpers_stop(jobs);
    pthread_mutex_destroy(&jobs->lock);
    pthread_cond_destroy(&jobs->work);
    pthread_cond_destroy(&jobs->idle);
    pthread_cond_destroy(&jobs->tick);
    pthread_cond_destroy(&jobs->help);
    mem_free(jobs->slots);
    mem_free(jobs);
}

/* --- looking and asking --- */

size_t jobs_workers(const struct jobs *jobs) {
    return jobs->options.workers;
}

size_t jobs_running(struct jobs *jobs) {
    pthread_mutex_lock(&jobs->lock);
    size_t count = count_busy(jobs);
    pthread_mutex_unlock(&jobs->lock);
    return count;
}

void jobs_note_end(struct jobs *jobs, const struct job_outcome *outcome) {
    (void)atomic_fetch_add(&jobs->ends[outcome->end], 1);
    atomic_store(&jobs->unstarted, outcome->unstarted);
}

void jobs_sandbox(struct jobs *jobs, struct jobs_sandbox *out) {
    const bool process = jobs->options.isolation == JOB_ISOLATION_PROCESS;
    const bool closed = process && jobs->options.sandbox != JOB_SANDBOX_OFF;
    *out = (struct jobs_sandbox){.mode = process ? jobs->options.sandbox : JOB_SANDBOX_OFF,
                                 .landlock = closed ? jobs->walls.landlock : 0,
                                 .calls = closed && jobs->walls.calls,
                                 .user = closed && jobs->walls.user,
                                 .address_space = process && jobs->walls.address_space,
                                 .breaches = atomic_load(&jobs->ends[JOB_END_BREACH]),
                                 .babblers = atomic_load(&jobs->ends[JOB_END_BABBLE]),
                                 .lost = atomic_load(&jobs->ends[JOB_END_LOST])};
}

void jobs_stages(struct jobs *jobs, struct jobs_stages *out) {
    pthread_mutex_lock(&jobs->lock);
    *out = jobs->stages;
    pthread_mutex_unlock(&jobs->lock);
}

/* Finds an object that a request names; the place of the error is the member that named it. */
static enum status find_named(struct jobs *jobs, enum store_kind kind, const char *id, const char *place,
                              struct store_object *object, struct error *error) {
    struct error cause = {0};
    enum status status = store_object_find(jobs->store, kind, id, object, &cause);
    return status == STATUS_OK
               ? STATUS_OK
               : error_set(error, status, status == STATUS_NOT_FOUND ? place : cause.where, "%s", cause.message);
}

static enum status check_request(struct jobs *jobs, const struct store_job_request *request, struct error *error) {
    struct store_object model = {0};
    struct store_object samples = {0};
    struct store_object probe = {0};
    enum status status = jobs->methods->check_parameters(request->method, request->parameters, error);
    if (status == STATUS_OK) {
        status = find_named(jobs, STORE_MODEL, request->model_id, "/model_id", &model, error);
    }
    if (status == STATUS_OK) {
        status = find_named(jobs, STORE_SAMPLES, request->samples_id, "/samples_id", &samples, error);
    }
    if (status == STATUS_OK && request->probe_id != NULL) {
        status = find_named(jobs, STORE_SAMPLES, request->probe_id, "/probe_id", &probe, error);
    }
    if (status == STATUS_OK) {
        status = jobs->methods->check_fit(model.info, samples.info, probe.info, error);
    }
    store_object_deinit(&model);
    store_object_deinit(&samples);
    store_object_deinit(&probe);
    return status;
}

enum status jobs_submit(struct jobs *jobs, const struct store_job_request *request, struct store_job *job,
                        struct error *error) {
    struct store_job_request complete = *request;
    if (complete.max_attempts == 0) {
        complete.max_attempts = jobs->options.max_attempts;
    }
    enum status status = check_request(jobs, &complete, error);
    if (status == STATUS_OK) {
        status = store_job_insert(jobs->store, &complete, jobs->options.queue_max, job, error);
    }
    if (status == STATUS_OK) {
        pthread_mutex_lock(&jobs->lock);
        jobs->generation++;
        pthread_cond_signal(&jobs->work);
        pthread_mutex_unlock(&jobs->lock);
    }
    return status;
}

enum status jobs_cancel(struct jobs *jobs, const char *id, struct store_job *job, struct error *error) {
    enum status status = store_job_request_cancel(jobs->store, id, job, error);
    if (status != STATUS_OK) {
        return status;
    }
    pthread_mutex_lock(&jobs->lock);
    for (size_t i = 0; i < jobs->options.workers; i++) {
        if (jobs->slots[i].busy && strcmp(jobs->slots[i].job_id, id) == 0) {
            job_slot_stop(&jobs->slots[i], JOB_STOP_CANCEL);
        }
    }
    pthread_mutex_unlock(&jobs->lock);
    return STATUS_OK;
}
