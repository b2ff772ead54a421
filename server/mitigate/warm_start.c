/* Greedy prefixes of rankings, and the random search they and PPO are compared with. */
#include "server/mitigate/warm_start.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "server/mitigate/affordable.h"
#include "server/mitigate/rankings.h"

/* A prefix grows by about a half each time; a ranking is left when so many prefixes in a row did not improve on its best. */
static const size_t prefixes[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 36, 54, 80, 120};
enum {
    PREFIXES = sizeof prefixes / sizeof prefixes[0],
    PATIENCE = 4,
    DEAR_STRIDE = 2 /* of the prefixes, of a network that is dear to run */
};
/* Of the units, at most this share is ever pruned by a prefix. */
static const double PREFIX_SHARE_MAX = 0.25;
/* Share of the reward that a round must bring for there to be another, and of a network that is dear to run. */
static const double ROUND_GAIN = 1e-3, DEAR_ROUND_GAIN = 0.1;

enum ranking { RANK_TAYLOR, RANK_TAYLOR_NET, RANK_CHANGE, RANK_LIPSCHITZ, RANK_COUNT };

struct ranked {
    double key;
    size_t unit;
};

static int by_falling_key(const void *a, const void *b) {
    const struct ranked *x = a, *y = b;
    if (x->key != y->key) {
        return x->key < y->key ? 1 : -1;
    }
    return x->unit < y->unit ? -1 : 1;
}

static double ranking_key(const struct job *job, const struct unit_effects *effects, enum ranking ranking, size_t u) {
    switch (ranking) {
    case RANK_TAYLOR:
        return (double)effects->taylor_trigger[u];
    case RANK_TAYLOR_NET: /* what it does to the trigger, less what it does to the clean task */
        return (double)effects->taylor_trigger[u] - fabs((double)effects->taylor_clean[u]);
    case RANK_CHANGE:
        return (double)effects->change[u];
    case RANK_LIPSCHITZ:
        return (double)job->graph->weight_features[u * WEIGHT_FEATURE_COUNT + WEIGHT_FEATURE_LIPSCHITZ];
    case RANK_COUNT:
        break;
    }
    return 0.0;
}

struct search_state {
    struct job *job;
    uint8_t *base;  /* (units) the prefixes are added to this */
    uint8_t *trial; /* (units) */
    uint8_t *best;  /* (units) the caller's */
    struct score_parts best_parts;
    struct ranked *ranked; /* (units) */
};

/* The trial mask: the base and so many of the ranked units. */
static void add_prefix(struct search_state *s, size_t count) {
    memcpy(s->trial, s->base, s->job->units->unit_count);
    for (size_t i = 0; i < count; i++) {
        s->trial[s->ranked[i].unit] = 1;
    }
}

/* Looks at the prefixes of one ranking on top of the base mask and scores the best. */
static enum status try_ranking(struct search_state *s, const struct unit_effects *effects, enum ranking ranking,
                               struct error *error) {
    const struct job *job = s->job;
    const size_t units = job->units->unit_count;
    size_t left = 0;
    const size_t stride = is_dear(job->macs) ? DEAR_STRIDE : 1;
    for (size_t u = 0; u < units; u++) {
        if (s->base[u] == 0) {
            s->ranked[left++] = (struct ranked){ranking_key(job, effects, ranking, u), u};
        }
    }
    qsort(s->ranked, left, sizeof *s->ranked, by_falling_key);
    double ranking_best = -INFINITY;
    size_t worse = 0, most = 0;
    for (size_t k = 0; k < PREFIXES && worse < PATIENCE; k += stride) {
        if (prefixes[k] > left || (double)prefixes[k] > PREFIX_SHARE_MAX * (double)units) {
            break;
        }
        add_prefix(s, prefixes[k]);
        struct score_parts parts;
        const enum status status = score_glance(job->score, s->trial, &parts, error);
        if (status != STATUS_OK) {
            return status;
        }
        worse++;
        if (parts.reward > ranking_best) {
            ranking_best = parts.reward;
            most = prefixes[k];
            worse = 0;
        }
    }
    add_prefix(s, most);
    struct score_parts parts;
    const enum status status = score_mask(job->score, s->trial, &parts, error);
    if (status == STATUS_OK && parts.reward > s->best_parts.reward) {
        s->best_parts = parts;
        memcpy(s->best, s->trial, units);
    }
    return status;
}

