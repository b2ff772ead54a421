/* One inversion: Adam on the parameters of a trigger. The images are triggered inside the engine's chunks, by its threads; the
 * gradient by the trigger is kept a chunk and added in chunk order, so that the result does not depend on the threads. */
#include "server/expose/invert.h"

#include <string.h>

#include "common/digest.h"
#include "common/mem.h"
#include "server/expose/dictionary.h"
#include "server/nn/loss.h"
#include "server/nn/optim.h"

/* One batch that a trigger sends to its class is no proof. */
enum { SETTLED_STEPS = 3 };

struct chunk_sum {
    double loss;
    size_t hits;
};

struct inversion {
    struct invert_data data;
    struct rng rng;
    struct trigger *trigger;
    struct adam *adam;
    size_t batch, steps;
    size_t *eligible; /* (eligible_count): samples of other classes, reshuffled when used up */
    size_t eligible_count, next;
    size_t *picked;            /* (batch) */
    struct chunk_sum *sums;    /* (chunks) */
    float *chunk_gradients;    /* (chunks, rendered_count) */
    float *rendered_gradient;  /* (rendered_count) */
    float *parameter_gradient; /* (parameter_count) */
};

int32_t invert_class_of(const struct invert_data *data, const struct trigger *trigger, size_t sample) {
    const int32_t label = data->labels[sample];
    return trigger_source(trigger, label, data->predicted == NULL ? label : data->predicted[sample]);
}

/* One trigger's share of a pass. */
struct part {
    const struct trigger *trigger;
    const size_t *picked;
    struct chunk_sum *sums;
    float *chunk_gradients; /* NULL when only measuring */
};

/* One engine run over picked samples with triggers applied: `rows` of each part, which are whole chunks if there are several parts. */
struct pass {
    const struct invert_data *data;
    const struct part *parts;
    size_t part_count, rows, chunk;
};

/* The part that the chunk from row `first` on belongs to, and where it starts there. */
static const struct part *part_of(const struct pass *pass, size_t first, size_t *at) {
    *at = first % pass->rows;
    return &pass->parts[first / pass->rows];
}

static void fill_triggered(void *user, size_t first, size_t n, float *x) {
    const struct pass *pass = user;
    const struct image_range *range = pass->data->range;
    const size_t size = range->channels * range->height * range->width;
    size_t at;
    const struct part *part = part_of(pass, first, &at);
    for (size_t i = 0; i < n; i++) {
        trigger_apply(part->trigger, range, pass->data->images + part->picked[at + i] * size, x + i * size);
    }
}

static void target_loss(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    const struct pass *pass = user;
    const size_t classes = pass->data->classes;
    size_t at;
    const struct part *part = part_of(pass, first, &at);
    struct chunk_sum *sum = &part->sums[at / pass->chunk];
    sum->loss = 0.0;
    sum->hits = 0;
    for (size_t i = 0; i < n; i++) {
        const float *row = logits + i * classes;
        float *drow = dlogits == NULL ? NULL : dlogits + i * classes;
        const int32_t label = invert_class_of(pass->data, part->trigger, part->picked[at + i]);
        const int32_t goal = trigger_goal(part->trigger, label);
        const float scale = 1.0F / (float)pass->rows;
        if (goal == TRIGGER_AWAY) {
            sum->loss += loss_leave(1, classes, row, &label, scale, drow);
            sum->hits += loss_argmax(classes, row) != (size_t)label;
        } else {
            sum->loss += loss_cross_entropy(1, classes, row, &goal, scale, drow);
            sum->hits += loss_argmax(classes, row) == (size_t)goal;
        }
    }
}

static void trigger_gradient(void *user, size_t first, size_t n, const float *x, const float *dx) {
    const struct pass *pass = user;
    const struct image_range *range = pass->data->range;
    const size_t size = range->channels * range->height * range->width;
    size_t at;
    const struct part *part = part_of(pass, first, &at);
    const size_t count = part->trigger->rendered_count;
    float *gradient = part->chunk_gradients + at / pass->chunk * count;
    (void)x;
    memset(gradient, 0, count * sizeof *gradient);
    for (size_t i = 0; i < n; i++) {
        trigger_backward(part->trigger, range, pass->data->images + part->picked[at + i] * size, dx + i * size,
                         gradient);
    }
}

static size_t chunk_count(size_t count, size_t chunk) {
    return (count + chunk - 1) / chunk;
}

