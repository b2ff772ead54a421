/* Adam on the gains of the kept units, by the gradient the engine gives for the mask: distillation from the network as it came, on build
 * samples or variants of them, and on the samples themselves with a trigger. */
#include "server/mitigate/retune.h"

#include <string.h>

#include "common/mem.h"
#include "server/data/augment.h"
#include "server/mitigate/affordable.h"
#include "server/mitigate/checkpoint.h"
#include "server/mitigate/mitigate_score.h"
#include "server/nn/loss.h"
#include "server/nn/optim.h"

/* Clean samples a step, and as many triggered ones; the least of a network that is dear to run. */
enum { BATCH = 32, AFFORDABLE_MIN = 16 };
/* A step's trigger is up to this much stronger than the one that was found. */
static const float STRENGTH_MAX = 1.3F;
static const float GAIN_MIN = 0.2F, GAIN_MAX = 2.0F;

struct tuning {
    const struct job *job;
    const struct retune_options *options;
    const struct trigger *trigger; /* of this step; NULL with an empty bank */
    float strength;
    size_t picked[BATCH]; /* of the build samples */
    float *inputs;        /* (clean, C, H, W): those, or variants of them */
    float *targets;       /* (clean, K): what the network as it came says of the inputs, softmax */
    size_t clean;         /* inputs of the batch; the picked samples with a trigger follow */
};

static void fill_input(void *user, size_t first, size_t n, float *x) {
    const struct tuning *t = user;
    const size_t floats = t->job->image_floats;
    for (size_t i = 0; i < n; i++) {
        const size_t row = first + i;
        if (row < t->clean) {
            memcpy(x + i * floats, t->inputs + row * floats, floats * sizeof *x);
        } else {
            const float *image = t->job->build_images + t->picked[row - t->clean] * floats;
            trigger_apply_at(t->trigger, &t->job->range, t->strength, image, x + i * floats);
        }
    }
}

static void distil(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    const struct tuning *t = user;
    const size_t classes = t->job->info.classes;
    for (size_t i = 0; i < n; i++) {
        const size_t row = first + i;
        const bool clean = row < t->clean;
        const double weight = clean ? t->options->clean_weight : t->job->parameters.trigger_weight;
        const float *target =
            clean ? t->targets + row * classes : t->job->p0 + t->job->split->build[t->picked[row - t->clean]] * classes;
        loss_kl(1, classes, target, logits + i * classes, (float)(weight / (double)t->clean), dlogits + i * classes);
    }
}

struct tuner {
    struct job *job;
    struct tuning tuning;
    struct rng rng;
    struct adam *adam;
    float *gains, *gradient; /* (units) */
    size_t *order;           /* build samples, reshuffled when used up */
    size_t next;
};

static void pick(struct tuner *t) {
    const struct job *job = t->job;
    const size_t build = job->split->build_count, batch = affordable(job->macs, BATCH, AFFORDABLE_MIN);
    t->tuning.clean = build < batch ? build : batch;
    for (size_t i = 0; i < t->tuning.clean; i++) {
        if (t->next == build) {
            rng_shuffle(&t->rng, t->order, build);
            t->next = 0;
        }
        t->tuning.picked[i] = t->order[t->next++];
    }
    const size_t bank = job->exposure->bank_count;
    t->tuning.trigger = bank > 0 ? job->exposure->bank[rng_below(&t->rng, bank)] : NULL;
    t->tuning.strength = rng_range(&t->rng, 1.0F, STRENGTH_MAX);
}

static void copy_picked(struct tuner *t) {
    const struct job *job = t->job;
    const size_t floats = job->image_floats, classes = job->info.classes;
    for (size_t i = 0; i < t->tuning.clean; i++) {
        const size_t sample = t->tuning.picked[i];
        memcpy(t->tuning.inputs + i * floats, job->build_images + sample * floats, floats * sizeof *t->tuning.inputs);
        memcpy(t->tuning.targets + i * classes, job->p0 + job->split->build[sample] * classes,
               classes * sizeof *t->tuning.targets);
    }
}

/* Weights are those that came whenever gains are tuned: without a mask, that is the original. */
static enum status vary_picked(struct tuner *t, struct error *error) {
    const struct job *job = t->job;
    const struct image_range *shape = &job->range;
    for (size_t i = 0; i < t->tuning.clean; i++) {
        augment_image(t->tuning.options->variants, shape->channels, shape->height, shape->width, &t->rng,
                      job->build_images + t->tuning.picked[i] * job->image_floats,
                      t->tuning.inputs + i * job->image_floats);
    }
    const struct engine_run run = {
        .count = t->tuning.clean, .input = t->tuning.inputs, .logits = t->tuning.targets, .cancel = job_cancel(job)};
    const enum status status = engine_run(job->forward, &run, error);
    if (status == STATUS_OK) {
        loss_softmax(t->tuning.clean, job->info.classes, t->tuning.targets, t->tuning.targets);
    }
    return status;
}

static bool has_variants(const struct retune_options *options) {
    return options->variants.moved || options->variants.mirrored;
}

