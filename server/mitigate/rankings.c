/* Taylor effects and activation changes of all units, from a few runs over the build samples. */
#include "server/mitigate/rankings.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "server/nn/loss.h"

enum { SAMPLES_MAX = 256 };

struct probe_run {
    const struct job *job;
    const struct trigger *trigger; /* NULL: clean */
    size_t count;
};

static void fill_input(void *user, size_t first, size_t n, float *x) {
    const struct probe_run *run = user;
    const size_t floats = run->job->image_floats;
    for (size_t i = 0; i < n; i++) {
        const float *clean = run->job->build_images + (first + i) * floats;
        if (run->trigger == NULL) {
            memcpy(x + i * floats, clean, floats * sizeof *x);
        } else {
            trigger_apply(run->trigger, &run->job->range, clean, x + i * floats);
        }
    }
}

static void kl_loss(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    const struct probe_run *run = user;
    const size_t classes = run->job->info.classes;
    for (size_t i = 0; i < n; i++) {
        const float *p0 = run->job->p0 + run->job->split->build[first + i] * classes;
        loss_kl(1, classes, p0, logits + i * classes, 1.0F / (float)run->count, dlogits + i * classes);
    }
}

static void label_loss(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    const struct probe_run *run = user;
    loss_cross_entropy(n, run->job->info.classes, logits, run->job->build_labels + first, 1.0F / (float)run->count,
                       dlogits);
}

/* effect[u] += weight * dL/dm_u */
static enum status add_taylor(struct probe_run *run, const float *mask, bool clean, float weight, float *gradient,
                              float *effect, struct error *error) {
    const struct job *job = run->job;
    const struct engine_run engine_run_ = {.count = run->count,
                                           .user = run,
                                           .fill_input = fill_input,
                                           .mask = mask,
                                           .fill = job->stats0->mean,
                                           .loss = clean ? label_loss : kl_loss,
                                           .mask_grad = gradient,
                                           .cancel = job_cancel(job)};
    const enum status status = engine_run(job->backward, &engine_run_, error);
    for (size_t u = 0; status == STATUS_OK && u < job->units->unit_count; u++) {
        effect[u] += weight * gradient[u];
    }
    return status;
}

static enum status add_change(struct probe_run *run, const float *mask, float weight, float *change,
                              struct error *error) {
    const struct job *job = run->job;
    struct unit_stats *stats = NULL;
    const enum status status = unit_stats_collect(job->forward, job->units, run->count, NULL, fill_input, run, mask,
                                                  job->stats0->mean, NULL, job_cancel(job), &stats, error);
    for (size_t u = 0; status == STATUS_OK && u < job->units->unit_count; u++) {
        const float deviation = job->stats0->deviation[u] + 1e-6F;
        change[u] += weight * fabsf(stats->mean[u] - job->stats0->mean[u]) / deviation;
    }
    unit_stats_free(stats);
    return status;
}

static enum status measure(struct job *job, const float *mask, struct unit_effects *effects, float *gradient,
                           struct error *error) {
    const struct exposure *exposure = job->exposure;
    struct probe_run run = {.job = job};
    run.count = job->split->build_count < SAMPLES_MAX ? job->split->build_count : SAMPLES_MAX;
    enum status status = add_taylor(&run, mask, true, 1.0F, gradient, effects->taylor_clean, error);
    for (size_t w = 0; w < exposure->bank_count && status == STATUS_OK; w++) {
        const float weight = 1.0F / (float)exposure->bank_count;
        run.trigger = exposure->bank[w];
        status = add_taylor(&run, mask, false, weight, gradient, effects->taylor_trigger, error);
        if (status == STATUS_OK) {
            status = add_change(&run, mask, weight, effects->change, error);
        }
    }
    return status;
}

enum status unit_effects_new(struct job *job, const float *mask, struct unit_effects **out, struct error *error) {
    const size_t units = job->units->unit_count;
    struct unit_effects *effects = mem_calloc(1, sizeof *effects);
    float *gradient = mem_alloc(units, sizeof *gradient);
    enum status status = STATUS_OK;
    if (effects != NULL) {
        effects->taylor_trigger = mem_calloc(units, sizeof(float));
        effects->taylor_clean = mem_calloc(units, sizeof(float));
        effects->change = mem_calloc(units, sizeof(float));
    }
    if (effects == NULL || gradient == NULL || effects->taylor_trigger == NULL || effects->taylor_clean == NULL ||
        effects->change == NULL) {
        status = error_no_memory(error, "the unit effects");
    } else {
        status = measure(job, mask, effects, gradient, error);
    }
    mem_free(gradient);
    if (status != STATUS_OK) {
        unit_effects_free(effects);
        return status;
    }
    *out = effects;
    return STATUS_OK;
}

void unit_effects_free(struct unit_effects *effects) {
    if (effects == NULL) {
        return;
    }
    mem_free(effects->taylor_trigger);
    mem_free(effects->taylor_clean);
    mem_free(effects->change);
    mem_free(effects);
}