/* Runs the pass; without gradients only forward, the loss then being taken from the logits. */
static enum status run_pass(struct pass *pass, float *logits, struct error *error) {
    const struct invert_data *data = pass->data;
    const bool measures = pass->parts[0].chunk_gradients == NULL;
    const struct engine_run run = {
        .count = pass->rows * pass->part_count,
        .user = pass,
        .fill_input = fill_triggered,
        .mask = data->mask,
        .fill = data->fill,
        .logits = logits,
        .loss = measures ? NULL : target_loss,
        .input_grad = measures ? NULL : trigger_gradient,
        .cancel = data->cancel,
    };
    return engine_run(data->engine, &run, error);
}

/* Indices of the samples that the trigger is to send to another class than their own. */
static size_t find_eligible(const struct invert_data *data, const struct trigger *trigger, size_t *out) {
    size_t n = 0;
    for (size_t i = 0; i < data->count; i++) {
        const int32_t label = invert_class_of(data, trigger, i);
        if (trigger_goal(trigger, label) != label) {
            out[n++] = i;
        }
    }
    return n;
}

enum status invert_logits(const struct invert_data *data, const struct trigger *trigger, size_t limit, size_t *picked,
                          float *logits, size_t *count, struct error *error) {
    const struct part part = {.trigger = trigger, .picked = picked};
    struct pass pass = {.data = data, .parts = &part, .part_count = 1, .chunk = engine_chunk(data->engine)};
    pass.rows = find_eligible(data, trigger, picked);
    pass.rows = pass.rows > limit ? limit : pass.rows;
    if (pass.rows == 0) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to measure a trigger to class %zu: got samples of that class only, expected others",
                         trigger->target);
    }
    *count = pass.rows;
    return run_pass(&pass, logits, error);
}

enum status invert_measure(const struct invert_data *data, const struct trigger *trigger, size_t limit, double *loss,
                           double *success, struct error *error) {
    size_t *picked = mem_alloc(data->count, sizeof *picked);
    float *logits = mem_alloc(limit * data->classes, sizeof *logits);
    struct chunk_sum sum;
    const struct part part = {.trigger = trigger, .picked = picked, .sums = &sum};
    struct pass pass = {.data = data, .parts = &part, .part_count = 1};
    enum status status = picked == NULL || logits == NULL ? error_no_memory(error, "a trigger's measure") : STATUS_OK;
    if (status == STATUS_OK) {
        status = invert_logits(data, trigger, limit, picked, logits, &pass.rows, error);
    }
    if (status == STATUS_OK) {
        pass.chunk = pass.rows;
        target_loss(&pass, 0, pass.rows, logits, NULL);
        *loss = sum.loss / (double)pass.rows;
        *success = (double)sum.hits / (double)pass.rows;
    }
    mem_free(picked);
    mem_free(logits);
    return status;
}

static enum status inversion_allocate(struct inversion *v, struct error *error) {
    const size_t chunks = chunk_count(v->batch, engine_chunk(v->data.engine));
    const struct adam_options adam = {
        .learning_rate = trigger_learning_rate(v->trigger), .beta1 = 0.5F, .beta2 = 0.9F, .epsilon = 1e-8F};
    v->eligible = mem_alloc(v->data.count, sizeof *v->eligible);
    v->picked = mem_alloc(v->batch, sizeof *v->picked);
    v->sums = mem_calloc(chunks, sizeof *v->sums);
    v->chunk_gradients = mem_alloc(chunks * v->trigger->rendered_count, sizeof *v->chunk_gradients);
    v->rendered_gradient = mem_alloc(v->trigger->rendered_count, sizeof *v->rendered_gradient);
    v->parameter_gradient = mem_alloc(v->trigger->parameter_count, sizeof *v->parameter_gradient);
    if (v->eligible == NULL || v->picked == NULL || v->sums == NULL || v->chunk_gradients == NULL ||
        v->rendered_gradient == NULL || v->parameter_gradient == NULL) {
        return error_no_memory(error, "a trigger inversion");
    }
    return adam_new(v->trigger->parameter_count, &adam, &v->adam, error);
}

/* Takes the trigger. */
static enum status inversion_make(const struct invert_data *data, struct trigger *trigger, size_t batch,
                                  const struct rng *rng, struct inversion **out, struct error *error) {
    struct inversion *v = mem_calloc(1, sizeof *v);
    if (v == NULL) {
        trigger_free(trigger);
        return error_no_memory(error, "a trigger inversion");
    }
    v->data = *data;
    v->rng = *rng;
    v->trigger = trigger;
    v->batch = batch;
    enum status status = inversion_allocate(v, error);
    if (status != STATUS_OK) {
        goto fail;
    }
    v->eligible_count = find_eligible(data, trigger, v->eligible);
    v->next = v->eligible_count;
    if (v->eligible_count == 0) {
        status = error_set(error, STATUS_INVALID, NULL,
                           "failed to invert a trigger to class %zu: got samples of that class only, expected others",
                           trigger->target);
        goto fail;
    }
    *out = v;
    return STATUS_OK;
fail:
    inversion_free(v);
    return status;
}

