/* Convolution with one input channel a group, any stride, dilation and padding, in plane-wide loops.
 *
 * The bordered image is split by the stride into phases (rows and columns with the same remainder), all of one pitch. Then a
 * tap reads, for output i of a plane counted through with that pitch, element i + offset of its phase:
 *   forward    y[i] = bias + sum over taps of w[t] phase_t[i + offset_t]
 *   by data    phase_t[i + offset_t] += w[t] dy[i]
 *   by weight  dw[t] += sum over i of dy[i] phase_t[i + offset_t]
 * with i running through whole planes: long loops without edges. Between the rows of an output plane lie a few elements that
 * belong to no output: forward computes and drops them, the gradients have zeros there. */
#include <string.h>

#include "server/nn/backend.h"
#include "server/nn/kernels.h"

enum { TAPS_MAX = 81, STRIDE_MAX = 4 };

struct job {
    const struct conv_shape *s;
    size_t taps, phases, multiplier; /* output channels of an input channel */
    size_t pitch, phase;             /* floats of a row and of a phase */
    size_t flat; /* floats of an output plane with this pitch, the last row without what is behind it */
    size_t tap_phase[TAPS_MAX], tap_offset[TAPS_MAX];
};

static bool depthwise_supports(const struct conv_shape *s, enum conv_pass pass) {
    const struct window_attr *w = &s->window;

    (void)pass;
    return w->group == s->channels && w->group > 1 && w->kernel[0] <= TAPS_MAX && w->kernel[1] <= TAPS_MAX &&
           w->kernel[0] * w->kernel[1] <= TAPS_MAX && w->stride[0] <= STRIDE_MAX && w->stride[1] <= STRIDE_MAX;
}

static void make_job(const struct conv_shape *s, struct job *job) {
    const struct window_attr *w = &s->window;
    const size_t *stride = w->stride;
    size_t rows = 0;

    *job = (struct job){.s = s,
                        .taps = w->kernel[0] * w->kernel[1],
                        .phases = stride[0] * stride[1],
                        .multiplier = s->out_channels / s->channels};
    /* Rows and columns of a phase: enough for the image behind its border, and for the last tap of the last output. */
    for (size_t d = 0; d < 2; d++) {
        const size_t image = w->pad_begin[d] + (d == 0 ? s->height : s->width);
        const size_t read =
            ((d == 0 ? s->out_height : s->out_width) - 1) * stride[d] + (w->kernel[d] - 1) * w->dilation[d] + 1;
        const size_t most = ((image > read ? image : read) + stride[d] - 1) / stride[d];
        *(d == 0 ? &rows : &job->pitch) = most;
    }
    job->phase = rows * job->pitch;
    job->flat = (s->out_height - 1) * job->pitch + s->out_width;
    for (size_t t = 0; t < job->taps; t++) {
        const size_t row = t / w->kernel[1] * w->dilation[0], column = t % w->kernel[1] * w->dilation[1];
        job->tap_phase[t] = row % stride[0] * stride[1] + column % stride[1];
        job->tap_offset[t] = row / stride[0] * job->pitch + column / stride[1];
    }
}

static size_t depthwise_scratch_floats(const struct conv_backend *backend, const struct conv_shape *s, size_t n,
                                       enum conv_pass pass) {
    (void)backend;
    struct job job;

    (void)n;
    if (!depthwise_supports(s, pass)) {
        return 0;
    }
    make_job(s, &job);
    return job.phases * job.phase + job.flat;
}

/* One row of the image to or from its phases: element c lies at (pad + c) / stride of phase (pad + c) % stride. */
static float *phase_row(const struct job *job, float *phases, size_t row) {
    const struct window_attr *w = &job->s->window;
    const size_t at = w->pad_begin[0] + row;

    return phases + at % w->stride[0] * w->stride[1] * job->phase + at / w->stride[0] * job->pitch;
}

/* The phases of one plane; the border was cleared before and stays so. */
static void load_plane(const struct job *job, const float *plane, float *phases) {
    const struct kernels *k = kernels();
    const struct conv_shape *s = job->s;
    const size_t stride = s->window.stride[1], pad = s->window.pad_begin[1];

    for (size_t h = 0; h < s->height; h++, plane += s->width) {
        float *row = phase_row(job, phases, h);
        if (stride == 1) {
            memcpy(row + pad, plane, s->width * sizeof *row);
            continue;
        }
        for (size_t r = 0; r < stride; r++) { /* columns c with (pad + c) % stride == r */
            const size_t first = (r + stride - pad % stride) % stride;
            if (first < s->width) {
                k->pick((s->width - first + stride - 1) / stride, plane + first, stride,
                        row + r * job->phase + (pad + first) / stride);
            }
        }
    }
}

