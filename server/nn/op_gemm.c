/* Gemm: y = alpha x op(W) + beta bias over the rows of x; also MatMul with a constant, for x of any rank >= 2. */
#include <limits.h>

#include "server/nn/backend.h"
#include "server/nn/kernels.h"
#include "server/nn/op_rows.h"

/* x is `rows` rows of k floats, y as many rows of m floats; the bias has m floats or one. */
struct gemm_view {
    size_t rows, k, m;
    bool shared_bias;
};

static enum status gemm_infer(const struct network *network, const struct node *node, struct shape *out,
                              struct error *error) {
    char text_x[SHAPE_TEXT_SIZE], text_w[SHAPE_TEXT_SIZE];
    enum status status = op_check_arity(network, node, 2, 3, error);

    if (status == STATUS_OK) {
        status = op_check_data(network, node, 0, 2, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct shape *x = op_in_shape(network, node, 0);
    const struct shape *weight = op_in_shape(network, node, 1);
    if (network->values[node->inputs[1]].kind != VALUE_CONSTANT) {
        return op_refuse(node, error, STATUS_UNSUPPORTED, "got a computed weight, expected a constant");
    }
    if (node->attr.trans_a) {
        return op_refuse(node, error, STATUS_UNSUPPORTED, "got transA, expected none");
    }
    if (weight->rank != 2 || weight->dim[node->attr.trans_b ? 1 : 0] != x->dim[x->rank - 1]) {
        return op_refuse(node, error, STATUS_INVALID, "got shapes %s and %s%s, expected equal inner lengths",
                         shape_text(x, text_x), shape_text(weight, text_w), node->attr.trans_b ? " (transB)" : "");
    }
    if (weight->dim[0] > INT_MAX || weight->dim[1] > INT_MAX) {
        return op_refuse(node, error, STATUS_LIMIT, "got a weight of shape %s, expected at most %d rows and columns",
                         shape_text(weight, text_w), INT_MAX);
    }
    *out = *x;
    out->dim[x->rank - 1] = weight->dim[node->attr.trans_b ? 0 : 1];
    if (op_has_input(node, 2)) {
        const struct value *bias = &network->values[node->inputs[2]];
        size_t m = out->dim[out->rank - 1];
        size_t last = bias->shape.rank > 0 ? bias->shape.dim[bias->shape.rank - 1] : 1;
        if (bias->kind != VALUE_CONSTANT) {
            return op_refuse(node, error, STATUS_UNSUPPORTED, "got a computed bias, expected a constant");
        }
        if (bias->shape.rank > 2 || shape_count(&bias->shape) != last || (last != m && last != 1)) {
            return op_refuse(node, error, STATUS_UNSUPPORTED, "got a bias of shape %s, expected [%zu] or one value",
                             shape_text(&bias->shape, text_w), m);
        }
    }
    return STATUS_OK;
}

static struct gemm_view gemm_view(const struct op_args *args) {
    const struct shape *weight = op_in_shape(args->network, args->node, 1);
    const bool transposed = args->node->attr.trans_b;
    struct gemm_view view = {.k = weight->dim[transposed ? 1 : 0], .m = weight->dim[transposed ? 0 : 1]};

    view.rows = op_in_count(args, 0) / view.k;
    view.shared_bias = op_has_input(args->node, 2) && shape_count(op_in_shape(args->network, args->node, 2)) == 1;
    return view;
}

static void gemm_forward(const struct op_args *args) {
    const struct kernels *k = kernels();
    const struct op_attr *attr = &args->node->attr;
    const struct gemm_view v = gemm_view(args);

    for (size_t r = 0; r < v.rows; r++) {
        float *y = args->out + r * v.m;
        if (!op_has_input(args->node, 2)) {
            k->fill(v.m, 0.0f, y);
        } else if (v.shared_bias) {
            k->fill(v.m, attr->beta * args->in[2][0], y);
        } else {
            k->affine(v.m, attr->beta, 0.0f, args->in[2], y);
        }
    }
    backend_gemm(&(struct gemm_shape){.m = v.rows,
                                      .n = v.m,
                                      .k = v.k,
                                      .trans_b = attr->trans_b,
                                      .lda = v.k,
                                      .ldb = attr->trans_b ? v.k : v.m,
                                      .ldc = v.m,
                                      .alpha = attr->alpha,
                                      .beta = 1.0f},
                 args->in[0], args->in[1], args->out);
}

static void gemm_backward(const struct op_args *args) {
    const struct kernels *k = kernels();
    const struct op_attr *attr = &args->node->attr;
    const struct gemm_view v = gemm_view(args);
    const float *dy = args->dout;

    if (args->din[0] != NULL) { /* dx = alpha dy op(W)^T */
        backend_gemm(&(struct gemm_shape){.m = v.rows,
                                          .n = v.k,
                                          .k = v.m,
                                          .trans_b = !attr->trans_b,
                                          .lda = v.m,
                                          .ldb = attr->trans_b ? v.k : v.m,
                                          .ldc = v.k,
                                          .alpha = attr->alpha,
                                          .beta = args->accumulate[0] ? 1.0f : 0.0f},
                     dy, args->in[1], args->din[0]);
    }
    if (args->din[1] != NULL && attr->trans_b) { /* dW (m, k) += alpha dy^T x */
        backend_gemm(&(struct gemm_shape){.m = v.m,
                                          .n = v.k,
                                          .k = v.rows,
                                          .trans_a = true,
                                          .lda = v.m,
                                          .ldb = v.k,
                                          .ldc = v.k,
                                          .alpha = attr->alpha,
                                          .beta = 1.0f},
                     dy, args->in[0], args->din[1]);
    } else if (args->din[1] != NULL) { /* dW (k, m) += alpha x^T dy */
        backend_gemm(&(struct gemm_shape){.m = v.k,
                                          .n = v.m,
                                          .k = v.rows,
                                          .trans_a = true,
                                          .lda = v.k,
                                          .ldb = v.m,
                                          .ldc = v.m,
                                          .alpha = attr->alpha,
                                          .beta = 1.0f},
                     args->in[0], dy, args->din[1]);
    }
    if (op_has_input(args->node, 2) && args->din[2] != NULL) {
        for (size_t r = 0; r < v.rows; r++) {
            if (v.shared_bias) {
                args->din[2][0] += attr->beta * k->sum(v.m, dy + r * v.m);
            } else {
                k->axpy(v.m, attr->beta, dy + r * v.m, args->din[2]);
            }
        }
    }
}

const struct op op_row_gemm = {
    .name = "Gemm", .flags = OP_NEEDS_INPUT, .infer = gemm_infer, .forward = gemm_forward, .backward = gemm_backward};
