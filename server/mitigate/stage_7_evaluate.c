/* Stage 7: what the repair did. The locked samples are used here and nowhere before; the probe only for its own figures. */
#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "server/mitigate/adversary.h"
#include "server/mitigate/job.h"
#include "server/mitigate/job_probe.h"
#include "server/mitigate/locked.h"
#include "server/mitigate/mitigate_score.h"
#include "server/mitigate/repair.h"
#include "server/mitigate/report.h"
#include "server/mitigate/retune.h"

enum { FRONT_TRIES = 5 };
static const double CHEAPER = 0.8; /* of the clean KL: what a mask must cost to be tried next */

static enum status run_repaired(struct job *job, struct error *error) {
    const struct engine_run run = {.count = job->samples->count,
                                   .input = job->images,
                                   .mask = job->mask,
                                   .fill = job->fill,
                                   .logits = job->logits1,
                                   .cancel = job_cancel(job)};
    return engine_run(job->forward, &run, error);
}

static double accuracy_drop(const struct job *job) {
    const size_t count = job->samples->count;
    const size_t hits = metrics_hits(count, job->info.classes, job->logits1, job->samples->labels);
    return job->accuracy0 - (double)hits / (double)count;
}

/* With nobody suspected, hardening may cost next to nothing. */
static double budget(const struct job *job) {
    static const double hardening_drop = 0.005;
    const double drop = job->parameters.max_accuracy_drop;
    return job->exposure->hardening ? fmin(drop, hardening_drop) : drop;
}

static double clean_kl_of(const struct score_entry *front, size_t count, const uint8_t *bits, size_t units) {
    for (size_t i = 0; i < count; i++) {
        if (memcmp(front[i].bits, bits, units) == 0) {
            return front[i].parts.clean_kl;
        }
    }
    return INFINITY;
}

/* The repaired network is retuned again with more and more weight on clean samples. *inside: it now keeps the budget. */
static enum status retune_for_accuracy(struct job *job, bool *inside, struct error *error) {
    static const double clean_weights[] = {2.0, 8.0};
    const size_t steps = (size_t)job->parameters.retune_steps;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sizeof clean_weights / sizeof clean_weights[0] && steps > 0 && !*inside; i++) {
        const struct retune_options options = {
            .steps = steps, .clean_weight = clean_weights[i], .variants = job->natural, .stream = 100 + i};
        status = retune(job, job->mask, job->fill, &options, error);
        if (status == STATUS_OK) {
            status = run_repaired(job, error);
        }
        if (status != STATUS_OK) {
            break;
        }
        *inside = accuracy_drop(job) <= budget(job);
    }
    return status;
}

/* Masks of the front that cost clearly less on clean samples than the one that broke the budget, best reward first, each
 * repaired as the chosen one was. *inside: one of them keeps the budget. */
static enum status try_front(struct job *job, bool *inside, struct error *error) {
    const size_t units = job->units->unit_count;
    const struct score_entry *front;
    const size_t count = score_front(job->score, &front);
    double bar = CHEAPER * clean_kl_of(front, count, job->best, units);
    enum status status = STATUS_OK;
    for (size_t i = 0, tries = 0; i < count && tries < FRONT_TRIES && !*inside && status == STATUS_OK; i++) {
        if (front[i].parts.clean_kl > bar) {
            continue;
        }
        tries++;
        bar = CHEAPER * front[i].parts.clean_kl;
        memcpy(job->best, front[i].bits, units);
        job_mask_from_bits(units, job->best, job->mask);
        struct score_parts parts; /* what the front says may be an estimate */
        status = score_repaired(job->score, job->mask, job->stats0->mean, &parts, error);
        if (status == STATUS_OK) {
            job->reward_best = parts.reward;
            status = repair_mask(job, job->best, 1, error);
        }
        if (status == STATUS_OK) {
            status = run_repaired(job, error);
        }
        *inside = status == STATUS_OK && accuracy_drop(job) <= budget(job);
        if (status == STATUS_OK && !*inside) {
            status = retune_for_accuracy(job, inside, error);
        }
    }
    return status;
}

/* If the chosen mask breaks the accuracy budget, it is retuned for accuracy; if that does not help, the best of the front that keeps it is
 * taken. *broken: none does. */
static enum status keep_budget(struct job *job, bool *broken, struct error *error) {
    bool inside = false;
    enum status status = run_repaired(job, error);
    *broken = false;
    if (status != STATUS_OK || accuracy_drop(job) <= budget(job)) {
        return status;
    }
    if (job->original !=
        NULL) { /* the fine-tuning is given up first: scores and retuning are of the weights as they came */
        snapshot_restore(job->original);
        status = run_repaired(job, error);
        if (status != STATUS_OK || accuracy_drop(job) <= job->parameters.max_accuracy_drop) {
            return status;
        }
    }
    status = retune_for_accuracy(job, &inside, error);
    if (status == STATUS_OK && !inside) {
        status = try_front(job, &inside, error);
    }
    *broken = status == STATUS_OK && !inside;
    return status;
}

/* Nothing is pruned after all. */
static enum status give_up(struct job *job, struct error *error) {
    const size_t units = job->units->unit_count;
    const struct locked_figures *locked = &job->locked;
    job_trace(job, json_pack("{s:s, s:f, s:i, s:i, s:i, s:f}", "event", "given_up", "drop", accuracy_drop(job),
                             "locked", (int)locked->count, "locked_right_before", (int)locked->hits_before,
                             "locked_right_after", (int)locked->hits_after, "locked_drop_at_least", locked->drop_low));
    memset(job->best, 0, units);
    job_mask_from_bits(units, job->best, job->mask);
    return run_repaired(job, error);
}

static enum verdict judge(const struct job *job, bool broken, size_t small, const struct locked_figures *locked) {
    if (job->exposure->bank_count == 0 || job->exposure->hardening) {
        return VERDICT_NO_BACKDOOR_FOUND;
    }
    if (broken) {
        return VERDICT_FAILED_BUDGET;
    }
    const bool obeyed = metrics_wilson(locked->obeyed, locked->triggered).low > ATTACK_REMOVED;
    return small > 0 || (obeyed && locked->triggered > 0) ? VERDICT_REDUCED : VERDICT_REMOVED;
}

enum status stage_evaluate(struct job *job, struct error *error) {
    bool broken = false;
    size_t small = 0;
    float *probe_logits = NULL;
    job->logits1 = mem_alloc(job->samples->count * job->info.classes, sizeof *job->logits1);
    if (job->logits1 == NULL) {
        return error_no_memory(error, "the repaired logits");
    }
    enum status status = keep_budget(job, &broken, error);
    if (status == STATUS_OK) {
        status = locked_measure(job, &job->locked, error);
    }
    if (status == STATUS_OK && (broken || job->locked.drop_low > budget(job))) {
        broken = true;
        status = give_up(job, error);
        if (status == STATUS_OK) {
            status = locked_measure(job, &job->locked, error);
        }
    }
    if (status == STATUS_OK) {
        job_progress(job, 1, 3, "the suspects' triggers, once more");
        status = adversary_attack(job, job->mask, job->fill, false, true, &small, error);
    }
    if (status == STATUS_OK && job->probe != NULL) {
        status = job_probe_logits(job, job->mask, job->fill, &probe_logits, error);
    }
    if (status == STATUS_OK) {
        job->verdict = judge(job, broken, small, &job->locked);
        status = report_new(job, probe_logits, &job->report, error);
    }
    mem_free(probe_logits);
    return status;
}
