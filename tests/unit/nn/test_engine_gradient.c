/* The engine backward: against the plain interpreter of nets.c on random graphs, against finite differences through a whole
 * network, and against itself over threads and wanted parts. */
#include "server/nn/engine.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "common/rng.h"
#include "server/nn/pool.h"
#include "tests/support/cm.h"
#include "tests/unit/nn/engine_fixture.h"
#include "tests/unit/nn/nets.h"

/* One network, one mask: forward engine and backward engine against the plain run. */
static void compare_with_plain(const struct network *network, struct rng *rng, size_t chunk, size_t count) {
    float *x = nets_floats(rng, count * fixture_input_floats(network), -1.0f, 1.0f);
    float *weight = nets_floats(rng, count * NETS_CLASSES, -1.0f, 1.0f);
    float *fill = nets_floats(rng, network->unit_count + 1, -0.5f, 0.5f);
    float *mask = fixture_mask(rng, network);
    struct nets_result plain = nets_interpret(network, count, x, mask, fill, weight);
    struct gradients g = fixture_gradients(network, count, x, weight);
    struct pool *pool = fixture_pool(2);
    struct engine *forward = fixture_engine(network, pool, (struct engine_options){.chunk = chunk});
    struct engine *backward =
        fixture_engine(network, pool, (struct engine_options){.chunk = chunk, .backward = true, .wants_grad = g.wants});

    fixture_run(forward,
                &(struct engine_run){.count = count, .input = x, .mask = mask, .fill = fill, .logits = g.logits});
    fixture_assert_close(g.logits, plain.values[network->output], count * NETS_CLASSES, 1e-6f);
    memset(g.logits, 0, count * NETS_CLASSES * sizeof(float));
    struct engine_run run = fixture_gradient_run(&g, count, mask, fill);
    fixture_run(backward, &run);
    fixture_assert_close(g.logits, plain.values[network->output], count * NETS_CLASSES, 1e-6f);
    assert_true(g.collected.input_intact);
    fixture_assert_close(g.collected.dx, plain.grads[network->input], count * fixture_input_floats(network), 1e-5f);
    fixture_assert_close(g.mask_grad, plain.mask_grad, network->unit_count, 1e-5f);
    for (size_t v = 0; v < network->value_count; v++) {
        if (g.wants[v]) {
            fixture_assert_close(g.param_grad[v], plain.grads[v], shape_count(&network->values[v].shape), 1e-5f);
        }
    }
    engine_free(backward);
    engine_free(forward);
    pool_free(pool);
    fixture_free_gradients(&g);
    nets_result_free(&plain);
    mem_free(mask);
    mem_free(fill);
    mem_free(weight);
    mem_free(x);
}

static void test_random_graphs_equal_plain(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 400; seed++) {
        struct rng rng;
        rng_seed(&rng, seed);
        struct network *network = nets_random(&rng, 3 + (size_t)rng_below(&rng, 20));
        compare_with_plain(network, &rng, 1 + (size_t)rng_below(&rng, 4), 1 + (size_t)rng_below(&rng, 9));
        network_free(network);
    }
}

static void test_residual_equals_plain(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++) {
        struct rng rng;
        rng_seed(&rng, seed);
        struct network *network = nets_residual(&rng, 4, 8, seed % 2 == 0 ? OP_RELU : OP_HARD_SWISH);
        struct network *masked = fixture_masked_residual(network);
        compare_with_plain(masked, &rng, 1 + seed, 5 + seed);
        compare_with_plain(network, &rng, 1 + seed, 5 + seed);
        network_free(masked);
        network_free(network);
    }
}

