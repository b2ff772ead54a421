/* Inversion of the suspects' triggers on a masked network. */
#include "server/mitigate/adversary.h"

#include <string.h>

#include "common/mem.h"
#include "server/expose/bank.h"

enum { ADVERSARY_RUNGS = 4 }; /* its steps, in those of a rung: as many as a class that goes to the end takes */

struct attack {
    struct job *job;
    const struct invert_data *data; /* of the masked network */
    bool join, thorough;
    size_t *found;
};

/* The cell's trigger looked for anew at a level of strength; it is the caller's. */
static enum status look(const struct attack *a, const struct exposure_cell *cell, size_t slot, size_t level,
                        struct trigger **out, struct error *error) {
    struct job *job = a->job;
    const struct expose_options *options = &job->expose_options;
    /* A start of its own each time: the bank's size changes with each trigger that joins. */
    const struct rng base = rng_stream(&job->rng, STREAM_ADVERSARY);
    const struct rng rng = rng_stream(&base, (slot * EXPOSE_LEVELS + level) * 1024 + job->exposure->bank_count);
    struct inversion *inversion = NULL;
    enum status status =
        inversion_anew(a->data, cell->trigger, bank_scale(level), options->batch, &rng, &inversion, error);
    if (status == STATUS_OK) {
        status = inversion_advance(inversion, ADVERSARY_RUNGS * options->rung_steps, options->measure, error);
    }
    if (status == STATUS_OK) {
        status = trigger_copy(inversion_trigger(inversion), out, error);
    }
    inversion_free(inversion);
    return status;
}

/* Is a trigger of the suspect's small at the level? The stronger triggers may be, the more easily other classes are reached, so what those
 * need a level lower is a bound: a trigger that is not small against it need not be compared, and the reference stays unknown. */
static enum status compare(struct job *job, const struct exposure_cell *cell, const struct trigger *trigger,
                           size_t level, bool *small, struct error *error) {
    const double *reference = job->exposure->reference[trigger->family];
    const struct invert_data original = job_invert_data(job, NULL, NULL);
    const struct rng rng = rng_stream(&job->rng, STREAM_EXPOSE);
    *small = false;
    if (level > 0 && reference[level] < 0.0 && reference[level - 1] >= 0.0 &&
        trigger->size > cell->small_share * reference[level - 1]) {
        return STATUS_OK;
    }
    double needed = 0.0;
    const enum status status =
        bank_reference(&original, &job->expose_options, &rng, job->exposure, trigger->family, level, &needed, error);
    *small = status == STATUS_OK && exposure_is_small(job->exposure, trigger);
    return status;
}

/* One level of attack_one(): *found if the trigger there is small, and what came of it is job->after[slot] if it could be compared. */
static enum status attack_level(const struct attack *a, const struct exposure_cell *cell, size_t slot, size_t level,
                                bool *found, struct error *error) {
    struct job *job = a->job;
    struct trigger *trigger = NULL;
    *found = false;
    enum status status = look(a, cell, slot, level, &trigger, error);
    if (status == STATUS_OK) {
        status = compare(job, cell, trigger, level, found, error);
    }
    if (status != STATUS_OK) {
        trigger_free(trigger);
        return status;
    }
    const double reference = job->exposure->reference[trigger->family][level];
    job_trace(job, json_pack("{s:s, s:s, s:i, s:i, s:f, s:f, s:f}", "event", "adversary", "family",
                             trigger_family_name(trigger->family), "class", (int)trigger->target, "level", (int)level,
                             "size", trigger->size, "success", trigger->success, "reference", reference));
    /* The size of a bounded trigger is its loss: far from other classes', it may still work on hardly an image. */
    *found = *found && (a->join || trigger->success > ATTACK_REMOVED);
    if (reference > 0.0) {
        trigger_free(job->after[slot]);
        job->after[slot] = trigger;
    } else {
        trigger_free(trigger);
    }
    return STATUS_OK;
}

/* At the level at which the suspect was found; what was made deaf to that may still obey a stronger trigger, so a thorough attack goes
 * on to higher levels, as long as other classes are not reached there. */
static enum status attack_one(const struct attack *a, const struct exposure_cell *cell, struct error *error) {
    struct exposure *exposure = a->job->exposure;
    const enum trigger_family family = cell->trigger->family;
    const size_t slot = (size_t)family * exposure->columns + cell->trigger->target;
    const size_t levels = a->thorough && trigger_is_bounded(family) ? EXPOSE_LEVELS : cell->level + 1;
    for (size_t level = cell->level; level < levels && bank_known_reference(exposure, family, level) != 0.0; level++) {
        bool found = false;
        enum status status = attack_level(a, cell, slot, level, &found, error);
        if (status != STATUS_OK) {
            return status;
        }
        if (!found) {
            continue;
        }
        ++*a->found;
        struct trigger *joining = NULL;
        if (a->join) {
            status = trigger_copy(a->job->after[slot], &joining, error);
            status = status == STATUS_OK ? exposure_add(exposure, joining, error) : status;
        }
        return status;
    }
    return STATUS_OK;
}

/* What an attack depends on: the network (which may have been fine-tuned), how far it goes, and the bank, by whose size it draws its starts. */
static enum status attack_key(const struct job *job, const float *mask, const float *fill, bool thorough,
                              char key[DIGEST_HEX_SIZE], struct error *error) {
    uint64_t what[] = {job->exposure->bank_count, thorough, 0};
    for (size_t v = 0; v < job->masked->value_count; v++) {
        if (job->masked->values[v].kind == VALUE_CONSTANT) {
            what[2] = what[2] * UINT64_C(0x9e3779b97f4a7c15) + network_constant_hash(job->masked, v); /* in order */
        }
    }
    return job_key(job, what, sizeof what, mask, fill, key, error);
}

enum status adversary_attack(struct job *job, const float *mask, const float *fill, bool join, bool thorough,
                             size_t *found, struct error *error) {
    const size_t cells = TRIGGER_FAMILY_COUNT * job->exposure->columns;
    char key[DIGEST_HEX_SIZE];
    enum status status = attack_key(job, mask, fill, thorough, key, error);
    *found = 0;
    if (status != STATUS_OK || strcmp(key, job->spared) == 0) {
        return status; /* the same attack would find nothing again */
    }
    if (job->after == NULL) {
        job->after = mem_calloc(cells, sizeof(struct trigger *));
    }
    if (job->after == NULL) {
        return error_no_memory(error, "the adversary");
    }
    const struct invert_data data = job_invert_data(job, mask, fill);
    const struct attack attack = {job, &data, join, thorough, found};
    for (size_t i = 0; i < cells && status == STATUS_OK; i++) {
        if (job->exposure->cells[i].suspect) {
            status = attack_one(&attack, &job->exposure->cells[i], error);
        }
    }
    if (status == STATUS_OK && *found == 0) {
        memcpy(job->spared, key, sizeof key);
    }
    return status;
}
