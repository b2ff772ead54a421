/* Strengthens the suspects' triggers and collects them.
 *
 * Classes are compared at a small bound, where the difference is plain. But the trigger that just stands out there may be much weaker
 * than the attacker's, and a network repaired against the weak one may still obey the strong one. So the bound is raised
 * until the target is reached surely, and control classes are raised with it: where they are reached as well, the trigger would no
 * longer be a backdoor's but an ordinary adversarial one, and pruning against those costs accuracy for nothing. */
#include "server/expose/bank.h"

#include "common/mem.h"
#include "server/expose/anomaly.h"
#include "server/expose/suspects.h"

static const double scales[EXPOSE_LEVELS] = {1.0, 2.0, 4.0};
enum { CONTROLS_MAX = 3 };
/* Mean cross-entropy below which the target counts as surely reached. */
static const double SURE_LOSS = 0.1;
/* Where a bounded trigger's inversion for the bank ends early. */
static const double SETTLED_LOSS = 0.05;
/* Where triggers to control classes come below this, any class can be reached, and a suspect's small size says nothing. At four times the
 * bound they still fall when a control's few steps are over: a forged sinusoid was once repaired against three such triggers (0.35 to 0.67 nats
 * where controls had 0.83), which broke the budget of accuracy. */
static const double ORDINARY_LOSS[EXPOSE_LEVELS] = {0.5, 0.5, 1.0};

double bank_scale(size_t level) {
    return scales[level];
}

size_t bank_level(const struct trigger *trigger) {
    size_t level = 0;
    while (level < EXPOSE_LEVELS && trigger->scale != scales[level]) {
        level++;
    }
    return level < EXPOSE_LEVELS ? level : 0;
}

enum status exposure_add(struct exposure *exposure, struct trigger *trigger, struct error *error) {
    if (exposure->bank_count == exposure->bank_capacity) {
        const size_t capacity = exposure->bank_capacity == 0 ? 8 : 2 * exposure->bank_capacity;
        struct trigger **bank = mem_realloc(exposure->bank, capacity, sizeof *bank);
        if (bank == NULL) {
            trigger_free(trigger);
            return error_no_memory(error, "the trigger bank");
        }
        exposure->bank = bank;
        exposure->bank_capacity = capacity;
    }
    exposure->bank[exposure->bank_count++] = trigger;
    return STATUS_OK;
}

void exposure_clear_bank(struct exposure *exposure) {
    for (size_t i = 0; i < exposure->bank_count; i++) {
        trigger_free(exposure->bank[i]);
    }
    exposure->bank_count = 0;
}

struct banker {
    const struct invert_data *data;
    const struct expose_options *options;
    const struct rng *rng;
    struct exposure *exposure;
    uint64_t draws; /* streams used so far, so that each inversion has its own */
};

/* How an inversion of the bank starts and how far it goes. Few steps on few samples tell the classes apart, but what is to be pruned must
 * show the trigger as it is; a control only has to say how small an ordinary trigger gets. */
enum effort { EFFORT_CONTROL, EFFORT_FROM, EFFORT_ANEW };
static const struct effort_row {
    bool anew;
    size_t rungs; /* steps, in those of a rung */
} efforts[] = {
    [EFFORT_CONTROL] = {false, 3},
    [EFFORT_FROM] = {false, 4},
    [EFFORT_ANEW] = {true, 6},
};

/* One more inversion, from `like` or, anew, from a random start; the trigger is the caller's. */
static enum status invert(struct banker *b, const struct trigger *like, enum effort effort, size_t level,
                          struct trigger **out, struct error *error) {
    const struct rng rng = rng_stream(b->rng, ((uint64_t)1 << 32) + b->draws++);
    const struct effort_row *row = &efforts[effort];
    const struct expose_options *options = b->options;
    const size_t batch = effort == EFFORT_CONTROL ? options->batch : options->bank_batch;
    const size_t measure = effort == EFFORT_CONTROL ? 2 * options->glance : options->measure;
    struct inversion *inversion = NULL;
    enum status status = row->anew ? inversion_anew(b->data, like, scales[level], batch, &rng, &inversion, error)
                                   : inversion_from(b->data, like, scales[level], batch, &rng, &inversion, error);
    if (status == STATUS_OK) {
        const double settled = trigger_is_bounded(like->family) ? SETTLED_LOSS : 0.0;
        status = inversion_settle(inversion, row->rungs * options->rung_steps, settled, measure, error);
    }
    if (status == STATUS_OK) {
        status = trigger_copy(inversion_trigger(inversion), out, error);
    }
    inversion_free(inversion);
    return status;
}

/* The classes with the smallest triggers, so that the bar is high, the suspects left out; returns how many. */
static size_t choose_controls(const struct exposure *exposure, enum trigger_family family,
                              const struct exposure_cell *controls[CONTROLS_MAX]) {
    size_t count = 0;
    for (size_t t = 0; t < exposure->classes; t++) {
        const struct exposure_cell *cell = exposure_cell(exposure, family, t);
        if (cell->suspect || cell->trigger == NULL) {
            continue;
        }
        size_t at = count < CONTROLS_MAX ? count++ : CONTROLS_MAX - 1;
        if (at == CONTROLS_MAX - 1 && count == CONTROLS_MAX && controls[at] != NULL &&
            controls[at]->size <= cell->size) {
            continue;
        }
        while (at > 0 && controls[at - 1]->size > cell->size) {
            controls[at] = controls[at - 1];
            at--;
        }
        controls[at] = cell;
    }
    return count;
}

