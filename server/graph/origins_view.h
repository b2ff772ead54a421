/* Views: which element of a value is written by which units. Private to origins.c and origins_view.c.
 *
 * An element's block is read off its index at batch 1 by digits: digit k is (index / stride) % extent, and the block is the sum of
 * digit x weight. Each block has a list of units. After a Conv there is one digit, the channel; a Reshape leaves the digits alone; a
 * Transpose changes their strides; only what picks, drops or unites elements makes new lists. */
#ifndef ONP_SERVER_GRAPH_ORIGINS_VIEW_H
#define ONP_SERVER_GRAPH_ORIGINS_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/graph/origins.h"
#include "server/nn/tensor.h"

enum { VIEW_DIGITS_MAX = 2 * SHAPE_RANK_MAX };

struct lists {
    size_t blocks, filled, capacity;
    size_t *start;  /* (blocks + 1) */
    uint32_t *unit; /* each list ascending */
    struct lists *next;
};

struct digit {
    size_t stride, extent, weight;
};

struct view {
    const struct lists *lists;
    size_t count;
    struct digit digit[VIEW_DIGITS_MAX];
    struct view *next;
};

/* Owns all views and lists. */
struct view_pool {
    struct view *views;
    struct lists *lists;
};
void view_pool_free(struct view_pool *pool);

/* A short ascending list that unions are made in. Twice the limit, so that one more list always fits before it is cut. */
struct writers {
    uint32_t unit[2 * ORIGINS_WRITERS_MAX];
    size_t count;
};
void writers_add(struct writers *writers, const uint32_t *units, size_t count);

/* NULL: no memory, for all that follow. */
struct lists *lists_new(struct view_pool *pool, size_t blocks);
/* The next block gets these units. */
bool lists_push(struct lists *lists, const uint32_t *units, size_t count);
size_t lists_get(const struct lists *lists, size_t block, const uint32_t **units);

struct view *view_new(struct view_pool *pool, const struct lists *lists);
/* `lists` has a block for each index of axis `axis` of `shape`. */
const struct view *view_of_axis(struct view_pool *pool, const struct lists *lists, const struct shape *shape,
                                size_t axis);
/* One block, without writers or with all those of `from`. */
const struct view *view_nothing(struct view_pool *pool);
const struct view *view_merged(struct view_pool *pool, const struct view *from);

/* The axis that the digit of the smallest stride lies in; 0 if there is none. */
size_t view_axis(const struct view *view, const struct shape *shape);
/* A view whose digits all lie in `axis`: other indices of a channel are united. */
const struct view *view_channels(struct view_pool *pool, const struct view *from, const struct shape *shape,
                                 size_t axis);
/* The block of channel `channel` of a view that view_channels() made for the axis. */
size_t view_block(const struct view *view, const struct shape *shape, size_t axis, size_t channel);

/* What becomes of each axis of `shape`: the stride of its steps in the result, or VIEW_DROP: its indices are united. */
#define VIEW_DROP ((size_t)-1)
const struct view *view_restride(struct view_pool *pool, const struct view *from, const struct shape *shape,
                                 const size_t *stride);
/* Whether a digit lies in an axis with drop[axis]. */
bool view_varies(const struct view *from, const struct shape *shape, const bool *drop);
/* Index i of axis d of `out` is index start[d] + i step[d] of `shape`. */
const struct view *view_sliced(struct view_pool *pool, const struct view *from, const struct shape *shape,
                               const struct shape *out, const size_t *start, const ptrdiff_t *step);

#endif
