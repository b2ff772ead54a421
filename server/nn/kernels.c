/* Picks the table of hot loops that this machine can run. The question is cheap (a word of libgcc's, filled at start),
 * so it is asked anew instead of kept in a global. */
#include "server/nn/kernels.h"

#include "server/nn/kernels_conv.h"

/* Whether this machine has the instructions of a level. */
static bool has_level(enum kernels_level level) {
#if defined(__x86_64__)
    if (level == KERNELS_AVX2) {
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    }
    if (level == KERNELS_AVX512) {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    }
#endif
    return level == KERNELS_PORTABLE;
}

const struct kernels *kernels_at(enum kernels_level level) {
    if (!has_level(level)) {
        return NULL;
    }
    switch (level) {
    case KERNELS_AVX512:
        return kernels_avx512_table();
    case KERNELS_AVX2:
        return kernels_avx2_table();
    default:
        return kernels_portable_table();
    }
}

const struct kernels *kernels(void) {
    const struct kernels *table = kernels_at(KERNELS_AVX512);

    if (table == NULL) {
        table = kernels_at(KERNELS_AVX2);
    }
    return table != NULL ? table : kernels_at(KERNELS_PORTABLE);
}

const struct conv_kernels *conv_kernels_at(enum kernels_level level) {
    if (level == KERNELS_PORTABLE || !has_level(level)) {
        return NULL;
    }
    return level == KERNELS_AVX512 ? conv_kernels_avx512() : conv_kernels_avx2();
}

const struct conv_kernels *conv_kernels(void) {
    const struct conv_kernels *best = conv_kernels_at(KERNELS_AVX512);

    return best != NULL ? best : conv_kernels_at(KERNELS_AVX2);
}
