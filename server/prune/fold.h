/* From a mask to weights: a unit's output becomes m x + (1 - m) fill, m = 0 for a pruned one (the constant fill), other values for one
 * that was only retuned. In a Conv or Gemm weights and bias are changed; where a BatchNorm follows or stands alone, its scale and
 * bias (and a pruned unit's weights before it become zero). Units with m = 1 are untouched, to the bit. */
#ifndef ONP_SERVER_PRUNE_FOLD_H
#define ONP_SERVER_PRUNE_FOLD_H

#include <stddef.h>

#include "common/error.h"
#include "server/graph/units.h"
#include "server/nn/network.h"

/* Input slot `slot` of IR node `node` holds `data` (count floats, owned by the edit list) from now on. */
struct fold_edit {
    size_t node, slot, count;
    float *data;
};
struct fold {
    struct fold_edit *edits;
    size_t count;
};

/* `network` is the one without masks that `map` was made from. mask and fill (units). A Conv without a bias and
 * without a BatchNorm gets an edit of its empty bias slot (2). */
enum status fold_mask(const struct network *network, const struct unit_map *map, const float *mask, const float *fill,
                      struct fold **out, struct error *error);
void fold_free(struct fold *fold);

#endif
