/* The reward function and the front of masks.
 *
 * The clean images are all but the locked ones, since masks are chosen among hundreds by what they cost there; the triggered ones are
 * of the score samples, on which no trigger was fitted.
 *
 * Most masks of a search are worse than one that is known, and part of the images is enough to see it. So a mask is run over block after
 * block of images; if after one of them a mask on the front beats it, in a paired test image by image, it is not run over the
 * rest and its reward is estimated by the difference. Estimates are on the front, too: what costs little on clean samples may be
 * wanted later, but need not be known to the last digit before. */
#include "server/mitigate/mitigate_score.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "server/mitigate/affordable.h"
#include "server/mitigate/checkpoint.h"
#include "server/mitigate/score_block.h"
#include "server/mitigate/score_front.h"
#include "server/nn/backend.h"

enum {
    TRIGGERED_MAX = 2, /* triggered images of an evaluation, in units of the clean ones */
    EACH_MIN = 16,     /* images of each trigger, however many there are */
    FIRST_MIN = 16,    /* clean images of the first block; with fewer than four times as many there is one block only */
    AFFORDABLE_MIN = 64,     /* clean images, and as many triggered ones, of a network that is dear to run */
    PREFIX_BYTES = 128 << 20 /* for activations that masks share, a block */
};
enum { FIRST, BLOCKS = 3 };
/* Share of the clean images, and of the triggered ones, that a mask has been run over after each block. */
static const double CLEAN_SHARES[BLOCKS] = {1.0 / 12.0, 1.0 / 3.0, 1.0}, TRIGGERED_SHARES[BLOCKS] = {0.2, 0.5, 1.0};

/* Standard errors of the mean difference up to which a mask is a near tie, and not beaten, after the first block; later only one that is ahead
 * goes on. Which of two near ties is the better hardly matters: with 2 instead, PPO ended with no better reward (three networks) for a
 * third more work. */
static const double NEAR_TIE = 0.5;

struct score {
    struct job *job;
    struct score_block blocks[BLOCKS];
    size_t block_count;
    float *mask;                 /* (units) */
    struct score_record *record; /* of the last evaluation */
    size_t evaluations;
    struct score_front front;
    struct score_front aside; /* while a rival searches: what was known before it */
    bool rival;
};

static size_t block_images(const struct score *s, size_t b) {
    return s->blocks[b].clean + s->blocks[b].triggered;
}

static size_t record_size(const struct score *s) {
    size_t images = 0;
    for (size_t b = 0; b + 1 < s->block_count; b++) {
        images += block_images(s, b);
    }
    return sizeof(struct score_record) + images * sizeof(float);
}

static void free_blocks(struct score *s) {
    for (size_t b = 0; b < s->block_count; b++) {
        score_block_free(&s->blocks[b]);
    }
    mem_free(s->record);
    s->record = NULL;
}

static size_t part_of(size_t count, double share, size_t least) {
    const size_t part = (size_t)ceil(share * (double)count);
    return part > least ? part : least;
}

/* A large bank is put on a part of the samples each, so that an evaluation costs at most 1 + TRIGGERED_MAX runs of the samples. */
static enum status make_blocks(struct score *s, struct error *error) {
    const struct job *job = s->job;
    const size_t samples = job->split->score_count, bank = job->exposure->bank_count;
    const size_t all = affordable(job->macs, job->build_and_score_count, AFFORDABLE_MIN);
    if (samples == 0) {
        return error_set(error, STATUS_INVALID, NULL, "failed to score masks: got no score samples, expected some");
    }
    const size_t room = TRIGGERED_MAX * samples,
                 triggered = all < job->build_and_score_count && all < room ? all : room;
    const size_t share = bank > 0 ? (triggered + bank - 1) / bank : samples,
                 least = EACH_MIN < samples ? EACH_MIN : samples;
    const size_t each = share < least ? least : share < samples ? share : samples;
    free_blocks(s);
    const size_t count = all >= 4 * FIRST_MIN ? BLOCKS : 1;
    s->block_count = count;
    struct score_range range = {.each = each};
    enum status status = STATUS_OK;
    for (size_t b = 0; b < count && status == STATUS_OK; b++) {
        range.clean_first = range.clean_end;
        range.each_first = range.each_end;
        range.clean_end = b + 1 == count ? all : part_of(all, CLEAN_SHARES[b], FIRST_MIN);
        range.each_end = b + 1 == count ? each : part_of(each, TRIGGERED_SHARES[b], 1);
        status = score_block_make(job, &range, PREFIX_BYTES, &s->blocks[b], error);
    }
    if (status == STATUS_OK) {
        s->record = mem_calloc(record_size(s), 1);
        status = s->record == NULL ? error_no_memory(error, "the score") : STATUS_OK;
    }
    return status;
}

