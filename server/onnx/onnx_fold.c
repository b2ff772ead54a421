/* Arithmetic on constants at load: what exporters write around a Reshape, and products of two initializers.
 *
 * Integers that came from Shape may be ONNX_BATCH, which survives only what leaves it as it is. */
#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "server/onnx/onnx_lower.h"
#include "server/onnx/onnx_parse.h"

static struct onnx_constant *new_constant(struct lower *lower, int32_t type, const struct shape *shape) {
    struct onnx_constant *constant = arena_alloc(lower->arena, 1, sizeof *constant);
    if (constant == NULL || !shape_count_checked(shape, &constant->count)) {
        return NULL;
    }
    constant->type = type;
    constant->shape = *shape;
    constant->name = onnx_text(lower->node->output[0]);
    constant->value = NETWORK_NONE;
    return constant;
}

enum status fold_floats(struct lower *lower, const struct shape *shape, float **data) {
    struct onnx_constant *constant = new_constant(lower, ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT, shape);
    *data = constant != NULL ? arena_alloc(lower->arena, constant->count, sizeof **data) : NULL;
    if (*data == NULL) {
        return error_no_memory(lower->error, "a folded constant");
    }
    constant->floats = *data;
    return lower_bind_constant(lower, constant);
}

enum status fold_integers(struct lower *lower, int32_t type, const struct shape *shape, int64_t **data) {
    struct onnx_constant *constant = new_constant(lower, type, shape);
    *data = constant != NULL ? arena_alloc(lower->arena, constant->count, sizeof **data) : NULL;
    if (*data == NULL) {
        return error_no_memory(lower->error, "a folded constant");
    }
    constant->integers = *data;
    return lower_bind_constant(lower, constant);
}

enum status fold_reshape(struct lower *lower, const struct onnx_constant *constant, const struct shape *shape) {
    struct onnx_constant *copy = new_constant(lower, constant->type, shape);
    if (copy == NULL) {
        return error_no_memory(lower->error, "a folded constant");
    }
    copy->floats = constant->floats;
    copy->integers = constant->integers;
    return lower_bind_constant(lower, copy);
}

size_t fold_source_index(const struct shape *out, const struct shape *in, size_t i) {
    size_t index = 0, step = 1;
    for (size_t k = 0; k < in->rank; k++) {
        size_t axis = in->rank - 1 - k;
        size_t coordinate = i % out->dim[out->rank - 1 - k];
        i /= out->dim[out->rank - 1 - k];
        index += (in->dim[axis] == 1 ? 0 : coordinate) * step;
        step *= in->dim[axis];
    }
    return index;
}

static float compute_float(enum op_kind op, float a, float b) {
    switch (op) {
    case OP_ADD:
        return a + b;
    case OP_SUB:
        return a - b;
    case OP_MUL:
        return a * b;
    case OP_POW:
        return powf(a, b);
    case OP_MIN:
        return fminf(a, b);
    case OP_MAX:
        return fmaxf(a, b);
    default:
        return a / b;
    }
}

/* Of multiples of the batch size: sums and differences with others, products and quotients with numbers. */
static bool compute_batch(enum op_kind op, int64_t a, int64_t b, int64_t *out) {
    int64_t left = 0, right = 0, times = 0;
    bool a_is = onnx_is_batch(a, &left), b_is = onnx_is_batch(b, &right);
    if (op == OP_ADD || op == OP_SUB) {
        if ((!a_is && a != 0) || (!b_is && b != 0)) {
            return false;
        }
        times = op == OP_ADD ? left + right : left - right;
    } else if (op == OP_MUL) {
        int64_t number = a_is ? b : a;
        if ((a_is && b_is) || number < 1 || __builtin_mul_overflow(a_is ? left : right, number, &times)) {
            return false;
        }
    } else if (op == OP_DIV && a_is) {
        int64_t by = b_is ? right : b;
        if (by < 1 || left % by != 0) {
            return false;
        }
        times = left / by;
        if (b_is) {
            *out = times;
            return true;
        }
    }
    if (times < 1 || times > ONNX_BATCH_TIMES_MAX) {
        return false;
    }
    *out = onnx_batch(times);
    return true;
}

