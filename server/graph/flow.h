/* Small questions about the data flow that several files of this folder ask: who reads a value, is a node a depthwise convolution,
 * does an op keep channel c in channel c. Private to server/graph and server/prune. */
#ifndef ONP_SERVER_GRAPH_FLOW_H
#define ONP_SERVER_GRAPH_FLOW_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "server/nn/network.h"

/* Readers of each value, in node order; a node that reads a value twice stands twice. */
struct flow {
    size_t *start;  /* (values + 1) */
    size_t *reader; /* node indices; those of value v are reader[start[v] .. start[v + 1]) */
};

enum status flow_new(const struct network *network, struct flow **out, struct error *error);
void flow_free(struct flow *flow);

/* The node that alone reads `value`, which is then not the output either; NETWORK_NONE if there is none or several. */
size_t flow_only_reader(const struct network *network, const struct flow *flow, size_t value);

/* Every input channel has filters of its own (group == channels, more than one). */
bool flow_is_depthwise(const struct network *network, const struct node *node);
/* The shape stays, and channel c of the output is a function of channel c of input 0 alone, position by position: activations,
 * BatchNorm, Identity, and the four arithmetic ops with a constant. *input is the slot of the computed operand. */
bool flow_is_pointwise(const struct network *network, const struct node *node, size_t *input);
/* Input slot `slot` of `node` is there and is a constant. */
bool flow_has_constant(const struct network *network, const struct node *node, size_t slot);
/* The axis of a Conv's or Gemm's output that its filters make: 1, or the last (MLPs over tokens or positions). */
size_t flow_channel_axis(const struct network *network, const struct node *node);
/* node is an Add of a computed value and a constant with exactly one number a channel of `axis`. *slot is the constant's slot. */
bool flow_is_channel_bias(const struct network *network, const struct node *node, size_t axis, size_t *slot);

/* The nodes between a unit layer's weights and its value: Conv or Gemm, then an Add of a constant where the weights have no bias of
 * their own (MatMul + Add), then a BatchNorm; each the only reader of what is before it. */
struct flow_chain {
    size_t value;
    size_t bias_node; /* the Add; NETWORK_NONE */
    size_t bias_slot; /* where its constant is */
    size_t norm_node; /* NETWORK_NONE */
};
void flow_chain_of(const struct network *network, const struct flow *flow, size_t weight_node,
                   struct flow_chain *chain);

#endif
