/* The reference backend: im2col, then OpenBLAS; any group, dilation, stride and padding.
 *
 * A chunk is cut into tiles of output positions. Small images (4x4, 8x8) are taken several at a time, since a matrix of a
 * few columns wastes the product's kernel; large ones are cut so that a tile's columns stay in the level-2 cache between
 * being written and being read.
 *
 * Letters: M output channels, C input channels, both of one group; K = C kH kW; P = out_height * out_width; T positions of
 * a tile. The columns of a tile are a matrix (K, T), one row a weight, one column a position. */
#include <cblas.h>
#include <string.h>

#include "server/nn/backend.h"
#include "server/nn/backend_dnnl.h"
#include "server/nn/kernels.h"

enum {
    TILE_FLOATS = 96 * 1024, /* columns of a tile: 384 KiB, beside weights and outputs in 1 MiB or more of level 2 */
    TILE_MIN = 64,           /* positions; fewer do not pay for a call */
    MERGE_POSITIONS = 256,   /* samples are merged up to about this many positions */
};

/* A tile is whole samples [first, first + samples) if `samples` > 0, else positions [begin, end) of sample `first`. */
struct tile {
    size_t first, samples;
    size_t begin, end;
};

struct plan {
    size_t m, c, k, p; /* a group */
    size_t merge;      /* samples a tile; 0: a tile is a part of one sample */
    size_t positions;  /* largest T */
    bool direct;       /* the image itself is the matrix of columns: 1x1, stride 1, no padding */
};

void backend_gemm(const struct gemm_shape *s, const float *a, const float *b, float *c) {
    if (backend_choice() == BACKEND_DNNL) {
        backend_dnnl_gemm(s, a, b, c);
        return;
    }
    cblas_sgemm(CblasRowMajor, s->trans_a ? CblasTrans : CblasNoTrans, s->trans_b ? CblasTrans : CblasNoTrans,
                (blasint)s->m, (blasint)s->n, (blasint)s->k, s->alpha, a, (blasint)s->lda, b, (blasint)s->ldb, s->beta,
                c, (blasint)s->ldc);
}

static bool is_direct(const struct window_attr *w) {
    for (size_t d = 0; d < 2; d++) {
        if (w->kernel[d] != 1 || w->stride[d] != 1 || w->pad_begin[d] != 0 || w->pad_end[d] != 0) {
            return false;
        }
    }
    return true;
}

static struct plan make_plan(const struct conv_shape *s, size_t n) {
    const struct window_attr *w = &s->window;
    struct plan plan = {.m = s->out_channels / w->group,
                        .c = s->channels / w->group,
                        .p = s->out_height * s->out_width,
                        .direct = is_direct(w)};

    plan.k = plan.c * w->kernel[0] * w->kernel[1];
    if (plan.p * 2 <= MERGE_POSITIONS && n > 1) {
        size_t merge = MERGE_POSITIONS / plan.p;
        plan.merge = merge < n ? merge : n;
        plan.positions = plan.merge * plan.p;
    } else {
        size_t fit = TILE_FLOATS / plan.k > TILE_MIN ? TILE_FLOATS / plan.k : TILE_MIN;
        size_t tiles = (plan.p + fit - 1) / fit;
        /* Equal tiles, a multiple of 16 wide but for the last. */
        size_t width = plan.direct ? plan.p : (((plan.p + tiles - 1) / tiles) + 15) / 16 * 16;
        plan.positions = width < plan.p ? width : plan.p;
    }
    return plan;
}

static struct tile first_tile(const struct plan *plan, size_t n) {
    if (plan->merge > 0) {
        return (struct tile){.first = 0, .samples = plan->merge < n ? plan->merge : n, .begin = 0, .end = plan->p};
    }
    return (struct tile){.first = 0, .samples = 0, .begin = 0, .end = plan->positions};
}