/* false: overflow, division by zero, or a batch size that would not stay a multiple of one. */
static bool compute_integer(enum op_kind op, int64_t a, int64_t b, int64_t *out) {
    int64_t times = 0;
    if (onnx_is_batch(a, &times) || onnx_is_batch(b, &times)) {
        return compute_batch(op, a, b, out);
    }
    bool failed = false;
    switch (op) {
    case OP_MIN:
        *out = a < b ? a : b;
        break;
    case OP_MAX:
        *out = a > b ? a : b;
        break;
    case OP_POW:
        *out = 1;
        failed = b < 0 || b > 64; /* more overflows, but for bases that nobody raises to a power */
        for (int64_t i = 0; !failed && i < b; i++) {
            failed = __builtin_mul_overflow(*out, a, out);
        }
        break;
    case OP_ADD:
        failed = __builtin_add_overflow(a, b, out);
        break;
    case OP_SUB:
        failed = __builtin_sub_overflow(a, b, out);
        break;
    case OP_MUL:
        failed = __builtin_mul_overflow(a, b, out);
        break;
    default:
        failed = b == 0 || (a == INT64_MIN && b == -1);
        *out = failed ? 0 : a / b;
        break;
    }
    return !failed && !onnx_is_batch(*out, &times);
}

static enum status fold_float_arithmetic(struct lower *lower, enum op_kind op, const struct onnx_constant *a,
                                         const struct onnx_constant *b, const struct shape *out) {
    float *data = NULL;
    enum status status = fold_floats(lower, out, &data);
    size_t count = status == STATUS_OK ? shape_count(out) : 0;
    for (size_t i = 0; i < count; i++) {
        data[i] = compute_float(op, a->floats[fold_source_index(out, &a->shape, i)],
                                b->floats[fold_source_index(out, &b->shape, i)]);
        if (!isfinite(data[i])) {
            return lower_refuse(lower, STATUS_INVALID, "got %g at element %zu of constants, expected finite numbers",
                                (double)data[i], i);
        }
    }
    return status;
}

enum status fold_arithmetic(struct lower *lower, enum op_kind op) {
    const struct onnx_constant *a = lower_constant(lower, 0), *b = lower_constant(lower, 1);
    struct shape out = {0};
    char text[2][SHAPE_TEXT_SIZE];
    if (a->type != b->type || !shape_broadcast(&a->shape, &b->shape, &out)) {
        return lower_refuse(lower, STATUS_INVALID, "got %s %s and %s %s, expected one type and shapes that broadcast",
                            onnx_type_name(a->type), shape_text(&a->shape, text[0]), onnx_type_name(b->type),
                            shape_text(&b->shape, text[1]));
    }
    if (a->floats != NULL && a->type != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got constants of %s, expected float32",
                            onnx_type_name(a->type));
    }
    if (a->floats != NULL) {
        return fold_float_arithmetic(lower, op, a, b, &out);
    }
    int64_t *data = NULL;
    enum status status = fold_integers(lower, a->type, &out, &data);
    size_t count = status == STATUS_OK ? shape_count(&out) : 0;
    for (size_t i = 0; i < count; i++) {
        int64_t left = a->integers[fold_source_index(&out, &a->shape, i)];
        int64_t right = b->integers[fold_source_index(&out, &b->shape, i)];
        if (!compute_integer(op, left, right, &data[i])) {
            return lower_refuse(lower, STATUS_UNSUPPORTED,
                                "got integers at element %zu that overflow, divide by zero or compute with the batch "
                                "size",
                                i);
        }
    }
    return status;
}

/* The data of a constant as bytes, for moves that do not look at it. */
static const unsigned char *bytes_of(const struct onnx_constant *constant, size_t *width) {
    *width = constant->floats != NULL ? sizeof *constant->floats : sizeof *constant->integers;
    return constant->floats != NULL ? (const unsigned char *)constant->floats
                                    : (const unsigned char *)constant->integers;
}

