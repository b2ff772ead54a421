/* Private to the program of oneDNN operations: what it consists of. backend_dnnl_build.c makes it, backend_dnnl_weights.c packs
 * its weights, backend_dnnl_program.c runs it. */
#ifndef ONP_SERVER_NN_BACKEND_DNNL_BUILD_H
#define ONP_SERVER_NN_BACKEND_DNNL_BUILD_H

#include <stdatomic.h>
#include <stdint.h>

#include "server/nn/backend_dnnl_group.h"
#include "server/nn/backend_dnnl_program.h"
#include "server/nn/plan.h"

enum { WHOLE, SINGLE, VARIANTS };

/* An operation in its two variants; weights are packed for each, since oneDNN may want them otherwise. */
struct dnnl_step {
    struct backend_dnnl_op *op[VARIANTS]; /* NULL: nothing to do */
    struct backend_dnnl_op *pack[VARIANTS];
    void *weight[VARIANTS];
    struct backend_dnnl_call *packing[VARIANTS]; /* of pack, from the unit's fold to the weight */
    struct backend_dnnl_call **calls;            /* (threads, VARIANTS) */
};

struct dnnl_unit {
    struct backend_dnnl_group group;
    struct dnnl_step step;
    size_t channels;  /* of the output */
    size_t row;       /* weights of one output channel; 0 without weights */
    float *vector[2]; /* (channels): AFFINE the scale, and the shift; else NULL, and the bias */
    float *fold;      /* (channels, row + 1): folded weights before packing, and the scale */
    uint64_t version; /* hash of all that was packed */
};

/* Where a value lives. */
struct dnnl_place {
    bool same;              /* plain and fast are the same thing: it lives in the engine's memory alone */
    bool fast;              /* made by an operation; else by a row */
    bool needs_fast;        /* an operation reads it */
    bool needs_plain;       /* a row reads it, or the caller */
    size_t buffer;          /* of its fast form; PLAN_NONE without */
    struct dnnl_step carry; /* to the form it is not made in, if that is needed */
};

struct backend_dnnl_program {
    const struct network *network;
    struct backend_dnnl *dnnl;
    size_t chunk, threads;
    enum backend_dnnl_type type;
    struct dnnl_unit *units;
    size_t unit_count;
    size_t *unit_at;  /* one a node: the unit that runs there, PLAN_NONE for none */
    bool *used;       /* one a node: in a unit */
    size_t *consumer; /* one a value */
    struct dnnl_place *places;
    struct plan_buffer *buffers;
    size_t buffer_count;
    size_t scratch_bytes;
    unsigned char **arenas; /* one a thread: buffers, then scratch */
    size_t arena_bytes, weight_bytes;
    const float *mask, *fill; /* of the run being prepared */
    atomic_bool failed;
};

/* Fills all but network, chunk, threads and type. On failure the caller frees what is there. */
enum status backend_dnnl_build(struct backend_dnnl_program *p, struct error *error);
void backend_dnnl_free_step(const struct backend_dnnl_program *p, struct dnnl_step *step);

#endif
