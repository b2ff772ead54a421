/* Strengthens the suspects' triggers and collects them.
 *
 * Classes are compared at a small bound, where the difference is plain. But the trigger that just stands out there may be much weaker
 * than the attacker's, and a network repaired against the weak one may still obey the strong one. So the bound is raised
 * until the target is reached surely, and control classes are raised with it: where they are reached as well, the trigger would no
 * longer be a backdoor's but an ordinary adversarial one, and pruning against those costs accuracy for nothing. */
#include "server/expose/bank.h"

#include "common/mem.h"
#include "server/expose/anomaly.h"

static const double scales[] = {2.0, 4.0};
enum { SCALES = sizeof scales / sizeof scales[0], CONTROLS_MAX = 3 };
/* Mean cross-entropy below which the target counts as surely reached. */
static const double SURE_LOSS = 0.1;

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

struct banker {
    const struct invert_data *data;
    const struct expose_options *options;
    const struct rng *rng;
    struct exposure *exposure;
    uint64_t draws; /* streams used so far, so that each inversion has its own */
};

/* One more inversion, from `start` (NULL: from a random one); the trigger is the caller's. */
static enum status invert(struct banker *b, const struct trigger *start, enum trigger_family family, size_t target,
                          double scale, struct trigger **out, struct error *error) {
    const struct rng rng = rng_stream(b->rng, ((uint64_t)1 << 32) + b->draws++);
    const struct expose_options *o = b->options;
    struct inversion *inversion = NULL;
    enum status status = start != NULL
                             ? inversion_from(b->data, start, scale, o->batch, &rng, &inversion, error)
                             : inversion_new(b->data, family, target, scale, o->batch, &rng, &inversion, error);
    if (status == STATUS_OK) {
        status = inversion_advance(inversion, o->rung_steps * (start != NULL ? 2 : o->rungs), error);
    }
    if (status == STATUS_OK) {
        status = trigger_copy(inversion_trigger(inversion), out, error);
    }
    inversion_free(inversion);
    return status;
}

/* The median size of a few classes at a scale, the suspects left out; those with the smallest triggers, so that the bar is high. */
static enum status control_size(struct banker *b, enum trigger_family family, double scale, double *median,
                                struct error *error) {
    const size_t classes = b->exposure->classes;
    const struct exposure_cell *controls[CONTROLS_MAX] = {NULL};
    size_t count = 0;
    for (size_t t = 0; t < classes; t++) {
        const struct exposure_cell *cell = exposure_cell(b->exposure, family, t);
        if (cell->suspect || cell->trigger == NULL) {
            continue;
        }
        size_t at = count < CONTROLS_MAX ? count++ : CONTROLS_MAX - 1;
        if (controls[at] != NULL && controls[at]->size <= cell->size) {
            continue;
        }
        while (at > 0 && controls[at - 1]->size > cell->size) {
            controls[at] = controls[at - 1];
            at--;
        }
        controls[at] = cell;
    }
    double sizes[CONTROLS_MAX];
    for (size_t i = 0; i < count; i++) {
        struct trigger *trigger = NULL;
        const enum status status =
            invert(b, controls[i]->trigger, family, controls[i]->trigger->target, scale, &trigger, error);
        if (status != STATUS_OK) {
            return status;
        }
        sizes[i] = trigger->size;
        trigger_free(trigger);
    }
    *median = count > 0 ? anomaly_median(sizes, count) : 0.0;
    return STATUS_OK;
}

/* Raises the bound as the head comment says; *strongest (borrowed from the bank) is the last trigger that stood out. */
static enum status strengthen(struct banker *b, struct exposure_cell *cell, const struct trigger **strongest,
                              struct error *error) {
    for (size_t s = 0; s < SCALES && (*strongest)->loss > SURE_LOSS; s++) {
        struct trigger *stronger = NULL;
        double reference = 0.0;
        enum status status = control_size(b, cell->trigger->family, scales[s], &reference, error);
        if (status == STATUS_OK) {
            status = invert(b, *strongest, cell->trigger->family, cell->trigger->target, scales[s], &stronger, error);
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
        cell->scale = scales[s];
        cell->reference = reference;
    }
    return STATUS_OK;
}

static enum status bank_suspect(struct banker *b, struct exposure_cell *cell, struct error *error) {
    struct trigger *trigger = NULL;
    const enum trigger_family family = cell->trigger->family;
    cell->scale = 1.0;
    cell->reference = b->exposure->median[family];
    /* Few steps tell the classes apart, but what is to be pruned must show the trigger as it is: more steps. */
    enum status status = trigger_is_fixed(family)
                             ? trigger_copy(cell->trigger, &trigger, error)
                             : invert(b, cell->trigger, family, cell->trigger->target, cell->scale, &trigger, error);
    if (status == STATUS_OK) {
        status = exposure_add(b->exposure, trigger, error);
    }
    const struct trigger *strongest = trigger;
    if (status == STATUS_OK && trigger_is_bounded(family)) {
        status = strengthen(b, cell, &strongest, error);
    }
    for (size_t r = 0; r < b->options->restarts && status == STATUS_OK; r++) {
        status = invert(b, NULL, family, cell->trigger->target, cell->scale, &trigger, error);
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

bool exposure_is_small(const struct exposure *exposure, const struct expose_options *options,
                       const struct trigger *trigger) {
    const struct exposure_cell *cell = exposure_cell(exposure, trigger->family, trigger->target);
    return trigger->size <= options->size_ratio * cell->reference;
}
