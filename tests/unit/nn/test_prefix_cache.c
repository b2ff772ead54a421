/* Runs that start in the middle: from a state saved at a cut, and through the cache that keeps states; both against full runs,
 * bit for bit. */
#include "server/nn/prefix_cache.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "common/rng.h"
#include "tests/support/cm.h"
#include "tests/unit/nn/engine_fixture.h"
#include "tests/unit/nn/nets.h"

enum { SAMPLES = 7 };

/* Saves at every cut in one run, then starts at each of them without the input. */
static void check_cuts(const struct network *network, struct rng *rng, size_t chunk, size_t threads, bool backward) {
    struct pool *pool = fixture_pool(threads);
    struct engine *engine =
        fixture_engine(network, pool, (struct engine_options){.chunk = chunk, .backward = backward});
    float *x = nets_floats(rng, SAMPLES * fixture_input_floats(network), -1.0f, 1.0f);
    float *fill = nets_floats(rng, network->unit_count + 1, -1.0f, 1.0f);
    float *mask = fixture_mask(rng, network);
    float expected[SAMPLES * NETS_CLASSES], logits[SAMPLES * NETS_CLASSES];
    struct engine_cut *cuts = mem_calloc(network->node_count, sizeof *cuts);
    struct engine_run run = {.count = SAMPLES, .input = x, .mask = mask, .fill = fill, .logits = expected};

    fixture_run(engine, &run);
    for (size_t i = 0; i < network->node_count; i++) {
        assert_true(engine_cut_floats(engine, i) > 0);
        cuts[i] = (struct engine_cut){i, mem_alloc(SAMPLES * engine_cut_floats(engine, i), sizeof(float))};
    }
    run.logits = logits;
    run.saves = cuts;
    run.save_count = network->node_count;
    fixture_run(engine, &run);
    assert_memory_equal(logits, expected, sizeof logits);
    run.input = NULL;
    for (size_t i = 0; i < network->node_count; i++) {
        /* Starts at a cut and saves the last one again on its way. */
        const bool more = i + 1 < network->node_count;
        const struct engine_cut *last = &cuts[network->node_count - 1];
        const size_t floats = SAMPLES * engine_cut_floats(engine, last->node);
        float *before = mem_dup(last->state, floats * sizeof *before);
        run.start = &cuts[i];
        run.saves = last;
        run.save_count = more ? 1 : 0;
        memset(logits, 0, sizeof logits);
        fixture_run(engine, &run);
        assert_memory_equal(logits, expected, sizeof logits);
        assert_memory_equal(last->state, before, floats * sizeof *before);
        mem_free(before);
    }
    for (size_t i = 0; i < network->node_count; i++) {
        mem_free(cuts[i].state);
    }
    mem_free(cuts);
    mem_free(mask);
    mem_free(fill);
    mem_free(x);
    engine_free(engine);
    pool_free(pool);
}

static void test_start_at_every_cut(void **state) {
    struct rng rng;
    (void)state;

    rng_seed(&rng, 21);
    for (size_t i = 0; i < 24; i++) {
        struct network *network = nets_random(&rng, 3 + (size_t)rng_below(&rng, 20));
        check_cuts(network, &rng, 1 + i % 4, 1 + i % 3, i % 2 == 0);
        network_free(network);
    }
    struct network *plain = nets_residual(&rng, 4, 8, OP_RELU);
    struct network *masked = fixture_masked_residual(plain);
    check_cuts(masked, &rng, 0, 2, false);
    network_free(masked);
    network_free(plain);
}

static void test_refuses_wrong_cuts(void **state) {
    struct rng rng;
    float logits[NETS_CLASSES], room[4096];
    (void)state;

    rng_seed(&rng, 22);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    struct pool *pool = fixture_pool(1);
    struct engine *engine = fixture_engine(network, pool, (struct engine_options){.backward = true});
    float *x = nets_floats(&rng, fixture_input_floats(network), -1.0f, 1.0f);
    const struct engine_cut second[] = {{2, room}, {1, room}}, outside = {network->node_count, room};
    const struct engine_run plain = {.count = 1, .input = x, .logits = logits};
    struct engine_run runs[] = {plain, plain, plain, plain, plain};
    assert_true(engine_cut_floats(engine, 2) <= 4096);
    runs[0].start = &outside;
    runs[1].saves = &outside;
    runs[1].save_count = 1;
    runs[2].saves = second;
    runs[2].save_count = 2;
    runs[3].start = &second[0];
    runs[3].saves = second;
    runs[3].save_count = 1;
    runs[4].start = &second[0];
    runs[4].loss = fixture_linear_loss;
    for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
        struct error error = {0};
        assert_int_equal(engine_run(engine, &runs[i], &error), STATUS_INVALID);
    }
    mem_free(x);
    engine_free(engine);
    pool_free(pool);
    network_free(network);
}

