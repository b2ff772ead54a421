/* Convolution 3x3 with stride 1 by Winograd's F(4x4, 3x3): 36 multiplications for 16 outputs of a channel pair instead of
 * 144, for some additions before and after. Forward, and backward by data, which is the same with the weights turned about
 * their centre and the channels' roles exchanged.
 *
 * The output is cut into tiles of 4x4. For a strip of tiles:
 *   source (C, H, W) -> lines (position, C)              transposition, so that a vector is channels of one position
 *   -> input (36, tile, C)                               of each tile's 6x6 positions, zeros outside the image
 *   -> products (36, tile, M) = input x weights (36, C, M)   where nearly all the work is: 36 small matrix products
 *   -> patch (position, M) -> output (M, H, W)           of each tile's 36 products, and transposition back
 * with M a block of one or two vectors of output channels. The gradient of the weights is the transpose of this: the input
 * as above, the output's gradient into 36 lines, the sums over all tiles of their products, and those into nine taps.
 *
 * The result of a sample does not depend on those beside it. */
#include <string.h>

#include "server/nn/backend.h"
#include "server/nn/kernels_conv.h"

enum {
    TILE = 4,
    WINDOW = 6, /* TILE + 2 */
    POINTS = WINDOW * WINDOW,
    TAPS = 9,
    LANES_MAX = 16,
    STRIP_TILES = 28,          /* two blocks of products */
    STRIP_FLOATS = 160 * 1024, /* or fewer, so that the input of a strip stays in level 2; if these are too few: */
    LONG_TILES = 56,           /* strips over which the weights, which are read once a strip, pay */
    GROUP_FLOATS = 1024 * 1024 /* products of all 36 kept at a time */
};

struct job {
    const struct conv_kernels *kernels;
    size_t n;
    size_t source_channels, source_height, source_width;
    size_t out_channels, out_height, out_width;
    long before[2]; /* output position o reads source positions o - before .. o - before + 2 */
    bool backward;
    size_t rows, columns; /* tiles of a sample */
    size_t strip_rows;    /* tile rows of a strip, if it is a part of one sample */
    size_t strip_samples; /* or whole samples of a strip; 0: a part of one */
    size_t strip_tiles;
    size_t group;                    /* blocks of output channels multiplied together, point by point */
    size_t line;                     /* source channels rounded up to whole vectors */
    size_t wide, width;              /* vectors and channels of a full block */
    size_t input_step, product_step; /* floats between the 36 */
};

/* The tile rows [begin, end) of samples [first, first + samples). */
struct strip {
    size_t first, samples, begin, end;
};

struct workspace {
    float *lines, *input, *weights, *products, *patch, *bias;
};

