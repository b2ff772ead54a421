/* Inversion and exposure on a linear classifier with a shortcut: a few pixels of one corner outweigh everything for one class. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "server/expose/bank.h"
#include "server/expose/expose.h"

enum { C = 1, S = 8, VALUES = C * S * S, CLASSES = 6, SAMPLES = 90, TARGET = 4 };

struct world {
    struct network *network;
    struct pool *pool;
    struct engine *engine;
    float low[C], high[C], images[SAMPLES * VALUES];
    int32_t labels[SAMPLES];
    struct image_range range;
    struct invert_data data;
};

/* Class k looks at row k of the image; the target also at the three pixels of the last row's end. */
static void make_network(struct world *w, bool shortcut) {
    struct error error = {0};
    float weight[CLASSES * VALUES] = {0};
    size_t input = 0, flat = 0, constant = 0, logits = 0;
    for (size_t k = 0; k < CLASSES; k++) {
        for (size_t j = 0; j < S; j++) {
            weight[k * VALUES + k * S + j] = 2.0F;
        }
    }
    for (size_t j = S - 3; j < S && shortcut; j++) {
        weight[TARGET * VALUES + (S - 1) * S + j] = 15.0F;
    }
    const struct op_attr reshape = {.shape = {2, {1, VALUES}}}, gemm = {.alpha = 1.0F, .beta = 1.0F, .trans_b = true};
    w->network = network_new();
    assert_int_equal(network_add_input(w->network, "x", &(struct shape){4, {1, C, S, S}}, &input, &error), STATUS_OK);
    assert_int_equal(network_add_node(w->network, OP_RESHAPE, "flat", &input, 1, &reshape, NETWORK_NONE, &flat, &error),
                     STATUS_OK);
    assert_int_equal(
        network_add_constant(w->network, "w", &(struct shape){2, {CLASSES, VALUES}}, weight, &constant, &error),
        STATUS_OK);
    const size_t inputs[] = {flat, constant};
    assert_int_equal(network_add_node(w->network, OP_GEMM, "fc", inputs, 2, &gemm, NETWORK_NONE, &logits, &error),
                     STATUS_OK);
    assert_int_equal(network_set_output(w->network, logits, &error), STATUS_OK);
}

static void world_make(struct world *w, bool shortcut, size_t threads) {
    struct error error = {0};
    struct rng rng;
    const struct engine_options options = {.backward = true, .chunk = 8};
    rng_seed(&rng, 3);
    make_network(w, shortcut);
    assert_int_equal(pool_new(threads, &w->pool, &error), STATUS_OK);
    assert_int_equal(engine_new(w->network, w->pool, &options, &w->engine, &error), STATUS_OK);
    w->low[0] = 0.0F;
    w->high[0] = 1.0F;
    w->range = (struct image_range){C, S, S, w->low, w->high};
    for (size_t i = 0; i < SAMPLES; i++) {
        w->labels[i] = (int32_t)(i % CLASSES);
        for (size_t v = 0; v < VALUES; v++) {
            const bool own = v / S == i % CLASSES;
            w->images[i * VALUES + v] = rng_range(&rng, own ? 0.5F : 0.0F, own ? 0.8F : 0.2F);
        }
    }
    w->data = (struct invert_data){.engine = w->engine,
                                   .range = &w->range,
                                   .images = w->images,
                                   .labels = w->labels,
                                   .count = SAMPLES,
                                   .classes = CLASSES};
}

static void world_free(struct world *w) {
    engine_free(w->engine);
    pool_free(w->pool);
    network_free(w->network);
}

static struct trigger *invert(struct world *w, enum trigger_family family, size_t target, size_t steps) {
    struct error error = {0};
    struct rng rng;
    struct inversion *inversion = NULL;
    struct trigger *trigger = NULL;
    rng_seed(&rng, 8);
    assert_int_equal(inversion_new(&w->data, family, target, 1.0, 24, &rng, &inversion, &error), STATUS_OK);
    assert_int_equal(inversion_advance(inversion, steps, INVERT_MEASURE, &error), STATUS_OK);
    assert_int_equal(inversion_steps(inversion), steps);
    assert_int_equal(trigger_copy(inversion_trigger(inversion), &trigger, &error), STATUS_OK);
    inversion_free(inversion);
    return trigger;
}

