/* The GNN policy: message passing over the typed edges of the neuron graph (RGCN-like, one weight matrix a relation and one for
 * the node itself; Schlichtkrull et al. 2018, eq. 2, with mean aggregation by edge weight), 2 to 3 layers of width 32 to 64, a head
 * that gives each action the logit of pruning it (nodes of one action are mean-pooled), and a value head on the mean-pooled
 * embedding. Features also count for the logits directly (as in Cheng et al. 2016). Forward and backward are our own. Weights do not depend on the size of the graph. Single-threaded. */
#ifndef ONP_SERVER_AGENT_POLICY_H
#define ONP_SERVER_AGENT_POLICY_H

#include <stddef.h>

#include "common/error.h"
#include "common/rng.h"
#include "server/agent/rl_env.h"

struct policy_shape {
    size_t feature_count, width, layers;
};
struct policy;

/* Weights drawn by `rng` (Glorot); the prune head starts at zero weights. */
enum status policy_new(const struct policy_shape *shape, struct rng *rng, struct policy **out, struct error *error);
void policy_free(struct policy *policy);
const struct policy_shape *policy_shape_of(const struct policy *policy);
size_t policy_parameter_count(const struct policy *policy);
float *policy_parameters(struct policy *policy); /* one flat array, for optimisers, saving and finite differences */
float *
policy_skip(struct policy *policy); /* (features) of them: the weights of the features in the logits themselves */
float *policy_gradient(struct policy *policy); /* same layout; policy_backward() adds to it */

/* logits (actions): log-odds of pruning; *value: predicted reward. Keeps activations for policy_backward(). */
enum status policy_forward(struct policy *policy, const struct rl_env *env, float *logits, float *value,
                           struct error *error);
/* Adds the gradient for dlogits (actions) and dvalue of the last policy_forward() to policy_gradient(). */
void policy_backward(struct policy *policy, const struct rl_env *env, const float *dlogits, float dvalue);

#endif
