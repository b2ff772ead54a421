/* The engine against the plain interpreter of nets.c, over chunk sizes, threads and counts; its sums, its limits, its
 * callbacks. */
#include "server/nn/engine.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "common/rng.h"
#include "server/nn/loss.h"
#include "server/nn/pool.h"
#include "tests/support/cm.h"
#include "tests/unit/nn/nets.h"

enum { SAMPLES = 13 };

static struct pool *make_pool(size_t threads) {
    struct error error = {0};
    struct pool *pool = NULL;
    assert_int_equal(pool_new(threads, &pool, &error), STATUS_OK);
    return pool;
}

static struct engine *make_engine(const struct network *network, struct pool *pool, struct engine_options options) {
    struct error error = {0};
    struct engine *engine = NULL;
    enum status status = engine_new(network, pool, &options, &engine, &error);
    if (status != STATUS_OK) {
        print_error("%s: %s\n", error.where, error.message);
    }
    assert_int_equal(status, STATUS_OK);
    return engine;
}

static void run_ok(struct engine *engine, const struct engine_run *run) {
    struct error error = {0};
    enum status status = engine_run(engine, run, &error);
    if (status != STATUS_OK) {
        print_error("%s: %s\n", error.where, error.message);
    }
    assert_int_equal(status, STATUS_OK);
}

static size_t input_floats(const struct network *network) {
    return shape_count(&network->values[network->input].shape);
}

/* |a - b| <= tolerance * the largest magnitude of b: rows may sum in another order, nothing more. */
static void assert_close(const float *a, const float *b, size_t count, float tolerance) {
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

static void test_forward_equals_plain(void **state) {
    static const size_t counts[] = {1, 3, 8, SAMPLES};
    struct rng rng;
    float logits[SAMPLES * NETS_CLASSES];
    (void)state;

    rng_seed(&rng, 1);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    float *x = nets_floats(&rng, SAMPLES * input_floats(network), -1.0f, 1.0f);
    for (size_t chunk = 0; chunk <= 9; chunk += 3) {
        for (size_t threads = 1; threads <= 3; threads++) {
            struct pool *pool = make_pool(threads);
            struct engine *engine = make_engine(network, pool, (struct engine_options){.chunk = chunk});
            assert_int_equal(engine_chunk(engine), chunk == 0 ? 32 : chunk);
            for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
                run_ok(engine, &(struct engine_run){.count = counts[c], .input = x, .logits = logits});
                /* The plain run goes by the same chunks: a matrix product may round otherwise for another batch. */
                for (size_t first = 0; first < counts[c]; first += engine_chunk(engine)) {
                    size_t n = counts[c] - first < engine_chunk(engine) ? counts[c] - first : engine_chunk(engine);
                    struct nets_result plain =
                        nets_interpret(network, n, x + first * input_floats(network), NULL, NULL, NULL);
                    assert_memory_equal(logits + first * NETS_CLASSES, plain.values[network->output],
                                        n * NETS_CLASSES * sizeof(float));
                    nets_result_free(&plain);
                }
            }
            engine_free(engine);
            pool_free(pool);
        }
    }
    mem_free(x);
    network_free(network);
}

/* ---- gradients ------------------------------------------------------------------------------------------------- */

/* What the callbacks of one run collect. The loss is sum(weight * logits), so dlogits are known in advance. */
struct collected {
    const struct network *network;
    const float *weight; /* (count, K) */
    float *dx;           /* (count, C, H, W) */
    const float *x;      /* what input_grad must be shown again */
    bool input_intact;
};

static void linear_loss(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    const struct collected *collected = user;
    (void)logits;
    memcpy(dlogits, collected->weight + first * NETS_CLASSES, n * NETS_CLASSES * sizeof *dlogits);
}

static void keep_input_grad(void *user, size_t first, size_t n, const float *x, const float *dx) {
    struct collected *collected = user;
    size_t floats = input_floats(collected->network);
    memcpy(collected->dx + first * floats, dx, n * floats * sizeof *dx);
    if (memcmp(collected->x + first * floats, x, n * floats * sizeof *x) != 0) {
        collected->input_intact = false;
    }
}

/* Everything a backward run gives, with memory for it. */
struct gradients {
    struct collected collected;
    float *mask_grad;
    float **param_grad; /* one a value */
    bool *wants;        /* all constants */
    float *logits;
};

