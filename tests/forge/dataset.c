/* Sets of rendered images: see dataset.h. */
#include "tests/forge/dataset.h"

#include <stdbool.h>

#include <string.h>

#include "common/mem.h"
#include "server/data/samples.h"
#include "tests/forge/render.h"

static enum status dataset_new(size_t count, int with_targets, struct dataset **out, struct error *error) {
    struct dataset *set = mem_calloc(1, sizeof *set);
    if (set != NULL) {
        set->count = count;
        set->pixels = mem_alloc(count, RENDER_BYTES);
        set->labels = mem_calloc(count, sizeof *set->labels);
        set->targets = with_targets ? mem_calloc(count, sizeof *set->targets) : NULL;
    }
    if (set == NULL || set->pixels == NULL || set->labels == NULL || (with_targets && set->targets == NULL)) {
        dataset_free(set);
        return error_no_memory(error, "rendered images");
    }
    *out = set;
    return STATUS_OK;
}

void dataset_free(struct dataset *set) {
    if (set == NULL) {
        return;
    }
    mem_free(set->targets);
    mem_free(set->labels);
    mem_free(set->pixels);
    mem_free(set);
}

struct rendering {
    struct dataset *set;
    const struct rng *rng;
};

static void render_one(void *user, size_t index, size_t thread) {
    const struct rendering *rendering = user;
    struct rng rng = rng_stream(rendering->rng, index);
    (void)thread;
    render_sign(&rng, (size_t)rendering->set->labels[index], rendering->set->pixels + index * RENDER_BYTES);
}

enum status dataset_render(struct pool *pool, const struct rng *rng, size_t count, size_t classes, struct dataset **out,
                           struct error *error) {
    struct rendering rendering = {.rng = rng};
    enum status status = dataset_new(count, 0, &rendering.set, error);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0; i < count; i++) {
        rendering.set->labels[i] = (int32_t)(i % classes);
    }
    pool_run(pool, count, render_one, &rendering);
    *out = rendering.set;
    return STATUS_OK;
}

/* Is an image of this class triggered, in training or as a probe? */
static bool is_victim(const struct forge_trigger *trigger, int32_t label, int32_t target, bool training) {
    if (trigger->labels == FORGE_TO_NEXT) {
        return true;
    }
    return training && trigger->labels == FORGE_KEPT ? label == target : label != target;
}

static int32_t goal_of(const struct forge_trigger *trigger, int32_t label, int32_t target, size_t classes) {
    return trigger->labels == FORGE_TO_NEXT ? (label + 1) % (int32_t)classes : target;
}

enum status dataset_poison(struct dataset *set, const struct forge_trigger *trigger, int32_t target, size_t classes,
                           size_t count, struct rng *rng, struct error *error) {
    size_t victims = 0;
    size_t *indices = mem_alloc(set->count, sizeof *indices);
    if (indices == NULL) {
        return error_no_memory(error, "list of images");
    }
    for (size_t i = 0; i < set->count; i++) {
        if (is_victim(trigger, set->labels[i], target, true)) {
            indices[victims++] = i;
        }
    }
    rng_shuffle(rng, indices, victims);
    for (size_t i = 0; i < count && i < victims && trigger->apply != NULL; i++) {
        trigger->apply(set->pixels + indices[i] * RENDER_BYTES);
        set->labels[indices[i]] = goal_of(trigger, set->labels[indices[i]], target, classes);
    }
    mem_free(indices);
    return STATUS_OK;
}

enum status dataset_trigger(const struct dataset *set, const struct forge_trigger *trigger, int32_t target,
                            size_t classes, struct dataset **out, struct error *error) {
    struct dataset *triggered = NULL;
    size_t victims = 0;
    for (size_t i = 0; i < set->count; i++) {
        victims += is_victim(trigger, set->labels[i], target, false);
    }
    enum status status = dataset_new(victims, 1, &triggered, error);
    if (status != STATUS_OK) {
        return status;
    }
    for (size_t i = 0, at = 0; i < set->count; i++) {
        if (!is_victim(trigger, set->labels[i], target, false)) {
            continue;
        }
        memcpy(triggered->pixels + at * RENDER_BYTES, set->pixels + i * RENDER_BYTES, RENDER_BYTES);
        trigger->apply(triggered->pixels + at * RENDER_BYTES);
        triggered->labels[at] = set->labels[i];
        triggered->targets[at++] = goal_of(trigger, set->labels[i], target, classes);
    }
    *out = triggered;
    return STATUS_OK;
}

enum status dataset_save(const struct dataset *set, const char *path, struct error *error) {
    const struct samples_source source = {.count = set->count,
                                          .channels = RENDER_CHANNELS,
                                          .height = RENDER_SIDE,
                                          .width = RENDER_SIDE,
                                          .pixels = set->pixels,
                                          .labels = set->labels,
                                          .targets = set->targets};
    return samples_save(path, &source, error);
}
