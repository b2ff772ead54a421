/* A network's forward pass in oneDNN operations, f32 or bf16: activations stay channels-last between layers, BatchNorms and
 * masks are folded into weights, additions and activations run with the convolution before them. What oneDNN lacks runs as
 * the node's own row, on plain tensors, which are made where they are needed.
 *
 * Sums are f32. In f32 the result differs from that of the rows by rounding only. */
#ifndef ONP_SERVER_NN_BACKEND_DNNL_PROGRAM_H
#define ONP_SERVER_NN_BACKEND_DNNL_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "server/nn/backend_dnnl.h"
#include "server/nn/network.h"
#include "server/nn/pool.h"

struct backend_dnnl_program;

/* For chunks of up to `chunk` samples on `threads` threads. Borrows the network. */
enum status backend_dnnl_program_new(const struct network *network, size_t chunk, size_t threads,
                                     enum backend_dnnl_type type, struct backend_dnnl_program **out,
                                     struct error *error);
void backend_dnnl_program_free(struct backend_dnnl_program *program);
size_t backend_dnnl_program_bytes(const struct backend_dnnl_program *program);
/* Before a run: weights that changed since the last one, or whose mask did, are folded and packed anew, and no others. mask
 * and fill as in struct engine_run. */
void backend_dnnl_program_prepare(struct backend_dnnl_program *program, struct pool *pool, const float *mask,
                                  const float *fill);

/* One chunk of n samples in thread `thread`, in this order: take() the network's input; for each node, in order, step(), and
 * if that is false the node's row, then take() its output. read[v]: where plain value v is, write[v]: where it is to be
 * written. step() sets read[] of what it writes. */
void backend_dnnl_program_take(struct backend_dnnl_program *program, size_t thread, size_t value, size_t n,
                               const float *const *read);
bool backend_dnnl_program_step(struct backend_dnnl_program *program, size_t thread, size_t node, size_t n,
                               const float **read, float *const *write);
/* Whether the node's row never runs. */
bool backend_dnnl_program_runs(const struct backend_dnnl_program *program, size_t node);
/* Whether oneDNN has failed since prepare(), which it does for want of memory only. */
bool backend_dnnl_program_failed(const struct backend_dnnl_program *program);

#endif