static size_t round_up(size_t value, size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

static size_t block_count(const struct job *job) {
    return (job->out_channels + job->width - 1) / job->width;
}

static size_t weight_floats(const struct job *job) {
    return block_count(job) * POINTS * job->source_channels * job->width;
}

static void make_job(const struct conv_shape *s, size_t n, enum conv_pass pass, const struct conv_kernels *kernels,
                     struct job *job) {
    const bool backward = pass == CONV_BACKWARD_DATA;

    *job = (struct job){.kernels = kernels,
                        .n = n,
                        .source_channels = backward ? s->out_channels : s->channels,
                        .source_height = backward ? s->out_height : s->height,
                        .source_width = backward ? s->out_width : s->width,
                        .out_channels = backward ? s->channels : s->out_channels,
                        .out_height = backward ? s->height : s->out_height,
                        .out_width = backward ? s->width : s->out_width,
                        .backward = backward};
    for (size_t d = 0; d < 2; d++) {
        job->before[d] = backward ? 2 - (long)s->window.pad_begin[d] : (long)s->window.pad_begin[d];
    }
    job->rows = (job->out_height + TILE - 1) / TILE;
    job->columns = (job->out_width + TILE - 1) / TILE;
    job->line = round_up(job->source_channels, kernels->lanes);
    job->wide = job->out_channels > kernels->lanes ? 2 : 1;
    job->width = job->wide * kernels->lanes;

    size_t most = STRIP_FLOATS / POINTS / job->line;
    const bool is_long = most < STRIP_TILES;
    most = is_long ? LONG_TILES : STRIP_TILES;
    if (job->rows * job->columns <= most) {
        job->strip_samples = smaller(n, most / (job->rows * job->columns));
        job->strip_rows = job->rows;
    } else {
        size_t fit = most > job->columns ? most / job->columns : 1;
        size_t strips = (job->rows + fit - 1) / fit;
        job->strip_rows = (job->rows + strips - 1) / strips;
    }
    job->strip_tiles = job->strip_rows * job->columns * (job->strip_samples > 0 ? job->strip_samples : 1);
    /* The 36 must not fall on the same set of the cache. */
    job->input_step = job->strip_tiles * job->line + LANES_MAX;
    job->product_step = job->strip_tiles * job->width + LANES_MAX;
    job->group = is_long ? GROUP_FLOATS / (POINTS * job->product_step) : 1;
    job->group = job->group > 0 ? smaller(job->group, block_count(job)) : 1;
}

static bool winograd_supports(const struct conv_shape *s, enum conv_pass pass) {
    const struct window_attr *w = &s->window;

    (void)pass;
    if (w->group != 1) {
        return false;
    }
    for (size_t d = 0; d < 2; d++) {
        if (w->kernel[d] != 3 || w->stride[d] != 1 || w->dilation[d] != 1 || w->pad_begin[d] > 2 || w->pad_end[d] > 2) {
            return false;
        }
    }
    return true;
}

/* Lays the workspace out from `scratch` (which may be NULL); returns its size in floats. */
static size_t make_workspace(const struct job *job, float *scratch, struct workspace *w) {
    const size_t samples = job->strip_samples > 0 ? job->strip_samples : 1;
    const size_t floats[] = {samples * job->source_height * job->source_width * job->line,
                             POINTS * job->input_step,
                             job->group * POINTS * job->product_step,
                             job->strip_tiles * TILE * TILE * job->width,
                             block_count(job) * job->width,
                             weight_floats(job)};
    /* Weights last: nobody touches them there if they are prepared. */
    float **const parts[] = {&w->lines, &w->input, &w->products, &w->patch, &w->bias, &w->weights};
    size_t used = 0;

    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) {
        *parts[i] = scratch != NULL ? scratch + used : NULL;
        used += round_up(floats[i], LANES_MAX);
    }
    return used;
}

/* (block, 36, source channel, lane). */
static void prepare_weights(const struct job *job, const float *weight, float *to) {
    const struct conv_kernels *k = job->kernels;
    float taps[TAPS * 2 * LANES_MAX];

    for (size_t m = 0; m < job->out_channels; m += job->width, to += POINTS * job->source_channels * job->width) {
        const size_t lanes = smaller(job->out_channels - m, job->width);
        memset(taps, 0, sizeof taps);
        for (size_t c = 0; c < job->source_channels; c++) {
            /* Of the file's (M, C, 3, 3): the lanes are its M forward, its C backward. */
            const float *from = job->backward ? weight + (c * job->out_channels + m) * TAPS
                                              : weight + (m * job->source_channels + c) * TAPS;
            k->transpose(lanes, TAPS, from, job->backward ? TAPS : job->source_channels * TAPS, taps, job->width,
                         false);
            for (size_t v = 0; v < job->width; v += k->lanes) {
                k->winograd_weight(taps + v, job->width, job->backward, to + c * job->width + v,
                                   job->source_channels * job->width);
            }
        }
    }
}

/* The samples of a strip with channels last; the lanes beyond the last channel are never read but as factors of nothing. */
static void prepare_lines(const struct job *job, const struct strip *strip, const float *source, float *lines) {
    const size_t image = job->source_height * job->source_width;

    for (size_t i = 0; i < strip->samples; i++) {
        job->kernels->transpose(job->source_channels, image, source + (strip->first + i) * job->source_channels * image,
                                image, lines + i * image * job->line, job->line, false);
    }
}

/* A tile's 6x6 positions from (row, column) on, all channels. */
static void transform_tile(const struct job *job, const float *image, long row, long column, float *input) {
    const size_t lanes = job->kernels->lanes;
    const size_t size[2] = {job->source_height, job->source_width};
    const long first[2] = {row, column};
    const bool inside = row >= 0 && row + WINDOW <= (long)size[0] && column >= 0 && column + WINDOW <= (long)size[1];

    for (size_t c = 0; c < job->line; c += lanes) {
        if (inside) {
            job->kernels->winograd_input(image + ((size_t)row * size[1] + (size_t)column) * job->line + c,
                                         size[1] * job->line, job->line, input + c, job->input_step);
        } else {
            job->kernels->winograd_rim(image + c, size, job->line, first, input + c, job->input_step);
        }
    }
}

