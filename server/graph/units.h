/* Prunable units, found from the data-flow graph (never from names or node order): output channels of a Conv (with the BatchNorm
 * that is its only reader), channels of a BatchNorm that stands alone (pre-activation nets), outputs of a hidden Gemm, also where
 * they are the last of several axes (MLPs over tokens, the queries, keys and values of attention). The layer that makes the logits has
 * no units. */
#ifndef ONP_SERVER_GRAPH_UNITS_H
#define ONP_SERVER_GRAPH_UNITS_H

#include <stddef.h>

#include "common/error.h"
#include "server/nn/network.h"

struct unit_layer {
    size_t value;       /* the value whose channels are the units (before masking), in the network without masks */
    size_t axis;        /* its channel axis */
    size_t weight_node; /* Conv or Gemm node that makes it; NETWORK_NONE for a BatchNorm that stands alone */
    size_t norm_node;   /* its BatchNorm; NETWORK_NONE if there is none */
    size_t first;       /* its channel 0 is unit `first` */
    size_t count;       /* channels */
    size_t depth;       /* number of weight layers on the longest path from the input */
    size_t positions;   /* values a channel at batch 1 (H * W; tokens or 1 after a Gemm) */
    size_t
        inner; /* of these, those that lie behind the channel axis: the value is (N, positions / inner, count, inner) */
    /* If the only reader is a Relu or Clip, that is its range; else -inf, inf. The fill of a unit is the mean of
     * clamp(x, low, high): then what comes after the activation has exactly the mean it had. */
    float low, high;
};

struct unit_map {
    struct unit_layer *layers; /* topological order */
    size_t layer_count;
    size_t unit_count;
    size_t *layer_of; /* (units) */
    /* (units): units tied by a residual Add (channel c of each summand), or by being the values of one attention head, share a
     * group; a free unit has its own. */
    size_t *group_of;
    size_t group_count;
};

/* `network` has no Mask nodes. STATUS_UNSUPPORTED if nothing can be pruned. */
enum status units_find(const struct network *network, struct unit_map **out, struct error *error);
void units_free(struct unit_map *map);
/* network_with_masks() over the layers of the map: mask layer i is map layer i, unit numbers agree. */
enum status units_masked_network(const struct network *network, const struct unit_map *map, struct network **out,
                                 struct error *error);
/* Name for reports: that of the node whose weights make the unit (norm_node if it stands alone). */
const char *units_layer_name(const struct network *network, const struct unit_layer *layer);

#endif