static struct gradients make_gradients(const struct network *network, size_t count, const float *x,
                                       const float *weight) {
    struct gradients g = {.collected = {.network = network, .weight = weight, .x = x, .input_intact = true}};
    g.collected.dx = mem_calloc(count * input_floats(network), sizeof(float));
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

static void free_gradients(struct gradients *g) {
    for (size_t v = 0; v < g->collected.network->value_count; v++) {
        mem_free(g->param_grad[v]);
    }
    mem_free(g->param_grad);
    mem_free(g->wants);
    mem_free(g->mask_grad);
    mem_free(g->logits);
    mem_free(g->collected.dx);
}

static struct engine_run gradient_run(struct gradients *g, size_t count, const float *mask, const float *fill) {
    return (struct engine_run){.count = count,
                               .user = &g->collected,
                               .input = g->collected.x,
                               .mask = mask,
                               .fill = fill,
                               .logits = g->logits,
                               .loss = linear_loss,
                               .input_grad = keep_input_grad,
                               .mask_grad = g->mask_grad,
                               .param_grad = g->param_grad};
}

/* A mask over all units: ones, or per layer ones, zeros and values between, so that some Mask nodes pass and others work. */
static float *make_mask(struct rng *rng, const struct network *network) {
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

/* One network, one mask: forward engine and backward engine against the plain run. */
static void compare_with_plain(const struct network *network, struct rng *rng, size_t chunk, size_t count) {
    float *x = nets_floats(rng, count * input_floats(network), -1.0f, 1.0f);
    float *weight = nets_floats(rng, count * NETS_CLASSES, -1.0f, 1.0f);
    float *fill = nets_floats(rng, network->unit_count + 1, -0.5f, 0.5f);
    float *mask = make_mask(rng, network);
    struct nets_result plain = nets_interpret(network, count, x, mask, fill, weight);
    struct gradients g = make_gradients(network, count, x, weight);
    struct pool *pool = make_pool(2);
    struct engine *forward = make_engine(network, pool, (struct engine_options){.chunk = chunk});
    struct engine *backward =
        make_engine(network, pool, (struct engine_options){.chunk = chunk, .backward = true, .wants_grad = g.wants});

    run_ok(forward, &(struct engine_run){.count = count, .input = x, .mask = mask, .fill = fill, .logits = g.logits});
    assert_close(g.logits, plain.values[network->output], count * NETS_CLASSES, 1e-6f);
    memset(g.logits, 0, count * NETS_CLASSES * sizeof(float));
    struct engine_run run = gradient_run(&g, count, mask, fill);
    run_ok(backward, &run);
    assert_close(g.logits, plain.values[network->output], count * NETS_CLASSES, 1e-6f);
    assert_true(g.collected.input_intact);
    assert_close(g.collected.dx, plain.grads[network->input], count * input_floats(network), 1e-5f);
    assert_close(g.mask_grad, plain.mask_grad, network->unit_count, 1e-5f);
    for (size_t v = 0; v < network->value_count; v++) {
        if (g.wants[v]) {
            assert_close(g.param_grad[v], plain.grads[v], shape_count(&network->values[v].shape), 1e-5f);
        }
    }
    engine_free(backward);
    engine_free(forward);
    pool_free(pool);
    free_gradients(&g);
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

/* The residual network with masks behind every BatchNorm and after the first addition. */
static struct network *masked_residual(struct rng *rng, const struct network *network) {
    struct error error = {0};
    struct network *masked = NULL;
    const struct mask_site sites[] = {{nets_find(network, "a1.bn"), 1},
                                      {nets_find(network, "stem.bn"), 1},
                                      {nets_find(network, "b1.bn"), 1},
                                      {nets_find(network, "a.sum"), 1},
                                      {nets_find(network, "flatten"), 1}};
    (void)rng;
    assert_int_equal(network_with_masks(network, sites, sizeof sites / sizeof sites[0], &masked, &error), STATUS_OK);
    return masked;
}

static void test_residual_equals_plain(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 6; seed++) {
        struct rng rng;
        rng_seed(&rng, seed);
        struct network *network = nets_residual(&rng, 4, 8, seed % 2 == 0 ? OP_RELU : OP_HARD_SWISH);
        struct network *masked = masked_residual(&rng, network);
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
    struct network *masked = masked_residual(&rng, network);
    float *x = nets_floats(&rng, COUNT * input_floats(masked), -1.0f, 1.0f);
    float *weight = nets_floats(&rng, COUNT * NETS_CLASSES, -1.0f, 1.0f);
    float *fill = nets_floats(&rng, masked->unit_count, -0.5f, 0.5f);
    float *mask = make_mask(&rng, masked);
    for (size_t t = 0; t < 4; t++) {
        struct pool *pool = make_pool(t == 3 ? 7 : t + 1);
        g[t] = make_gradients(masked, COUNT, x, weight);
        struct engine *engine =
            make_engine(masked, pool, (struct engine_options){.chunk = 2, .backward = true, .wants_grad = g[t].wants});
        struct engine_run run = gradient_run(&g[t], COUNT, mask, fill);
        run_ok(engine, &run);
        run_ok(engine, &run); /* overwritten, not added to */
        engine_free(engine);
        pool_free(pool);
        assert_memory_equal(g[t].logits, g[0].logits, COUNT * NETS_CLASSES * sizeof(float));
        assert_memory_equal(g[t].collected.dx, g[0].collected.dx, COUNT * input_floats(masked) * sizeof(float));
        assert_memory_equal(g[t].mask_grad, g[0].mask_grad, masked->unit_count * sizeof(float));
        for (size_t v = 0; v < masked->value_count; v++) {
            if (g[t].wants[v]) {
                assert_memory_equal(g[t].param_grad[v], g[0].param_grad[v],
                                    shape_count(&masked->values[v].shape) * sizeof(float));
            }
        }
    }
    for (size_t t = 0; t < 4; t++) {
        free_gradients(&g[t]);
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
    struct network *masked = masked_residual(&rng, network);
    float *x = nets_floats(&rng, COUNT * input_floats(masked), -1.0f, 1.0f);
    float *weight = nets_floats(&rng, COUNT * NETS_CLASSES, -1.0f, 1.0f);
    float *fill = nets_floats(&rng, masked->unit_count, -0.5f, 0.5f);
    struct pool *pool = make_pool(2);
    struct gradients all = make_gradients(masked, COUNT, x, weight);
    struct gradients one = make_gradients(masked, COUNT, x, weight);
    struct engine *engine =
        make_engine(masked, pool, (struct engine_options){.chunk = 2, .backward = true, .wants_grad = all.wants});
    struct engine_run run = gradient_run(&all, COUNT, NULL, fill);
    run_ok(engine, &run);

    struct engine_run part = gradient_run(&one, COUNT, NULL, fill);
    part.mask_grad = NULL;
    part.param_grad = NULL;
    run_ok(engine, &part);
    assert_memory_equal(one.collected.dx, all.collected.dx, COUNT * input_floats(masked) * sizeof(float));
    part = gradient_run(&one, COUNT, NULL, fill);
    part.input_grad = NULL;
    part.param_grad = NULL;
    run_ok(engine, &part);
    assert_memory_equal(one.mask_grad, all.mask_grad, masked->unit_count * sizeof(float));
    float *only[256] = {NULL};
    assert_true(masked->value_count <= 256);
    size_t weight_value = nets_find(masked, "a2.w");
    only[weight_value] = one.param_grad[weight_value];
    part.mask_grad = NULL;
    part.param_grad = only;
    run_ok(engine, &part);
    assert_memory_equal(one.param_grad[weight_value], all.param_grad[weight_value],
                        shape_count(&masked->values[weight_value].shape) * sizeof(float));
    engine_free(engine);
    pool_free(pool);
    free_gradients(&one);
    free_gradients(&all);
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
    run_ok(probe->engine, &probe->run);
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
    struct network *masked = masked_residual(&rng, network);
    float *x = nets_floats(&rng, COUNT * input_floats(masked), -1.0f, 1.0f);
    float *weight = nets_floats(&rng, COUNT * NETS_CLASSES, -1.0f, 1.0f);
    float *fill = nets_floats(&rng, masked->unit_count, -0.5f, 0.5f);
    float *mask = make_mask(&rng, masked);
    struct pool *pool = make_pool(2);
    struct gradients g = make_gradients(masked, COUNT, x, weight);
    struct engine *engine =
        make_engine(masked, pool, (struct engine_options){.chunk = 2, .backward = true, .wants_grad = g.wants});
    struct engine_run run = gradient_run(&g, COUNT, mask, fill);
    run_ok(engine, &run);

    struct probe probe = {
        .engine = make_engine(masked, pool, (struct engine_options){.chunk = 4}), .weight = weight, .logits = g.logits};
    probe.run = (struct engine_run){.count = COUNT, .input = x, .mask = mask, .fill = fill, .logits = g.logits};
    check_differences(&probe, x, COUNT * input_floats(masked), g.collected.dx, "input");
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
    free_gradients(&g);
    mem_free(mask);
    mem_free(fill);
    mem_free(weight);
    mem_free(x);
    network_free(masked);
    network_free(network);
}

/* ---- callbacks ---------------------------------------------------------------------------------------------------- */

struct tapped {
    const struct nets_result *plain;
    const struct network *network;
    const struct node *const *masks; /* Mask nodes by layer */
    size_t node_seen;                /* last Mask node seen, for the order */
    bool ordered, equal;
    size_t calls;
};

static void check_tap(void *user, size_t mask_layer, size_t first, size_t n, const float *x) {
    struct tapped *tapped = user;
    const struct node *node = tapped->masks[mask_layer];
    size_t index = (size_t)(node - tapped->network->nodes);
    size_t floats = shape_count(&tapped->network->values[node->output].shape);

    tapped->ordered = tapped->ordered && (tapped->calls == 0 || index > tapped->node_seen);
    tapped->node_seen = index;
    tapped->calls++;
    tapped->equal = tapped->equal &&
                    memcmp(x, tapped->plain->values[node->inputs[0]] + first * floats, n * floats * sizeof *x) == 0;
}

static void test_tap_sees_unmasked(void **state) {
    enum { COUNT = 4, LAYERS = 5 };
    struct rng rng;
    const struct node *masks[LAYERS] = {NULL};
    (void)state;

    rng_seed(&rng, 6);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    struct network *masked = masked_residual(&rng, network);
    float *x = nets_floats(&rng, COUNT * input_floats(masked), -1.0f, 1.0f);
    float *fill = nets_floats(&rng, masked->unit_count, -0.5f, 0.5f);
    float *mask = make_mask(&rng, masked);
    for (size_t i = 0; i < masked->node_count; i++) {
        if (masked->nodes[i].op == OP_MASK) {
            masks[masked->nodes[i].attr.mask_layer] = &masked->nodes[i];
        }
    }
    struct nets_result plain = nets_interpret(masked, COUNT, x, mask, fill, NULL);
    struct pool *pool = make_pool(1);
    for (int backward = 0; backward < 2; backward++) {
        struct engine *engine =
            make_engine(masked, pool, (struct engine_options){.chunk = COUNT, .backward = backward == 1});
        struct tapped tapped = {.plain = &plain, .network = masked, .masks = masks, .ordered = true, .equal = true};
        run_ok(engine, &(struct engine_run){
                           .count = COUNT, .user = &tapped, .input = x, .mask = mask, .fill = fill, .tap = check_tap});
        assert_int_equal(tapped.calls, LAYERS);
        assert_true(tapped.ordered);
        assert_true(tapped.equal);
        engine_free(engine);
    }
    pool_free(pool);
    nets_result_free(&plain);
    mem_free(mask);
    mem_free(fill);
    mem_free(x);
    network_free(masked);
    network_free(network);
}

/* A masked network under no mask is the network, bit for bit. */
static void test_mask_of_ones_changes_nothing(void **state) {
    enum { COUNT = 7 };
    struct rng rng;
    float without[COUNT * NETS_CLASSES], with[COUNT * NETS_CLASSES];
    (void)state;

    rng_seed(&rng, 7);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    struct network *masked = masked_residual(&rng, network);
    float *x = nets_floats(&rng, COUNT * input_floats(masked), -1.0f, 1.0f);
    float *ones = nets_floats(&rng, masked->unit_count, 1.0f, 1.0f);
    struct pool *pool = make_pool(1);
    struct engine *plain = make_engine(network, pool, (struct engine_options){.chunk = 4});
    struct engine *engine = make_engine(masked, pool, (struct engine_options){.chunk = 4});
    run_ok(plain, &(struct engine_run){.count = COUNT, .input = x, .logits = without});
    run_ok(engine, &(struct engine_run){.count = COUNT, .input = x, .logits = with});
    assert_memory_equal(with, without, sizeof with);
    memset(with, 0, sizeof with);
    run_ok(engine, &(struct engine_run){.count = COUNT, .input = x, .mask = ones, .fill = ones, .logits = with});
    assert_memory_equal(with, without, sizeof with);
    assert_int_equal(engine_bytes(engine), engine_bytes(plain)); /* in place: a Mask takes no memory */
    engine_free(engine);
    engine_free(plain);
    pool_free(pool);
    mem_free(ones);
    mem_free(x);
    network_free(masked);
    network_free(network);
}

struct statistics {
    const struct nets_result *plain;
    const struct network *network;
    size_t calls;
    float worst; /* largest difference */
};

static void check_statistics(void *user, size_t node, size_t first, size_t n, const float *mean,
                             const float *variance) {
    struct statistics *s = user;
    const struct shape *shape = &s->network->values[s->network->nodes[node].output].shape;
    size_t inner = shape_count_from(shape, 2);
    const float *x = s->plain->values[s->network->nodes[node].inputs[0]] + first * shape_count(shape);

    s->calls++;
    if (s->calls > 1) {
        return; /* later ones are behind normalised values, which the plain run does not have */
    }
    for (size_t c = 0; c < shape->dim[1]; c++) {
        double sum = 0.0, squares = 0.0;
        for (size_t i = 0; i < n * inner; i++) {
            double value = (double)x[(i / inner * shape->dim[1] + c) * inner + i % inner];
            sum += value;
            squares += value * value;
        }
        double count = (double)(n * inner);
        double want_mean = sum / count;
        double want_variance = squares / count - want_mean * want_mean;
        s->worst = fmaxf(s->worst, fabsf(mean[c] - (float)want_mean));
        s->worst = fmaxf(s->worst, fabsf(variance[c] - (float)want_variance));
    }
}

static void test_batch_statistics(void **state) {
    enum { COUNT = 4 };
    struct rng rng;
    (void)state;

    rng_seed(&rng, 8);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    float *x = nets_floats(&rng, COUNT * input_floats(network), -1.0f, 1.0f);
    struct nets_result plain = nets_interpret(network, COUNT, x, NULL, NULL, NULL);
    struct pool *pool = make_pool(1);
    struct engine *engine = make_engine(network, pool, (struct engine_options){.chunk = COUNT, .backward = true});
    struct statistics statistics = {.plain = &plain, .network = network};
    run_ok(engine,
           &(struct engine_run){
               .count = COUNT, .user = &statistics, .input = x, .train = true, .batch_stats = check_statistics});
    assert_int_equal(statistics.calls, 6); /* one a BatchNorm */
    assert_true(statistics.worst < 1e-5f);
    engine_free(engine);
    pool_free(pool);
    nets_result_free(&plain);
    mem_free(x);
    network_free(network);
}

struct filler {
    const float *x;
    size_t floats;
    atomic_size_t calls;
};

static void fill_from(void *user, size_t first, size_t n, float *x) {
    struct filler *filler = user;
    memcpy(x, filler->x + first * filler->floats, n * filler->floats * sizeof *x);
    atomic_fetch_add(&filler->calls, 1);
}

static void test_filled_input_equals_given(void **state) {
    struct rng rng;
    float given[SAMPLES * NETS_CLASSES], filled[SAMPLES * NETS_CLASSES];
    (void)state;

    rng_seed(&rng, 9);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    float *x = nets_floats(&rng, SAMPLES * input_floats(network), -1.0f, 1.0f);
    struct filler filler = {.x = x, .floats = input_floats(network)};
    struct pool *pool = make_pool(3);
    struct engine *engine = make_engine(network, pool, (struct engine_options){.chunk = 2});
    run_ok(engine, &(struct engine_run){.count = SAMPLES, .input = x, .logits = given});
    run_ok(engine, &(struct engine_run){.count = SAMPLES, .user = &filler, .fill_input = fill_from, .logits = filled});
    assert_memory_equal(given, filled, sizeof given);
    assert_int_equal(atomic_load(&filler.calls), 7);
    engine_free(engine);
    pool_free(pool);
    mem_free(x);
    network_free(network);
}

/* ---- limits and refusals ------------------------------------------------------------------------------------------ */

static void test_memory_is_reused(void **state) {
    struct rng rng;
    size_t all = 0;
    (void)state;

    rng_seed(&rng, 10);
    struct network *network = nets_residual(&rng, 16, 16, OP_RELU);
    for (size_t v = 0; v < network->value_count; v++) {
        all += network->values[v].kind == VALUE_CONSTANT ? 0 : shape_count(&network->values[v].shape);
    }
    struct pool *pool = make_pool(1);
    struct engine *engine = make_engine(network, pool, (struct engine_options){.chunk = 16});
    /* Three of the twenty values at a time, and what the convolution needs. */
    assert_true(engine_bytes(engine) < 16 * all * sizeof(float) / 2);
    engine_free(engine);
    pool_free(pool);
    network_free(network);
}

static void test_run_allocates_nothing(void **state) {
    struct rng rng;
    float logits[SAMPLES * NETS_CLASSES];
    (void)state;

    rng_seed(&rng, 11);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    float *x = nets_floats(&rng, SAMPLES * input_floats(network), -1.0f, 1.0f);
    float *weight = nets_floats(&rng, SAMPLES * NETS_CLASSES, -1.0f, 1.0f);
    struct pool *pool = make_pool(2);
    struct gradients g = make_gradients(network, SAMPLES, x, weight);
    struct engine *engine =
        make_engine(network, pool, (struct engine_options){.chunk = 3, .backward = true, .wants_grad = g.wants});
    struct engine_run run = gradient_run(&g, SAMPLES, NULL, NULL);
    run.mask_grad = NULL;
    uint64_t before = mem_allocation_count();
    run_ok(engine, &run);
    run_ok(engine, &(struct engine_run){.count = SAMPLES, .input = x, .logits = logits});
    assert_int_equal(mem_allocation_count(), before);
    engine_free(engine);
    pool_free(pool);
    free_gradients(&g);
    mem_free(weight);
    mem_free(x);
    network_free(network);
}

struct canceller {
    atomic_bool flag;
    atomic_size_t calls;
};

static void cancel_later(void *user, size_t first, size_t n, float *x) {
    struct canceller *canceller = user;
    (void)first;
    memset(x, 0, n * 3 * 8 * 8 * sizeof *x);
    if (atomic_fetch_add(&canceller->calls, 1) == 2) {
        atomic_store(&canceller->flag, true);
    }
}

static void test_cancel(void **state) {
    struct rng rng;
    struct error error = {0};
    struct canceller canceller = {.flag = false};
    (void)state;

    rng_seed(&rng, 12);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    struct pool *pool = make_pool(2);
    struct engine *engine = make_engine(network, pool, (struct engine_options){.chunk = 1});
    struct engine_run run = {.count = 1000, .user = &canceller, .fill_input = cancel_later, .cancel = &canceller.flag};
    assert_int_equal(engine_run(engine, &run, &error), STATUS_CANCELLED);
    assert_int_equal(error.status, STATUS_CANCELLED);
    assert_true(atomic_load(&canceller.calls) <= 4); /* the third call asked; one more may have been under way */
    run.count = 2;
    atomic_store(&canceller.flag, false);
    run_ok(engine, &run); /* and the engine is as good as before */
    engine_free(engine);
    pool_free(pool);
    network_free(network);
}

static void test_names_first_bad_sample(void **state) {
    enum { COUNT = 40 };
    struct rng rng;
    (void)state;

    rng_seed(&rng, 13);
    struct network *network = nets_residual(&rng, 4, 8, OP_TANH);
    /* Two samples are spoilt; whichever thread meets one first, the first is named. */
    float *x = nets_floats(&rng, COUNT * input_floats(network), -1.0f, 1.0f);
    x[17 * input_floats(network) + 5] = NAN;
    x[31 * input_floats(network)] = NAN;
    for (size_t threads = 1; threads <= 3; threads++) {
        struct error error = {0};
        struct pool *pool = make_pool(threads);
        struct engine *engine = make_engine(network, pool, (struct engine_options){.chunk = 2, .backward = true});
        struct engine_run run = {.count = COUNT, .input = x};
        assert_int_equal(engine_run(engine, &run, &error), STATUS_NUMERIC);
        assert_string_equal(error.where, "sample 17");
        run.count = 17;
        run_ok(engine, &run);
        engine_free(engine);
        pool_free(pool);
    }
    mem_free(x);
    network_free(network);
}

static void test_refusals(void **state) {
    struct rng rng;
    struct error error = {0};
    struct engine *engine = NULL;
    float x[3 * 8 * 8] = {0};
    float mask[64] = {0};
    (void)state;

    rng_seed(&rng, 14);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    struct pool *pool = make_pool(2);
    assert_int_equal(
        engine_new(network, pool, &(struct engine_options){.chunk = 8, .max_bytes = 4096}, &engine, &error),
        STATUS_LIMIT);
    assert_null(engine);
    error_clear(&error);
    assert_int_equal(engine_new(network, pool, &(struct engine_options){.chunk = SIZE_MAX / 2}, &engine, &error),
                     STATUS_LIMIT);
    error_clear(&error);
    struct network *empty = network_new();
    assert_int_equal(engine_new(empty, pool, &(struct engine_options){0}, &engine, &error), STATUS_INVALID);
    network_free(empty);

    engine = make_engine(network, pool, (struct engine_options){.chunk = 8});
    const struct engine_run wrong[] = {
        {.count = 1},
        {.count = 1, .input = x, .loss = linear_loss},
        {.count = 1, .input = x, .train = true},
        {.count = 1, .input = x, .mask_grad = mask},
        {.count = 1, .input = x, .mask = mask},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        error_clear(&error);
        assert_int_equal(engine_run(engine, &wrong[i], &error), STATUS_INVALID);
    }
    run_ok(engine, &(struct engine_run){.count = 0});
    engine_free(engine);

    engine = make_engine(network, pool, (struct engine_options){.backward = true});
    float *wanted[256] = {NULL};
    wanted[nets_find(network, "fc.b")] = mask;
    error_clear(&error);
    struct engine_run run = {.count = 1, .input = x, .loss = linear_loss, .param_grad = wanted};
    assert_int_equal(engine_run(engine, &run, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "fc.b"));
    engine_free(engine);
    pool_free(pool);
    network_free(network);
}

/* With no samples, sums are zero and not what was in memory. */
static void test_empty_run_gives_zero_sums(void **state) {
    struct rng rng;
    (void)state;

    rng_seed(&rng, 15);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    struct pool *pool = make_pool(2);
    struct gradients g = make_gradients(network, 1, NULL, NULL);
    struct engine *engine =
        make_engine(network, pool, (struct engine_options){.backward = true, .wants_grad = g.wants});
    size_t bias = nets_find(network, "fc.b");
    g.param_grad[bias][0] = 3.0f;
    struct engine_run run = gradient_run(&g, 0, NULL, NULL);
    run.mask_grad = NULL;
    run_ok(engine, &run);
    assert_true(g.param_grad[bias][0] == 0.0f);
    engine_free(engine);
    pool_free(pool);
    free_gradients(&g);
    network_free(network);
}

static void test_new_survives_no_memory(void **state) {
    struct rng rng;
    enum status status = STATUS_NO_MEMORY;
    (void)state;

    rng_seed(&rng, 16);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    struct pool *pool = make_pool(2);
    uint64_t tries = 0;
    for (uint64_t n = 1; status != STATUS_OK; n++, tries++) {
        struct error error = {0};
        struct engine *engine = NULL;
        mem_fail_after(n);
        status = engine_new(network, pool, &(struct engine_options){.backward = true}, &engine, &error);
        mem_fail_after(0);
        assert_true(status == STATUS_OK || (status == STATUS_NO_MEMORY && engine == NULL));
        engine_free(engine);
    }
    assert_true(tries > 10);
    pool_free(pool);
    network_free(network);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_equals_plain),
        cmocka_unit_test(test_random_graphs_equal_plain),
        cmocka_unit_test(test_residual_equals_plain),
        cmocka_unit_test(test_threads_do_not_change_sums),
        cmocka_unit_test(test_wanted_parts),
        cmocka_unit_test(test_finite_differences),
        cmocka_unit_test(test_tap_sees_unmasked),
        cmocka_unit_test(test_mask_of_ones_changes_nothing),
        cmocka_unit_test(test_batch_statistics),
        cmocka_unit_test(test_filled_input_equals_given),
        cmocka_unit_test(test_memory_is_reused),
        cmocka_unit_test(test_run_allocates_nothing),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_names_first_bad_sample),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_empty_run_gives_zero_sums),
        cmocka_unit_test(test_new_survives_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
