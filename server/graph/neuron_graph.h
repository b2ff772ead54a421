/* The network as a graph of neurons (arXiv 2405.17746; our reading of it, see docs): a node is a unit; inside a layer two units are
 * joined if the cosine similarity of their connection-strength vectors (L1 norms of the kernel slices towards each channel before
 * and after) is above a threshold, chosen a layer so that the mean degree is about 8; between layers each unit is joined
 * to the 8 units it is most strongly connected with. */
#ifndef ONP_SERVER_GRAPH_NEURON_GRAPH_H
#define ONP_SERVER_GRAPH_NEURON_GRAPH_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/graph/units.h"
#include "server/nn/network.h"

enum relation { RELATION_SIMILAR, RELATION_FORWARD, RELATION_BACKWARD, RELATION_COUNT };

/* Edges of one relation, compressed by receiving node: neighbours of u are source[start[u] .. start[u + 1]) with weights in (0, 1]. */
struct edge_list {
    size_t *start; /* (nodes + 1) */
    uint32_t *source;
    float *weight;
};

/* Features of a unit that come from the weights alone. Those that come from running the network are columns the
 * caller adds (neuron_graph_features()). */
enum weight_feature {
    WEIGHT_FEATURE_L1,  /* L1 norm of the filter */
    WEIGHT_FEATURE_IN,  /* norm of the incoming connection vector */
    WEIGHT_FEATURE_OUT, /* norm of the outgoing connection vector */
    WEIGHT_FEATURE_LIPSCHITZ, /* channel Lipschitz constant: largest singular value of the kernel (M x rest) times |gamma| / sigma */
    WEIGHT_FEATURE_COUNT
};

struct neuron_graph {
    size_t node_count; /* = units */
    struct edge_list edges[RELATION_COUNT];
    float *weight_features; /* (nodes, WEIGHT_FEATURE_COUNT), raw */
};

enum status neuron_graph_new(const struct network *network, const struct unit_map *map, struct neuron_graph **out,
                             struct error *error);
void neuron_graph_free(struct neuron_graph *graph);

/* The feature matrix for the policy: columns are standardised inside each layer (mean 0, deviation 1; a constant column or a layer
 * of one unit gives 0; values clamped to [-5, 5]), from the weight features (log1p first) and `column_count` columns of raw values
 * (units) each; then two more, not standardised: depth in [0, 1] and log2(layer width) / 10. features (nodes, *feature_count) is the
 * caller's (mem_free()). */
enum status neuron_graph_features(const struct neuron_graph *graph, const struct unit_map *map,
                                  const float *const *columns, size_t column_count, float **features,
                                  size_t *feature_count, struct error *error);

#endif
