/* The reward function and the front of masks. */
#include "server/mitigate/mitigate_score.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "server/mitigate/checkpoint.h"
#include "server/nn/backend.h"
#include "server/nn/loss.h"
#include "server/nn/prefix_cache.h"

enum {
    FRONT_MAX = 48,
    TRIGGERED_MAX = 2,       /* triggered images of an evaluation, in units of the clean ones */
    EACH_MIN = 16,           /* images of each trigger, however many there are */
    PREFIX_BYTES = 256 << 20 /* for activations that masks share */
};

/* Nats. By how much bf16 may be wrong in a reward or a KL: 4 times what the first mask of a search shows (about 1e-3 on the
 * zoo's models), at least this. */
static const double SLACK_MIN = 0.01;

struct score {
    struct job *job;
    size_t samples;                /* score samples */
    size_t bank_count;             /* triggers in `images` */
    size_t each;                   /* samples that each trigger of the bank is put on */
    float *images;                 /* (samples + bank_count * each, C, H, W): clean, then each trigger's */
    float *p0;                     /* (samples + bank_count * each, K): what is wanted of each image */
    float *logits;                 /* like p0 */
    float *mask;                   /* (units) */
    struct prefix_cache *prefixes; /* over `images` */
    size_t evaluations;
    double slack; /* nats; 0 before the first mask */
    struct score_entry front[FRONT_MAX];
    size_t front_count;
};

static size_t image_count(const struct score *s) {
    return s->samples + s->bank_count * s->each;
}

/* A step through the samples that visits all before it repeats, and soon all classes, however the samples are ordered. */
static size_t stride_of(size_t samples) {
    size_t stride = samples * 5 / 8 + 1;
    for (;; stride++) {
        size_t a = stride, b = samples;
        while (b != 0) {
            const size_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1) {
            return stride;
        }
    }
}

/* One image: clean, or triggered by w, and what is wanted of it. */
static void make_image(struct score *s, size_t row, size_t sample, const struct trigger *trigger) {
    const struct job *job = s->job;
    const size_t floats = job->image_floats, classes = job->info.classes, index = job->split->score[sample];
    const float *clean = job->images + index * floats;
    if (trigger == NULL) {
        memcpy(s->images + row * floats, clean, floats * sizeof *clean);
    } else {
        trigger_apply(trigger, &job->range, clean, s->images + row * floats);
    }
    memcpy(s->p0 + row * classes, job->p0 + index * classes, classes * sizeof *s->p0);
}

/* A large bank is put on a part of the samples each, so that an evaluation costs at most 1 + TRIGGERED_MAX runs of the samples. */
static enum status make_images(struct score *s, struct error *error) {
    const struct job *job = s->job;
    const struct exposure *exposure = job->exposure;
    const size_t classes = job->info.classes;
    if (s->samples == 0) {
        return error_set(error, STATUS_INVALID, NULL, "failed to score masks: got no score samples, expected some");
    }
    s->bank_count = exposure->bank_count;
    s->each = s->samples;
    if (s->bank_count > TRIGGERED_MAX) {
        const size_t share = (TRIGGERED_MAX * s->samples + s->bank_count - 1) / s->bank_count;
        s->each = share < EACH_MIN ? (EACH_MIN < s->samples ? EACH_MIN : s->samples) : share;
    }
    prefix_cache_free(s->prefixes);
    s->prefixes = NULL;
    mem_free(s->images);
    mem_free(s->logits);
    mem_free(s->p0);
    s->images = mem_alloc(image_count(s) * job->image_floats, sizeof *s->images);
    s->logits = mem_alloc(image_count(s) * classes, sizeof *s->logits);
    s->p0 = mem_alloc(image_count(s) * classes, sizeof *s->p0);
    if (s->images == NULL || s->logits == NULL || s->p0 == NULL) {
        return error_no_memory(error, "the scoring images");
    }
    for (size_t i = 0; i < s->samples; i++) {
        make_image(s, i, i, NULL);
    }
    const size_t stride = stride_of(s->samples);
    for (size_t row = 0; row < s->bank_count * s->each; row++) {
        const size_t sample = s->each == s->samples ? row % s->samples : row * stride % s->samples;
        make_image(s, s->samples + row, sample, exposure->bank[row / s->each]);
    }
    return prefix_cache_new(job->forward, image_count(s), PREFIX_BYTES, &s->prefixes, error);
}