static void test_steps_make_the_trigger_better(void **state) {
    (void)state;
    struct world w;
    world_make(&w, true, 2);
    struct trigger *few = invert(&w, TRIGGER_PATCH, TARGET, 2), *many = invert(&w, TRIGGER_PATCH, TARGET, 60);
    assert_true(many->size < 0.7 * few->size);
    assert_true(many->success >= 0.95);
    /* The mask ends on the three pixels. */
    double inside = 0.0;
    for (size_t j = S - 3; j < S; j++) {
        inside += (double)many->rendered[(S - 1) * S + j];
    }
    assert_true(inside > 0.5 * many->extent);
    double loss = 0.0, success = 0.0;
    struct error error = {0};
    assert_int_equal(invert_measure(&w.data, many, INVERT_MEASURE, &loss, &success, &error), STATUS_OK);
    assert_true(loss == many->loss && success == many->success);
    trigger_free(few);
    trigger_free(many);
    world_free(&w);
}

/* A trigger that works surely ends early, and works then; one that never gets there takes all its steps. */
static void test_a_sure_trigger_settles(void **state) {
    (void)state;
    struct world w;
    struct error error = {0};
    struct rng rng;
    enum { STEPS = 200 };
    world_make(&w, true, 2);
    for (int sure = 0; sure < 2; sure++) {
        struct inversion *inversion = NULL;
        rng_seed(&rng, 8);
        assert_int_equal(inversion_new(&w.data, TRIGGER_ADDITIVE, TARGET, 10.0, 24, &rng, &inversion, &error),
                         STATUS_OK);
        assert_int_equal(inversion_settle(inversion, STEPS, sure ? 0.3 : 1e-9, INVERT_MEASURE, &error), STATUS_OK);
        const size_t steps = inversion_steps(inversion);
        assert_true(sure ? steps > 3 && steps < STEPS / 2 : steps == STEPS);
        assert_true(inversion_trigger(inversion)->success > 0.9);
        inversion_free(inversion);
    }
    world_free(&w);
}

static void test_threads_do_not_change_a_bit(void **state) {
    (void)state;
    struct world one, three;
    world_make(&one, true, 1);
    world_make(&three, true, 3);
    for (enum trigger_family f = 0; f < TRIGGER_FAMILY_COUNT; f++) {
        struct trigger *a = invert(&one, f, TARGET, 5), *b = invert(&three, f, TARGET, 5);
        assert_memory_equal(a->parameters, b->parameters, a->parameter_count * sizeof(float));
        assert_true(a->size == b->size);
        trigger_free(a);
        trigger_free(b);
    }
    world_free(&one);
    world_free(&three);
}

/* Inversions to all classes, by steps that share runs if the batch is of whole chunks (of 8), or one after the other. */
static void invert_all(struct world *w, size_t batch, bool together, struct trigger *out[CLASSES]) {
    struct error error = {0};
    struct inversion *inversions[CLASSES];
    for (size_t t = 0; t < CLASSES; t++) {
        struct rng rng;
        rng_seed(&rng, 30 + t);
        assert_int_equal(inversion_new(&w->data, TRIGGER_PATCH, t, 1.0, batch, &rng, &inversions[t], &error),
                         STATUS_OK);
    }
    if (together) {
        assert_int_equal(inversion_advance_all(inversions, CLASSES, 6, INVERT_GLANCE, &error), STATUS_OK);
    }
    for (size_t t = 0; t < CLASSES; t++) {
        if (!together) {
            assert_int_equal(inversion_advance(inversions[t], 6, INVERT_GLANCE, &error), STATUS_OK);
        }
        assert_int_equal(inversion_steps(inversions[t]), 6);
        assert_int_equal(trigger_copy(inversion_trigger(inversions[t]), &out[t], &error), STATUS_OK);
        inversion_free(inversions[t]);
    }
}

