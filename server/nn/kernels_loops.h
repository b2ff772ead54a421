/* The bodies of struct kernels in plain C, compiled once a instruction set by being included. Every loop is simple enough
 * for the compiler to vectorise; no function here may be inlined into code of another instruction set, so all are static
 * and reached through the table at the end. */
#ifndef ONP_SERVER_NN_KERNELS_LOOPS_H
#define ONP_SERVER_NN_KERNELS_LOOPS_H

#include <string.h>

#include "server/nn/kernels.h"

enum { LOOP_LANES = 16 };

static void loop_relu(size_t count, const float *x, float *y) {
    for (size_t i = 0; i < count; i++) {
        y[i] = x[i] < 0.0f ? 0.0f : x[i];
    }
}

static void loop_relu_backward(size_t count, const float *y, const float *dy, float *dx, bool accumulate) {
    if (accumulate) {
        for (size_t i = 0; i < count; i++) {
            dx[i] += y[i] > 0.0f ? dy[i] : 0.0f;
        }
    } else {
        for (size_t i = 0; i < count; i++) {
            dx[i] = y[i] > 0.0f ? dy[i] : 0.0f;
        }
    }
}

static void loop_clip(size_t count, float low, float high, const float *x, float *y) {
    for (size_t i = 0; i < count; i++) {
        const float v = x[i] < low ? low : x[i];
        y[i] = v > high ? high : v;
    }
}

static void loop_pick(size_t count, const float *x, size_t step, float *y) {
    if (step == 2) { /* the compiler then knows how to load */
        for (size_t i = 0; i < count; i++) {
            y[i] = x[i * 2];
        }
    } else {
        for (size_t i = 0; i < count; i++) {
            y[i] = x[i * step];
        }
    }
}

static void loop_affine(size_t count, float a, float b, const float *x, float *y) {
    for (size_t i = 0; i < count; i++) {
        y[i] = a * x[i] + b;
    }
}

static void loop_axpy(size_t count, float a, const float *x, float *y) {
    for (size_t i = 0; i < count; i++) {
        y[i] += a * x[i];
    }
}

static void loop_fill(size_t count, float value, float *y) {
    for (size_t i = 0; i < count; i++) {
        y[i] = value;
    }
}

static float loop_total(const float *lanes) {
    float sum = 0.0f;

    for (size_t j = 0; j < LOOP_LANES; j++) {
        sum += lanes[j];
    }
    return sum;
}

static float loop_sum(size_t count, const float *x) {
    float lanes[LOOP_LANES] = {0.0f};
    size_t i = 0;

    for (; i + LOOP_LANES <= count; i += LOOP_LANES) {
        for (size_t j = 0; j < LOOP_LANES; j++) {
            lanes[j] += x[i + j];
        }
    }
    for (size_t j = 0; i < count; i++, j++) {
        lanes[j] += x[i];
    }
    return loop_total(lanes);
}

static float loop_dot(size_t count, const float *x, float a, const float *y, float b) {
    float lanes[LOOP_LANES] = {0.0f};
    size_t i = 0;

    for (; i + LOOP_LANES <= count; i += LOOP_LANES) {
        for (size_t j = 0; j < LOOP_LANES; j++) {
            lanes[j] += (x[i + j] - a) * (y[i + j] - b);
        }
    }
    for (size_t j = 0; i < count; i++, j++) {
        lanes[j] += (x[i] - a) * (y[i] - b);
    }
    return loop_total(lanes);
}

#define LOOP_BINARY(name, operator)                                                                                    \
    static void name(size_t count, const float *a, size_t a_step, const float *b, size_t b_step, float *y) {           \
        if (count == 0) {                                                                                              \
            return;                                                                                                    \
        }                                                                                                              \
        if (a_step == 0) {                                                                                             \
            const float a0 = a[0];                                                                                     \
            for (size_t i = 0; i < count; i++) {                                                                       \
                y[i] = a0 operator b[i * b_step];                                                                      \
            }                                                                                                          \
        } else if (b_step == 0) {                                                                                      \
            const float b0 = b[0];                                                                                     \
            for (size_t i = 0; i < count; i++) {                                                                       \
                y[i] = a[i] operator b0;                                                                               \
            }                                                                                                          \
        } else {                                                                                                       \
            for (size_t i = 0; i < count; i++) {                                                                       \
                y[i] = a[i] operator b[i];                                                                             \
            }                                                                                                          \
        }                                                                                                              \
    }

LOOP_BINARY(loop_add, +)
LOOP_BINARY(loop_sub, -)
LOOP_BINARY(loop_mul, *)
LOOP_BINARY(loop_div, /)

/* Sixteen floats in whatever registers there are, so that sums stay in them. */
typedef float loop_vector __attribute__((vector_size(64), aligned(4), may_alias));

static void loop_taps(size_t count, size_t taps, const float *const *x, const float *w, float start, float *y) {
    size_t i = 0;

    for (; i + 2 * LOOP_LANES <= count; i += 2 * LOOP_LANES) {
        loop_vector a = start - (loop_vector){0.0f}, b = a;
        for (size_t t = 0; t < taps; t++) {
            a += w[t] * *(const loop_vector *)(x[t] + i);
            b += w[t] * *(const loop_vector *)(x[t] + i + LOOP_LANES);
        }
        *(loop_vector *)(y + i) = a;
        *(loop_vector *)(y + i + LOOP_LANES) = b;
    }
    for (; i < count; i++) {
        float sum = start;
        for (size_t t = 0; t < taps; t++) {
            sum += w[t] * x[t][i];
        }
        y[i] = sum;
    }
}

/* Steps of 1 and 2 are compiled apart, since the compiler then knows how to load. */
static inline __attribute__((always_inline)) void larger_by(size_t count, const float *restrict x, size_t step,
                                                            float *restrict y) {
    for (size_t i = 0; i < count; i++) {
        const float v = x[i * step];
        y[i] = (v > y[i]) | (v != v) ? v : y[i];
    }
}

static void loop_larger(size_t count, const float *x, size_t step, float *y) {
    if (step == 1) {
        larger_by(count, x, 1, y);
    } else if (step == 2) {
        larger_by(count, x, 2, y);
    } else {
        larger_by(count, x, step, y);
    }
}

static inline __attribute__((always_inline)) void larger_at_by(size_t count, const float *restrict x, size_t step,
                                                               int32_t at, float *restrict y, int32_t *restrict place) {
    for (size_t i = 0; i < count; i++) {
        const float v = x[i * step];
        const bool take = (v > y[i]) | ((v != v) & (y[i] == y[i])) | (place[i] < 0);
        y[i] = take ? v : y[i];
        place[i] = take ? at + (int32_t)(i * step) : place[i];
    }
}

static void loop_larger_at(size_t count, const float *x, size_t step, int32_t at, float *y, int32_t *place) {
    if (step == 1) {
        larger_at_by(count, x, 1, at, y, place);
    } else if (step == 2) {
        larger_at_by(count, x, 2, at, y, place);
    } else {
        larger_at_by(count, x, step, at, y, place);
    }
}

static const struct kernels loop_table = {
    .name = LOOP_TABLE_NAME,
    .relu = loop_relu,
    .relu_backward = loop_relu_backward,
    .clip = loop_clip,
    .pick = loop_pick,
    .affine = loop_affine,
    .axpy = loop_axpy,
    .fill = loop_fill,
    .sum = loop_sum,
    .dot = loop_dot,
    .add = loop_add,
    .sub = loop_sub,
    .mul = loop_mul,
    .div = loop_div,
    .taps = loop_taps,
    .larger = loop_larger,
    .larger_at = loop_larger_at,
};

#endif
