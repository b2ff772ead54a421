/* The engine runs a network over batches: splits a batch into chunks of a fixed size, spreads the chunks over a pool of
 * threads, each thread with one arena planned in advance; running allocates nothing. Results do not depend on the number of
 * threads: sums over samples are kept a chunk and added in chunk order. */
#ifndef ONP_SERVER_NN_ENGINE_H
#define ONP_SERVER_NN_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "server/nn/network.h"
#include "server/nn/pool.h"

struct engine;

struct engine_options {
    size_t chunk;           /* samples a chunk; 0: chosen by the network's size (a power of two, 1 to 16) */
    bool backward;          /* plan for backward as well */
    const bool *wants_grad; /* with backward: one a value; constants whose gradient is wanted. NULL: none */
    size_t max_bytes;       /* limit on all arenas together; 0: none */
    bool rank;              /* plan for runs that only rank, too (engine_run.rank) */
};

/* `network` and `pool` are borrowed and must outlive the engine. */
enum status engine_new(const struct network *network, struct pool *pool, const struct engine_options *options,
                       struct engine **out, struct error *error);
void engine_free(struct engine *engine);
size_t engine_chunk(const struct engine *engine);
size_t engine_bytes(const struct engine *engine); /* arenas and gradient buffers */
const struct network *engine_network(const struct engine *engine);

/* A cut of the network before node `node`, and the state of all samples there: what this node and those behind it read of what
 * came before, value after value, (count, floats of the value) each. */
struct engine_cut {
    size_t node;
    float *state; /* (count, engine_cut_floats(node)) */
};
/* Floats of one sample's state at the cut before `node` < node_count. */
size_t engine_cut_floats(const struct engine *engine, size_t node);

/* One run over `count` samples. Callbacks are called from the pool's threads, one chunk at a time a thread, never twice at
 * once for the same chunk; n <= engine_chunk(). In runs with loss, train or tap `first` is a multiple of engine_chunk(), so
 * first / chunk indexes a caller's own per-chunk accumulators; others may be cut into shorter ones. */
struct engine_run {
    size_t count;
    void *user;

    const float *input; /* (count, C, H, W); or NULL with: */
    void (*fill_input)(void *user, size_t first, size_t n, float *x /* (n, C, H, W) */);

    const float *mask; /* (units) or NULL: all ones */
    const float *fill; /* (units); needed with mask */
    bool train;        /* BatchNorm by the chunk's own statistics (training only) */
    /* The logits only rank candidates: they may be computed in bf16 (f32 sums) where that is faster, on an engine planned for
     * it; 2 to 3 digits are right. Without effect in runs with loss, train, tap or a cut. */
    bool rank;

    /* What a Mask node reads, before masking: (n, C, ...) of layer mask_layer. May be NULL. */
    void (*tap)(void *user, size_t mask_layer, size_t first, size_t n, const float *x);

    float *logits; /* (count, K) or NULL */

    /* Backward, when `loss` is given (the engine must be planned for it): from logits (n, K) write dlogits (n, K). */
    void (*loss)(void *user, size_t first, size_t n, const float *logits, float *dlogits);
    /* Gradient of the input, (n, C, H, W), with the input itself; NULL: not computed. */
    void (*input_grad)(void *user, size_t first, size_t n, const float *x, const float *dx);
    float *mask_grad; /* (units), overwritten with the sum over samples; NULL: not computed */
    /* One a value: where the gradient of each wanted constant goes (overwritten); NULL: none. */
    float *const *param_grad;
    /* After a training chunk: mean and (biased) variance of BatchNorm node `node` over this chunk, (C) each. May be NULL. */
    void (*batch_stats)(void *user, size_t node, size_t first, size_t n, const float *mean, const float *variance);

    /* Prefixes, for runs without loss, train and tap. `start`: the run begins at this node from a state that an earlier run saved
     * for the same samples, with the same mask and fill before the cut; input and fill_input are then not looked at, and
     * the logits are those of a full run with `saves` bit for bit. `saves`: states to write, by rising node, each behind `start`; their
     * contents are undefined if the run fails. */
    const struct engine_cut *start;
    const struct engine_cut *saves;
    size_t save_count;

    const atomic_bool *cancel; /* tested between chunks; STATUS_CANCELLED. May be NULL */
};

/* STATUS_NUMERIC if the logits are not finite. Not re-entrant for one engine. */
enum status engine_run(struct engine *engine, const struct engine_run *run, struct error *error);

#endif
