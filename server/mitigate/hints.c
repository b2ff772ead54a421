/* Trial by pruning. The residual of a trigger is the best reward that greedy finds against it alone, as a share of the reward
 * without pruning: near 0 if a few units carry all of it, at no cost on clean samples. */
#include "server/mitigate/hints.h"

#include <math.h>

#include "common/mem.h"
#include "server/expose/anomaly.h"
#include "server/expose/bank.h"
#include "server/mitigate/mitigate_score.h"
#include "server/mitigate/warm_start.h"

enum {
    CONTROLS_MAX = 5,
    CONTROL_RUNGS = 4, /* steps of a control's trigger, in those of a rung */
    TRIAL_ROUNDS = 2   /* of greedy: what sits in few units goes at once */
};

/* The job's bank and score are this one trigger's meanwhile. Takes the trigger. */
static enum status residual_of(struct job *job, struct trigger *trigger, double *residual, struct error *error) {
    struct score_parts none, best;
    uint8_t *bits = mem_calloc(job->units->unit_count, 1);
    if (bits == NULL) {
        trigger_free(trigger);
        return error_no_memory(error, "a mask");
    }
    enum status status = exposure_add(job->exposure, trigger, error);
    if (status == STATUS_OK) {
        status = score_new(job, &job->score, error);
    }
    if (status == STATUS_OK) {
        status = score_mask(job->score, bits, &none, error);
    }
    if (status == STATUS_OK) {
        status = warm_start(job, TRIAL_ROUNDS, bits, &best, error);
    }
    if (status == STATUS_OK) {
        *residual = none.reward < 0.0 ? best.reward / none.reward : 1.0;
    }
    score_free(job->score);
    job->score = NULL;
    exposure_clear_bank(job->exposure);
    mem_free(bits);
    return status;
}

static bool is_hinted(const struct exposure *exposure, size_t target) {
    bool hinted = false;
    for (size_t i = 0; i < exposure->hint_count; i++) {
        hinted = hinted || exposure->hints[i]->target == target;
    }
    return hinted;
}

/* The residual of an ordinary trigger to `target`, as strong as the hint. */
static enum status control_residual(struct job *job, const struct trigger *hint, size_t target, double *residual,
                                    struct error *error) {
    const struct expose_options *options = &job->expose_options;
    const struct invert_data data = job_invert_data(job, NULL, NULL);
    const struct rng base = rng_stream(&job->rng, STREAM_HINTS), rng = rng_stream(&base, target);
    struct inversion *inversion = NULL;
    struct trigger *copy = NULL;
    enum status status =
        inversion_new(&data, hint->family, target, hint->scale, options->batch, &rng, &inversion, error);
    if (status == STATUS_OK) {
        status = inversion_advance(inversion, CONTROL_RUNGS * options->rung_steps, options->measure, error);
    }
    if (status == STATUS_OK) {
        status = trigger_copy(inversion_trigger(inversion), &copy, error);
    }
    inversion_free(inversion);
    return status == STATUS_OK ? residual_of(job, copy, residual, error) : status;
}

struct controls {
    size_t targets[CONTROLS_MAX], count;
    double residual[CONTROLS_MAX];
    size_t measured; /* the first ones are; the others wait until they are needed */
};

/* Evenly spread over the classes without a hint. */
static void choose_controls(const struct exposure *exposure, struct controls *controls) {
    size_t free_classes = 0, seen = 0;
    for (size_t t = 0; t < exposure->classes; t++) {
        free_classes += !is_hinted(exposure, t);
    }
    *controls = (struct controls){.count = free_classes < CONTROLS_MAX ? free_classes : CONTROLS_MAX};
    for (size_t t = 0, next = 0; t < exposure->classes && next < controls->count; t++) {
        if (!is_hinted(exposure, t) && seen++ >= next * free_classes / controls->count) {
            controls->targets[next++] = t;
        }
    }
}

