/* Rows that work on each element by itself, and Softmax. Where the derivative can be told from the output, the backward
 * reads the output only, so that the planner may overwrite the input. */
#include <math.h>

#include "server/nn/kernels.h"
#include "server/nn/op_rows.h"

/* d is f'(..) as an expression of the element's index i; the gradient is dout[i] * d. */
#define GIVE_EACH(args, derivative)                                                                                    \
    do {                                                                                                               \
        const size_t count_ = op_out_count(args);                                                                      \
        const float *dy_ = (args)->dout;                                                                               \
        float *dx_ = (args)->din[0];                                                                                   \
        if (dx_ == NULL) {                                                                                             \
            break;                                                                                                     \
        }                                                                                                              \
        if ((args)->accumulate[0]) {                                                                                   \
            for (size_t i = 0; i < count_; i++) {                                                                      \
                dx_[i] += dy_[i] * (derivative);                                                                       \
            }                                                                                                          \
        } else {                                                                                                       \
            for (size_t i = 0; i < count_; i++) {                                                                      \
                dx_[i] = dy_[i] * (derivative);                                                                        \
            }                                                                                                          \
        }                                                                                                              \
    } while (0)

static void relu_forward(const struct op_args *args) {
    kernels()->relu(op_out_count(args), args->in[0], args->out);
}

static void relu_backward(const struct op_args *args) {
    if (args->din[0] != NULL) {
        kernels()->relu_backward(op_out_count(args), args->out, args->dout, args->din[0], args->accumulate[0]);
    }
}

static void leaky_relu_forward(const struct op_args *args) {
    const float alpha = args->node->attr.alpha;
    const size_t count = op_out_count(args);

    for (size_t i = 0; i < count; i++) {
        float x = args->in[0][i];
        args->out[i] = x < 0.0f ? alpha * x : x;
    }
}

static void leaky_relu_backward(const struct op_args *args) {
    const float alpha = args->node->attr.alpha;
    const float *x = args->in[0];

    GIVE_EACH(args, x[i] < 0.0f ? alpha : 1.0f);
}

static enum status clip_infer(const struct network *network, const struct node *node, struct shape *out,
                              struct error *error) {
    if (!(node->attr.low <= node->attr.high)) {
        return op_refuse(node, error, STATUS_INVALID, "got bounds %g and %g, expected a low bound below the high one",
                         (double)node->attr.low, (double)node->attr.high);
    }
    return op_infer_same(network, node, out, error);
}

static void clip_forward(const struct op_args *args) {
    kernels()->clip(op_out_count(args), args->node->attr.low, args->node->attr.high, args->in[0], args->out);
}

static void clip_backward(const struct op_args *args) {
    const float low = args->node->attr.low;
    const float high = args->node->attr.high;
    const float *y = args->out;

    GIVE_EACH(args, y[i] > low && y[i] < high ? 1.0f : 0.0f);
}

static void sigmoid_forward(const struct op_args *args) {
    const size_t count = op_out_count(args);

    for (size_t i = 0; i < count; i++) {
        /* expf(-|x|) never overflows. */
        float x = args->in[0][i];
        float e = expf(-fabsf(x));
        args->out[i] = (x >= 0.0f ? 1.0f : e) / (1.0f + e);
    }
}

static void sigmoid_backward(const struct op_args *args) {
    const float *y = args->out;

    GIVE_EACH(args, y[i] * (1.0f - y[i]));
}

static void tanh_forward(const struct op_args *args) {
    const size_t count = op_out_count(args);

    for (size_t i = 0; i < count; i++) {
        args->out[i] = tanhf(args->in[0][i]);
    }
}

static void tanh_backward(const struct op_args *args) {
    const float *y = args->out;

    GIVE_EACH(args, 1.0f - y[i] * y[i]);
}

static float hard_sigmoid(float x, float alpha, float beta) {
    float y = alpha * x + beta;

    y = y < 0.0f ? 0.0f : y;
    return y > 1.0f ? 1.0f : y;
}

