/* Training of a network's weights: which constants are trained, their gradients and optimisers, and the running statistics of
 * BatchNorm. Where the images and the loss come from is the caller's business. */
#ifndef ONP_SERVER_NN_TRAIN_H
#define ONP_SERVER_NN_TRAIN_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "server/nn/engine.h"
#include "server/nn/network.h"
#include "server/nn/pool.h"

struct train_options {
    size_t chunk;       /* samples a chunk, at least 1 */
    size_t batch_max;   /* samples of the largest step */
    float momentum;     /* Nesterov's */
    float weight_decay; /* on weights of Conv and Gemm, not on biases or BatchNorm */
    float max_norm;     /* all gradients together are scaled down to this L2 norm; 0: never */
    bool
        batch_statistics; /* BatchNorm normalises by the chunk ("ghost batches", Hoffer et al. 2017, algorithm 1), and its running
                              statistics take the chunks in order, so that the threads do not matter; false: they stay */
};

struct train;

/* Trains weights and biases of Conv and Gemm, scale and bias of BatchNorm: their data in `network` change (shared with a network
 * that it is a masked copy of). Both are borrowed and must outlive it. */
enum status train_new(const struct network *network, struct pool *pool, const struct train_options *options,
                      struct train **out, struct error *error);
void train_free(struct train *train); /* accepts NULL */

/* One step of SGD at this learning rate. Of `run` are used: count (at most batch_max), user, input or fill_input, mask, fill, loss,
 * logits and cancel. */
enum status train_step(struct train *train, const struct engine_run *run, float learning_rate, struct error *error);

/* A copy of all constants of a network, to go back to. */
struct snapshot;
enum status snapshot_new(const struct network *network, struct snapshot **out, struct error *error);
void snapshot_free(struct snapshot *snapshot); /* accepts NULL */
/* Writes the copied data back. No engine may be running. */
void snapshot_restore(const struct snapshot *snapshot);
/* Does the constant `value` now differ from the copy? */
bool snapshot_differs(const struct snapshot *snapshot, size_t value);

#endif
