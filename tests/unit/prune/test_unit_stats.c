/* Unit statistics against a plain computation over what a tap saw, for any number of threads. */
#include "server/prune/unit_stats.h"
#include "tests/unit/graph/builder.h"

enum { SAMPLES = 11, CHUNK = 4 };

struct seen {
    const struct unit_map *map;
    double *sum, *square;
};

static void see(void *user, size_t mask_layer, size_t first, size_t n, const float *x) {
    (void)first;
    struct seen *seen = user;
    const struct unit_layer *layer = &seen->map->layers[mask_layer];
    for (size_t i = 0; i < n; i++) {
        for (size_t c = 0; c < layer->count; c++) {
            for (size_t p = 0; p < layer->positions; p++) {
                float v = x[(i * layer->count + c) * layer->positions + p];
                v = fminf(fmaxf(v, layer->low), layer->high);
                seen->sum[layer->first + c] += (double)v;
                seen->square[layer->first + c] += (double)v * (double)v;
            }
        }
    }
}

static void fill_from(void *user, size_t first, size_t n, float *x) {
    memcpy(x, (const float *)user + first * 3 * 8 * 8, n * 3 * 8 * 8 * sizeof *x);
}

static void first_logit(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    (void)first, (void)logits;
    assert_non_null(user); /* the caller's, not the collector's */
    memset(dlogits, 0, n * 10 * sizeof *dlogits);
    for (size_t i = 0; i < n; i++) {
        dlogits[i * 10] = 1.0F;
    }
}

/* With a loss the same is collected on the way, and the gradient is that of a run by itself. */
static void collects_beside_a_loss(const struct network *masked, struct pool *pool, const struct unit_map *map,
                                   const struct engine_run *forward, const struct unit_stats *expected) {
    struct engine *engine = NULL;
    struct unit_stats *stats = NULL;
    struct error error = {0};
    const struct engine_options options = {.chunk = CHUNK, .backward = true};
    float *gradient[2] = {mem_alloc(map->unit_count, sizeof(float)), mem_alloc(map->unit_count, sizeof(float))};
    struct engine_run run = *forward;
    assert_int_equal(engine_new(masked, pool, &options, &engine, &error), STATUS_OK);
    run.loss = first_logit;
    run.mask_grad = gradient[0];
    assert_int_equal(unit_stats_collect(engine, map, &run, &stats, &error), STATUS_OK);
    run.mask_grad = gradient[1];
    assert_int_equal(engine_run(engine, &run, &error), STATUS_OK);
    assert_memory_equal(gradient[0], gradient[1], map->unit_count * sizeof(float));
    assert_memory_equal(stats->mean, expected->mean, map->unit_count * sizeof(float));
    assert_memory_equal(stats->deviation, expected->deviation, map->unit_count * sizeof(float));
    mem_free(gradient[0]);
    mem_free(gradient[1]);
    unit_stats_free(stats);
    engine_free(engine);
}

