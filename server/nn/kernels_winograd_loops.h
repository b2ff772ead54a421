/* The kernels of Winograd's minimal filtering F(4x4, 3x3) (Winograd 1980; Lavin and Gray 2016, "Fast Algorithms for
 * Convolutional Neural Networks"), compiled once a instruction set after the definitions that kernels_conv_loops.h names and
 *   vec_add, vec_sub, vec_mul(a, b), vec_fnma(a, b, c) = c - a b, vec_set(value), vec_zero().
 *
 * The interpolation points are 0, +-3/4, +-3/2 and infinity instead of the usual 0, +-1, +-2: all constants of the data
 * transforms are exact in binary, and the rounding error of the whole is about twice that of a direct sum, not ten times. */
#ifndef ONP_SERVER_NN_KERNELS_WINOGRAD_LOOPS_H
#define ONP_SERVER_NN_KERNELS_WINOGRAD_LOOPS_H

#define POINT_A 0.75f
#define POINT_B 1.5f
#define SQUARE_A (POINT_A * POINT_A)
#define SQUARE_B (POINT_B * POINT_B)

/* B^T d for six values. */
static inline __attribute__((always_inline)) void transform_input(const VEC d[6], VEC v[6])
{
    const VEC product = vec_set(SQUARE_A * SQUARE_B), sum = vec_set(SQUARE_A + SQUARE_B);
    const VEC a = vec_set(POINT_A), b = vec_set(POINT_B), aa = vec_set(SQUARE_A), bb = vec_set(SQUARE_B);
    const VEC even_a = vec_fnma(bb, d[2], d[4]), odd_a = vec_fnma(bb, d[1], d[3]);
    const VEC even_b = vec_fnma(aa, d[2], d[4]), odd_b = vec_fnma(aa, d[1], d[3]);

    v[0] = vec_fma(product, d[0], vec_fnma(sum, d[2], d[4]));
    v[1] = vec_fma(a, odd_a, even_a);
    v[2] = vec_fnma(a, odd_a, even_a);
    v[3] = vec_fma(b, odd_b, even_b);
    v[4] = vec_fnma(b, odd_b, even_b);
    v[5] = vec_fma(product, d[1], vec_fnma(sum, d[3], d[5]));
}

/* A^T m: four values of six. */
static inline __attribute__((always_inline)) void transform_output(const VEC m[6], VEC y[4])
{
    const VEC sum_a = vec_add(m[1], m[2]), difference_a = vec_sub(m[1], m[2]);
    const VEC sum_b = vec_add(m[3], m[4]), difference_b = vec_sub(m[3], m[4]);

    y[0] = vec_add(m[0], vec_add(sum_a, sum_b));
    y[1] = vec_fma(vec_set(POINT_B), difference_b, vec_mul(vec_set(POINT_A), difference_a));
    y[2] = vec_fma(vec_set(SQUARE_B), sum_b, vec_mul(vec_set(SQUARE_A), sum_a));
    y[3] = vec_fma(vec_set(SQUARE_B * POINT_B), difference_b,
                   vec_fma(vec_set(SQUARE_A * POINT_A), difference_a, m[5]));
}

/* G g: six values of three. */
static inline __attribute__((always_inline)) void transform_weight(const VEC g[3], VEC u[6])
{
    const VEC scale_a = vec_set(1.0f / (2.0f * SQUARE_A * (SQUARE_A - SQUARE_B)));
    const VEC scale_b = vec_set(1.0f / (2.0f * SQUARE_B * (SQUARE_B - SQUARE_A)));
    const VEC even_a = vec_fma(vec_set(SQUARE_A), g[2], g[0]), odd_a = vec_mul(vec_set(POINT_A), g[1]);
    const VEC even_b = vec_fma(vec_set(SQUARE_B), g[2], g[0]), odd_b = vec_mul(vec_set(POINT_B), g[1]);

    u[0] = vec_mul(vec_set(1.0f / (SQUARE_A * SQUARE_B)), g[0]);
    u[1] = vec_mul(scale_a, vec_add(even_a, odd_a));
    u[2] = vec_mul(scale_a, vec_sub(even_a, odd_a));
    u[3] = vec_mul(scale_b, vec_add(even_b, odd_b));
    u[4] = vec_mul(scale_b, vec_sub(even_b, odd_b));
    u[5] = g[2];
}

/* A y: six values of four, the transpose of transform_output(). */
static inline __attribute__((always_inline)) void transform_gradient(const VEC y[4], VEC m[6])
{
    const VEC even_a = vec_fma(vec_set(SQUARE_A), y[2], y[0]), even_b = vec_fma(vec_set(SQUARE_B), y[2], y[0]);
    const VEC odd_a = vec_fma(vec_set(SQUARE_A * POINT_A), y[3], vec_mul(vec_set(POINT_A), y[1]));
    const VEC odd_b = vec_fma(vec_set(SQUARE_B * POINT_B), y[3], vec_mul(vec_set(POINT_B), y[1]));

    m[0] = y[0];
    m[1] = vec_add(even_a, odd_a);
    m[2] = vec_sub(even_a, odd_a);
    m[3] = vec_add(even_b, odd_b);
    m[4] = vec_sub(even_b, odd_b);
    m[5] = y[3];
}

