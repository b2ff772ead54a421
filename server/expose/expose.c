/* Successive halving over the classes of each family, outliers, and the bank of the suspects' triggers. */
#include "server/expose/expose.h"

#include <math.h>
#include <stdlib.h>

#include "common/mem.h"
#include "server/expose/all_to_all.h"
#include "server/expose/anomaly.h"
#include "server/expose/bank.h"
#include "server/expose/dictionary.h"
#include "server/expose/suspects.h"

const struct expose_options expose_default_options = {
    .rung_steps = 6,
    .rungs = 3,
    .batch = 16,
    .bounded_batch = 16,
    .bank_batch = 32,
    .measure = INVERT_MEASURE,
    .glance = INVERT_GLANCE,
    .anomaly_threshold = 2.0,
    .size_ratio = 0.5,
    .restarts = 1,
    .many = 32,
    .probe_samples = 48,
};

enum {
    CLASSES_LEFT_MIN = 2,
    HEAT_STEPS_MIN = 4,
    LAST_RUNG_MAX = 128 /* samples that tell whether a class stands out; what its trigger is worth, the bank measures */
};
/* After the second rung: a family in which even the smallest trigger is above this share of the median has no suspect. Of eleven
 * backdoors that a family shows the target was at 0.00 to 0.55 by then, and falls to a half of that in the last rung. Beside a plain
 * suspect only another plain one is looked for. */
static const double HOPELESS_SHARE = 0.75, HOPELESS_BESIDE = 0.5;
/* After the first rung, of a bounded trigger, which settles soon: those eleven were at 0.00 to 0.65. */
static const double HOPELESS_AT_ONCE = 0.8, HOPELESS_AT_ONCE_BESIDE = 0.7;

static bool is_many(const struct expose_options *options, size_t classes) {
    return classes > options->many && options->many >= 2 * CLASSES_LEFT_MIN;
}

struct exposure_cell *exposure_cell(const struct exposure *exposure, enum trigger_family family, size_t target) {
    return &exposure->cells[(size_t)family * exposure->columns + target];
}

/* One family's race: the inversions still running, by class. */
struct race {
    const struct invert_data *data;
    const struct expose_options *options;
    const struct expose_hooks *hooks;
    struct exposure *exposure;
    enum trigger_family family;
    struct inversion **inversions; /* (classes), NULL when dropped */
    size_t *order;                 /* classes still in, by size */
    size_t left;
    bool ended_early;    /* before the last rung: the sizes are those of few steps */
    double *scratch;     /* (classes) */
    size_t *done, total; /* steps of all families, for progress */
};

/* Steps of each class in a rung: the last one adds twice as many. A bounded trigger settles soon; a mask has to shrink. */
static size_t rung_steps(const struct expose_options *options, enum trigger_family family, size_t rung) {
    const size_t steps = trigger_is_bounded(family) ? (2 * options->rung_steps + 2) / 3 : options->rung_steps;
    return rung + 1 == options->rungs ? 2 * steps : steps;
}

static void tell_progress(const struct race *race, const struct trigger *last) {
    if (race->hooks != NULL && race->hooks->progress != NULL) {
        race->hooks->progress(race->hooks->user, *race->done, race->total, last);
    }
}

/* Advances the classes order[first, first + count). */
static enum status advance_classes(struct race *race, size_t first, size_t count, size_t steps, size_t limit,
                                   struct error *error) {
    struct inversion **list = mem_alloc(count, sizeof(struct inversion *));
    if (list == NULL) {
        return error_no_memory(error, "a rung's inversions");
    }
    for (size_t i = 0; i < count; i++) {
        list[i] = race->inversions[race->order[first + i]];
    }
    const enum status status = inversion_advance_all(list, count, steps, limit, error);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        struct exposure_cell *cell = exposure_cell(race->exposure, race->family, race->order[first + i]);
        const struct trigger *trigger = inversion_trigger(list[i]);
        cell->size = trigger->size;
        cell->success = trigger->success;
        cell->steps = inversion_steps(list[i]);
        *race->done += steps;
        tell_progress(race, trigger);
    }
    mem_free(list);
    return status;
}

