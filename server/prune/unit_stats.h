/* What units do on given inputs: mean and deviation of each unit's output over samples and positions. */
#ifndef ONP_SERVER_PRUNE_UNIT_STATS_H
#define ONP_SERVER_PRUNE_UNIT_STATS_H

#include <stdatomic.h>
#include <stddef.h>

#include "common/error.h"
#include "server/graph/units.h"
#include "server/nn/engine.h"

struct unit_stats {
    float *mean;      /* (units) of clamp(x, low, high), see units.h: this is the fill */
    float *deviation; /* (units) of the same */
};

/* Runs `engine` (over the masked network of `map`) forward on `count` inputs, given as in engine_run: input (count, C, H, W), or NULL
 * with fill and user. mask and fill_values as mask and fill in engine_run, NULL for none. logits (count, K) or NULL. */
enum status unit_stats_collect(struct engine *engine, const struct unit_map *map, size_t count, const float *input,
                               void (*fill)(void *user, size_t first, size_t n, float *x), void *user,
                               const float *mask, const float *fill_values, float *logits, const atomic_bool *cancel,
                               struct unit_stats **out, struct error *error);
void unit_stats_free(struct unit_stats *stats);

#endif