/* A constant of the type of `like` and another shape; *data is to be filled. */
static enum status fold_like(struct lower *lower, const struct onnx_constant *like, const struct shape *shape,
                             unsigned char **data) {
    enum status status = STATUS_OK;
    if (like->floats != NULL) {
        float *floats = NULL;
        if (like->type != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT) {
            return lower_refuse(lower, STATUS_UNSUPPORTED, "got constants of %s, expected float32",
                                onnx_type_name(like->type));
        }
        status = fold_floats(lower, shape, &floats);
        *data = (unsigned char *)floats;
    } else {
        int64_t *integers = NULL;
        status = fold_integers(lower, like->type, shape, &integers);
        *data = (unsigned char *)integers;
    }
    return status;
}

/* The shape of the result; all inputs agree in type, rank and every dimension but `axis`. */
static enum status concat_shape(struct lower *lower, size_t axis, struct shape *out) {
    const struct onnx_constant *first = lower_constant(lower, 0);
    *out = first->shape;
    for (size_t i = 1; i < lower->node->n_input; i++) {
        const struct onnx_constant *next = lower_constant(lower, i);
        bool fits = next->type == first->type && next->shape.rank == first->shape.rank;
        for (size_t k = 0; fits && k < first->shape.rank; k++) {
            fits = k == axis || next->shape.dim[k] == first->shape.dim[k];
        }
        if (!fits || __builtin_add_overflow(out->dim[axis], next->shape.dim[axis], &out->dim[axis])) {
            return lower_refuse(lower, STATUS_INVALID,
                                "got input %zu of another type or shape, expected that of input 0", i);
        }
    }
    return STATUS_OK;
}

