/* What units do on given inputs: mean and deviation of each unit's output over samples and positions. */
#ifndef ONP_SERVER_PRUNE_UNIT_STATS_H
#define ONP_SERVER_PRUNE_UNIT_STATS_H

#include <stddef.h>

#include "common/error.h"
#include "server/graph/units.h"
#include "server/nn/engine.h"

struct unit_stats {
    float *mean;      /* (units) of clamp(x, low, high), see units.h: this is the fill */
    float *deviation; /* (units) of the same */
};

/* Runs `engine` (over the masked network of `map`) as `run` says, forward or, with its loss, backward as well, and collects on the way.
 * run->tap must be NULL; input_grad and batch_stats are not for this. */
enum status unit_stats_collect(struct engine *engine, const struct unit_map *map, const struct engine_run *run,
                               struct unit_stats **out, struct error *error);
void unit_stats_free(struct unit_stats *stats);

#endif
