/* Private to nn: the plan of one network at one chunk size. It fixes, before anything runs, where each activation, each
 * gradient, and each node's scratch and saved floats lie in one arena, from the time each of them lives.
 *
 * Time is counted in steps. With N nodes: node i runs forward at step i; the loss is at step N; node i runs backward at
 * step 2 N - i; the gradient of the input is handed out at step 2 N + 1. */
#ifndef ONP_SERVER_NN_PLAN_H
#define ONP_SERVER_NN_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "server/nn/network.h"
#include "server/nn/op.h"

#define PLAN_NONE ((size_t)-1)

/* A piece of the arena that lives from step `first` to step `last`, both included. */
struct plan_buffer {
    size_t floats;
    size_t first, last;
    size_t offset; /* floats from the start of the arena; a multiple of 16 (64 bytes) */
    bool scratch;  /* not counted as activation */
};

struct plan_node {
    const struct op *op;
    bool pure_alias; /* Reshape, Identity: readers of the output read the input; nothing runs */
    bool in_place;   /* forward writes over in[0] */
    bool reached;    /* backward: the logits depend on it and something behind it may want a gradient */
    bool grad_alias; /* backward: din[0] is the memory of dout */
    size_t scratch;  /* buffer of forward, PLAN_NONE without */
    size_t scratch_backward;
    size_t saved;
    size_t saved_floats;
    size_t first_input; /* its inputs are items first_input .. of `accumulate` */
};

struct plan {
    const struct network *network;
    size_t chunk;
    bool backward;
    struct plan_node *nodes;
    size_t *value_buffer; /* one a value: buffer of the activation; PLAN_NONE for constants and what is never written */
    size_t *grad_buffer;  /* one a value: buffer of its gradient; PLAN_NONE where never wanted, and for constants */
    bool *accumulate;     /* one a node input: its gradient is added to, not written */
    size_t max_inputs;    /* of any node, at least 1 */
    struct plan_buffer *buffers;
    size_t buffer_count;
    size_t arena_floats;
    size_t peak_floats; /* the most floats of activations alive at one step */
};

/* wants_grad: one a value, for constants; NULL: none. With `backward`, the input and all masks are planned for as well.
 * Errors: no memory, STATUS_LIMIT if sizes overflow. */
enum status plan_new(const struct network *network, size_t chunk, bool backward, const bool *wants_grad,
                     struct plan **out, struct error *error);
void plan_free(struct plan *plan);

/* Private to the planner (plan_place.c): gives each buffer its offset such that no two that live at the same step overlap. */
enum status plan_place(struct plan_buffer *buffers, size_t count, size_t *arena_floats, struct error *error);

#endif
