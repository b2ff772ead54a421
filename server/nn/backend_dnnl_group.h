/* Private to the oneDNN backend: which nodes of a network become one oneDNN operation. A group is a head (a convolution, a
 * product, an affine map, a sum, an activation, a pooling) and the nodes behind it that it takes along: BatchNorms and Masks,
 * an addition, an activation. Pure; knows nothing of oneDNN. */
#ifndef ONP_SERVER_NN_BACKEND_DNNL_GROUP_H
#define ONP_SERVER_NN_BACKEND_DNNL_GROUP_H

#include <stdbool.h>
#include <stddef.h>

#include "server/nn/backend_dnnl.h"
#include "server/nn/network.h"

enum backend_dnnl_kind {
    GROUP_NONE, /* the node's own row runs */
    GROUP_CONV,
    GROUP_INNER,
    GROUP_AFFINE,
    GROUP_ADD,
    GROUP_ACTIVATION,
    GROUP_POOL,
    GROUP_CONCAT,
};

enum { GROUP_FOLDS_MAX = 6, GROUP_NODES_MAX = GROUP_FOLDS_MAX + 3 };

struct backend_dnnl_group {
    enum backend_dnnl_kind kind;
    size_t nodes[GROUP_NODES_MAX]; /* in the order of the data; the head first */
    size_t node_count;
    size_t folds[GROUP_FOLDS_MAX]; /* those that are affine maps a channel: for CONV and INNER folded into the weight */
    size_t fold_count;
    size_t input, other; /* values; other: what is added, NETWORK_NONE without */
    size_t output;       /* value */
    struct backend_dnnl_activation activation;
};

/* The one node that reads each value, NETWORK_NONE if it is not exactly one. consumer: (value_count). */
void backend_dnnl_find_consumers(const struct network *network, size_t *consumer);
/* The group of `head` with at most `followers` nodes behind it; kind GROUP_NONE if the head is no operation of ours. `used`
 * (node_count): nodes that another group has already. Shapes are checked, layouts are not. */
void backend_dnnl_form(const struct network *network, const size_t *consumer, const bool *used, size_t head,
                       size_t followers, struct backend_dnnl_group *group);
/* Rank 4 with one image a sample: what the layouts of images are for. */
bool backend_dnnl_is_image(const struct value *value);
/* y = scale x + shift a channel, over all folds in order; mask NULL: all ones. `channels` floats each. */
void backend_dnnl_fold(const struct network *network, const struct backend_dnnl_group *group, const float *mask,
                       const float *fill, size_t channels, float *scale, float *shift);

#endif
