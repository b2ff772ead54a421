/* The convolution kernels for AVX2 and FMA: 8 channels a vector, 12 sums of the 16 registers. */
#include "server/nn/kernels_conv.h"

#if defined(__AVX2__) && defined(__FMA__)

#include <immintrin.h>

enum { LANES = 8 };
#define POSITIONS 6
#define VEC __m256
#define CONV_TABLE_NAME "avx2"
#define vec_load(p) _mm256_loadu_ps(p)
#define vec_store(p, v) _mm256_storeu_ps((p), (v))
#define vec_broadcast(p) _mm256_broadcast_ss(p)
#define vec_fma(a, b, c) _mm256_fmadd_ps((a), (b), (c))
#define vec_fnma(a, b, c) _mm256_fnmadd_ps((a), (b), (c))
#define vec_add(a, b) _mm256_add_ps((a), (b))
#define vec_sub(a, b) _mm256_sub_ps((a), (b))
#define vec_mul(a, b) _mm256_mul_ps((a), (b))
#define vec_set(value) _mm256_set1_ps(value)
#define vec_zero() _mm256_setzero_ps()

/* 8 x 8 by interleaving: pairs of rows, pairs of pairs, then halves of registers. */
static inline __attribute__((always_inline)) void transpose_registers(__m256 r[8]) {
    __m256 t[8];

    for (size_t i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (size_t i = 0; i < 8; i += 4) {
        for (size_t j = 0; j < 2; j++) {
            __m256d low = _mm256_castps_pd(t[i + j]), high = _mm256_castps_pd(t[i + j + 2]);
            r[i + 2 * j] = _mm256_castpd_ps(_mm256_unpacklo_pd(low, high));
            r[i + 2 * j + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(low, high));
        }
    }
    for (size_t i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    }
    for (size_t i = 0; i < 8; i++) {
        r[i] = t[i];
    }
}

static void transpose_block(size_t height, size_t width, const float *src, size_t src_stride, float *dst,
                            size_t dst_stride, bool accumulate) {
    __m256 r[8];

    if (height < LANES || width < LANES) {
        for (size_t j = 0; j < width; j++) {
            for (size_t i = 0; i < height; i++) {
                float v = src[i * src_stride + j];
                dst[j * dst_stride + i] = accumulate ? dst[j * dst_stride + i] + v : v;
            }
        }
        return;
    }
    for (size_t i = 0; i < LANES; i++) {
        r[i] = _mm256_loadu_ps(src + i * src_stride);
    }
    transpose_registers(r);
    for (size_t j = 0; j < LANES; j++) {
        float *y = dst + j * dst_stride;
        _mm256_storeu_ps(y, accumulate ? _mm256_add_ps(_mm256_loadu_ps(y), r[j]) : r[j]);
    }
}

#include "server/nn/kernels_conv_loops.h"

const struct conv_kernels *conv_kernels_avx2(void) {
    return &conv_table;
}

#else

const struct conv_kernels *conv_kernels_avx2(void) {
    return NULL;
}

#endif