/* ---- the cache ------------------------------------------------------------------------------------------------------ */

struct searched { /* a masked network, its engine and its samples */
    struct network *plain, *network;
    struct pool *pool;
    struct engine *engine;
    float *x, *fill, *mask;
    float expected[SAMPLES * NETS_CLASSES], logits[SAMPLES * NETS_CLASSES];
    struct engine_run run;
};

static void start_search(struct searched *s, struct rng *rng) {
    s->plain = nets_residual(rng, 4, 8, OP_RELU);
    s->network = fixture_masked_residual(s->plain);
    s->pool = fixture_pool(2);
    s->engine = fixture_engine(s->network, s->pool, (struct engine_options){.chunk = 2});
    s->x = nets_floats(rng, SAMPLES * fixture_input_floats(s->network), -1.0f, 1.0f);
    s->fill = nets_floats(rng, s->network->unit_count, -1.0f, 1.0f);
    s->mask = mem_alloc(s->network->unit_count, sizeof(float));
    for (size_t u = 0; u < s->network->unit_count; u++) {
        s->mask[u] = 1.0f;
    }
    s->run =
        (struct engine_run){.count = SAMPLES, .input = s->x, .mask = s->mask, .fill = s->fill, .logits = s->expected};
}

static void end_search(struct searched *s) {
    mem_free(s->mask);
    mem_free(s->fill);
    mem_free(s->x);
    engine_free(s->engine);
    pool_free(s->pool);
    network_free(s->network);
    network_free(s->plain);
}

/* The same run with and without the cache. */
static void check_run(struct searched *s, struct prefix_cache *cache) {
    struct error error = {0};
    struct engine_run run = s->run;

    fixture_run(s->engine, &run);
    run.logits = s->logits;
    memset(s->logits, 0, sizeof s->logits);
    assert_int_equal(prefix_cache_run(cache, &run, &error), STATUS_OK);
    assert_memory_equal(s->logits, s->expected, sizeof s->logits);
}

/* A search that walks: one unit is flipped, and sometimes flipped back; now and then the fill changes. */
static void test_search_equals_full_runs(void **state) {
    static const size_t memory[] = {0, 4000, 20000, 1 << 20};
    double work[4];
    struct rng rng;
    struct searched s;
    (void)state;

    rng_seed(&rng, 23);
    start_search(&s, &rng);
    for (size_t m = 0; m < 4; m++) {
        struct error error = {0};
        struct prefix_cache *cache = NULL;
        struct rng steps;
        rng_seed(&steps, 24);
        assert_int_equal(prefix_cache_new(s.engine, SAMPLES, memory[m], &cache, &error), STATUS_OK);
        for (size_t i = 0; i < 120; i++) {
            const size_t unit = (size_t)rng_below(&steps, s.network->unit_count);
            s.mask[unit] = 1.0f - s.mask[unit];
            if (rng_below(&steps, 40) == 0) {
                s.fill[unit] += 0.5f;
            }
            check_run(&s, cache);
            if (rng_below(&steps, 2) == 0) {
                s.mask[unit] = 1.0f - s.mask[unit];
            }
            assert_true(prefix_cache_stats(cache).bytes <= memory[m]);
        }
        const struct prefix_cache_stats stats = prefix_cache_stats(cache);
        assert_int_equal(stats.runs, 120);
        assert_true((stats.saved > 0) == (stats.bytes > 0));
        work[m] = stats.work;
        prefix_cache_free(cache);
    }
    assert_true(work[0] == 1.0);
    assert_true(work[3] < 0.9 && work[2] <= 1.0 && work[3] <= work[2]);
    end_search(&s);
}

