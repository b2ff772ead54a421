/* Stage 6: what makes up for the pruning. The fills of pruned units are estimated anew under the mask (units behind a pruned one see
 * other inputs than before), and the gains of the kept ones are retuned, with the adversary looking in between. */
#include <string.h>

#include "common/mem.h"
#include "server/mitigate/adversary.h"
#include "server/mitigate/affordable.h"
#include "server/mitigate/finetune.h"
#include "server/mitigate/job.h"
#include "server/mitigate/mitigate_score.h"
#include "server/mitigate/repair.h"
#include "server/mitigate/retune.h"
#include "server/mitigate/variants.h"
#include "server/nn/loss.h"

enum { ROUNDS = 3, SPARING_STREAM = 50, HARDENING_STREAM = 60, HARDENING_ROUNDS = 2 };
/* Weight of clean samples where a trigger still works and accuracy has hardly been spent: it is there to be spent. */
static const double HARDENING_WEIGHT = 0.25;
/* Of the steps of a retuning, what a network that is dear to run gets at least. */
static const double AFFORDABLE_STEPS = 2.0 / 3.0;
/* Nats a clean sample, and share of the accuracy budget: a repair that costs more of both is retuned once more, with this weight
 * of clean samples (by default three times that of triggered ones). So is one that costs very many nats: on samples that it was fitted to, the accuracy flatters. */
static const double DEAR_KL = 0.05, DEAR_SHARE = 0.5, VERY_DEAR_KL = 0.125, SPARING_WEIGHT = 1.5;

/* What a repair costs on the build and score samples: mean KL(p0 || p), and the share of samples it classifies right no more. */
struct cost {
    double kl, accuracy;
};

static void fetch_build_and_score(void *user, size_t first, size_t n, float *x) {
    const struct job *job = user;
    for (size_t i = 0; i < n; i++) {
        memcpy(x + i * job->image_floats, job->images + job->build_and_score[first + i] * job->image_floats,
               job->image_floats * sizeof *x);
    }
}

static enum status clean_cost(struct job *job, const float *mask, const float *fill, struct cost *cost,
                              struct error *error) {
    const size_t classes = job->info.classes, count = job->build_and_score_count;
    float *logits = mem_alloc(count * classes, sizeof *logits);
    if (logits == NULL) {
        return error_no_memory(error, "the repaired logits");
    }
    const struct engine_run run = {.count = count,
                                   .user = job,
                                   .fill_input = fetch_build_and_score,
                                   .mask = mask,
                                   .fill = fill,
                                   .logits = logits,
                                   .cancel = job_cancel(job)};
    const enum status status = engine_run(job->forward, &run, error);
    if (status == STATUS_OK) {
        double sum = 0.0, lost = 0.0;
        for (size_t i = 0; i < count; i++) {
            const size_t sample = job->build_and_score[i];
            const float *before = job->logits0 + sample * classes, *after = logits + i * classes;
            const size_t label = (size_t)job->samples->labels[sample];
            sum += loss_kl(1, classes, job->p0 + sample * classes, after, 0.0F, NULL);
            lost += loss_argmax(classes, before) == label ? 1.0 : 0.0;
            lost -= loss_argmax(classes, after) == label ? 1.0 : 0.0;
        }
        *cost = (struct cost){sum / (double)count, lost / (double)count};
    }
    mem_free(logits);
    return status;
}

/* The means of the units under the mask, if they serve better than those of the network as it came. */
static enum status refit_fill(struct job *job, struct error *error) {
    struct unit_stats *stats = NULL;
    struct cost before = {0}, after = {0};
    enum status status = clean_cost(job, job->mask, job->fill, &before, error);
    if (status == STATUS_OK) {
        const struct engine_run run = {.count = job->build_and_score_count,
                                       .user = job,
                                       .fill_input = fetch_build_and_score,
                                       .mask = job->mask,
                                       .fill = job->fill,
                                       .cancel = job_cancel(job)};
        status = unit_stats_collect(job->forward, job->units, &run, &stats, error);
    }
    if (status == STATUS_OK) {
        status = clean_cost(job, job->mask, stats->mean, &after, error);
    }
    if (status == STATUS_OK) {
        if (after.kl < before.kl) {
            memcpy(job->fill, stats->mean, job->units->unit_count * sizeof *job->fill);
        }
        job_trace(job, json_pack("{s:s, s:f, s:f}", "event", "refill", "clean_kl_before", before.kl, "clean_kl_after",
                                 after.kl));
    }
    unit_stats_free(stats);
    return status;
}

static size_t retune_steps(const struct job *job) {
    const size_t steps = (size_t)job->parameters.retune_steps;
    return affordable(job->macs, steps, (size_t)(AFFORDABLE_STEPS * (double)steps));
}

/* Retunes, lets the adversary look again, and goes on against what it finds. */
static enum status retune_rounds(struct job *job, size_t rounds, struct error *error) {
    const size_t steps = retune_steps(job);
    enum status status = STATUS_OK;
    for (size_t round = 0; round < rounds && steps > 0 && status == STATUS_OK; round++) {
        /* The second and third round start from gains that only a new trigger asks something of. */
        const struct retune_options options = {.steps = round == 0 ? steps : (steps + 1) / 2,
                                               .clean_weight = 1.0,
                                               .variants = job->natural,
                                               .stream = round};
        size_t found = 0;
        job_progress(job, round, rounds, "retuning the kept units");
        status = retune(job, job->mask, job->fill, &options, error);
        if (status != STATUS_OK || round + 1 == rounds) {
            break;
        }
        status = adversary_attack(job, job->mask, job->fill, true, true, &found, error);
        if (status != STATUS_OK || found == 0) {
            break;
        }
        status = score_refresh(job->score, error);
    }
    return status;
}