/* False after the last tile. */
static bool next_tile(const struct plan *plan, size_t n, struct tile *tile) {
    if (plan->merge > 0) {
        tile->first += tile->samples;
        tile->samples = n - tile->first < plan->merge ? n - tile->first : plan->merge;
        return tile->first < n;
    }
    tile->begin = tile->end;
    if (tile->begin == plan->p) {
        tile->begin = 0;
        tile->first++;
    }
    tile->end = tile->begin + plan->positions < plan->p ? tile->begin + plan->positions : plan->p;
    return tile->first < n;
}

/* The output columns [*low, *high) of [0, out) whose tap at `offset` = tap * dilation - pad lies in [0, in). */
static void inside(size_t out, size_t in, size_t stride, size_t tap, size_t pad, size_t *low, size_t *high) {
    *low = tap >= pad ? 0 : (pad - tap + stride - 1) / stride;
    *high = in + pad > tap ? (in + pad - tap - 1) / stride + 1 : 0;
    *high = *high < out ? *high : out;
    *low = *low < *high ? *low : *high;
}

/* One row of the column matrix over positions [begin, end) of one image plane (H, W). */
static void gather_row(const struct conv_shape *s, const float *plane, size_t kh, size_t kw, size_t begin, size_t end,
                       float *col) {
    const struct window_attr *w = &s->window;
    const size_t tap_h = kh * w->dilation[0], tap_w = kw * w->dilation[1];
    size_t row_low, row_high, low, high;

    inside(s->out_height, s->height, w->stride[0], tap_h, w->pad_begin[0], &row_low, &row_high);
    inside(s->out_width, s->width, w->stride[1], tap_w, w->pad_begin[1], &low, &high);
    for (size_t q = begin; q < end;) {
        size_t oh = q / s->out_width, from = q % s->out_width;
        size_t to = s->out_width - from < end - q ? s->out_width : from + (end - q);
        size_t a = low < from ? from : (low < to ? low : to);
        size_t b = high > to ? to : (high > a ? high : a);

        if (oh < row_low || oh >= row_high) {
            a = b = to;
        }
        memset(col, 0, (a - from) * sizeof *col);
        if (a < b) {
            const float *x = plane + (oh * w->stride[0] + tap_h - w->pad_begin[0]) * s->width +
                             (a * w->stride[1] + tap_w - w->pad_begin[1]);
            if (w->stride[1] == 1) {
                memcpy(col + (a - from), x, (b - a) * sizeof *col);
            } else {
                for (size_t i = a; i < b; i++, x += w->stride[1]) {
                    col[i - from] = *x;
                }
            }
        }
        memset(col + (b - from), 0, (to - b) * sizeof *col);
        col += to - from;
        q += to - from;
    }
}

/* The reverse of gather_row(): adds a row of the column matrix to the plane. */
static void scatter_row(const struct conv_shape *s, const float *col, size_t kh, size_t kw, size_t begin, size_t end,
                        float *plane) {
    const struct window_attr *w = &s->window;
    const size_t tap_h = kh * w->dilation[0], tap_w = kw * w->dilation[1];
    size_t row_low, row_high, low, high;

    inside(s->out_height, s->height, w->stride[0], tap_h, w->pad_begin[0], &row_low, &row_high);
    inside(s->out_width, s->width, w->stride[1], tap_w, w->pad_begin[1], &low, &high);
    for (size_t q = begin; q < end;) {
        size_t oh = q / s->out_width, from = q % s->out_width;
        size_t to = s->out_width - from < end - q ? s->out_width : from + (end - q);
        size_t a = low < from ? from : low;
        size_t b = high > to ? to : high;

        if (oh >= row_low && oh < row_high && a < b) {
            float *x = plane + (oh * w->stride[0] + tap_h - w->pad_begin[0]) * s->width +
                       (a * w->stride[1] + tap_w - w->pad_begin[1]);
            for (size_t i = a; i < b; i++, x += w->stride[1]) {
                *x += col[i - from];
            }
        }
        col += to - from;
        q += to - from;
    }
}

static size_t tile_samples(const struct tile *tile) {
    return tile->samples > 0 ? tile->samples : 1;
}

static size_t tile_width(const struct tile *tile) {
    return tile_samples(tile) * (tile->end - tile->begin);
}