static enum status keep_trigger(struct race *race, size_t target, struct error *error) {
    struct exposure_cell *cell = exposure_cell(race->exposure, race->family, target);
    const enum status status = trigger_copy(inversion_trigger(race->inversions[target]), &cell->trigger, error);
    inversion_free(race->inversions[target]);
    race->inversions[target] = NULL;
    return status;
}

/* Insertion sort of the classes left by size: there are few. */
static void sort_left(struct race *race) {
    for (size_t i = 1; i < race->left; i++) {
        const size_t target = race->order[i];
        const double size = exposure_cell(race->exposure, race->family, target)->size;
        size_t j = i;
        while (j > 0 && exposure_cell(race->exposure, race->family, race->order[j - 1])->size > size) {
            race->order[j] = race->order[j - 1];
            j--;
        }
        race->order[j] = target;
    }
}

/* Runs one more rung for the classes left; the sizes of those dropped before shrink by the median factor of those that
 * ran, the smallest excepted (it may be the backdoor). */
static enum status run_rung(struct race *race, const bool *in, size_t rung, struct error *error) {
    const struct expose_options *options = race->options;
    double *before = race->scratch; /* each is replaced by a factor once it has been used */
    size_t counted = 0;
    for (size_t i = 0; i < race->left; i++) {
        before[i] = exposure_cell(race->exposure, race->family, race->order[i])->size;
    }
    const size_t last = options->measure < LAST_RUNG_MAX ? options->measure : LAST_RUNG_MAX;
    const size_t samples = rung + 1 == options->rungs ? last : options->glance;
    const enum status status =
        advance_classes(race, 0, race->left, rung_steps(options, race->family, rung), samples, error);
    for (size_t i = 1; i < race->left && status == STATUS_OK; i++) {
        if (before[i] > 0.0) {
            before[counted++] = exposure_cell(race->exposure, race->family, race->order[i])->size / before[i];
        }
    }
    const double factor = counted > 0 ? fmin(1.0, anomaly_median(before, counted)) : 1.0;
    for (size_t t = 0; t < race->exposure->classes && status == STATUS_OK; t++) {
        if (!in[t]) {
            exposure_cell(race->exposure, race->family, t)->size *= factor;
        }
    }
    sort_left(race);
    return status;
}

/* Can no class of the family become a suspect any more? */
static bool is_hopeless(struct race *race, size_t rung) {
    const size_t classes = race->exposure->classes;
    const bool plain = suspects_are_plain(race->exposure, race->options);
    if (rung == 0 && !trigger_is_bounded(race->family)) {
        return false;
    }
    for (size_t t = 0; t < classes; t++) {
        race->scratch[t] = exposure_cell(race->exposure, race->family, t)->size;
    }
    const double median = anomaly_median(race->scratch, classes);
    const double at_once = plain ? HOPELESS_AT_ONCE_BESIDE : HOPELESS_AT_ONCE;
    const double share = rung == 0 ? at_once : plain ? HOPELESS_BESIDE : HOPELESS_SHARE;
    return classes > 2 && exposure_cell(race->exposure, race->family, race->order[0])->size > share * median;
}

/* A start that works already at the dictionary's strength is better than a random one. */
static const double START_SUCCESS = 0.5;
/* An entry of a fixed family that works on fewer of the probe's samples is none of a backdoor's, and what the probe says of it will do. */
static const double PROMISING_SUCCESS = 0.3;
/* Clean networks, too, yield to one pattern or another: with up to 64 % (of eleven that were forged), clean-label ones with 57 to 90 %. */
static const double HINT_SUCCESS = 2.0 / 3.0;

/* The inversion of class t: from the dictionary's entry where that is promising, else from a random start. */
static enum status enter_class(struct race *race, size_t t, const struct dictionary_find *finds, const struct rng *rng,
                               struct error *error) {
    const struct rng own = rng_stream(rng, (uint64_t)race->family * race->exposure->classes + t);
    const size_t batch = trigger_is_bounded(race->family) ? race->options->bounded_batch : race->options->batch;
    struct trigger *entry = NULL;
    if (finds == NULL || finds[t].success < START_SUCCESS) {
        return inversion_new(race->data, race->family, t, 1.0, batch, &own, &race->inversions[t], error);
    }
    enum status status = trigger_new_entry(race->family, t, finds[t].entry, race->data->range, &entry, error);
    if (status == STATUS_OK) {
        entry->scale = 1.0;
        trigger_project(entry, race->data->range);
        status = inversion_from(race->data, entry, 1.0, batch, &own, &race->inversions[t], error);
    }
    trigger_free(entry);
    return status;
}

