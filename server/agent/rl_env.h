/* What the agent knows of the world: a graph with node features, actions over groups of nodes, and a function that scores masks.
 * It knows nothing of ONNX, images, triggers or jobs. */
#ifndef ONP_SERVER_AGENT_RL_ENV_H
#define ONP_SERVER_AGENT_RL_ENV_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/graph/neuron_graph.h"

struct rl_env {
    void *user;
    const struct neuron_graph *graph;
    const float *features; /* (nodes, feature_count) */
    size_t feature_count;
    size_t action_count;
    const size_t *action_of; /* (nodes): nodes of one action are pruned together; RL_NO_ACTION: never pruned */
    /* rewards[i] of mask i, for i in [0, count): masks (count, action_count), 1 = prune. One evaluation each. */
    enum status (*evaluate)(void *user, const uint8_t *masks, size_t count, double *rewards, struct error *error);
};
#define RL_NO_ACTION ((size_t)-1)

#endif