/* Sums over samples must be the same bits for any number of threads. */
static void test_threads_do_not_change_sums(void **state) {
    enum { COUNT = 101 };
    struct rng rng;
    struct gradients g[4];
    (void)state;

    rng_seed(&rng, 3);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    struct network *masked = fixture_masked_residual(network);
    float *x = nets_floats(&rng, COUNT * fixture_input_floats(masked), -1.0f, 1.0f);
    float *weight = nets_floats(&rng, COUNT * NETS_CLASSES, -1.0f, 1.0f);
    float *fill = nets_floats(&rng, masked->unit_count, -0.5f, 0.5f);
    float *mask = fixture_mask(&rng, masked);
    for (size_t t = 0; t < 4; t++) {
        struct pool *pool = fixture_pool(t == 3 ? 7 : t + 1);
        g[t] = fixture_gradients(masked, COUNT, x, weight);
        struct engine *engine = fixture_engine(
            masked, pool, (struct engine_options){.chunk = 2, .backward = true, .wants_grad = g[t].wants});
        struct engine_run run = fixture_gradient_run(&g[t], COUNT, mask, fill);
        fixture_run(engine, &run);
        fixture_run(engine, &run); /* overwritten, not added to */
        engine_free(engine);
        pool_free(pool);
        assert_memory_equal(g[t].logits, g[0].logits, COUNT * NETS_CLASSES * sizeof(float));
        assert_memory_equal(g[t].collected.dx, g[0].collected.dx, COUNT * fixture_input_floats(masked) * sizeof(float));
        assert_memory_equal(g[t].mask_grad, g[0].mask_grad, masked->unit_count * sizeof(float));
        for (size_t v = 0; v < masked->value_count; v++) {
            if (g[t].wants[v]) {
                assert_memory_equal(g[t].param_grad[v], g[0].param_grad[v],
                                    shape_count(&masked->values[v].shape) * sizeof(float));
            }
        }
    }
    for (size_t t = 0; t < 4; t++) {
        fixture_free_gradients(&g[t]);
    }
    mem_free(mask);
    mem_free(fill);
    mem_free(weight);
    mem_free(x);
    network_free(masked);
    network_free(network);
}

/* Gradients wanted one at a time must be those of a run that wants all: what is not wanted is left out, nothing more. */
static void test_wanted_parts(void **state) {
    enum { COUNT = 6 };
    struct rng rng;
    (void)state;

    rng_seed(&rng, 4);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    struct network *masked = fixture_masked_residual(network);
    float *x = nets_floats(&rng, COUNT * fixture_input_floats(masked), -1.0f, 1.0f);
    float *weight = nets_floats(&rng, COUNT * NETS_CLASSES, -1.0f, 1.0f);
    float *fill = nets_floats(&rng, masked->unit_count, -0.5f, 0.5f);
    struct pool *pool = fixture_pool(2);
    struct gradients all = fixture_gradients(masked, COUNT, x, weight);
    struct gradients one = fixture_gradients(masked, COUNT, x, weight);
    struct engine *engine =
        fixture_engine(masked, pool, (struct engine_options){.chunk = 2, .backward = true, .wants_grad = all.wants});
    struct engine_run run = fixture_gradient_run(&all, COUNT, NULL, fill);
    fixture_run(engine, &run);

    struct engine_run part = fixture_gradient_run(&one, COUNT, NULL, fill);
    part.mask_grad = NULL;
    part.param_grad = NULL;
    fixture_run(engine, &part);
    assert_memory_equal(one.collected.dx, all.collected.dx, COUNT * fixture_input_floats(masked) * sizeof(float));
    part = fixture_gradient_run(&one, COUNT, NULL, fill);
    part.input_grad = NULL;
    part.param_grad = NULL;
    fixture_run(engine, &part);
    assert_memory_equal(one.mask_grad, all.mask_grad, masked->unit_count * sizeof(float));
    float *only[256] = {NULL};
    assert_true(masked->value_count <= 256);
    size_t weight_value = nets_find(masked, "a2.w");
    only[weight_value] = one.param_grad[weight_value];
    part.mask_grad = NULL;
    part.param_grad = only;
    fixture_run(engine, &part);
    assert_memory_equal(one.param_grad[weight_value], all.param_grad[weight_value],
                        shape_count(&masked->values[weight_value].shape) * sizeof(float));
    engine_free(engine);
    pool_free(pool);
    fixture_free_gradients(&one);
    fixture_free_gradients(&all);
    mem_free(fill);
    mem_free(weight);
    mem_free(x);
    network_free(masked);
    network_free(network);
}

