/* Variants of an image that a network should take for the same thing. What is fitted to variants that the network
 * as it came has labelled (distillation) flatters itself less than what is fitted to the samples alone. */
#ifndef ONP_SERVER_DATA_AUGMENT_H
#define ONP_SERVER_DATA_AUGMENT_H

#include <stdbool.h>
#include <stddef.h>

#include "common/rng.h"

struct augmentation {
    bool moved;    /* by up to an eighth of each side, edges repeated */
    bool mirrored; /* left to right, half of the time */
};

/* out = the image (C, H, W; another place) moved down and right by so many pixels (negative: up and left), its edges repeated, and then, if
 * `mirrored`, turned left to right. Any thread. */
void augment_move(size_t channels, size_t height, size_t width, long down, long right, bool mirrored,
                  const float *image, float *out);
/* Writes to `out` a variant of the image (C, H, W; another place). Three draws from rng; the same ones give the same variant. Any thread. */
void augment_image(struct augmentation kinds, size_t channels, size_t height, size_t width, struct rng *rng,
                   const float *image, float *out);

#endif
