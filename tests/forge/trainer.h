/* Training and measuring a classifier with the engine. */
#ifndef ONP_TESTS_FORGE_TRAINER_H
#define ONP_TESTS_FORGE_TRAINER_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/rng.h"
#include "server/nn/network.h"
#include "server/nn/pool.h"
#include "tests/forge/dataset.h"

enum { TRAINER_BATCH = 64 };

struct trainer_epoch {
    size_t number, epochs; /* from 1 */
    double loss, accuracy; /* over the training images of this epoch, as they were seen */
    double seconds;        /* since the start of the training */
};

struct trainer_options {
    size_t epochs;
    void (*report)(const struct trainer_epoch *epoch); /* after each epoch, in the caller's thread; may be NULL */
};

/* Trains the network in place on at least TRAINER_BATCH images. The same network, images, options and rng give the same
 * weights with any number of threads. STATUS_NUMERIC if the loss leaves the finite numbers. */
enum status trainer_run(struct network *network, struct pool *pool, const struct dataset *train,
                        const struct trainer_options *options, const struct rng *rng, struct error *error);
/* Logits (count, classes) of the set, as it is: the caller's (mem_free()). */
enum status trainer_logits(const struct network *network, struct pool *pool, const struct dataset *set, float **out,
                           struct error *error);

#endif
