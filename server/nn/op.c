/* The op table: one row a kind, in the order of enum op_kind. */
#include "server/nn/op.h"

#include "server/nn/op_rows.h"

static const struct op *const op_table[OP_KIND_COUNT] = {
    [OP_CONV] = &op_row_conv,
    [OP_BATCH_NORM] = &op_row_batch_norm,
    [OP_GEMM] = &op_row_gemm,
    [OP_RELU] = &op_row_relu,
    [OP_LEAKY_RELU] = &op_row_leaky_relu,
    [OP_CLIP] = &op_row_clip,
    [OP_SIGMOID] = &op_row_sigmoid,
    [OP_TANH] = &op_row_tanh,
    [OP_HARD_SIGMOID] = &op_row_hard_sigmoid,
    [OP_HARD_SWISH] = &op_row_hard_swish,
    [OP_SOFTMAX] = &op_row_softmax,
    [OP_ADD] = &op_row_add,
    [OP_SUB] = &op_row_sub,
    [OP_MUL] = &op_row_mul,
    [OP_DIV] = &op_row_div,
    [OP_MAX_POOL] = &op_row_max_pool,
    [OP_AVERAGE_POOL] = &op_row_average_pool,
    [OP_GLOBAL_AVERAGE_POOL] = &op_row_global_average_pool,
    [OP_GLOBAL_MAX_POOL] = &op_row_global_max_pool,
    [OP_REDUCE_MEAN] = &op_row_reduce_mean,
    [OP_CONCAT] = &op_row_concat,
    [OP_RESHAPE] = &op_row_reshape,
    [OP_TRANSPOSE] = &op_row_transpose,
    [OP_PAD] = &op_row_pad,
    [OP_IDENTITY] = &op_row_identity,
    [OP_ELU] = &op_row_elu,
    [OP_SOFTPLUS] = &op_row_softplus,
    [OP_MISH] = &op_row_mish,
    [OP_ERF] = &op_row_erf,
    [OP_SQRT] = &op_row_sqrt,
    [OP_EXP] = &op_row_exp,
    [OP_LOG] = &op_row_log,
    [OP_NEG] = &op_row_neg,
    [OP_ABS] = &op_row_abs,
    [OP_RECIPROCAL] = &op_row_reciprocal,
    [OP_LOG_SOFTMAX] = &op_row_log_softmax,
    [OP_POW] = &op_row_pow,
    [OP_MIN] = &op_row_min,
    [OP_MAX] = &op_row_max,
    [OP_PRELU] = &op_row_prelu,
    [OP_REDUCE_SUM] = &op_row_reduce_sum,
    [OP_REDUCE_MAX] = &op_row_reduce_max,
    [OP_SLICE] = &op_row_slice,
    [OP_MATMUL] = &op_row_matmul,
    [OP_RESIZE] = &op_row_resize,
    [OP_MASK] = &op_row_mask,
};

const struct op *op_find(enum op_kind kind) {
    /* The cast catches a negative value of a corrupt enum as well. */
    return (size_t)kind < OP_KIND_COUNT ? op_table[kind] : NULL;
}

const char *op_kind_name(enum op_kind op) {
    const struct op *row = op_find(op);

    return row != NULL ? row->name : "unknown operator";
}
