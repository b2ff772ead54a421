/* What the tests of the engine share: pools, engines and runs that must succeed, and a run that collects all gradients. */
#ifndef ONP_TESTS_UNIT_NN_ENGINE_FIXTURE_H
#define ONP_TESTS_UNIT_NN_ENGINE_FIXTURE_H

#include <stdbool.h>
#include <stddef.h>

#include "common/rng.h"
#include "server/nn/engine.h"
#include "server/nn/pool.h"

/* What the callbacks of one run collect. The loss is sum(weight * logits), so dlogits are known in advance. */
struct collected {
    const struct network *network;
    const float *weight; /* (count, K) */
    float *dx;           /* (count, C, H, W) */
    const float *x;      /* what input_grad must be shown again */
    bool input_intact;
};

/* Everything a backward run gives, with memory for it. */
struct gradients {
    struct collected collected;
    float *mask_grad;
    float **param_grad; /* one a value */
    bool *wants;        /* all constants */
    float *logits;
};

struct pool *fixture_pool(size_t threads);
struct engine *fixture_engine(const struct network *network, struct pool *pool, struct engine_options options);
void fixture_run(struct engine *engine, const struct engine_run *run);
size_t fixture_input_floats(const struct network *network);
/* |a - b| <= tolerance * the largest magnitude of b: rows may sum in another order, nothing more. */
void fixture_assert_close(const float *a, const float *b, size_t count, float tolerance);
/* The loss function of struct collected. */
void fixture_linear_loss(void *user, size_t first, size_t n, const float *logits, float *dlogits);

struct gradients fixture_gradients(const struct network *network, size_t count, const float *x, const float *weight);
void fixture_free_gradients(struct gradients *g);
/* A run that wants everything; the user pointer is &g->collected, so `g` must stay where it is. */
struct engine_run fixture_gradient_run(struct gradients *g, size_t count, const float *mask, const float *fill);

/* A mask over all units: ones, or per layer ones, zeros and values between, so that some Mask nodes pass and others work. */
float *fixture_mask(struct rng *rng, const struct network *network);
/* The network of nets_residual() with five layers of masks: behind BatchNorms, an addition and the flattening. */
struct network *fixture_masked_residual(const struct network *network);

#endif
