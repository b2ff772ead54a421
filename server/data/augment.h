/* Variants of an image that a network should take for the same thing. What is fitted to variants that the network
 * as it came has labelled (distillation) flatters itself less than what is fitted to the samples alone. */
#ifndef ONP_SERVER_DATA_AUGMENT_H
#define ONP_SERVER_DATA_AUGMENT_H

#include <stddef.h>

#include "common/rng.h"

/* Writes to `out` the image (C, H, W; another place) moved by up to an eighth of each side, its edges repeated, and mirrored left to right
 * half of the time. Three draws from rng; the same ones give the same variant. Any thread. */
void augment_image(size_t channels, size_t height, size_t width, struct rng *rng, const float *image, float *out);

#endif