/* ---- finite differences through a whole network ----------------------------------------------------------------- */

struct probe {
    struct engine *engine;
    struct engine_run run; /* forward only */
    const float *weight;
    float *logits;
};

static double probe_loss(struct probe *probe) {
    double loss = 0.0;
    fixture_run(probe->engine, &probe->run);
    for (size_t i = 0; i < probe->run.count * NETS_CLASSES; i++) {
        loss += (double)probe->weight[i] * (double)probe->logits[i];
    }
    return loss;
}

/* Central differences at up to 12 items of `where` against `gradient`. The network is smooth; what is left is the error of
 * third order and float rounding of the loss (about 1e-6 / 2e-2), hence the tolerance. */
static void check_differences(struct probe *probe, float *where, size_t count, const float *gradient,
                              const char *what) {
    const float step = 1e-2f;
    for (size_t i = 0; i < count; i += count / 12 + 1) {
        float kept = where[i];
        where[i] = kept + step;
        double above = probe_loss(probe);
        where[i] = kept - step;
        double below = probe_loss(probe);
        where[i] = kept;
        double expected = (above - below) / (2.0 * (double)step);
        double difference = fabs((double)gradient[i] - expected);
        if (difference > 2e-3 * fmax(1.0, fabs(expected))) {
            fail_msg("%s %zu: got %g, expected %g", what, i, (double)gradient[i], expected);
        }
    }
}

static void test_finite_differences(void **state) {
    enum { COUNT = 5 };
    struct rng rng;
    (void)state;

    rng_seed(&rng, 5);
    struct network *network = nets_residual(&rng, 4, 6, OP_TANH);
    struct network *masked = fixture_masked_residual(network);
    float *x = nets_floats(&rng, COUNT * fixture_input_floats(masked), -1.0f, 1.0f);
    float *weight = nets_floats(&rng, COUNT * NETS_CLASSES, -1.0f, 1.0f);
    float *fill = nets_floats(&rng, masked->unit_count, -0.5f, 0.5f);
    float *mask = fixture_mask(&rng, masked);
    struct pool *pool = fixture_pool(2);
    struct gradients g = fixture_gradients(masked, COUNT, x, weight);
    struct engine *engine =
        fixture_engine(masked, pool, (struct engine_options){.chunk = 2, .backward = true, .wants_grad = g.wants});
    struct engine_run run = fixture_gradient_run(&g, COUNT, mask, fill);
    fixture_run(engine, &run);

    struct probe probe = {.engine = fixture_engine(masked, pool, (struct engine_options){.chunk = 4}),
                          .weight = weight,
                          .logits = g.logits};
    probe.run = (struct engine_run){.count = COUNT, .input = x, .mask = mask, .fill = fill, .logits = g.logits};
    check_differences(&probe, x, COUNT * fixture_input_floats(masked), g.collected.dx, "input");
    check_differences(&probe, mask, masked->unit_count, g.mask_grad, "mask");
    for (size_t v = 0; v < masked->value_count; v++) {
        const char *name = masked->values[v].name;
        /* Running statistics are no parameters: they have no gradient. */
        if (!g.wants[v] || strstr(name, ".mean") != NULL || strstr(name, ".variance") != NULL) {
            continue;
        }
        check_differences(&probe, network_constant_data(masked, v), shape_count(&masked->values[v].shape),
                          g.param_grad[v], masked->values[v].name);
    }
    engine_free(probe.engine);
    engine_free(engine);
    pool_free(pool);
    fixture_free_gradients(&g);
    mem_free(mask);
    mem_free(fill);
    mem_free(weight);
    mem_free(x);
    network_free(masked);
    network_free(network);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_graphs_equal_plain),  cmocka_unit_test(test_residual_equals_plain),
        cmocka_unit_test(test_threads_do_not_change_sums), cmocka_unit_test(test_wanted_parts),
        cmocka_unit_test(test_finite_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
