/* One inversion: Adam on the parameters of a trigger. The images are triggered inside the engine's chunks, by its threads; the
 * gradient by the trigger is kept a chunk and added in chunk order, so that the result does not depend on the threads. */
#include "server/expose/invert.h"

#include <string.h>

#include "common/digest.h"
#include "common/mem.h"
#include "server/expose/dictionary.h"
#include "server/nn/loss.h"
#include "server/nn/optim.h"

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

/* One engine run over picked samples with a trigger applied. */
struct pass {
    const struct invert_data *data;
    const struct trigger *trigger;
    const size_t *picked;
    size_t count, chunk;
    struct chunk_sum *sums;
    float *chunk_gradients; /* NULL when only measuring */
};

static void fill_triggered(void *user, size_t first, size_t n, float *x) {
    const struct pass *pass = user;
    const struct image_range *range = pass->data->range;
    const size_t size = range->channels * range->height * range->width;
    for (size_t i = 0; i < n; i++) {
        trigger_apply(pass->trigger, range, pass->data->images + pass->picked[first + i] * size, x + i * size);
    }
}

static void target_loss(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    const struct pass *pass = user;
    const size_t classes = pass->data->classes;
    struct chunk_sum *sum = &pass->sums[first / pass->chunk];
    sum->loss = 0.0;
    sum->hits = 0;
    for (size_t i = 0; i < n; i++) {
        const float *row = logits + i * classes;
        float *drow = dlogits == NULL ? NULL : dlogits + i * classes;
        const int32_t label = pass->data->labels[pass->picked[first + i]];
        const int32_t goal = trigger_goal(pass->trigger, label);
        const float scale = 1.0F / (float)pass->count;
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
    const size_t count = pass->trigger->rendered_count;
    float *gradient = pass->chunk_gradients + first / pass->chunk * count;
    (void)x;
    memset(gradient, 0, count * sizeof *gradient);
    for (size_t i = 0; i < n; i++) {
        trigger_backward(pass->trigger, range, pass->data->images + pass->picked[first + i] * size, dx + i * size,
                         gradient);
    }
}

static size_t chunk_count(size_t count, size_t chunk) {
    return (count + chunk - 1) / chunk;
}

/* Runs the pass; without gradients only forward, the loss then being taken from the logits. */
static enum status run_pass(struct pass *pass, float *logits, struct error *error) {
    const struct invert_data *data = pass->data;
    const struct engine_run run = {
        .count = pass->count,
        .user = pass,
        .fill_input = fill_triggered,
        .mask = data->mask,
        .fill = data->fill,
        .logits = logits,
        .loss = pass->chunk_gradients == NULL ? NULL : target_loss,
        .input_grad = pass->chunk_gradients == NULL ? NULL : trigger_gradient,
        .cancel = data->cancel,
    };
    return engine_run(data->engine, &run, error);
}

/* Indices of the samples that the trigger is to send to another class than their own. */
static size_t find_eligible(const struct invert_data *data, const struct trigger *trigger, size_t *out) {
    size_t n = 0;
    for (size_t i = 0; i < data->count; i++) {
        if (trigger_goal(trigger, data->labels[i]) != data->labels[i]) {
            out[n++] = i;
        }
    }
    return n;
}

enum status invert_logits(const struct invert_data *data, const struct trigger *trigger, size_t limit, size_t *picked,
                          float *logits, size_t *count, struct error *error) {
    struct pass pass = {.data = data, .trigger = trigger, .picked = picked, .chunk = engine_chunk(data->engine)};
    pass.count = find_eligible(data, trigger, picked);
    pass.count = pass.count > limit ? limit : pass.count;
    if (pass.count == 0) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to measure a trigger to class %zu: got samples of that class only, expected others",
                         trigger->target);
    }
    *count = pass.count;
    return run_pass(&pass, logits, error);
}