static bool is_cheap(const struct job *job, const struct cost *cost) {
    return cost->accuracy <= DEAR_SHARE * job->parameters.max_accuracy_drop;
}

static enum status costs_much(struct job *job, bool *much, struct error *error) {
    struct cost cost = {0};
    const enum status status = clean_cost(job, job->mask, job->fill, &cost, error);
    *much = status == STATUS_OK && (cost.kl > VERY_DEAR_KL || (cost.kl > DEAR_KL && !is_cheap(job, &cost)));
    return status;
}

/* Where many units had to go and accuracy went with them, it is worth more than the last bit of recovery. If it is still dear then, the
 * samples have given what they can, and variants of all kinds are next, natural or not. */
static enum status retune_sparingly(struct job *job, struct error *error) {
    const struct retune_options rounds[] = {
        {.steps = retune_steps(job),
         .clean_weight = SPARING_WEIGHT,
         .variants = job->natural,
         .stream = SPARING_STREAM},
        {.steps = retune_steps(job),
         .clean_weight = SPARING_WEIGHT,
         .variants = {.moved = true, .mirrored = true},
         .cleaner = true,
         .stream = SPARING_STREAM + 1},
    };
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof rounds / sizeof rounds[0] && rounds[i].steps > 0 && status == STATUS_OK; i++) {
        bool much = false;
        status = costs_much(job, &much, error);
        if (!much) {
            break;
        }
        status = retune(job, job->mask, job->fill, &rounds[i], error);
    }
    return status;
}

/* One retuning for the triggers' sake, undone if it costs more than half of the accuracy budget. *kept: it was not. */
static enum status harden_once(struct job *job, size_t round, bool *kept, struct error *error) {
    const size_t units = job->units->unit_count;
    const struct retune_options options = {.steps = retune_steps(job),
                                           .clean_weight = HARDENING_WEIGHT,
                                           .variants = job->natural,
                                           .stream = HARDENING_STREAM + round};
    struct cost cost = {0};
    float *before = mem_dup(job->mask, units * sizeof *before);
    *kept = false;
    if (before == NULL) {
        return error_no_memory(error, "the mask before hardening");
    }
    enum status status = retune(job, job->mask, job->fill, &options, error);
    if (status == STATUS_OK) {
        status = clean_cost(job, job->mask, job->fill, &cost, error);
    }
    *kept = status == STATUS_OK && is_cheap(job, &cost);
    if (!*kept) {
        memcpy(job->mask, before, units * sizeof *before);
    }
    mem_free(before);
    return status;
}

/* What the adversary still finds, after all that, in a network whose accuracy has hardly suffered. */
static enum status harden(struct job *job, struct error *error) {
    struct cost cost = {0};
    enum status status = clean_cost(job, job->mask, job->fill, &cost, error);
    bool goes_on = status == STATUS_OK && retune_steps(job) > 0 && is_cheap(job, &cost);
    for (size_t round = 0; round < HARDENING_ROUNDS && goes_on && status == STATUS_OK; round++) {
        size_t found = 0;
        status = adversary_attack(job, job->mask, job->fill, true, true, &found, error);
        if (status != STATUS_OK || found == 0) {
            break;
        }
        status = score_refresh(job->score, error);
        if (status == STATUS_OK) {
            status = harden_once(job, round, &goes_on, error);
        }
    }
    return status;
}

enum status repair_mask(struct job *job, const uint8_t *bits, size_t rounds, struct error *error) {
    const size_t units = job->units->unit_count;
    memcpy(job->fill, job->stats0->mean, units * sizeof *job->fill);
    job_mask_from_bits(units, bits, job->mask);
    if (job->exposure->bank_count == 0) {
        return STATUS_OK; /* nothing to repair */
    }
    enum status status = refit_fill(job, error);
    if (status == STATUS_OK) {
        status = retune_rounds(job, rounds, error);
    }
    if (status == STATUS_OK) {
        status = retune_sparingly(job, error);
    }
    return status == STATUS_OK && rounds > 1 ? harden(job, error) : status;
}

enum status stage_repair(struct job *job, struct error *error) {
    const size_t units = job->units->unit_count;
    job->mask = mem_alloc(units, sizeof *job->mask);
    job->fill = mem_alloc(units, sizeof *job->fill);
    if (job->mask == NULL || job->fill == NULL) {
        return error_no_memory(error, "the repaired mask");
    }
    const size_t rounds =
        job->parameters.adversary_rounds > 0 ? ROUNDS : 1; /* the adversary looks between two rounds */
    enum status status = job->exposure->bank_count > 0 ? variants_measure(job, error) : STATUS_OK;
    if (status == STATUS_OK) {
        status = repair_mask(job, job->best, rounds, error);
    }
    return status == STATUS_OK ? finetune_repaired(job, error) : status;
}