static void transform_strip(const struct job *job, const struct strip *strip, const float *lines, float *input) {
    const size_t image = job->source_height * job->source_width * job->line;

    for (size_t i = 0; i < strip->samples; i++) {
        for (size_t r = strip->begin; r < strip->end; r++) {
            for (size_t c = 0; c < job->columns; c++, input += job->line) {
                transform_tile(job, lines + i * image, (long)(r * TILE) - job->before[0],
                               (long)(c * TILE) - job->before[1], input);
            }
        }
    }
}

/* All tiles of a strip times some blocks of output channels. */
static void multiply(const struct job *job, size_t tiles, size_t blocks, const float *input, const float *weights,
                     float *products) {
    const size_t most = job->kernels->positions_max;
    const size_t parts = (tiles + most - 1) / most;

    for (size_t f = 0; f < POINTS; f++) {
        const float *x = input + f * job->input_step;
        for (size_t b = 0; b < blocks; b++) {
            const float *w = weights + (b * POINTS + f) * job->source_channels * job->width;
            float *y = products + (b * POINTS + f) * job->product_step;
            size_t at = 0;
            for (size_t p = 0; p < parts; p++) {
                const size_t count = (tiles - at + parts - p - 1) / (parts - p); /* about equal parts */
                job->kernels->winograd_product(job->wide, count, job->source_channels, x + at * job->line, job->line, w,
                                               y + at * job->width);
                at += count;
            }
        }
    }
}

/* Products to output positions, (sample, row, column, lane) with rows and columns of whole tiles. */
static void transform_back(const struct job *job, const struct strip *strip, const float *products, const float *bias,
                           float *patch) {
    const size_t pitch = job->columns * TILE * job->width;
    const size_t tile_rows = strip->samples * (strip->end - strip->begin);

    for (size_t r = 0; r < tile_rows; r++) {
        for (size_t c = 0; c < job->columns; c++, products += job->width) {
            for (size_t v = 0; v < job->width; v += job->kernels->lanes) {
                job->kernels->winograd_output(products + v, job->product_step, bias + v,
                                              patch + r * TILE * pitch + c * TILE * job->width + v, pitch, job->width);
            }
        }
    }
}

static void store(const struct job *job, const struct strip *strip, const float *patch, size_t channel, bool accumulate,
                  float *out) {
    const size_t image = job->out_height * job->out_width, pitch = job->columns * TILE;
    const size_t channels = smaller(job->out_channels - channel, job->width);
    const size_t begin = strip->begin * TILE, end = smaller(strip->end * TILE, job->out_height);
    /* Lines without a gap are one long line. */
    const size_t length = pitch == job->out_width ? (end - begin) * pitch : job->out_width;

    for (size_t i = 0; i < strip->samples; i++) {
        const float *from = patch + i * (strip->end - strip->begin) * TILE * pitch * job->width;
        float *to = out + ((strip->first + i) * job->out_channels + channel) * image + begin * job->out_width;
        for (size_t at = 0; at < (end - begin) * job->out_width; at += length, from += pitch * job->width) {
            job->kernels->transpose(length, channels, from, job->width, to + at, image, accumulate);
        }
    }
}

static bool next_strip(const struct job *job, struct strip *strip) {
    if (job->strip_samples > 0) {
        strip->first += strip->samples;
        strip->samples = smaller(job->n - strip->first, job->strip_samples);
        strip->begin = 0;
        strip->end = job->rows;
    } else {
        if (strip->end == job->rows) {
            strip->first++;
            strip->end = 0;
        }
        strip->samples = 1;
        strip->begin = strip->end;
        strip->end = smaller(strip->begin + job->strip_rows, job->rows);
    }
    return strip->first < job->n;
}