/* Columns (K, T) of group g. */
static void gather(const struct conv_shape *s, const struct plan *plan, const struct tile *tile, size_t g,
                   const float *x, float *col) {
    const struct window_attr *w = &s->window;
    const size_t width = tile->end - tile->begin;

    for (size_t c = 0; c < plan->c; c++) {
        for (size_t kh = 0; kh < w->kernel[0]; kh++) {
            for (size_t kw = 0; kw < w->kernel[1]; kw++) {
                for (size_t i = 0; i < tile_samples(tile); i++) {
                    size_t plane = (tile->first + i) * s->channels + g * plan->c + c;
                    gather_row(s, x + plane * s->height * s->width, kh, kw, tile->begin, tile->end, col);
                    col += width;
                }
            }
        }
    }
}

static void scatter(const struct conv_shape *s, const struct plan *plan, const struct tile *tile, size_t g,
                    const float *col, float *x) {
    const struct window_attr *w = &s->window;
    const size_t width = tile->end - tile->begin;

    for (size_t c = 0; c < plan->c; c++) {
        for (size_t kh = 0; kh < w->kernel[0]; kh++) {
            for (size_t kw = 0; kw < w->kernel[1]; kw++) {
                for (size_t i = 0; i < tile_samples(tile); i++) {
                    size_t plane = (tile->first + i) * s->channels + g * plan->c + c;
                    scatter_row(s, col, kh, kw, tile->begin, tile->end, x + plane * s->height * s->width);
                    col += width;
                }
            }
        }
    }
}

/* Where the tile's outputs of group g begin in y or dy; in a merged tile, those of its sample i. */
static size_t tile_offset(const struct conv_shape *s, const struct plan *plan, const struct tile *tile, size_t g,
                          size_t i) {
    return ((tile->first + i) * s->out_channels + g * plan->m) * plan->p + tile->begin;
}

/* dy of a merged tile, (samples, M, P), as a matrix (M, samples P). */
static const float *tile_gradient(const struct conv_shape *s, const struct plan *plan, const struct tile *tile,
                                  size_t g, const float *dy, float *temp, size_t *stride) {
    if (tile->samples == 0) {
        *stride = plan->p;
        return dy + tile_offset(s, plan, tile, g, 0);
    }
    *stride = tile_width(tile);
    for (size_t i = 0; i < tile->samples; i++) {
        const float *from = dy + tile_offset(s, plan, tile, g, i);
        for (size_t m = 0; m < plan->m; m++) {
            memcpy(temp + m * *stride + i * plan->p, from + m * plan->p, plan->p * sizeof *temp);
        }
    }
    return temp;
}

static bool blas_supports(const struct conv_shape *shape, enum conv_pass pass) {
    (void)shape;
    (void)pass;
    return true;
}

static size_t column_floats(const struct plan *plan) {
    /* A direct tile of one sample needs none, but the backward by data of a merged one does; keep one rule. */
    return (plan->k * plan->positions + 15) / 16 * 16;
}

static size_t blas_scratch_floats(const struct conv_backend *backend, const struct conv_shape *s, size_t n,
                                  enum conv_pass pass) {
    (void)backend;
    const struct plan plan = make_plan(s, n);

    (void)pass;
    return column_floats(&plan) + (plan.merge > 0 ? plan.m * plan.positions : 0);
}