static void hard_sigmoid_forward(const struct op_args *args) {
    const size_t count = op_out_count(args);

    for (size_t i = 0; i < count; i++) {
        args->out[i] = hard_sigmoid(args->in[0][i], args->node->attr.alpha, args->node->attr.beta);
    }
}

static void hard_sigmoid_backward(const struct op_args *args) {
    const float alpha = args->node->attr.alpha;
    const float *y = args->out;

    GIVE_EACH(args, y[i] > 0.0f && y[i] < 1.0f ? alpha : 0.0f);
}

/* x * max(0, min(1, x / 6 + 1 / 2)), the fixed alpha and beta of the ONNX operator. */
static void hard_swish_forward(const struct op_args *args) {
    const size_t count = op_out_count(args);

    for (size_t i = 0; i < count; i++) {
        float x = args->in[0][i];
        args->out[i] = x * hard_sigmoid(x, 1.0f / 6.0f, 0.5f);
    }
}

static float hard_swish_slope(float x) {
    if (x <= -3.0f) {
        return 0.0f;
    }
    return x >= 3.0f ? 1.0f : x / 3.0f + 0.5f;
}

static void hard_swish_backward(const struct op_args *args) {
    const float *x = args->in[0];

    GIVE_EACH(args, hard_swish_slope(x[i]));
}

/* Softmax over attr.axis: `outer` blocks of (length, inner). */
struct softmax_view {
    size_t outer, length, inner;
};

static struct softmax_view softmax_view(const struct op_args *args) {
    const struct shape *shape = op_in_shape(args->network, args->node, 0);
    struct softmax_view view = {.length = shape->dim[args->node->attr.axis]};

    view.inner = shape_count_from(shape, args->node->attr.axis + 1);
    view.outer = op_out_count(args) / (view.length * view.inner);
    return view;
}

static enum status softmax_infer(const struct network *network, const struct node *node, struct shape *out,
                                 struct error *error) {
    enum status status = op_infer_same(network, node, out, error);

    if (status == STATUS_OK && (node->attr.axis < 1 || node->attr.axis >= out->rank)) {
        return op_refuse(node, error, STATUS_UNSUPPORTED, "got axis %zu, expected 1 to %zu", node->attr.axis,
                         out->rank - 1);
    }
    return status;
}

static void softmax_forward(const struct op_args *args) {
    const struct softmax_view v = softmax_view(args);

    for (size_t o = 0; o < v.outer; o++) {
        for (size_t j = 0; j < v.inner; j++) {
            const float *x = args->in[0] + o * v.length * v.inner + j;
            float *y = args->out + o * v.length * v.inner + j;
            float largest = x[0];
            float sum = 0.0f;

            for (size_t i = 1; i < v.length; i++) {
                largest = x[i * v.inner] > largest ? x[i * v.inner] : largest;
            }
            for (size_t i = 0; i < v.length; i++) {
                float e = expf(x[i * v.inner] - largest);
                y[i * v.inner] = e;
                sum += e;
            }
            for (size_t i = 0; i < v.length; i++) {
                y[i * v.inner] /= sum;
            }
        }
    }
}

static void softmax_backward(const struct op_args *args) {
    const struct softmax_view v = softmax_view(args);

    if (args->din[0] == NULL) {
        return;
    }
    for (size_t o = 0; o < v.outer; o++) {
        for (size_t j = 0; j < v.inner; j++) {
            const size_t at = o * v.length * v.inner + j;
            const float *y = args->out + at;
            const float *dy = args->dout + at;
            float *dx = args->din[0] + at;
            float dot = 0.0f;

            for (size_t i = 0; i < v.length; i++) {
                dot += y[i * v.inner] * dy[i * v.inner];
            }
            for (size_t i = 0; i < v.length; i++) {
                float g = y[i * v.inner] * (dy[i * v.inner] - dot);
                dx[i * v.inner] = args->accumulate[0] ? dx[i * v.inner] + g : g;
            }
        }
    }
}

