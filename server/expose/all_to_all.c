/* Untargeted inversion, then inversion to the classes it led to.
 *
 * A clean network, too, can be made to leave its labels by one small pattern (a universal perturbation, Moosavi-Dezfooli et al. 2017), but
 * then nearly all samples end in a few dominant classes. A pattern that permutes the classes was learnt. */
#include "server/expose/all_to_all.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "server/expose/bank.h"
#include "server/nn/loss.h"

enum {
    SAMPLES = 128,
    STARTS = 3,      /* one random start in twelve on a network with such a backdoor collapses into a few classes */
    LEAVE_RUNGS = 3, /* steps of a start, in those of a rung */
    EXTRA_ROUNDS =
        3 /* for a trigger that half works by then: a permutation of classes takes longer to learn than one class */
};
static const double PROMISING = 0.5;
/* Of the classes, those that must be some class's goal for a map to be a permutation rather than a collapse: a collapse has its class and the one
 * that this class goes to. */
static const double DISTINCT_SHARE = 0.5;
enum { DISTINCT_MIN = 3 };
/* Of a class's samples that left it, the share that must agree on where to, on average, for the map to be followed up. */
static const double AGREEMENT = 0.5;
static const double SUCCESS = 0.6;

/* Advances an inversion, which it frees; the trigger it came to is the caller's. */
static enum status advance(struct inversion *inversion, size_t steps, size_t limit, struct trigger **out,
                           struct error *error) {
    enum status status = inversion_advance(inversion, steps, limit, error);
    if (status == STATUS_OK) {
        status = trigger_copy(inversion_trigger(inversion), out, error);
    }
    inversion_free(inversion);
    return status;
}

/* counts (classes, classes): samples taken for class y that the trigger sends to k. */
static enum status count_moves(const struct invert_data *data, const struct trigger *trigger, size_t *counts,
                               struct error *error) {
    const size_t classes = data->classes;
    size_t *picked = mem_alloc(data->count, sizeof *picked), count = 0;
    float *logits = mem_alloc(SAMPLES * classes, sizeof *logits);
    enum status status = STATUS_OK;
    memset(counts, 0, classes * classes * sizeof *counts);
    if (picked == NULL || logits == NULL) {
        status = error_no_memory(error, "the moves between classes");
    } else {
        status = invert_logits(data, trigger, SAMPLES, picked, logits, &count, error);
    }
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        const size_t label = (size_t)invert_class_of(data, trigger, picked[i]);
        counts[label * classes + loss_argmax(classes, logits + i * classes)]++;
    }
    mem_free(picked);
    mem_free(logits);
    return status;
}

bool all_to_all_read(size_t classes, const size_t *counts, int32_t *map) {
    double agreement = 0.0;
    size_t moved = 0, distinct = 0;
    for (size_t y = 0; y < classes; y++) {
        size_t best = y == 0 ? 1 : 0, left = 0;
        for (size_t k = 0; k < classes; k++) {
            if (k != y) {
                left += counts[y * classes + k];
                best = counts[y * classes + k] > counts[y * classes + best] ? k : best;
            }
        }
        map[y] = TRIGGER_AWAY;
        if (left > 0) {
            map[y] = (int32_t)best;
            agreement += (double)counts[y * classes + best] / (double)left;
            moved++;
        }
    }
    for (size_t k = 0; k < classes; k++) {
        bool reached = false;
        for (size_t y = 0; y < classes; y++) {
            reached = reached || map[y] == (int32_t)k;
        }
        distinct += reached;
    }
    return moved > 0 && 2 * moved >= classes && agreement >= AGREEMENT * (double)moved &&
           distinct >= (classes < DISTINCT_MIN ? classes : DISTINCT_MIN) &&
           (double)distinct >= DISTINCT_SHARE * (double)classes;
}

/* One untargeted start. A fixed family's is its best entry. */
static enum status leave(const struct invert_data *data, const struct expose_options *options,
                         enum trigger_family family, const struct rng *rng, int32_t *map, struct trigger **out,
                         struct error *error) {
    struct inversion *inversion = NULL;
    for (size_t y = 0; y < data->classes; y++) {
        map[y] = TRIGGER_AWAY;
    }
    enum status status = inversion_new_mapped(data, family, map, 1.0, options->batch, rng, &inversion, error);
    return status == STATUS_OK ? advance(inversion, LEAVE_RUNGS * options->rung_steps, options->glance, out, error)
                               : status;
}

