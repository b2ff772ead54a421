/* Steps of SGD over shuffled batches of the build samples. Augmentation is a shift by up to a sixteenth of the side, edges repeated:
 * nothing that would change what an image is of. */
#include "server/mitigate/finetune.h"

#include <string.h>

#include "common/mem.h"
#include "server/data/augment.h"
#include "server/nn/loss.h"
#include "server/nn/train.h"

enum { CHUNK = 16 };
static const float MOMENTUM = 0.9F, MAX_NORM = 5.0F;

struct picked {
    size_t sample; /* of the build samples */
    const struct trigger *trigger;
    long down, right;
};

struct tuner {
    struct job *job;
    const struct finetune_options *options;
    struct train *train;
    struct rng rng;
    struct picked *picked; /* (batch) */
    float *logits;         /* (batch, K) */
    float *shifted;        /* (batch, C, H, W): the shifted images, where a trigger is put on them */
    size_t *order;         /* build samples, reshuffled when used up */
    size_t next, clean, right;
};

static void fill_input(void *user, size_t first, size_t n, float *x) {
    struct tuner *t = user;
    const struct job *job = t->job;
    for (size_t i = 0; i < n; i++) {
        const struct picked *picked = &t->picked[first + i];
        const float *image = job->build_images + picked->sample * job->image_floats;
        float *out = x + i * job->image_floats, *between = t->shifted + (first + i) * job->image_floats;
        augment_move(job->range.channels, job->range.height, job->range.width, picked->down, picked->right, false,
                     image, picked->trigger == NULL ? out : between);
        if (picked->trigger != NULL) {
            trigger_apply(picked->trigger, &job->range, between, out);
        }
    }
}

static void take_loss(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    struct tuner *t = user;
    const struct job *job = t->job;
    const struct finetune_options *o = t->options;
    const size_t classes = job->info.classes;
    const float sign = (o->ascend ? -1.0F : 1.0F) / (float)o->batch;
    for (size_t i = 0; i < n; i++) {
        const size_t sample = t->picked[first + i].sample;
        const float *row = logits + i * classes, *p0 = job->p0 + job->split->build[sample] * classes;
        float *to = dlogits + i * classes;
        if (o->distil < 1.0) {
            loss_cross_entropy(1, classes, row, &job->build_labels[sample], sign * (float)(1.0 - o->distil), to);
        } else {
            memset(to, 0, classes * sizeof *to);
        }
        if (o->distil > 0.0) {
            /* KL's gradient is softmax(row) - p0. */
            float *p = t->logits + (first + i) * classes;
            loss_softmax(1, classes, row, p);
            for (size_t k = 0; k < classes; k++) {
                to[k] += sign * (float)o->distil * (p[k] - p0[k]);
            }
        }
        memcpy(t->logits + (first + i) * classes, row, classes * sizeof *row);
    }
}

static void pick_batch(struct tuner *t) {
    const struct finetune_options *o = t->options;
    const size_t build = t->job->split->build_count;
    const uint64_t down = t->job->range.height / 16, right = t->job->range.width / 16;
    for (size_t i = 0; i < o->batch; i++) {
        if (t->next == build) {
            rng_shuffle(&t->rng, t->order, build);
            t->next = 0;
        }
        struct picked *picked = &t->picked[i];
        *picked = (struct picked){.sample = t->order[t->next++]};
        if (!o->ascend) {
            picked->down = (long)rng_below(&t->rng, 2 * down + 1) - (long)down;
            picked->right = (long)rng_below(&t->rng, 2 * right + 1) - (long)right;
        }
        if (o->trigger_count > 0 && rng_uniform_double(&t->rng) < o->triggered) {
            picked->trigger = o->triggers[rng_below(&t->rng, o->trigger_count)];
        }
    }
}

static void count_right(struct tuner *t) {
    const size_t classes = t->job->info.classes;
    for (size_t i = 0; i < t->options->batch; i++) {
        if (t->picked[i].trigger == NULL) {
            const size_t label = (size_t)t->job->build_labels[t->picked[i].sample];
            t->clean++;
            t->right += loss_argmax(classes, t->logits + i * classes) == label;
        }
    }
}

static enum status steps(struct tuner *t, struct error *error) {
    const struct finetune_options *o = t->options;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < o->steps && status == STATUS_OK; i++) {
        pick_batch(t);
        job_progress(t->job, i, o->steps, o->message);
        const struct engine_run run = {.count = o->batch,
                                       .user = t,
                                       .fill_input = fill_input,
                                       .mask = o->mask,
                                       .fill = o->fill,
                                       .loss = take_loss,
                                       .cancel = job_cancel(t->job)};
        const double rate = o->ascend ? o->learning_rate : o->learning_rate * (1.0 - (double)i / (double)o->steps);
        status = train_step(t->train, &run, (float)rate, error);
        if (status != STATUS_OK) {
            break;
        }
        count_right(t);
        if (t->clean >= t->job->split->build_count) { /* a pass */
            if ((double)t->right <= o->stop_below * (double)t->clean) {
                break;
            }
            t->clean = t->right = 0;
        }
    }
    return status;
}

