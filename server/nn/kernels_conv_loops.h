/* The block kernels of kernels_conv.h, compiled once a instruction set by being included after the definitions of
 *   VEC, LANES, POSITIONS (14 or 6: twice as many vectors and three more must fit the registers),
 *   vec_load(p), vec_store(p, v), vec_broadcast(p), vec_fma(a, b, c) = a b + c,
 * and of transpose_block(). Sums are named variables, not an array, so that they stay in registers at any compiler's will. */
#ifndef ONP_SERVER_NN_KERNELS_CONV_LOOPS_H
#define ONP_SERVER_NN_KERNELS_CONV_LOOPS_H

#include "server/nn/kernels_conv.h"

#define EACH_POSITION(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11) DO(12) DO(13)

#define BLOCK_BEGIN(p) VEC a##p = bias0, b##p = bias1;
#define BLOCK_STEP(p)                                                                                                  \
    if ((p) < rows * columns) {                                                                                        \
        const size_t r = (p) / columns;                                                                                \
        const float *x = r == 0 ? x0 : (r == 1 ? x1 : (r == 2 ? x2 : x3));                                             \
        const VEC v = vec_broadcast(x + at + (p) % columns * step);                                                    \
        a##p = vec_fma(w0, v, a##p);                                                                                   \
        if (wide == 2) {                                                                                               \
            b##p = vec_fma(w1, v, b##p);                                                                               \
        }                                                                                                              \
    }
