/* Taylor effects and activation changes of all units, from a few runs over the build samples. */
#include "server/mitigate/rankings.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "server/mitigate/affordable.h"
#include "server/nn/loss.h"

enum {
    SAMPLES_MAX = 256,
    AFFORDABLE_MIN = 96, /* of a network that is dear to run */
    SIGN_DRAWS = 3,      /* backward runs for the second order, of clean and of triggered samples each */
    EFFECT_TRIGGERS = 8, /* the runs of triggered samples, in those of so many triggers: for the effects, */
    GAIN_TRIGGERS = 2    /* and for the first order of the gains */
};

struct probe_run {
    const struct job *job;
    const struct trigger *trigger; /* NULL: clean */
    size_t first, count;           /* build samples: from this one on, beginning anew behind the last */
    struct rng signs;              /* never drawn from; a stream a sample */
};

static size_t run_length(const struct job *job) {
    const size_t samples = job->split->build_count < SAMPLES_MAX ? job->split->build_count : SAMPLES_MAX;
    return affordable(job->macs, samples, AFFORDABLE_MIN);
}

/* Samples of each trigger of the bank: all together take at most those of so many. */
static size_t share_of(const struct job *job, size_t most) {
    const size_t count = run_length(job), bank = job->exposure->bank_count;
    return bank > most ? (most * count + bank - 1) / bank : count;
}

static size_t sample_of(const struct probe_run *run, size_t i) {
    return (run->first + i) % run->job->split->build_count;
}

static void fill_input(void *user, size_t first, size_t n, float *x) {
    const struct probe_run *run = user;
    const size_t floats = run->job->image_floats;
    for (size_t i = 0; i < n; i++) {
        const float *clean = run->job->build_images + sample_of(run, first + i) * floats;
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
        const float *p0 = run->job->p0 + run->job->split->build[sample_of(run, first + i)] * classes;
        loss_kl(1, classes, p0, logits + i * classes, 1.0F / (float)run->count, dlogits + i * classes);
    }
}

static void label_loss(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    const struct probe_run *run = user;
    loss_cross_entropy(n, run->job->info.classes, logits, run->job->build_labels + first, 1.0F / (float)run->count,
                       dlogits);
}

/* +- log p_y / sqrt(count), y and the sign drawn for each sample. */
static void sign_loss(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    const struct probe_run *run = user;
    const size_t classes = run->job->info.classes;
    for (size_t i = 0; i < n; i++) {
        struct rng rng = rng_stream(&run->signs, first + i);
        const float *z = logits + i * classes;
        float *d = dlogits + i * classes;
        float sum = 0.0F, largest = z[0];
        for (size_t k = 1; k < classes; k++) {
            largest = fmaxf(largest, z[k]);
        }
        for (size_t k = 0; k < classes; k++) {
            d[k] = expf(z[k] - largest);
            sum += d[k];
        }
        const float at = rng_uniform(&rng) * sum;
        const float sign = (rng_below(&rng, 2) == 0 ? 1.0F : -1.0F) / sqrtf((float)run->count);
        size_t y = 0;
        for (float below = d[0]; y + 1 < classes && at >= below; below += d[y]) {
            y++;
        }
        for (size_t k = 0; k < classes; k++) {
            d[k] = sign * ((k == y ? 1.0F : 0.0F) - d[k] / sum);
        }
    }
}

typedef void loss_function(void *user, size_t first, size_t n, const float *logits, float *dlogits);

static struct engine_run gradient_run(struct probe_run *run, const float *mask, loss_function *loss, float *gradient) {
    const struct job *job = run->job;
    return (struct engine_run){.count = run->count,
                               .user = run,
                               .fill_input = fill_input,
                               .mask = mask,
                               .fill = job->stats0->mean,
                               .loss = loss,
                               .mask_grad = gradient,
                               .cancel = job_cancel(job)};
}

static enum status mask_gradient(struct probe_run *run, const float *mask, loss_function *loss, float *gradient,
                                 struct error *error) {
    const struct engine_run engine_run_ = gradient_run(run, mask, loss, gradient);
    return engine_run(run->job->backward, &engine_run_, error);
}

static void add(size_t count, float weight, const float *from, float *to) {
    for (size_t i = 0; i < count; i++) {
        to[i] += weight * from[i];
    }
}

/* effect[u] += weight * dL/dm_u */
static enum status add_taylor(struct probe_run *run, const float *mask, loss_function *loss, float weight,
                              float *gradient, float *effect, struct error *error) {
    const enum status status = mask_gradient(run, mask, loss, gradient, error);
    if (status == STATUS_OK) {
        add(run->job->units->unit_count, weight, gradient, effect);
    }
    return status;
}