/* log(softmax(x)) as x - largest - log(sum), which keeps its digits where the softmax is near 0 or 1. */
static void log_softmax_forward(const struct op_args *args) {
    const struct softmax_view v = softmax_view(args);

    for (size_t o = 0; o < v.outer; o++) {
        for (size_t j = 0; j < v.inner; j++) {
            const float *x = args->in[0] + o * v.length * v.inner + j;
            float *y = args->out + o * v.length * v.inner + j;
            float largest = x[0];
            float sum = 0.0f;

            for (size_t i = 1; i < v.length; i++) {
                largest = x[i * v.inner] > largest ? x[i * v.inner] : largest;
            }
            for (size_t i = 0; i < v.length; i++) {
                sum += expf(x[i * v.inner] - largest);
            }
            float shift = logf(sum);
            for (size_t i = 0; i < v.length; i++) {
                y[i * v.inner] = x[i * v.inner] - largest - shift;
            }
        }
    }
}

static void log_softmax_backward(const struct op_args *args) {
    const struct softmax_view v = softmax_view(args);

    for (size_t o = 0; o < v.outer && args->din[0] != NULL; o++) {
        for (size_t j = 0; j < v.inner; j++) {
            const size_t at = o * v.length * v.inner + j;
            const float *y = args->out + at;
            const float *dy = args->dout + at;
            float *dx = args->din[0] + at;
            float sum = 0.0f;

            for (size_t i = 0; i < v.length; i++) {
                sum += dy[i * v.inner];
            }
            for (size_t i = 0; i < v.length; i++) {
                float g = dy[i * v.inner] - expf(y[i * v.inner]) * sum;
                dx[i * v.inner] = args->accumulate[0] ? dx[i * v.inner] + g : g;
            }
        }
    }
}

const struct op op_row_log_softmax = {.name = "LogSoftmax",
                                      .flags = OP_NEEDS_OUTPUT | OP_MAY_ALIAS,
                                      .infer = softmax_infer,
                                      .forward = log_softmax_forward,
                                      .backward = log_softmax_backward};
const struct op op_row_relu = {.name = "Relu",
                               .flags = OP_NEEDS_OUTPUT | OP_MAY_ALIAS,
                               .infer = op_infer_same,
                               .forward = relu_forward,
                               .backward = relu_backward};
/* From the output the side of zero is known only for alpha > 0; reading the input is right for every alpha. */
const struct op op_row_leaky_relu = {.name = "LeakyRelu",
                                     .flags = OP_NEEDS_INPUT | OP_MAY_ALIAS,
                                     .infer = op_infer_same,
                                     .forward = leaky_relu_forward,
                                     .backward = leaky_relu_backward};
const struct op op_row_clip = {.name = "Clip",
                               .flags = OP_NEEDS_OUTPUT | OP_MAY_ALIAS,
                               .infer = clip_infer,
                               .forward = clip_forward,
                               .backward = clip_backward};
const struct op op_row_sigmoid = {.name = "Sigmoid",
                                  .flags = OP_NEEDS_OUTPUT | OP_MAY_ALIAS,
                                  .infer = op_infer_same,
                                  .forward = sigmoid_forward,
                                  .backward = sigmoid_backward};
const struct op op_row_tanh = {.name = "Tanh",
                               .flags = OP_NEEDS_OUTPUT | OP_MAY_ALIAS,
                               .infer = op_infer_same,
                               .forward = tanh_forward,
                               .backward = tanh_backward};
const struct op op_row_hard_sigmoid = {.name = "HardSigmoid",
                                       .flags = OP_NEEDS_OUTPUT | OP_MAY_ALIAS,
                                       .infer = op_infer_same,
                                       .forward = hard_sigmoid_forward,
                                       .backward = hard_sigmoid_backward};
const struct op op_row_hard_swish = {.name = "HardSwish",
                                     .flags = OP_NEEDS_INPUT | OP_MAY_ALIAS,
                                     .infer = op_infer_same,
                                     .forward = hard_swish_forward,
                                     .backward = hard_swish_backward};
const struct op op_row_softmax = {.name = "Softmax",
                                  .flags = OP_NEEDS_OUTPUT | OP_MAY_ALIAS,
                                  .infer = softmax_infer,
                                  .forward = softmax_forward,
                                  .backward = softmax_backward};