static enum status step(struct tuner *t, const float *mask, const float *fill, struct error *error) {
    const struct job *job = t->job;
    pick(t);
    enum status status = STATUS_OK;
    if (!has_variants(t->tuning.options)) {
        copy_picked(t);
    } else if ((status = vary_picked(t, error)) != STATUS_OK) {
        return status;
    }
    const struct engine_run run = {.count = t->tuning.clean * (t->tuning.trigger != NULL ? 2 : 1),
                                   .user = &t->tuning,
                                   .fill_input = fill_input,
                                   .mask = t->gains,
                                   .fill = fill,
                                   .loss = distil,
                                   .mask_grad = t->gradient,
                                   .cancel = job_cancel(job)};
    status = engine_run(job->backward, &run, error);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t u = 0; u < job->units->unit_count; u++) {
        t->gradient[u] = mask[u] == 0.0F ? 0.0F : t->gradient[u];
    }
    adam_step(t->adam, t->gains, t->gradient);
    for (size_t u = 0; u < job->units->unit_count; u++) {
        const float g = t->gains[u];
        t->gains[u] = mask[u] == 0.0F ? 0.0F : g < GAIN_MIN ? GAIN_MIN : g > GAIN_MAX ? GAIN_MAX : g;
    }
    return STATUS_OK;
}

static enum status tuner_init(struct tuner *t, struct job *job, const float *mask, const struct retune_options *options,
                              struct error *error) {
    const size_t units = job->units->unit_count, build = job->split->build_count;
    const struct adam_options adam = {.learning_rate = 0.01F, .beta1 = 0.9F, .beta2 = 0.99F, .epsilon = 1e-8F};
    const struct rng base = rng_stream(&job->rng, STREAM_RETUNE);
    *t = (struct tuner){.job = job,
                        .tuning = {.job = job, .options = options},
                        .rng = rng_stream(&base, options->stream),
                        .next = build};
    t->gains = mem_dup(mask, units * sizeof *mask);
    t->gradient = mem_alloc(units, sizeof *t->gradient);
    t->order = mem_alloc(build, sizeof *t->order);
    t->tuning.inputs = mem_alloc(BATCH * job->image_floats, sizeof *t->tuning.inputs);
    t->tuning.targets = mem_alloc(BATCH * job->info.classes, sizeof *t->tuning.targets);
    if (t->gains == NULL || t->gradient == NULL || t->order == NULL || t->tuning.inputs == NULL ||
        t->tuning.targets == NULL) {
        return error_no_memory(error, "the retuning");
    }
    for (size_t i = 0; i < build; i++) {
        t->order[i] = i;
    }
    return adam_new(units, &adam, &t->adam, error);
}

static void tuner_deinit(struct tuner *t) {
    adam_free(t->adam);
    mem_free(t->gains);
    mem_free(t->gradient);
    mem_free(t->order);
    mem_free(t->tuning.inputs);
    mem_free(t->tuning.targets);
}

static double loss_of(const struct job *job, const struct score_parts *parts, double clean_weight) {
    return clean_weight * parts->clean_kl + job->parameters.trigger_weight * parts->trigger_kl;
}

/* t->gains after all steps: recalled, or computed. */
static enum status tune(struct tuner *t, const float *mask, const float *fill, struct error *error) {
    const struct retune_options *options = t->tuning.options;
    const size_t steps = options->steps;
    struct checkpoint *checkpoint = t->job->checkpoint;
    const size_t bytes = t->job->units->unit_count * sizeof *mask;
    const struct {
        uint64_t steps, stream, bank_count, moved, mirrored;
        double clean_weight;
    } what = {steps,
              options->stream,
              t->job->exposure->bank_count,
              options->variants.moved,
              options->variants.mirrored,
              options->clean_weight};
    char key[DIGEST_HEX_SIZE];
    enum status status = job_key(t->job, &what, sizeof what, mask, fill, key, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (checkpoint_recall(checkpoint, CHECKPOINT_RETUNE, key, t->gains, bytes)) {
        return STATUS_OK;
    }
    for (size_t i = 0; i < steps && status == STATUS_OK; i++) {
        /* The rate falls to a tenth, so that the last steps settle. */
        adam_set_learning_rate(t->adam, 0.01F * (1.0F - 0.9F * (float)i / (float)steps));
        status = step(t, mask, fill, error);
    }
    if (status == STATUS_OK) {
        checkpoint_keep(checkpoint, CHECKPOINT_RETUNE, key, t->gains, bytes);
    }
    return status;
}

enum status retune(struct job *job, float *mask, const float *fill, const struct retune_options *options,
                   struct error *error) {
    const double clean_weight = options->clean_weight;
    struct tuner t;
    struct score_parts before, after;
    enum status status = tuner_init(&t, job, mask, options, error);
    if (status == STATUS_OK) {
        status = tune(&t, mask, fill, error);
    }
    if (status == STATUS_OK) {
        status = score_repaired(job->score, mask, fill, &before, error);
    }
    if (status == STATUS_OK) {
        status = score_repaired(job->score, t.gains, fill, &after, error);
    }
    if (status == STATUS_OK) {
        const bool cleaner = after.clean_kl < before.clean_kl || !options->cleaner;
        const bool kept = cleaner && loss_of(job, &after, clean_weight) < loss_of(job, &before, clean_weight);
        if (kept) {
            memcpy(mask, t.gains, job->units->unit_count * sizeof *mask);
        }
        job_trace(job, json_pack("{s:s, s:f, s:b, s:f, s:f, s:f, s:f, s:b}", "event", "retune", "clean_weight",
                                 clean_weight, "variants", (int)has_variants(options), "reward_before", before.reward,
                                 "reward_after", after.reward, "clean_kl_before", before.clean_kl, "clean_kl_after",
                                 after.clean_kl, "kept", (int)kept));
    }
    tuner_deinit(&t);
    return status;
}