enum status inversion_new(const struct invert_data *data, enum trigger_family family, size_t target, double scale,
                          size_t batch, const struct rng *rng, struct inversion **out, struct error *error) {
    struct rng own = *rng;
    struct trigger *trigger = NULL;
    enum status status = trigger_new(family, target, scale, data->range, &own, &trigger, error);
    return status != STATUS_OK ? status : inversion_make(data, trigger, batch, &own, out, error);
}

enum status inversion_new_mapped(const struct invert_data *data, enum trigger_family family, const int32_t *map,
                                 double scale, size_t batch, const struct rng *rng, struct inversion **out,
                                 struct error *error) {
    struct rng own = *rng;
    struct trigger *trigger = NULL;
    enum status status = trigger_new(family, data->classes, scale, data->range, &own, &trigger, error);
    if (status == STATUS_OK) {
        status = trigger_set_map(trigger, map, data->classes, error);
    }
    if (status != STATUS_OK) {
        trigger_free(trigger);
        return status;
    }
    return inversion_make(data, trigger, batch, &own, out, error);
}

enum status inversion_anew(const struct invert_data *data, const struct trigger *like, double scale, size_t batch,
                           const struct rng *rng, struct inversion **out, struct error *error) {
    return like->map == NULL ? inversion_new(data, like->family, like->target, scale, batch, rng, out, error)
                             : inversion_new_mapped(data, like->family, like->map, scale, batch, rng, out, error);
}

enum status inversion_from(const struct invert_data *data, const struct trigger *start, double scale, size_t batch,
                           const struct rng *rng, struct inversion **out, struct error *error) {
    struct trigger *trigger = NULL;
    enum status status = trigger_copy(start, &trigger, error);
    if (status != STATUS_OK) {
        return status;
    }
    trigger->scale = scale;
    trigger_render(trigger, data->range);
    return inversion_make(data, trigger, batch, rng, out, error);
}

void inversion_free(struct inversion *inversion) {
    if (inversion == NULL) {
        return;
    }
    trigger_free(inversion->trigger);
    adam_free(inversion->adam);
    mem_free(inversion->eligible);
    mem_free(inversion->picked);
    mem_free(inversion->sums);
    mem_free(inversion->chunk_gradients);
    mem_free(inversion->rendered_gradient);
    mem_free(inversion->parameter_gradient);
    mem_free(inversion);
}

static void pick_batch(struct inversion *v) {
    for (size_t i = 0; i < v->batch; i++) {
        if (v->next == v->eligible_count) {
            rng_shuffle(&v->rng, v->eligible, v->eligible_count);
            v->next = 0;
        }
        v->picked[i] = v->eligible[v->next++];
    }
}

/* Adds up the chunks' gradients and moves the trigger along them. */
static void follow(struct inversion *v) {
    struct trigger *t = v->trigger;
    memcpy(v->rendered_gradient, v->chunk_gradients, t->rendered_count * sizeof *v->rendered_gradient);
    for (size_t c = 1; c < chunk_count(v->batch, engine_chunk(v->data.engine)); c++) {
        const float *part = v->chunk_gradients + c * t->rendered_count;
        for (size_t i = 0; i < t->rendered_count; i++) {
            v->rendered_gradient[i] += part[i];
        }
    }
    trigger_parameter_gradient(t, v->data.range, v->rendered_gradient, v->parameter_gradient);
    adam_step(v->adam, t->parameters, v->parameter_gradient);
    trigger_project(t, v->data.range);
    trigger_render(t, v->data.range);
    v->steps++;
}

/* One step of each in one run; parts (count) is scratch. */
static enum status step(struct inversion *const *inversions, size_t count, struct part *parts, struct error *error) {
    for (size_t i = 0; i < count; i++) {
        struct inversion *v = inversions[i];
        pick_batch(v);
        parts[i] = (struct part){v->trigger, v->picked, v->sums, v->chunk_gradients};
    }
    const struct inversion *first = inversions[0];
    struct pass pass = {.data = &first->data,
                        .parts = parts,
                        .part_count = count,
                        .rows = first->batch,
                        .chunk = engine_chunk(first->data.engine)};
    const enum status status = run_pass(&pass, NULL, error);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        follow(inversions[i]);
    }
    return status;
}

