/* MaxPool and AveragePool over (N, C, H, W) planes.
 *
 * A window with no tap inside the image is refused when the shape is inferred, so every maximum and, without the padding
 * counted, every mean is over at least one value. */
#include <math.h>
#include <string.h>

#include "server/nn/kernels.h"
#include "server/nn/op_rows.h"

struct pool_view { /* `planes` images (height, width) to (out_height, out_width) */
    size_t planes, height, width, out_height, out_width;
};

/* Every window along one side has a tap inside the image. */
static enum status check_taps(const struct node *node, size_t side, size_t in, size_t out, struct error *error) {
    const struct window_attr *w = &node->attr.window;

    for (size_t o = 0; o < out; o++) {
        size_t start = o * w->stride[side];
        size_t skipped =
            start >= w->pad_begin[side] ? 0 : (w->pad_begin[side] - start + w->dilation[side] - 1) / w->dilation[side];
        if (skipped >= w->kernel[side] || start + skipped * w->dilation[side] >= in + w->pad_begin[side]) {
            return op_refuse(node, error, STATUS_INVALID,
                             "got pads %zu and %zu for a kernel of %zu, expected each window to touch the image",
                             w->pad_begin[side], w->pad_end[side], w->kernel[side]);
        }
    }
    return STATUS_OK;
}