/* Rounds of all rankings from the best mask so far, until a round brings nothing. */
static enum status try_rounds(struct search_state *s, size_t rounds, struct error *error) {
    const size_t units = s->job->units->unit_count;
    const double least = is_dear(s->job->macs) ? DEAR_ROUND_GAIN : ROUND_GAIN;
    enum status status = score_mask(s->job->score, s->best, &s->best_parts, error);
    for (size_t round = 0; round < rounds && status == STATUS_OK; round++) {
        struct unit_effects *effects = NULL;
        float *mask = mem_alloc(units, sizeof *mask);
        if (mask == NULL) {
            return error_no_memory(error, "a mask");
        }
        const double before = s->best_parts.reward;
        memcpy(s->base, s->best, units);
        job_mask_from_bits(units, s->base, mask);
        status = unit_effects_new(s->job, mask, &effects, error);
        for (size_t r = 0; r < RANK_COUNT && status == STATUS_OK; r++) {
            if (round == 0 || r == RANK_TAYLOR || r == RANK_TAYLOR_NET) {
                status = try_ranking(s, effects, (enum ranking)r, error);
            }
        }
        if (s->job->effects0 == NULL && memchr(s->base, 1, units) == NULL) {
            s->job->effects0 = effects; /* the policy's features want them again */
        } else {
            unit_effects_free(effects);
        }
        mem_free(mask);
        if (s->best_parts.reward <= before + least * fabs(before)) {
            break;
        }
        s->job->best_reward = s->best_parts.reward;
        job_progress(s->job, round + 1, 40, "greedy");
    }
    return status;
}

enum status warm_start(struct job *job, size_t rounds, uint8_t *best, struct score_parts *parts, struct error *error) {
    const size_t units = job->units->unit_count;
    struct search_state s = {.job = job, .best = best};
    s.base = mem_alloc(units, 1);
    s.trial = mem_alloc(units, 1);
    s.ranked = mem_alloc(units, sizeof *s.ranked);
    enum status status = STATUS_OK;
    if (s.base == NULL || s.trial == NULL || s.ranked == NULL) {
        status = error_no_memory(error, "the warm start");
    } else {
        status = try_rounds(&s, rounds, error);
    }
    mem_free(s.base);
    mem_free(s.trial);
    mem_free(s.ranked);
    if (status == STATUS_OK) {
        *parts = s.best_parts;
    }
    return status;
}

/* Flips 1 to 6 bits: half of the flips un-prune a pruned unit (if there is one), half prune any unit. */
static void mutate(struct rng *rng, size_t units, uint8_t *bits) {
    const size_t flips = 1 + (size_t)rng_below(rng, 6);
    for (size_t i = 0; i < flips; i++) {
        size_t pruned = 0, u = 0;
        for (size_t k = 0; k < units; k++) {
            pruned += bits[k];
        }
        if (pruned > 0 && rng_below(rng, 2) == 0) {
            size_t pick = (size_t)rng_below(rng, pruned);
            for (u = 0; bits[u] == 0 || pick-- > 0; u++) {
            }
        } else {
            u = (size_t)rng_below(rng, units);
        }
        bits[u] ^= 1;
    }
}

enum status random_search(struct job *job, uint8_t *best, size_t evaluations, double *reward, struct error *error) {
    const size_t units = job->units->unit_count;
    struct rng rng = rng_stream(&job->rng, STREAM_RANDOM);
    uint8_t *trial = mem_alloc(units, 1);
    struct score_parts parts, best_parts;
    if (trial == NULL) {
        return error_no_memory(error, "the random search");
    }
    score_rival_begin(job->score);
    enum status status = score_mask(job->score, best, &best_parts, error);
    for (size_t i = 1; i < evaluations && status == STATUS_OK; i++) {
        memcpy(trial, best, units);
        mutate(&rng, units, trial);
        status = score_mask(job->score, trial, &parts, error);
        if (status == STATUS_OK && parts.reward > best_parts.reward) {
            best_parts = parts;
            memcpy(best, trial, units);
        }
        job_progress(job, 70 + 30 * i / evaluations, 100, "random search for comparison");
    }
    score_rival_end(job->score);
    mem_free(trial);
    if (status == STATUS_OK) {
        *reward = best_parts.reward;
    }
    return status;
}
