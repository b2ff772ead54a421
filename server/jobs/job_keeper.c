/* The keeper: one thread that extends the leases of running jobs and stops those past their deadline. */
#include "common/clock.h"
#include "server/jobs/jobs_internal.h"

static const double TICK_S = 0.2;

static void look_after(struct job_slot *slot, double now) {
    struct jobs *jobs = slot->jobs;
    if (!slot->busy) {
        return;
    }
    if (slot->deadline_at > 0 && now >= slot->deadline_at) {
        job_slot_stop(slot, JOB_STOP_DEADLINE);
    }
    if (now >= slot->beat_at) {
        slot->beat_at = now + jobs->options.lease_s / 3;
        /* This only leaves a note for the writer, so it may be called with the lock held. */
        (void)store_job_progress(jobs->store, slot->job_id, slot->attempt, (int64_t)(jobs->options.lease_s * 1000),
                                 NULL, NULL);
    }
}

void *job_keeper_main(void *user) {
    struct jobs *jobs = user;
    pthread_mutex_lock(&jobs->lock);
    while (!jobs->keeper_done) {
        double now = clock_seconds();
        jobs->keeper_seen_at = now;
        for (size_t i = 0; i < jobs->options.workers; i++) {
            look_after(&jobs->slots[i], now);
        }
        jobs_wait(jobs, &jobs->tick, TICK_S);
    }
    pthread_mutex_unlock(&jobs->lock);
    return NULL;
}
