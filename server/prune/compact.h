/* Compaction: a smaller network that computes the same. Channels whose value never changes (pruned units, and what only they feed) or
 * that nobody needs are removed through Conv, depthwise Conv, BatchNorm, activations, pooling, Add, Concat, Flatten and Gemm. What
 * a removed channel gave is folded into the next bias where that is exact: everywhere but at the borders of a padded
 * Conv, which sees zeros there and not the constant. Such channels are merged instead: of all that lie side by side one
 * stays, and takes over the weights of the others. What cannot be removed exactly stays as it is. */
#ifndef ONP_SERVER_PRUNE_COMPACT_H
#define ONP_SERVER_PRUNE_COMPACT_H

#include <stddef.h>

#include "common/error.h"
#include "server/nn/network.h"

struct compact_figures {
    size_t removed;                             /* output channels of Conv and Gemm, merged ones included */
    size_t merged;                              /* of them: into another constant channel */
    size_t kept;                                /* constant output channels that had to stay */
    size_t parameters_before, parameters_after; /* floats in all constants */
    double macs_before, macs_after;             /* of one sample */
};

/* `network` has no Mask nodes and is not changed; a pruned unit shows by its zero weights or scale. *out is the caller's
 * (network_free()); names of nodes and values are kept. */
enum status compact_network(const struct network *network, struct network **out, struct compact_figures *figures,
                            struct error *error);

#endif
