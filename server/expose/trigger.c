/* Life of a trigger and the dispatch to its family's row. */
#include "server/expose/trigger.h"
#include <math.h>

#include "common/mem.h"
#include "server/expose/trigger_family.h"

static const struct trigger_family_row *const rows[TRIGGER_FAMILY_COUNT] = {
    [TRIGGER_PATCH] = &trigger_patch_row,
    [TRIGGER_ADDITIVE] = &trigger_additive_row,
    [TRIGGER_WARP] = &trigger_warp_row,
    [TRIGGER_TONE] = &trigger_tone_row,
};

const char *trigger_family_name(enum trigger_family family) {
    return rows[family]->name;
}

float trigger_learning_rate(const struct trigger *trigger) {
    const struct trigger_family_row *row = rows[trigger->family];
    return row->rate_by_scale ? row->learning_rate * (float)trigger->scale : row->learning_rate;
}

size_t trigger_entry_count(enum trigger_family family, const struct image_range *range) {
    return rows[family]->entry_count == NULL ? 0 : rows[family]->entry_count(range);
}

bool trigger_is_fixed(enum trigger_family family) {
    return rows[family]->backward == NULL;
}

void trigger_set_entry(struct trigger *trigger, const struct image_range *range, size_t entry) {
    rows[trigger->family]->set_entry(trigger, range, entry);
    trigger_render(trigger, range);
}

int32_t trigger_source(const struct trigger *trigger, int32_t label, int32_t predicted) {
    return trigger->map == NULL ? label : predicted;
}

int32_t trigger_goal(const struct trigger *trigger, int32_t source) {
    return trigger->map == NULL ? (int32_t)trigger->target : trigger->map[source];
}

bool trigger_is_bounded(enum trigger_family family) {
    return rows[family]->bounded;
}

static struct trigger *allocate(size_t parameter_count, size_t rendered_count) {
    struct trigger *t = mem_calloc(1, sizeof *t);
    if (t == NULL) {
        return NULL;
    }
    t->parameter_count = parameter_count;
    t->rendered_count = rendered_count;
    t->parameters = mem_calloc(parameter_count, sizeof *t->parameters);
    t->rendered = mem_calloc(rendered_count, sizeof *t->rendered);
    if (t->parameters == NULL || t->rendered == NULL) {
        trigger_free(t);
        return NULL;
    }
    return t;
}

enum status trigger_new(enum trigger_family family, size_t target, double scale, const struct image_range *range,
                        struct rng *rng, struct trigger **out, struct error *error) {
    const struct trigger_family_row *row = rows[family];
    struct trigger *t = allocate(row->parameter_count(range), row->rendered_count(range));
    if (t == NULL) {
        return error_no_memory(error, "a trigger");
    }
    t->family = family;
    t->target = target;
    t->scale = scale;
    row->start(t, range, rng);
    row->render(t, range);
    *out = t;
    return STATUS_OK;
}

enum status trigger_new_entry(enum trigger_family family, size_t target, size_t entry, const struct image_range *range,
                              struct trigger **out, struct error *error) {
    const struct trigger_family_row *row = rows[family];
    struct trigger *t = allocate(row->parameter_count(range), row->rendered_count(range));
    if (t == NULL) {
        return error_no_memory(error, "a trigger");
    }
    t->family = family;
    t->target = target;
    t->scale = row->entry_scale > 0.0 ? row->entry_scale : 1.0;
    trigger_set_entry(t, range, entry);
    *out = t;
    return STATUS_OK;
}

enum status trigger_set_map(struct trigger *trigger, const int32_t *map, size_t classes, struct error *error) {
    int32_t *copy = mem_dup(map, classes * sizeof *map);
    if (copy == NULL) {
        return error_no_memory(error, "a trigger");
    }
    mem_free(trigger->map);
    trigger->map = copy;
    trigger->map_count = classes;
    return STATUS_OK;
}

enum status trigger_copy(const struct trigger *trigger, struct trigger **out, struct error *error) {
    struct trigger *t = allocate(trigger->parameter_count, trigger->rendered_count);
    if (t == NULL) {
        return error_no_memory(error, "a trigger");
    }
    float *parameters = t->parameters, *rendered = t->rendered;
    *t = *trigger;
    t->parameters = parameters;
    t->rendered = rendered;
    t->map = NULL;
    if (trigger->map != NULL && trigger_set_map(t, trigger->map, trigger->map_count, error) != STATUS_OK) {
        trigger_free(t);
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < t->parameter_count; i++) {
        parameters[i] = trigger->parameters[i];
    }
    for (size_t i = 0; i < t->rendered_count; i++) {
        rendered[i] = trigger->rendered[i];
    }
    *out = t;
    return STATUS_OK;
}

void trigger_free(struct trigger *trigger) {
    if (trigger == NULL) {
        return;
    }
    mem_free(trigger->parameters);
    mem_free(trigger->rendered);
    mem_free(trigger->map);
    mem_free(trigger);
}

void trigger_render(struct trigger *trigger, const struct image_range *range) {
    rows[trigger->family]->render(trigger, range);
}

void trigger_apply(const struct trigger *trigger, const struct image_range *range, const float *x, float *out) {
    rows[trigger->family]->apply(trigger, range, x, out);
}

void trigger_apply_at(const struct trigger *trigger, const struct image_range *range, float strength, const float *x,
                      float *out) {
    const size_t pixels = range_pixels(range);
    trigger_apply(trigger, range, x, out);
    for (size_t c = 0; c < range->channels && strength != 1.0F; c++) {
        for (size_t i = c * pixels; i < (c + 1) * pixels; i++) {
            out[i] = fminf(fmaxf(x[i] + strength * (out[i] - x[i]), range->low[c]), range->high[c]);
        }
    }
}

void trigger_backward(const struct trigger *trigger, const struct image_range *range, const float *x, const float *dout,
                      float *gradient) {
    rows[trigger->family]->backward(trigger, range, x, dout, gradient);
}

void trigger_parameter_gradient(const struct trigger *trigger, const struct image_range *range,
                                const float *rendered_gradient, float *parameter_gradient) {
    rows[trigger->family]->parameter_gradient(trigger, range, rendered_gradient, parameter_gradient);
}

void trigger_project(struct trigger *trigger, const struct image_range *range) {
    if (rows[trigger->family]->project != NULL) {
        rows[trigger->family]->project(trigger, range);
    }
}

double trigger_size(const struct trigger *trigger, const struct image_range *range) {
    return rows[trigger->family]->size(trigger, range);
}
