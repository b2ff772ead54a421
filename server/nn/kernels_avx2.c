/* The hot loops compiled for AVX2 and FMA. */
#include "server/nn/kernels.h"

#if defined(__AVX2__)

#define LOOP_TABLE_NAME "avx2"
#include "server/nn/kernels_loops.h"

const struct kernels *kernels_avx2_table(void) {
    return &loop_table;
}

#else

const struct kernels *kernels_avx2_table(void) {
    return NULL;
}

#endif
