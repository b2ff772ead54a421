/* The hot loops compiled for AVX-512 (F, VL, BW, DQ). */
#include "server/nn/kernels.h"

#if defined(__AVX512F__)

#define LOOP_TABLE_NAME "avx512"
#include "server/nn/kernels_loops.h"

const struct kernels *kernels_avx512_table(void) {
    return &loop_table;
}

#else

const struct kernels *kernels_avx512_table(void) {
    return NULL;
}

#endif