enum status score_new(struct job *job, struct score **out, struct error *error) {
    struct score *s = mem_calloc(1, sizeof *s);
    if (s == NULL) {
        return error_no_memory(error, "the score");
    }
    s->job = job;
    s->samples = job->split->score_count;
    s->mask = mem_alloc(job->units->unit_count, sizeof *s->mask);
    enum status status = STATUS_OK;
    if (s->mask == NULL) {
        status = error_no_memory(error, "the score");
        goto fail;
    }
    status = make_images(s, error);
    if (status != STATUS_OK) {
        goto fail;
    }
    *out = s;
    return STATUS_OK;
fail:
    score_free(s);
    return status;
}

void score_free(struct score *s) {
    if (s == NULL) {
        return;
    }
    for (size_t i = 0; i < s->front_count; i++) {
        mem_free(s->front[i].bits);
    }
    prefix_cache_free(s->prefixes);
    mem_free(s->images);
    mem_free(s->logits);
    mem_free(s->p0);
    mem_free(s->mask);
    mem_free(s);
}

/* Inserts into the front, which stays sorted by falling reward; dominated entries go. An allocation failure only loses an entry. */
static void front_insert(struct score *s, const uint8_t *bits, const struct score_parts *parts) {
    const size_t units = s->job->units->unit_count;
    for (size_t i = 0; i < s->front_count; i++) {
        if (s->front[i].parts.reward >= parts->reward && s->front[i].parts.clean_kl <= parts->clean_kl) {
            return;
        }
    }
    uint8_t *copy = mem_dup(bits, units);
    if (copy == NULL) {
        return;
    }
    size_t kept = 0, at = 0;
    for (size_t i = 0; i < s->front_count; i++) {
        if (s->front[i].parts.reward <= parts->reward && s->front[i].parts.clean_kl >= parts->clean_kl) {
            mem_free(s->front[i].bits);
        } else {
            s->front[kept++] = s->front[i];
        }
    }
    if (kept == FRONT_MAX) {
        mem_free(s->front[--kept].bits);
    }
    while (at < kept && s->front[at].parts.reward >= parts->reward) {
        at++;
    }
    memmove(&s->front[at + 1], &s->front[at], (kept - at) * sizeof s->front[0]);
    s->front[at] = (struct score_entry){*parts, copy};
    s->front_count = kept + 1;
}

/* rank: in bf16, if that is how this machine ranks. */
static enum status compute(struct score *s, const float *mask, const float *fill, bool rank, struct score_parts *parts,
                           struct error *error) {
    const struct job *job = s->job;
    const size_t classes = job->info.classes, triggered = s->bank_count * s->each;
    const struct engine_run run = {.count = s->samples + triggered,
                                   .input = s->images,
                                   .mask = mask,
                                   .fill = fill,
                                   .logits = s->logits,
                                   .rank = rank,
                                   .cancel = job_cancel(job)};
    const enum status status =
        rank ? engine_run(job->forward, &run, error) : prefix_cache_run(s->prefixes, &run, error);
    if (status != STATUS_OK) {
        return status;
    }
    parts->clean_kl = loss_kl(s->samples, classes, s->p0, s->logits, 0.0F, NULL) / (double)s->samples;
    parts->trigger_kl = 0.0;
    if (triggered > 0) {
        const size_t first = s->samples * classes;
        parts->trigger_kl =
            loss_kl(triggered, classes, s->p0 + first, s->logits + first, 0.0F, NULL) / (double)triggered;
    }
    parts->reward = -parts->clean_kl - job->parameters.trigger_weight * parts->trigger_kl;
    return STATUS_OK;
}

