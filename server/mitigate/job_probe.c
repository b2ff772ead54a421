/* Runs the probe set in batches fetched by the engine's threads. */
#include "server/mitigate/job_probe.h"

#include "common/mem.h"

static void fetch_probe(void *user, size_t first, size_t n, float *x) {
    const struct job *job = user;
    for (size_t i = 0; i < n; i++) {
        const size_t index = first + i;
        samples_fetch(job->probe, &index, 1, x + i * job->image_floats);
    }
}

enum status job_probe_logits(struct job *job, const float *mask, const float *fill, float **out, struct error *error) {
    float *logits = mem_alloc(job->probe->count * job->info.classes, sizeof *logits);
    if (logits == NULL) {
        return error_no_memory(error, "the probe's logits");
    }
    const struct engine_run run = {.count = job->probe->count,
                                   .user = job,
                                   .fill_input = fetch_probe,
                                   .mask = mask,
                                   .fill = fill,
                                   .logits = logits,
                                   .cancel = job_cancel(job)};
    const enum status status = engine_run(job->forward, &run, error);
    if (status != STATUS_OK) {
        mem_free(logits);
        return status;
    }
    *out = logits;
    return STATUS_OK;
}