enum status score_new(struct job *job, struct score **out, struct error *error) {
    struct score *s = mem_calloc(1, sizeof *s);
    if (s == NULL) {
        return error_no_memory(error, "the score");
    }
    s->job = job;
    s->mask = mem_alloc(job->units->unit_count, sizeof *s->mask);
    const enum status status = s->mask == NULL ? error_no_memory(error, "the score") : make_blocks(s, error);
    if (status != STATUS_OK) {
        score_free(s);
        return status;
    }
    *out = s;
    return STATUS_OK;
}

void score_free(struct score *s) {
    if (s == NULL) {
        return;
    }
    score_front_clear(&s->front);
    score_front_clear(&s->aside);
    free_blocks(s);
    mem_free(s->mask);
    mem_free(s);
}

/* The mean of so many divergences; 0 of none. */
static double mean_of(const float *kl, size_t count) {
    double sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)kl[i];
    }
    return count > 0 ? sum / (double)count : 0.0;
}

static double reward_of(const struct score *s, double clean_kl, double trigger_kl) {
    return -clean_kl - s->job->parameters.trigger_weight * trigger_kl;
}

/* The parts from what the blocks saw last. */
static struct score_parts sum_up(const struct score *s) {
    double clean = 0.0, triggered = 0.0;
    size_t clean_count = 0, triggered_count = 0;
    for (size_t b = 0; b < s->block_count; b++) {
        const struct score_block *block = &s->blocks[b];
        clean += mean_of(block->kl, block->clean) * (double)block->clean;
        clean_count += block->clean;
        triggered += mean_of(block->kl + block->clean, block->triggered) * (double)block->triggered;
        triggered_count += block->triggered;
    }
    struct score_parts parts = {.clean_kl = clean / (double)clean_count};
    parts.trigger_kl = triggered_count > 0 ? triggered / (double)triggered_count : 0.0;
    parts.reward = reward_of(s, parts.clean_kl, parts.trigger_kl);
    return parts;
}

/* Differences between two masks, image by image. */
struct differences {
    double count, sum, squares;
};

static void add_differences(struct differences *d, const float *a, const float *b, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const double x = (double)a[i] - (double)b[i];
        d->sum += x;
        d->squares += x * x;
    }
    d->count += (double)count;
}

static double mean_difference(const struct differences *d) {
    return d->count > 0.0 ? d->sum / d->count : 0.0;
}

/* Of the mean difference. */
static double squared_error(const struct differences *d) {
    return d->count > 1.0 ? (d->squares - d->sum * mean_difference(d)) / (d->count * (d->count - 1.0)) : 0.0;
}

/* What the mask of s->record, run over so many blocks, is expected to score: a known mask's parts plus the differences there.
 * *margin: by how much it is worse than that one in reward, in standard errors. */
static struct score_parts estimate(const struct score *s, const struct score_record *known, size_t blocks,
                                   double *margin) {
    const double weight = s->job->parameters.trigger_weight;
    struct differences clean = {0}, triggered = {0};
    const float *kl = s->record->kl, *known_kl = known->kl;
    for (size_t b = 0; b < blocks; b++) {
        const struct score_block *block = &s->blocks[b];
        add_differences(&clean, kl, known_kl, block->clean);
        add_differences(&triggered, kl + block->clean, known_kl + block->clean, block->triggered);
        kl += block_images(s, b);
        known_kl += block_images(s, b);
    }
    const double worse = mean_difference(&clean) + weight * mean_difference(&triggered);
    const double error = sqrt(squared_error(&clean) + weight * weight * squared_error(&triggered));
    *margin = worse > 0.0 ? worse / fmax(error, 1e-12) : 0.0;
    return (struct score_parts){fmax(0.0, known->parts.clean_kl + mean_difference(&clean)),
                                fmax(0.0, known->parts.trigger_kl + mean_difference(&triggered)),
                                known->parts.reward - worse};
}

/* Whether a mask on the front that was run as far is better in reward, beyond chance, than the one of s->record; then that gets its
 * estimate. */
static bool is_beaten(struct score *s, size_t blocks) {
    for (size_t i = 0; i < s->front.count; i++) {
        double margin;
        if (s->front.records[i]->blocks < blocks) {
            continue;
        }
        s->record->parts = estimate(s, s->front.records[i], blocks, &margin);
        if (margin > (blocks == 1 ? NEAR_TIE : 0.0)) {
            return true;
        }
    }
    return false;
}

/* How far a mask is run: over the first block alone; over the rest as well unless it is beaten; over all. */
enum effort { GLANCE, UNTIL_BEATEN, THOROUGH };

/* Whether the mask of s->record goes no further after so many blocks. */
static bool stops(struct score *s, size_t blocks, enum effort effort) {
    double margin;
    if (effort == THOROUGH || blocks == s->block_count || s->front.count == 0) {
        return false;
    }
    if (effort == GLANCE) {
        s->record->parts = estimate(s, s->front.records[0], blocks, &margin);
        return true;
    }
    return is_beaten(s, blocks);
}

