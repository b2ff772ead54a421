#include "server/data/augment.h"

enum { PART = 8 }; /* of a side, that an image is moved by at most */

/* Where a moved row or column is read: at + shift - limit, held inside. */
static size_t source(size_t at, size_t shift, size_t limit, size_t size) {
    const size_t place = at + shift;
    return place < limit ? 0 : place - limit < size ? place - limit : size - 1;
}

void augment_image(struct augmentation kinds, size_t channels, size_t height, size_t width, struct rng *rng,
                   const float *image, float *out) {
    const size_t down = kinds.moved ? height / PART : 0, right = kinds.moved ? width / PART : 0;
    const size_t dy = (size_t)rng_below(rng, 2 * down + 1), dx = (size_t)rng_below(rng, 2 * right + 1);
    const bool mirrored = rng_below(rng, 2) == 1 && kinds.mirrored;
    for (size_t row = 0; row < channels * height; row++) {
        const float *line = image + (row - row % height + source(row % height, dy, down, height)) * width;
        for (size_t x = 0; x < width; x++) {
            out[row * width + x] = line[source(mirrored ? width - 1 - x : x, dx, right, width)];
        }
    }
}
