/* MatMul of matrices in stacks: (..., M, K) times (..., K, P), the leading axes broadcast. At least one side is computed; a
 * constant side is the same for every sample. A computed stack times one constant matrix is a Gemm, which is faster. */
#include <limits.h>
#include <string.h>

#include "server/nn/backend.h"
#include "server/nn/op_rows.h"

static enum status matmul_infer(const struct network *network, const struct node *node, struct shape *out,
                                struct error *error) {
    char text_a[SHAPE_TEXT_SIZE], text_b[SHAPE_TEXT_SIZE];
    enum status status = op_check_arity(network, node, 2, 2, error);

    if (status != STATUS_OK) {
        return status;
    }
    const struct value *a = &network->values[node->inputs[0]], *b = &network->values[node->inputs[1]];
    struct shape lead_a = a->shape, lead_b = b->shape;
    if (a->shape.rank < 2 || b->shape.rank < 2 || a->shape.dim[a->shape.rank - 1] != b->shape.dim[b->shape.rank - 2]) {
        return op_refuse(node, error, STATUS_INVALID, "got shapes %s and %s, expected equal inner lengths",
                         shape_text(&a->shape, text_a), shape_text(&b->shape, text_b));
    }
    lead_a.rank -= 2;
    lead_b.rank -= 2;
    if (!shape_broadcast(&lead_a, &lead_b, out)) {
        return op_refuse(node, error, STATUS_INVALID, "got shapes %s and %s, expected leading axes that broadcast",
                         shape_text(&a->shape, text_a), shape_text(&b->shape, text_b));
    }
    size_t rank = out->rank;
    bool keeps = rank >= 1 && (a->kind != VALUE_CONSTANT || b->kind != VALUE_CONSTANT);
    for (size_t i = 0; keeps && i < 2; i++) {
        const struct value *side = i == 0 ? a : b;
        bool constant = side->kind == VALUE_CONSTANT;
        keeps = constant ? side->shape.rank - 2 < rank || side->shape.dim[0] == 1
                         : side->shape.rank - 2 == rank && side->shape.dim[0] == out->dim[0];
    }
    if (!keeps || rank + 2 > SHAPE_RANK_MAX) {
        return op_refuse(node, error, STATUS_UNSUPPORTED,
                         "got shapes %s and %s, expected a batch as the first axis of what is computed",
                         shape_text(&a->shape, text_a), shape_text(&b->shape, text_b));
    }
    out->dim[rank] = a->shape.dim[a->shape.rank - 2];
    out->dim[rank + 1] = b->shape.dim[b->shape.rank - 1];
    out->rank = rank + 2;
    if (out->dim[rank] > INT_MAX || out->dim[rank + 1] > INT_MAX || a->shape.dim[a->shape.rank - 1] > INT_MAX) {
        return op_refuse(node, error, STATUS_LIMIT, "got a matrix of more than %d rows or columns", INT_MAX);
    }
    return STATUS_OK;
}

struct matmul_view {
    size_t m, k, p; /* of one matrix */
    size_t count;   /* matrices of the result, all samples */
    size_t rank;    /* leading axes */
    size_t extent[SHAPE_RANK_MAX];
    size_t step[2][SHAPE_RANK_MAX]; /* floats that each side moves a step of a leading axis */
};

static struct matmul_view matmul_view(const struct op_args *args) {
    const struct value *values = args->network->values;
    const struct shape *out = &values[args->node->output].shape;
    const struct shape *a = op_in_shape(args->network, args->node, 0);
    struct matmul_view v = {.rank = out->rank - 2, .m = out->dim[out->rank - 2], .p = out->dim[out->rank - 1]};

    v.k = a->dim[a->rank - 1];
    v.count = op_out_count(args) / (v.m * v.p);
    for (size_t d = 0; d < v.rank; d++) {
        v.extent[d] = out->dim[d] * (d == 0 ? args->n : 1);
    }
    for (size_t i = 0; i < 2; i++) {
        const struct value *side = &values[args->node->inputs[i]];
        size_t missing = out->rank - side->shape.rank, next = i == 0 ? v.m * v.k : v.k * v.p;
        for (size_t d = v.rank; d-- > missing;) {
            bool walks = side->shape.dim[d - missing] > 1 || (d == 0 && side->kind != VALUE_CONSTANT);
            v.step[i][d] = walks ? next : 0;
            next *= side->shape.dim[d - missing];
        }
    }
    return v;
}

/* Offset of matrix `index` of the result in side i. */
static size_t offset_of(const struct matmul_view *v, size_t i, size_t index) {
    size_t offset = 0;

    for (size_t d = v->rank; d-- > 0;) {
        offset += index % v->extent[d] * v->step[i][d];
        index /= v->extent[d];
    }
    return offset;
}

static void matmul_forward(const struct op_args *args) {
    const struct matmul_view v = matmul_view(args);
    const struct gemm_shape shape = {
        .m = v.m, .n = v.p, .k = v.k, .lda = v.k, .ldb = v.p, .ldc = v.p, .alpha = 1.0f, .beta = 0.0f};

    for (size_t i = 0; i < v.count; i++) {
        backend_gemm(&shape, args->in[0] + offset_of(&v, 0, i), args->in[1] + offset_of(&v, 1, i),
                     args->out + i * v.m * v.p);
    }
}

/* A side that is broadcast gets the sum over its uses: all its gradients are added to zeros. */
static void matmul_backward(const struct op_args *args) {
    const struct matmul_view v = matmul_view(args);
    const struct gemm_shape by_a = {
        .m = v.m, .n = v.k, .k = v.p, .trans_b = true, .lda = v.p, .ldb = v.p, .ldc = v.k, .alpha = 1.0f, .beta = 1.0f};
    const struct gemm_shape by_b = {
        .m = v.k, .n = v.p, .k = v.m, .trans_a = true, .lda = v.k, .ldb = v.p, .ldc = v.p, .alpha = 1.0f, .beta = 1.0f};

    for (size_t side = 0; side < 2; side++) {
        if (args->din[side] != NULL && !args->accumulate[side]) {
            memset(args->din[side], 0, op_in_count(args, side) * sizeof(float));
        }
    }
    for (size_t i = 0; i < v.count; i++) {
        const float *dy = args->dout + i * v.m * v.p;
        size_t a = offset_of(&v, 0, i), b = offset_of(&v, 1, i);
        if (args->din[0] != NULL) {
            backend_gemm(&by_a, dy, args->in[1] + b, args->din[0] + a);
        }
        if (args->din[1] != NULL) {
            backend_gemm(&by_b, args->in[0] + a, dy, args->din[1] + b);
        }
    }
}

const struct op op_row_matmul = {.name = "MatMul",
                                 .flags = OP_NEEDS_INPUT,
                                 .infer = matmul_infer,
                                 .forward = matmul_forward,
                                 .backward = matmul_backward};
