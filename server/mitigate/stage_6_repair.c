/* Stage 6: the mask becomes weights: the fills of pruned units are estimated anew under the mask (units behind a pruned one see
 * other inputs than before), and the better of the old and new fills on the score samples is kept. */
#include <string.h>

#include "common/mem.h"
#include "server/mitigate/job.h"
#include "server/nn/loss.h"

/* Mean KL(p0 || p) over the build and score samples. */
static enum status clean_kl(struct job *job, const float *mask, const float *fill, double *kl, struct error *error) {
    const size_t classes = job->info.classes, count = job->build_and_score_count;
    float *logits = mem_alloc(job->samples->count * classes, sizeof *logits);
    if (logits == NULL) {
        return error_no_memory(error, "the repaired logits");
    }
    const struct engine_run run = {.count = job->samples->count,
                                   .input = job->images,
                                   .mask = mask,
                                   .fill = fill,
                                   .logits = logits,
                                   .cancel = job_cancel(job)};
    const enum status status = engine_run(job->forward, &run, error);
    if (status == STATUS_OK) {
        double sum = 0.0;
        for (size_t i = 0; i < count; i++) {
            const size_t row = job->build_and_score[i] * classes;
            sum += loss_kl(1, classes, job->p0 + row, logits + row, 0.0F, NULL);
        }
        *kl = sum / (double)count;
    }
    mem_free(logits);
    return status;
}

struct picked_fill {
    const struct job *job;
};

static void fetch_build_and_score(void *user, size_t first, size_t n, float *x) {
    const struct job *job = ((const struct picked_fill *)user)->job;
    for (size_t i = 0; i < n; i++) {
        memcpy(x + i * job->image_floats, job->images + job->build_and_score[first + i] * job->image_floats,
               job->image_floats * sizeof *x);
    }
}

enum status stage_repair(struct job *job, struct error *error) {
    const size_t units = job->units->unit_count;
    struct picked_fill picked = {job};
    struct unit_stats *stats = NULL;
    double old_kl = 0.0, new_kl = 0.0;
    job->mask = mem_alloc(units, sizeof *job->mask);
    job->fill = mem_dup(job->stats0->mean, units * sizeof *job->fill);
    if (job->mask == NULL || job->fill == NULL) {
        return error_no_memory(error, "the repaired mask");
    }
    job_mask_from_bits(units, job->best, job->mask);
    enum status status = clean_kl(job, job->mask, job->fill, &old_kl, error);
    if (status == STATUS_OK) {
        status = unit_stats_collect(job->forward, job->units, job->build_and_score_count, NULL, fetch_build_and_score,
                                    &picked, job->mask, job->fill, NULL, job_cancel(job), &stats, error);
    }
    if (status == STATUS_OK) {
        status = clean_kl(job, job->mask, stats->mean, &new_kl, error);
    }
    if (status == STATUS_OK) {
        if (new_kl < old_kl) {
            memcpy(job->fill, stats->mean, units * sizeof *job->fill);
        }
        job_trace(job, json_pack("{s:f, s:f}", "clean_kl_old_fill", old_kl, "clean_kl_new_fill", new_kl));
    }
    unit_stats_free(stats);
    return status;
}
