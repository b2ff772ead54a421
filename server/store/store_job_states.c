/* The state machine of a job, as a table. Terminal rows are empty: such a state never changes. */
#include "server/store/store_jobs.h"

static const bool MOVES[JOB_STATE_COUNT][JOB_STATE_COUNT] = {
    /* A job may miss its deadline before it starts. */
    [JOB_QUEUED] = {[JOB_STARTING] = true, [JOB_FAILED] = true, [JOB_CANCELLED] = true},
    [JOB_STARTING] = {[JOB_RUNNING] = true, [JOB_CANCELLING] = true, [JOB_FAILED] = true, [JOB_INTERRUPTED] = true},
    [JOB_RUNNING] = {[JOB_CANCELLING] = true, [JOB_SUCCEEDED] = true, [JOB_FAILED] = true, [JOB_INTERRUPTED] = true},
    /* A job may be done, or fail, before the wish to cancel reaches it. */
    [JOB_CANCELLING] = {[JOB_CANCELLED] = true, [JOB_SUCCEEDED] = true, [JOB_FAILED] = true, [JOB_INTERRUPTED] = true},
    [JOB_INTERRUPTED] = {[JOB_QUEUED] = true, [JOB_FAILED] = true, [JOB_CANCELLED] = true},
};

bool store_job_may_move(enum job_state from, enum job_state to) {
    return from < JOB_STATE_COUNT && to < JOB_STATE_COUNT && MOVES[from][to];
}