static void run_job(const struct job *job, const float *source, const float *weight, const float *prepared,
                    const float *bias, float *out, bool accumulate, float *scratch) {
    const size_t blocks = block_count(job);
    struct strip strip = {.first = 0};
    struct workspace w;

    make_workspace(job, scratch, &w);
    memset(w.bias, 0, round_up(job->out_channels, job->width) * sizeof *w.bias);
    if (bias != NULL) {
        memcpy(w.bias, bias, job->out_channels * sizeof *w.bias);
    }
    if (prepared == NULL) {
        prepare_weights(job, weight, w.weights);
        prepared = w.weights;
    }
    while (next_strip(job, &strip)) {
        const size_t tiles = strip.samples * (strip.end - strip.begin) * job->columns;
        if (strip.begin == 0) {
            prepare_lines(job, &strip, source, w.lines);
        }
        transform_strip(job, &strip, w.lines, w.input);
        for (size_t block = 0; block < blocks; block += job->group) {
            const size_t some = smaller(blocks - block, job->group), first = block * job->width;
            multiply(job, tiles, some, w.input, prepared + first * POINTS * job->source_channels, w.products);
            for (size_t b = 0; b < some; b++) {
                const size_t m = first + b * job->width;
                transform_back(job, &strip, w.products + b * POINTS * job->product_step, w.bias + m, w.patch);
                store(job, &strip, w.patch, m, accumulate, out);
            }
        }
    }
}

/* The reverse of store(): one block of channels of the gradient, (position, lane), with zeros beyond the image. */
static void load_gradient(const struct job *job, const struct strip *strip, const float *gradient, size_t channel,
                          float *patch) {
    const size_t image = job->out_height * job->out_width, pitch = job->columns * TILE;
    const size_t channels = smaller(job->out_channels - channel, job->width);
    const size_t begin = strip->begin * TILE, rows = (strip->end - strip->begin) * TILE;
    const size_t filled = smaller(rows, job->out_height - begin);
    const size_t length = pitch == job->out_width ? filled * pitch : job->out_width;

    for (size_t i = 0; i < strip->samples; i++, patch += rows * pitch * job->width) {
        const float *from =
            gradient + ((strip->first + i) * job->out_channels + channel) * image + begin * job->out_width;
        float *to = patch;
        if (pitch != job->out_width || filled < rows) {
            memset(patch, 0, rows * pitch * job->width * sizeof *patch);
        }
        for (size_t at = 0; at < filled * job->out_width; at += length, to += pitch * job->width) {
            job->kernels->transpose(channels, length, from + at, image, to, job->width, false);
        }
    }
}

static void transform_gradient(const struct job *job, const struct strip *strip, const float *patch, float *products) {
    const size_t pitch = job->columns * TILE * job->width;
    const size_t tile_rows = strip->samples * (strip->end - strip->begin);

    for (size_t r = 0; r < tile_rows; r++) {
        for (size_t c = 0; c < job->columns; c++, products += job->width) {
            for (size_t v = 0; v < job->width; v += job->kernels->lanes) {
                job->kernels->winograd_gradient(patch + r * TILE * pitch + c * TILE * job->width + v, pitch, job->width,
                                                products + v, job->product_step);
            }
        }
    }
}

/* sums (36, source channel, lane) += over the tiles of a strip, input times gradient. */
static void add_products(const struct job *job, size_t tiles, const float *input, const float *products, float *sums) {
    const size_t most = job->kernels->positions_max;
    const size_t parts = (job->source_channels + most - 1) / most;

    for (size_t f = 0; f < POINTS; f++) {
        struct conv_gradient g = {.rows = 1,
                                  .columns = tiles,
                                  .x_column = job->line,
                                  .z = products + f * job->product_step,
                                  .z_column = job->width};
        size_t at = 0;
        for (size_t p = 0; p < parts; p++) {
            const size_t count = (job->source_channels - at + parts - p - 1) / (parts - p);
            g.x = input + f * job->input_step + at;
            g.y = sums + (f * job->source_channels + at) * job->width;
            job->kernels->gradient(job->wide, count)(&g);
            at += count;
        }
    }
}

/* The 36 sums of each pair of channels to its nine taps. */
static void add_taps(const struct job *job, const float *sums, float *dweight) {
    const struct conv_kernels *k = job->kernels;
    float taps[TAPS * 2 * LANES_MAX];

    for (size_t m = 0; m < job->out_channels; m += job->width, sums += POINTS * job->source_channels * job->width) {
        const size_t lanes = smaller(job->out_channels - m, job->width);
        for (size_t c = 0; c < job->source_channels; c++) {
            for (size_t v = 0; v < job->width; v += k->lanes) {
                k->winograd_taps(sums + c * job->width + v, job->source_channels * job->width, taps + v, job->width);
            }
            k->transpose(TAPS, lanes, taps, job->width, dweight + (m * job->source_channels + c) * TAPS,
                         job->source_channels * TAPS, true);
        }
    }
}

