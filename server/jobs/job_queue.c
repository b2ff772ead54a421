/* The end of an attempt. How it ended and why it was told to stop decide together, in one table. */
#include "server/jobs/job_queue.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/file.h"
#include "common/json_read.h"
#include "common/log.h"
#include "common/mem.h"

enum { REPORT_MAX = 32 * 1024 * 1024, TRIES = 60 };

static const enum job_action ACTIONS[JOB_END_COUNT][JOB_STOP_COUNT] = {
    /* What is done is done, whatever we wished meanwhile. */
    [JOB_END_DONE] = {[JOB_STOP_NONE] = JOB_ACTION_SUCCEED,
                      [JOB_STOP_CANCEL] = JOB_ACTION_SUCCEED,
                      [JOB_STOP_DEADLINE] = JOB_ACTION_SUCCEED,
                      [JOB_STOP_SHUTDOWN] = JOB_ACTION_SUCCEED},
    [JOB_END_ERROR] = {[JOB_STOP_NONE] = JOB_ACTION_FAIL,
                       [JOB_STOP_CANCEL] = JOB_ACTION_CANCELLED,
                       [JOB_STOP_DEADLINE] = JOB_ACTION_EXPIRE,
                       [JOB_STOP_SHUTDOWN] = JOB_ACTION_RELEASE},
    [JOB_END_LOST] = {[JOB_STOP_NONE] = JOB_ACTION_LOSS,
                      [JOB_STOP_CANCEL] = JOB_ACTION_CANCELLED,
                      [JOB_STOP_DEADLINE] = JOB_ACTION_EXPIRE,
                      [JOB_STOP_SHUTDOWN] = JOB_ACTION_RELEASE},
    [JOB_END_STOPPED] = {[JOB_STOP_NONE] = JOB_ACTION_LOSS,
                         [JOB_STOP_CANCEL] = JOB_ACTION_CANCELLED,
                         [JOB_STOP_DEADLINE] = JOB_ACTION_EXPIRE,
                         [JOB_STOP_SHUTDOWN] = JOB_ACTION_RELEASE},
    /* A child that is not ours any more may have been taken over by what it read: never run that again. */
    [JOB_END_BABBLE] = {[JOB_STOP_NONE] = JOB_ACTION_FAIL,
                        [JOB_STOP_CANCEL] = JOB_ACTION_FAIL,
                        [JOB_STOP_DEADLINE] = JOB_ACTION_FAIL,
                        [JOB_STOP_SHUTDOWN] = JOB_ACTION_FAIL},
    [JOB_END_BREACH] = {[JOB_STOP_NONE] = JOB_ACTION_FAIL,
                        [JOB_STOP_CANCEL] = JOB_ACTION_FAIL,
                        [JOB_STOP_DEADLINE] = JOB_ACTION_FAIL,
                        [JOB_STOP_SHUTDOWN] = JOB_ACTION_FAIL},
};

enum job_action job_queue_action(enum job_end end, enum job_stop stop) {
    return ACTIONS[end][stop];
}

/* --- what a job has left in its folder --- */

static const char *const NAMES[] = {ARTIFACT_MODEL, ARTIFACT_REPORT,   ARTIFACT_MASK,
                                    ARTIFACT_TRACE, ARTIFACT_TRIGGERS, ARTIFACT_UNITS};
enum { NAME_COUNT = sizeof NAMES / sizeof NAMES[0] };

struct harvest {
    struct store_artifact_file files[NAME_COUNT];
    char paths[NAME_COUNT][STORE_PATH_SIZE];
    size_t count;
    json_t *report;
};

static enum status read_report(const char *path, json_t **report, struct error *error) {
    char *text = NULL;
    size_t length = 0;
    enum status status = file_read(path, REPORT_MAX, &text, &length, error);
    if (status == STATUS_OK) {
        status = json_read_text(text, length, report, error);
    }
    if (status == STATUS_OK && !json_is_object(*report)) {
        status = error_set(error, STATUS_INTERNAL, ARTIFACT_REPORT, "failed to read the report: it is no object");
    }
    mem_free(text);
    return status;
}