/* Can their steps share runs? A chunk must not be of two triggers. */
static bool go_together(struct inversion *const *inversions, size_t count) {
    const struct inversion *first = inversions[0];
    bool together = first->batch % engine_chunk(first->data.engine) == 0;
    for (size_t i = 1; i < count; i++) {
        const struct inversion *v = inversions[i];
        together = together && v->batch == first->batch && v->data.mask == first->data.mask &&
                   v->data.fill == first->data.fill && v->data.engine == first->data.engine;
    }
    return together;
}

/* The mean loss of a step's batch, before the step. */
static double batch_loss(const struct inversion *v) {
    double loss = 0.0;
    for (size_t c = 0; c < chunk_count(v->batch, engine_chunk(v->data.engine)); c++) {
        loss += v->sums[c].loss;
    }
    return loss / (double)v->batch;
}

/* `steps` of each, or fewer of one whose last SETTLED_STEPS batches were below `settled`. */
static enum status take_steps(struct inversion *const *inversions, size_t count, size_t steps, double settled,
                              struct error *error) {
    const size_t each = go_together(inversions, count) ? count : 1;
    struct part *parts = mem_alloc(each, sizeof *parts);
    enum status status = parts == NULL ? error_no_memory(error, "the steps of an inversion") : STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i += each) {
        size_t below = 0;
        for (size_t s = 0; s < steps && below < SETTLED_STEPS && status == STATUS_OK; s++) {
            status = step(inversions + i, each, parts, error);
            below = each == 1 && batch_loss(inversions[i]) < settled ? below + 1 : 0;
        }
    }
    mem_free(parts);
    return status;
}

static enum status measure(struct inversion *v, size_t limit, struct error *error) {
    struct trigger *t = v->trigger;
    const enum status status = invert_measure(&v->data, t, limit, &t->loss, &t->success, error);
    if (status == STATUS_OK) {
        t->size = trigger_size(t, v->data.range);
    }
    return status;
}

static enum status advance(struct inversion *const *inversions, size_t count, size_t steps, double settled,
                           size_t limit, struct error *error) {
    enum status status = STATUS_OK;
    if (trigger_is_fixed(inversions[0]->trigger->family)) { /* nothing to step along: the best of its list */
        for (size_t i = 0; i < count && status == STATUS_OK; i++) {
            inversions[i]->steps += steps;
            status = dictionary_fit(&inversions[i]->data, inversions[i]->trigger, error);
        }
        return status;
    }
    status = take_steps(inversions, count, steps, settled, error);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = measure(inversions[i], limit, error);
    }
    return status;
}

/* --- what the memo keeps --- */

/* The part of the state that has a fixed size; parameters, optimiser and the order of the samples follow it. */
struct saved {
    struct rng rng;
    uint64_t steps, next;
    double loss, success, size;
};

static size_t saved_size(const struct inversion *v) {
    return sizeof(struct saved) + v->trigger->parameter_count * sizeof(float) + adam_state_size(v->adam) +
           v->eligible_count * sizeof *v->eligible;
}

static void save(const struct inversion *v, char *to) {
    const struct trigger *t = v->trigger;
    const struct saved saved = {v->rng, v->steps, v->next, t->loss, t->success, t->size};
    memcpy(to, &saved, sizeof saved);
    to += sizeof saved;
    memcpy(to, t->parameters, t->parameter_count * sizeof *t->parameters);
    to += t->parameter_count * sizeof *t->parameters;
    adam_save(v->adam, to);
    memcpy(to + adam_state_size(v->adam), v->eligible, v->eligible_count * sizeof *v->eligible);
}

/* false, and nothing is changed, if it is no state of this inversion. */
static bool load(struct inversion *v, const char *from) {
    struct trigger *t = v->trigger;
    struct saved saved;
    const char *parameters = from + sizeof saved;
    const char *adam = parameters + t->parameter_count * sizeof *t->parameters;
    const char *eligible = adam + adam_state_size(v->adam);
    memcpy(&saved, from, sizeof saved);
    for (size_t i = 0; i < v->eligible_count; i++) {
        size_t sample;
        memcpy(&sample, eligible + i * sizeof sample, sizeof sample);
        if (sample >= v->data.count) {
            return false;
        }
    }
    if (saved.next > v->eligible_count) {
        return false;
    }
    memcpy(t->parameters, parameters, t->parameter_count * sizeof *t->parameters);
    adam_load(v->adam, adam);
    memcpy(v->eligible, eligible, v->eligible_count * sizeof *v->eligible);
    v->rng = saved.rng;
    v->steps = (size_t)saved.steps;
    v->next = (size_t)saved.next;
    t->loss = saved.loss;
    t->success = saved.success;
    t->size = saved.size;
    trigger_render(t, v->data.range);
    return true;
}