static void store_plane(const struct job *job, float *phases, bool accumulate, float *plane) {
    const struct conv_shape *s = job->s;
    const size_t stride = s->window.stride[1], pad = s->window.pad_begin[1];

    for (size_t h = 0; h < s->height; h++, plane += s->width) {
        const float *row = phase_row(job, phases, h);
        if (stride == 1 && !accumulate) {
            memcpy(plane, row + pad, s->width * sizeof *row);
            continue;
        }
        for (size_t r = 0; r < stride; r++) {
            const float *from = row + r * job->phase;
            const size_t first = (r + stride - pad % stride) % stride;
            size_t at = (pad + first) / stride;
            for (size_t c = first; c < s->width; c += stride, at++) {
                plane[c] = accumulate ? plane[c] + from[at] : from[at];
            }
        }
    }
}

/* A gradient plane (out_height, out_width) with the pitch of the phases, zeros between its rows. */
static void load_gradient(const struct job *job, const float *dy, float *flat) {
    const struct conv_shape *s = job->s;

    memset(flat, 0, job->flat * sizeof *flat);
    for (size_t h = 0; h < s->out_height; h++) {
        memcpy(flat + h * job->pitch, dy + h * s->out_width, s->out_width * sizeof *flat);
    }
}

static void depthwise_forward(const struct conv_backend *backend, const struct conv_shape *s, size_t n, const float *x,
                              const float *weight, const float *prepared, const float *bias, float *y, float *scratch) {
    (void)backend;
    const struct kernels *k = kernels();
    const float *taps[TAPS_MAX];
    struct job job;

    (void)prepared;
    make_job(s, &job);
    float *flat = scratch + job.phases * job.phase;
    memset(scratch, 0, job.phases * job.phase * sizeof *scratch);
    for (size_t t = 0; t < job.taps; t++) {
        taps[t] = scratch + job.tap_phase[t] * job.phase + job.tap_offset[t];
    }
    for (size_t p = 0; p < n * s->channels; p++, x += s->height * s->width) {
        load_plane(&job, x, scratch);
        for (size_t m = 0; m < job.multiplier; m++, y += s->out_height * s->out_width) {
            const size_t channel = p % s->channels * job.multiplier + m;
            k->taps(job.flat, job.taps, taps, weight + channel * job.taps, bias != NULL ? bias[channel] : 0.0f, flat);
            for (size_t h = 0; h < s->out_height; h++) {
                memcpy(y + h * s->out_width, flat + h * job.pitch, s->out_width * sizeof *y);
            }
        }
    }
}

static void depthwise_backward_data(const struct conv_backend *backend, const struct conv_shape *s, size_t n,
                                    const float *dy, const float *weight, const float *prepared, float *dx,
                                    bool accumulate, float *scratch) {
    (void)backend;
    const struct kernels *k = kernels();
    struct job job;

    (void)prepared;
    make_job(s, &job);
    float *flat = scratch + job.phases * job.phase;
    for (size_t p = 0; p < n * s->channels; p++, dx += s->height * s->width) {
        memset(scratch, 0, job.phases * job.phase * sizeof *scratch);
        for (size_t m = 0; m < job.multiplier; m++, dy += s->out_height * s->out_width) {
            const float *w = weight + (p % s->channels * job.multiplier + m) * job.taps;
            load_gradient(&job, dy, flat);
            for (size_t t = 0; t < job.taps; t++) {
                k->axpy(job.flat, w[t], flat, scratch + job.tap_phase[t] * job.phase + job.tap_offset[t]);
            }
        }
        store_plane(&job, scratch, accumulate, dx);
    }
}

static void depthwise_backward_weight(const struct conv_backend *backend, const struct conv_shape *s, size_t n,
                                      const float *x, const float *dy, float *dweight, float *scratch) {
    (void)backend;
    const struct kernels *k = kernels();
    struct job job;

    make_job(s, &job);
    float *flat = scratch + job.phases * job.phase;
    memset(scratch, 0, job.phases * job.phase * sizeof *scratch);
    for (size_t p = 0; p < n * s->channels; p++, x += s->height * s->width) {
        load_plane(&job, x, scratch);
        for (size_t m = 0; m < job.multiplier; m++, dy += s->out_height * s->out_width) {
            float *dw = dweight + (p % s->channels * job.multiplier + m) * job.taps;
            load_gradient(&job, dy, flat);
            for (size_t t = 0; t < job.taps; t++) {
                const float *from = scratch + job.tap_phase[t] * job.phase + job.tap_offset[t];
                dw[t] += k->dot(job.flat, flat, 0.0f, from, 0.0f);
            }
        }
    }
}

const struct conv_backend *backend_depthwise(void) {
    static const struct conv_backend backend = {.name = "depthwise",
                                                .supports = depthwise_supports,
                                                .scratch_floats = depthwise_scratch_floats,
                                                .forward = depthwise_forward,
                                                .backward_data = depthwise_backward_data,
                                                .backward_weight = depthwise_backward_weight};

    return &backend;
}
