/* Whether jobs would run now, for those who ask before they send any: threads that show life, children that can be started. */
#include <stdatomic.h>

#include "common/clock.h"
#include "server/jobs/jobs_internal.h"

enum status jobs_check_alive(struct jobs *jobs, struct error *error) {
    const double now = clock_seconds();
    enum status status = STATUS_OK;
    pthread_mutex_lock(&jobs->lock);
    if (jobs->stopping) {
        status = error_set(error, STATUS_UNAVAILABLE, "workers", "failed to be ready: the workers are stopping");
    } else if (now - jobs->keeper_seen_at > jobs->options.stall_s) {
        status = error_set(error, STATUS_UNAVAILABLE, "workers",
                           "failed to be ready: got no sign of the thread that watches jobs for %.0f s",
                           now - jobs->keeper_seen_at);
    }
    for (size_t i = 0; i < jobs->options.workers && status == STATUS_OK; i++) {
        const struct job_slot *slot = &jobs->slots[i];
        /* One with a job is the keeper's to watch. */
        if (!slot->busy && now - slot->seen_at > jobs->options.stall_s) {
            status = error_set(error, STATUS_UNAVAILABLE, "workers",
                               "failed to be ready: got a worker that has looked for no job for %.0f s",
                               now - slot->seen_at);
        }
    }
    pthread_mutex_unlock(&jobs->lock);
    return status;
}

enum status jobs_check_children(struct jobs *jobs, struct error *error) {
    if (!atomic_load(&jobs->unstarted)) {
        return STATUS_OK;
    }
    struct error refusal = {0};
    json_t *info = NULL;
    /* That this is no model is for the child to say, which takes a child. */
    (void)jobs_check_file(jobs, STORE_MODEL, "/dev/null", &info, &refusal);
    json_decref(info);
    return atomic_load(&jobs->unstarted)
               ? error_set(error, STATUS_UNAVAILABLE, "workers", "failed to be ready: %s", refusal.message)
               : STATUS_OK;
}