/* A family that is only its dictionary: one probe settles all classes. */
static enum status read_dictionary(struct race *race, const struct dictionary_find *finds, struct error *error) {
    for (size_t t = 0; t < race->exposure->classes; t++) {
        struct exposure_cell *cell = exposure_cell(race->exposure, race->family, t);
        enum status status =
            trigger_new_entry(race->family, t, finds[t].entry, race->data->range, &cell->trigger, error);
        if (status != STATUS_OK) {
            return status;
        }
        cell->trigger->loss = finds[t].loss;
        cell->trigger->success = finds[t].success;
        if (finds[t].success >= PROMISING_SUCCESS ||
            !isfinite(finds[t].loss)) { /* the probe may have had that class only */
            status = invert_measure(race->data, cell->trigger, race->options->measure, &cell->trigger->loss,
                                    &cell->trigger->success, error);
        }
        if (status != STATUS_OK) {
            return status;
        }
        cell->trigger->size = trigger_size(cell->trigger, race->data->range);
        cell->size = cell->trigger->size;
        cell->success = cell->trigger->success;
    }
    return STATUS_OK;
}

/* Steps of a class in the heat: all together about what the first rung of `many` classes takes. */
static size_t heat_steps(const struct expose_options *options, size_t classes) {
    const size_t steps = options->many * options->rung_steps / classes;
    return steps > HEAT_STEPS_MIN ? steps : HEAT_STEPS_MIN;
}

/* With many classes: each is advanced a little, one after the other, and only the best go on. An inversion may take megabytes, so
 * those that fall behind are dropped at once. */
static enum status run_heat(struct race *race, const struct dictionary_find *finds, bool *in, const struct rng *rng,
                            struct error *error) {
    const size_t classes = race->exposure->classes, room = race->options->many / 2;
    enum status status = STATUS_OK;
    race->left = 0;
    for (size_t t = 0; t < classes && status == STATUS_OK; t++) {
        status = enter_class(race, t, finds, rng, error);
        race->order[race->left] = t;
        in[t] = true;
        if (status == STATUS_OK) {
            status =
                advance_classes(race, race->left, 1, heat_steps(race->options, classes), race->options->glance, error);
        }
        race->left++;
        sort_left(race);
        if (race->left > room) {
            const size_t last = race->order[--race->left];
            in[last] = false;
            inversion_free(race->inversions[last]);
            race->inversions[last] = NULL;
        }
    }
    return status;
}

static enum status run_race(struct race *race, const struct dictionary_find *finds, const struct rng *rng,
                            struct error *error) {
    const size_t classes = race->exposure->classes;
    bool *in = mem_calloc(classes, sizeof *in);
    if (in == NULL) {
        return error_no_memory(error, "the classes of a trigger family");
    }
    enum status status = STATUS_OK;
    race->left = classes;
    race->ended_early = false;
    if (is_many(race->options, classes)) {
        status = run_heat(race, finds, in, rng, error);
    }
    for (size_t t = 0; t < race->left && race->left == classes && status == STATUS_OK; t++) {
        race->order[t] = t;
        in[t] = true;
        status = enter_class(race, t, finds, rng, error);
    }
    for (size_t rung = 0; race->left > 0 && status == STATUS_OK; rung++) {
        status = run_rung(race, in, rung, error);
        const bool end = rung + 1 == race->options->rungs;
        race->ended_early = !end && status == STATUS_OK && is_hopeless(race, rung);
        const bool last = end || race->ended_early;
        const size_t half = (race->left + 1) / 2;
        const size_t keep = last ? 0 : half > CLASSES_LEFT_MIN ? half : CLASSES_LEFT_MIN;
        while (status == STATUS_OK && race->left > keep) {
            const size_t target = race->order[--race->left];
            in[target] = false;
            status = keep_trigger(race, target, error);
        }
    }
    for (size_t t = 0; t < classes; t++) {
        inversion_free(race->inversions[t]);
        race->inversions[t] = NULL;
    }
    mem_free(in);
    return status;
}

