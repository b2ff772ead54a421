/* Direct convolution by the kernels of kernels_conv.h, for one group: forward, and backward by data; the
 * gradient of the weights is in backend_direct_weight.c.
 *
 * Both passes are one thing here. A *source* (x, or dy) is read, an *output* (y, or dx) is written, and each output
 * position adds up `taps` source positions of all source channels:
 *   forward:  y[o] = sum over k of x[o stride + k dilation - pad] w[k]
 *   backward: dx[i] = sum over those k for which i + pad - k dilation is a multiple of the stride, of
 *             dy[(i + pad - k dilation) / stride] w[k].
 * Output positions with the same remainder by `out_step` (1 forward, the stride backward) share their taps: a class. The
 * source is copied once with its border of zeros (not at all if it needs none), the weights are packed a call, each block of
 * output channels is computed into a tile (position, channel) that stays in cache, and the tile is transposed into place.
 *
 * The result of a sample does not depend on the samples beside it. */
#include <string.h>

#include "server/nn/backend.h"
#include "server/nn/backend_direct.h"
#include "server/nn/kernels_conv.h"

enum {
    TAPS_MAX = 49,   /* 7 x 7 */
    KERNEL_MAX = 49, /* along one side */
    STEP_MAX = 2,    /* stride that blocks read, and number of classes along one side */
    PAD_MAX = 64,
    TILE_POSITIONS = 512 /* 64 KiB at 32 channels */
};

/* One side (rows or columns): output position r + i out_step reads source positions i in_step + offset. */
struct side_class {
    size_t count; /* of i */
    size_t taps;
    size_t tap[KERNEL_MAX];
    long offset[KERNEL_MAX];
};
struct side {
    size_t source, out;
    size_t in_step, out_step; /* out_step classes */
    size_t before, after;     /* border of the source */
    struct side_class classes[STEP_MAX];
};

struct tap_class {
    size_t row, column; /* remainders */
    size_t taps;
    size_t tap[TAPS_MAX];    /* index in the kernel (kH, kW) */
    size_t offset[TAPS_MAX]; /* floats in the bordered source */
    size_t first;            /* taps of the classes before */
};

struct job {
    const struct conv_kernels *kernels;
    size_t n;
    size_t source_channels, out_channels;
    struct side rows, columns;
    size_t pitch, plane; /* of the bordered source */
    bool bordered;
    size_t area; /* kH kW */
    size_t class_count, tap_count;
    struct tap_class classes[STEP_MAX * STEP_MAX];
    size_t wide, width; /* vectors and channels of a full block */
    size_t tile_positions;
    bool backward;
};

/* The rows [begin, end) of samples [first, first + samples) that one tile holds. */
struct strip {
    size_t first, samples, begin, end;
};