#define BLOCK_END(p)                                                                                                   \
    if ((p) < rows * columns) {                                                                                        \
        float *y = block->out[(p) / columns] + (p) % columns * block->out_step;                                        \
        vec_store(y, a##p);                                                                                            \
        if (wide == 2) {                                                                                               \
            vec_store(y + LANES, b##p);                                                                                \
        }                                                                                                              \
    }

static inline __attribute__((always_inline)) void run_block(const struct conv_block *block, const size_t wide,
                                                            const size_t rows, const size_t columns, const size_t step)
{
    const float *x0 = block->rows[0];
    const float *x1 = rows > 1 ? block->rows[1] : x0;
    const float *x2 = rows > 2 ? block->rows[2] : x0;
    const float *x3 = rows > 3 ? block->rows[3] : x0;
    const float *w = block->weight;
    const size_t *offsets = block->offsets;
    const size_t channels = block->channels, taps = block->taps, plane = block->plane;
    const VEC bias0 = vec_load(block->bias);
    const VEC bias1 = wide == 2 ? vec_load(block->bias + LANES) : bias0;
    size_t base = 0;

    EACH_POSITION(BLOCK_BEGIN)
    for (size_t c = 0; c < channels; c++, base += plane) {
        for (size_t t = 0; t < taps; t++, w += wide * LANES) {
            const size_t at = base + offsets[t];
            const VEC w0 = vec_load(w);
            const VEC w1 = wide == 2 ? vec_load(w + LANES) : w0;
            EACH_POSITION(BLOCK_STEP)
        }
    }
    EACH_POSITION(BLOCK_END)
}

/* One function for each combination; a table finds it. */
#define BLOCK_NAME(wide, rows, columns, step) block_##wide##_##rows##_##columns##_##step
#define BLOCK_DEFINE(wide, rows, columns, step)                                                                        \
    static void BLOCK_NAME(wide, rows, columns, step)(const struct conv_block *block)                                  \
    {                                                                                                                  \
        run_block(block, wide, rows, columns, step);                                                                   \
    }
#define BLOCK_ENTRY(wide, rows, columns, step)                                                                         \
    [(wide) - 1][(step) - 1][(rows) - 1][(columns) - 1] = BLOCK_NAME(wide, rows, columns, step),

#define EACH_SMALL(DO, wide, step)                                                                                     \
    DO(wide, 1, 1, step)                                                                                               \
    DO(wide, 1, 2, step)                                                                                               \
    DO(wide, 1, 3, step)                                                                                               \
    DO(wide, 1, 4, step)                                                                                               \
    DO(wide, 1, 5, step)                                                                                               \
    DO(wide, 1, 6, step)                                                                                               \
    DO(wide, 2, 1, step) DO(wide, 2, 2, step) DO(wide, 2, 3, step) DO(wide, 3, 1, step) DO(wide, 3, 2, step)           \
        DO(wide, 4, 1, step)
#define EACH_LARGE(DO, wide, step)                                                                                     \
    DO(wide, 1, 7, step)                                                                                               \
    DO(wide, 1, 8, step)                                                                                               \
    DO(wide, 1, 9, step)                                                                                               \
    DO(wide, 1, 10, step)                                                                                              \
    DO(wide, 1, 11, step)                                                                                              \
    DO(wide, 1, 12, step)                                                                                              \
    DO(wide, 1, 13, step)                                                                                              \
    DO(wide, 1, 14, step) DO(wide, 2, 4, step) DO(wide, 2, 5, step) DO(wide, 2, 6, step) DO(wide, 2, 7, step)          \
        DO(wide, 3, 3, step) DO(wide, 3, 4, step) DO(wide, 4, 2, step) DO(wide, 4, 3, step)
#if POSITIONS == 14
#define EACH_SHAPE(DO, wide, step) EACH_SMALL(DO, wide, step) EACH_LARGE(DO, wide, step)
#else
#define EACH_SHAPE(DO, wide, step) EACH_SMALL(DO, wide, step)
#endif

EACH_SHAPE(BLOCK_DEFINE, 1, 1)
EACH_SHAPE(BLOCK_DEFINE, 1, 2)
EACH_SHAPE(BLOCK_DEFINE, 2, 1)
EACH_SHAPE(BLOCK_DEFINE, 2, 2)

static void (*const block_table[2][2][CONV_ROWS_MAX][CONV_POSITIONS_MAX])(const struct conv_block *) = {
    EACH_SHAPE(BLOCK_ENTRY, 1, 1) EACH_SHAPE(BLOCK_ENTRY, 1, 2) EACH_SHAPE(BLOCK_ENTRY, 2, 1)
        EACH_SHAPE(BLOCK_ENTRY, 2, 2)};

static void (*find_block(size_t wide, size_t rows, size_t columns, size_t step))(const struct conv_block *)
{
    return block_table[wide - 1][step - 1][rows - 1][columns - 1];
}

/* Sums of outer products, in registers over all positions. */
#define GRADIENT_BEGIN(p)                                                                                              \
    VEC a##p = (p) < count ? vec_load(y + (p) * wide * LANES) : zero;                                                  \
    VEC b##p = (p) < count && wide == 2 ? vec_load(y + (p) * wide * LANES + LANES) : zero;
#define GRADIENT_STEP(p)                                                                                               \
    if ((p) < count) {                                                                                                 \
        const VEC v = vec_broadcast(x + (p));                                                                          \
        a##p = vec_fma(z0, v, a##p);                                                                                   \
        if (wide == 2) {                                                                                               \
            b##p = vec_fma(z1, v, b##p);                                                                               \
        }                                                                                                              \
    }
#define GRADIENT_END(p)                                                                                                \
    if ((p) < count) {                                                                                                 \
        vec_store(y + (p) * wide * LANES, a##p);                                                                       \
        if (wide == 2) {                                                                                               \
            vec_store(y + (p) * wide * LANES + LANES, b##p);                                                           \
        }                                                                                                              \
    }

static inline __attribute__((always_inline)) void run_gradient(const struct conv_gradient *g, const size_t wide,
                                                               const size_t count)
{
    const size_t columns = g->columns, x_column = g->x_column, z_column = g->z_column;
    const VEC zero = vec_zero();
    float *y = g->y;

    EACH_POSITION(GRADIENT_BEGIN)
    for (size_t r = 0; r < g->rows; r++) {
        const float *x = g->x + r * g->x_row, *z = g->z + r * g->z_row;
        for (size_t j = 0; j < columns; j++, x += x_column, z += z_column) {
            const VEC z0 = vec_load(z);
            const VEC z1 = wide == 2 ? vec_load(z + LANES) : z0;
            EACH_POSITION(GRADIENT_STEP)
        }
    }
    EACH_POSITION(GRADIENT_END)
}

#define GRADIENT_NAME(wide, count) gradient_##wide##_##count
#define GRADIENT_DEFINE(wide, count)                                                                                   \
    static void GRADIENT_NAME(wide, count)(const struct conv_gradient *g)                                              \
    {                                                                                                                  \
        run_gradient(g, wide, count);                                                                                  \
    }
#define GRADIENT_ENTRY(wide, count) [(wide) - 1][(count) - 1] = GRADIENT_NAME(wide, count),
#define EACH_FEW(DO, wide) DO(wide, 1) DO(wide, 2) DO(wide, 3) DO(wide, 4) DO(wide, 5) DO(wide, 6)
#define EACH_MANY(DO, wide)                                                                                            \
    DO(wide, 7) DO(wide, 8) DO(wide, 9) DO(wide, 10) DO(wide, 11) DO(wide, 12) DO(wide, 13) DO(wide, 14)
#if POSITIONS == 14
#define EACH_COUNT(DO, wide) EACH_FEW(DO, wide) EACH_MANY(DO, wide)
#else
#define EACH_COUNT(DO, wide) EACH_FEW(DO, wide)
#endif

EACH_COUNT(GRADIENT_DEFINE, 1)
EACH_COUNT(GRADIENT_DEFINE, 2)

static void (*const gradient_table[2][CONV_POSITIONS_MAX])(const struct conv_gradient *) = {
    EACH_COUNT(GRADIENT_ENTRY, 1) EACH_COUNT(GRADIENT_ENTRY, 2)};

static void (*find_gradient(size_t wide, size_t count))(const struct conv_gradient *)
{
    return gradient_table[wide - 1][count - 1];
}

static void transpose(size_t rows, size_t columns, const float *src, size_t src_stride, float *dst, size_t dst_stride,
                      bool accumulate)
{
    for (size_t i = 0; i < rows; i += LANES) {
        const size_t height = rows - i < LANES ? rows - i : LANES;
        for (size_t j = 0; j < columns; j += LANES) {
            const size_t width = columns - j < LANES ? columns - j : LANES;
            transpose_block(height, width, src + i * src_stride + j, src_stride, dst + j * dst_stride + i, dst_stride,
                            accumulate);
        }
    }
}

#include "server/nn/kernels_winograd_loops.h"

static const struct conv_kernels conv_table = {
    .name = CONV_TABLE_NAME,
    .lanes = LANES,
    .positions_max = POSITIONS,
    .block = find_block,
    .gradient = find_gradient,
    .transpose = transpose,
    .winograd_input = winograd_input,
    .winograd_rim = winograd_rim,
    .winograd_weight = winograd_weight,
    .winograd_product = winograd_product,
    .winograd_gradient = winograd_gradient,
    .winograd_taps = winograd_taps,
    .winograd_output = winograd_output,
};

#endif