/* What a trigger does, weighted: the gradient of the loss under it, and how far it moves the units' means, in their deviations. */
static enum status add_trigger_effects(struct probe_run *run, const float *mask, float weight, float *gradient,
                                       struct unit_effects *effects, struct error *error) {
    const struct job *job = run->job;
    const struct engine_run engine_run_ = gradient_run(run, mask, kl_loss, gradient);
    struct unit_stats *stats = NULL;
    const enum status status = unit_stats_collect(job->backward, job->units, &engine_run_, &stats, error);
    if (status == STATUS_OK) {
        add(job->units->unit_count, weight, gradient, effects->taylor_trigger);
        for (size_t u = 0; u < job->units->unit_count; u++) {
            const float deviation = job->stats0->deviation[u] + 1e-6F;
            effects->change[u] += weight * fabsf(stats->mean[u] - job->stats0->mean[u]) / deviation;
        }
    }
    unit_stats_free(stats);
    return status;
}

static enum status measure(struct job *job, const float *mask, struct unit_effects *effects, float *gradient,
                           struct error *error) {
    const struct exposure *exposure = job->exposure;
    struct probe_run run = {.job = job};
    run.count = run_length(job);
    enum status status = add_taylor(&run, mask, label_loss, 1.0F, gradient, effects->taylor_clean, error);
    run.count = share_of(job, EFFECT_TRIGGERS);
    for (size_t w = 0; w < exposure->bank_count && status == STATUS_OK; w++) {
        const float weight = 1.0F / (float)exposure->bank_count;
        run.trigger = exposure->bank[w];
        run.first = exposure->bank_count > EFFECT_TRIGGERS ? w * run.count : 0;
        status = add_trigger_effects(&run, mask, weight, gradient, effects, error);
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

/* second[u] += weight / 2 * estimate of the Fisher information of u, of one draw of signs. */
static enum status add_fisher(struct probe_run *run, const float *mask, float weight, float *gradient, float *second,
                              struct error *error) {
    const enum status status = mask_gradient(run, mask, sign_loss, gradient, error);
    for (size_t u = 0; status == STATUS_OK && u < run->job->units->unit_count; u++) {
        second[u] += 0.5F * weight * gradient[u] * gradient[u];
    }
    return status;
}

/* first[u] += trigger_weight * dL/dm of the triggers, each on its share of the samples. */
static enum status add_triggers(struct job *job, const float *mask, float *gradient, float *first,
                                struct error *error) {
    const size_t bank = job->exposure->bank_count, share = share_of(job, GAIN_TRIGGERS);
    const float weight = (float)job->parameters.trigger_weight / (float)bank;
    enum status status = STATUS_OK;
    for (size_t w = 0; w < bank && status == STATUS_OK; w++) {
        struct probe_run run = {.job = job, .trigger = job->exposure->bank[w], .first = w * share, .count = share};
        status = add_taylor(&run, mask, kl_loss, weight, gradient, first, error);
    }
    return status;
}

enum status unit_gains(struct job *job, const float *mask, float *first, float *second, struct error *error) {
    const size_t units = job->units->unit_count, bank = job->exposure->bank_count;
    const size_t draws = affordable(job->macs, SIGN_DRAWS, 1);
    const struct rng signs = rng_stream(&job->rng, STREAM_SIGNS);
    struct probe_run run = {.job = job, .count = run_length(job)};
    float *gradient = mem_alloc(units, sizeof *gradient);
    if (gradient == NULL) {
        return error_no_memory(error, "the unit gains");
    }
    memset(second, 0, units * sizeof *second);
    enum status status = mask_gradient(&run, mask, kl_loss, first, error);
    if (status == STATUS_OK) {
        status = add_triggers(job, mask, gradient, first, error);
    }
    for (size_t draw = 0; draw < draws && status == STATUS_OK; draw++) {
        run.trigger = NULL;
        run.signs = rng_stream(&signs, 2 * draw);
        status = add_fisher(&run, mask, 1.0F / (float)draws, gradient, second, error);
        if (status == STATUS_OK && bank > 0) {
            run.trigger = job->exposure->bank[draw % bank];
            run.signs = rng_stream(&signs, 2 * draw + 1);
            status =
                add_fisher(&run, mask, (float)job->parameters.trigger_weight / (float)draws, gradient, second, error);
        }
    }
    mem_free(gradient);
    return status;
}
