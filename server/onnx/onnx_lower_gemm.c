/* Gemm, and MatMul: with a constant matrix it is a Gemm without bias, else a product of stacks. */
#include "server/onnx/onnx_lower.h"

static enum status check_matrix(struct lower *lower, size_t value, const char *what) {
    const struct shape *shape = lower_shape(lower, value);
    if (shape->rank == 2) {
        return STATUS_OK;
    }
    char text[SHAPE_TEXT_SIZE];
    return lower_refuse(lower, STATUS_UNSUPPORTED, "got %s of shape %s, expected rank 2", what,
                        shape_text(shape, text));
}

enum status lower_gemm(struct lower *lower) {
    struct op_attr attr = {0};
    size_t inputs[3] = {NETWORK_NONE, NETWORK_NONE, NETWORK_NONE};
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
        status = lower_value(lower, 0, &inputs[0]);
    }
    if (status == STATUS_OK) {
        status = lower_weight(lower, 1, &inputs[1]);
    }
    if (status == STATUS_OK && lower_has_input(lower, 2)) {
        status = lower_weight(lower, 2, &inputs[2]);
    }
    if (status == STATUS_OK) {
        status = check_matrix(lower, inputs[0], "an input");
    }
    if (status == STATUS_OK) {
        status = check_matrix(lower, inputs[1], "a weight");
    }
    return status != STATUS_OK ? status : lower_emit(lower, OP_GEMM, inputs, lower_has_input(lower, 2) ? 3 : 2, &attr);
}

/* The input may have more axes than two: all but the last are rows. */
enum status lower_matmul(struct lower *lower) {
    struct op_attr attr = {.alpha = 1.0F, .beta = 1.0F};
    size_t inputs[2] = {NETWORK_NONE, NETWORK_NONE};
    enum status status = lower_arity(lower, 2, 2);
    const struct onnx_constant *right = status == STATUS_OK ? lower_constant(lower, 1) : NULL;
    bool is_gemm = right != NULL && right->shape.rank == 2 && lower_constant(lower, 0) == NULL;
    for (size_t i = 0; status == STATUS_OK && i < 2; i++) {
        status = lower_operand(lower, i, &inputs[i]);
    }
    return status != STATUS_OK ? status : lower_emit(lower, is_gemm ? OP_GEMM : OP_MATMUL, inputs, 2, &attr);
}