/* Compares with one control after the other, until the median can no longer (or must) be so large that the hint stands out. */
static enum status stands_out(struct job *job, const struct trigger *hint, double residual, struct controls *controls,
                              bool *out, struct error *error) {
    size_t above = 0, below = 0;
    *out = false;
    for (size_t i = 0; i < controls->count && 2 * above <= controls->count && 2 * below < controls->count; i++) {
        if (i == controls->measured) {
            job_progress(job, i, 4 * controls->count, "patterns that reach a class, tried by pruning");
            const enum status status = control_residual(job, hint, controls->targets[i], &controls->residual[i], error);
            if (status != STATUS_OK) {
                return status;
            }
            controls->measured++;
        }
        const bool larger = residual <= job->expose_options.size_ratio * controls->residual[i];
        above += larger;
        below += !larger;
    }
    *out = 2 * above > controls->count;
    return STATUS_OK;
}

/* The hint's class becomes a suspect of its family. */
static enum status convict(struct job *job, const struct trigger *hint, struct error *error) {
    struct exposure_cell *cell = exposure_cell(job->exposure, hint->family, hint->target);
    struct trigger *copy = NULL;
    const enum status status = trigger_copy(hint, &copy, error);
    if (status == STATUS_OK) {
        trigger_free(cell->trigger);
        cell->trigger = copy;
        cell->success = hint->success;
        cell->suspect = true;
        cell->level = 0;
        cell->small_share = job->expose_options.size_ratio;
    }
    return status;
}

static enum status try_one(struct job *job, const struct trigger *hint, struct controls *controls, bool *suspect,
                           struct error *error) {
    struct trigger *copy = NULL;
    double residual = 1.0;
    enum status status = trigger_copy(hint, &copy, error);
    if (status == STATUS_OK) {
        status = residual_of(job, copy, &residual, error);
    }
    if (status == STATUS_OK) {
        status = stands_out(job, hint, residual, controls, suspect, error);
    }
    if (status == STATUS_OK && *suspect) {
        status = convict(job, hint, error);
    }
    if (status == STATUS_OK) {
        double scratch[CONTROLS_MAX] = {0.0};
        for (size_t i = 0; i < controls->measured; i++) {
            scratch[i] = controls->residual[i];
        }
        const double ordinary = controls->measured > 0 ? anomaly_median(scratch, controls->measured) : 0.0;
        json_t *trial = json_pack("{s:s, s:i, s:f, s:f, s:f, s:b}", "family", trigger_family_name(hint->family),
                                  "class", (int)hint->target, "success", hint->success, "residual", residual,
                                  "ordinary_residual", ordinary, "suspect", *suspect);
        json_array_append(job->trials, trial);
        job_trace(job, json_copy(trial));
    }
    return status;
}

/* Copies of those hints whose class is a suspect (all: of all hints) join the bank. */
static enum status bank_hints(struct job *job, bool all, struct error *error) {
    const struct exposure *exposure = job->exposure;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < exposure->hint_count && status == STATUS_OK; i++) {
        const struct trigger *hint = exposure->hints[i];
        struct trigger *copy = NULL;
        if (!all && !exposure_cell(exposure, hint->family, hint->target)->suspect) {
            continue;
        }
        status = trigger_copy(hint, &copy, error);
        if (status == STATUS_OK) {
            status = exposure_add(job->exposure, copy, error);
        }
    }
    return status;
}

enum status hints_try(struct job *job, struct error *error) {
    struct exposure *exposure = job->exposure;
    struct controls controls;
    bool any = false;
    enum status status = STATUS_OK;
    if (exposure->bank_count > 0 || exposure->hint_count == 0) {
        return STATUS_OK;
    }
    choose_controls(exposure, &controls);
    for (size_t i = 0; i < exposure->hint_count && status == STATUS_OK; i++) {
        bool suspect = false;
        status = try_one(job, exposure->hints[i], &controls, &suspect, error);
        any = any || suspect;
    }
    exposure->hardening = !any && job->parameters.harden;
    return status == STATUS_OK && (any || exposure->hardening) ? bank_hints(job, !any, error) : status;
}
