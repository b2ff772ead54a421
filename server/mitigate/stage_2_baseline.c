/* Stage 2: how the model behaves as it came: logits, accuracy, and what each unit does on clean samples. */
#include "common/mem.h"
#include "server/mitigate/job.h"
#include "server/mitigate/job_probe.h"
#include "server/nn/loss.h"

enum status stage_baseline(struct job *job, struct error *error) {
    const size_t count = job->samples->count, classes = job->info.classes;
    job->logits0 = mem_alloc(count * classes, sizeof *job->logits0);
    job->p0 = mem_alloc(count * classes, sizeof *job->p0);
    job->build_predicted = mem_alloc(job->split->build_count, sizeof *job->build_predicted);
    if (job->logits0 == NULL || job->p0 == NULL || job->build_predicted == NULL) {
        return error_no_memory(error, "the baseline's logits");
    }
    const struct engine_run run = {
        .count = count, .input = job->images, .logits = job->logits0, .cancel = job_cancel(job)};
    enum status status = unit_stats_collect(job->forward, job->units, &run, &job->stats0, error);
    if (status != STATUS_OK) {
        return status;
    }
    loss_softmax(count, classes, job->logits0, job->p0);
    for (size_t i = 0; i < job->split->build_count; i++) {
        job->build_predicted[i] = (int32_t)loss_argmax(classes, job->logits0 + job->split->build[i] * classes);
    }
    job->accuracy0 = (double)metrics_hits(count, classes, job->logits0, job->samples->labels) / (double)count;
    if (job->probe != NULL) {
        status = job_probe_logits(job, NULL, NULL, &job->probe_logits0, error);
    }
    job_trace(job, json_pack("{s:f, s:i}", "accuracy", job->accuracy0, "units", (int)job->units->unit_count));
    return status;
}
