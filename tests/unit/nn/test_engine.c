/* The engine forward: against the plain interpreter of nets.c over chunk sizes, threads and counts; its callbacks, limits and
 * refusals. Gradients are tested in test_engine_gradient.c. */
#include "server/nn/engine.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "common/rng.h"
#include "server/nn/pool.h"
#include "tests/support/cm.h"
#include "tests/unit/nn/engine_fixture.h"
#include "tests/unit/nn/nets.h"

enum { SAMPLES = 13 };

/* Of a forward run: an even number of chunks, whatever the threads, of about the same length. */
static size_t chunk_length(size_t count, size_t chunk) {
    size_t pairs = 1;
    while (2 * pairs * chunk < count) {
        pairs++;
    }
    return (count + 2 * pairs - 1) / (2 * pairs);
}

static void test_forward_equals_plain(void **state) {
    static const size_t counts[] = {1, 3, 8, SAMPLES};
    struct rng rng;
    float logits[SAMPLES * NETS_CLASSES];
    (void)state;

    rng_seed(&rng, 1);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    float *x = nets_floats(&rng, SAMPLES * fixture_input_floats(network), -1.0f, 1.0f);
    for (size_t chunk = 0; chunk <= 9; chunk += 3) {
        for (size_t threads = 1; threads <= 3; threads++) {
            struct pool *pool = fixture_pool(threads);
            struct engine *engine = fixture_engine(network, pool, (struct engine_options){.chunk = chunk});
            assert_int_equal(engine_chunk(engine), chunk == 0 ? 16 : chunk);
            for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
                fixture_run(engine, &(struct engine_run){.count = counts[c], .input = x, .logits = logits});
                /* The plain run goes by the same chunks: a matrix product may round otherwise for another batch. */
                const size_t length = chunk_length(counts[c], engine_chunk(engine));
                assert_in_range(length, 1, engine_chunk(engine));
                for (size_t first = 0; first < counts[c]; first += length) {
                    size_t n = counts[c] - first < length ? counts[c] - first : length;
                    struct nets_result plain =
                        nets_interpret(network, n, x + first * fixture_input_floats(network), NULL, NULL, NULL);
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
    struct network *masked = fixture_masked_residual(network);
    float *x = nets_floats(&rng, COUNT * fixture_input_floats(masked), -1.0f, 1.0f);
    float *fill = nets_floats(&rng, masked->unit_count, -0.5f, 0.5f);
    float *mask = fixture_mask(&rng, masked);
    for (size_t i = 0; i < masked->node_count; i++) {
        if (masked->nodes[i].op == OP_MASK) {
            masks[masked->nodes[i].attr.mask_layer] = &masked->nodes[i];
        }
    }
    struct nets_result plain = nets_interpret(masked, COUNT, x, mask, fill, NULL);
    struct pool *pool = fixture_pool(1);
    for (int backward = 0; backward < 2; backward++) {
        struct engine *engine =
            fixture_engine(masked, pool, (struct engine_options){.chunk = COUNT, .backward = backward == 1});
        struct tapped tapped = {.plain = &plain, .network = masked, .masks = masks, .ordered = true, .equal = true};
        fixture_run(engine,
                    &(struct engine_run){
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
    struct network *masked = fixture_masked_residual(network);
    float *x = nets_floats(&rng, COUNT * fixture_input_floats(masked), -1.0f, 1.0f);
    float *ones = nets_floats(&rng, masked->unit_count, 1.0f, 1.0f);
    struct pool *pool = fixture_pool(1);
    struct engine *plain = fixture_engine(network, pool, (struct engine_options){.chunk = 4});
    struct engine *engine = fixture_engine(masked, pool, (struct engine_options){.chunk = 4});
    fixture_run(plain, &(struct engine_run){.count = COUNT, .input = x, .logits = without});
    fixture_run(engine, &(struct engine_run){.count = COUNT, .input = x, .logits = with});
    assert_memory_equal(with, without, sizeof with);
    memset(with, 0, sizeof with);
    fixture_run(engine, &(struct engine_run){.count = COUNT, .input = x, .mask = ones, .fill = ones, .logits = with});
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
    float *x = nets_floats(&rng, COUNT * fixture_input_floats(network), -1.0f, 1.0f);
    struct nets_result plain = nets_interpret(network, COUNT, x, NULL, NULL, NULL);
    struct pool *pool = fixture_pool(1);
    struct engine *engine = fixture_engine(network, pool, (struct engine_options){.chunk = COUNT, .backward = true});
    struct statistics statistics = {.plain = &plain, .network = network};
    fixture_run(engine,
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
    float *x = nets_floats(&rng, SAMPLES * fixture_input_floats(network), -1.0f, 1.0f);
    struct filler filler = {.x = x, .floats = fixture_input_floats(network)};
    struct pool *pool = fixture_pool(3);
    struct engine *engine = fixture_engine(network, pool, (struct engine_options){.chunk = 2});
    fixture_run(engine, &(struct engine_run){.count = SAMPLES, .input = x, .logits = given});
    fixture_run(engine,
                &(struct engine_run){.count = SAMPLES, .user = &filler, .fill_input = fill_from, .logits = filled});
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
    struct pool *pool = fixture_pool(1);
    struct engine *engine = fixture_engine(network, pool, (struct engine_options){.chunk = 16});
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
    float *x = nets_floats(&rng, SAMPLES * fixture_input_floats(network), -1.0f, 1.0f);
    float *weight = nets_floats(&rng, SAMPLES * NETS_CLASSES, -1.0f, 1.0f);
    struct pool *pool = fixture_pool(2);
    struct gradients g = fixture_gradients(network, SAMPLES, x, weight);
    struct engine *engine =
        fixture_engine(network, pool, (struct engine_options){.chunk = 3, .backward = true, .wants_grad = g.wants});
    struct engine_run run = fixture_gradient_run(&g, SAMPLES, NULL, NULL);
    run.mask_grad = NULL;
    uint64_t before = mem_allocation_count();
    fixture_run(engine, &run);
    fixture_run(engine, &(struct engine_run){.count = SAMPLES, .input = x, .logits = logits});
    assert_int_equal(mem_allocation_count(), before);
    engine_free(engine);
    pool_free(pool);
    fixture_free_gradients(&g);
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
    struct pool *pool = fixture_pool(2);
    struct engine *engine = fixture_engine(network, pool, (struct engine_options){.chunk = 1});
    struct engine_run run = {.count = 1000, .user = &canceller, .fill_input = cancel_later, .cancel = &canceller.flag};
    assert_int_equal(engine_run(engine, &run, &error), STATUS_CANCELLED);
    assert_int_equal(error.status, STATUS_CANCELLED);
    assert_true(atomic_load(&canceller.calls) <= 4); /* the third call asked; one more may have been under way */
    run.count = 2;
    atomic_store(&canceller.flag, false);
    fixture_run(engine, &run); /* and the engine is as good as before */
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
    float *x = nets_floats(&rng, COUNT * fixture_input_floats(network), -1.0f, 1.0f);
    x[17 * fixture_input_floats(network) + 5] = NAN;
    x[31 * fixture_input_floats(network)] = NAN;
    for (size_t threads = 1; threads <= 3; threads++) {
        struct error error = {0};
        struct pool *pool = fixture_pool(threads);
        struct engine *engine = fixture_engine(network, pool, (struct engine_options){.chunk = 2, .backward = true});
        struct engine_run run = {.count = COUNT, .input = x};
        assert_int_equal(engine_run(engine, &run, &error), STATUS_NUMERIC);
        assert_string_equal(error.where, "sample 17");
        run.count = 17;
        fixture_run(engine, &run);
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
    struct pool *pool = fixture_pool(2);
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

    engine = fixture_engine(network, pool, (struct engine_options){.chunk = 8});
    const struct engine_run wrong[] = {
        {.count = 1},
        {.count = 1, .input = x, .loss = fixture_linear_loss},
        {.count = 1, .input = x, .train = true},
        {.count = 1, .input = x, .mask_grad = mask},
        {.count = 1, .input = x, .mask = mask},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        error_clear(&error);
        assert_int_equal(engine_run(engine, &wrong[i], &error), STATUS_INVALID);
    }
    fixture_run(engine, &(struct engine_run){.count = 0});
    engine_free(engine);

    engine = fixture_engine(network, pool, (struct engine_options){.backward = true});
    float *wanted[256] = {NULL};
    wanted[nets_find(network, "fc.b")] = mask;
    error_clear(&error);
    struct engine_run run = {.count = 1, .input = x, .loss = fixture_linear_loss, .param_grad = wanted};
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
    struct pool *pool = fixture_pool(2);
    struct gradients g = fixture_gradients(network, 1, NULL, NULL);
    struct engine *engine =
        fixture_engine(network, pool, (struct engine_options){.backward = true, .wants_grad = g.wants});
    size_t bias = nets_find(network, "fc.b");
    g.param_grad[bias][0] = 3.0f;
    struct engine_run run = fixture_gradient_run(&g, 0, NULL, NULL);
    run.mask_grad = NULL;
    fixture_run(engine, &run);
    assert_true(g.param_grad[bias][0] == 0.0f);
    engine_free(engine);
    pool_free(pool);
    fixture_free_gradients(&g);
    network_free(network);
}

static void test_new_survives_no_memory(void **state) {
    struct rng rng;
    enum status status = STATUS_NO_MEMORY;
    (void)state;

    rng_seed(&rng, 16);
    struct network *network = nets_residual(&rng, 4, 8, OP_RELU);
    struct pool *pool = fixture_pool(2);
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
        cmocka_unit_test(test_forward_equals_plain),         cmocka_unit_test(test_tap_sees_unmasked),
        cmocka_unit_test(test_mask_of_ones_changes_nothing), cmocka_unit_test(test_batch_statistics),
        cmocka_unit_test(test_filled_input_equals_given),    cmocka_unit_test(test_memory_is_reused),
        cmocka_unit_test(test_run_allocates_nothing),        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_names_first_bad_sample),       cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_empty_run_gives_zero_sums),    cmocka_unit_test(test_new_survives_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