enum status invert_measure(const struct invert_data *data, const struct trigger *trigger, size_t limit, double *loss,
                           double *success, struct error *error) {
    size_t *picked = mem_alloc(data->count, sizeof *picked);
    float *logits = mem_alloc(limit * data->classes, sizeof *logits);
    struct chunk_sum sum;
    struct pass pass = {.data = data, .trigger = trigger, .picked = picked, .sums = &sum};
    enum status status = picked == NULL || logits == NULL ? error_no_memory(error, "a trigger's measure") : STATUS_OK;
    if (status == STATUS_OK) {
        status = invert_logits(data, trigger, limit, picked, logits, &pass.count, error);
    }
    if (status == STATUS_OK) {
        pass.chunk = pass.count;
        target_loss(&pass, 0, pass.count, logits, NULL);
        *loss = sum.loss / (double)pass.count;
        *success = (double)sum.hits / (double)pass.count;
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

static enum status step(struct inversion *v, struct error *error) {
    struct trigger *t = v->trigger;
    pick_batch(v);
    struct pass pass = {.data = &v->data,
                        .trigger = t,
                        .picked = v->picked,
                        .count = v->batch,
                        .chunk = engine_chunk(v->data.engine),
                        .sums = v->sums,
                        .chunk_gradients = v->chunk_gradients};
    enum status status = run_pass(&pass, NULL, error);
    if (status != STATUS_OK) {
        return status;
    }
    memcpy(v->rendered_gradient, v->chunk_gradients, t->rendered_count * sizeof *v->rendered_gradient);
    for (size_t c = 1; c < chunk_count(pass.count, pass.chunk); c++) {
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
    return STATUS_OK;
}

static enum status advance(struct inversion *v, size_t steps, size_t limit, struct error *error) {
    if (trigger_is_fixed(v->trigger->family)) { /* nothing to step along: the best of its list */
        v->steps += steps;
        return dictionary_fit(&v->data, v->trigger, error);
    }
    enum status status = STATUS_OK;
    for (size_t i = 0; i < steps && status == STATUS_OK; i++) {
        status = step(v, error);
    }
    if (status == STATUS_OK) {
        status = invert_measure(&v->data, v->trigger, limit, &v->trigger->loss, &v->trigger->success, error);
    }
    if (status == STATUS_OK) {
        v->trigger->size = trigger_size(v->trigger, v->data.range);
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
static void key_of(const struct inversion *v, size_t steps, size_t limit, const char *state, size_t size,
                   char out[DIGEST_HEX_SIZE]) {
    const uint64_t what[] = {(uint64_t)v->trigger->family, v->trigger->target, v->batch, steps, limit};
    struct digest *digest = digest_new();
    out[0] = '\0';
    if (digest == NULL) {
        return;
    }
    digest_update(digest, what, sizeof what);
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

enum status inversion_advance(struct inversion *inversion, size_t steps, size_t limit, struct error *error) {
    const struct invert_memo *memo = inversion->data.memo;
    char key[DIGEST_HEX_SIZE];
    if (memo == NULL) {
        return advance(inversion, steps, limit, error);
    }
    const size_t size = saved_size(inversion);
    char *state = mem_calloc(size, 1);
    if (state == NULL) {
        return error_no_memory(error, "an inversion's state");
    }
    enum status status = STATUS_OK;
    save(inversion, state);
    key_of(inversion, steps, limit, state, size, key);
    if (key[0] == '\0') {
        status = error_no_memory(error, "an inversion's key");
    } else if (!memo->recall(memo->user, key, state, size) || !load(inversion, state)) {
        status = advance(inversion, steps, limit, error);
        if (status == STATUS_OK) {
            save(inversion, state);
            memo->keep(memo->user, key, state, size);
        }
    }
    mem_free(state);
    return status;
}

size_t inversion_steps(const struct inversion *inversion) {
    return inversion->steps;
}

const struct trigger *inversion_trigger(const struct inversion *inversion) {
    return inversion->trigger;
}