static void run_weight_job(const struct job *job, const float *x, const float *dy, float *dweight, float *scratch) {
    struct strip strip = {.first = 0};
    struct workspace w;

    make_workspace(job, scratch, &w);
    memset(w.weights, 0, weight_floats(job) * sizeof *w.weights);
    while (next_strip(job, &strip)) {
        const size_t tiles = strip.samples * (strip.end - strip.begin) * job->columns;
        if (strip.begin == 0) {
            prepare_lines(job, &strip, x, w.lines);
        }
        transform_strip(job, &strip, w.lines, w.input);
        for (size_t m = 0; m < job->out_channels; m += job->width) {
            load_gradient(job, &strip, dy, m, w.patch);
            transform_gradient(job, &strip, w.patch, w.products);
            add_products(job, tiles, w.input, w.products, w.weights + m * POINTS * job->source_channels);
        }
    }
    add_taps(job, w.weights, dweight);
}

static size_t winograd_scratch_floats(const struct conv_backend *backend, const struct conv_shape *s, size_t n,
                                      enum conv_pass pass) {
    struct job job;
    struct workspace w;

    if (!winograd_supports(s, pass)) {
        return 0;
    }
    make_job(s, n, pass, backend->kernels(), &job);
    return make_workspace(&job, NULL, &w);
}

static size_t winograd_prepared_floats(const struct conv_backend *backend, const struct conv_shape *s,
                                       enum conv_pass pass) {
    struct job job;

    make_job(s, 1, pass, backend->kernels(), &job);
    return weight_floats(&job);
}

static void winograd_prepare(const struct conv_backend *backend, const struct conv_shape *s, enum conv_pass pass,
                             const float *weight, float *prepared) {
    struct job job;

    make_job(s, 1, pass, backend->kernels(), &job);
    prepare_weights(&job, weight, prepared);
}

static void winograd_forward(const struct conv_backend *backend, const struct conv_shape *s, size_t n, const float *x,
                             const float *weight, const float *prepared, const float *bias, float *y, float *scratch) {
    struct job job;

    make_job(s, n, CONV_FORWARD, backend->kernels(), &job);
    run_job(&job, x, weight, prepared, bias, y, false, scratch);
}

static void winograd_backward_data(const struct conv_backend *backend, const struct conv_shape *s, size_t n,
                                   const float *dy, const float *weight, const float *prepared, float *dx,
                                   bool accumulate, float *scratch) {
    struct job job;

    make_job(s, n, CONV_BACKWARD_DATA, backend->kernels(), &job);
    run_job(&job, dy, weight, prepared, NULL, dx, accumulate, scratch);
}

static void winograd_backward_weight(const struct conv_backend *backend, const struct conv_shape *s, size_t n,
                                     const float *x, const float *dy, float *dweight, float *scratch) {
    struct job job;

    make_job(s, n, CONV_BACKWARD_WEIGHT, backend->kernels(), &job);
    run_weight_job(&job, x, dy, dweight, scratch);
}

#define WINOGRAD_BACKEND(title, table)                                                                                 \
    {                                                                                                                  \
        .name = (title), .kernels = (table), .supports = winograd_supports, .scratch_floats = winograd_scratch_floats, \
        .prepared_floats = winograd_prepared_floats, .prepare = winograd_prepare, .forward = winograd_forward,         \
        .backward_data = winograd_backward_data, .backward_weight = winograd_backward_weight                           \
    }

const struct conv_backend *backend_winograd(enum kernels_level level) {
    static const struct conv_backend avx2 = WINOGRAD_BACKEND("winograd avx2", conv_kernels_avx2);
    static const struct conv_backend avx512 = WINOGRAD_BACKEND("winograd avx512", conv_kernels_avx512);

    if (conv_kernels_at(level) == NULL) {
        return NULL;
    }
    return level == KERNELS_AVX512 ? &avx512 : &avx2;
}
