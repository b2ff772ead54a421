/* Stage 7: what the repair did. The locked samples are used here and nowhere before; the probe only for its own figures. */
#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "server/mitigate/adversary.h"
#include "server/mitigate/job.h"
#include "server/mitigate/job_probe.h"
#include "server/mitigate/mitigate_score.h"
#include "server/mitigate/report.h"

static enum status run_repaired(struct job *job, struct error *error) {
    const struct engine_run run = {.count = job->samples->count,
                                   .input = job->images,
                                   .mask = job->mask,
                                   .fill = job->fill,
                                   .logits = job->logits1,
                                   .cancel = job_cancel(job)};
    return engine_run(job->forward, &run, error);
}

static double accuracy_drop(const struct job *job) {
    const size_t count = job->samples->count;
    const size_t hits = metrics_hits(count, job->info.classes, job->logits1, job->samples->labels);
    return job->accuracy0 - (double)hits / (double)count;
}

/* If the chosen mask breaks the accuracy budget, the best of the front that keeps it is taken, and if none does, none at all. */
static enum status keep_budget(struct job *job, bool *broken, struct error *error) {
    const size_t units = job->units->unit_count;
    const struct score_entry *front;
    const size_t count = score_front(job->score, &front);
    enum status status = run_repaired(job, error);
    *broken = false;
    if (status != STATUS_OK || accuracy_drop(job) <= job->parameters.max_accuracy_drop) {
        return status;
    }
    memcpy(job->fill, job->stats0->mean, units * sizeof *job->fill);
    for (size_t i = 0; i < count; i++) {
        memcpy(job->best, front[i].bits, units);
        job_mask_from_bits(units, job->best, job->mask);
        status = run_repaired(job, error);
        if (status != STATUS_OK || accuracy_drop(job) <= job->parameters.max_accuracy_drop) {
            job->best_reward = job->reward_best = front[i].parts.reward;
            return status;
        }
    }
    *broken = true;
    memset(job->best, 0, units);
    job_mask_from_bits(units, job->best, job->mask);
    return run_repaired(job, error);
}

enum status stage_evaluate(struct job *job, struct error *error) {
    bool broken = false;
    size_t small = 0;
    float *probe_logits = NULL;
    job->logits1 = mem_alloc(job->samples->count * job->info.classes, sizeof *job->logits1);
    if (job->logits1 == NULL) {
        return error_no_memory(error, "the repaired logits");
    }
    enum status status = keep_budget(job, &broken, error);
    if (status == STATUS_OK) {
        job_progress(job, 1, 3, "the suspects' triggers, once more");
        status = adversary_attack(job, job->best, job->fill, false, &small, error);
    }
    if (status == STATUS_OK && job->probe != NULL) {
        status = job_probe_logits(job, job->mask, job->fill, &probe_logits, error);
    }
    if (status == STATUS_OK) {
        job->trigger_remains = small > 0;
        job->verdict = job->exposure->bank_count == 0 ? VERDICT_NO_BACKDOOR_FOUND
                       : broken                       ? VERDICT_FAILED_BUDGET
                       : job->trigger_remains         ? VERDICT_REDUCED
                                                      : VERDICT_REMOVED;
        status = report_new(job, probe_logits, &job->report, error);
    }
    mem_free(probe_logits);
    return status;
}
