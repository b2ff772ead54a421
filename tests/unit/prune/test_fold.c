/* Folding a mask into weights gives the network that the mask made: logits of the folded copy against the masked engine's. */
#include "server/nn/engine.h"
#include "server/prune/fold.h"
#include "tests/unit/graph/builder.h"

enum { SAMPLES = 5 };

/* A copy of `network` with the slots of `fold` holding the edited data. */
static struct network *rebuild(const struct network *network, const struct fold *fold) {
    struct network *copy = network_new();
    struct error error = {0};
    size_t *map = mem_calloc(network->value_count, sizeof *map);
    assert_non_null(copy);
    for (size_t v = 0; v < network->value_count; v++) {
        const struct value *value = &network->values[v];
        if (value->kind == VALUE_INPUT) {
            assert_int_equal(network_add_input(copy, value->name, &value->shape, &map[v], &error), STATUS_OK);
        } else if (value->kind == VALUE_CONSTANT) {
            assert_int_equal(network_add_constant(copy, value->name, &value->shape, value->data, &map[v], &error),
                             STATUS_OK);
        }
    }
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        size_t inputs[8], count = node->input_count;
        for (size_t k = 0; k < count; k++) {
            inputs[k] = node->inputs[k] == NETWORK_NONE ? NETWORK_NONE : map[node->inputs[k]];
        }
        for (size_t e = 0; e < fold->count; e++) {
            const struct fold_edit *edit = &fold->edits[e];
            if (edit->node != i) {
                continue;
            }
            struct shape shape = {.rank = 1, .dim = {edit->count}};
            if (edit->slot < count && inputs[edit->slot] != NETWORK_NONE &&
                shape_count(&copy->values[inputs[edit->slot]].shape) == edit->count) {
                shape = copy->values[inputs[edit->slot]].shape;
            }
            char name[32];
            (void)snprintf(name, sizeof name, "edit%zu", e);
            count = edit->slot >= count ? edit->slot + 1 : count;
            assert_int_equal(network_add_constant(copy, name, &shape, edit->data, &inputs[edit->slot], &error),
                             STATUS_OK);
        }
        if (network_add_node(copy, node->op, node->name, inputs, count, &node->attr, i, &map[node->output], &error) !=
            STATUS_OK) {
            fail_msg("%s", error.message);
        }
    }
    assert_int_equal(network_set_output(copy, map[network->output], &error), STATUS_OK);
    mem_free(map);
    return copy;
}

static float *run(const struct network *network, const float *x, const float *mask, const float *fill) {
    struct pool *pool = NULL;
    struct engine *engine = NULL;
    struct error error = {0};
    struct engine_options options = {.chunk = 2};
    size_t classes = network->values[network->output].shape.dim[1];
    float *logits = mem_calloc(SAMPLES * classes, sizeof *logits);
    assert_int_equal(pool_new(1, &pool, &error), STATUS_OK);
    assert_int_equal(engine_new(network, pool, &options, &engine, &error), STATUS_OK);
    struct engine_run run = {.count = SAMPLES, .input = x, .mask = mask, .fill = fill, .logits = logits};
    assert_int_equal(engine_run(engine, &run, &error), STATUS_OK);
    engine_free(engine);
    pool_free(pool);
    return logits;
}

/* Prunes about a third of the units and changes the gain of a quarter, with fills drawn at random, and compares. Consumes the network. */
static void check_fold(struct network *network, uint64_t seed, size_t layers) {
    struct unit_map *map = NULL;
    struct network *masked = NULL;
    struct fold *fold = NULL;
    struct error error = {0};
    struct rng rng;
    rng_seed(&rng, seed);
    assert_int_equal(units_find(network, &map, &error), STATUS_OK);
    assert_int_equal(map->layer_count, layers);
    assert_int_equal(units_masked_network(network, map, &masked, &error), STATUS_OK);
    float *mask = mem_alloc(map->unit_count, sizeof *mask), *fill = mem_alloc(map->unit_count, sizeof *fill);
    for (size_t u = 0; u < map->unit_count; u++) {
        const float draw = rng_uniform(&rng);
        mask[u] = draw < 0.35F ? 0.0F : draw < 0.6F ? rng_range(&rng, 0.2F, 2.0F) : 1.0F;
        fill[u] = rng_normal(&rng);
    }
    size_t inputs = SAMPLES * shape_count(&network->values[network->input].shape);
    float *x = mem_alloc(inputs, sizeof *x);
    for (size_t i = 0; i < inputs; i++) {
        x[i] = rng_uniform(&rng);
    }
    assert_int_equal(fold_mask(network, map, mask, fill, &fold, &error), STATUS_OK);
    struct network *folded = rebuild(network, fold);
    float *expected = run(masked, x, mask, fill), *got = run(folded, x, NULL, NULL),
          *plain = run(network, x, NULL, NULL);
    size_t classes = network->values[network->output].shape.dim[1];
    float scale = 0, moved = 0;
    for (size_t i = 0; i < SAMPLES * classes; i++) {
        scale = fmaxf(scale, fabsf(expected[i]));
        moved = fmaxf(moved, fabsf(expected[i] - plain[i]));
    }
    assert_true(moved > 0.01F * scale); /* the mask does something, or the comparison says nothing */
    for (size_t i = 0; i < SAMPLES * classes; i++) {
        /* Sums of the same numbers in another order: float rounding, 1e-5 of the largest logit. */
        if (!(fabsf(got[i] - expected[i]) <= 1e-5F * scale)) {
            fail_msg("logit %zu: got %g, expected %g", i, (double)got[i], (double)expected[i]);
        }
    }
    mem_free(mask);
    mem_free(fill);
    mem_free(x);
    mem_free(expected);
    mem_free(got);
    mem_free(plain);
    fold_free(fold);
    network_free(folded);
    network_free(masked);
    units_free(map);
    network_free(network);
}

