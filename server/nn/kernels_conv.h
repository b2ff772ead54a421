/* The inner kernels of the direct convolution (backend_direct.c), one set a instruction set; kernels_conv_loops.h holds
 * the code once. A vector is `lanes` output channels of one output position; a block keeps one or two vectors for each of
 * a few positions in registers and walks all input channels and taps. Each output is one chain of multiply-adds in the
 * order of channels and taps, so its value does not depend on how positions are grouped into blocks. */
#ifndef ONP_SERVER_NN_KERNELS_CONV_H
#define ONP_SERVER_NN_KERNELS_CONV_H

#include <stdbool.h>
#include <stddef.h>

#include "server/nn/kernels.h"

enum { CONV_ROWS_MAX = 4, CONV_POSITIONS_MAX = 14 };

/* Positions are (row r, column j) for r < rows, j < columns; both numbers and `step` choose the function. */
struct conv_block {
    const float *rows[CONV_ROWS_MAX]; /* input of column 0 of each row, channel 0, tap offset 0 */
    float *out[CONV_ROWS_MAX];        /* where column 0 of each row goes: wide * lanes floats */
    size_t out_step;                  /* floats between columns in out */
    size_t channels, plane;           /* input channels and the floats between them */
    size_t taps;
    const size_t *offsets; /* (taps) floats */
    const float *weight;   /* (channels, taps, wide * lanes) */
    const float *bias;     /* (wide * lanes): where the sums start */
};

/* A sum of outer products over rows x columns positions: y (count, wide * lanes) += x (count) of a position times z
 * (wide * lanes) of it. Strides are floats between rows and columns of positions. */
struct conv_gradient {
    size_t rows, columns;
    const float *x;
    size_t x_row, x_column;
    const float *z;
    size_t z_row, z_column;
    float *y;
};

struct conv_kernels {
    const char *name;
    size_t lanes;
    size_t positions_max; /* of a block */
    /* The function for blocks of `wide` (1 or 2) vectors, rows x columns positions (rows <= CONV_ROWS_MAX, their product
     * <= positions_max), and inputs of neighbouring columns `step` (1 or 2) floats apart. */
    void (*(*block)(size_t wide, size_t rows, size_t columns, size_t step))(const struct conv_block *block);
    /* The function for `count` <= positions_max values of x and `wide` vectors of z. */
    void (*(*gradient)(size_t wide, size_t count))(const struct conv_gradient *gradient);
    /* dst (columns, rows) = or += the transpose of src (rows, columns); strides are floats between lines. */
    void (*transpose)(size_t rows, size_t columns, const float *src, size_t src_stride, float *dst, size_t dst_stride,
                      bool accumulate);

    /* Winograd F(4x4, 3x3) on one vector of channels (kernels_winograd_loops.h); dst or src of 36 lines `stride` apart. */
    /* 6 x 6 input positions, strides in floats, to 36 lines. */
    void (*winograd_input)(const float *src, size_t row_stride, size_t column_stride, float *dst, size_t dst_stride);
    /* The same for a window that reaches beyond the image (height, width, line), where zeros are: its first position may be
     * negative. */
    void (*winograd_rim)(const float *image, const size_t size[2], size_t line, const long first[2], float *dst,
                         size_t dst_stride);
    /* 9 taps, turned about the centre if `flip`, to 36 lines. */
    void (*winograd_weight)(const float *src, size_t src_stride, bool flip, float *dst, size_t dst_stride);
    /* y (tiles, wide * lanes) = x (tiles, channels) weight (channels, wide * lanes) for 1 to positions_max tiles; lines of x
     * are `stride` floats apart. */
    void (*winograd_product)(size_t wide, size_t tiles, size_t channels, const float *x, size_t stride,
                             const float *weight, float *y);
    /* 4 x 4 gradients of outputs to 36 lines, and the sums of their products with the input's 36 lines to 9 taps: the
     * transposes of winograd_output and winograd_weight. */
    void (*winograd_gradient)(const float *src, size_t row_stride, size_t column_stride, float *dst, size_t dst_stride);
    void (*winograd_taps)(const float *src, size_t src_stride, float *dst, size_t dst_stride);
    /* 36 lines to 4 x 4 output positions, plus the bias of the lanes. */
    void (*winograd_output)(const float *src, size_t src_stride, const float *bias, float *dst, size_t row_stride,
                            size_t column_stride);
};

/* The best set this machine runs; NULL if it has none. */
const struct conv_kernels *conv_kernels(void);
/* Of one level; NULL if this build or this machine has none (always for KERNELS_PORTABLE). */
const struct conv_kernels *conv_kernels_at(enum kernels_level level);

/* Of kernels_avx2_conv.c and kernels_avx512_conv.c: NULL in builds for other machines. */
const struct conv_kernels *conv_kernels_avx2(void);
const struct conv_kernels *conv_kernels_avx512(void);

#endif