double bank_known_reference(const struct exposure *exposure, enum trigger_family family, size_t level) {
    const double *known = exposure->reference[family];
    const bool implied = known[level] < 0.0 && level > 0 && known[level - 1] >= 0.0;
    return implied && known[level - 1] < ORDINARY_LOSS[level] ? 0.0 : known[level];
}

enum status bank_reference(const struct invert_data *data, const struct expose_options *options, const struct rng *rng,
                           struct exposure *exposure, enum trigger_family family, size_t level, double *reference,
                           struct error *error) {
    /* Draws of its own: what is asked for first must not matter. */
    struct banker banker = {.data = data,
                            .options = options,
                            .rng = rng,
                            .exposure = exposure,
                            .draws = ((uint64_t)1 << 16) * (1 + (uint64_t)family * EXPOSE_LEVELS + level)};
    double *known = &exposure->reference[family][level];
    *known = bank_known_reference(exposure, family, level);
    if (*known < 0.0) {
        const struct exposure_cell *controls[CONTROLS_MAX] = {NULL};
        const size_t count = choose_controls(exposure, family, controls);
        double sizes[CONTROLS_MAX];
        for (size_t i = 0; i < count; i++) {
            struct trigger *trigger = NULL;
            const enum status status = invert(&banker, controls[i]->trigger, EFFORT_CONTROL, level, &trigger, error);
            if (status != STATUS_OK) {
                return status;
            }
            sizes[i] = trigger->size;
            trigger_free(trigger);
        }
        *known = count > 0 ? anomaly_median(sizes, count) : 0.0;
        *known = *known < ORDINARY_LOSS[level] ? 0.0 : *known;
    }
    *reference = *known;
    return STATUS_OK;
}

enum status bank_fit_further(const struct invert_data *data, const struct expose_options *options,
                             const struct rng *rng, struct exposure *exposure, const struct trigger *trigger,
                             double *size, struct error *error) {
    /* Draws behind all of bank_reference()'s. */
    struct banker banker = {.data = data,
                            .options = options,
                            .rng = rng,
                            .exposure = exposure,
                            .draws = ((uint64_t)1 << 20) + (uint64_t)trigger->family};
    struct trigger *fitted = NULL;
    const enum status status = invert(&banker, trigger, EFFORT_CONTROL, 0, &fitted, error);
    *size = status == STATUS_OK ? fitted->size : 0.0;
    trigger_free(fitted);
    return status;
}

/* Raises the bound as the head comment says; *strongest (borrowed from the bank) is the last trigger that stood out. */
static enum status strengthen(struct banker *b, struct exposure_cell *cell, const struct trigger **strongest,
                              struct error *error) {
    const enum trigger_family family = cell->trigger->family;
    for (size_t level = 1; level < EXPOSE_LEVELS && (level == 1 || (*strongest)->loss > SURE_LOSS); level++) {
        struct trigger *stronger = NULL;
        double reference = 0.0;
        enum status status = bank_reference(b->data, b->options, b->rng, b->exposure, family, level, &reference, error);
        if (status == STATUS_OK) {
            status = invert(b, *strongest, EFFORT_FROM, level, &stronger, error);
        }
        if (status != STATUS_OK) {
            return status;
        }
        if (stronger->size > b->options->size_ratio * reference) {
            trigger_free(stronger);
            break;
        }
        status = exposure_add(b->exposure, stronger, error);
        if (status != STATUS_OK) {
            return status;
        }
        *strongest = stronger;
        cell->level = level;
    }
    return STATUS_OK;
}

/* Does no other family show the class more plainly? */
static bool is_plainest(const struct exposure *exposure, enum trigger_family family, size_t target) {
    const double share = exposure_cell(exposure, family, target)->size / exposure->median[family];
    return share <= suspects_least_share(exposure, target);
}

static enum status bank_suspect(struct banker *b, struct exposure_cell *cell, struct error *error) {
    struct trigger *trigger = NULL;
    const enum trigger_family family = cell->trigger->family;
    cell->level = 0;
    enum status status = trigger_is_fixed(family) ? trigger_copy(cell->trigger, &trigger, error)
                                                  : invert(b, cell->trigger, EFFORT_FROM, cell->level, &trigger, error);
    if (status == STATUS_OK) {
        status = exposure_add(b->exposure, trigger, error);
    }
    const struct trigger *strongest = trigger;
    if (status == STATUS_OK && trigger_is_bounded(family)) {
        status = strengthen(b, cell, &strongest, error);
    }
    const size_t restarts = is_plainest(b->exposure, family, cell->trigger->target) ? b->options->restarts : 0;
    for (size_t r = 0; r < restarts && status == STATUS_OK; r++) {
        status = invert(b, cell->trigger, EFFORT_ANEW, cell->level, &trigger, error);
        if (status == STATUS_OK) {
            status = exposure_add(b->exposure, trigger, error);
        }
    }
    return status;
}

enum status bank_build(const struct invert_data *data, const struct expose_options *options, const struct rng *rng,
                       struct exposure *exposure, struct error *error) {
    struct banker banker = {.data = data, .options = options, .rng = rng, .exposure = exposure};
    enum status status = STATUS_OK;
    for (size_t i = 0; i < TRIGGER_FAMILY_COUNT * exposure->columns && status == STATUS_OK; i++) {
        if (exposure->cells[i].suspect) {
            status = bank_suspect(&banker, &exposure->cells[i], error);
        }
    }
    return status;
}

bool exposure_is_small(const struct exposure *exposure, const struct trigger *trigger) {
    const double share = exposure_cell(exposure, trigger->family, trigger->target)->small_share;
    return trigger->size <= share * exposure->reference[trigger->family][bank_level(trigger)];
}