/* Into s->record. The first block is run in the precision that this machine ranks in, and again if it comes to a sum. */
static enum status evaluate(struct score *s, const float *mask, const float *fill, enum effort effort,
                            struct error *error) {
    const bool ranks = effort != THOROUGH && backend_ranks_in_bf16();
    enum status status = STATUS_OK;
    float *kl = s->record->kl;
    for (size_t b = 0; b < s->block_count; b++) {
        status = score_block_run(&s->blocks[b], mask, fill, ranks && b == FIRST, error);
        if (status != STATUS_OK) {
            return status;
        }
        if (b + 1 < s->block_count) {
            memcpy(kl, s->blocks[b].kl, block_images(s, b) * sizeof *kl);
            kl += block_images(s, b);
        }
        s->record->blocks = b + 1;
        if (stops(s, b + 1, effort)) {
            return STATUS_OK;
        }
    }
    status = ranks ? score_block_run(&s->blocks[FIRST], mask, fill, false, error) : STATUS_OK;
    if (status == STATUS_OK) {
        s->record->parts = sum_up(s);
    }
    return status;
}

/* evaluate() by way of the checkpoint; the outcome is in s->record. */
static enum status recall_or_evaluate(struct score *s, const float *mask, const float *fill, enum effort effort,
                                      struct error *error) {
    struct checkpoint *checkpoint = s->job->checkpoint;
    char key[DIGEST_HEX_SIZE];
    if (checkpoint == NULL) {
        return evaluate(s, mask, fill, effort, error);
    }
    const size_t what[] = {s->job->exposure->bank_count, effort, s->rival};
    enum status status = job_key(s->job, what, sizeof what, mask, fill, key, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (checkpoint_recall(checkpoint, CHECKPOINT_SCORE, key, s->record, record_size(s))) {
        return STATUS_OK;
    }
    status = evaluate(s, mask, fill, effort, error);
    if (status == STATUS_OK) {
        checkpoint_keep(checkpoint, CHECKPOINT_SCORE, key, s->record, record_size(s));
    }
    return status;
}

enum status score_repaired(struct score *s, const float *mask, const float *fill, struct score_parts *parts,
                           struct error *error) {
    const enum status status = recall_or_evaluate(s, mask, fill, THOROUGH, error);
    if (status == STATUS_OK) {
        *parts = s->record->parts;
    }
    return status;
}

static enum status score_bits(struct score *s, const uint8_t *bits, enum effort effort, struct score_parts *parts,
                              struct error *error) {
    job_mask_from_bits(s->job->units->unit_count, bits, s->mask);
    const enum status status = recall_or_evaluate(s, s->mask, s->job->stats0->mean, effort, error);
    if (status == STATUS_OK) {
        *parts = s->record->parts;
        s->evaluations++;
        /* An estimate is never the best of the front, so that the best is known. */
        if (s->record->blocks == s->block_count || parts->reward < s->front.entries[0].parts.reward) {
            score_front_insert(&s->front, bits, s->job->units->unit_count, s->record, record_size(s));
        }
    }
    return status;
}

enum status score_mask(struct score *s, const uint8_t *bits, struct score_parts *parts, struct error *error) {
    return score_bits(s, bits, UNTIL_BEATEN, parts, error);
}

enum status score_glance(struct score *s, const uint8_t *bits, struct score_parts *parts, struct error *error) {
    return score_bits(s, bits, GLANCE, parts, error);
}

void score_rival_begin(struct score *s) {
    s->aside = s->front;
    s->front = (struct score_front){.count = 0};
    s->rival = true;
}

void score_rival_end(struct score *s) {
    struct score_front rival = s->front;
    s->front = s->aside;
    s->aside = (struct score_front){.count = 0};
    s->rival = false;
    for (size_t i = 0; i < rival.count; i++) {
        score_front_insert(&s->front, rival.entries[i].bits, s->job->units->unit_count, rival.records[i],
                           record_size(s));
    }
    score_front_clear(&rival);
}

enum status score_refresh(struct score *s, struct error *error) {
    struct score_front old = s->front;
    s->front = (struct score_front){.count = 0};
    enum status status = make_blocks(s, error);
    for (size_t i = 0; i < old.count && status == STATUS_OK; i++) {
        struct score_parts parts;
        status = score_mask(s, old.entries[i].bits, &parts, error);
    }
    score_front_clear(&old);
    return status;
}

size_t score_evaluations(const struct score *s) {
    return s->evaluations;
}

size_t score_front(const struct score *s, const struct score_entry **entries) {
    *entries = s->front.entries;
    return s->front.count;
}
