/* ReduceMean, ReduceSum, ReduceMax, GlobalAveragePool, GlobalMaxPool. */
#include <math.h>
#include <string.h>

#include "server/nn/kernels.h"
#include "server/nn/op_rows.h"

static enum status reduce_infer(const struct network *network, const struct node *node, struct shape *out,
                                struct error *error) {
    bool reduced[SHAPE_RANK_MAX] = {false};
    enum status status = op_check_arity(network, node, 1, 1, error);

    if (status == STATUS_OK) {
        status = op_check_data(network, node, 0, 2, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct shape *x = op_in_shape(network, node, 0);
    if (node->attr.axes_count < 1 || node->attr.axes_count >= x->rank) {
        return op_refuse(node, error, STATUS_UNSUPPORTED, "got %zu axes, expected 1 to %zu (never the batch axis)",
                         node->attr.axes_count, x->rank - 1);
    }
    for (size_t i = 0; i < node->attr.axes_count; i++) {
        size_t axis = node->attr.axes[i];
        if (axis < 1 || axis >= x->rank || reduced[axis]) {
            return op_refuse(node, error, axis == 0 ? STATUS_UNSUPPORTED : STATUS_INVALID,
                             "got axis %zu, expected each of 1 to %zu at most once", axis, x->rank - 1);
        }
        reduced[axis] = true;
    }
    struct shape shape = {.rank = 0};
    for (size_t d = 0; d < x->rank; d++) {
        if (!reduced[d]) {
            shape.dim[shape.rank++] = x->dim[d];
        } else if (node->attr.keep_dims) {
            shape.dim[shape.rank++] = 1;
        }
    }
    *out = shape;
    return STATUS_OK;
}

/* The input walked in order: `outer` axes step through output and input, and each row of `length` floats either is summed
 * into one output (step 0) or goes to as many outputs (step 1). */
struct reduce_walk {
    size_t rank;
    size_t extent[SHAPE_RANK_MAX];
    size_t step[SHAPE_RANK_MAX]; /* floats that the output moves */
    size_t values;               /* inputs of one output */
};

static struct reduce_walk make_walk(const struct op_args *args) {
    const struct shape *x = op_in_shape(args->network, args->node, 0);
    struct reduce_walk walk = {.rank = 0, .values = 1};
    bool reduced[SHAPE_RANK_MAX] = {false};
    size_t step[SHAPE_RANK_MAX];
    size_t next = 1;

    for (size_t i = 0; i < args->node->attr.axes_count; i++) {
        reduced[args->node->attr.axes[i]] = true;
    }
    for (size_t d = x->rank; d-- > 0;) {
        step[d] = reduced[d] ? 0 : next;
        next *= reduced[d] ? 1 : x->dim[d];
        walk.values *= reduced[d] ? x->dim[d] : 1;
    }
    for (size_t d = 0; d < x->rank; d++) {
        /* Neighbouring axes of one sort are one axis. */
        if (d > 0 && reduced[d] == reduced[d - 1]) {
            walk.extent[walk.rank - 1] *= x->dim[d];
            walk.step[walk.rank - 1] = step[d];
        } else {
            walk.extent[walk.rank] = x->dim[d] * (d == 0 ? args->n : 1);
            walk.step[walk.rank] = step[d];
            walk.rank++;
        }
    }
    return walk;
}

static bool next_row(const struct reduce_walk *walk, size_t *index, size_t *at) {
    for (size_t d = walk->rank - 1; d-- > 0;) {
        *at += walk->step[d];
        if (++index[d] < walk->extent[d]) {
            return true;
        }
        *at -= walk->step[d] * walk->extent[d];
        index[d] = 0;
    }
    return false;
}

static void reduce_sum_forward(const struct op_args *args) {
    const struct kernels *k = kernels();
    const struct reduce_walk walk = make_walk(args);
    const size_t length = walk.extent[walk.rank - 1];
    const bool sums = walk.step[walk.rank - 1] == 0;
    size_t index[SHAPE_RANK_MAX] = {0};
    size_t at = 0;
    const float *x = args->in[0];

    memset(args->out, 0, op_out_count(args) * sizeof(float));
    do {
        if (sums) {
            args->out[at] += k->sum(length, x);
        } else {
            k->axpy(length, 1.0f, x, args->out + at);
        }
        x += length;
    } while (next_row(&walk, index, &at));
    for (size_t i = 0; i < op_out_count(args) && args->node->op == OP_REDUCE_MEAN; i++) {
        args->out[i] /= (float)walk.values;
    }
}

static void reduce_sum_backward(const struct op_args *args) {
    const struct kernels *k = kernels();
    const struct reduce_walk walk = make_walk(args);
    const size_t length = walk.extent[walk.rank - 1];
    const bool sums = walk.step[walk.rank - 1] == 0;
    const float share = args->node->op == OP_REDUCE_MEAN ? 1.0f / (float)walk.values : 1.0f;
    size_t index[SHAPE_RANK_MAX] = {0};
    size_t at = 0;
    float *dx = args->din[0];

    if (dx == NULL) {
        return;
    }
    do {
        const float *dy = args->dout + at;
        if (args->accumulate[0] && sums) {
            k->affine(length, 1.0f, share * *dy, dx, dx);
        } else if (args->accumulate[0]) {
            k->axpy(length, share, dy, dx);
        } else if (sums) {
            k->fill(length, share * *dy, dx);
        } else {
            k->affine(length, share, 0.0f, dy, dx);
        }
        dx += length;
    } while (next_row(&walk, index, &at));
}

/* A NaN counts as the largest, so that it is not lost. */
static bool is_larger(float x, float best) {
    return x > best || (isnan(x) && !isnan(best));
}

static void reduce_max_forward(const struct op_args *args) {
    const struct reduce_walk walk = make_walk(args);
    const size_t length = walk.extent[walk.rank - 1];
    const size_t step = walk.step[walk.rank - 1];
    size_t index[SHAPE_RANK_MAX] = {0};
    size_t at = 0;
    const float *x = args->in[0];

    kernels()->fill(op_out_count(args), -INFINITY, args->out);
    do {
        for (size_t i = 0; i < length; i++, x++) {
            float *y = args->out + at + i * step;
            *y = is_larger(*x, *y) ? *x : *y;
        }
    } while (next_row(&walk, index, &at));
}

/* All inputs that equal the largest share its gradient: with scratch, how many they are. */
static size_t reduce_max_scratch(const struct network *network, const struct node *node, size_t n, bool backward) {
    return backward ? shape_count(&network->values[node->output].shape) * n : 0;
}

static void reduce_max_backward(const struct op_args *args) {
    const struct reduce_walk walk = make_walk(args);
    const size_t length = walk.extent[walk.rank - 1];
    const size_t step = walk.step[walk.rank - 1];

    if (args->din[0] == NULL) {
        return;
    }
    kernels()->fill(op_out_count(args), 0.0f, args->scratch);
    for (size_t pass = 0; pass < 2; pass++) {
        size_t index[SHAPE_RANK_MAX] = {0};
        size_t at = 0, offset = 0;
        do {
            for (size_t i = 0; i < length; i++, offset++) {
                size_t to = at + i * step;
                bool largest = args->in[0][offset] >= args->out[to];
                if (pass == 0) {
                    args->scratch[to] += largest ? 1.0f : 0.0f;
                    continue;
                }
                float g = largest ? args->dout[to] / args->scratch[to] : 0.0f;
                args->din[0][offset] = args->accumulate[0] ? args->din[0][offset] + g : g;
            }
        } while (next_row(&walk, index, &at));
    }
}

static enum status global_infer(const struct network *network, const struct node *node, struct shape *out,
                                struct error *error) {
    enum status status = op_check_arity(network, node, 1, 1, error);

    if (status == STATUS_OK) {
        status = op_check_data(network, node, 0, 3, error);
    }
    if (status == STATUS_OK) {
        *out = *op_in_shape(network, node, 0);
        for (size_t d = 2; d < out->rank; d++) {
            out->dim[d] = 1;
        }
    }
    return status;
}

static void global_average_forward(const struct op_args *args) {
    const size_t length = shape_count_from(op_in_shape(args->network, args->node, 0), 2);
    const size_t planes = op_out_count(args);

    for (size_t p = 0; p < planes; p++) {
        args->out[p] = kernels()->sum(length, args->in[0] + p * length) / (float)length;
    }
}

static void global_average_backward(const struct op_args *args) {
    const struct kernels *k = kernels();
    const size_t length = shape_count_from(op_in_shape(args->network, args->node, 0), 2);
    const size_t planes = op_out_count(args);

    for (size_t p = 0; p < planes && args->din[0] != NULL; p++) {
        float *dx = args->din[0] + p * length;
        if (args->accumulate[0]) {
            k->affine(length, 1.0f, args->dout[p] / (float)length, dx, dx);
        } else {
            k->fill(length, args->dout[p] / (float)length, dx);
        }
    }
}

/* First largest; a NaN counts as the largest, so that it is not lost. */
static size_t argmax(size_t count, const float *x) {
    size_t best = 0;

    for (size_t i = 1; i < count; i++) {
        if (x[i] > x[best] || (isnan(x[i]) && !isnan(x[best]))) {
            best = i;
        }
    }
    return best;
}

static void global_max_forward(const struct op_args *args) {
    const size_t length = shape_count_from(op_in_shape(args->network, args->node, 0), 2);
    const size_t planes = op_out_count(args);

    for (size_t p = 0; p < planes; p++) {
        const float *x = args->in[0] + p * length;
        args->out[p] = x[argmax(length, x)];
    }
}

static void global_max_backward(const struct op_args *args) {
    const size_t length = shape_count_from(op_in_shape(args->network, args->node, 0), 2);
    const size_t planes = op_out_count(args);

    if (args->din[0] == NULL) {
        return;
    }
    if (!args->accumulate[0]) {
        memset(args->din[0], 0, planes * length * sizeof(float));
    }
    for (size_t p = 0; p < planes; p++) {
        args->din[0][p * length + argmax(length, args->in[0] + p * length)] += args->dout[p];
    }
}

const struct op op_row_reduce_mean = {
    .name = "ReduceMean", .infer = reduce_infer, .forward = reduce_sum_forward, .backward = reduce_sum_backward};
const struct op op_row_reduce_sum = {
    .name = "ReduceSum", .infer = reduce_infer, .forward = reduce_sum_forward, .backward = reduce_sum_backward};
const struct op op_row_reduce_max = {.name = "ReduceMax",
                                     .flags = OP_NEEDS_INPUT | OP_NEEDS_OUTPUT,
                                     .infer = reduce_infer,
                                     .scratch_floats = reduce_max_scratch,
                                     .forward = reduce_max_forward,
                                     .backward = reduce_max_backward};
const struct op op_row_global_average_pool = {.name = "GlobalAveragePool",
                                              .infer = global_infer,
                                              .forward = global_average_forward,
                                              .backward = global_average_backward};
const struct op op_row_global_max_pool = {.name = "GlobalMaxPool",
                                          .flags = OP_NEEDS_INPUT,
                                          .infer = global_infer,
                                          .forward = global_max_forward,
                                          .backward = global_max_backward};
