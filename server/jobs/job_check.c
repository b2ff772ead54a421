/* Checks of uploads, and other work that must not block the loop thread: a few helper threads and a bounded queue. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/id.h"
#include "common/mem.h"
#include "server/jobs/job_process.h"
#include "server/jobs/jobs_internal.h"

enum { TASKS_MAX = 256, CPU_SLACK_S = 2 };

struct job_task_entry {
    struct job_task_entry *next;
    void (*run)(void *user);
    void *user;
};

/* --- one check --- */

struct check {
    struct jobs *jobs;
    double until;
    bool late;
};

static bool is_late(void *user) {
    struct check *check = user;
    check->late = clock_seconds() >= check->until;
    return check->late || atomic_load(&check->jobs->hurry);
}

/* What became of the child, in words that make sense to who sent the file. */
static enum status explain(const struct check *check, enum store_kind kind, struct job_outcome *outcome, json_t **info,
                           struct error *error) {
    const char *what = store_kind_name(kind);
    switch (outcome->end) {
    case JOB_END_DONE:
        if (outcome->info == NULL) {
            return error_set(error, STATUS_INTERNAL, "child", "failed to check %s: got no answer", what);
        }
        *info = outcome->info;
        outcome->info = NULL;
        return STATUS_OK;
    case JOB_END_ERROR:
        if (outcome->problem.status == STATUS_NO_MEMORY) {
            break; /* that of the child, which is limited; not that of the server */
        }
        return error_set(error, outcome->problem.status, outcome->problem.where, "%s", outcome->problem.message);
    case JOB_END_STOPPED:
        if (!check->late) {
            return error_set(error, STATUS_UNAVAILABLE, "", "failed to check %s: the server is stopping", what);
        }
        return error_set(error, STATUS_LIMIT, "", "failed to check %s: it took more than %g s", what,
                         check->jobs->options.check_timeout_s);
    case JOB_END_LOST:
        if (outcome->unstarted) {
            return error_set(error, STATUS_UNAVAILABLE, "", "failed to check %s: %s", what, outcome->problem.message);
        }
        if (outcome->killed) {
            break;
        }
        return error_set(error, STATUS_INVALID, "", "failed to check %s: %s", what, outcome->problem.message);
    case JOB_END_BREACH:
        return error_set(error, STATUS_INVALID, "", "failed to check %s: %s", what, outcome->problem.message);
    case JOB_END_BABBLE:
    case JOB_END_COUNT:
        return error_set(error, STATUS_INVALID, "", "failed to check %s: checking it went astray", what);
    }
    return error_set(error, STATUS_LIMIT, "", "failed to check %s: it took too much memory", what);
}

/* Of two limits of which 0 is none. */
static uint64_t least(uint64_t a, uint64_t b) {
    return a == 0 || (b != 0 && b < a) ? b : a;
}

static enum status check_in_process(struct jobs *jobs, enum job_task task, const char *path, long layer, json_t **info,
                                    struct error *error) {
    struct check check = {.jobs = jobs, .until = clock_seconds() + jobs->options.check_timeout_s};
    char name[ID_SIZE];
    char folder[STORE_PATH_SIZE];
    struct job_outcome outcome;
    id_make("chk", name);
    enum status status = jobs_make_folder(jobs, name, folder, error);
    if (status != STATUS_OK) {
        return status;
    }
    const struct job_process process = {.executable = jobs->options.executable,
                                        .folder = folder,
                                        .threads = 1,
                                        .grace_s = 0, /* a check has nothing to save */
                                        .line_max = JOB_INFO_LINE_MAX,
                                        .user = &check,
                                        .stop = is_late};
    const struct job_request request = {
        .task = task,
        .limits = {.memory = least(jobs->options.memory_limit, jobs->options.check_memory),
                   .file = jobs->options.file_limit,
                   .cpu_s = (uint64_t)jobs->options.check_timeout_s + CPU_SLACK_S,
                   .sandbox = jobs->options.sandbox,
                   .uid = jobs->options.sandbox_uid},
        .path = path,
        .layer = layer};
    job_process_run(&process, &request, &outcome);
    jobs_note_end(jobs, &outcome);
    status = explain(&check, task == JOB_TASK_CHECK_SAMPLES ? STORE_SAMPLES : STORE_MODEL, &outcome, info, error);
    json_decref(outcome.info);
    (void)file_remove_tree(folder, NULL);
    return status;
}

enum status jobs_check_file(struct jobs *jobs, enum store_kind kind, const char *path, json_t **info,
                            struct error *error) {
    if (jobs->options.isolation == JOB_ISOLATION_PROCESS) {
        return check_in_process(jobs, kind == STORE_MODEL ? JOB_TASK_CHECK_MODEL : JOB_TASK_CHECK_SAMPLES, path, -1,
                                info, error);
    }
    return kind == STORE_MODEL ? jobs->methods->check_model(path, info, error)
                               : jobs->methods->check_samples(path, info, error);
}

