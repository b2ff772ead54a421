/* The hot loops over plain arrays, one table a instruction set. kernels_loops.h holds the loops once, in C that the
 * compiler vectorises; kernels_portable.c, kernels_avx2.c and kernels_avx512.c compile it with their flags. Any thread. */
#ifndef ONP_SERVER_NN_KERNELS_H
#define ONP_SERVER_NN_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum kernels_level { KERNELS_PORTABLE, KERNELS_AVX2, KERNELS_AVX512, KERNELS_LEVELS };

/* `out` may be the same array as an input, never one that overlaps it in part. */
struct kernels {
    const char *name;
    /* y = max(x, 0); a NaN stays. */
    void (*relu)(size_t count, const float *x, float *y);
    /* dx (+)= dy where y > 0, else 0. */
    void (*relu_backward)(size_t count, const float *y, const float *dy, float *dx, bool accumulate);
    /* y = x held within low..high; a NaN stays. */
    void (*clip)(size_t count, float low, float high, const float *x, float *y);
    /* y[i] = x[i step]. */
    void (*pick)(size_t count, const float *x, size_t step, float *y);
    /* y = a x + b. */
    void (*affine)(size_t count, float a, float b, const float *x, float *y);
    /* y += a x. */
    void (*axpy)(size_t count, float a, const float *x, float *y);
    void (*fill)(size_t count, float value, float *y);
    /* Sums keep 16 partial sums, so that every level adds in the same order and large counts stay accurate. */
    float (*sum)(size_t count, const float *x);
    /* Sum of (x - a) * (y - b). */
    float (*dot)(size_t count, const float *x, float a, const float *y, float b);
    /* The four operators; a step is 1, or 0 for one value that all elements share. */
    void (*add)(size_t count, const float *a, size_t a_step, const float *b, size_t b_step, float *y);
    void (*sub)(size_t count, const float *a, size_t a_step, const float *b, size_t b_step, float *y);
    void (*mul)(size_t count, const float *a, size_t a_step, const float *b, size_t b_step, float *y);
    void (*div)(size_t count, const float *a, size_t a_step, const float *b, size_t b_step, float *y);
    /* y[i] = start + sum over t of w[t] x[t][i]. */
    void (*taps)(size_t count, size_t taps, const float *const *x, const float *w, float start, float *y);
    /* y = the larger of y and x[i step]; a NaN is larger than all. */
    void (*larger)(size_t count, const float *x, size_t step, float *y);
    /* The same with the place of the first largest: place[i] becomes at + i step where x[i step] is larger than y[i], or where
     * place[i] is negative. */
    void (*larger_at)(size_t count, const float *x, size_t step, int32_t at, float *y, int32_t *place);
};

/* The best table this machine runs. */
const struct kernels *kernels(void);
/* The table of one level; NULL if this build or this machine has none. */
const struct kernels *kernels_at(enum kernels_level level);

/* Of kernels_avx2.c and kernels_avx512.c: NULL in builds for other machines. */
const struct kernels *kernels_portable_table(void);
const struct kernels *kernels_avx2_table(void);
const struct kernels *kernels_avx512_table(void);

#endif
