/* From a mask to weights: a pruned unit's output becomes the constant `fill`. In a Conv or Gemm the unit's weights are zeroed and its
 * bias set; where a BatchNorm follows, its scale is zeroed and its bias set too; a BatchNorm that stands alone gets scale 0 and bias
 * fill. Nothing else changes. */
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

/* `network` is the one without masks that `map` was made from. mask (units): 0 = pruned, else kept; fill (units). A Conv without a bias and
 * without a BatchNorm gets an edit of its empty bias slot (2). */
enum status fold_mask(const struct network *network, const struct unit_map *map, const float *mask, const float *fill,
                      struct fold **out, struct error *error);
void fold_free(struct fold *fold);

#endif
