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

static const struct kernels loop_table = {
    .name = LOOP_TABLE_NAME,
    .relu = loop_relu,
    .relu_backward = loop_relu_backward,
    .affine = loop_affine,
    .axpy = loop_axpy,
    .fill = loop_fill,
    .sum = loop_sum,
    .dot = loop_dot,
    .add = loop_add,
    .sub = loop_sub,
    .mul = loop_mul,
    .div = loop_div,
};

#endif
