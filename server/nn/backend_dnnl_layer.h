/* One convolution in oneDNN on plain tensors: forward, and the gradients by data and by weight, for engines that keep plain
 * activations (all with a backward pass). Values are carried into oneDNN's layouts and back around each pass. */
#ifndef ONP_SERVER_NN_BACKEND_DNNL_LAYER_H
#define ONP_SERVER_NN_BACKEND_DNNL_LAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/nn/backend_dnnl.h"

struct backend_dnnl_layer;

/* For chunks of up to n samples on `threads` threads; with `backward` all three passes. accumulate: the gradient by data is
 * added to what is there. STATUS_UNSUPPORTED, and no error, if oneDNN lacks a pass. Borrows dnnl. */
enum status backend_dnnl_layer_new(struct backend_dnnl *dnnl, const struct conv_shape *shape, size_t n, size_t threads,
                                   bool backward, bool accumulate, struct backend_dnnl_layer **out);
void backend_dnnl_layer_free(struct backend_dnnl_layer *layer);
size_t backend_dnnl_layer_bytes(const struct backend_dnnl_layer *layer);
/* Before a run: packs the weight (M, C/group, kH, kW) and keeps the bias (M) or, with NULL, zeros, unless `version` says that it
 * did so already. False: oneDNN failed. */
bool backend_dnnl_layer_prepare(struct backend_dnnl_layer *layer, size_t thread, uint64_t version, const float *weight,
                                const float *bias);
/* As those of struct conv_backend, in thread `thread`. False: oneDNN failed, for want of memory. */
bool backend_dnnl_layer_forward(struct backend_dnnl_layer *layer, size_t thread, size_t n, const float *x, float *y);
bool backend_dnnl_layer_data(struct backend_dnnl_layer *layer, size_t thread, size_t n, const float *dy, float *dx);
bool backend_dnnl_layer_weight(struct backend_dnnl_layer *layer, size_t thread, size_t n, const float *x,
                               const float *dy, float *dweight);

#endif
