/* Private to compaction: which channels go, and what becomes of them. A channel is an index along axis 1 of a computed value; channels
 * that must go together (in and out of a ReLU, both sides of an Add) form a class. */
#ifndef ONP_SERVER_PRUNE_COMPACT_PLAN_H
#define ONP_SERVER_PRUNE_COMPACT_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "server/graph/flow.h"
#include "server/nn/network.h"

struct compact_plan {
    const struct network *network;
    struct flow *flow;
    size_t *base;    /* (values + 1): channel c of value v is number base[v] + c; none for constants and rank below 2 */
    size_t channels; /* in all */
    size_t *parent;  /* (channels): union-find */
    bool *fixed;     /* (channels) must stay, whatever it is */
    bool *known;     /* (channels) its value is the same everywhere for every input: */
    float *value;    /* (channels) this */
    bool *needed;    /* (channels) something that matters reads it */
    bool *gone;      /* (channels) removed */
    size_t *into; /* (channels) of a removed one: the channel of the same value it is merged into, else NETWORK_NONE */
};

enum status compact_plan_new(const struct network *network, struct compact_plan **out, struct error *error);
void compact_plan_free(struct compact_plan *plan);

/* Channels that stay. */
size_t compact_kept(const struct compact_plan *plan, size_t value);
/* A constant on channel `channel` of the input of this Conv cannot be had from a bias: the padding would differ. */
bool compact_is_padded(const struct node *node);
/* Conv with one group or Gemm over (N, K): mixes channels. */
bool compact_is_mixing(const struct network *network, const struct node *node);
/* Sum over the kernel of the weights from input channel c to output channel m; Gemm: the weight times alpha. */
double compact_weight(const struct network *network, const struct node *node, size_t m, size_t c);
bool compact_has_weight(const struct network *network, const struct node *node, size_t m, size_t c);

#endif
