/* Which backend runs a convolution: our own kernels wherever they can, as they measured 1.5 to 4 times as fast as im2col
 * with OpenBLAS on all layers of tests/bench/bench_conv.c, except where most lanes of a vector would be idle. */
#include "server/nn/backend.h"

#include "server/nn/kernels_conv.h"

const struct conv_backend *backend_conv(const struct conv_shape *shape, enum conv_pass pass) {
    const struct conv_backend *direct = backend_direct(KERNELS_AVX512);
    const size_t channels = pass == CONV_FORWARD ? shape->out_channels : shape->channels;

    if (direct == NULL) {
        direct = backend_direct(KERNELS_AVX2);
    }
    if (direct == NULL || !direct->supports(shape, pass) || channels < 5) {
        return backend_blas();
    }
    return direct;
}
