/* The convolution kernels for AVX-512: 16 channels a vector, 28 sums of the 32 registers. */
#include "server/nn/kernels_conv.h"

#if defined(__AVX512F__)

#include <immintrin.h>

enum { LANES = 16 };
#define POSITIONS 14
#define VEC __m512
#define CONV_TABLE_NAME "avx512"
#define vec_load(p) _mm512_loadu_ps(p)
#define vec_store(p, v) _mm512_storeu_ps((p), (v))
#define vec_broadcast(p) _mm512_set1_ps(*(p))
#define vec_fma(a, b, c) _mm512_fmadd_ps((a), (b), (c))
#define vec_fnma(a, b, c) _mm512_fnmadd_ps((a), (b), (c))
#define vec_add(a, b) _mm512_add_ps((a), (b))
#define vec_sub(a, b) _mm512_sub_ps((a), (b))
#define vec_mul(a, b) _mm512_mul_ps((a), (b))
#define vec_set(value) _mm512_set1_ps(value)
#define vec_zero() _mm512_setzero_ps()

/* 16 x 16 by interleaving: pairs of rows, pairs of pairs, then quarters of registers. */
static inline __attribute__((always_inline)) void transpose_registers(__m512 r[16]) {
    __m512 t[16];

    for (size_t i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    for (size_t i = 0; i < 16; i += 4) {
        for (size_t j = 0; j < 2; j++) {
            __m512d low = _mm512_castps_pd(t[i + j]), high = _mm512_castps_pd(t[i + j + 2]);
            r[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
            r[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
        }
    }
    for (size_t i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (size_t i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    }
}

static void transpose_block(size_t height, size_t width, const float *src, size_t src_stride, float *dst,
                            size_t dst_stride, bool accumulate) {
    const __mmask16 in = (__mmask16)((1u << width) - 1), out = (__mmask16)((1u << height) - 1);
    __m512 r[16];

    if (height == 16 && width == 16 && !accumulate) { /* nearly always: no masks */
        for (size_t i = 0; i < 16; i++) {
            r[i] = _mm512_loadu_ps(src + i * src_stride);
        }
        transpose_registers(r);
        for (size_t j = 0; j < 16; j++) {
            _mm512_storeu_ps(dst + j * dst_stride, r[j]);
        }
        return;
    }
    for (size_t i = 0; i < 16; i++) {
        r[i] = i < height ? _mm512_maskz_loadu_ps(in, src + i * src_stride) : _mm512_setzero_ps();
    }
    transpose_registers(r);
    for (size_t j = 0; j < 16; j++) {
        if (j < width) {
            float *y = dst + j * dst_stride;
            __m512 v = accumulate ? _mm512_add_ps(_mm512_maskz_loadu_ps(out, y), r[j]) : r[j];
            _mm512_mask_storeu_ps(y, out, v);
        }
    }
}

#include "server/nn/kernels_conv_loops.h"

const struct conv_kernels *conv_kernels_avx512(void) {
    return &conv_table;
}

#else

const struct conv_kernels *conv_kernels_avx512(void) {
    return NULL;
}

#endif