/* A class below the ratio that has this share of the index that it needs is in doubt. */
static const double DOUBT = 0.75;

/* The class's trigger and those of the smallest others are fitted further: is it still at most half of theirs? */
static enum status resolve_doubt(struct race *race, struct exposure_cell *cell, const struct rng *rng,
                                 struct error *error) {
    const enum trigger_family family = cell->trigger->family;
    double reference = 0.0, size = 0.0;
    race->exposure->reference[family][0] = -1.0;
    cell->suspect = true; /* so that it is none of the others */
    enum status status = bank_reference(race->data, race->options, rng, race->exposure, family, 0, &reference, error);
    if (status == STATUS_OK) {
        status = bank_fit_further(race->data, race->options, rng, race->exposure, cell->trigger, &size, error);
    }
    cell->suspect = status == STATUS_OK && size <= race->options->size_ratio * reference;
    return status;
}

/* With no suspect in any family: the races are short, and where classes differ much among themselves a backdoor's may miss its index by a
 * hair (a colour patch in a wide VGG-11 did, at a third of the median: 1.2516 of 1.2520). */
static enum status look_closer(struct race *race, const struct rng *rng, struct error *error) {
    struct exposure *exposure = race->exposure;
    enum status status = STATUS_OK;
    if (exposure->classes <= 2 || suspects_any(exposure)) {
        return STATUS_OK;
    }
    for (enum trigger_family f = 0; f < TRIGGER_FAMILY_COUNT; f++) {
        for (size_t t = 0; t < exposure->classes && !trigger_is_fixed(f) && status == STATUS_OK; t++) {
            struct exposure_cell *cell = exposure_cell(exposure, f, t);
            const double share = cell->size / exposure->median[f];
            if (cell->trigger != NULL && share <= race->options->size_ratio &&
                cell->anomaly >= DOUBT * suspects_index_needed(race->options, share)) {
                status = resolve_doubt(race, cell, rng, error);
            }
        }
    }
    return status;
}

/* Steps of a family whose race goes to the end. */
static size_t steps_of(const struct expose_options *options, size_t classes, enum trigger_family family) {
    const bool many = is_many(options, classes);
    size_t total = many ? classes * heat_steps(options, classes) : 0, left = many ? options->many / 2 : classes;
    for (size_t rung = 0; rung < options->rungs; rung++) {
        total += left * rung_steps(options, family, rung);
        left = (left + 1) / 2 > CLASSES_LEFT_MIN ? (left + 1) / 2 : CLASSES_LEFT_MIN;
    }
    return trigger_is_fixed(family) ? 0 : total;
}

/* Remembers the entries that send most samples to one class, as far as there is room. The probe's few samples only say which to look at. */
static enum status note_hints(struct race *race, const struct dictionary_find *finds, struct error *error) {
    enum status status = STATUS_OK;
    for (size_t t = 0; t < race->exposure->classes && race->exposure->hint_count < HINTS_MAX && status == STATUS_OK;
         t++) {
        if (finds[t].success < START_SUCCESS) {
            continue;
        }
        struct trigger **hint = &race->exposure->hints[race->exposure->hint_count];
        status = trigger_new_entry(race->family, t, finds[t].entry, race->data->range, hint, error);
        if (status == STATUS_OK) {
            status =
                invert_measure(race->data, *hint, race->options->measure, &(*hint)->loss, &(*hint)->success, error);
        }
        if (status == STATUS_OK && (*hint)->success >= HINT_SUCCESS) {
            race->exposure->hint_count++;
        } else {
            trigger_free(*hint);
            *hint = NULL;
        }
    }
    return status;
}

