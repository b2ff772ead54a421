/* What the files of jobs share. */
#ifndef ONP_SERVER_JOBS_JOBS_INTERNAL_H
#define ONP_SERVER_JOBS_JOBS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/jobs/job_process.h"
#include "server/jobs/job_sandbox.h"
#include "server/jobs/jobs.h"

/* Why a running job is to end before its time. The first reason given stays. */
enum job_stop { JOB_STOP_NONE, JOB_STOP_CANCEL, JOB_STOP_DEADLINE, JOB_STOP_SHUTDOWN, JOB_STOP_COUNT };

/* One worker and the job it has, if any. */
struct job_slot {
    struct jobs *jobs;
    pthread_t thread;
    bool started;
    /* Guarded by jobs->lock. */
    bool busy;
    char job_id[ID_SIZE];
    uint64_t attempt;
    double deadline_at; /* by clock_seconds(); 0: none */
    double beat_at;     /* when the lease is extended next */
    double seen_at;     /* when it last began to look for a job */
    /* Read without the lock, by the worker and the stages. */
    atomic_int stop;    /* enum job_stop */
    atomic_bool cancel; /* stop is not JOB_STOP_NONE */
};

struct job_task_entry;

struct jobs {
    struct store *store;
    const struct job_methods *methods;
    struct jobs_options options;
    char attempts_dir[STORE_PATH_SIZE];
    char checkpoints_dir[STORE_PATH_SIZE];
    struct job_walls walls;
    atomic_uint_fast64_t ends[JOB_END_COUNT]; /* of children, by how they ended */

    pthread_mutex_t lock;   /* guards stopping, generation, the slots' guarded part, the helpers' queue */
    pthread_cond_t work;    /* workers: the queue may hold something, or stopping */
    pthread_cond_t idle;    /* jobs_stop(): a slot has become free */
    pthread_cond_t tick;    /* the keeper: stopping */
    bool stopping;          /* claim nothing more */
    bool keeper_done;       /* the keeper may end */
    uint64_t generation;    /* grows when a job is queued, so that no worker sleeps over it */
    struct job_slot *slots; /* (options.workers) */
    double keeper_seen_at;  /* guarded by lock */
    atomic_bool unstarted;  /* the latest child could not be started */
    pthread_t keeper;
    bool keeper_started;

    struct jobs_stages stages; /* guarded by lock */

    pthread_cond_t help; /* helpers: a task, or closing */
    bool closing;        /* helpers end when the queue is empty */
    atomic_bool hurry;   /* checks are to end now */
    struct job_task_entry *first_task, *last_task;
    size_t task_count;
    pthread_t *helpers; /* (helper_count) */
    size_t helper_count;
};

/* --- job_worker.c --- */
/* user: struct job_slot. */
void *job_worker_main(void *user);
/* Gives a slot a reason to end its job; the lock is held, or this is the slot's own thread. */
void job_slot_stop(struct job_slot *slot, enum job_stop reason);

/* --- job_keeper.c --- */
/* Extends leases and watches deadlines. user: struct jobs. */
void *job_keeper_main(void *user);

/* --- job_check.c --- */
enum status job_helpers_start(struct jobs *jobs, struct error *error);
void job_helpers_stop(struct jobs *jobs); /* runs what is queued first */

/* --- jobs.c --- */
/* A monotonic condition wait of at most `seconds`, with jobs->lock held. */
void jobs_wait(struct jobs *jobs, pthread_cond_t *condition, double seconds);
void jobs_note_end(struct jobs *jobs, const struct job_outcome *outcome);
/* Makes a fresh folder below attempts_dir. */
enum status jobs_make_folder(const struct jobs *jobs, const char *name, char out[STORE_PATH_SIZE], struct error *error);

#endif
