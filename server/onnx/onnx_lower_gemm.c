/* Gemm, and MatMul: with a constant matrix it is a Gemm without bias, else a product of stacks. */
#include "server/onnx/onnx_lower.h"

static enum status check_matrix(struct lower *lower, const struct shape *shape, const char *what) {
    if (shape->rank == 2) {
        return STATUS_OK;
    }
    char text[SHAPE_TEXT_SIZE];
    return lower_refuse(lower, STATUS_UNSUPPORTED, "got %s of shape %s, expected rank 2", what,
                        shape_text(shape, text));
}

/* The batch may be anywhere but along the axis that is summed over, the last. */
static enum status check_rows(struct lower *lower, const struct lower_view *x, size_t free_axes) {
    char text[SHAPE_TEXT_SIZE];
    if (x->layout.axis == LOWER_HIDDEN || x->layout.axis + free_axes < x->shape.rank) {
        return STATUS_OK;
    }
    return lower_refuse(lower, STATUS_UNSUPPORTED,
                        "got shape %s (for one sample) with the batch at axis %zu, expected it before the matrices",
                        shape_text(&x->shape, text), x->layout.axis);
}

enum status lower_gemm(struct lower *lower) {
    struct op_attr attr = {0};
    size_t inputs[3] = {NETWORK_NONE, NETWORK_NONE, NETWORK_NONE};
    struct lower_view x;
    enum status status = lower_arity(lower, 2, 3);
    if (status == STATUS_OK) {
        status = lower_attr_bool(lower, "transA", false, &attr.trans_a);
    }
    if (status == STATUS_OK && attr.trans_a) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got transA = 1, expected 0 (samples are rows)");
    }
    if (status == STATUS_OK) {
        status = lower_attr_bool(lower, "transB", false, &attr.trans_b);
    }
    if (status == STATUS_OK) {
        status = lower_attr_float(lower, "alpha", 1.0F, &attr.alpha);
    }
    if (status == STATUS_OK) {
        status = lower_attr_float(lower, "beta", 1.0F, &attr.beta);
    }
    if (status == STATUS_OK) {
        status = lower_view(lower, 0, &x);
    }
    if (status == STATUS_OK) {
        status = lower_weight(lower, 1, &inputs[1]);
    }
    if (status == STATUS_OK && lower_has_input(lower, 2)) {
        status = lower_weight(lower, 2, &inputs[2]);
    }
    if (status == STATUS_OK) {
        status = check_matrix(lower, &x.shape, "an input");
    }
    if (status == STATUS_OK) {
        status = check_matrix(lower, lower_shape(lower, inputs[1]), "a weight");
    }
    if (status == STATUS_OK) {
        status = check_rows(lower, &x, 1);
    }
    if (status != STATUS_OK) {
        return status;
    }
    inputs[0] = x.value;
    return lower_emit_in(lower, OP_GEMM, inputs, lower_has_input(lower, 2) ? 3 : 2, &attr, &x.layout);
}

/* The input may have more axes than two: all but the last are rows. */
enum status lower_matmul(struct lower *lower) {
    struct op_attr attr = {.alpha = 1.0F, .beta = 1.0F};
    size_t inputs[2] = {NETWORK_NONE, NETWORK_NONE};
    struct lower_view like;
    enum status status = lower_arity(lower, 2, 2);
    const struct onnx_constant *right = status == STATUS_OK ? lower_constant(lower, 1) : NULL;
    bool is_gemm = right != NULL && right->shape.rank == 2 && lower_constant(lower, 0) == NULL;
    if (status == STATUS_OK && is_gemm) {
        status = lower_view(lower, 0, &like);
        inputs[0] = status == STATUS_OK ? like.value : NETWORK_NONE;
    } else if (status == STATUS_OK) {
        status = lower_aligned(lower, 0, 2, inputs, &like);
    }
    if (status == STATUS_OK && is_gemm) {
        status = lower_weight(lower, 1, &inputs[1]);
    }
    if (status == STATUS_OK) {
        status = check_rows(lower, &like, is_gemm ? 1 : 2);
    }
    return status != STATUS_OK ? status
                               : lower_emit_in(lower, is_gemm ? OP_GEMM : OP_MATMUL, inputs, 2, &attr, &like.layout);
}
