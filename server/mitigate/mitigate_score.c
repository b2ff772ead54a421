/* The reward function and the front of masks. */
#include "server/mitigate/mitigate_score.h"

#include <string.h>

#include "common/mem.h"
#include "server/mitigate/checkpoint.h"
#include "server/nn/loss.h"
#include "server/nn/prefix_cache.h"

enum {
    FRONT_MAX = 48,
    PREFIX_BYTES = 256 << 20 /* for activations that masks share */
};

struct score {
    struct job *job;
    size_t samples;                /* score samples */
    size_t bank_count;             /* triggers in `images` */
    float *images;                 /* ((1 + bank_count) * samples, C, H, W): clean, then each trigger's */
    float *p0;                     /* (samples, K) */
    float *logits;                 /* ((1 + bank_count) * samples, K) */
    float *mask;                   /* (units) */
    struct prefix_cache *prefixes; /* over `images` */
    size_t evaluations;
    struct score_entry front[FRONT_MAX];
    size_t front_count;
};

static enum status make_images(struct score *s, struct error *error) {
    const struct job *job = s->job;
    const struct exposure *exposure = job->exposure;
    const size_t floats = job->image_floats, groups = 1 + exposure->bank_count, classes = job->info.classes;
    prefix_cache_free(s->prefixes);
    s->prefixes = NULL;
    mem_free(s->images);
    mem_free(s->logits);
    s->images = mem_alloc(groups * s->samples * floats, sizeof *s->images);
    s->logits = mem_alloc(groups * s->samples * classes, sizeof *s->logits);
    if (s->images == NULL || s->logits == NULL) {
        return error_no_memory(error, "the scoring images");
    }
    for (size_t i = 0; i < s->samples; i++) {
        const float *clean = job->images + job->split->score[i] * floats;
        memcpy(s->images + i * floats, clean, floats * sizeof *clean);
        for (size_t w = 0; w < exposure->bank_count; w++) {
            trigger_apply(exposure->bank[w], &job->range, clean, s->images + ((1 + w) * s->samples + i) * floats);
        }
    }
    s->bank_count = exposure->bank_count;
    return prefix_cache_new(job->forward, groups * s->samples, PREFIX_BYTES, &s->prefixes, error);
}

enum status score_new(struct job *job, struct score **out, struct error *error) {
    const size_t classes = job->info.classes;
    struct score *s = mem_calloc(1, sizeof *s);
    if (s == NULL) {
        return error_no_memory(error, "the score");
    }
    s->job = job;
    s->samples = job->split->score_count;
    s->p0 = mem_alloc(s->samples * classes, sizeof *s->p0);
    s->mask = mem_alloc(job->units->unit_count, sizeof *s->mask);
    enum status status = STATUS_OK;
    if (s->p0 == NULL || s->mask == NULL) {
        status = error_no_memory(error, "the score");
        goto fail;
    }
    for (size_t i = 0; i < s->samples; i++) {
        memcpy(s->p0 + i * classes, job->p0 + job->split->score[i] * classes, classes * sizeof *s->p0);
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

static enum status compute(struct score *s, const float *mask, const float *fill, struct score_parts *parts,
                           struct error *error) {
    const struct job *job = s->job;
    const size_t classes = job->info.classes, groups = 1 + s->bank_count;
    const struct engine_run run = {.count = groups * s->samples,
                                   .input = s->images,
                                   .mask = mask,
                                   .fill = fill,
                                   .logits = s->logits,
                                   .cancel = job_cancel(job)};
    const enum status status = prefix_cache_run(s->prefixes, &run, error);
    if (status != STATUS_OK) {
        return status;
    }
    parts->clean_kl = loss_kl(s->samples, classes, s->p0, s->logits, 0.0F, NULL) / (double)s->samples;
    parts->trigger_kl = 0.0;
    for (size_t w = 0; w < s->bank_count; w++) {
        const float *logits = s->logits + (1 + w) * s->samples * classes;
        parts->trigger_kl +=
            loss_kl(s->samples, classes, s->p0, logits, 0.0F, NULL) / ((double)s->samples * (double)s->bank_count);
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
        return compute(s, mask, fill, parts, error);
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
    const enum status status = compute(s, mask, fill, parts, error);
    if (status == STATUS_OK) {
        checkpoint_keep(checkpoint, CHECKPOINT_SCORE, key, parts, sizeof *parts);
    }
    return status;
}

enum status score_mask(struct score *s, const uint8_t *bits, struct score_parts *parts, struct error *error) {
    job_mask_from_bits(s->job->units->unit_count, bits, s->mask);
    const enum status status = score_repaired(s, s->mask, s->job->stats0->mean, parts, error);
    if (status == STATUS_OK) {
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
