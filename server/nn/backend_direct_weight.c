/* The gradient of a convolution's weights by sums of outer products, for one group and any stride:
 * dweight[m][c][k] += sum over positions o of dy[m][o] x[c][o stride + k dilation - pad].
 *
 * With channels last, the inputs that one position meets in one row of the kernel are one run of kW C neighbouring floats
 * (of C floats a tap, if the taps are apart). A few of them times one or two vectors of output channels are summed up in
 * registers over a whole image. */
#include <string.h>

#include "server/nn/backend_direct.h"

struct job {
    const struct conv_kernels *kernels;
    const struct conv_shape *s;
    size_t height, width; /* of the bordered input */
    size_t run;           /* floats of a run */
    size_t runs;          /* of the kernel */
    size_t taps;
    size_t wide, block; /* vectors and channels of a full block */
    size_t blocks;
};

static size_t round_up(size_t value, size_t multiple) {
    return (value + multiple - 1) / multiple * multiple;
}

static struct job make_job(const struct conv_shape *s, const struct conv_kernels *kernels) {
    const struct window_attr *w = &s->window;
    const bool joined = w->dilation[1] == 1;
    struct job job = {.kernels = kernels,
                      .s = s,
                      .height = w->pad_begin[0] + s->height + w->pad_end[0],
                      .width = w->pad_begin[1] + s->width + w->pad_end[1],
                      .run = joined ? w->kernel[1] * s->channels : s->channels,
                      .runs = joined ? w->kernel[0] : w->kernel[0] * w->kernel[1],
                      .taps = w->kernel[0] * w->kernel[1],
                      .wide = s->out_channels > kernels->lanes ? 2 : 1};

    job.block = job.wide * kernels->lanes;
    job.blocks = round_up(s->out_channels, job.block) / job.block;
    return job;
}

static size_t input_floats(const struct job *job) {
    return round_up(job->height * job->width * job->s->channels, 16);
}

static size_t gradient_floats(const struct job *job) {
    return job->s->out_height * job->s->out_width * job->block;
}

static size_t sum_floats(const struct job *job) {
    return job->taps * job->s->channels * job->block; /* a block */
}

size_t direct_weight_scratch_floats(const struct conv_shape *s, const struct conv_kernels *kernels) {
    const struct job job = make_job(s, kernels);

    return input_floats(&job) + gradient_floats(&job) + job.blocks * sum_floats(&job);
}

/* One sample with channels last into the middle of the border. */
static void load_input(const struct job *job, const float *x, float *input) {
    const struct conv_shape *s = job->s;
    const size_t image = s->height * s->width;

    for (size_t h = 0; h < s->height; h++) {
        float *to = input + ((h + s->window.pad_begin[0]) * job->width + s->window.pad_begin[1]) * s->channels;
        job->kernels->transpose(s->channels, s->width, x + h * s->width, image, to, s->channels, false);
    }
}

/* One sample, one block: sums (run, float of the run, lane) +=. */
static void add_sample(const struct job *job, const float *input, const float *gradient, float *sums) {
    const struct conv_shape *s = job->s;
    const struct window_attr *w = &s->window;
    const size_t most = job->kernels->positions_max, parts = (job->run + most - 1) / most;
    const size_t runs_a_row = job->runs / w->kernel[0];
    struct conv_gradient g = {.rows = s->out_height,
                              .columns = s->out_width,
                              .x_row = w->stride[0] * job->width * s->channels,
                              .x_column = w->stride[1] * s->channels,
                              .z = gradient,
                              .z_row = s->out_width * job->block,
                              .z_column = job->block};

    for (size_t r = 0; r < job->runs; r++) {
        const size_t row = r / runs_a_row * w->dilation[0], column = r % runs_a_row * w->dilation[1];
        size_t at = 0;
        for (size_t p = 0; p < parts; p++) {
            const size_t count = (job->run - at + parts - p - 1) / (parts - p); /* about equal parts */
            g.x = input + (row * job->width + column) * s->channels + at;
            g.y = sums + (r * job->run + at) * job->block;
            job->kernels->gradient(job->wide, count)(&g);
            at += count;
        }
    }
}

/* Sums are (tap, channel, lane) either way; the weight is (M, C, tap). */
static void add_block(const struct job *job, const float *sums, size_t m, float *dweight) {
    const size_t channels = job->s->channels, rest = job->s->out_channels - m;
    const size_t lanes = rest < job->block ? rest : job->block;
    float lines[DIRECT_TAPS_MAX * 32];

    for (size_t c = 0; c < channels; c++) {
        for (size_t t = 0; t < job->taps; t++) {
            memcpy(lines + t * job->block, sums + (t * channels + c) * job->block, job->block * sizeof *lines);
        }
        job->kernels->transpose(job->taps, lanes, lines, job->block, dweight + (m * channels + c) * job->taps,
                                channels * job->taps, true);
    }
}

void direct_weight_run(const struct conv_shape *s, size_t n, const struct conv_kernels *kernels, const float *x,
                       const float *dy, float *dweight, float *scratch) {
    const struct job job = make_job(s, kernels);
    const size_t image = s->out_height * s->out_width;
    float *input = scratch;
    float *gradient = input + input_floats(&job);
    float *sums = gradient + gradient_floats(&job);

    memset(input, 0, input_floats(&job) * sizeof *input); /* the border; the middle is written for each sample */
    memset(sums, 0, job.blocks * sum_floats(&job) * sizeof *sums);
    for (size_t i = 0; i < n; i++) {
        load_input(&job, x + i * s->channels * s->height * s->width, input);
        for (size_t b = 0; b < job.blocks; b++) {
            const size_t m = b * job.block, rest = s->out_channels - m;
            kernels->transpose(rest < job.block ? rest : job.block, image, dy + (i * s->out_channels + m) * image,
                               image, gradient, job.block, false);
            add_sample(&job, input, gradient, sums + b * sum_floats(&job));
        }
    }
    for (size_t b = 0; b < job.blocks; b++) {
        add_block(&job, sums + b * sum_floats(&job), b * job.block, dweight);
    }
}