/* Starts until one leads to a map worth following: *away (the caller's), map and *found. counts (classes, classes) is scratch. */
static enum status find_start(const struct invert_data *data, const struct expose_options *options,
                              enum trigger_family family, const struct rng *rng, size_t *counts, int32_t *map,
                              struct trigger **away, bool *found, struct error *error) {
    /* A bounded trigger starts near nothing, so that another start is hardly another one. */
    const size_t starts = trigger_is_fixed(family) || trigger_is_bounded(family) ? 1 : STARTS;
    enum status status = STATUS_OK;
    *found = false;
    for (size_t i = 0; i < starts && !*found && status == STATUS_OK; i++) {
        const struct rng own = rng_stream(rng, i);
        trigger_free(*away);
        *away = NULL;
        status = leave(data, options, family, &own, map, away, error);
        if (status == STATUS_OK) {
            status = count_moves(data, *away, counts, error);
        }
        *found = status == STATUS_OK && all_to_all_read(data->classes, counts, map);
    }
    return status;
}

enum status all_to_all_expose(const struct invert_data *data, const struct expose_options *options,
                              enum trigger_family family, const struct rng *rng, struct exposure *exposure,
                              struct error *error) {
    const size_t classes = data->classes;
    struct exposure_cell *cell = exposure_cell(exposure, family, classes);
    const struct rng own = rng_stream(rng, ((uint64_t)1 << 40) + (uint64_t)family);
    struct trigger *away = NULL;
    int32_t *map = mem_alloc(classes, sizeof *map);
    size_t *counts = mem_alloc(classes * classes, sizeof *counts);
    bool found = false;
    enum status status = STATUS_OK;
    if (map == NULL || counts == NULL) {
        status = error_no_memory(error, "the all-to-all trigger");
        goto done;
    }
    status = find_start(data, options, family, &own, counts, map, &away, &found, error);
    for (size_t round = 0; found && round < options->rungs + EXTRA_ROUNDS && status == STATUS_OK; round++) {
        if (round >= options->rungs && cell->success < PROMISING) {
            break;
        }
        if (round > 0) {
            status = count_moves(data, away, counts, error);
            if (status != STATUS_OK || !all_to_all_read(classes, counts, map)) {
                break;
            }
        }
        const size_t steps = options->rung_steps * (round < options->rungs ? 1 : 2);
        status = trigger_set_map(away, map, classes, error);
        trigger_free(cell->trigger);
        cell->trigger = NULL;
        struct inversion *inversion = NULL;
        if (status == STATUS_OK) { /* a map has as many goals as there are classes: more samples a step than for one */
            status = inversion_from(data, away, 1.0, options->bank_batch, &own, &inversion, error);
        }
        if (status == STATUS_OK) {
            status = advance(inversion, steps, options->measure, &cell->trigger, error);
        }
        if (status != STATUS_OK) {
            break;
        }
        cell->steps += steps;
        cell->size = cell->trigger->size;
        cell->success = cell->trigger->success;
        trigger_free(away);
        away = NULL;
        status = trigger_copy(cell->trigger, &away, error);
    }
    if (status == STATUS_OK && cell->trigger != NULL) {
        const double median = exposure->median[family];
        cell->anomaly = median > 0.0 ? (median - cell->size) / median : 0.0;
        cell->suspect = cell->success >= SUCCESS && cell->size <= options->size_ratio * median;
        if (cell->suspect) { /* where the race ended early its sizes are those of few steps: look closer */
            double reference = 0.0;
            status = bank_reference(data, options, rng, exposure, family, 0, &reference, error);
            cell->suspect = status == STATUS_OK && cell->size <= options->size_ratio * reference;
        }
        cell->small_share = options->size_ratio;
    }
done:
    trigger_free(away);
    mem_free(map);
    mem_free(counts);
    return status;
}
