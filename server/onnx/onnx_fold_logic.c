/* Comparisons, Where, Not, And, Or, Mod, Range and ScatterND of constants: what exporters write around an Expand, and the masks
 * of shifted windows, which are computed from sizes alone. */
#include <math.h>
#include <string.h>

#include "server/onnx/onnx_lower.h"
#include "server/onnx/onnx_parse.h"

enum { OPERANDS_MAX = 3 };

/* A refusal is never STATUS_OK: operands are all there, or the caller knows that they are not. */
static enum status refused(enum status status) {
    return status == STATUS_OK ? STATUS_INTERNAL : status;
}

/* `count` constant inputs and the shape that they broadcast to. */
static enum status read_operands(struct lower *lower, size_t count, const struct onnx_constant *operands[OPERANDS_MAX],
                                 struct shape *out) {
    enum status status = lower_arity(lower, count, count);
    size_t elements = 0;
    char text[2][SHAPE_TEXT_SIZE];
    *out = (struct shape){.rank = 0};
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        struct shape wider = {0};
        operands[i] = lower_constant(lower, i);
        if (operands[i] == NULL) {
            bool there = lower_has_input(lower, i);
            return refused(lower_refuse(lower, there ? STATUS_UNSUPPORTED : STATUS_INVALID,
                                        "got %s as input %zu, expected a constant",
                                        there ? "a computed value" : "nothing", i));
        }
        if (!shape_broadcast(out, &operands[i]->shape, &wider)) {
            return refused(lower_refuse(lower, STATUS_INVALID, "got shape %s as input %zu, expected one that fits %s",
                                        shape_text(&operands[i]->shape, text[0]), i, shape_text(out, text[1])));
        }
        *out = wider;
    }
    if (status == STATUS_OK && (!shape_count_checked(out, &elements) || elements > lower->limits->max_activation)) {
        return refused(
            lower_refuse(lower, STATUS_LIMIT, "got a constant of more than %zu values", lower->limits->max_activation));
    }
    return status;
}

static enum status refuse_types(struct lower *lower, const struct onnx_constant *a, const struct onnx_constant *b) {
    return lower_refuse(lower, STATUS_UNSUPPORTED, "got constants of %s and %s, expected one type of numbers",
                        onnx_type_name(a->type), onnx_type_name(b->type));
}

/* -1, 0, 1 for less, equal, greater. */
static int order_of(const struct onnx_constant *a, size_t i, const struct onnx_constant *b, size_t k) {
    if (a->floats != NULL) {
        return (a->floats[i] > b->floats[k]) - (a->floats[i] < b->floats[k]);
    }
    return (a->integers[i] > b->integers[k]) - (a->integers[i] < b->integers[k]);
}

/* The batch size equals only itself, and is neither less nor greater than a number. */
static bool is_open(const struct onnx_constant *a, size_t i) {
    int64_t times = 0;
    return a->integers != NULL && onnx_is_batch(a->integers[i], &times);
}

enum status lower_compare(struct lower *lower) {
    const struct onnx_constant *operands[OPERANDS_MAX] = {NULL};
    struct shape out = {0};
    int64_t *data = NULL;
    const char *operator= onnx_text(lower->node->op_type);
    bool equal = strcmp(operator, "Equal") == 0, or_equal = strstr(operator, "OrEqual") != NULL;
    int wanted = equal ? 0 : strncmp(operator, "Less", 4) == 0 ? -1 : 1;
    enum status status = read_operands(lower, 2, operands, &out);
    if (status == STATUS_OK && (operands[0]->floats == NULL) != (operands[1]->floats == NULL)) {
        return refuse_types(lower, operands[0], operands[1]);
    }
    if (status == STATUS_OK) {
        status = fold_integers(lower, ONNX__TENSOR_PROTO__DATA_TYPE__BOOL, &out, &data);
    }
    for (size_t i = 0; status == STATUS_OK && i < shape_count(&out); i++) {
        size_t a = fold_source_index(&out, &operands[0]->shape, i), b = fold_source_index(&out, &operands[1]->shape, i);
        int order = order_of(operands[0], a, operands[1], b);
        if (!equal && (is_open(operands[0], a) || is_open(operands[1], b))) {
            return lower_refuse(lower, STATUS_UNSUPPORTED, "got the batch size at element %zu, expected numbers", i);
        }
        data[i] = order == wanted || (or_equal && order == 0);
    }
    return status;
}

