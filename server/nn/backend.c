/* Which backend runs a convolution. */
#include "server/nn/backend.h"

const struct conv_backend *backend_conv(const struct conv_shape *shape, enum conv_pass pass) {
    (void)shape;
    (void)pass;
    return backend_blas();
}
