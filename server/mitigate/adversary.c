/* Inversion of the suspects' triggers on a masked network. */
#include "server/mitigate/adversary.h"

#include "common/mem.h"
#include "server/expose/bank.h"

/* An inversion of the cell's kind from a new random start. */
static enum status start(const struct invert_data *data, const struct exposure_cell *cell, size_t batch,
                         const struct rng *rng, struct inversion **out, struct error *error) {
    const struct trigger *found = cell->trigger;
    return found->map == NULL
               ? inversion_new(data, found->family, found->target, cell->scale, batch, rng, out, error)
               : inversion_new_mapped(data, found->family, found->map, cell->scale, batch, rng, out, error);
}

static enum status attack_one(struct job *job, const struct invert_data *data, const struct exposure_cell *cell,
                              bool join, size_t *found, struct error *error) {
    const struct expose_options *options = &job->expose_options;
    const enum trigger_family family = cell->trigger->family;
    const size_t target = cell->trigger->target, slot = (size_t)family * job->exposure->columns + target;
    /* A start of its own each time: the bank's size changes with each trigger that joins. */
    const struct rng base = rng_stream(&job->rng, STREAM_ADVERSARY);
    const struct rng rng = rng_stream(&base, slot * 1024 + job->exposure->bank_count);
    struct inversion *inversion = NULL;
    struct trigger *copy = NULL;
    enum status status = start(data, cell, options->batch, &rng, &inversion, error);
    if (status == STATUS_OK) {
        status = inversion_advance(inversion, options->rung_steps * options->rungs, error);
    }
    if (status == STATUS_OK) {
        status = trigger_copy(inversion_trigger(inversion), &copy, error);
    }
    inversion_free(inversion);
    if (status != STATUS_OK) {
        return status;
    }
    job_trace(job, json_pack("{s:s, s:s, s:i, s:f, s:f}", "event", "adversary", "family", trigger_family_name(family),
                             "class", (int)target, "size", copy->size, "success", copy->success));
    trigger_free(job->after[slot]);
    job->after[slot] = copy;
    if (!exposure_is_small(job->exposure, options, copy)) {
        return STATUS_OK;
    }
    ++*found;
    if (!join) {
        return STATUS_OK;
    }
    struct trigger *joining = NULL;
    status = trigger_copy(copy, &joining, error);
    return status == STATUS_OK ? exposure_add(job->exposure, joining, error) : status;
}

enum status adversary_attack(struct job *job, const float *mask, const float *fill, bool join, size_t *found,
                             struct error *error) {
    const size_t cells = TRIGGER_FAMILY_COUNT * job->exposure->columns;
    enum status status = STATUS_OK;
    if (job->after == NULL) {
        job->after = mem_calloc(cells, sizeof(struct trigger *));
    }
    if (job->after == NULL) {
        return error_no_memory(error, "the adversary");
    }
    const struct invert_data data = job_invert_data(job, mask, fill);
    *found = 0;
    for (size_t i = 0; i < cells && status == STATUS_OK; i++) {
        if (job->exposure->cells[i].suspect) {
            status = attack_one(job, &data, &job->exposure->cells[i], join, found, error);
        }
    }
    return status;
}