static void they_agree_with_a_plain_computation(void **state) {
    (void)state;
    struct network *network = build_preact18(31, 4, 8), *masked = NULL;
    struct unit_map *map = NULL;
    struct error error = {0};
    assert_int_equal(units_find(network, &map, &error), STATUS_OK);
    assert_int_equal(units_masked_network(network, map, &masked, &error), STATUS_OK);
    struct rng rng;
    rng_seed(&rng, 32);
    static float x[SAMPLES * 3 * 8 * 8];
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) {
        x[i] = rng_uniform(&rng);
    }
    float *mask = mem_alloc(map->unit_count, sizeof *mask), *fill = mem_alloc(map->unit_count, sizeof *fill);
    for (size_t u = 0; u < map->unit_count; u++) {
        mask[u] = rng_uniform(&rng) < 0.2F ? 0.0F : 1.0F;
        fill[u] = rng_normal(&rng);
    }
    struct seen seen = {map, mem_calloc(map->unit_count, sizeof(double)), mem_calloc(map->unit_count, sizeof(double))};
    struct unit_stats *first = NULL;
    float logits[2][SAMPLES * 10];
    for (size_t threads = 1; threads <= 2; threads++) {
        struct pool *pool = NULL;
        struct engine *engine = NULL;
        struct unit_stats *stats = NULL;
        struct engine_options options = {.chunk = CHUNK};
        assert_int_equal(pool_new(threads, &pool, &error), STATUS_OK);
        assert_int_equal(engine_new(masked, pool, &options, &engine, &error), STATUS_OK);
        if (threads == 1) {
            struct engine_run run = {
                .count = SAMPLES, .user = &seen, .input = x, .mask = mask, .fill = fill, .tap = see};
            assert_int_equal(engine_run(engine, &run, &error), STATUS_OK);
            run = (struct engine_run){.count = SAMPLES, .input = x, .mask = mask, .fill = fill, .logits = logits[0]};
            assert_int_equal(unit_stats_collect(engine, map, &run, &stats, &error), STATUS_OK);
        } else {
            const struct engine_run run = {
                .count = SAMPLES, .user = x, .fill_input = fill_from, .mask = mask, .fill = fill, .logits = logits[1]};
            assert_int_equal(unit_stats_collect(engine, map, &run, &stats, &error), STATUS_OK);
            collects_beside_a_loss(masked, pool, map, &run, stats);
        }
        for (size_t u = 0; u < map->unit_count; u++) {
            double n = SAMPLES * (double)map->layers[map->layer_of[u]].positions;
            double mean = seen.sum[u] / n, deviation = sqrt(fmax(0, seen.square[u] / n - mean * mean));
            assert_true(fabs((double)stats->mean[u] - mean) <= 1e-6 * (1 + fabs(mean)));
            /* The difference of two near numbers loses half the digits of a double where the deviation is near 0. */
            assert_true(fabs((double)stats->deviation[u] - deviation) <= 1e-5 * (1 + deviation));
            if (first != NULL) {
                assert_true(stats->mean[u] == first->mean[u] && stats->deviation[u] == first->deviation[u]);
            }
        }
        if (first == NULL) {
            first = stats;
        } else {
            unit_stats_free(stats);
        }
        engine_free(engine);
        pool_free(pool);
    }
    assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
    unit_stats_free(first);
    mem_free(seen.sum);
    mem_free(seen.square);
    mem_free(mask);
    mem_free(fill);
    network_free(masked);
    units_free(map);
    network_free(network);
}

static void no_samples_no_memory_and_cancel_are_errors(void **state) {
    (void)state;
    struct network *network = build_resnet18(33, 4, 8, true), *masked = NULL;
    struct unit_map *map = NULL;
    struct pool *pool = NULL;
    struct engine *engine = NULL;
    struct unit_stats *stats = NULL;
    struct error error = {0};
    struct engine_options options = {.chunk = CHUNK};
    static float x[3 * 8 * 8];
    assert_int_equal(units_find(network, &map, &error), STATUS_OK);
    assert_int_equal(units_masked_network(network, map, &masked, &error), STATUS_OK);
    assert_int_equal(pool_new(1, &pool, &error), STATUS_OK);
    assert_int_equal(engine_new(masked, pool, &options, &engine, &error), STATUS_OK);
    struct engine_run run = {.input = x};
    assert_int_equal(unit_stats_collect(engine, map, &run, &stats, &error), STATUS_INVALID);
    error_clear(&error);
    atomic_bool cancel = true;
    run = (struct engine_run){.count = 1, .input = x, .cancel = &cancel};
    assert_int_equal(unit_stats_collect(engine, map, &run, &stats, &error), STATUS_CANCELLED);
    run.cancel = NULL;
    for (uint64_t n = 1;; n++) {
        error_clear(&error);
        mem_fail_after(n);
        enum status status = unit_stats_collect(engine, map, &run, &stats, &error);
        mem_fail_after(0);
        if (status == STATUS_OK) {
            assert_true(n > 3);
            break;
        }
        assert_int_equal(error.status, STATUS_NO_MEMORY);
        assert_null(stats);
    }
    unit_stats_free(stats);
    engine_free(engine);
    pool_free(pool);
    network_free(masked);
    units_free(map);
    network_free(network);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_agree_with_a_plain_computation),
        cmocka_unit_test(no_samples_no_memory_and_cancel_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
