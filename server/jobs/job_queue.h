/* What becomes of a job when its attempt is over: one table, and the writes that make it so. */
#ifndef ONP_SERVER_JOBS_JOB_QUEUE_H
#define ONP_SERVER_JOBS_JOB_QUEUE_H

#include "server/jobs/jobs_internal.h"

enum job_action {
    JOB_ACTION_SUCCEED,
    JOB_ACTION_FAIL,
    JOB_ACTION_CANCELLED,
    JOB_ACTION_EXPIRE,  /* fail: it ran past its deadline */
    JOB_ACTION_LOSS,    /* run again, unless it was lost too often */
    JOB_ACTION_RELEASE, /* run again: it was our wish to stop */
};

/* What to do when an attempt came to `end` after it was told to stop for `stop`. */
enum job_action job_queue_action(enum job_end end, enum job_stop stop);

/* Writes the end of an attempt to the store and returns where the job stands then (JOB_STATE_COUNT if the store refused
 * for good). Takes a while when the disk is full: it tries again for a minute. */
enum job_state job_queue_finish(struct jobs *jobs, const struct store_job *job, const struct job_outcome *outcome,
                                enum job_stop stop, const char *folder);

#endif
