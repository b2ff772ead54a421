/* Shapes. Letters used over the whole engine: N samples in a batch, C channels, H rows, W columns, K classes.
 * Everything is float32, row-major, NCHW. */
#ifndef ONP_SERVER_NN_TENSOR_H
#define ONP_SERVER_NN_TENSOR_H

#include <stdbool.h>
#include <stddef.h>

enum { SHAPE_RANK_MAX = 8, SHAPE_TEXT_SIZE = 128 };

struct shape {
    size_t rank;
    size_t dim[SHAPE_RANK_MAX];
};

/* Product of the dims (1 for rank 0). Dims are checked against overflow when a value enters a network. */
size_t shape_count(const struct shape *shape);
bool shape_count_checked(const struct shape *shape, size_t *count);
bool shape_equal(const struct shape *a, const struct shape *b);
/* Product of dim[axis..rank). */
size_t shape_count_from(const struct shape *shape, size_t axis);
/* "[1, 3, 32, 32]" into `text`; returns `text`. */
const char *shape_text(const struct shape *shape, char text[SHAPE_TEXT_SIZE]);
/* NumPy broadcasting of two shapes; false if they do not fit. */
bool shape_broadcast(const struct shape *a, const struct shape *b, struct shape *out);

#endif
