/* Optimisers over flat arrays of floats. State is the optimiser's own; one optimiser an array. */
#ifndef ONP_SERVER_NN_OPTIM_H
#define ONP_SERVER_NN_OPTIM_H

#include <stddef.h>

#include "common/error.h"

/* Adam (Kingma and Ba 2015, algorithm 1), with decoupled weight decay (Loshchilov and Hutter 2019) if weight_decay > 0. */
struct adam_options {
    float learning_rate, beta1, beta2, epsilon, weight_decay;
};
struct adam;
enum status adam_new(size_t count, const struct adam_options *options, struct adam **out, struct error *error);
void adam_free(struct adam *adam);
void adam_set_learning_rate(struct adam *adam, float learning_rate);
void adam_step(struct adam *adam, float *parameters, const float *gradient);
void adam_reset(struct adam *adam);
/* The running means as bytes, for checkpoints: adam_state_size() of them, for an optimiser over as many values. */
size_t adam_state_size(const struct adam *adam);
void adam_save(const struct adam *adam, void *state);
void adam_load(struct adam *adam, const void *state);

/* SGD with (Nesterov) momentum and L2 weight decay. */
struct sgd_options {
    float learning_rate, momentum, weight_decay;
    int nesterov;
};
struct sgd;
enum status sgd_new(size_t count, const struct sgd_options *options, struct sgd **out, struct error *error);
void sgd_free(struct sgd *sgd);
void sgd_set_learning_rate(struct sgd *sgd, float learning_rate);
void sgd_step(struct sgd *sgd, float *parameters, const float *gradient);

#endif
