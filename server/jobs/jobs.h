/* Jobs at work: the durable queue, worker threads, child processes, cancelling, checks of uploads.
 *
 * A worker claims a job from the store and sees it through. With JOB_ISOLATION_PROCESS (the default) it starts the same
 * binary again as a child; the child is not trusted: what it says is parsed strictly, and it may crash or hang without
 * harm. Files of an attempt are made in <data>/attempts/<job>-<attempt> and become blobs when it succeeds. */
#ifndef ONP_SERVER_JOBS_JOBS_H
#define ONP_SERVER_JOBS_JOBS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/jobs/job_limits.h"
#include "server/mitigate/mitigate.h"
#include "server/store/store.h"
#include "server/store/store_jobs.h"
#include "server/store/store_objects.h"

/* What a job runs, so that tests can pass their own. The functions are those of mitigate.h. */
struct job_methods {
    enum status (*run)(const struct mitigate_request *request, const struct mitigate_hooks *hooks, json_t **report,
                       struct error *error);
    enum status (*check_parameters)(const char *method, const json_t *parameters, struct error *error);
    enum status (*check_model)(const char *path, json_t **info, struct error *error);
    enum status (*check_samples)(const char *path, json_t **info, struct error *error);
    enum status (*describe_graph)(const char *path, long layer, json_t **graph, struct error *error);
    enum status (*check_fit)(const json_t *model, const json_t *samples, const json_t *probe, struct error *error);
};

enum job_isolation { JOB_ISOLATION_PROCESS, JOB_ISOLATION_THREAD };

struct jobs_options {
    size_t workers; /* worker threads = jobs at once; at least 1 */
    size_t helpers; /* threads for checks and jobs_run_later(); at least 1 */
    size_t threads; /* threads of one job; 0: cores / workers, at least 1 */
    enum job_isolation isolation;
    const char *executable; /* of children; NULL: /proc/self/exe */
    uint64_t memory_limit;  /* address space of a child in bytes; 0: no limit */
    uint64_t check_memory;  /* the same for the child of a check, if less */
    uint64_t file_limit;    /* largest file a child may write in bytes; 0: no limit */
    uint64_t queue_max;     /* jobs that may be queued; 0: no limit */
    unsigned max_attempts;  /* losses after which a job fails */
    double cancel_grace_s;  /* from SIGTERM to SIGKILL */
    double check_timeout_s; /* for one check of an upload */
    double lease_s;
    double stall_s; /* a thread of ours that shows no life for so long counts as stalled */
    enum job_sandbox_mode sandbox;
    uint32_t sandbox_uid; /* of children if we are root; 0: root */
};
/* Defaults for every field: 1 worker, 2 helpers, process, 3 attempts, 5 s grace, 60 s a check, 30 s lease and stall, sandbox auto as
 * nobody. */
void jobs_options_init(struct jobs_options *options);

struct jobs;

/* Puts jobs that an earlier run left half-done back into the queue, removes old attempt folders and starts the threads.
 * The store and the methods must outlive it; options are copied, except `executable` (borrowed). */
enum status jobs_start(struct store *store, const struct job_methods *methods, const struct jobs_options *options,
                       struct jobs **out, struct error *error);
/* Drains: claims nothing more, lets running jobs go on for at most `grace_s`, then stops them; those go back to the queue
 * (not held against them) and run again after a restart. Waits for all threads; calls of jobs_check_start() and
 * jobs_run_later() that are queued still run. Frees it. Accepts NULL. Not from a helper thread. */
void jobs_stop(struct jobs *jobs, double grace_s);

/* Readiness: STATUS_OK, or STATUS_UNAVAILABLE and why: the server is stopping, or a worker without a job, or the thread that watches
 * the others, has not been heard of for stall_s. Does not wait. */
enum status jobs_check_alive(struct jobs *jobs, struct error *error);
/* Readiness: STATUS_UNAVAILABLE if the system does not let children start. Only after that has happened is one tried, and then this
 * blocks for as long as a small check takes. */
enum status jobs_check_children(struct jobs *jobs, struct error *error);
size_t jobs_running(struct jobs *jobs);
/* How many jobs can run at once. */
size_t jobs_workers(const struct jobs *jobs);
/* Seconds that jobs which succeeded since the start have spent in each stage, and how many they are. */
struct jobs_stages {
    double seconds[STAGE_COUNT];
    uint64_t jobs;
};
void jobs_stages(struct jobs *jobs, struct jobs_stages *out);

/* What children are confined by, and what became of them since the start. Any thread. */
struct jobs_sandbox {
    enum job_sandbox_mode mode; /* OFF as well if jobs run in threads */
    int landlock;               /* ABI of the wall around files; 0: none */
    bool calls;                 /* wall of system calls */
    bool user;                  /* children have a user of their own */
    bool address_space;         /* their memory can be limited */
    uint64_t breaches;          /* children ended for a forbidden system call */
    uint64_t babblers;          /* children ended for what they said */
    uint64_t lost;              /* children that ended without a word */
};
void jobs_sandbox(struct jobs *jobs, struct jobs_sandbox *out);

/* Checks parameters (place "/parameters/..." or "/method") and that model, samples and probe are there and fit (place
 * "/model_id" ...), inserts the job and wakes a worker. max_attempts of the request 0: that of the options. Waits for
 * the disk. *job is the caller's (store_job_deinit()). */
enum status jobs_submit(struct jobs *jobs, const struct store_job_request *request, struct store_job *job,
                        struct error *error);
/* store_job_request_cancel() and, if it runs, stops it: flag and SIGTERM now, SIGKILL after the grace time. Waits for the disk,
 * not for the job. */
enum status jobs_cancel(struct jobs *jobs, const char *id, struct store_job *job, struct error *error);

/* --- checks of uploads --- */

/* Checks a model or samples file in a child process (in this thread with JOB_ISOLATION_THREAD) within the time limit of
 * the options. On success *info is a new reference. Blocks: never from a loop thread. STATUS_LIMIT if it takes too long or
 * too much memory; a check that crashes gives STATUS_INVALID, as only a hostile file does that. */
enum status jobs_check_file(struct jobs *jobs, enum store_kind kind, const char *path, json_t **info,
                            struct error *error);

/* Describes the graph of a model file, as jobs_check_file() checks one: in a child, within the time limit, blocking. */
enum status jobs_describe_graph(struct jobs *jobs, const char *path, long layer, json_t **graph, struct error *error);

/* Called from a helper thread, once; it may block and may call store functions. `info` is the callee's (json_decref()), NULL
 * on error; `error` is borrowed for the call. */
typedef void jobs_checked(void *user, enum status status, json_t *info, const struct error *error);
/* jobs_check_file() in a helper thread. Does not block: for the loop thread. `path` is copied. STATUS_UNAVAILABLE if
 * too many checks wait (then the callback is not called). */
enum status jobs_check_start(struct jobs *jobs, enum store_kind kind, const char *path, jobs_checked *done, void *user,
                             struct error *error);

/* Runs `run(user)` in a helper thread, for calls that wait for the disk (jobs_submit(), store_object_delete() ...). Does
 * not block. STATUS_UNAVAILABLE if too many wait (then it is not run). */
enum status jobs_run_later(struct jobs *jobs, void (*run)(void *user), void *user, struct error *error);

#endif
