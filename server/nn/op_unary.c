/* Functions of one number: a table of the function and its derivative, and two loops. Their backward reads the input, because
 * for most of them the derivative cannot be told from the output without loss. */
#include <math.h>

#include "server/nn/op_rows.h"

#define TWO_OVER_SQRT_PI 1.12837916709551257390f

static float elu(float x, const struct op_attr *attr) {
    return attr->beta * (x < 0.0f ? attr->alpha * expm1f(x) : x);
}

static float elu_slope(float x, const struct op_attr *attr) {
    return attr->beta * (x < 0.0f ? attr->alpha * expf(x) : 1.0f);
}

/* log(1 + e^x) without overflow. */
static float softplus(float x, const struct op_attr *attr) {
    (void)attr;
    return (x > 0.0f ? x : 0.0f) + log1pf(expf(-fabsf(x)));
}

static float softplus_slope(float x, const struct op_attr *attr) {
    (void)attr;
    float e = expf(-fabsf(x));
    return (x >= 0.0f ? 1.0f : e) / (1.0f + e);
}

static float mish(float x, const struct op_attr *attr) {
    return x * tanhf(softplus(x, attr));
}

static float mish_slope(float x, const struct op_attr *attr) {
    float t = tanhf(softplus(x, attr));
    return t + x * (1.0f - t * t) * softplus_slope(x, attr);
}

static float erf_of(float x, const struct op_attr *attr) {
    (void)attr;
    return erff(x);
}

static float erf_slope(float x, const struct op_attr *attr) {
    (void)attr;
    return TWO_OVER_SQRT_PI * expf(-x * x);
}

static float sqrt_of(float x, const struct op_attr *attr) {
    (void)attr;
    return sqrtf(x);
}

static float sqrt_slope(float x, const struct op_attr *attr) {
    (void)attr;
    return 0.5f / sqrtf(x);
}

static float exp_of(float x, const struct op_attr *attr) {
    (void)attr;
    return expf(x);
}

static float log_of(float x, const struct op_attr *attr) {
    (void)attr;
    return logf(x);
}

static float log_slope(float x, const struct op_attr *attr) {
    (void)attr;
    return 1.0f / x;
}

static float neg(float x, const struct op_attr *attr) {
    (void)attr;
    return -x;
}

static float neg_slope(float x, const struct op_attr *attr) {
    (void)x;
    (void)attr;
    return -1.0f;
}

static float abs_of(float x, const struct op_attr *attr) {
    (void)attr;
    return fabsf(x);
}

static float abs_slope(float x, const struct op_attr *attr) {
    (void)attr;
    if (x > 0.0f) {
        return 1.0f;
    }
    return x < 0.0f ? -1.0f : 0.0f;
}

static float reciprocal_slope(float x, const struct op_attr *attr) {
    (void)attr;
    return -1.0f / (x * x);
}

static const struct {
    float (*value)(float x, const struct op_attr *attr);
    float (*slope)(float x, const struct op_attr *attr);
} unary_table[] = {
    [0] = {elu, elu_slope},
    [OP_SOFTPLUS - OP_ELU] = {softplus, softplus_slope},
    [OP_MISH - OP_ELU] = {mish, mish_slope},
    [OP_ERF - OP_ELU] = {erf_of, erf_slope},
    [OP_SQRT - OP_ELU] = {sqrt_of, sqrt_slope},
    [OP_EXP - OP_ELU] = {exp_of, exp_of},
    [OP_LOG - OP_ELU] = {log_of, log_slope},
    [OP_NEG - OP_ELU] = {neg, neg_slope},
    [OP_ABS - OP_ELU] = {abs_of, abs_slope},
    [OP_RECIPROCAL - OP_ELU] = {log_slope, reciprocal_slope}, /* the derivative of the logarithm is 1 / x */
};

static void unary_forward(const struct op_args *args) {
    const size_t count = op_out_count(args);
    const struct op_attr *attr = &args->node->attr;
    float (*value)(float, const struct op_attr *) = unary_table[args->node->op - OP_ELU].value;

    for (size_t i = 0; i < count; i++) {
        args->out[i] = value(args->in[0][i], attr);
    }
}

static void unary_backward(const struct op_args *args) {
    const size_t count = op_out_count(args);
    const struct op_attr *attr = &args->node->attr;
    float (*slope)(float, const struct op_attr *) = unary_table[args->node->op - OP_ELU].slope;
    float *dx = args->din[0];

    for (size_t i = 0; i < count && dx != NULL; i++) {
        float g = args->dout[i] * slope(args->in[0][i], attr);
        dx[i] = args->accumulate[0] ? dx[i] + g : g;
    }
}

#define UNARY_ROW(kind, label)                                                                                         \
    const struct op op_row_##kind = {.name = (label),                                                                  \
                                     .flags = OP_NEEDS_INPUT | OP_MAY_ALIAS,                                           \
                                     .infer = op_infer_same,                                                           \
                                     .forward = unary_forward,                                                         \
                                     .backward = unary_backward}
UNARY_ROW(elu, "Elu");
UNARY_ROW(softplus, "Softplus");
UNARY_ROW(mish, "Mish");
UNARY_ROW(erf, "Erf");
UNARY_ROW(sqrt, "Sqrt");
UNARY_ROW(exp, "Exp");
UNARY_ROW(log, "Log");
UNARY_ROW(neg, "Neg");
UNARY_ROW(abs, "Abs");
UNARY_ROW(reciprocal, "Reciprocal");
