/* The reward function and the front of masks.
 *
 * The clean images are all but the locked ones, since masks are chosen among hundreds by what they cost there; the triggered ones are
 * of the score samples, on which no trigger was fitted.
 *
 * Most masks of a search are plainly worse than one that is known, and part of the images is enough to see it. So a mask is run
 * over a first block of images; if a mask on the front beats it there by more than chance explains, in a paired test image
 * by image, it is not run over the rest and its reward is estimated by the difference. */
#include "server/mitigate/mitigate_score.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "server/mitigate/affordable.h"
#include "server/mitigate/checkpoint.h"
#include "server/mitigate/score_block.h"
#include "server/nn/backend.h"

enum {
    FRONT_MAX = 48,
    TRIGGERED_MAX = 2,       /* triggered images of an evaluation, in units of the clean ones */
    EACH_MIN = 16,           /* images of each trigger, however many there are */
    FIRST_CLEAN = 12,        /* the first block has a twelfth of the clean images, */
    FIRST_TRIGGERED = 5,     /* and a fifth of the triggered ones */
    FIRST_MIN = 16,          /* clean images; with fewer than four times as many there is one block only */
    AFFORDABLE_MIN = 64,     /* clean images, and as many triggered ones, of a network that is dear to run */
    PREFIX_BYTES = 128 << 20 /* for activations that masks share, a block */
};
/* Standard errors of the mean difference beyond which a mask counts as beaten. Most masks are near ties, and which of those is the better
 * hardly matters: with 2 instead, PPO ends with no better reward (three networks) for a third more work. */
static const double BEATEN = 0.5;

enum { FIRST, REST, BLOCKS };

struct score {
    struct job *job;
    struct score_block blocks[BLOCKS]; /* REST may have no images */
    float *mask;                       /* (units) */
    void *record;                      /* what the checkpoint keeps of an evaluation */
    size_t evaluations;
    struct score_entry front[FRONT_MAX];
    float *front_kl[FRONT_MAX]; /* (images of the first block) as the ranking saw them */
    size_t front_count;
};

static size_t first_count(const struct score *s) {
    return s->blocks[FIRST].clean + s->blocks[FIRST].triggered;
}

static void entry_free(struct score *s, size_t i) {
    mem_free(s->front[i].bits);
    mem_free(s->front_kl[i]);
}

/* What is kept of an evaluation: whether it was beaten, its parts, and the first block's divergences behind them. */
struct record {
    uint64_t beaten;
    struct score_parts parts;
};

static size_t record_size(const struct score *s) {
    return sizeof(struct record) + first_count(s) * sizeof(float);
}

static float *record_kl(const struct score *s) {
    return (float *)((char *)s->record + sizeof(struct record));
}