enum status lower_where(struct lower *lower) {
    const struct onnx_constant *operands[OPERANDS_MAX] = {NULL};
    struct shape out = {0};
    float *floats = NULL;
    int64_t *integers = NULL;
    enum status status = read_operands(lower, 3, operands, &out);
    if (status != STATUS_OK) {
        return status;
    }
    if (operands[0]->integers == NULL || operands[1]->type != operands[2]->type) {
        return refuse_types(lower, operands[1], operands[2]);
    }
    bool is_float = operands[1]->floats != NULL;
    status = is_float ? fold_floats(lower, &out, &floats) : fold_integers(lower, operands[1]->type, &out, &integers);
    for (size_t i = 0; status == STATUS_OK && i < shape_count(&out); i++) {
        bool first = operands[0]->integers[fold_source_index(&out, &operands[0]->shape, i)] != 0;
        const struct onnx_constant *from = operands[first ? 1 : 2];
        size_t at = fold_source_index(&out, &from->shape, i);
        if (is_float) {
            floats[i] = from->floats[at];
        } else {
            integers[i] = from->integers[at];
        }
    }
    return status;
}

enum status lower_not(struct lower *lower) {
    const struct onnx_constant *operands[OPERANDS_MAX] = {NULL};
    struct shape out = {0};
    int64_t *data = NULL;
    enum status status = read_operands(lower, 1, operands, &out);
    if (status == STATUS_OK && operands[0]->integers == NULL) {
        return refuse_types(lower, operands[0], operands[0]);
    }
    if (status == STATUS_OK) {
        status = fold_integers(lower, ONNX__TENSOR_PROTO__DATA_TYPE__BOOL, &out, &data);
    }
    for (size_t i = 0; status == STATUS_OK && i < operands[0]->count; i++) {
        data[i] = operands[0]->integers[i] == 0;
    }
    return status;
}

enum status lower_logic(struct lower *lower) {
    const struct onnx_constant *operands[OPERANDS_MAX] = {NULL};
    struct shape out = {0};
    int64_t *data = NULL;
    bool both = strcmp(onnx_text(lower->node->op_type), "And") == 0;
    enum status status = read_operands(lower, 2, operands, &out);
    if (status == STATUS_OK && (operands[0]->integers == NULL || operands[1]->integers == NULL)) {
        return refuse_types(lower, operands[0], operands[1]);
    }
    if (status == STATUS_OK) {
        status = fold_integers(lower, ONNX__TENSOR_PROTO__DATA_TYPE__BOOL, &out, &data);
    }
    for (size_t i = 0; status == STATUS_OK && i < shape_count(&out); i++) {
        bool a = operands[0]->integers[fold_source_index(&out, &operands[0]->shape, i)] != 0;
        bool b = operands[1]->integers[fold_source_index(&out, &operands[1]->shape, i)] != 0;
        data[i] = both ? a && b : a || b;
    }
    return status;
}

/* false: no number. With fmod the result has the sign of a, as in C, else that of b, as in Python. */
static bool integer_modulo(int64_t a, int64_t b, bool c_like, int64_t *out) {
    int64_t times = 0;
    if (onnx_is_batch(a, &times)) { /* a multiple of b whatever the batch is, or not known */
        *out = 0;
        return b > 0 && !onnx_is_batch(b, &times) && times % b == 0;
    }
    if (b == 0 || onnx_is_batch(b, &times) || (a == INT64_MIN && b == -1)) {
        return false;
    }
    *out = a % b;
    if (!c_like && *out != 0 && (*out < 0) != (b < 0)) {
        *out += b;
    }
    return !onnx_is_batch(*out, &times);
}