/* G^T u: three values of six, the transpose of transform_weight(). */
static inline __attribute__((always_inline)) void transform_taps(const VEC u[6], VEC g[3])
{
    const VEC scale_a = vec_set(1.0f / (2.0f * SQUARE_A * (SQUARE_A - SQUARE_B)));
    const VEC scale_b = vec_set(1.0f / (2.0f * SQUARE_B * (SQUARE_B - SQUARE_A)));
    const VEC even_a = vec_mul(scale_a, vec_add(u[1], u[2])), odd_a = vec_mul(scale_a, vec_sub(u[1], u[2]));
    const VEC even_b = vec_mul(scale_b, vec_add(u[3], u[4])), odd_b = vec_mul(scale_b, vec_sub(u[3], u[4]));

    g[0] = vec_fma(vec_set(1.0f / (SQUARE_A * SQUARE_B)), u[0], vec_add(even_a, even_b));
    g[1] = vec_fma(vec_set(POINT_A), odd_a, vec_mul(vec_set(POINT_B), odd_b));
    g[2] = vec_fma(vec_set(SQUARE_A), even_a, vec_fma(vec_set(SQUARE_B), even_b, u[5]));
}

/* The rows of columns that are transformed already, to 36 lines. */
static inline __attribute__((always_inline)) void store_input(VEC t[6][6], float *dst, size_t dst_stride)
{
    for (size_t i = 0; i < 6; i++) {
        const VEC d[6] = {t[0][i], t[1][i], t[2][i], t[3][i], t[4][i], t[5][i]};
        VEC v[6];
        transform_input(d, v);
        for (size_t j = 0; j < 6; j++) {
            vec_store(dst + (i * 6 + j) * dst_stride, v[j]);
        }
    }
}

static void winograd_input(const float *src, size_t row_stride, size_t column_stride, float *dst, size_t dst_stride)
{
    VEC t[6][6]; /* [column][row] */

    for (size_t j = 0; j < 6; j++) {
        VEC d[6];
        for (size_t i = 0; i < 6; i++) {
            d[i] = vec_load(src + i * row_stride + j * column_stride);
        }
        transform_input(d, t[j]);
    }
    store_input(t, dst, dst_stride);
}

static void winograd_rim(const float *image, const size_t size[2], size_t line, const long first[2], float *dst,
                         size_t dst_stride)
{
    VEC t[6][6]; /* [column][row] */

    for (long j = 0; j < 6; j++) {
        const long column = first[1] + j;
        VEC d[6];
        for (long i = 0; i < 6; i++) {
            const long row = first[0] + i;
            d[i] = vec_zero();
            if (row >= 0 && row < (long)size[0] && column >= 0 && column < (long)size[1]) {
                d[i] = vec_load(image + ((size_t)row * size[1] + (size_t)column) * line);
            }
        }
        transform_input(d, t[j]);
    }
    store_input(t, dst, dst_stride);
}

static void winograd_output(const float *src, size_t src_stride, const float *bias, float *dst, size_t row_stride,
                            size_t column_stride)
{
    const VEC start = vec_load(bias);
    VEC t[6][4]; /* [column][row] */

    for (size_t j = 0; j < 6; j++) {
        VEC m[6];
        for (size_t i = 0; i < 6; i++) {
            m[i] = vec_load(src + (i * 6 + j) * src_stride);
        }
        transform_output(m, t[j]);
    }
    for (size_t i = 0; i < 4; i++) {
        const VEC m[6] = {t[0][i], t[1][i], t[2][i], t[3][i], t[4][i], t[5][i]};
        VEC y[4];
        transform_output(m, y);
        for (size_t j = 0; j < 4; j++) {
            vec_store(dst + i * row_stride + j * column_stride, vec_add(y[j], start));
        }
    }
}

static void winograd_weight(const float *src, size_t src_stride, bool flip, float *dst, size_t dst_stride)
{
    VEC t[3][6]; /* [column][row] */

    for (size_t j = 0; j < 3; j++) {
        VEC g[3];
        for (size_t i = 0; i < 3; i++) {
            const size_t tap = i * 3 + j;
            g[i] = vec_load(src + (flip ? 8 - tap : tap) * src_stride);
        }
        transform_weight(g, t[j]);
    }
    for (size_t i = 0; i < 6; i++) {
        const VEC g[3] = {t[0][i], t[1][i], t[2][i]};
        VEC u[6];
        transform_weight(g, u);
        for (size_t j = 0; j < 6; j++) {
            vec_store(dst + (i * 6 + j) * dst_stride, u[j]);
        }
    }
}

