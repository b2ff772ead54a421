/* The procedural data set: small photographs, so to speak, of road signs (sign.h). Each image has its own pose, paint,
 * light, background, things in front, blur and noise, all drawn from the generator that the caller passes. */
#ifndef ONP_TESTS_FORGE_RENDER_H
#define ONP_TESTS_FORGE_RENDER_H

#include <stddef.h>
#include <stdint.h>

#include "common/rng.h"
#include "tests/forge/sign.h"

enum { RENDER_CHANNELS = 3, RENDER_SIDE = 32, RENDER_BYTES = RENDER_CHANNELS * RENDER_SIDE * RENDER_SIDE };

/* One image of class `index` (below SIGN_CLASSES_MAX) into pixels (3, 32, 32). Any thread. */
void render_sign(struct rng *rng, size_t index, uint8_t *pixels);

#endif