enum status jobs_describe_graph(struct jobs *jobs, const char *path, long layer, json_t **graph, struct error *error) {
    return jobs->options.isolation == JOB_ISOLATION_PROCESS
               ? check_in_process(jobs, JOB_TASK_DESCRIBE_GRAPH, path, layer, graph, error)
               : jobs->methods->describe_graph(path, layer, graph, error);
}

/* --- helpers --- */

enum status jobs_run_later(struct jobs *jobs, void (*run)(void *user), void *user, struct error *error) {
    struct job_task_entry *entry = mem_calloc(1, sizeof(*entry));
    if (entry == NULL) {
        return error_no_memory(error, "a task");
    }
    *entry = (struct job_task_entry){.run = run, .user = user};
    pthread_mutex_lock(&jobs->lock);
    bool full = jobs->closing || jobs->task_count >= TASKS_MAX;
    if (!full) {
        if (jobs->last_task != NULL) {
            jobs->last_task->next = entry;
        } else {
            jobs->first_task = entry;
        }
        jobs->last_task = entry;
        jobs->task_count++;
        pthread_cond_signal(&jobs->help);
    }
    pthread_mutex_unlock(&jobs->lock);
    if (full) {
        mem_free(entry);
        return error_set(error, STATUS_UNAVAILABLE, "",
                         "failed to start a task: too many wait, or the server is stopping");
    }
    return STATUS_OK;
}

static void *helper_main(void *user) {
    struct jobs *jobs = user;
    pthread_mutex_lock(&jobs->lock);
    while (true) {
        struct job_task_entry *entry = jobs->first_task;
        if (entry == NULL && jobs->closing) {
            break;
        }
        if (entry == NULL) {
            pthread_cond_wait(&jobs->help, &jobs->lock);
            continue;
        }
        jobs->first_task = entry->next;
        if (entry->next == NULL) {
            jobs->last_task = NULL;
        }
        jobs->task_count--;
        pthread_mutex_unlock(&jobs->lock);
        entry->run(entry->user);
        mem_free(entry);
        pthread_mutex_lock(&jobs->lock);
    }
    pthread_mutex_unlock(&jobs->lock);
    return NULL;
}

enum status job_helpers_start(struct jobs *jobs, struct error *error) {
    jobs->helpers = mem_calloc(jobs->options.helpers, sizeof(*jobs->helpers));
    if (jobs->helpers == NULL) {
        return error_no_memory(error, "helper threads");
    }
    for (size_t i = 0; i < jobs->options.helpers; i++) {
        int code = pthread_create(&jobs->helpers[i], NULL, helper_main, jobs);
        if (code != 0) {
            errno = code;
            return error_io(error, "helpers", "failed to start a helper thread");
        }
        jobs->helper_count++;
    }
    return STATUS_OK;
}

void job_helpers_stop(struct jobs *jobs) {
    pthread_mutex_lock(&jobs->lock);
    jobs->closing = true;
    pthread_cond_broadcast(&jobs->help);
    pthread_mutex_unlock(&jobs->lock);
    for (size_t i = 0; i < jobs->helper_count; i++) {
        pthread_join(jobs->helpers[i], NULL);
    }
    mem_free(jobs->helpers);
    jobs->helpers = NULL;
    jobs->helper_count = 0;
}

/* --- checks in the background --- */

struct background_check {
    struct jobs *jobs;
    enum store_kind kind;
    jobs_checked *done;
    void *user;
    char path[STORE_PATH_SIZE];
};

static void run_check(void *user) {
    struct background_check *check = user;
    struct error error = {0};
    json_t *info = NULL;
    enum status status = jobs_check_file(check->jobs, check->kind, check->path, &info, &error);
    if (status != STATUS_OK) {
        json_decref(info);
        info = NULL;
    }
    check->done(check->user, status, info, &error);
    mem_free(check);
}

enum status jobs_check_start(struct jobs *jobs, enum store_kind kind, const char *path, jobs_checked *done, void *user,
                             struct error *error) {
    struct background_check *check = mem_calloc(1, sizeof(*check));
    if (check == NULL) {
        return error_no_memory(error, "a check");
    }
    *check = (struct background_check){.jobs = jobs, .kind = kind, .done = done, .user = user};
    int length = snprintf(check->path, sizeof check->path, "%s", path);
    enum status status = length >= 0 && (size_t)length < sizeof check->path
                             ? jobs_run_later(jobs, run_check, check, error)
                             : error_set(error, STATUS_LIMIT, "", "failed to start a check: the path is too long");
    if (status != STATUS_OK) {
        mem_free(check);
    }
    return status;
}