static enum status gather(const char *folder, struct harvest *harvest, struct error *error) {
    enum status status = STATUS_OK;
    for (size_t i = 0; i < NAME_COUNT && status == STATUS_OK; i++) {
        struct stat info;
        char *path = harvest->paths[harvest->count];
        status = file_join(path, STORE_PATH_SIZE, folder, NAMES[i], error);
        if (status != STATUS_OK || lstat(path, &info) != 0) {
            continue;
        }
        /* The child is not trusted: a link could point at a file of ours. */
        if (!S_ISREG(info.st_mode) || info.st_nlink > 2) {
            status = error_set(error, STATUS_INTERNAL, NAMES[i], "failed to take file %s: it is a link or special file",
                               NAMES[i]);
            continue;
        }
        /* What a child of another user made belongs to us from now on. */
        if (info.st_uid != geteuid() && lchown(path, geteuid(), getegid()) != 0) {
            status = error_io(error, NAMES[i], "failed to take file %s over", NAMES[i]);
            continue;
        }
        harvest->files[harvest->count++] = (struct store_artifact_file){.name = NAMES[i], .path = path};
        if (strcmp(NAMES[i], ARTIFACT_REPORT) == 0) {
            status = read_report(path, &harvest->report, error);
        }
    }
    if (status == STATUS_OK && harvest->report == NULL) {
        status = error_set(error, STATUS_INTERNAL, ARTIFACT_REPORT, "failed to find the report: the job left none");
    }
    return status;
}

/* --- writing it down --- */

static bool is_stopping(struct jobs *jobs) {
    pthread_mutex_lock(&jobs->lock);
    bool stopping = jobs->stopping;
    pthread_mutex_unlock(&jobs->lock);
    return stopping;
}

/* A disk that is full now may have room in a moment; hours of work are worth waiting for it. */
static bool is_worth_another_try(struct jobs *jobs, enum status status, int tries) {
    if ((status != STATUS_UNAVAILABLE && status != STATUS_IO) || tries >= TRIES || is_stopping(jobs)) {
        return false;
    }
    (void)nanosleep(&(struct timespec){.tv_sec = 1}, NULL);
    return true;
}

/* Did the job fail because the disk was full? If so, waits (as long as for a write of the database) until there is room again. The
 * child's own words are taken for it: by now there may be room, and the worst that a lie wins is another attempt. */
static bool failed_for_room(struct jobs *jobs, const struct error *problem) {
    static const uint64_t room = (uint64_t)16 << 20;
    char words[64];
    struct error low = {0};
    const char *no_space = strerror_r(ENOSPC, words, sizeof words);
    if (problem->status != STATUS_IO || strstr(problem->message, no_space) == NULL) {
        return false;
    }
    for (int tries = 0; store_check_disk(jobs->store, room, &low) != STATUS_OK; tries++) {
        error_clear(&low);
        if (!is_worth_another_try(jobs, STATUS_UNAVAILABLE, tries)) {
            break;
        }
    }
    return true;
}

static enum status fail(struct jobs *jobs, const struct store_job *job, const struct error *problem,
                        struct error *error) {
    return store_job_fail(jobs->store, job->id, job->attempt, problem, error);
}

static enum status expire(struct jobs *jobs, const struct store_job *job, struct error *error) {
    struct error problem = {0};
    (void)error_set(&problem, STATUS_LIMIT, "/deadline_s",
                    "failed to finish the job in time: expected a result within %g s of its submission",
                    job->deadline_s);
    return fail(jobs, job, &problem, error);
}

