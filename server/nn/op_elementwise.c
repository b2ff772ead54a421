/* Add, Sub, Mul, Div, Pow, Min, Max, PRelu with NumPy broadcasting. Both shapes are reduced to the fewest axes over which each side either walks
 * or stands still, so that same shapes are one long row, and a constant a channel is one row a channel. The samples of the
 * chunk are axis 0: two activations share it, a constant never spans it. */
#include <math.h>
#include <string.h>

#include "server/nn/kernels.h"
#include "server/nn/op_rows.h"

enum { GRADIENT_BLOCK = 256 };

struct walk {
    size_t rank; /* at least 1 */
    size_t extent[SHAPE_RANK_MAX];
    size_t step[2][SHAPE_RANK_MAX]; /* floats that each input moves a step of an axis; 0: broadcast */
};

static enum status elementwise_infer(const struct network *network, const struct node *node, struct shape *out,
                                     struct error *error) {
    char text_a[SHAPE_TEXT_SIZE], text_b[SHAPE_TEXT_SIZE];
    enum status status = op_check_arity(network, node, 2, 2, error);

    if (status != STATUS_OK) {
        return status;
    }
    const struct shape *a = op_in_shape(network, node, 0);
    const struct shape *b = op_in_shape(network, node, 1);
    bool a_constant = network->values[node->inputs[0]].kind == VALUE_CONSTANT;
    bool b_constant = network->values[node->inputs[1]].kind == VALUE_CONSTANT;
    if (a_constant && b_constant) {
        return op_refuse(node, error, STATUS_UNSUPPORTED, "got two constants, expected a computed value");
    }
    if (!shape_broadcast(a, b, out)) {
        return op_refuse(node, error, STATUS_INVALID, "got shapes %s and %s, expected shapes that broadcast",
                         shape_text(a, text_a), shape_text(b, text_b));
    }
    const struct shape *data = a_constant ? b : a;
    const struct shape *other = a_constant ? a : b;
    bool keeps_samples = data->rank >= 1 && data->rank == out->rank && data->dim[0] == out->dim[0];
    if (a_constant || b_constant) {
        keeps_samples = keeps_samples && (other->rank < data->rank || other->dim[0] == 1);
    } else {
        keeps_samples = keeps_samples && other->rank == data->rank && other->dim[0] == data->dim[0];
    }
    if (!keeps_samples) {
        return op_refuse(node, error, STATUS_UNSUPPORTED,
                         "got shapes %s and %s, expected no broadcasting over the batch axis", shape_text(a, text_a),
                         shape_text(b, text_b));
    }
    return STATUS_OK;
}

/* Steps of one input over the axes of the output. */
static void input_steps(const struct shape *out, const struct value *value, size_t *step) {
    size_t offset = out->rank - value->shape.rank;
    size_t next = 1;

    for (size_t d = out->rank; d-- > 0;) {
        bool walks = d >= offset && (value->shape.dim[d - offset] > 1 || (d == 0 && value->kind != VALUE_CONSTANT));
        step[d] = walks ? next : 0;
        next *= d >= offset ? value->shape.dim[d - offset] : 1;
    }
}

static struct walk make_walk(const struct op_args *args) {
    const struct value *values = args->network->values;
    const struct shape *out = &values[args->node->output].shape;
    struct walk walk = {.rank = 0};
    size_t step[2][SHAPE_RANK_MAX];

    for (size_t i = 0; i < 2; i++) {
        input_steps(out, &values[args->node->inputs[i]], step[i]);
    }
    for (size_t d = 0; d < out->rank; d++) {
        size_t extent = out->dim[d] * (d == 0 ? args->n : 1);
        size_t last = walk.rank - 1; /* wraps for rank 0; not used then */

        if (extent == 1) {
            continue;
        }
        /* An axis continues the one before it if, for both sides, a step of that one is a whole length of this one. */
        if (walk.rank > 0 && walk.step[0][last] == extent * step[0][d] && walk.step[1][last] == extent * step[1][d]) {
            walk.extent[last] *= extent;
            walk.step[0][last] = step[0][d];
            walk.step[1][last] = step[1][d];
        } else {
            walk.extent[walk.rank] = extent;
            walk.step[0][walk.rank] = step[0][d];
            walk.step[1][walk.rank] = step[1][d];
            walk.rank++;
        }
    }
    if (walk.rank == 0) {
        walk = (struct walk){.rank = 1, .extent = {1}, .step = {{1}, {1}}};
    }
    return walk;
}

