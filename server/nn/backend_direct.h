/* Private to the direct convolution backend: the gradient of the weights (backend_direct_weight.c). */
#ifndef ONP_SERVER_NN_BACKEND_DIRECT_H
#define ONP_SERVER_NN_BACKEND_DIRECT_H

#include "server/nn/backend.h"
#include "server/nn/kernels_conv.h"

enum { DIRECT_TAPS_MAX = 49 }; /* 7 x 7 */

size_t direct_weight_scratch_floats(const struct conv_shape *shape, const struct conv_kernels *kernels);
/* dweight += the gradient by the weight; one group, at most DIRECT_TAPS_MAX taps. */
void direct_weight_run(const struct conv_shape *shape, size_t n, const struct conv_kernels *kernels, const float *x,
                       const float *dy, float *dweight, float *scratch);

#endif