/* From the third on, of a row of masks that differ at the end only, runs start there. */
static void test_last_layer_starts_late(void **state) {
    struct rng rng;
    struct searched s;
    struct error error = {0};
    struct prefix_cache *cache = NULL;
    double before = 0.0;
    (void)state;

    rng_seed(&rng, 25);
    start_search(&s, &rng);
    assert_int_equal(prefix_cache_new(s.engine, SAMPLES, 1 << 20, &cache, &error), STATUS_OK);
    for (size_t i = 0; i < 4; i++) {
        s.mask[s.network->unit_count - 1 - i] = 0.0f; /* of the flattened features, behind all convolutions */
        check_run(&s, cache);
        const struct prefix_cache_stats stats = prefix_cache_stats(cache);
        const double work = stats.work * (double)stats.runs - before;
        /* What lies before all masks is kept at once. */
        assert_true(i == 0 ? work == 1.0 : i == 1 ? work < 1.0 && work > 0.5 : work < 0.5);
        before += work;
    }
    s.mask[0] = 0.5f;
    check_run(&s, cache);
    /* Other weights: nothing of before is of use. */
    network_constant_data(s.plain, nets_find(s.plain, "stem.w"))[0] += 0.25f;
    check_run(&s, cache);
    prefix_cache_free(cache);
    end_search(&s);
}

/* A run that fails or lacks its mask leaves nothing behind that a later one could start from. */
static void test_failed_runs_are_forgotten(void **state) {
    struct rng rng;
    struct searched s;
    struct error error = {0};
    struct prefix_cache *cache = NULL;
    (void)state;

    rng_seed(&rng, 26);
    start_search(&s, &rng);
    assert_int_equal(prefix_cache_new(s.engine, SAMPLES, 1 << 20, &cache, &error), STATUS_OK);
    const float good = s.x[0];
    struct engine_run run = s.run;
    for (size_t i = 0; i < 3; i++) {
        struct error failed = {0};
        s.x[0] = NAN;
        assert_int_equal(prefix_cache_run(cache, &run, &failed), STATUS_NUMERIC);
    }
    assert_int_equal(prefix_cache_stats(cache).bytes, 0);
    s.x[0] = good;
    for (size_t i = 0; i < 3; i++) {
        check_run(&s, cache);
    }
    run.mask = NULL;
    assert_int_equal(prefix_cache_run(cache, &run, &error), STATUS_INVALID);
    run = s.run;
    run.count--;
    assert_int_equal(prefix_cache_run(cache, &run, &error), STATUS_INVALID);
    prefix_cache_free(cache);
    end_search(&s);
}

static void test_survives_no_memory(void **state) {
    struct rng rng;
    struct searched s;
    enum status status = STATUS_NO_MEMORY;
    (void)state;

    rng_seed(&rng, 27);
    start_search(&s, &rng);
    for (uint64_t n = 1; status != STATUS_OK; n++) {
        struct error error = {0};
        struct prefix_cache *cache = NULL;
        mem_fail_after(n);
        status = prefix_cache_new(s.engine, SAMPLES, 1 << 20, &cache, &error);
        mem_fail_after(0);
        assert_true(status == STATUS_OK || (status == STATUS_NO_MEMORY && cache == NULL));
        if (status == STATUS_OK) {
            for (size_t i = 0; i < 3; i++) {
                fixture_run(s.engine, &s.run);
                struct engine_run run = s.run;
                run.logits = s.logits;
                mem_fail_after(1);
                assert_int_equal(prefix_cache_run(cache, &run, &error), STATUS_OK);
                mem_fail_after(0);
                assert_memory_equal(s.logits, s.expected, sizeof s.logits);
            }
            assert_int_equal(prefix_cache_stats(cache).bytes, 0);
        }
        prefix_cache_free(cache);
    }
    end_search(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start_at_every_cut),        cmocka_unit_test(test_refuses_wrong_cuts),
        cmocka_unit_test(test_search_equals_full_runs),   cmocka_unit_test(test_last_layer_starts_late),
        cmocka_unit_test(test_failed_runs_are_forgotten), cmocka_unit_test(test_survives_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