/* Moves to the next row: `index` counts the outer axes, at[] are the inputs' offsets. False after the last. */
static bool next_row(const struct walk *walk, size_t *index, size_t at[2]) {
    for (size_t d = walk->rank - 1; d-- > 0;) {
        at[0] += walk->step[0][d];
        at[1] += walk->step[1][d];
        if (++index[d] < walk->extent[d]) {
            return true;
        }
        at[0] -= walk->step[0][d] * walk->extent[d];
        at[1] -= walk->step[1][d] * walk->extent[d];
        index[d] = 0;
    }
    return false;
}

/* The rarer operators, one number at a time. The slope is the derivative by input `which`. Of two equal numbers the first
 * counts as the least or the largest; a NaN stays. */
#define RARE_FORWARD(name, expression)                                                                                 \
    static void name(size_t count, const float *a, size_t a_step, const float *b, size_t b_step, float *y) {           \
        for (size_t i = 0; i < count; i++) {                                                                           \
            float u = a[i * a_step], v = b[i * b_step];                                                                \
            y[i] = (expression);                                                                                       \
        }                                                                                                              \
    }

static float power(float u, float v) {
    if (v >= 2.0f && v <= 2.0f) {
        return u * u; /* most of all powers */
    }
    return powf(u, v);
}

RARE_FORWARD(pow_forward, power(u, v))
RARE_FORWARD(min_forward, u <= v || isnan(u) ? u : v)
RARE_FORWARD(max_forward, u >= v || isnan(u) ? u : v)
RARE_FORWARD(prelu_forward, u < 0.0f ? v * u : u)

/* A power of a negative number has no derivative by its exponent; 0 leaves such an exponent as it is. */
static float pow_slope(float u, float v, size_t which) {
    if (which == 0) {
        return v >= 2.0f && v <= 2.0f ? 2.0f * u : v * powf(u, v - 1.0f);
    }
    return u > 0.0f ? powf(u, v) * logf(u) : 0.0f;
}

static float min_slope(float u, float v, size_t which) {
    return (u <= v) == (which == 0) ? 1.0f : 0.0f;
}

static float max_slope(float u, float v, size_t which) {
    return (u >= v) == (which == 0) ? 1.0f : 0.0f;
}

static float prelu_slope(float u, float v, size_t which) {
    if (which == 0) {
        return u < 0.0f ? v : 1.0f;
    }
    return u < 0.0f ? u : 0.0f;
}

static const struct {
    void (*forward)(size_t count, const float *a, size_t a_step, const float *b, size_t b_step, float *y);
    float (*slope)(float u, float v, size_t which);
} rare_rows[] = {
    [0] = {pow_forward, pow_slope},
    [OP_MIN - OP_POW] = {min_forward, min_slope},
    [OP_MAX - OP_POW] = {max_forward, max_slope},
    [OP_PRELU - OP_POW] = {prelu_forward, prelu_slope},
};

static void elementwise_forward(const struct op_args *args) {
    const struct kernels *k = kernels();
    const struct walk walk = make_walk(args);
    const size_t inner = walk.rank - 1;
    const size_t length = walk.extent[inner];
    size_t index[SHAPE_RANK_MAX] = {0};
    size_t at[2] = {0, 0};
    float *out = args->out;
    void (*row)(size_t, const float *, size_t, const float *, size_t, float *) = NULL;

    switch (args->node->op) {
    case OP_ADD:
        row = k->add;
        break;
    case OP_SUB:
        row = k->sub;
        break;
    case OP_MUL:
        row = k->mul;
        break;
    case OP_DIV:
        row = k->div;
        break;
    default:
        row = rare_rows[args->node->op - OP_POW].forward;
        break;
    }
    do {
        row(length, args->in[0] + at[0], walk.step[0][inner], args->in[1] + at[1], walk.step[1][inner], out);
        out += length;
    } while (next_row(&walk, index, at));
}

/* g = dout times the derivative by input `which`, over a row. */
static void row_gradient(const struct op_args *args, size_t which, size_t count, const float *dy, const float *a,
                         size_t a_step, const float *b, size_t b_step, float *g) {
    const struct kernels *k = kernels();

    switch (args->node->op) {
    case OP_ADD:
        memcpy(g, dy, count * sizeof *g);
        break;
    case OP_SUB:
        k->affine(count, which == 0 ? 1.0f : -1.0f, 0.0f, dy, g);
        break;
    case OP_MUL:
        k->mul(count, dy, 1, which == 0 ? b : a, which == 0 ? b_step : a_step, g);
        break;
    case OP_POW:
    case OP_MIN:
    case OP_MAX:
    case OP_PRELU:
        if (a == NULL || b == NULL) {
            memset(g, 0, count * sizeof *g); /* never: OP_NEEDS_INPUT gives these rows both */
            return;
        }
        for (size_t i = 0; i < count; i++) {
            g[i] = dy[i] * rare_rows[args->node->op - OP_POW].slope(a[i * a_step], b[i * b_step], which);
        }
        break;
    default:
        k->div(count, dy, 1, b, b_step, g);
        if (which == 1) { /* d(a / b) / db = -a / b^2 */
            k->mul(count, g, 1, a, a_step, g);
            k->div(count, g, 1, b, b_step, g);
            k->affine(count, -1.0f, 0.0f, g, g);
        }
        break;
    }
}

