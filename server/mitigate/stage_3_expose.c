/* Stage 3: which classes can be reached by a suspiciously small trigger. */
#include <stdio.h>

#include "server/mitigate/affordable.h"
#include "server/mitigate/job.h"

/* Shares of the usual samples that a network which is dear to run gets at least. */
static void save(struct expose_options *options, double macs) {
    options->bounded_batch = affordable(macs, options->bounded_batch, options->bounded_batch / 2);
    options->bank_batch = affordable(macs, options->bank_batch, options->bank_batch / 2);
    options->measure = affordable(macs, options->measure, options->measure / 2);
    options->glance = affordable(macs, options->glance, options->glance / 2);
    options->probe_samples = affordable(macs, options->probe_samples, options->probe_samples / 2);
}

static void on_progress(void *user, size_t done, size_t total, const struct trigger *last) {
    struct job *job = user;
    char text[96];
    snprintf(text, sizeof text, "class %zu: %s trigger of size %.2f", last->target, trigger_family_name(last->family),
             last->size);
    job_progress(job, done, total, text);
}

enum status stage_expose(struct job *job, struct error *error) {
    const struct parameters *p = &job->parameters;
    job->expose_options = expose_default_options;
    job->expose_options.rung_steps = p->expose_steps;
    job->expose_options.rungs = p->expose_rungs;
    job->expose_options.batch = p->expose_batch;
    job->expose_options.bounded_batch = p->expose_batch;
    job->expose_options.bank_batch = 2 * p->expose_batch;
    job->expose_options.restarts = p->restarts;
    job->expose_options.anomaly_threshold = p->anomaly_threshold;
    save(&job->expose_options, job->macs);
    const struct expose_hooks hooks = {job, on_progress};
    const struct invert_data data = job_invert_data(job, NULL, NULL);
    const struct rng rng = rng_stream(&job->rng, STREAM_EXPOSE);
    const enum status status = expose_run(&data, &job->expose_options, &hooks, &rng, &job->exposure, error);
    for (size_t f = 0; status == STATUS_OK && f < TRIGGER_FAMILY_COUNT; f++) {
        for (size_t t = 0; t < job->exposure->columns; t++) {
            const struct exposure_cell *cell = exposure_cell(job->exposure, (enum trigger_family)f, t);
            job_trace(job, json_pack("{s:s, s:i, s:f, s:f, s:f, s:i, s:b}", "family",
                                     trigger_family_name((enum trigger_family)f), "class", (int)t, "size", cell->size,
                                     "success", cell->success, "anomaly", cell->anomaly, "steps", (int)cell->steps,
                                     "suspect", cell->suspect));
        }
    }
    return status;
}
