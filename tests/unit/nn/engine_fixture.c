/* See engine_fixture.h. */
#include "tests/unit/nn/engine_fixture.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "tests/support/cm.h"
#include "tests/unit/nn/nets.h"

struct pool *fixture_pool(size_t threads) {
    struct error error = {0};
    struct pool *pool = NULL;
    assert_int_equal(pool_new(threads, &pool, &error), STATUS_OK);
    return pool;
}

struct engine *fixture_engine(const struct network *network, struct pool *pool, struct engine_options options) {
    struct error error = {0};
    struct engine *engine = NULL;
    enum status status = engine_new(network, pool, &options, &engine, &error);
    if (status != STATUS_OK) {
        print_error("%s: %s\n", error.where, error.message);
    }
    assert_int_equal(status, STATUS_OK);
    return engine;
}

void fixture_run(struct engine *engine, const struct engine_run *run) {
    struct error error = {0};
    enum status status = engine_run(engine, run, &error);
    if (status != STATUS_OK) {
        print_error("%s: %s\n", error.where, error.message);
    }
    assert_int_equal(status, STATUS_OK);
}

size_t fixture_input_floats(const struct network *network) {
    return shape_count(&network->values[network->input].shape);
}

/* |a - b| <= tolerance * the largest magnitude of b: rows may sum in another order, nothing more. */
void fixture_assert_close(const float *a, const float *b, size_t count, float tolerance) {
    float scale = 1e-6f;
    for (size_t i = 0; i < count; i++) {
        scale = fmaxf(scale, fabsf(b[i]));
    }
    for (size_t i = 0; i < count; i++) {
        if (!(fabsf(a[i] - b[i]) <= tolerance * scale)) {
            fail_msg("item %zu: got %g, expected %g", i, (double)a[i], (double)b[i]);
        }
    }
}

void fixture_linear_loss(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    const struct collected *collected = user;
    (void)logits;
    memcpy(dlogits, collected->weight + first * NETS_CLASSES, n * NETS_CLASSES * sizeof *dlogits);
}

static void keep_input_grad(void *user, size_t first, size_t n, const float *x, const float *dx) {
    struct collected *collected = user;
    size_t floats = fixture_input_floats(collected->network);
    memcpy(collected->dx + first * floats, dx, n * floats * sizeof *dx);
    if (memcmp(collected->x + first * floats, x, n * floats * sizeof *x) != 0) {
        collected->input_intact = false;
    }
}

struct gradients fixture_gradients(const struct network *network, size_t count, const float *x, const float *weight) {
    struct gradients g = {.collected = {.network = network, .weight = weight, .x = x, .input_intact = true}};
    g.collected.dx = mem_calloc(count * fixture_input_floats(network), sizeof(float));
    g.mask_grad = mem_calloc(network->unit_count + 1, sizeof(float));
    g.param_grad = mem_calloc(network->value_count, sizeof(float *));
    g.wants = mem_calloc(network->value_count, sizeof(bool));
    g.logits = mem_calloc(count * NETS_CLASSES, sizeof(float));
    for (size_t v = 0; v < network->value_count; v++) {
        if (network->values[v].kind == VALUE_CONSTANT) {
            g.wants[v] = true;
            g.param_grad[v] = mem_calloc(shape_count(&network->values[v].shape), sizeof(float));
        }
    }
    return g;
}

void fixture_free_gradients(struct gradients *g) {
    for (size_t v = 0; v < g->collected.network->value_count; v++) {
        mem_free(g->param_grad[v]);
    }
    mem_free(g->param_grad);
    mem_free(g->wants);
    mem_free(g->mask_grad);
    mem_free(g->logits);
    mem_free(g->collected.dx);
}

struct engine_run fixture_gradient_run(struct gradients *g, size_t count, const float *mask, const float *fill) {
    return (struct engine_run){.count = count,
                               .user = &g->collected,
                               .input = g->collected.x,
                               .mask = mask,
                               .fill = fill,
                               .logits = g->logits,
                               .loss = fixture_linear_loss,
                               .input_grad = keep_input_grad,
                               .mask_grad = g->mask_grad,
                               .param_grad = g->param_grad};
}

/* A mask over all units: ones, or per layer ones, zeros and values between, so that some Mask nodes pass and others work. */
float *fixture_mask(struct rng *rng, const struct network *network) {
    float *mask = mem_alloc(network->unit_count + 1, sizeof *mask);
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        if (node->op != OP_MASK) {
            continue;
        }
        bool ones = rng_below(rng, 2) == 0;
        for (size_t c = 0; c < network->values[node->output].shape.dim[node->attr.axis]; c++) {
            size_t kind = (size_t)rng_below(rng, 3);
            mask[node->attr.mask_first + c] = ones || kind == 0 ? 1.0f : kind == 1 ? 0.0f : rng_uniform(rng);
        }
    }
    return mask;
}

/* The residual network with masks behind every BatchNorm and after the first addition. */
struct network *fixture_masked_residual(const struct network *network) {
    struct error error = {0};
    struct network *masked = NULL;
    const struct mask_site sites[] = {{nets_find(network, "a1.bn"), 1},
                                      {nets_find(network, "stem.bn"), 1},
                                      {nets_find(network, "b1.bn"), 1},
                                      {nets_find(network, "a.sum"), 1},
                                      {nets_find(network, "flatten"), 1}};
    assert_int_equal(network_with_masks(network, sites, sizeof sites / sizeof sites[0], &masked, &error), STATUS_OK);
    return masked;
}
