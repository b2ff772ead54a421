#include "server/data/augment.h"

enum { PART = 8 }; /* of a side, that an image is moved by at most */

static size_t inside(long at, size_t size) {
    return at < 0 ? 0 : (size_t)at < size ? (size_t)at : size - 1;
}

void augment_move(size_t channels, size_t height, size_t width, long down, long right, bool mirrored,
                  const float *image, float *out) {
    for (size_t row = 0; row < channels * height; row++) {
        const size_t y = row % height;
        const float *line = image + (row - y + inside((long)y - down, height)) * width;
        for (size_t x = 0; x < width; x++) {
            out[row * width + x] = line[inside((long)(mirrored ? width - 1 - x : x) - right, width)];
        }
    }
}

void augment_image(struct augmentation kinds, size_t channels, size_t height, size_t width, struct rng *rng,
                   const float *image, float *out) {
    const size_t down = kinds.moved ? height / PART : 0, right = kinds.moved ? width / PART : 0;
    const size_t dy = (size_t)rng_below(rng, 2 * down + 1), dx = (size_t)rng_below(rng, 2 * right + 1);
    const bool mirrored = rng_below(rng, 2) == 1 && kinds.mirrored;
    augment_move(channels, height, width, (long)down - (long)dy, (long)right - (long)dx, mirrored, image, out);
}
