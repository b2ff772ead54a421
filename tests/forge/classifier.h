/* The network of the forge: a small residual CNN with BatchNorm for (3, 32, 32) images in 0..1, normalised inside the
 * graph. Names are those that an exporter of a training framework would give. */
#ifndef ONP_TESTS_FORGE_CLASSIFIER_H
#define ONP_TESTS_FORGE_CLASSIFIER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "common/rng.h"
#include "server/nn/network.h"

/* Fresh weights drawn from rng; `width` is the channels of the first stage (the others have twice and four times as many).
 * plain: without shortcuts.
 * The network is the caller's (network_free()). */
enum status classifier_new(size_t width, size_t classes, bool plain, struct rng *rng, struct network **out,
                           struct error *error);

#endif