static enum status pool_infer(const struct network *network, const struct node *node, struct shape *out,
                              struct error *error) {
    size_t size[2];
    enum status status = op_check_arity(network, node, 1, 1, error);

    if (status == STATUS_OK) {
        status = op_check_data(network, node, 0, 1, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct shape *x = op_in_shape(network, node, 0);
    if (x->rank != 4) {
        char text[SHAPE_TEXT_SIZE];
        return op_refuse(node, error, STATUS_UNSUPPORTED, "got an input of shape %s, expected [N, C, H, W]",
                         shape_text(x, text));
    }
    if (x->dim[2] > INT32_MAX / x->dim[3]) { /* places in a plane are counted in 32 bits */
        char text[SHAPE_TEXT_SIZE];
        return op_refuse(node, error, STATUS_LIMIT, "got an input of shape %s, expected less than 2^31 pixels",
                         shape_text(x, text));
    }
    status = op_check_window(node, x, size, error);
    for (size_t d = 0; d < 2 && status == STATUS_OK; d++) {
        status = check_taps(node, d, x->dim[2 + d], size[d], error);
    }
    if (status == STATUS_OK) {
        *out = (struct shape){.rank = 4, .dim = {x->dim[0], x->dim[1], size[0], size[1]}};
    }
    return status;
}

static struct pool_view pool_view(const struct op_args *args) {
    const struct shape *x = op_in_shape(args->network, args->node, 0);
    const struct shape *y = &args->network->values[args->node->output].shape;

    return (struct pool_view){.planes = args->n * x->dim[0] * x->dim[1],
                              .height = x->dim[2],
                              .width = x->dim[3],
                              .out_height = y->dim[2],
                              .out_width = y->dim[3]};
}

/* The taps of window `o` that lie in the image: [*first, *last), and the position of the first. */
static void window_taps(const struct window_attr *w, size_t side, size_t in, size_t o, size_t *first, size_t *last,
                        size_t *position) {
    const size_t start = o * w->stride[side], pad = w->pad_begin[side], step = w->dilation[side];
    const size_t end = (in + pad - start + step - 1) / step; /* start < in + pad, as pool_infer() made sure */

    *first = start >= pad ? 0 : (pad - start + step - 1) / step;
    *last = end < w->kernel[side] ? end : w->kernel[side];
    *position = start + *first * step - pad;
}

/* The output columns [*low, *high) whose tap j lies in the image, and the image column of the first. */
static void tap_columns(const struct window_attr *w, const struct pool_view *v, size_t j, size_t *low, size_t *high,
                        size_t *column) {
    const size_t tap = j * w->dilation[1], pad = w->pad_begin[1], stride = w->stride[1];

    *low = tap >= pad ? 0 : (pad - tap + stride - 1) / stride;
    *high = v->width + pad > tap ? (v->width + pad - tap - 1) / stride + 1 : 0;
    *high = *high < v->out_width ? *high : v->out_width;
    *low = *low < *high ? *low : *high;
    *column = *low < *high ? *low * stride + tap - pad : 0;
}

/* For a row of the input, or of outputs and their places in backward. */
static size_t max_pool_scratch(const struct network *network, const struct node *node, size_t n, bool backward) {
    const struct shape *x = op_in_shape(network, node, 0);

    (void)n;
    return (backward ? 2 : 1) * (x->dim[3] + node->attr.window.pad_begin[1] + node->attr.window.pad_end[1] + 1);
}

/* The maxima of the rows of a window first, then those of its columns; a NaN counts as the largest, so that it is not lost. */
static void max_pool_forward(const struct op_args *args) {
    const struct kernels *k = kernels();
    const struct window_attr *w = &args->node->attr.window;
    const struct pool_view v = pool_view(args);
    const float *x = args->in[0];
    float *y = args->out, *line = args->scratch;

    for (size_t p = 0; p < v.planes; p++, x += v.height * v.width) {
        for (size_t oh = 0; oh < v.out_height; oh++, y += v.out_width) {
            size_t h0, h1, row, low, high, column;
            window_taps(w, 0, v.height, oh, &h0, &h1, &row);
            memcpy(line, x + row * v.width, v.width * sizeof *line);
            for (size_t i = h0 + 1; i < h1; i++) {
                row += w->dilation[0];
                k->larger(v.width, x + row * v.width, 1, line);
            }
            k->fill(v.out_width, -INFINITY, y);
            for (size_t j = 0; j < w->kernel[1]; j++) {
                tap_columns(w, &v, j, &low, &high, &column);
                k->larger(high - low, line + column, w->stride[1], y + low);
            }
        }
    }
}

static void clear_gradient(const struct op_args *args) {
    if (!args->accumulate[0]) {
        memset(args->din[0], 0, op_in_count(args, 0) * sizeof(float));
    }
}

/* The gradient goes to the first of the largest values of each window. */
static void max_pool_backward(const struct op_args *args) {
    const struct kernels *k = kernels();
    const struct window_attr *w = &args->node->attr.window;
    const struct pool_view v = pool_view(args);
    const float *x = args->in[0], *dy = args->dout;
    float *dx = args->din[0], *best = args->scratch;
    int32_t *place = (int32_t *)(void *)(args->scratch + v.out_width);

    if (dx == NULL) {
        return;
    }
    clear_gradient(args);
    for (size_t p = 0; p < v.planes; p++, x += v.height * v.width, dx += v.height * v.width) {
        for (size_t oh = 0; oh < v.out_height; oh++, dy += v.out_width) {
            size_t h0, h1, row, low, high, column;
            window_taps(w, 0, v.height, oh, &h0, &h1, &row);
            k->fill(v.out_width, -INFINITY, best);
            memset(place, -1, v.out_width * sizeof *place);
            for (size_t i = h0; i < h1; i++, row += w->dilation[0]) {
                for (size_t j = 0; j < w->kernel[1]; j++) {
                    tap_columns(w, &v, j, &low, &high, &column);
                    k->larger_at(high - low, x + row * v.width + column, w->stride[1],
                                 (int32_t)(row * v.width + column), best + low, place + low);
                }
            }
            for (size_t ow = 0; ow < v.out_width; ow++) {
                dx[place[ow]] += dy[ow];
            }
        }
    }
}

/* Taps that count along one side when the padding does: those before the end of the padded image. */
static size_t padded_taps(const struct window_attr *w, size_t side, size_t in, size_t o) {
    const size_t room = in + w->pad_begin[side] + w->pad_end[side] - o * w->stride[side];
    const size_t end = (room + w->dilation[side] - 1) / w->dilation[side];

    return end < w->kernel[side] ? end : w->kernel[side];
}

/* 1 / (number of values the mean is over). */
static float average_weight(const struct window_attr *w, const struct pool_view *v, size_t oh, size_t ow) {
    size_t h0, h1, w0, w1, position;

    if (w->count_include_pad) {
        return 1.0f / ((float)padded_taps(w, 0, v->height, oh) * (float)padded_taps(w, 1, v->width, ow));
    }
    window_taps(w, 0, v->height, oh, &h0, &h1, &position);
    window_taps(w, 1, v->width, ow, &w0, &w1, &position);
    return 1.0f / ((float)(h1 - h0) * (float)(w1 - w0));
}

static void average_pool_forward(const struct op_args *args) {
    const struct window_attr *w = &args->node->attr.window;
    const struct pool_view v = pool_view(args);
    const float *x = args->in[0];
    float *y = args->out;

    for (size_t p = 0; p < v.planes; p++, x += v.height * v.width) {
        for (size_t oh = 0; oh < v.out_height; oh++) {
            for (size_t ow = 0; ow < v.out_width; ow++) {
                size_t h0, h1, row, w0, w1, column;
                float sum = 0.0f;

                window_taps(w, 0, v.height, oh, &h0, &h1, &row);
                window_taps(w, 1, v.width, ow, &w0, &w1, &column);
                for (size_t i = h0; i < h1; i++, row += w->dilation[0]) {
                    size_t at = row * v.width + column;
                    for (size_t j = w0; j < w1; j++, at += w->dilation[1]) {
                        sum += x[at];
                    }
                }
                *y++ = sum * average_weight(w, &v, oh, ow);
            }
        }
    }
}

static void average_pool_backward(const struct op_args *args) {
    const struct window_attr *w = &args->node->attr.window;
    const struct pool_view v = pool_view(args);
    const float *dy = args->dout;
    float *dx = args->din[0];

    if (dx == NULL) {
        return;
    }
    clear_gradient(args);
    for (size_t p = 0; p < v.planes; p++, dx += v.height * v.width) {
        for (size_t oh = 0; oh < v.out_height; oh++) {
            for (size_t ow = 0; ow < v.out_width; ow++) {
                const float g = *dy++ * average_weight(w, &v, oh, ow);
                size_t h0, h1, row, w0, w1, column;

                window_taps(w, 0, v.height, oh, &h0, &h1, &row);
                window_taps(w, 1, v.width, ow, &w0, &w1, &column);
                for (size_t i = h0; i < h1; i++, row += w->dilation[0]) {
                    size_t at = row * v.width + column;
                    for (size_t j = w0; j < w1; j++, at += w->dilation[1]) {
                        dx[at] += g;
                    }
                }
            }
        }
    }
}

const struct op op_row_max_pool = {.name = "MaxPool",
                                   .flags = OP_NEEDS_INPUT,
                                   .infer = pool_infer,
                                   .scratch_floats = max_pool_scratch,
                                   .forward = max_pool_forward,
                                   .backward = max_pool_backward};
const struct op op_row_average_pool = {
    .name = "AveragePool", .infer = pool_infer, .forward = average_pool_forward, .backward = average_pool_backward};
