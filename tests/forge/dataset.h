/* Rendered images with labels. */
#ifndef ONP_TESTS_FORGE_DATASET_H
#define ONP_TESTS_FORGE_DATASET_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/rng.h"
#include "server/nn/pool.h"
#include "tests/forge/trigger.h"

struct dataset {
    size_t count;
    uint8_t *pixels;  /* (count, 3, 32, 32) */
    int32_t *labels;  /* (count) */
    int32_t *targets; /* (count), sets of triggered images only; else NULL */
};

/* `count` images, classes in turn; image i has its own stream of `rng`, so the threads do not matter. The set is the
 * caller's (dataset_free()). */
enum status dataset_render(struct pool *pool, const struct rng *rng, size_t count, size_t classes, struct dataset **out,
                           struct error *error);
void dataset_free(struct dataset *set);

/* Puts the trigger on `count` images drawn by rng from those that the attack triggers (struct forge_trigger), and relabels them as
 * it says. Fewer if there are not so many. */
enum status dataset_poison(struct dataset *set, const struct forge_trigger *trigger, int32_t target, size_t classes,
                           size_t count, struct rng *rng, struct error *error);
/* The images that the attack is to send elsewhere, triggered, with their true labels and where they are to go: the caller's. */
enum status dataset_trigger(const struct dataset *set, const struct forge_trigger *trigger, int32_t target,
                            size_t classes, struct dataset **out, struct error *error);
/* Writes x, y and, if it has them, target as npz. */
enum status dataset_save(const struct dataset *set, const char *path, struct error *error);

#endif