static size_t round_up(size_t value, size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

static void add_tap(struct side_class *class, size_t tap, long offset) {
    class->tap[class->taps] = tap;
    class->offset[class->taps] = offset;
    class->taps++;
}

static void make_side(const struct conv_shape *s, size_t d, bool backward, struct side *side) {
    const struct window_attr *w = &s->window;
    const long stride = (long)w->stride[d], pad = (long)w->pad_begin[d], dilation = (long)w->dilation[d];
    const size_t in = d == 0 ? s->height : s->width, out = d == 0 ? s->out_height : s->out_width;

    *side = (struct side){.source = backward ? out : in,
                          .out = backward ? in : out,
                          .in_step = backward ? 1 : w->stride[d],
                          .out_step = backward ? w->stride[d] : 1};
    for (size_t r = 0; r < side->out_step; r++) {
        struct side_class *class = &side->classes[r];
        class->count = side->out > r ? (side->out - r - 1) / side->out_step + 1 : 0;
        for (size_t k = 0; k < w->kernel[d]; k++) {
            long at = backward ? (long)r + pad - (long)k * dilation : (long)k * dilation - pad;
            if (!backward) {
                add_tap(class, k, at);
            } else if (at % stride == 0) {
                add_tap(class, k, at / stride);
            }
        }
        for (size_t t = 0; t<class->taps &&class->count> 0; t++) {
            long low = -class->offset[t];
            long high = (long)((class->count - 1) * side->in_step) + class->offset[t] - (long)side->source + 1;
            side->before = low > (long)side->before ? (size_t)low : side->before;
            side->after = high > (long)side->after ? (size_t)high : side->after;
        }
    }
}

static void make_class(struct job *job, const struct conv_shape *s, size_t row, size_t column) {
    struct tap_class *class = &job->classes[job->class_count++];
    const struct side_class *h = &job->rows.classes[row], *w = &job->columns.classes[column];

    class->row = row;
    class->column = column;
    class->first = job->tap_count;
    class->taps = 0;
    for (size_t i = 0; i < h->taps; i++) {
        for (size_t j = 0; j < w->taps; j++) {
            class->tap[class->taps] = h->tap[i] * s->window.kernel[1] + w->tap[j];
            class->offset[class->taps] = (size_t)(h->offset[i] + (long)job->rows.before) * job->pitch +
                                         (size_t)(w->offset[j] + (long)job->columns.before);
            class->taps++;
        }
    }
    job->tap_count += class->taps;
}

static bool is_pointwise(const struct conv_shape *s) {
    for (size_t d = 0; d < 2; d++) {
        if (s->window.kernel[d] != 1 || s->window.stride[d] != 1 || s->window.pad_begin[d] != 0 ||
            s->window.pad_end[d] != 0) {
            return false;
        }
    }
    return true;
}

static void make_job(const struct conv_shape *given, size_t n, enum conv_pass pass, const struct conv_kernels *kernels,
                     struct job *job) {
    struct conv_shape flat = *given;
    const struct conv_shape *s = &flat;

    if (is_pointwise(given)) { /* positions are all alike: one long row fills blocks best */
        flat.width = flat.out_width = given->height * given->width;
        flat.height = flat.out_height = 1;
    }
    *job = (struct job){.kernels = kernels, .n = n, .backward = pass == CONV_BACKWARD_DATA};
    job->source_channels = job->backward ? s->out_channels : s->channels;
    job->out_channels = job->backward ? s->channels : s->out_channels;
    job->area = s->window.kernel[0] * s->window.kernel[1];
    make_side(s, 0, job->backward, &job->rows);
    make_side(s, 1, job->backward, &job->columns);
    job->bordered = job->rows.before + job->rows.after + job->columns.before + job->columns.after > 0;
    job->pitch = job->columns.before + job->columns.source + job->columns.after;
    job->plane = (job->rows.before + job->rows.source + job->rows.after) * job->pitch;
    for (size_t row = 0; row < job->rows.out_step; row++) {
        for (size_t column = 0; column < job->columns.out_step; column++) {
            make_class(job, s, row, column);
        }
    }
    job->wide = job->out_channels > kernels->lanes ? 2 : 1;
    job->width = job->wide * kernels->lanes;
    /* At least one row of each class, at most as many as there are. */
    size_t least = job->rows.out_step * job->columns.out;
    size_t most = n * job->rows.out * job->columns.out;
    job->tile_positions = TILE_POSITIONS > least ? TILE_POSITIONS : least;
    job->tile_positions = job->tile_positions < most ? job->tile_positions : most;
}

static size_t border_floats(const struct job *job) {
    return job->bordered ? round_up(job->n * job->source_channels * job->plane, 16) : 0;
}

static size_t weight_floats(const struct job *job) {
    return round_up(job->out_channels, job->width) * job->source_channels * job->tap_count;
}

static bool direct_supports(const struct conv_shape *s, enum conv_pass pass) {
    const struct window_attr *w = &s->window;

    (void)pass;
    if (w->group != 1) {
        return false;
    }
    for (size_t d = 0; d < 2; d++) {
        if (w->stride[d] > STEP_MAX || w->kernel[d] > KERNEL_MAX || w->pad_begin[d] > PAD_MAX ||
            w->pad_end[d] > PAD_MAX || w->dilation[d] > PAD_MAX) {
            return false;
        }
    }
    return w->kernel[0] * w->kernel[1] <= TAPS_MAX;
}

static size_t direct_scratch_floats(const struct conv_backend *backend, const struct conv_shape *s, size_t n,
                                    enum conv_pass pass) {
    const struct conv_kernels *kernels = backend->kernels();
    struct job job;

    if (!direct_supports(s, pass)) {
        return 0;
    }
    if (pass == CONV_BACKWARD_WEIGHT) {
        return direct_weight_scratch_floats(s, kernels);
    }
    make_job(s, n, pass, kernels, &job);
    return border_floats(&job) + round_up(job.out_channels, job.width) + job.tile_positions * job.width +
           weight_floats(&job);
}

static void copy_bordered(const struct job *job, const float *source, float *to) {
    const size_t before = job->columns.before, width = job->columns.source, after = job->columns.after;

    for (size_t p = 0; p < job->n * job->source_channels; p++, to += job->plane) {
        float *row = to + job->rows.before * job->pitch;
        memset(to, 0, job->rows.before * job->pitch * sizeof *to);
        for (size_t h = 0; h < job->rows.source; h++, row += job->pitch, source += width) {
            memset(row, 0, before * sizeof *row);
            memcpy(row + before, source, width * sizeof *row);
            memset(row + before + width, 0, after * sizeof *row);
        }
        memset(row, 0, job->rows.after * job->pitch * sizeof *row);
    }
}

/* Packed: a block of `width` output channels after the other; in it the classes; in it (source channel, tap, lane). */
static size_t packed_class(const struct job *job, size_t block, const struct tap_class *class) {
    return (block * job->tap_count + class->first) * job->source_channels * job->width;
}

/* Forward there is one class and the taps are in the order of the weight: rows of (channel, tap) become columns. */
static void pack_forward(const struct job *job, const float *weight, float *packed) {
    const size_t row = job->source_channels * job->area;

    for (size_t m = 0; m < job->out_channels; m += job->width) {
        const size_t rows = job->out_channels - m < job->width ? job->out_channels - m : job->width;
        float *to = packed + m * row;
        if (rows < job->width) {
            memset(to, 0, row * job->width * sizeof *to);
        }
        job->kernels->transpose(rows, row, weight + m * row, row, to, job->width, false);
    }
}

/* Backward the output channels are the weight's second axis: for each source channel m, (channel, tap) is transposed, and
 * each tap's line goes to its class. */
static void pack_backward(const struct job *job, const float *weight, float *packed) {
    float lines[TAPS_MAX * 32] = {0.0f};

    for (size_t c = 0; c < job->out_channels; c += job->width) {
        const size_t rows = job->out_channels - c < job->width ? job->out_channels - c : job->width;
        if (rows < job->width) {
            memset(lines, 0, sizeof lines);
        }
        for (size_t m = 0; m < job->source_channels; m++) {
            job->kernels->transpose(rows, job->area, weight + (m * job->out_channels + c) * job->area, job->area, lines,
                                    job->width, false);
            for (size_t i = 0; i < job->class_count; i++) {
                const struct tap_class *class = &job->classes[i];
                float *to = packed + packed_class(job, c / job->width, class) + m * class->taps * job->width;
                for (size_t t = 0; t < class->taps; t++, to += job->width) {
                    memcpy(to, lines + class->tap[t] * job->width, job->width * sizeof *to);
                }
            }
        }
    }
}

/* `length` > 0 in parts of about equal size, none larger than `most`: the length of the part that begins at `at`. */
static size_t part(size_t length, size_t most, size_t at) {
    const size_t parts = (length + most - 1) / most;
    const size_t small = length / parts, larger = length % parts; /* the first `larger` parts have one more */

    return at < larger * (small + 1) ? small + 1 : small;
}

/* One class in one strip: blocks of a few rows times a few columns. */
static void run_class(const struct job *job, const struct tap_class *class, const struct strip *strip,
                      const float *source, const float *weight, const float *bias, float *tile) {
    const size_t most = job->kernels->positions_max;
    const size_t columns = job->columns.classes[class->column].count;
    const size_t out_width = job->columns.out, height = strip->end - strip->begin;
    const size_t first_row = strip->begin + class->row; /* strips begin at a multiple of out_step */
    const size_t sample_rows = strip->end > first_row ? (strip->end - first_row - 1) / job->rows.out_step + 1 : 0;
    const size_t row_count = strip->samples * sample_rows;
    size_t group = columns > 0 && columns < most ? most / columns : 1;
    struct conv_block block = {.channels = job->source_channels,
                               .plane = job->plane,
                               .taps = class->taps,
                               .offsets = class->offset,
                               .weight = weight,
                               .bias = bias,
                               .out_step = job->columns.out_step * job->width};

    group = group < CONV_ROWS_MAX ? group : CONV_ROWS_MAX;
    /* A narrow output may have no column (or no row) of this class. */
    for (size_t row = 0, rows = 0; row < row_count && columns > 0; row += rows) {
        const float *from[CONV_ROWS_MAX];
        float *to[CONV_ROWS_MAX];
        rows = part(row_count, group, row);
        for (size_t i = 0; i < rows; i++) {
            const size_t sample = (row + i) / sample_rows;
            const size_t h = first_row + (row + i) % sample_rows * job->rows.out_step;
            from[i] = source + (strip->first + sample) * job->source_channels * job->plane +
                      h / job->rows.out_step * job->rows.in_step * job->pitch;
            to[i] = tile + ((sample * height + h - strip->begin) * out_width + class->column) * job->width;
        }
        for (size_t column = 0, count = 0; column < columns; column += count) {
            count = part(columns, most, column);
            for (size_t i = 0; i < rows; i++) {
                block.rows[i] = from[i] + column * job->columns.in_step;
                block.out[i] = to[i] + column * block.out_step;
            }
            job->kernels->block(job->wide, rows, count, job->columns.in_step)(&block);
        }
    }
}

static void store_tile(const struct job *job, const struct strip *strip, const float *tile, size_t channel,
                       bool accumulate, float *out) {
    const size_t image = job->rows.out * job->columns.out;
    const size_t positions = (strip->end - strip->begin) * job->columns.out;
    const size_t channels = job->out_channels - channel < job->width ? job->out_channels - channel : job->width;

    for (size_t i = 0; i < strip->samples; i++) {
        float *to = out + ((strip->first + i) * job->out_channels + channel) * image + strip->begin * job->columns.out;
        job->kernels->transpose(positions, channels, tile + i * positions * job->width, job->width, to, image,
                                accumulate);
    }
}

/* Small images go several to a tile, large ones in strips of rows. */
static bool next_strip(const struct job *job, struct strip *strip) {
    const size_t image = job->rows.out * job->columns.out;

    if (image > 0 && image <= job->tile_positions) {
        const size_t most = job->tile_positions / image;
        strip->first += strip->samples;
        strip->samples = job->n - strip->first < most ? job->n - strip->first : most;
        strip->begin = 0;
        strip->end = job->rows.out;
    } else {
        size_t rows = job->tile_positions / job->columns.out / job->rows.out_step * job->rows.out_step;
        if (strip->end == job->rows.out) {
            strip->first++;
            strip->end = 0;
        }
        strip->samples = 1;
        strip->begin = strip->end;
        strip->end = job->rows.out - strip->begin < rows ? job->rows.out : strip->begin + rows;
    }
    return strip->first < job->n;
}

static void pack(const struct job *job, const float *weight, float *packed) {
    if (job->backward) {
        pack_backward(job, weight, packed);
    } else {
        pack_forward(job, weight, packed);
    }
}

static void run_job(const struct job *job, const float *source, const float *weight, const float *prepared,
                    const float *bias, float *out, bool accumulate, float *scratch) {
    float *border = scratch;
    float *start = border + border_floats(job);
    float *tile = start + round_up(job->out_channels, job->width);
    float *packed = tile + job->tile_positions * job->width; /* last: with prepared weights, nobody touches it */

    if (job->bordered) {
        copy_bordered(job, source, border);
        source = border;
    }
    memset(start, 0, round_up(job->out_channels, job->width) * sizeof *start);
    if (bias != NULL) {
        memcpy(start, bias, job->out_channels * sizeof *start);
    }
    if (prepared == NULL) {
        pack(job, weight, packed);
        prepared = packed;
    }
    for (size_t channel = 0; channel < job->out_channels; channel += job->width) {
        struct strip strip = {.first = 0};
        while (next_strip(job, &strip)) {
            for (size_t i = 0; i < job->class_count; i++) {
                const float *w = prepared + packed_class(job, channel / job->width, &job->classes[i]);
                run_class(job, &job->classes[i], &strip, source, w, start + channel, tile);
            }
            store_tile(job, &strip, tile, channel, accumulate, out);
        }
    }
}

static size_t direct_prepared_floats(const struct conv_backend *backend, const struct conv_shape *s,
                                     enum conv_pass pass) {
    struct job job;

    make_job(s, 1, pass, backend->kernels(), &job);
    return weight_floats(&job);
}

static void direct_prepare(const struct conv_backend *backend, const struct conv_shape *s, enum conv_pass pass,
                           const float *weight, float *prepared) {
    struct job job;

    make_job(s, 1, pass, backend->kernels(), &job);
    pack(&job, weight, prepared);
}

static void direct_forward(const struct conv_backend *backend, const struct conv_shape *s, size_t n, const float *x,
                           const float *weight, const float *prepared, const float *bias, float *y, float *scratch) {
    struct job job;

    make_job(s, n, CONV_FORWARD, backend->kernels(), &job);
    run_job(&job, x, weight, prepared, bias, y, false, scratch);
}

static void direct_backward_data(const struct conv_backend *backend, const struct conv_shape *s, size_t n,
                                 const float *dy, const float *weight, const float *prepared, float *dx,
                                 bool accumulate, float *scratch) {
    struct job job;

    make_job(s, n, CONV_BACKWARD_DATA, backend->kernels(), &job);
    run_job(&job, dy, weight, prepared, NULL, dx, accumulate, scratch);
}

static void direct_backward_weight(const struct conv_backend *backend, const struct conv_shape *s, size_t n,
                                   const float *x, const float *dy, float *dweight, float *scratch) {
    direct_weight_run(s, n, backend->kernels(), x, dy, dweight, scratch);
}

#define DIRECT_BACKEND(title, table)                                                                                   \
    {                                                                                                                  \
        .name = (title), .kernels = (table), .supports = direct_supports, .scratch_floats = direct_scratch_floats,     \
        .prepared_floats = direct_prepared_floats, .prepare = direct_prepare, .forward = direct_forward,               \
        .backward_data = direct_backward_data, .backward_weight = direct_backward_weight                               \
    }

const struct conv_backend *backend_direct(enum kernels_level level) {
    static const struct conv_backend avx2 = DIRECT_BACKEND("direct avx2", conv_kernels_avx2);
    static const struct conv_backend avx512 = DIRECT_BACKEND("direct avx512", conv_kernels_avx512);

    if (conv_kernels_at(level) == NULL) {
        return NULL;
    }
    return level == KERNELS_AVX512 ? &avx512 : &avx2;
}