enum status fold_concat(struct lower *lower) {
    const struct onnx_constant *first = lower_constant(lower, 0);
    struct shape out = {0};
    unsigned char *data = NULL;
    int64_t attribute = 0;
    size_t axis = 0, outer = 1, written = 0;
    enum status status = lower_attr_int(lower, "axis", 0, &attribute);
    if (status == STATUS_OK) {
        status = lower_axis(lower, attribute, first->shape.rank, &axis);
    }
    if (status == STATUS_OK) {
        status = concat_shape(lower, axis, &out);
    }
    if (status == STATUS_OK) {
        status = fold_like(lower, first, &out, &data);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (shape_count(&out) == 0) {
        return STATUS_OK; /* without data the other dimensions may be anything, so they must not count a loop */
    }
    for (size_t i = 0; i < axis; i++) {
        outer *= out.dim[i];
    }
    for (size_t row = 0; row < outer; row++) {
        for (size_t i = 0; i < lower->node->n_input; i++) {
            const struct onnx_constant *next = lower_constant(lower, i);
            size_t width = 0;
            const unsigned char *source = bytes_of(next, &width);
            size_t bytes = shape_count_from(&next->shape, axis) * width;
            memcpy(data + written, source + row * bytes, bytes);
            written += bytes;
        }
    }
    return STATUS_OK;
}

enum status lower_permutation(struct lower *lower, size_t rank, size_t perm[SHAPE_RANK_MAX]) {
    const int64_t *values = NULL;
    size_t count = 0;
    bool seen[SHAPE_RANK_MAX] = {false};
    enum status status = lower_attr_ints(lower, "perm", &values, &count);
    if (status != STATUS_OK) {
        return status;
    }
    if (values != NULL && count != rank) {
        return lower_refuse(lower, STATUS_INVALID, "got %zu axes in 'perm', expected %zu", count, rank);
    }
    for (size_t i = 0; i < rank; i++) {
        perm[i] = rank - 1 - i; /* without perm the axes are reversed */
        if (values != NULL) {
            status = lower_axis(lower, values[i], rank, &perm[i]);
        }
        if (status != STATUS_OK) {
            return status;
        }
        if (seen[perm[i]]) {
            return lower_refuse(lower, STATUS_INVALID, "got axis %zu twice in 'perm', expected it once", perm[i]);
        }
        seen[perm[i]] = true;
    }
    return STATUS_OK;
}

enum status fold_transpose(struct lower *lower) {
    const struct onnx_constant *in = lower_constant(lower, 0);
    size_t perm[SHAPE_RANK_MAX] = {0}, width = 0;
    unsigned char *data = NULL;
    struct shape out = {.rank = in->shape.rank};
    enum status status = lower_permutation(lower, in->shape.rank, perm);
    for (size_t i = 0; status == STATUS_OK && i < out.rank; i++) {
        out.dim[i] = in->shape.dim[perm[i]];
    }
    if (status == STATUS_OK) {
        status = fold_like(lower, in, &out, &data);
    }
    if (status != STATUS_OK) {
        return status;
    }
    const unsigned char *source = bytes_of(in, &width);
    for (size_t i = 0; i < in->count; i++) {
        size_t rest = i, index = 0;
        for (size_t k = out.rank; k > 0; k--) {
            index += rest % out.dim[k - 1] * shape_count_from(&in->shape, perm[k - 1] + 1);
            rest /= out.dim[k - 1];
        }
        memcpy(data + i * width, source + index * width, width);
    }
    return STATUS_OK;
}

/* The loops below work on any constant as bytes. A result is small: what is copied here is bounded by the limit on
 * activations. */
enum status fold_strided(struct lower *lower, const struct onnx_constant *constant, const struct fold_walk *walk) {
    unsigned char *data = NULL;
    size_t width = 0, count = 0;
    if (!shape_count_checked(&walk->shape, &count) || count > lower->limits->max_activation) {
        return lower_refuse(lower, STATUS_LIMIT, "got a constant of more than %zu values",
                            lower->limits->max_activation);
    }
    enum status status = fold_like(lower, constant, &walk->shape, &data);
    if (status != STATUS_OK) {
        return status;
    }
    const unsigned char *source = bytes_of(constant, &width);
    for (size_t i = 0; i < count; i++) {
        size_t rest = i, index = 0;
        for (size_t k = walk->shape.rank; k-- > 0;) {
            ptrdiff_t moved = (ptrdiff_t)(rest % walk->shape.dim[k]) * walk->step[k];
            index += (walk->start[k] + (size_t)moved) * shape_count_from(&constant->shape, k + 1);
            rest /= walk->shape.dim[k];
        }
        memcpy(data + i * width, source + index * width, width);
    }
    return STATUS_OK;
}

enum status fold_gather(struct lower *lower, const struct onnx_constant *from, const struct onnx_constant *indices,
                        size_t axis) {
    struct shape out = {.rank = 0};
    unsigned char *data = NULL;
    size_t width = 0, count = 0;
    if (from->shape.rank - 1 + indices->shape.rank > SHAPE_RANK_MAX) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got a result of more than %d axes", SHAPE_RANK_MAX);
    }
    for (size_t d = 0; d < from->shape.rank; d++) {
        if (d != axis) {
            out.dim[out.rank++] = from->shape.dim[d];
        }
        for (size_t k = 0; d == axis && k < indices->shape.rank; k++) {
            out.dim[out.rank++] = indices->shape.dim[k];
        }
    }
    if (!shape_count_checked(&out, &count) || count > lower->limits->max_activation) {
        return lower_refuse(lower, STATUS_LIMIT, "got a constant of more than %zu values",
                            lower->limits->max_activation);
    }
    enum status status = fold_like(lower, from, &out, &data);
    const unsigned char *source = bytes_of(from, &width);
    size_t inner = shape_count_from(&from->shape, axis + 1), length = from->shape.dim[axis];
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        size_t index = 0, at = i / inner, outer = at / indices->count;
        status = lower_index(lower, indices->integers[at % indices->count], length, &index);
        if (status == STATUS_OK) {
            memcpy(data + i * width, source + ((outer * length + index) * inner + i % inner) * width, width);
        }
    }
    return status;
}

enum status fold_unary(struct lower *lower, float (*function)(float)) {
    const struct onnx_constant *x = lower_constant(lower, 0);
    float *data = NULL;
    enum status status = lower_arity(lower, 1, 1);
    if (status != STATUS_OK) {
        return status;
    }
    if (x->type != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT) {
        return lower_refuse(lower, STATUS_UNSUPPORTED, "got constants of %s, expected float32",
                            onnx_type_name(x->type));
    }
    status = fold_floats(lower, &x->shape, &data);
    for (size_t i = 0; status == STATUS_OK && i < x->count; i++) {
        data[i] = function(x->floats[i]);
        if (!isfinite(data[i])) {
            return lower_refuse(lower, STATUS_INVALID, "got %g at element %zu of constants, expected finite numbers",
                                (double)data[i], i);
        }
    }
    return status;
}