static enum status write_action(struct jobs *jobs, const struct store_job *job, enum job_action action,
                                const struct error *problem, const struct harvest *harvest, enum job_state *reached,
                                struct error *error) {
    switch (action) {
    case JOB_ACTION_SUCCEED:
        *reached = JOB_SUCCEEDED;
        return store_job_succeed(jobs->store, job->id, job->attempt, harvest->report, harvest->files, harvest->count,
                                 error);
    case JOB_ACTION_FAIL:
        *reached = JOB_FAILED;
        return fail(jobs, job, problem, error);
    case JOB_ACTION_CANCELLED:
        *reached = JOB_CANCELLED;
        return store_job_cancelled(jobs->store, job->id, job->attempt, error);
    case JOB_ACTION_EXPIRE:
        *reached = JOB_FAILED;
        return expire(jobs, job, error);
    case JOB_ACTION_LOSS:
        return store_job_interrupt(jobs->store, job->id, job->attempt, problem, true, reached, error);
    case JOB_ACTION_RELEASE:
        return store_job_interrupt(jobs->store, job->id, job->attempt, NULL, false, reached, error);
    }
    return error_set(error, STATUS_INTERNAL, "", "failed to end job %s: got an unknown action", job->id);
}

static enum status write_with_tries(struct jobs *jobs, const struct store_job *job, enum job_action action,
                                    const struct error *problem, const struct harvest *harvest, enum job_state *reached,
                                    struct error *error) {
    enum status status;
    int tries = 0;
    do {
        error_clear(error);
        status = write_action(jobs, job, action, problem, harvest, reached, error);
    } while (is_worth_another_try(jobs, status, tries++));
    return status;
}

/* The report comes from a child that is not trusted: only numbers that make sense are added. */
static void count_stages(struct jobs *jobs, const json_t *report) {
    const json_t *seconds = json_object_get(report, "seconds");
    pthread_mutex_lock(&jobs->lock);
    jobs->stages.jobs++;
    for (size_t i = 0; i < STAGE_COUNT; i++) {
        const double value = json_number_value(json_object_get(seconds, job_stage_name((enum job_stage)i)));
        jobs->stages.seconds[i] += value > 0 && value < 1e9 ? value : 0;
    }
    pthread_mutex_unlock(&jobs->lock);
}

enum job_state job_queue_finish(struct jobs *jobs, const struct store_job *job, const struct job_outcome *outcome,
                                enum job_stop stop, const char *folder) {
    enum job_end end = outcome->end;
    enum job_state reached = JOB_STATE_COUNT;
    struct error problem = outcome->problem;
    struct error error = {0};
    struct harvest harvest = {0};
    /* Somebody else may have asked the child to stop, such as an init system that signals all of a service. After that, and after
     * a full disk, a job goes on from its checkpoint. */
    if (end == JOB_END_ERROR && stop == JOB_STOP_NONE &&
        (problem.status == STATUS_CANCELLED || failed_for_room(jobs, &problem))) {
        end = JOB_END_LOST;
    }
    enum job_action action = job_queue_action(end, stop);
    if (action == JOB_ACTION_SUCCEED && gather(folder, &harvest, &problem) != STATUS_OK) {
        action = JOB_ACTION_FAIL;
    }
    enum status status = write_with_tries(jobs, job, action, &problem, &harvest, &reached, &error);
    if (status != STATUS_OK && status != STATUS_CONFLICT && action == JOB_ACTION_SUCCEED && !is_stopping(jobs)) {
        /* The result cannot be kept: a failure of the job, not a reason to leave it running for ever. */
        problem = error;
        status = write_with_tries(jobs, job, JOB_ACTION_FAIL, &problem, &harvest, &reached, &error);
    }
    if (status != STATUS_OK) {
        log_event(LOG_ERROR, "job_end_not_written", "job %s attempt %llu: %s", job->id,
                  (unsigned long long)job->attempt, error.message);
        reached = JOB_STATE_COUNT;
    }
    if (reached == JOB_SUCCEEDED) {
        count_stages(jobs, harvest.report);
    }
    json_decref(harvest.report);
    return reached;
}
