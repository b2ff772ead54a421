/* Compaction: the smaller network gives the logits of the pruned one, and what is removed is what can be removed exactly. */
#include "server/graph/units.h"
#include "server/nn/engine.h"
#include "server/prune/compact.h"
#include "tests/unit/graph/builder.h"

enum { SAMPLES = 5 };

static float *run(const struct network *network, const float *x) {
    struct pool *pool = NULL;
    struct engine *engine = NULL;
    struct error error = {0};
    const struct engine_options options = {.chunk = 2};
    float *logits = mem_calloc(SAMPLES * network->values[network->output].shape.dim[1], sizeof *logits);
    assert_int_equal(pool_new(1, &pool, &error), STATUS_OK);
    assert_int_equal(engine_new(network, pool, &options, &engine, &error), STATUS_OK);
    const struct engine_run run = {.count = SAMPLES, .input = x, .logits = logits};
    assert_int_equal(engine_run(engine, &run, &error), STATUS_OK);
    engine_free(engine);
    pool_free(pool);
    return logits;
}

/* Makes channel c of a unit layer the constant `fill`, as an exported repair has it. */
static void prune(struct network *network, const struct unit_layer *layer, size_t c, float fill) {
    if (layer->weight_node != NETWORK_NONE) {
        const struct node *node = &network->nodes[layer->weight_node];
        const struct shape *shape = &network->values[node->inputs[1]].shape;
        float *weight = network_constant_data(network, node->inputs[1]);
        const size_t rest = shape_count(shape) / layer->count;
        for (size_t i = 0; i < rest; i++) {
            weight[node->op == OP_GEMM && !node->attr.trans_b ? i * layer->count + c : c * rest + i] = 0.0F;
        }
        if (layer->norm_node == NETWORK_NONE) {
            network_constant_data(network, node->inputs[2])[c] = node->op == OP_GEMM ? fill / node->attr.beta : fill;
        }
    }
    if (layer->norm_node != NETWORK_NONE) {
        network_constant_data(network, network->nodes[layer->norm_node].inputs[1])[c] = 0.0F;
        network_constant_data(network, network->nodes[layer->norm_node].inputs[2])[c] = fill;
    }
}

/* Compacts, compares the logits, consumes the network. Sums in another order and constants folded in double: 1e-5 of the largest
 * logit. */
