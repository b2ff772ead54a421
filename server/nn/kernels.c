/* Picks the table of hot loops that this machine can run. The question is cheap (a word of libgcc's, filled at start),
 * so it is asked anew instead of kept in a global. */
#include "server/nn/kernels.h"

const struct kernels *kernels_at(enum kernels_level level) {
    switch (level) {
    case KERNELS_PORTABLE:
        return kernels_portable_table();
#if defined(__x86_64__)
    case KERNELS_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? kernels_avx2_table() : NULL;
    case KERNELS_AVX512:
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
                   ? kernels_avx512_table()
                   : NULL;
#else
    case KERNELS_AVX2:
    case KERNELS_AVX512:
        return NULL;
#endif
    case KERNELS_LEVELS:
        break;
    }
    return NULL;
}

const struct kernels *kernels(void) {
    const struct kernels *table = kernels_at(KERNELS_AVX512);

    if (table == NULL) {
        table = kernels_at(KERNELS_AVX2);
    }
    return table != NULL ? table : kernels_at(KERNELS_PORTABLE);
}