static void conv_with_and_without_norm(void **state) {
    (void)state;
    check_fold(build_resnet18(21, 4, 8, true), 1, 20);
    check_fold(build_resnet18(22, 4, 8, false), 2, 20);
}

static void norms_that_stand_alone(void **state) {
    (void)state;
    check_fold(build_preact18(23, 4, 8), 3, 17 + 12);
}

static void conv_without_a_bias(void **state) {
    (void)state;
    struct builder b;
    size_t x = build_relu(&b, build_conv(&b, build_start(&b, 24, 3, 8), 6, 3, 1, 1, false));
    x = build_relu(&b, build_conv(&b, x, 8, 3, 1, 2, false)); /* grouped, too */
    build_head(&b, x, 4);
    check_fold(b.network, 4, 2);
}

static void conv_with_bias_and_norm(void **state) {
    (void)state;
    struct builder b;
    size_t x = build_relu(&b, build_norm(&b, build_conv(&b, build_start(&b, 25, 3, 8), 6, 3, 1, 1, true)));
    build_head(&b, x, 4);
    check_fold(b.network, 5, 1);
}

static void depthwise_neighbours(void **state) {
    (void)state;
    struct builder b;
    size_t x = build_unary(&b, OP_CLIP, build_norm(&b, build_conv(&b, build_start(&b, 26, 3, 8), 8, 3, 1, 1, false)));
    x = build_unary(&b, OP_CLIP, build_norm(&b, build_conv(&b, x, 8, 3, 1, 8, false)));
    x = build_unary(&b, OP_CLIP, build_norm(&b, build_conv(&b, x, 6, 1, 1, 1, false)));
    build_head(&b, x, 4);
    check_fold(b.network, 6, 2);
}

/* Gemm in both layouts, without a bias, with one, with a single number for one, as MatMul + Add, and with BatchNorm. */
static void hidden_gemms(void **state) {
    (void)state;
    struct builder b;
    size_t x = build_flatten(&b, build_start(&b, 27, 3, 4));
    x = build_relu(&b, build_gemm(&b, x, 12, true, 1));
    x = build_relu(&b, build_gemm(&b, x, 11, false, 2));
    x = build_relu(&b, build_gemm(&b, x, 10, false, 0));
    x = build_relu(&b, build_norm(&b, build_gemm(&b, x, 13, true, 0)));
    x = build_pair(&b, OP_ADD, build_gemm(&b, x, 12, false, 0), build_constant(&b, shape_make(2, 1, 12, 0, 0), 0, 1));
    x = build_gemm(&b, build_relu(&b, x), 4, true, 1);
    build_ok(&b, network_set_output(b.network, x, &b.error));
    check_fold(b.network, 7, 5);
}

static void only_layers_with_pruned_units_are_edited(void **state) {
    (void)state;
    struct network *network = build_resnet18(28, 4, 8, true);
    struct unit_map *map = NULL;
    struct fold *fold = NULL;
    struct error error = {0};
    assert_int_equal(units_find(network, &map, &error), STATUS_OK);
    float *mask = mem_alloc(map->unit_count, sizeof *mask), *fill = mem_calloc(map->unit_count, sizeof *fill);
    for (size_t u = 0; u < map->unit_count; u++) {
        mask[u] = 1;
    }
    assert_int_equal(fold_mask(network, map, mask, fill, &fold, &error), STATUS_OK);
    assert_int_equal(fold->count, 0);
    fold_free(fold);
    const struct unit_layer *layer = &map->layers[3];
    mask[layer->first + 1] = 0;
    fill[layer->first + 1] = 0.75F;
    assert_int_equal(fold_mask(network, map, mask, fill, &fold, &error), STATUS_OK);
    assert_int_equal(fold->count, 3); /* weight, scale, bias of the norm */
    for (size_t e = 0; e < fold->count; e++) {
        const struct fold_edit *edit = &fold->edits[e];
        const float *old = network->values[network->nodes[edit->node].inputs[edit->slot]].data;
        size_t each = edit->count / layer->count;
        for (size_t i = 0; i < edit->count; i++) {
            bool bias = edit->node == layer->norm_node && edit->slot == 2;
            float expected = i / each != 1 ? old[i] : bias ? 0.75F : 0.0F;
            assert_true(edit->data[i] == expected);
        }
    }
    for (uint64_t n = 1;; n++) {
        struct fold *other = NULL;
        struct error failed = {0};
        mem_fail_after(n);
        enum status status = fold_mask(network, map, mask, fill, &other, &failed);
        mem_fail_after(0);
        if (status == STATUS_OK) {
            assert_true(n > 4);
            fold_free(other);
            break;
        }
        assert_int_equal(failed.status, STATUS_NO_MEMORY);
        assert_null(other);
    }
    fold_free(fold);
    mem_free(mask);
    mem_free(fill);
    units_free(map);
    network_free(network);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv_with_and_without_norm),
        cmocka_unit_test(norms_that_stand_alone),
        cmocka_unit_test(conv_without_a_bias),
        cmocka_unit_test(conv_with_bias_and_norm),
        cmocka_unit_test(depthwise_neighbours),
        cmocka_unit_test(hidden_gemms),
        cmocka_unit_test(only_layers_with_pruned_units_are_edited),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
