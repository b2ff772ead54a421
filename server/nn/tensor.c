/* Shapes: counting, comparing, broadcasting and printing. Counting comes in two forms: shape_count() for shapes that a
 * network has already accepted, shape_count_checked() for everything that comes from outside. */
#include "server/nn/tensor.h"

#include <stdio.h>

#include "common/mem.h"

size_t shape_count(const struct shape *shape) {
    size_t count = 1;
    for (size_t i = 0; i < shape->rank; i++) {
        count *= shape->dim[i];
    }
    return count;
}

bool shape_count_checked(const struct shape *shape, size_t *count) {
    size_t product = 1;
    if (shape->rank > SHAPE_RANK_MAX) {
        return false;
    }
    for (size_t i = 0; i < shape->rank; i++) {
        if (!mem_multiply(product, shape->dim[i], &product)) {
            return false;
        }
    }
    *count = product;
    return true;
}

bool shape_equal(const struct shape *a, const struct shape *b) {
    if (a->rank != b->rank) {
        return false;
    }
    for (size_t i = 0; i < a->rank; i++) {
        if (a->dim[i] != b->dim[i]) {
            return false;
        }
    }
    return true;
}

size_t shape_count_from(const struct shape *shape, size_t axis) {
    size_t count = 1;
    for (size_t i = axis; i < shape->rank; i++) {
        count *= shape->dim[i];
    }
    return count;
}

const char *shape_text(const struct shape *shape, char text[SHAPE_TEXT_SIZE]) {
    size_t used = 1;
    text[0] = '[';
    text[1] = '\0';
    for (size_t i = 0; i < shape->rank && i < SHAPE_RANK_MAX; i++) {
        int wrote = snprintf(text + used, SHAPE_TEXT_SIZE - used, "%s%zu", i > 0 ? ", " : "", shape->dim[i]);
        /* Eight dims of twenty digits do not fit: such a shape is cut, which is enough for a message. */
        if (wrote < 0 || (size_t)wrote + 1 >= SHAPE_TEXT_SIZE - used) {
            used = SHAPE_TEXT_SIZE - 2;
            break;
        }
        used += (size_t)wrote;
    }
    text[used] = ']';
    text[used + 1] = '\0';
    return text;
}

/* Dim of `shape` when it is right-aligned in `rank` dims, as NumPy does. */
static size_t aligned_dim(const struct shape *shape, size_t rank, size_t axis) {
    size_t missing = rank - shape->rank;
    return axis < missing ? 1 : shape->dim[axis - missing];
}

bool shape_broadcast(const struct shape *a, const struct shape *b, struct shape *out) {
    struct shape result = {.rank = a->rank > b->rank ? a->rank : b->rank};
    for (size_t i = 0; i < result.rank; i++) {
        size_t left = aligned_dim(a, result.rank, i);
        size_t right = aligned_dim(b, result.rank, i);
        if (left != right && left != 1 && right != 1) {
            return false;
        }
        result.dim[i] = left == 1 ? right : left;
    }
    *out = result;
    return true;
}