enum status score_repaired(struct score *s, const float *mask, const float *fill, struct score_parts *parts,
                           struct error *error) {
    struct checkpoint *checkpoint = s->job->checkpoint;
    const size_t bytes = s->job->units->unit_count * sizeof *mask;
    char key[DIGEST_HEX_SIZE];
    if (checkpoint == NULL) {
        return compute(s, mask, fill, false, parts, error);
    }
    struct digest *digest = digest_new();
    if (digest == NULL) {
        return error_no_memory(error, "a score's key");
    }
    digest_update(digest, &s->bank_count, sizeof s->bank_count);
    digest_update(digest, mask, bytes);
    digest_update(digest, fill, bytes);
    digest_finish(digest, key);
    digest_free(digest);
    if (checkpoint_recall(checkpoint, CHECKPOINT_SCORE, key, parts, sizeof *parts)) {
        return STATUS_OK;
    }
    const enum status status = compute(s, mask, fill, false, parts, error);
    if (status == STATUS_OK) {
        checkpoint_keep(checkpoint, CHECKPOINT_SCORE, key, parts, sizeof *parts);
    }
    return status;
}

/* Whether a mask on the front is better than this one by more than the error of bf16. */
static bool clearly_beaten(const struct score *s, const struct score_parts *ranked) {
    for (size_t i = 0; i < s->front_count; i++) {
        const struct score_parts *other = &s->front[i].parts;
        if (other->reward >= ranked->reward + s->slack && other->clean_kl <= ranked->clean_kl - s->slack) {
            return true;
        }
    }
    return false;
}

/* The first mask of a search is scored both ways: how far bf16 is off here. */
static void measure_slack(struct score *s, const struct score_parts *ranked, const struct score_parts *exact) {
    const double off = 4.0 * fmax(fabs(ranked->reward - exact->reward), fabs(ranked->clean_kl - exact->clean_kl));
    s->slack = fmax(off, SLACK_MIN);
}

/* Where masks are ranked in bf16, one that is clearly beaten keeps that score: it enters no front and, its reward being below
 * that of a mask scored in f32, wins against nothing that matters. All others are scored in f32. */
enum status score_mask(struct score *s, const uint8_t *bits, struct score_parts *parts, struct error *error) {
    const bool ranks = backend_ranks_in_bf16();
    const float *fill = s->job->stats0->mean;
    struct score_parts ranked = {0};
    enum status status = STATUS_OK;

    job_mask_from_bits(s->job->units->unit_count, bits, s->mask);
    if (ranks) {
        status = compute(s, s->mask, fill, true, &ranked, error);
        if (status == STATUS_OK && s->slack > 0.0 && clearly_beaten(s, &ranked)) {
            *parts = ranked;
            s->evaluations++;
            return STATUS_OK;
        }
    }
    if (status == STATUS_OK) {
        status = score_repaired(s, s->mask, fill, parts, error);
    }
    if (status == STATUS_OK) {
        if (ranks && s->slack <= 0.0) {
            measure_slack(s, &ranked, parts);
        }
        s->evaluations++;
        front_insert(s, bits, parts);
    }
    return status;
}

enum status score_refresh(struct score *s, struct error *error) {
    enum status status = make_images(s, error);
    struct score_entry old[FRONT_MAX];
    const size_t count = s->front_count;
    memcpy(old, s->front, count * sizeof old[0]);
    s->front_count = 0;
    for (size_t i = 0; i < count; i++) {
        struct score_parts parts;
        if (status == STATUS_OK) {
            status = score_mask(s, old[i].bits, &parts, error);
        }
        mem_free(old[i].bits);
    }
    return status;
}

size_t score_evaluations(const struct score *s) {
    return s->evaluations;
}

size_t score_front(const struct score *s, const struct score_entry **entries) {
    *entries = s->front;
    return s->front_count;
}
