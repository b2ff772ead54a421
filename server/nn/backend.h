/* Convolution and matrix product behind tables of function pointers, so that faster implementations can stand beside the
 * reference one. A backend is pure: no allocation, no state, any thread; sums are float, in an order that depends on the
 * shapes only. */
#ifndef ONP_SERVER_NN_BACKEND_H
#define ONP_SERVER_NN_BACKEND_H

#include <stdbool.h>
#include <stddef.h>

#include "server/nn/kernels.h"
#include "server/nn/network.h"

/* A convolution over n samples: x (n, C, H, W), weight (M, C/group, kH, kW), y (n, M, out_height, out_width). */
struct conv_shape {
    size_t channels, height, width;             /* C, H, W */
    size_t out_channels, out_height, out_width; /* M */
    struct window_attr window;
};

/* Of a Conv node that was checked; its output need not have a value yet. */
struct conv_shape conv_shape_of(const struct network *network, const struct node *node);

enum conv_pass { CONV_FORWARD, CONV_BACKWARD_DATA, CONV_BACKWARD_WEIGHT };

struct conv_kernels;

/* Each function but supports() gets the table that it is called from. */
struct conv_backend {
    const char *name;
    const struct conv_kernels *(*kernels)(void); /* what it computes with; NULL if there is no choice */
    /* Whether this backend has the pass for this shape on this machine. */
    bool (*supports)(const struct conv_shape *shape, enum conv_pass pass);
    /* Floats of scratch for n samples; scratch is 64-byte aligned. */
    size_t (*scratch_floats)(const struct conv_backend *backend, const struct conv_shape *shape, size_t n,
                             enum conv_pass pass);
    /* Weights as the forward or by-data pass wants them, made once and handed to all its calls until the weights change. Floats
     * of them, and making them; NULL: the passes take the weights as they are. */
    size_t (*prepared_floats)(const struct conv_backend *backend, const struct conv_shape *shape, enum conv_pass pass);
    void (*prepare)(const struct conv_backend *backend, const struct conv_shape *shape, enum conv_pass pass,
                    const float *weight, float *prepared);
    /* y = conv(x, weight) + bias; bias (M) or NULL; prepared NULL: made in scratch. */
    void (*forward)(const struct conv_backend *backend, const struct conv_shape *shape, size_t n, const float *x,
                    const float *weight, const float *prepared, const float *bias, float *y, float *scratch);
    /* dx = or += the gradient by x. */
    void (*backward_data)(const struct conv_backend *backend, const struct conv_shape *shape, size_t n, const float *dy,
                          const float *weight, const float *prepared, float *dx, bool accumulate, float *scratch);
    /* dweight += the gradient by the weight. */
    void (*backward_weight)(const struct conv_backend *backend, const struct conv_shape *shape, size_t n,
                            const float *x, const float *dy, float *dweight, float *scratch);
};

/* im2col and OpenBLAS: every shape and pass; the reference. */
const struct conv_backend *backend_blas(void);
/* Our own kernels for AVX2 or AVX-512: all passes, one group, stride 1 or 2. NULL if this machine
 * lacks the instructions, and for KERNELS_PORTABLE. */
const struct conv_backend *backend_direct(enum kernels_level level);
/* Winograd's F(4x4, 3x3) on the same machines: all passes of 3x3, one group, stride 1. */
const struct conv_backend *backend_winograd(enum kernels_level level);
/* One input channel a group, in plane-wide loops: all passes. */
const struct conv_backend *backend_depthwise(void);

/* What the user asked for with ONP_BACKEND (auto if unset): the fastest by our rules; im2col and OpenBLAS alone, which is the
 * reference; oneDNN wherever it has the operator. */
enum backend_choice { BACKEND_AUTO, BACKEND_BLAS, BACKEND_DNNL, BACKEND_CHOICES };
enum backend_choice backend_choice(void);
/* "auto", "blas", "dnnl"; false if it is none of them. */
bool backend_choice_from_name(const char *name, enum backend_choice *out);
/* Whether forward passes of the network run in oneDNN. By the network, the choice and the CPU alone, never by a clock: the same
 * job on the same machine gives the same report. */
bool backend_runs_dnnl(const struct network *network);
/* Whether runs that only rank are done in bf16. */
bool backend_ranks_in_bf16(void);
/* What computes here, for reports: the choice, and whether candidates are ranked in bf16. */
const char *backend_description(void);

/* The backend that measured fastest for this shape and pass on this kind of machine; it supports it. */
const struct conv_backend *backend_conv(const struct conv_shape *shape, enum conv_pass pass);

/* c (m, n) = alpha op(a) op(b) + beta c, row-major; op(a) is (m, k), op(b) is (k, n); lda, ldb, ldc are row lengths as
 * stored. With beta 0, c is not read. */
struct gemm_shape {
    size_t m, n, k;
    bool trans_a, trans_b;
    size_t lda, ldb, ldc;
    float alpha, beta;
};
void backend_gemm(const struct gemm_shape *shape, const float *a, const float *b, float *c);

#endif