static enum status expose_family(struct race *race, struct dictionary_find *finds, const struct rng *rng,
                                 struct error *error) {
    const enum trigger_family family = race->family;
    /* Beside a plain suspect only another plain one is looked for: a random start will do, and nobody asks for hints. */
    const bool has_entries = trigger_entry_count(family, race->data->range) > 0 &&
                             (trigger_is_fixed(family) || !suspects_are_plain(race->exposure, race->options));
    enum status status = STATUS_OK;
    if (has_entries) {
        status = dictionary_probe(race->data, family, race->options->probe_samples, finds, error);
    }
    if (has_entries && !trigger_is_fixed(family) && status == STATUS_OK) {
        status = note_hints(race, finds, error);
    }
    if (status == STATUS_OK && trigger_is_fixed(family)) {
        status = read_dictionary(race, finds, error);
        race->ended_early = false;
    } else if (status == STATUS_OK) {
        status = run_race(race, has_entries ? finds : NULL, rng, error);
    }
    if (status == STATUS_OK) {
        status = suspects_find(race->exposure, race->options, family, race->ended_early, error);
    }
    return status;
}

static enum status expose_all(struct race *race, const struct rng *rng, struct error *error) {
    struct dictionary_find *finds = mem_alloc(race->exposure->classes, sizeof *finds);
    enum status status = finds == NULL ? error_no_memory(error, "the dictionary") : STATUS_OK;
    size_t next = 0;
    for (enum trigger_family f = 0; f < TRIGGER_FAMILY_COUNT && status == STATUS_OK; f++) {
        race->family = f;
        status = expose_family(race, finds, rng, error);
        next += steps_of(race->options, race->exposure->classes, f);
        *race->done = next; /* a race may end early */
        if (status == STATUS_OK && race->ended_early) {
            tell_progress(race, exposure_cell(race->exposure, f, race->order[0])->trigger);
        }
    }
    mem_free(finds);
    /* Behind all families: where one of them shows a class plainly, nobody looks for a trigger of all classes. */
    for (enum trigger_family f = 0; f < TRIGGER_FAMILY_COUNT && status == STATUS_OK; f++) {
        status = suspects_are_plain(race->exposure, race->options)
                     ? STATUS_OK
                     : all_to_all_expose(race->data, race->options, f, rng, race->exposure, error);
    }
    if (status == STATUS_OK) {
        suspects_look_again(race->exposure, race->options);
        status = look_closer(race, rng, error);
    }
    if (status == STATUS_OK) {
        suspects_drop_reflections(race->exposure, race->options);
        status = bank_build(race->data, race->options, rng, race->exposure, error);
    }
    return status;
}

enum status expose_run(const struct invert_data *data, const struct expose_options *options,
                       const struct expose_hooks *hooks, const struct rng *rng, struct exposure **out,
                       struct error *error) {
    const size_t classes = data->classes;
    size_t done = 0;
    struct race race = {.data = data, .options = options, .hooks = hooks, .done = &done};
    for (enum trigger_family f = 0; f < TRIGGER_FAMILY_COUNT; f++) {
        race.total += steps_of(options, classes, f);
    }
    race.exposure = mem_calloc(1, sizeof *race.exposure);
    race.inversions = mem_calloc(classes, sizeof(struct inversion *));
    race.order = mem_calloc(classes, sizeof *race.order);
    race.scratch = mem_calloc(classes, sizeof *race.scratch);
    enum status status = STATUS_OK;
    if (race.exposure != NULL) {
        race.exposure->classes = classes;
        race.exposure->columns = classes + 1;
        race.exposure->cells = mem_calloc(TRIGGER_FAMILY_COUNT * race.exposure->columns, sizeof *race.exposure->cells);
    }
    if (race.exposure == NULL || race.exposure->cells == NULL || race.inversions == NULL || race.order == NULL ||
        race.scratch == NULL) {
        status = error_no_memory(error, "the exposure");
    } else {
        status = expose_all(&race, rng, error);
    }
    mem_free(race.inversions);
    mem_free(race.order);
    mem_free(race.scratch);
    if (status != STATUS_OK) {
        exposure_free(race.exposure);
        return status;
    }
    *out = race.exposure;
    return STATUS_OK;
}

void exposure_free(struct exposure *exposure) {
    if (exposure == NULL) {
        return;
    }
    for (size_t i = 0; exposure->cells != NULL && i < TRIGGER_FAMILY_COUNT * exposure->columns; i++) {
        trigger_free(exposure->cells[i].trigger);
    }
    for (size_t i = 0; i < exposure->hint_count; i++) {
        trigger_free(exposure->hints[i]);
    }
    exposure_clear_bank(exposure);
    mem_free(exposure->cells);
    mem_free(exposure->bank);
    mem_free(exposure);
}
