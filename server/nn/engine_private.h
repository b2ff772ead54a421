/* Private to the engine: its state, and the two halves of one chunk (engine_chunk.c). */
#ifndef ONP_SERVER_NN_ENGINE_PRIVATE_H
#define ONP_SERVER_NN_ENGINE_PRIVATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/nn/backend_dnnl_layer.h"
#include "server/nn/backend_dnnl_program.h"
#include "server/nn/engine.h"
#include "server/nn/plan.h"

/* What one thread works in. The tables are filled once from the plan's offsets; only `read` changes while running. */
struct engine_workspace {
    float *arena;
    const float **read; /* one a value: where its readers find it (elsewhere than `write` behind aliases) */
    float **write;      /* one a value: where its producer writes it; NULL for constants */
    float **grad;       /* one a value: its gradient; NULL where none is planned */
    const float **in;   /* arguments of the node at work, plan->max_inputs each */
    float **din;
};

/* What a row's prepare() made for one direction of one node. */
struct engine_prepared {
    float *floats;    /* NULL: nothing to make, or no memory for it */
    uint64_t version; /* hash of the constants it was made of; 0: not made yet */
};

struct engine {
    const struct network *network;
    struct pool *pool;
    struct plan *plan;
    struct engine_workspace *workspaces; /* pool_threads() */
    size_t threads;
    size_t bytes;
    struct backend_dnnl_program *program;      /* forward in f32; NULL: the rows run */
    struct backend_dnnl_program *rank_program; /* forward in bf16; NULL: as any other run */
    struct backend_dnnl *dnnl;                 /* of layers */
    struct backend_dnnl_layer **layers; /* one a node: a convolution in oneDNN where activations are plain, or NULL */

    /* Sums over samples (mask_grad, param_grad) are kept in a fixed number of lanes: chunk c adds to lane c % lanes, the chunks
     * of a lane run in order in one thread, and at the end the lanes are added in order. So the result does not depend on
     * the threads, and memory does not depend on the number of chunks. */
    size_t lane_count;
    size_t lane_floats;   /* units, then all wanted constants */
    float *lanes;         /* (lane_count, lane_floats); NULL when forward only */
    size_t *param_offset; /* one a value: its place in a lane; PLAN_NONE if not wanted */

    struct engine_prepared *prepared; /* two a node: forward, backward */
    float *prepared_block;            /* where they lie */

    /* State of the run in progress; read-only for the threads but for the atomics. */
    const struct engine_run *run;
    struct backend_dnnl_program *active; /* NULL: the rows run */
    size_t chunk_count, chunk_length;    /* samples of each but the last */
    size_t used_lanes;                   /* 0: nothing is summed over samples */
    bool *live;                          /* one a value: this run wants its gradient, or one behind it */
    bool *pass;                          /* one a node: a Mask whose channels are all 1 in this run */
    size_t *read_until; /* one a value: nodes before this index read it; 0: none. node_count + 1 for the output */
    atomic_bool cancelled, dnnl_failed;
    atomic_size_t first_bad; /* lowest sample with non-finite logits; SIZE_MAX without */
};

/* Plans for what rows prepare, as far as max_bytes go; released by engine_prepared_free() (which accepts an engine without). */
enum status engine_prepared_new(struct engine *engine, size_t max_bytes, struct error *error);
void engine_prepared_free(struct engine *engine);
/* Before the chunks of a run: makes anew what this run uses and what is not of the constants as they are. */
void engine_prepare(struct engine *engine);

/* engine_dnnl.c: what oneDNN runs. new() plans it by the backend chosen; start() picks what this run uses and packs its weights. */
enum status engine_dnnl_new(struct engine *engine, const struct engine_options *options, struct error *error);
void engine_dnnl_free(struct engine *engine);
void engine_dnnl_start(struct engine *engine);
/* Whether oneDNN failed during the run, which it does for want of memory only. */
bool engine_dnnl_failed(const struct engine *engine);
/* The forward of a node on plain activations; false: its row must run. */
bool engine_dnnl_forward(struct engine *engine, size_t thread, size_t node, const struct op_args *args);
/* What oneDNN has of the backward of a node; what is done is cleared from din, the rest is the row's. */
void engine_dnnl_backward(struct engine *engine, size_t thread, size_t node, const struct op_args *args, float **din);

/* Whether a value is part of the state at the cut before `node`. */
bool engine_value_crosses(const struct engine *engine, size_t value, size_t node);
/* Forward of samples first .. first + n; false if a logit is not finite (engine->first_bad then says where). */
bool engine_forward_chunk(struct engine *engine, struct engine_workspace *workspace, size_t first, size_t n);
/* Loss and backward of the same chunk. lane: where sums over samples are added, NULL without. */
void engine_backward_chunk(struct engine *engine, struct engine_workspace *workspace, float *lane, size_t first,
                           size_t n);

#endif
