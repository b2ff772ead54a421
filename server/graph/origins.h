/* Where a value's channels come from: which units write channel c of a value, followed back through activations, pooling,
 * arithmetic, Concat (with offsets), Flatten and Reshape (with positions), Transpose, Slice, Pad, products and depthwise
 * convolutions to the nearest units. Serves the shortcut groups and the edges of the neuron graph. Private to server/graph. */
#ifndef ONP_SERVER_GRAPH_ORIGINS_H
#define ONP_SERVER_GRAPH_ORIGINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/graph/units.h"
#include "server/nn/network.h"

/* At most so many writers of one channel are kept, the latest ones: a chain of a thousand Adds must not cost a million entries. */
enum { ORIGINS_WRITERS_MAX = 64 };

struct origins;

/* through_norms: a BatchNorm that stands alone does not end the search; its channels have itself and what is before it as
 * writers. Only map->layers and their count are read. */
enum status origins_new(const struct network *network, const struct unit_layer *layers, size_t layer_count,
                        bool through_norms, struct origins **out, struct error *error);
void origins_free(struct origins *origins);

/* The channel axis of a value: that of its first reader with weights (1 of a Conv or BatchNorm, the last of a Gemm), else the
 * one along which its writers differ. */
size_t origins_axis(const struct origins *origins, size_t value);
/* The units that write channel `channel` (of origins_axis()) of a value; ascending, borrowed. Returns how many. */
size_t origins_get(const struct origins *origins, size_t value, size_t channel, const uint32_t **units);

/* Channels of one origin (the positions of a flattened plane) form a block; where nothing is known (before the first units) each
 * channel is a block of its own. Blocks a value has, the block of a channel, the units that write a block. */
size_t origins_blocks(const struct origins *origins, size_t value);
size_t origins_block_of(const struct origins *origins, size_t value, size_t channel);
size_t origins_block_units(const struct origins *origins, size_t value, size_t block, const uint32_t **units);

/* The attention heads of a MatMul: calls join(user, a, b) for units a, b that write columns of one head, which are the columns
 * of the right side that share all leading axes. */
void origins_heads(const struct origins *origins, const struct node *matmul,
                   void (*join)(void *user, uint32_t a, uint32_t b), void *user);

#endif
