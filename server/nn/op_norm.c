/* BatchNorm over (N, C, ...): y = scale (x - mean) / sqrt(variance + epsilon) + bias, a channel.
 *
 * In inference, mean and variance are the constants and the op is one affine map a channel. In training they are those of
 * the chunk (biased variance); `saved` keeps them as mean (C), variance (C), which the engine hands on. Backward in training
 * is Ioffe and Szegedy 2015, section 3, written with sums: for t = (x - mean) / sqrt(variance + epsilon) over R values,
 * dx = scale / sqrt(variance + epsilon) * (dy - sum(dy) / R - t sum(dy t) / R). */
#include <math.h>

#include "server/nn/kernels.h"
#include "server/nn/op_rows.h"

enum { IN_X, IN_SCALE, IN_BIAS, IN_MEAN, IN_VARIANCE, IN_COUNT };

struct norm_view { /* x is (samples, channels, inner) */
    size_t samples, channels, inner;
};

static enum status norm_infer(const struct network *network, const struct node *node, struct shape *out,
                              struct error *error) {
    static const char *const what[IN_COUNT] = {"input", "scale", "bias", "mean", "variance"};
    enum status status = op_check_arity(network, node, IN_COUNT, IN_COUNT, error);

    if (status == STATUS_OK) {
        status = op_check_data(network, node, IN_X, 2, error);
    }
    for (size_t i = IN_SCALE; i < IN_COUNT && status == STATUS_OK; i++) {
        status = op_check_vector(network, node, i, op_in_shape(network, node, IN_X)->dim[1], what[i], error);
    }
    if (status == STATUS_OK && !(node->attr.epsilon >= 0.0f)) {
        status =
            op_refuse(node, error, STATUS_INVALID, "got epsilon %g, expected 0 or more", (double)node->attr.epsilon);
    }
    if (status == STATUS_OK) {
        *out = *op_in_shape(network, node, IN_X);
    }
    return status;
}

static struct norm_view norm_view(const struct op_args *args) {
    const struct shape *x = op_in_shape(args->network, args->node, IN_X);

    return (struct norm_view){.samples = args->n * x->dim[0], .channels = x->dim[1], .inner = shape_count_from(x, 2)};
}

static size_t norm_saved_floats(const struct network *network, const struct node *node, size_t n) {
    (void)n;
    return 2 * op_in_shape(network, node, IN_X)->dim[1];
}

/* Mean and biased variance of channel c over the chunk, by two passes; sums of rows are added in double. */
static void chunk_statistics(const struct op_args *args, const struct norm_view *v, size_t c, float *mean,
                             float *variance) {
    const struct kernels *k = kernels();
    const double count = (double)v->samples * (double)v->inner;
    double sum = 0.0;

    for (size_t i = 0; i < v->samples; i++) {
        sum += (double)k->sum(v->inner, args->in[IN_X] + (i * v->channels + c) * v->inner);
    }
    *mean = (float)(sum / count);
    sum = 0.0;
    for (size_t i = 0; i < v->samples; i++) {
        const float *x = args->in[IN_X] + (i * v->channels + c) * v->inner;
        sum += (double)k->dot(v->inner, x, *mean, x, *mean);
    }
    *variance = (float)(sum / count);
}

static void norm_forward(const struct op_args *args) {
    const struct kernels *k = kernels();
    const struct norm_view v = norm_view(args);

    for (size_t c = 0; c < v.channels; c++) {
        float mean = args->in[IN_MEAN][c];
        float variance = args->in[IN_VARIANCE][c];

        if (args->train) {
            chunk_statistics(args, &v, c, &mean, &variance);
            if (args->saved != NULL) {
                args->saved[c] = mean;
                args->saved[v.channels + c] = variance;
            }
        }
        const float a = args->in[IN_SCALE][c] / sqrtf(variance + args->node->attr.epsilon);
        const float b = args->in[IN_BIAS][c] - mean * a;
        for (size_t i = 0; i < v.samples; i++) {
            const size_t at = (i * v.channels + c) * v.inner;
            k->affine(v.inner, a, b, args->in[IN_X] + at, args->out + at);
        }
    }
}

/* dx (+)= a dy + b x + d over one channel. */
static void give_channel(const struct op_args *args, const struct norm_view *v, size_t c, float a, float b, float d) {
    for (size_t i = 0; i < v->samples; i++) {
        const size_t at = (i * v->channels + c) * v->inner;
        const float *dy = args->dout + at;
        const float *x = args->in[IN_X] + at;
        float *dx = args->din[IN_X] + at;

        if (args->accumulate[IN_X]) {
            kernels()->axpy(v->inner, a, dy, dx);
        } else {
            kernels()->affine(v->inner, a, d, dy, dx);
        }
        if (b != 0.0f) {
            kernels()->axpy(v->inner, b, x, dx);
        }
        if (args->accumulate[IN_X] && d != 0.0f) {
            kernels()->affine(v->inner, 1.0f, d, dx, dx);
        }
    }
}

static void norm_backward(const struct op_args *args) {
    const struct kernels *k = kernels();
    const struct norm_view v = norm_view(args);
    const double count = (double)v.samples * (double)v.inner;
    const bool sums = args->train || args->din[IN_SCALE] != NULL || args->din[IN_BIAS] != NULL;

    for (size_t c = 0; c < v.channels; c++) {
        const float mean = args->train ? args->saved[c] : args->in[IN_MEAN][c];
        const float variance = args->train ? args->saved[v.channels + c] : args->in[IN_VARIANCE][c];
        const float inverse = 1.0f / sqrtf(variance + args->node->attr.epsilon);
        const float a = args->in[IN_SCALE][c] * inverse;
        double sum_dy = 0.0, sum_dyx = 0.0; /* sums of dy and dy (x - mean) */

        for (size_t i = 0; i < v.samples && sums; i++) {
            const size_t at = (i * v.channels + c) * v.inner;
            sum_dy += (double)k->sum(v.inner, args->dout + at);
            sum_dyx += (double)k->dot(v.inner, args->dout + at, 0.0f, args->in[IN_X] + at, mean);
        }
        if (args->din[IN_SCALE] != NULL) {
            args->din[IN_SCALE][c] += (float)(sum_dyx * (double)inverse);
        }
        if (args->din[IN_BIAS] != NULL) {
            args->din[IN_BIAS][c] += (float)sum_dy;
        }
        if (args->din[IN_X] != NULL && args->train) {
            const float slope = (float)(-(double)a * (double)inverse * (double)inverse * sum_dyx / count);
            give_channel(args, &v, c, a, slope, (float)(-(double)a * sum_dy / count) - slope * mean);
        } else if (args->din[IN_X] != NULL) {
            give_channel(args, &v, c, a, 0.0f, 0.0f);
        }
    }
}

const struct op op_row_batch_norm = {.name = "BatchNormalization",
                                     .flags = OP_NEEDS_INPUT | OP_MAY_ALIAS,
                                     .infer = norm_infer,
                                     .saved_floats = norm_saved_floats,
                                     .forward = norm_forward,
                                     .backward = norm_backward};