static void blas_forward(const struct conv_backend *backend, const struct conv_shape *s, size_t n, const float *x,
                         const float *weight, const float *prepared, const float *bias, float *y, float *scratch) {
    (void)backend;
    const struct kernels *k = kernels();
    const struct plan plan = make_plan(s, n);
    float *temp = scratch + column_floats(&plan);
    struct tile tile = first_tile(&plan, n);

    (void)prepared;
    do {
        for (size_t g = 0; g < s->window.group; g++) {
            const size_t width = tile_width(&tile);
            const float *w = weight + g * plan.m * plan.k;
            const bool view = plan.direct && tile.samples == 0;
            const float *col = view ? x + (tile.first * s->channels + g * plan.c) * plan.p : scratch;
            float *out = tile.samples > 0 ? temp : y + tile_offset(s, &plan, &tile, g, 0);
            const size_t stride = tile.samples > 0 ? width : plan.p;

            if (!view) {
                gather(s, &plan, &tile, g, x, scratch);
            }
            backend_gemm(
                &(struct gemm_shape){
                    .m = plan.m, .n = width, .k = plan.k, .lda = plan.k, .ldb = width, .ldc = stride, .alpha = 1.0f},
                w, col, out);
            for (size_t i = 0; i < tile_samples(&tile); i++) {
                for (size_t m = 0; m < plan.m; m++) {
                    float *to = y + tile_offset(s, &plan, &tile, g, i) + m * plan.p;
                    const float *from = out + m * stride + i * plan.p;
                    if (bias != NULL) {
                        k->affine(tile.end - tile.begin, 1.0f, bias[g * plan.m + m], from, to);
                    } else if (to != from) {
                        memcpy(to, from, (tile.end - tile.begin) * sizeof *to);
                    }
                }
            }
        }
    } while (next_tile(&plan, n, &tile));
}

static void blas_backward_data(const struct conv_backend *backend, const struct conv_shape *s, size_t n,
                               const float *dy, const float *weight, const float *prepared, float *dx, bool accumulate,
                               float *scratch) {
    (void)backend;
    const struct plan plan = make_plan(s, n);
    float *temp = scratch + column_floats(&plan);
    struct tile tile = first_tile(&plan, n);

    (void)prepared;
    if (!accumulate) {
        memset(dx, 0, n * s->channels * s->height * s->width * sizeof *dx);
    }
    do {
        for (size_t g = 0; g < s->window.group; g++) {
            const size_t width = tile_width(&tile);
            const float *w = weight + g * plan.m * plan.k;
            const bool view = plan.direct && tile.samples == 0;
            float *col = view ? dx + (tile.first * s->channels + g * plan.c) * plan.p : scratch;
            size_t stride = 0;
            const float *gradient = tile_gradient(s, &plan, &tile, g, dy, temp, &stride);

            backend_gemm(&(struct gemm_shape){.m = plan.k,
                                              .n = width,
                                              .k = plan.m,
                                              .trans_a = true,
                                              .lda = plan.k,
                                              .ldb = stride,
                                              .ldc = width,
                                              .alpha = 1.0f,
                                              .beta = view ? 1.0f : 0.0f},
                         w, gradient, col);
            if (!view) {
                scatter(s, &plan, &tile, g, col, dx);
            }
        }
    } while (next_tile(&plan, n, &tile));
}

static void blas_backward_weight(const struct conv_backend *backend, const struct conv_shape *s, size_t n,
                                 const float *x, const float *dy, float *dweight, float *scratch) {
    (void)backend;
    const struct plan plan = make_plan(s, n);
    float *temp = scratch + column_floats(&plan);
    struct tile tile = first_tile(&plan, n);

    do {
        for (size_t g = 0; g < s->window.group; g++) {
            const size_t width = tile_width(&tile);
            const bool view = plan.direct && tile.samples == 0;
            const float *col = view ? x + (tile.first * s->channels + g * plan.c) * plan.p : scratch;
            size_t stride = 0;
            const float *gradient = tile_gradient(s, &plan, &tile, g, dy, temp, &stride);

            if (!view) {
                gather(s, &plan, &tile, g, x, scratch);
            }
            backend_gemm(&(struct gemm_shape){.m = plan.m,
                                              .n = plan.k,
                                              .k = width,
                                              .trans_b = true,
                                              .lda = stride,
                                              .ldb = width,
                                              .ldc = plan.k,
                                              .alpha = 1.0f,
                                              .beta = 1.0f},
                         gradient, col, dweight + g * plan.m * plan.k);
        }
    } while (next_tile(&plan, n, &tile));
}

const struct conv_backend *backend_blas(void) {
    static const struct conv_backend blas = {.name = "blas",
                                             .supports = blas_supports,
                                             .scratch_floats = blas_scratch_floats,
                                             .forward = blas_forward,
                                             .backward_data = blas_backward_data,
                                             .backward_weight = blas_backward_weight};

    return &blas;
}