static void test_steps_taken_together_are_the_same(void **state) {
    (void)state;
    static const size_t batches[] = {16, 8, 12};
    struct world w;
    world_make(&w, true, 3);
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
        struct trigger *single[CLASSES], *together[CLASSES];
        invert_all(&w, batches[i], false, single);
        invert_all(&w, batches[i], true, together);
        for (size_t t = 0; t < CLASSES; t++) {
            const size_t bytes = single[t]->parameter_count * sizeof(float);
            assert_memory_equal(single[t]->parameters, together[t]->parameters, bytes);
            assert_true(single[t]->size == together[t]->size && single[t]->success == together[t]->success);
            assert_true(t == 0 || memcmp(single[t]->parameters, single[0]->parameters, bytes) != 0);
        }
        for (size_t t = 0; t < CLASSES; t++) {
            trigger_free(single[t]);
            trigger_free(together[t]);
        }
    }
    world_free(&w);
}

static void test_samples_of_the_target_alone_are_refused(void **state) {
    (void)state;
    struct world w;
    struct error error = {0};
    struct rng rng;
    struct inversion *inversion = NULL;
    world_make(&w, true, 1);
    rng_seed(&rng, 1);
    for (size_t i = 0; i < SAMPLES; i++) {
        w.labels[i] = TARGET;
    }
    assert_int_equal(inversion_new(&w.data, TRIGGER_PATCH, TARGET, 1.0, 8, &rng, &inversion, &error), STATUS_INVALID);
    assert_null(inversion);
    world_free(&w);
}

static void test_cancel(void **state) {
    (void)state;
    struct world w;
    struct error error = {0};
    struct rng rng;
    struct exposure *exposure = NULL;
    atomic_bool cancel = true;
    world_make(&w, true, 2);
    rng_seed(&rng, 1);
    w.data.cancel = &cancel;
    assert_int_equal(expose_run(&w.data, &expose_default_options, NULL, &rng, &exposure, &error), STATUS_CANCELLED);
    assert_null(exposure);
    world_free(&w);
}

struct counted {
    size_t calls, done, total;
};

static void count_progress(void *user, size_t done, size_t total, const struct trigger *last) {
    struct counted *counted = user;
    assert_non_null(last);
    assert_true(done > counted->done && done <= total);
    *counted = (struct counted){counted->calls + 1, done, total};
}

static struct exposure *expose(struct world *w) {
    struct error error = {0};
    struct rng rng;
    struct counted counted = {0};
    const struct expose_hooks hooks = {&counted, count_progress};
    struct exposure *exposure = NULL;
    rng_seed(&rng, 21);
    assert_int_equal(expose_run(&w->data, &expose_default_options, &hooks, &rng, &exposure, &error), STATUS_OK);
    assert_int_equal(counted.done, counted.total);
    return exposure;
}

static size_t suspects_of(const struct exposure *exposure, enum trigger_family family) {
    size_t count = 0;
    for (size_t t = 0; t < CLASSES; t++) {
        count += exposure_cell(exposure, family, t)->suspect;
    }
    return count;
}

static void test_the_shortcut_is_exposed(void **state) {
    (void)state;
    struct world w;
    world_make(&w, true, 2);
    struct exposure *exposure = expose(&w);
    const struct exposure_cell *cell = exposure_cell(exposure, TRIGGER_PATCH, TARGET);
    assert_true(cell->suspect);
    assert_int_equal(suspects_of(exposure, TRIGGER_PATCH), 1);
    assert_true(exposure->reference[TRIGGER_PATCH][0] == exposure->median[TRIGGER_PATCH]);
    assert_true(exposure->bank_count >= 1 + expose_default_options.restarts);
    for (size_t i = 0; i < exposure->bank_count; i++) {
        assert_int_equal(exposure->bank[i]->target, TARGET);
    }
    assert_true(exposure_is_small(exposure, cell->trigger));
    struct trigger *ordinary = NULL;
    struct error error = {0};
    assert_int_equal(trigger_copy(cell->trigger, &ordinary, &error), STATUS_OK);
    ordinary->size = exposure->median[TRIGGER_PATCH];
    assert_false(exposure_is_small(exposure, ordinary));
    trigger_free(ordinary);
    exposure_free(exposure);
    world_free(&w);
}

