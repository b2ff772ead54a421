/* How strongly units are connected: L1 norms of kernel slices, per weight node and input block, with the BatchNorm after
 * the weights folded in (so that a file with folded and one with living BatchNorms give the same graph). Private to server/graph. */
#ifndef ONP_SERVER_GRAPH_CONNECTIONS_H
#define ONP_SERVER_GRAPH_CONNECTIONS_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/graph/neuron_graph.h"
#include "server/graph/origins.h"
#include "server/graph/units.h"
#include "server/nn/network.h"

/* One Conv or Gemm: strength (blocks, outputs) of input block b to output channel m. */
struct slices {
    size_t node, input; /* node, and the value it reads */
    size_t layer;       /* unit layer it makes; NETWORK_NONE for the logits */
    bool known;         /* the origins of the input are known along the axis that the node reads */
    size_t blocks, outputs;
    float *strength;
};

struct connections {
    const struct network *network;
    const struct unit_map *map;
    struct origins *near;    /* nearest units */
    struct origins *through; /* and those before a BatchNorm that stands alone */
    struct slices *slices;   /* node order */
    size_t slices_count;
    size_t *slices_of; /* (layers): index into slices; NETWORK_NONE for a BatchNorm that stands alone */
};

enum status connections_new(const struct network *network, const struct unit_map *map, struct connections **out,
                            struct error *error);
void connections_free(struct connections *connections);

/* The units that write input block `block`; as origins_block_units(). */
size_t slices_writers(const struct origins *origins, const struct slices *slices, size_t block, const uint32_t **units);

/* |gamma| / sigma of channel `channel` of BatchNorm `node`. */
float connections_norm_scale(const struct network *network, size_t node, size_t channel);

/* features (units, WEIGHT_FEATURE_COUNT): all but WEIGHT_FEATURE_OUT, which similarity.c fills in. */
enum status connections_features(const struct connections *connections, float *features, struct error *error);

/* The at most `capacity` strongest of many, strongest first; of equals the one offered first. */
struct strongest {
    size_t capacity, count;
    uint32_t *id;
    float *weight;
};
void strongest_offer(struct strongest *list, uint32_t id, float weight);

/* Edges between layers: RELATION_FORWARD and RELATION_BACKWARD of `edges`. features as above. */
enum status connections_edges(const struct connections *connections, const float *features,
                              struct edge_list edges[RELATION_COUNT], struct error *error);

/* Edges inside layers: RELATION_SIMILAR; writes WEIGHT_FEATURE_OUT of features. */
enum status similarity_edges(const struct connections *connections, float *features, struct edge_list *edges,
                             struct error *error);

#endif