static struct compact_figures check(struct network *network) {
    struct network *compact = NULL;
    struct compact_figures figures;
    struct error error = {0};
    struct rng rng;
    rng_seed(&rng, 99);
    if (compact_network(network, &compact, &figures, &error) != STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    const size_t inputs = SAMPLES * shape_count(&network->values[network->input].shape);
    const size_t logits = SAMPLES * network->values[network->output].shape.dim[1];
    float *x = mem_alloc(inputs, sizeof *x), scale = 0.0F;
    for (size_t i = 0; i < inputs; i++) {
        x[i] = rng_normal(&rng);
    }
    float *expected = run(network, x), *got = run(compact, x);
    for (size_t i = 0; i < logits; i++) {
        scale = fmaxf(scale, fabsf(expected[i]));
    }
    for (size_t i = 0; i < logits; i++) {
        if (!(fabsf(got[i] - expected[i]) <= 1e-5F * scale)) {
            fail_msg("logit %zu: got %g, expected %g", i, (double)got[i], (double)expected[i]);
        }
    }
    assert_int_equal(figures.parameters_before, network_parameter_count(network));
    assert_int_equal(figures.parameters_after, network_parameter_count(compact));
    mem_free(x);
    mem_free(expected);
    mem_free(got);
    network_free(compact);
    network_free(network);
    return figures;
}

static struct unit_map *map_of(const struct network *network) {
    struct unit_map *map = NULL;
    struct error error = {0};
    assert_int_equal(units_find(network, &map, &error), STATUS_OK);
    return map;
}

/* Conv, Conv, pool, flatten, two Gemm. */
static struct network *plain_network(void) {
    struct builder b;
    size_t x = build_start(&b, 5, 3, 8);
    x = build_relu(&b, build_conv(&b, x, 8, 3, 1, 1, true));
    x = build_relu(&b, build_conv(&b, x, 6, 3, 1, 1, true));
    x = build_flatten(&b, build_pool(&b, x));
    x = build_relu(&b, build_gemm(&b, x, 12, false, 1));
    build_ok(&b, network_set_output(b.network, build_gemm(&b, x, 4, true, 2), &b.error));
    return b.network;
}

static void nothing_pruned_nothing_removed(void **state) {
    (void)state;
    const struct compact_figures f = check(plain_network());
    assert_int_equal(f.removed, 0);
    assert_int_equal(f.kept, 0);
    assert_int_equal(f.parameters_after, f.parameters_before);
}

static void constants_go_into_the_next_bias_or_are_merged(void **state) {
    (void)state;
    struct network *network = plain_network();
    struct unit_map *map = map_of(network);
    assert_int_equal(map->layer_count, 3);
    prune(network, &map->layers[0], 0, -0.5F); /* 0 after the ReLU: exact before a padded Conv */
    prune(network, &map->layers[0], 2, 0.4F);  /* three that are not: two go into the first */
    prune(network, &map->layers[0], 4, 0.9F);
    prune(network, &map->layers[0], 7, 0.1F);
    prune(network, &map->layers[1], 3, 0.7F); /* flattened: 16 columns of the Gemm */
    prune(network, &map->layers[1], 5, -0.2F);
    prune(network, &map->layers[2], 1, 0.5F);
    prune(network, &map->layers[2], 11, 0.3F);
    units_free(map);
    const struct compact_figures f = check(network);
    assert_int_equal(f.removed, 3 + 2 + 2);
    assert_int_equal(f.merged, 2);
    assert_int_equal(f.kept, 1);
    /* 5 of 8 x 3 x 9 + 1; 4 of 6 x 5 x 9 + 1; 64 x 10 + 10; 10 x 4, a bias of 4 in the place of one number. */
    assert_int_equal(f.parameters_after, 5 * 28 + 4 * 46 + 64 * 10 + 10 + 40 + 4);
    assert_true(f.macs_after < f.macs_before);
}

static void a_layer_keeps_one_channel(void **state) {
    (void)state;
    struct network *network = plain_network();
    struct unit_map *map = map_of(network);
    for (size_t c = 0; c < map->layers[1].count; c++) {
        prune(network, &map->layers[1], c, -1.0F);
    }
    units_free(map);
    const struct compact_figures f = check(network);
    assert_true(f.removed >= 5);
}

/* Prunes whole groups: channels tied by a shortcut go together. */
static void prune_groups(struct network *network, float share, float low, float high) {
    struct unit_map *map = map_of(network);
    for (size_t l = 0; l < map->layer_count; l++) {
        for (size_t c = 0; c < map->layers[l].count; c++) {
            struct rng rng;
            rng_seed(&rng, 1000 + map->group_of[map->layers[l].first + c]);
            if (rng_uniform(&rng) < share) {
                prune(network, &map->layers[l], c, rng_range(&rng, low, high));
            }
        }
    }
    units_free(map);
}

static void residual_networks(void **state) {
    (void)state;
    for (int norms = 0; norms < 2; norms++) {
        struct network *network = build_resnet18(30 + (uint64_t)norms, 4, 8, norms != 0);
        prune_groups(network, 0.4F, -0.2F, 1.0F);
        const struct compact_figures f = check(network);
        assert_true(f.removed > 20);
        assert_true(f.merged > 0);
        assert_true(f.parameters_after < f.parameters_before * 3 / 4);
    }
}

static void norms_that_stand_alone_keep_their_channels(void **state) {
    (void)state;
    struct network *network = build_preact18(40, 4, 8);
    struct unit_map *map = map_of(network);
    size_t alone = 0;
    for (size_t l = 0; l < map->layer_count; l++) {
        if (map->layers[l].weight_node == NETWORK_NONE) {
            prune(network, &map->layers[l], 1, 0.5F);
            alone++;
        }
    }
    units_free(map);
    assert_true(alone > 0);
    assert_int_equal(check(network).removed, 0); /* the residual stream that they read is alive */
}

static void depthwise_and_concat(void **state) {
    (void)state;
    struct builder b;
    size_t x = build_start(&b, 50, 3, 8);
    x = build_unary(&b, OP_CLIP, build_norm(&b, build_conv(&b, x, 10, 1, 1, 1, false)));
    size_t y = build_unary(&b, OP_HARD_SWISH, build_norm(&b, build_conv(&b, x, 10, 3, 1, 10, false)));
    y = build_conv(&b, y, 6, 1, 1, 1, false);
    size_t z = build_relu(&b, build_conv(&b, y, 5, 3, 1, 1, true));
    build_head(&b, build_pair(&b, OP_CONCAT, y, z), 7);
    struct unit_map *map = map_of(b.network);
    assert_int_equal(map->layer_count, 3);       /* depthwise channels are units of the layer before */
    prune(b.network, &map->layers[0], 2, -1.0F); /* 0 after the Clip: the depthwise filter of it gives its bias */
    prune(b.network, &map->layers[0], 6, 0.4F);  /* not 0: the padding of the depthwise filter shows, so it stays */
    prune(b.network, &map->layers[2], 1, 0.6F);
    units_free(map);
    for (size_t i = 0; i < b.network->node_count;
         i++) { /* a dead depthwise filter: what is before it is not needed, either */
        const struct node *node = &b.network->nodes[i];
        if (node->op == OP_CONV && node->attr.window.group == 10) {
            memset(network_constant_data(b.network, node->inputs[1]) + (size_t)9 * 7, 0, 9 * sizeof(float));
        }
    }
    const struct compact_figures f = check(b.network);
    assert_int_equal(f.removed, 2 + 2 + 1);
    assert_int_equal(f.kept, 1);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    struct network *network = plain_network();
    struct unit_map *map = map_of(network);
    prune(network, &map->layers[0], 2, 0.4F);
    prune(network, &map->layers[0], 4, 0.9F);
    units_free(map);
    bool done = false;
    for (uint64_t n = 1; !done; n++) {
        struct network *compact = NULL;
        struct compact_figures figures;
        struct error error = {0};
        mem_fail_after(n);
        const enum status status = compact_network(network, &compact, &figures, &error);
        mem_fail_after(0);
        done = status == STATUS_OK;
        assert_true(done || status == STATUS_NO_MEMORY);
        assert_true(done == (compact != NULL));
        network_free(compact);
    }
    network_free(network);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_pruned_nothing_removed),
        cmocka_unit_test(constants_go_into_the_next_bias_or_are_merged),
        cmocka_unit_test(a_layer_keeps_one_channel),
        cmocka_unit_test(residual_networks),
        cmocka_unit_test(norms_that_stand_alone_keep_their_channels),
        cmocka_unit_test(depthwise_and_concat),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