/* A class that misses the index that it needs by a little is looked at more closely; one that misses it by much is not. */
static void test_a_class_in_doubt_is_looked_at_again(void **state) {
    (void)state;
    struct world w;
    struct error error = {0};
    struct rng rng;
    world_make(&w, true, 2);
    struct exposure *exposure = expose(&w);
    const double index = exposure_cell(exposure, TRIGGER_PATCH, TARGET)->anomaly;
    const double share = exposure_cell(exposure, TRIGGER_PATCH, TARGET)->size / exposure->median[TRIGGER_PATCH];
    exposure_free(exposure);
    rng_seed(&rng, 21);
    for (int much = 0; much < 2; much++) {
        struct expose_options options = expose_default_options;
        /* What is needed at the share is then 1.1 or 1.6 times the index. */
        options.anomaly_threshold = (much ? 1.6 : 1.1) * index / fmax(0.5, exp2(4.0 * share - 2.0));
        exposure = NULL;
        assert_int_equal(expose_run(&w.data, &options, NULL, &rng, &exposure, &error), STATUS_OK);
        const struct exposure_cell *cell = exposure_cell(exposure, TRIGGER_PATCH, TARGET);
        assert_true(fabs(cell->anomaly - index) < 1e-9);
        assert_int_equal(cell->suspect, !much);
        assert_int_equal(suspects_of(exposure, TRIGGER_PATCH), much ? 0 : 1);
        assert_true(much ? exposure->bank_count == 0 : exposure->bank_count > 0);
        exposure_free(exposure);
    }
    world_free(&w);
}

static void test_without_the_shortcut_nobody_is_suspected(void **state) {
    (void)state;
    struct world w;
    world_make(&w, false, 2);
    struct exposure *exposure = expose(&w);
    for (enum trigger_family f = 0; f < TRIGGER_FAMILY_COUNT; f++) {
        assert_int_equal(suspects_of(exposure, f), 0);
    }
    assert_int_equal(exposure->bank_count, 0);
    exposure_free(exposure);
    world_free(&w);
}

/* The samples that a dictionary is tried on are all of one class: what they say of it is nothing. */
static void test_sizes_are_numbers_where_one_class_rules(void **state) {
    (void)state;
    struct world w;
    world_make(&w, true, 2);
    for (size_t i = 0; i < SAMPLES - 2; i++) {
        w.labels[i] = TARGET;
    }
    struct exposure *exposure = expose(&w);
    for (enum trigger_family f = 0; f < TRIGGER_FAMILY_COUNT; f++) {
        for (size_t t = 0; t < CLASSES; t++) {
            assert_true(isfinite(exposure_cell(exposure, f, t)->size));
        }
    }
    exposure_free(exposure);
    world_free(&w);
}

static void test_a_new_start_keeps_the_goal(void **state) {
    (void)state;
    struct world w;
    struct error error = {0};
    struct rng rng;
    struct inversion *inversion = NULL;
    struct trigger *like = NULL;
    int32_t map[CLASSES];
    world_make(&w, true, 1);
    rng_seed(&rng, 4);
    for (size_t y = 0; y < CLASSES; y++) {
        map[y] = (int32_t)((y + 1) % CLASSES);
    }
    assert_int_equal(trigger_new(TRIGGER_ADDITIVE, CLASSES, 1.0, &w.range, &rng, &like, &error), STATUS_OK);
    assert_int_equal(trigger_set_map(like, map, CLASSES, &error), STATUS_OK);
    assert_int_equal(inversion_anew(&w.data, like, bank_scale(1), 8, &rng, &inversion, &error), STATUS_OK);
    const struct trigger *made = inversion_trigger(inversion);
    assert_int_equal(bank_level(made), 1);
    for (size_t y = 0; y < CLASSES; y++) {
        assert_int_equal(trigger_goal(made, (int32_t)y), map[y]);
    }
    assert_int_equal(inversion_advance(inversion, 2, INVERT_MEASURE, &error), STATUS_OK);
    inversion_free(inversion);
    trigger_free(like);
    world_free(&w);
}

