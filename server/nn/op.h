/* The op table: one const row an operator. The planner and the engine know operators only through it; one file
 * op_<family>.c a family of rows. Rows are pure: no allocation, no state, any thread. */
#ifndef ONP_SERVER_NN_OP_H
#define ONP_SERVER_NN_OP_H

#include "server/nn/network.h"

/* What one call of a row works on: a chunk of n samples. Activations are n blocks (see network.h). */
struct op_args {
    const struct network *network;
    const struct node *node;
    size_t n;
    const float *const *in; /* one a node input; NULL for an omitted one */
    float *out;             /* forward: written. backward: the forward's output, valid if the row has OP_NEEDS_OUTPUT */
    float *saved;          /* saved_floats() floats, kept from forward to backward of a chunk; NULL when forward only */
    float *scratch;        /* scratch_floats() floats, contents undefined */
    const float *prepared; /* what prepare() has made of the constants for this direction; NULL: nothing */
    bool train;            /* BatchNorm uses and saves the statistics of this chunk */

    /* Mask nodes only; whole vectors over all units. mask NULL means all ones. */
    const float *mask; /* (units) 1 keep, 0 pruned; values between are allowed */
    const float *fill; /* (units) */
    float *mask_grad;  /* (units), NULL if not wanted; backward adds */

    /* backward only */
    const float *dout;      /* gradient of the output */
    float *const *din;      /* one an input, NULL where not wanted (constants: their gradient, at full shape) */
    const bool *accumulate; /* one an input: add to din[i] instead of overwriting it. Always true for constants */
};

enum op_flags {
    OP_NEEDS_INPUT = 1,  /* backward reads in[0..] activations */
    OP_NEEDS_OUTPUT = 2, /* backward reads out */
    OP_MAY_ALIAS = 4,    /* out may be the memory of in[0] (forward), din[0] that of dout (backward) */
};

struct op {
    const char *name;
    unsigned flags;
    /* Arity, attributes, input shapes; then the output shape at batch 1. Error place "node '<name>'". */
    enum status (*infer)(const struct network *network, const struct node *node, struct shape *out,
                         struct error *error);
    /* NULL for either: 0. */
    size_t (*scratch_floats)(const struct network *network, const struct node *node, size_t n, bool backward);
    size_t (*saved_floats)(const struct network *network, const struct node *node, size_t n);
    /* Constants as forward, or the gradient by in[0], wants them, made once for many calls; both NULL: nothing to make. */
    size_t (*prepared_floats)(const struct network *network, const struct node *node, bool backward);
    void (*prepare)(const struct network *network, const struct node *node, bool backward, float *prepared);
    void (*forward)(const struct op_args *args);
    void (*backward)(const struct op_args *args);
};

const struct op *op_find(enum op_kind kind);

#endif