static void input_backward(const struct op_args *args, const struct walk *walk, size_t which) {
    const struct kernels *k = kernels();
    const size_t inner = walk->rank - 1;
    const size_t length = walk->extent[inner];
    const size_t a_step = walk->step[0][inner], b_step = walk->step[1][inner], own_step = walk->step[which][inner];
    const bool broadcast = op_in_count(args, which) != op_out_count(args);
    size_t index[SHAPE_RANK_MAX] = {0};
    size_t at[2] = {0, 0};
    const float *dy = args->dout;
    float g[GRADIENT_BLOCK];

    if (broadcast && !args->accumulate[which]) {
        memset(args->din[which], 0, op_in_count(args, which) * sizeof(float));
    }
    do {
        for (size_t i = 0; i < length; i += GRADIENT_BLOCK) {
            size_t count = length - i < GRADIENT_BLOCK ? length - i : GRADIENT_BLOCK;
            float *dx = args->din[which] + at[which] + i * own_step;

            /* Inputs are missing for Add and Sub: no flag asks for them. */
            const float *a = args->in[0] != NULL ? args->in[0] + at[0] + i * a_step : NULL;
            const float *b = args->in[1] != NULL ? args->in[1] + at[1] + i * b_step : NULL;
            row_gradient(args, which, count, dy + i, a, a_step, b, b_step, g);
            if (own_step == 0) {
                *dx += k->sum(count, g);
            } else if (broadcast || args->accumulate[which]) {
                k->axpy(count, 1.0f, g, dx);
            } else {
                memcpy(dx, g, count * sizeof *dx);
            }
        }
        dy += length;
    } while (next_row(walk, index, at));
}

/* Input 0 goes first: its gradient may lie in dout's memory, and then (Add, Sub: same shape, derivative 1) writing it
 * changes nothing that input 1 reads. */
static void elementwise_backward(const struct op_args *args) {
    const struct walk walk = make_walk(args);

    for (size_t i = 0; i < 2; i++) {
        if (args->din[i] == NULL) {
            continue;
        }
        if (args->node->op == OP_ADD && op_in_count(args, i) == op_out_count(args)) {
            const float *dy = args->dout;
            if (args->accumulate[i]) {
                kernels()->axpy(op_out_count(args), 1.0f, dy, args->din[i]);
            } else {
                op_give(op_out_count(args), dy, args->din[i], false);
            }
        } else {
            input_backward(args, &walk, i);
        }
    }
}

const struct op op_row_add = {.name = "Add",
                              .flags = OP_MAY_ALIAS,
                              .infer = elementwise_infer,
                              .forward = elementwise_forward,
                              .backward = elementwise_backward};
const struct op op_row_sub = {.name = "Sub",
                              .flags = OP_MAY_ALIAS,
                              .infer = elementwise_infer,
                              .forward = elementwise_forward,
                              .backward = elementwise_backward};
const struct op op_row_mul = {.name = "Mul",
                              .flags = OP_NEEDS_INPUT,
                              .infer = elementwise_infer,
                              .forward = elementwise_forward,
                              .backward = elementwise_backward};
const struct op op_row_div = {.name = "Div",
                              .flags = OP_NEEDS_INPUT,
                              .infer = elementwise_infer,
                              .forward = elementwise_forward,
                              .backward = elementwise_backward};
const struct op op_row_pow = {.name = "Pow",
                              .flags = OP_NEEDS_INPUT,
                              .infer = elementwise_infer,
                              .forward = elementwise_forward,
                              .backward = elementwise_backward};
const struct op op_row_min = {.name = "Min",
                              .flags = OP_NEEDS_INPUT,
                              .infer = elementwise_infer,
                              .forward = elementwise_forward,
                              .backward = elementwise_backward};
const struct op op_row_max = {.name = "Max",
                              .flags = OP_NEEDS_INPUT,
                              .infer = elementwise_infer,
                              .forward = elementwise_forward,
                              .backward = elementwise_backward};
const struct op op_row_prelu = {.name = "PRelu",
                                .flags = OP_NEEDS_INPUT,
                                .infer = elementwise_infer,
                                .forward = elementwise_forward,
                                .backward = elementwise_backward};