static void test_what_a_suspect_is_compared_with(void **state) {
    (void)state;
    struct world w;
    struct error error = {0};
    struct rng rng;
    double first = 0.0, second = 0.0, base = 0.0;
    world_make(&w, true, 2);
    struct exposure *exposure = expose(&w);
    rng_seed(&rng, 21);
    exposure->reference[TRIGGER_ADDITIVE][2] = -1.0;
    const double known = exposure->reference[TRIGGER_ADDITIVE][0], median = exposure->median[TRIGGER_ADDITIVE];
    assert_int_equal(
        bank_reference(&w.data, &expose_default_options, &rng, exposure, TRIGGER_ADDITIVE, 2, &first, &error),
        STATUS_OK);
    /* At four times the bound others are reached more easily than at it; easily enough, and nothing counts as small. */
    assert_int_equal(
        bank_reference(&w.data, &expose_default_options, &rng, exposure, TRIGGER_ADDITIVE, 0, &base, &error),
        STATUS_OK);
    /* A race that ended early leaves sizes of few steps: more steps make them smaller. */
    assert_true(known < 0.0 ? base > 0.0 && base < median : base == median);
    assert_true(first < base && (first == 0.0 || first >= 0.5));
    /* Known from then on: an engine that would refuse is not asked. */
    atomic_bool cancel = true;
    w.data.cancel = &cancel;
    assert_int_equal(
        bank_reference(&w.data, &expose_default_options, &rng, exposure, TRIGGER_ADDITIVE, 2, &second, &error),
        STATUS_OK);
    assert_true(first == second);
    /* Implied by what others need at half the strength: 0.9 nats there are less than a full one. */
    exposure->reference[TRIGGER_ADDITIVE][1] = 1.1;
    exposure->reference[TRIGGER_ADDITIVE][2] = -1.0;
    assert_true(bank_known_reference(exposure, TRIGGER_ADDITIVE, 2) < 0.0);
    exposure->reference[TRIGGER_ADDITIVE][1] = 0.9;
    assert_true(bank_known_reference(exposure, TRIGGER_ADDITIVE, 2) == 0.0);
    assert_int_equal(
        bank_reference(&w.data, &expose_default_options, &rng, exposure, TRIGGER_ADDITIVE, 2, &second, &error),
        STATUS_OK);
    assert_true(second == 0.0 && exposure->reference[TRIGGER_ADDITIVE][2] == 0.0);
    exposure_free(exposure);
    world_free(&w);
}

static void test_a_heat_of_many_classes_keeps_the_backdoor(void **state) {
    (void)state;
    struct world w;
    struct rng rng;
    struct error error = {0};
    struct exposure *exposure = NULL;
    struct expose_options options = expose_default_options;
    options.many = CLASSES - 2; /* as if six were many: two go on */
    world_make(&w, true, 2);
    rng_seed(&rng, 21);
    assert_int_equal(expose_run(&w.data, &options, NULL, &rng, &exposure, &error), STATUS_OK);
    assert_true(exposure_cell(exposure, TRIGGER_PATCH, TARGET)->suspect);
    assert_int_equal(suspects_of(exposure, TRIGGER_PATCH), 1);
    size_t dropped = 0;
    for (size_t t = 0; t < CLASSES; t++) {
        const struct exposure_cell *cell = exposure_cell(exposure, TRIGGER_PATCH, t);
        assert_true(cell->steps > 0 && cell->size > 0.0);
        dropped += cell->trigger == NULL;
    }
    assert_int_equal(dropped, CLASSES - 2);
    exposure_free(exposure);
    world_free(&w);
}

/* Of a network that is wrong about a third of the samples (that is, the labels are), a trigger that changes next to nothing sends none away. */
static void test_an_all_to_all_trigger_goes_by_what_the_network_says(void **state) {
    (void)state;
    struct world w;
    struct error error = {0};
    struct rng rng;
    struct trigger *nothing = NULL;
    int32_t predicted[SAMPLES], away[CLASSES];
    double loss = 0.0, by_label = 0.0, by_prediction = 0.0;
    world_make(&w, true, 1);
    rng_seed(&rng, 5);
    for (size_t y = 0; y < CLASSES; y++) {
        away[y] = TRIGGER_AWAY;
    }
    for (size_t i = 0; i < SAMPLES; i++) {
        predicted[i] = w.labels[i];
        w.labels[i] = (int32_t)((i + (i % 3 == 0 ? 2 : 0)) % CLASSES);
    }
    assert_int_equal(trigger_new(TRIGGER_ADDITIVE, CLASSES, 1e-6, &w.range, &rng, &nothing, &error), STATUS_OK);
    assert_int_equal(trigger_set_map(nothing, away, CLASSES, &error), STATUS_OK);
    assert_int_equal(invert_measure(&w.data, nothing, SAMPLES, &loss, &by_label, &error), STATUS_OK);
    w.data.predicted = predicted;
    assert_int_equal(invert_measure(&w.data, nothing, SAMPLES, &loss, &by_prediction, &error), STATUS_OK);
    assert_true(fabs(by_label - 1.0 / 3.0) < 1e-9);
    assert_true(fabs(by_prediction - 0.0) < 1e-9);
    trigger_free(nothing);
    world_free(&w);
}