static enum status modulo_of_floats(struct lower *lower, const struct onnx_constant *a, const struct onnx_constant *b,
                                    const struct shape *out) {
    float *data = NULL;
    enum status status = fold_floats(lower, out, &data);
    for (size_t i = 0; status == STATUS_OK && i < shape_count(out); i++) {
        data[i] =
            fmodf(a->floats[fold_source_index(out, &a->shape, i)], b->floats[fold_source_index(out, &b->shape, i)]);
        if (!isfinite(data[i])) {
            return lower_refuse(lower, STATUS_INVALID, "got %g at element %zu of constants, expected finite numbers",
                                (double)data[i], i);
        }
    }
    return status;
}

enum status lower_mod(struct lower *lower) {
    const struct onnx_constant *operands[OPERANDS_MAX] = {NULL};
    struct shape out = {0};
    int64_t *data = NULL;
    bool c_like = false;
    enum status status = read_operands(lower, 2, operands, &out);
    if (status == STATUS_OK) {
        status = lower_attr_bool(lower, "fmod", false, &c_like);
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct onnx_constant *a = operands[0], *b = operands[1];
    if (a->type != b->type || (a->floats != NULL && !c_like)) {
        return refuse_types(lower, a, b);
    }
    if (a->floats != NULL) {
        return modulo_of_floats(lower, a, b, &out);
    }
    status = fold_integers(lower, a->type, &out, &data);
    for (size_t i = 0; status == STATUS_OK && i < shape_count(&out); i++) {
        if (!integer_modulo(a->integers[fold_source_index(&out, &a->shape, i)],
                            b->integers[fold_source_index(&out, &b->shape, i)], c_like, &data[i])) {
            return lower_refuse(lower, STATUS_UNSUPPORTED,
                                "got integers at element %zu that divide by zero or compute with the batch size", i);
        }
    }
    return status;
}

/* How many integers start, start + delta, ... there are before the limit: exactly, where doubles would count one beyond it. */
static double count_integers(int64_t start, int64_t limit, int64_t delta) {
    const bool up = delta > 0;
    const uint64_t span = up ? (uint64_t)limit - (uint64_t)start : (uint64_t)start - (uint64_t)limit;
    const uint64_t step = up ? (uint64_t)delta : 0 - (uint64_t)delta;
    if (up ? limit <= start : limit >= start) {
        return 0;
    }
    if (step == 0) {
        return INFINITY;
    }
    const uint64_t count = span / step + (span % step != 0 ? 1 : 0);
    return (double)count;
}

/* start, start + delta, ... below the limit. */
enum status lower_range(struct lower *lower) {
    const struct onnx_constant *operands[OPERANDS_MAX] = {NULL};
    struct shape out = {0};
    float *floats = NULL;
    int64_t *integers = NULL, times = 0;
    double number[OPERANDS_MAX] = {0};
    int64_t whole[OPERANDS_MAX] = {0};
    enum status status = read_operands(lower, 3, operands, &out);
    for (size_t i = 0; status == STATUS_OK && i < OPERANDS_MAX; i++) {
        const struct onnx_constant *operand = operands[i];
        if (operand->count != 1 || operand->type != operands[0]->type) {
            return refuse_types(lower, operands[0], operand);
        }
        if (operand->integers != NULL && onnx_is_batch(operand->integers[0], &times)) {
            return lower_refuse(lower, STATUS_UNSUPPORTED, "got the batch size as input %zu, expected a number", i);
        }
        whole[i] = operand->integers != NULL ? operand->integers[0] : 0;
        number[i] = operand->floats != NULL ? (double)operand->floats[0] : (double)whole[i];
    }
    if (status != STATUS_OK) {
        return status;
    }
    const bool is_float = operands[0]->floats != NULL;
    const double count =
        is_float ? ceil((number[1] - number[0]) / number[2]) : count_integers(whole[0], whole[1], whole[2]);
    if (!(fabs(number[2]) > 0) || !(count <= (double)lower->limits->max_activation)) {
        return lower_refuse(lower, STATUS_INVALID, "got a range from %g to %g by %g, expected a finite one", number[0],
                            number[1], number[2]);
    }
    out = (struct shape){.rank = 1, .dim = {count > 0 ? (size_t)count : 0}};
    status = is_float ? fold_floats(lower, &out, &floats) : fold_integers(lower, operands[0]->type, &out, &integers);
    for (size_t i = 0; status == STATUS_OK && i < out.dim[0]; i++) {
        if (is_float) {
            floats[i] = (float)(number[0] + (double)i * number[2]);
        } else {
            integers[i] = (int64_t)((uint64_t)whole[0] + i * (uint64_t)whole[2]);
            if (onnx_is_batch(integers[i], &times)) {
                return lower_refuse(lower, STATUS_UNSUPPORTED,
                                    "got the number %lld, which has a meaning of its own here", (long long)integers[i]);
            }
        }
    }
    return status;
}

/* The offset in `shape` that one row of indices names, in units of `inner` elements. */
static enum status scatter_offset(struct lower *lower, const struct shape *shape, const int64_t *row, size_t depth,
                                  size_t *offset) {
    *offset = 0;
    for (size_t d = 0; d < depth; d++) {
        size_t index = 0;
        enum status status = lower_index(lower, row[d], shape->dim[d], &index);
        if (status != STATUS_OK) {
            return status;
        }
        *offset = *offset * shape->dim[d] + index;
    }
    return STATUS_OK;
}

static void copy_elements(const struct onnx_constant *from, size_t first, size_t count, float *floats,
                          int64_t *integers) {
    if (from->floats != NULL) {
        memcpy(floats, from->floats + first, count * sizeof *floats);
    } else {
        memcpy(integers, from->integers + first, count * sizeof *integers);
    }
}

/* A copy of the data with slices replaced by updates: indices (..., depth), updates (..., the dimensions after depth). */
enum status lower_scatter_nd(struct lower *lower) {
    char reduction[LOWER_TEXT_MAX];
    float *floats = NULL;
    int64_t *integers = NULL;
    enum status status = lower_arity(lower, 3, 3);
    if (status == STATUS_OK) {
        status = lower_attr_text(lower, "reduction", "none", reduction);
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct onnx_constant *data = lower_constant(lower, 0), *indices = lower_constant(lower, 1),
                               *updates = lower_constant(lower, 2);
    if (!lower_all_constant(lower) || indices->integers == NULL || data->type != updates->type ||
        strcmp(reduction, "none") != 0) {
        return lower_refuse(lower, STATUS_UNSUPPORTED,
                            "got computed values, other types or reduction '%s', expected constants of one type, "
                            "integer indices and none",
                            reduction);
    }
    size_t depth = indices->shape.rank > 0 ? indices->shape.dim[indices->shape.rank - 1] : 0;
    size_t inner = depth <= data->shape.rank ? shape_count_from(&data->shape, depth) : 0;
    size_t rows = depth > 0 ? indices->count / depth : 0;
    if (depth == 0 || inner == 0 || updates->count != rows * inner) {
        return lower_refuse(lower, STATUS_INVALID, "got %zu updates, expected %zu slices of %zu", updates->count, rows,
                            inner);
    }
    bool is_float = data->floats != NULL;
    if (is_float && data->type != ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT) {
        return refuse_types(lower, data, updates);
    }
    status = is_float ? fold_floats(lower, &data->shape, &floats)
                      : fold_integers(lower, data->type, &data->shape, &integers);
    if (status != STATUS_OK) {
        return status;
    }
    copy_elements(data, 0, data->count, floats, integers);
    for (size_t i = 0; status == STATUS_OK && i < rows; i++) {
        size_t at = 0;
        status = scatter_offset(lower, &data->shape, indices->integers + i * depth, depth, &at);
        if (status == STATUS_OK) {
            copy_elements(updates, i * inner, inner, is_float ? floats + at * inner : NULL,
                          is_float ? NULL : integers + at * inner);
        }
    }
    return status;
}