static void winograd_gradient(const float *src, size_t row_stride, size_t column_stride, float *dst, size_t dst_stride)
{
    VEC t[4][6]; /* [column][row] */

    for (size_t j = 0; j < 4; j++) {
        VEC y[4];
        for (size_t i = 0; i < 4; i++) {
            y[i] = vec_load(src + i * row_stride + j * column_stride);
        }
        transform_gradient(y, t[j]);
    }
    for (size_t i = 0; i < 6; i++) {
        const VEC y[4] = {t[0][i], t[1][i], t[2][i], t[3][i]};
        VEC m[6];
        transform_gradient(y, m);
        for (size_t j = 0; j < 6; j++) {
            vec_store(dst + (i * 6 + j) * dst_stride, m[j]);
        }
    }
}

static void winograd_taps(const float *src, size_t src_stride, float *dst, size_t dst_stride)
{
    VEC t[6][3]; /* [column][row] */

    for (size_t j = 0; j < 6; j++) {
        VEC u[6];
        for (size_t i = 0; i < 6; i++) {
            u[i] = vec_load(src + (i * 6 + j) * src_stride);
        }
        transform_taps(u, t[j]);
    }
    for (size_t i = 0; i < 3; i++) {
        const VEC u[6] = {t[0][i], t[1][i], t[2][i], t[3][i], t[4][i], t[5][i]};
        VEC g[3];
        transform_taps(u, g);
        for (size_t j = 0; j < 3; j++) {
            vec_store(dst + (i * 3 + j) * dst_stride, g[j]);
        }
    }
}

/* Products of a few tiles: as run_block(), but neighbouring positions are any distance apart, and channels are neighbours.
 * A pointer for every third position, and the distance itself as an index, is what fits the registers. */
#define PRODUCT_BEGIN(p) VEC a##p = vec_zero(), b##p = vec_zero();
#define PRODUCT_STEP(p)                                                                                                \
    if ((p) < tiles) {                                                                                                 \
        const float *x = (p) < 3 ? x0 : ((p) < 6 ? x1 : ((p) < 9 ? x2 : ((p) < 12 ? x3 : x4)));                        \
        const VEC v = vec_broadcast(x + (p) % 3 * stride);                                                             \
        a##p = vec_fma(w0, v, a##p);                                                                                   \
        if (wide == 2) {                                                                                               \
            b##p = vec_fma(w1, v, b##p);                                                                               \
        }                                                                                                              \
    }
#define PRODUCT_END(p)                                                                                                 \
    if ((p) < tiles) {                                                                                                 \
        vec_store(y + (p) * wide * LANES, a##p);                                                                       \
        if (wide == 2) {                                                                                               \
            vec_store(y + (p) * wide * LANES + LANES, b##p);                                                           \
        }                                                                                                              \
    }

static inline __attribute__((always_inline)) void run_product(const size_t wide, const size_t tiles, size_t channels,
                                                              const float *x0, const size_t stride, const float *w,
                                                              float *y)
{
    const float *x1 = x0 + (tiles > 3 ? 3 * stride : 0), *x2 = x0 + (tiles > 6 ? 6 * stride : 0);
    const float *x3 = x0 + (tiles > 9 ? 9 * stride : 0), *x4 = x0 + (tiles > 12 ? 12 * stride : 0);

    EACH_POSITION(PRODUCT_BEGIN)
    for (size_t c = 0; c < channels; c++, w += wide * LANES) {
        const VEC w0 = vec_load(w);
        const VEC w1 = wide == 2 ? vec_load(w + LANES) : w0;
        EACH_POSITION(PRODUCT_STEP)
        x0++, x1++, x2++, x3++, x4++;
    }
    EACH_POSITION(PRODUCT_END)
}

#define PRODUCT_NAME(wide, tiles) product_##wide##_##tiles
#define PRODUCT_DEFINE(wide, tiles)                                                                                    \
    static void PRODUCT_NAME(wide, tiles)(size_t channels, const float *x, size_t stride, const float *weight,         \
                                          float *y)                                                                    \
    {                                                                                                                  \
        run_product(wide, tiles, channels, x, stride, weight, y);                                                      \
    }
#define PRODUCT_ENTRY(wide, tiles) [(wide) - 1][(tiles) - 1] = PRODUCT_NAME(wide, tiles),
EACH_COUNT(PRODUCT_DEFINE, 1)
EACH_COUNT(PRODUCT_DEFINE, 2)

static void (*const product_table[2][CONV_POSITIONS_MAX])(size_t channels, const float *x, size_t stride,
                                                          const float *weight, float *y) = {
    EACH_COUNT(PRODUCT_ENTRY, 1) EACH_COUNT(PRODUCT_ENTRY, 2)};

static void winograd_product(size_t wide, size_t tiles, size_t channels, const float *x, size_t stride,
                             const float *weight, float *y)
{
    product_table[wide - 1][tiles - 1](channels, x, stride, weight, y);
}

#endif