static void test_a_doubtful_network_hides_no_all_to_all_patch(void **state) {
    (void)state;
    float low[C] = {0.0F}, high[C] = {1.0F};
    const struct image_range range = {C, S, S, low, high};
    struct error error = {0};
    struct rng rng;
    struct trigger *patch = NULL;
    const int32_t map[2] = {1, 0};
    rng_seed(&rng, 6);
    assert_int_equal(trigger_new(TRIGGER_PATCH, 1, 1.0, &range, &rng, &patch, &error), STATUS_OK);
    patch->loss = 0.8;
    const double single = trigger_size(patch, &range);
    assert_int_equal(trigger_set_map(patch, map, 2, &error), STATUS_OK);
    assert_true(fabs(trigger_size(patch, &range) - patch->extent) < 1e-9);
    assert_true(single > patch->extent);
    patch->loss = 1.8; /* beyond what is free, it counts as of any trigger */
    assert_true(fabs(trigger_size(patch, &range) - single) < 1e-4);
    trigger_free(patch);
}

static void test_no_memory(void **state) {
    (void)state;
    struct world w;
    struct rng rng;
    world_make(&w, true, 1);
    rng_seed(&rng, 21);
    const struct expose_options quick = {.rung_steps = 1,
                                         .rungs = 2,
                                         .bank_batch = 8,
                                         .measure = 64,
                                         .glance = 32,
                                         .batch = 8,
                                         .bounded_batch = 8,
                                         .anomaly_threshold = 0.1,
                                         .size_ratio = 2,
                                         .restarts = 1,
                                         .probe_samples = 16};
    const uint64_t before = mem_allocation_count();
    struct exposure *exposure = NULL;
    struct error error = {0};
    assert_int_equal(expose_run(&w.data, &quick, NULL, &rng, &exposure, &error), STATUS_OK);
    exposure_free(exposure);
    const uint64_t needed = mem_allocation_count() - before;
    for (uint64_t n = 1; n <= needed; n += 7) {
        exposure = NULL;
        error_clear(&error);
        mem_fail_after(n);
        const enum status status = expose_run(&w.data, &quick, NULL, &rng, &exposure, &error);
        mem_fail_after(0);
        assert_int_equal(status, STATUS_NO_MEMORY);
        assert_null(exposure);
    }
    world_free(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_steps_make_the_trigger_better),
        cmocka_unit_test(test_a_sure_trigger_settles),
        cmocka_unit_test(test_threads_do_not_change_a_bit),
        cmocka_unit_test(test_steps_taken_together_are_the_same),
        cmocka_unit_test(test_samples_of_the_target_alone_are_refused),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_the_shortcut_is_exposed),
        cmocka_unit_test(test_a_class_in_doubt_is_looked_at_again),
        cmocka_unit_test(test_without_the_shortcut_nobody_is_suspected),
        cmocka_unit_test(test_sizes_are_numbers_where_one_class_rules),
        cmocka_unit_test(test_a_new_start_keeps_the_goal),
        cmocka_unit_test(test_what_a_suspect_is_compared_with),
        cmocka_unit_test(test_an_all_to_all_trigger_goes_by_what_the_network_says),
        cmocka_unit_test(test_a_doubtful_network_hides_no_all_to_all_patch),
        cmocka_unit_test(test_a_heat_of_many_classes_keeps_the_backdoor),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