/* What is asked: the state before, the network under test, and how far to go. */
static void key_of(const struct inversion *v, size_t steps, double settled, size_t limit, const char *state,
                   size_t size, char out[DIGEST_HEX_SIZE]) {
    const uint64_t what[] = {(uint64_t)v->trigger->family, v->trigger->target, v->batch, steps, limit};
    struct digest *digest = digest_new();
    out[0] = '\0';
    if (digest == NULL) {
        return;
    }
    digest_update(digest, what, sizeof what);
    digest_update(digest, &settled, sizeof settled);
    digest_update(digest, &v->trigger->scale, sizeof v->trigger->scale);
    digest_update(digest, state, size);
    if (v->trigger->map != NULL) {
        digest_update(digest, v->trigger->map, v->trigger->map_count * sizeof *v->trigger->map);
    }
    if (v->data.mask != NULL) {
        digest_update(digest, v->data.mask, v->data.units * sizeof *v->data.mask);
        digest_update(digest, v->data.fill, v->data.units * sizeof *v->data.fill);
    }
    digest_finish(digest, out);
    digest_free(digest);
}

/* One inversion as the memo sees it: the state it was asked for, then the state it reached. */
struct asked {
    struct inversion *inversion;
    char *state;
    size_t size;
    char key[DIGEST_HEX_SIZE];
};

/* *known: the memo had it, and the inversion is there now. */
static enum status ask(struct asked *asked, size_t steps, double settled, size_t limit, bool *known,
                       struct error *error) {
    struct inversion *v = asked->inversion;
    asked->size = saved_size(v);
    asked->state = mem_calloc(asked->size, 1);
    if (asked->state == NULL) {
        return error_no_memory(error, "an inversion's state");
    }
    save(v, asked->state);
    key_of(v, steps, settled, limit, asked->state, asked->size, asked->key);
    if (asked->key[0] == '\0') {
        return error_no_memory(error, "an inversion's key");
    }
    const struct invert_memo *memo = v->data.memo;
    *known = memo->recall(memo->user, asked->key, asked->state, asked->size) && load(v, asked->state);
    return STATUS_OK;
}

static enum status advance_with_memo(struct inversion *const *inversions, size_t count, size_t steps, double settled,
                                     size_t limit, struct error *error) {
    const struct invert_memo *memo = inversions[0]->data.memo;
    struct asked *asked = mem_calloc(count, sizeof *asked);
    struct inversion **open = mem_calloc(count, sizeof(struct inversion *));
    size_t open_count = 0;
    enum status status = asked == NULL || open == NULL ? error_no_memory(error, "the states of inversions") : STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        bool known = false;
        asked[open_count].inversion = inversions[i];
        status = ask(&asked[open_count], steps, settled, limit, &known, error);
        if (known) {
            mem_free(asked[open_count].state);
            asked[open_count].state = NULL;
        } else {
            open[open_count++] = inversions[i];
        }
    }
    if (status == STATUS_OK && open_count > 0) {
        status = advance(open, open_count, steps, settled, limit, error);
    }
    for (size_t i = 0; i < open_count && status == STATUS_OK; i++) {
        save(asked[i].inversion, asked[i].state);
        memo->keep(memo->user, asked[i].key, asked[i].state, asked[i].size);
    }
    for (size_t i = 0; asked != NULL && i < count; i++) {
        mem_free(asked[i].state);
    }
    mem_free(asked);
    mem_free(open);
    return status;
}

static enum status recall_or_advance(struct inversion *const *inversions, size_t count, size_t steps, double settled,
                                     size_t limit, struct error *error) {
    if (count == 0) {
        return STATUS_OK;
    }
    return inversions[0]->data.memo == NULL ? advance(inversions, count, steps, settled, limit, error)
                                            : advance_with_memo(inversions, count, steps, settled, limit, error);
}

enum status inversion_advance_all(struct inversion *const *inversions, size_t count, size_t steps, size_t limit,
                                  struct error *error) {
    return recall_or_advance(inversions, count, steps, 0.0, limit, error);
}

enum status inversion_advance(struct inversion *inversion, size_t steps, size_t limit, struct error *error) {
    return recall_or_advance(&inversion, 1, steps, 0.0, limit, error);
}

enum status inversion_settle(struct inversion *inversion, size_t steps, double settled, size_t limit,
                             struct error *error) {
    return recall_or_advance(&inversion, 1, steps, settled, limit, error);
}

size_t inversion_steps(const struct inversion *inversion) {
    return inversion->steps;
}

const struct trigger *inversion_trigger(const struct inversion *inversion) {
    return inversion->trigger;
}