static void free_blocks(struct score *s) {
    for (size_t b = 0; b < BLOCKS; b++) {
        score_block_free(&s->blocks[b]);
    }
    mem_free(s->record);
    s->record = NULL;
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
    const bool split = all >= 4 * FIRST_MIN;
    const size_t clean = !split ? all : all / FIRST_CLEAN > FIRST_MIN ? all / FIRST_CLEAN : FIRST_MIN;
    const size_t of_each = split ? (each + FIRST_TRIGGERED - 1) / FIRST_TRIGGERED : each;
    const struct score_range first = {0, clean, each, 0, of_each}, rest = {clean, all, each, of_each, each};
    free_blocks(s);
    enum status status = score_block_make(job, &first, PREFIX_BYTES, &s->blocks[FIRST], error);
    if (status == STATUS_OK && split) {
        status = score_block_make(job, &rest, PREFIX_BYTES, &s->blocks[REST], error);
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
    for (size_t i = 0; i < s->front_count; i++) {
        entry_free(s, i);
    }
    free_blocks(s);
    mem_free(s->mask);
    mem_free(s);
}

/* Inserts into the front, which stays sorted by falling reward; dominated entries go. An allocation failure only loses an entry. */
static void front_insert(struct score *s, const uint8_t *bits, const struct score_parts *parts, const float *kl) {
    const size_t units = s->job->units->unit_count;
    for (size_t i = 0; i < s->front_count; i++) {
        if (s->front[i].parts.reward >= parts->reward && s->front[i].parts.clean_kl <= parts->clean_kl) {
            return;
        }
    }
    uint8_t *copy = mem_dup(bits, units);
    float *kl_copy = mem_dup(kl, first_count(s) * sizeof *kl);
    if (copy == NULL || kl_copy == NULL) {
        mem_free(copy);
        mem_free(kl_copy);
        return;
    }
    size_t kept = 0, at = 0;
    for (size_t i = 0; i < s->front_count; i++) {
        if (s->front[i].parts.reward <= parts->reward && s->front[i].parts.clean_kl >= parts->clean_kl) {
            entry_free(s, i);
        } else {
            s->front_kl[kept] = s->front_kl[i];
            s->front[kept++] = s->front[i];
        }
    }
    if (kept == FRONT_MAX) {
        entry_free(s, --kept);
    }
    while (at < kept && s->front[at].parts.reward >= parts->reward) {
        at++;
    }
    memmove(&s->front[at + 1], &s->front[at], (kept - at) * sizeof s->front[0]);
    memmove(&s->front_kl[at + 1], &s->front_kl[at], (kept - at) * sizeof s->front_kl[0]);
    s->front[at] = (struct score_entry){*parts, copy};
    s->front_kl[at] = kl_copy;
    s->front_count = kept + 1;
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
    for (size_t b = 0; b < BLOCKS; b++) {
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

/* Mean and squared standard error of a - b. */
static void difference(const float *a, const float *b, size_t count, double *mean, double *error2) {
    double sum = 0.0, squares = 0.0;
    for (size_t i = 0; i < count; i++) {
        const double d = (double)a[i] - (double)b[i];
        sum += d;
        squares += d * d;
    }
    *mean = count > 0 ? sum / (double)count : 0.0;
    *error2 = count > 1 ? (squares - sum * *mean) / ((double)count * (double)(count - 1)) : 0.0;
}

/* Whether a mask on the front is better than one with these divergences on the first block, in reward beyond chance and in clean
 * KL (of a network that is dear to run, in reward alone: cheap masks of low reward are then not looked at closely); the beaten one's parts
 * are then that mask's plus the differences. */
static bool is_beaten(const struct score *s, const float *kl, struct score_parts *parts) {
    const struct score_block *first = &s->blocks[FIRST];
    const double weight = s->job->parameters.trigger_weight;
    const bool by_reward = is_dear(s->job->macs);
    for (size_t i = 0; i < s->front_count; i++) {
        double clean, clean_error2, triggered, triggered_error2;
        difference(kl, s->front_kl[i], first->clean, &clean, &clean_error2);
        difference(kl + first->clean, s->front_kl[i] + first->clean, first->triggered, &triggered, &triggered_error2);
        const double worse = clean + weight * triggered;
        if ((clean >= 0.0 || by_reward) && worse > 0.0 &&
            worse > BEATEN * sqrt(clean_error2 + weight * weight * triggered_error2)) {
            const struct score_parts *other = &s->front[i].parts;
            *parts =
                (struct score_parts){fmax(0.0, other->clean_kl + clean), fmax(0.0, other->trigger_kl + triggered), 0.0};
            parts->reward = other->reward - worse;
            return true;
        }
    }
    return false;
}

/* The first block, in the precision that this machine ranks in; then, unless it is beaten there, all in f32. */
static enum status evaluate(struct score *s, const float *mask, const float *fill, bool may_stop, struct record *record,
                            float *kl, struct error *error) {
    struct score_block *first = &s->blocks[FIRST], *rest = &s->blocks[REST];
    const bool ranks = may_stop && backend_ranks_in_bf16();
    enum status status = score_block_run(first, mask, fill, ranks, error);
    if (status != STATUS_OK) {
        return status;
    }
    memcpy(kl, first->kl, first_count(s) * sizeof *kl);
    record->beaten = may_stop && rest->clean > 0 && is_beaten(s, kl, &record->parts);
    if (record->beaten) {
        return STATUS_OK;
    }
    status = ranks ? score_block_run(first, mask, fill, false, error) : STATUS_OK;
    if (status == STATUS_OK && rest->clean > 0) {
        status = score_block_run(rest, mask, fill, false, error);
    }
    if (status == STATUS_OK) {
        record->parts = sum_up(s);
    }
    return status;
}

/* evaluate() by way of the checkpoint; the outcome is in s->record. */
static enum status recall_or_evaluate(struct score *s, const float *mask, const float *fill, bool may_stop,
                                      struct error *error) {
    struct checkpoint *checkpoint = s->job->checkpoint;
    char key[DIGEST_HEX_SIZE];
    if (checkpoint == NULL) {
        return evaluate(s, mask, fill, may_stop, s->record, record_kl(s), error);
    }
    const size_t what[] = {s->job->exposure->bank_count, may_stop};
    enum status status = job_key(s->job, what, sizeof what, mask, fill, key, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (checkpoint_recall(checkpoint, CHECKPOINT_SCORE, key, s->record, record_size(s))) {
        return STATUS_OK;
    }
    status = evaluate(s, mask, fill, may_stop, s->record, record_kl(s), error);
    if (status == STATUS_OK) {
        checkpoint_keep(checkpoint, CHECKPOINT_SCORE, key, s->record, record_size(s));
    }
    return status;
}

enum status score_repaired(struct score *s, const float *mask, const float *fill, struct score_parts *parts,
                           struct error *error) {
    const enum status status = recall_or_evaluate(s, mask, fill, false, error);
    if (status == STATUS_OK) {
        *parts = ((const struct record *)s->record)->parts;
    }
    return status;
}

enum status score_mask(struct score *s, const uint8_t *bits, struct score_parts *parts, struct error *error) {
    job_mask_from_bits(s->job->units->unit_count, bits, s->mask);
    const enum status status = recall_or_evaluate(s, s->mask, s->job->stats0->mean, true, error);
    if (status == STATUS_OK) {
        const struct record *record = s->record;
        *parts = record->parts;
        s->evaluations++;
        if (!record->beaten) {
            front_insert(s, bits, parts, record_kl(s));
        }
    }
    return status;
}

enum status score_refresh(struct score *s, struct error *error) {
    enum status status = make_blocks(s, error);
    struct score_entry old[FRONT_MAX];
    const size_t count = s->front_count;
    memcpy(old, s->front, count * sizeof old[0]);
    for (size_t i = 0; i < count; i++) {
        mem_free(s->front_kl[i]);
    }
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
