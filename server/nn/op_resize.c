/* Resize of rows and columns, nearest or linear: each output row has two input rows and a weight of the second, and so has each
 * column; an output is the sum of four. Nearest has weight 0. */
#include <math.h>
#include <string.h>

#include "server/nn/op_rows.h"

static enum status resize_infer(const struct network *network, const struct node *node, struct shape *out,
                                struct error *error) {
    const struct resize_attr *attr = &node->attr.resize;
    enum status status = op_infer_same(network, node, out, error);

    if (status != STATUS_OK) {
        return status;
    }
    if (out->rank != 4) {
        return op_refuse(node, error, STATUS_UNSUPPORTED, "got an input of rank %zu, expected 4 (N, C, H, W)",
                         out->rank);
    }
    for (size_t d = 0; d < 2; d++) {
        if (attr->size[d] < 1 || attr->size[d] > OP_WINDOW_MAX || out->dim[2 + d] > OP_WINDOW_MAX ||
            !(attr->scale[d] > 0.0f) || !isfinite(attr->scale[d])) {
            return op_refuse(node, error, STATUS_INVALID, "got size %zu and scale %g, expected 1 to %d and more than 0",
                             attr->size[d], (double)attr->scale[d], OP_WINDOW_MAX);
        }
        out->dim[2 + d] = attr->size[d];
    }
    return STATUS_OK;
}

struct tap {
    size_t low, high;
    float weight; /* of high */
};

static double round_coordinate(const struct resize_attr *attr, double x) {
    switch (attr->rounding) {
    case RESIZE_ROUND_PREFER_FLOOR:
        return ceil(x - 0.5);
    case RESIZE_ROUND_PREFER_CEIL:
        return floor(x + 0.5);
    case RESIZE_FLOOR:
        return floor(x);
    default:
        return ceil(x);
    }
}

static size_t clamp_index(double x, size_t length) {
    if (!(x > 0.0)) {
        return 0;
    }
    return x >= (double)(length - 1) ? length - 1 : (size_t)x;
}

/* d: 0 rows, 1 columns. */
static struct tap make_tap(const struct resize_attr *attr, size_t d, size_t length, size_t index) {
    double scale = (double)attr->scale[d], at = (double)index, x = 0.0;

    switch (attr->coordinates) {
    case RESIZE_HALF_PIXEL:
        x = (at + 0.5) / scale - 0.5;
        break;
    case RESIZE_HALF_PIXEL_TORCH:
        x = attr->size[d] > 1 ? (at + 0.5) / scale - 0.5 : 0.0;
        break;
    case RESIZE_ALIGN_CORNERS:
        x = attr->size[d] > 1 ? at * (double)(length - 1) / (double)(attr->size[d] - 1) : 0.0;
        break;
    default:
        x = at / scale;
        break;
    }
    if (!attr->linear) {
        size_t nearest = clamp_index(round_coordinate(attr, x), length);
        return (struct tap){nearest, nearest, 0.0f};
    }
    size_t low = clamp_index(floor(x), length), high = clamp_index(floor(x) + 1.0, length);
    return (struct tap){low, high, (float)(x - floor(x))};
}

/* The taps of all columns, three floats each: indices are below 2^20, which a float holds. */
static size_t resize_scratch(const struct network *network, const struct node *node, size_t n, bool backward) {
    (void)network;
    (void)n;
    (void)backward;
    return 3 * node->attr.resize.size[1];
}

static void make_columns(const struct op_args *args, size_t width) {
    const struct resize_attr *attr = &args->node->attr.resize;

    for (size_t j = 0; j < attr->size[1]; j++) {
        struct tap tap = make_tap(attr, 1, width, j);
        args->scratch[3 * j] = (float)tap.low;
        args->scratch[3 * j + 1] = (float)tap.high;
        args->scratch[3 * j + 2] = tap.weight;
    }
}

static void resize_forward(const struct op_args *args) {
    const struct resize_attr *attr = &args->node->attr.resize;
    const struct shape *in = op_in_shape(args->network, args->node, 0);
    const size_t height = in->dim[2], width = in->dim[3], planes = op_in_count(args, 0) / (height * width);
    float *y = args->out;

    make_columns(args, width);
    for (size_t p = 0; p < planes; p++) {
        const float *x = args->in[0] + p * height * width;
        for (size_t i = 0; i < attr->size[0]; i++) {
            const struct tap row = make_tap(attr, 0, height, i);
            const float *low = x + row.low * width, *high = x + row.high * width;
            for (size_t j = 0; j < attr->size[1]; j++) {
                const float *column = args->scratch + 3 * j;
                size_t left = (size_t)column[0], right = (size_t)column[1];
                float top = low[left] + column[2] * (low[right] - low[left]);
                float bottom = high[left] + column[2] * (high[right] - high[left]);
                *y++ = top + row.weight * (bottom - top);
            }
        }
    }
}

static void resize_backward(const struct op_args *args) {
    const struct resize_attr *attr = &args->node->attr.resize;
    const struct shape *in = op_in_shape(args->network, args->node, 0);
    const size_t height = in->dim[2], width = in->dim[3], planes = op_in_count(args, 0) / (height * width);
    const float *dy = args->dout;

    if (args->din[0] == NULL) {
        return;
    }
    if (!args->accumulate[0]) {
        memset(args->din[0], 0, op_in_count(args, 0) * sizeof(float));
    }
    make_columns(args, width);
    for (size_t p = 0; p < planes; p++) {
        float *dx = args->din[0] + p * height * width;
        for (size_t i = 0; i < attr->size[0]; i++) {
            const struct tap row = make_tap(attr, 0, height, i);
            float *low = dx + row.low * width, *high = dx + row.high * width;
            for (size_t j = 0; j < attr->size[1]; j++, dy++) {
                const float *column = args->scratch + 3 * j;
                size_t left = (size_t)column[0], right = (size_t)column[1];
                low[left] += *dy * (1.0f - row.weight) * (1.0f - column[2]);
                low[right] += *dy * (1.0f - row.weight) * column[2];
                high[left] += *dy * row.weight * (1.0f - column[2]);
                high[right] += *dy * row.weight * column[2];
            }
        }
    }
}

const struct op op_row_resize = {.name = "Resize",
                                 .infer = resize_infer,
                                 .scratch_floats = resize_scratch,
                                 .forward = resize_forward,
                                 .backward = resize_backward};