enum status finetune_run(struct job *job, const struct finetune_options *options, struct error *error) {
    const size_t build = job->split->build_count;
    const struct rng base = rng_stream(&job->rng, STREAM_FINETUNE);
    struct finetune_options o = *options;
    struct tuner t = {.job = job, .options = &o, .rng = rng_stream(&base, options->stream), .next = build};
    const struct train_options train = {.chunk = CHUNK,
                                        .batch_max = o.batch,
                                        .momentum = MOMENTUM,
                                        .weight_decay = (float)o.weight_decay,
                                        .max_norm = MAX_NORM,
                                        .batch_statistics = o.batch_statistics};
    if (o.steps == 0) {
        return STATUS_OK;
    }
    enum status status = STATUS_OK;
    if (job->original == NULL) {
        status = snapshot_new(job->network, &job->original, error);
    }
    t.picked = mem_alloc(o.batch, sizeof *t.picked);
    t.logits = mem_alloc(o.batch * job->info.classes, sizeof *t.logits);
    t.shifted = mem_alloc(o.batch * job->image_floats, sizeof *t.shifted);
    t.order = mem_alloc(build, sizeof *t.order);
    if (t.picked == NULL || t.logits == NULL || t.shifted == NULL || t.order == NULL) {
        status = error_no_memory(error, "the fine-tuning");
    }
    for (size_t i = 0; t.order != NULL && i < build; i++) {
        t.order[i] = i;
    }
    if (status == STATUS_OK) {
        status = train_new(job->masked, job->pool, &train, &t.train, error);
    }
    if (status == STATUS_OK) {
        status = steps(&t, error);
    }
    train_free(t.train);
    mem_free(t.picked);
    mem_free(t.logits);
    mem_free(t.shifted);
    mem_free(t.order);
    return status;
}

struct standing {
    double loss; /* clean KL + lambda mean KL under the bank, of the score samples, as the reward has it */
    size_t right;
};

/* How the network stands on the score samples now. Its weights may have changed: nothing is recalled from a checkpoint. */
static enum status stand(struct job *job, struct standing *standing, struct error *error) {
    const size_t samples = job->split->score_count, classes = job->info.classes, bank = job->exposure->bank_count;
    float *images = mem_alloc(samples * job->image_floats, sizeof *images);
    float *logits = mem_alloc(samples * classes, sizeof *logits);
    enum status status =
        images == NULL || logits == NULL ? error_no_memory(error, "the score of a fine-tuning") : STATUS_OK;
    *standing = (struct standing){0};
    for (size_t w = 0; w <= bank && status == STATUS_OK; w++) { /* 0: clean */
        for (size_t i = 0; i < samples; i++) {
            const float *clean = job->images + job->split->score[i] * job->image_floats;
            float *to = images + i * job->image_floats;
            if (w == 0) {
                memcpy(to, clean, job->image_floats * sizeof *to);
            } else {
                trigger_apply(job->exposure->bank[w - 1], &job->range, clean, to);
            }
        }
        const struct engine_run run = {.count = samples,
                                       .input = images,
                                       .mask = job->mask,
                                       .fill = job->fill,
                                       .logits = logits,
                                       .cancel = job_cancel(job)};
        status = engine_run(job->forward, &run, error);
        const double weight = w == 0 ? 1.0 : job->parameters.trigger_weight / (double)bank;
        for (size_t i = 0; i < samples && status == STATUS_OK; i++) {
            const size_t sample = job->split->score[i];
            const float *row = logits + i * classes;
            standing->loss +=
                weight / (double)samples * loss_kl(1, classes, job->p0 + sample * classes, row, 0.0F, NULL);
            standing->right += w == 0 && loss_argmax(classes, row) == (size_t)job->samples->labels[sample];
        }
    }
    mem_free(images);
    mem_free(logits);
    return status;
}

enum status finetune_repaired(struct job *job, struct error *error) {
    const struct finetune_options options = {.steps = (size_t)job->parameters.finetune_steps,
                                             .batch = 48,
                                             .learning_rate = 0.005,
                                             .weight_decay = 5e-4,
                                             .distil = 0.7,
                                             .triggered = 0.5,
                                             .stream = 0,
                                             .triggers = (const struct trigger *const *)job->exposure->bank,
                                             .trigger_count = job->exposure->bank_count,
                                             .mask = job->mask,
                                             .fill = job->fill,
                                             .message = "fine-tuning"};
    struct standing before, after;
    if (options.steps == 0 || options.trigger_count == 0) {
        return STATUS_OK;
    }
    enum status status = stand(job, &before, error);
    if (status == STATUS_OK) {
        status = finetune_run(job, &options, error);
    }
    if (status == STATUS_OK) {
        status = stand(job, &after, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    const bool kept = after.loss < before.loss && after.right >= before.right;
    if (!kept) {
        snapshot_restore(job->original);
    }
    job_trace(job,
              json_pack("{s:s, s:f, s:f, s:i, s:i, s:b}", "event", "finetune", "loss_before", before.loss, "loss_after",
                        after.loss, "right_before", (int)before.right, "right_after", (int)after.right, "kept", kept));
    return STATUS_OK;
}
