/* The reward: masks that are cut short never win, all others get the same score as a run over everything. */
#include <math.h>

#include "server/data/split.h"
#include "server/expose/bank.h"
#include "server/mitigate/mitigate_score.h"
#include "server/nn/loss.h"
#include "tests/unit/graph/builder.h"

enum { SAMPLES = 300, SIDE = 8, FLOATS = 3 * SIDE * SIDE, CLASSES = 10, TRIALS = 60 };

struct world {
    struct job job;
    struct network *network;
    float images[SAMPLES * FLOATS], p0[SAMPLES * CLASSES], low[3], high[3];
    int32_t labels[SAMPLES];
};

static struct trigger *make_trigger(struct world *w, uint64_t seed) {
    struct trigger *trigger = NULL;
    struct error error = {0};
    struct rng rng;
    rng_seed(&rng, seed);
    assert_int_equal(trigger_new(TRIGGER_ADDITIVE, 1, 8.0, &w->job.range, &rng, &trigger, &error), STATUS_OK);
    for (size_t i = 0; i < trigger->parameter_count; i++) {
        trigger->parameters[i] = rng_normal(&rng) * 0.1F;
    }
    trigger_render(trigger, &w->job.range);
    return trigger;
}

static void find_units(struct world *w) {
    struct job *job = &w->job;
    struct error error = {0};
    w->network = build_preact18(31, 4, SIDE);
    assert_int_equal(units_find(w->network, &job->units, &error), STATUS_OK);
    assert_int_equal(units_masked_network(w->network, job->units, &job->masked, &error), STATUS_OK);
    assert_int_equal(pool_new(2, &job->pool, &error), STATUS_OK);
    assert_int_equal(engine_new(job->masked, job->pool, &(struct engine_options){.chunk = 8}, &job->forward, &error),
                     STATUS_OK);
}

static void fill_samples(struct world *w) {
    struct job *job = &w->job;
    struct error error = {0};
    struct rng rng;
    float logits[SAMPLES * CLASSES];
    rng_seed(&rng, 5);
    for (size_t i = 0; i < SAMPLES * FLOATS; i++) {
        w->images[i] = rng_uniform(&rng);
    }
    for (size_t i = 0; i < SAMPLES; i++) {
        w->labels[i] = (int32_t)(i % CLASSES);
    }
    for (size_t c = 0; c < 3; c++) {
        w->high[c] = 1.0F;
    }
    const struct engine_run run = {.count = SAMPLES, .input = w->images, .logits = logits};
    assert_int_equal(unit_stats_collect(job->forward, job->units, &run, &job->stats0, &error), STATUS_OK);
    loss_softmax(SAMPLES, CLASSES, logits, w->p0);
    assert_int_equal(split_new(w->labels, SAMPLES, CLASSES, &rng, &job->split, &error), STATUS_OK);
}

/* What the stages before the search would have left, of a random network. */
static struct world *world_new(void) {
    struct world *w = mem_calloc(1, sizeof *w);
    assert_non_null(w);
    struct job *job = &w->job;
    job->parameters.trigger_weight = 1.0;
    job->info.classes = CLASSES;
    job->image_floats = FLOATS;
    job->range = (struct image_range){3, SIDE, SIDE, w->low, w->high};
    find_units(w);
    fill_samples(w);
    job->images = w->images;
    job->p0 = w->p0;
    job->build_and_score_count = job->split->build_count + job->split->score_count;
    job->build_and_score = mem_alloc(job->build_and_score_count, sizeof *job->build_and_score);
    assert_non_null(job->build_and_score);
    memcpy(job->build_and_score, job->split->build, job->split->build_count * sizeof(size_t));
    memcpy(job->build_and_score + job->split->build_count, job->split->score, job->split->score_count * sizeof(size_t));
    job->exposure = mem_calloc(1, sizeof *job->exposure);
    assert_non_null(job->exposure);
    struct error error = {0};
    assert_int_equal(exposure_add(job->exposure, make_trigger(w, 7), &error), STATUS_OK);
    assert_int_equal(score_new(job, &job->score, &error), STATUS_OK);
    return w;
}

static void world_free(struct world *w) {
    struct job *job = &w->job;
    score_free(job->score);
    exposure_free(job->exposure);
    mem_free(job->build_and_score);
    split_free(job->split);
    unit_stats_free(job->stats0);
    engine_free(job->forward);
    pool_free(job->pool);
    network_free(job->masked);
    network_free(w->network);
    units_free(job->units);
    mem_free(w);
}

/* All units are pruned with this probability. */
static void draw(struct rng *rng, size_t units, float share, uint8_t *bits) {
    for (size_t u = 0; u < units; u++) {
        bits[u] = rng_uniform(rng) < share;
    }
}

/* The reward over all images, nothing cut short. */
static double full_reward(struct world *w, const uint8_t *bits, float *mask) {
    struct score_parts parts;
    struct error error = {0};
    job_mask_from_bits(w->job.units->unit_count, bits, mask);
    assert_int_equal(score_repaired(w->job.score, mask, w->job.stats0->mean, &parts, &error), STATUS_OK);
    return parts.reward;
}

static void test_a_beaten_mask_never_wins(void **state) {
    (void)state;
    struct world *w = world_new();
    const size_t units = w->job.units->unit_count;
    uint8_t *bits = mem_calloc(units, 1);
    float *mask = mem_alloc(units, sizeof *mask);
    struct rng rng;
    struct error error = {0};
    double best = -INFINITY;
    size_t estimated = 0, exact = 0;
    assert_non_null(bits);
    assert_non_null(mask);
    rng_seed(&rng, 9);
    for (size_t i = 0; i < TRIALS; i++) {
        struct score_parts parts;
        draw(&rng, units, i == 0 ? 0.0F : 0.3F * rng_uniform(&rng), bits);
        assert_int_equal(score_mask(w->job.score, bits, &parts, &error), STATUS_OK);
        const double full = full_reward(w, bits, mask);
        if (parts.reward == full) {
            exact++;
            best = fmax(best, full);
        } else {
            estimated++;
            assert_true(parts.reward < best);
            assert_true(full < best); /* two standard errors: not sure in every world, but in this one */
        }
    }
    assert_true(exact > 0 && estimated > 0);
    assert_int_equal(score_evaluations(w->job.score), TRIALS);
    const struct score_entry *front;
    const size_t count = score_front(w->job.score, &front);
    assert_true(count > 0 && front[0].parts.reward == best);
    for (size_t i = 1; i < count; i++) { /* nobody on the front is beaten by another */
        assert_true(front[i].parts.reward < front[i - 1].parts.reward);
        assert_true(front[i].parts.clean_kl < front[i - 1].parts.clean_kl);
    }
    mem_free(mask);
    mem_free(bits);
    world_free(w);
}

static void test_no_pruning_costs_nothing_on_clean_samples(void **state) {
    (void)state;
    struct world *w = world_new();
    uint8_t *bits = mem_calloc(w->job.units->unit_count, 1);
    struct score_parts parts;
    struct error error = {0};
    assert_non_null(bits);
    assert_int_equal(score_mask(w->job.score, bits, &parts, &error), STATUS_OK);
    assert_true(fabs(parts.clean_kl) < 1e-5);
    assert_true(parts.trigger_kl > 0.0);
    assert_true(parts.reward == -parts.clean_kl - parts.trigger_kl);
    /* With a second trigger the images are made anew, and the front is scored again. */
    assert_int_equal(exposure_add(w->job.exposure, make_trigger(w, 8), &error), STATUS_OK);
    assert_int_equal(score_refresh(w->job.score, &error), STATUS_OK);
    assert_int_equal(score_evaluations(w->job.score), 2);
    const struct score_entry *front;
    assert_int_equal(score_front(w->job.score, &front), 1);
    assert_true(front[0].parts.trigger_kl != parts.trigger_kl);
    mem_free(bits);
    world_free(w);
}

/* Looks at masks on a part of the images only, but knows by them which are better. */
static void test_glances(void **state) {
    (void)state;
    enum { MASKS = 24 };
    struct world *w = world_new();
    const size_t units = w->job.units->unit_count;
    uint8_t *bits = mem_calloc(units, 1);
    float *mask = mem_alloc(units, sizeof *mask);
    double looked[MASKS], full[MASKS];
    struct score_parts none, parts;
    struct rng rng;
    struct error error = {0};
    size_t agreed = 0, pairs = 0;
    assert_non_null(bits);
    assert_non_null(mask);
    /* With nothing to compare with, a glance is a whole evaluation. */
    assert_int_equal(score_glance(w->job.score, bits, &none, &error), STATUS_OK);
    assert_true(none.reward == full_reward(w, bits, mask));
    assert_int_equal(score_glance(w->job.score, bits, &parts, &error), STATUS_OK);
    assert_true(parts.reward == none.reward);
    rng_seed(&rng, 12);
    for (size_t i = 0; i < MASKS; i++) {
        draw(&rng, units, 0.4F * (float)i / MASKS, bits);
        assert_int_equal(score_glance(w->job.score, bits, &parts, &error), STATUS_OK);
        looked[i] = parts.reward;
        full[i] = full_reward(w, bits, mask);
    }
    for (size_t i = 0; i < MASKS; i++) {
        for (size_t j = 0; j < i; j++) {
            pairs++;
            agreed += (looked[i] > looked[j]) == (full[i] > full[j]);
        }
    }
    assert_true(agreed > pairs * 3 / 4);
    assert_true(agreed < pairs); /* else nothing was left out */
    assert_int_equal(score_evaluations(w->job.score), 2 + MASKS);
    const struct score_entry *front;
    (void)score_front(w->job.score, &front);
    assert_true(front[0].parts.reward == none.reward); /* an estimate is never the best */
    mem_free(mask);
    mem_free(bits);
    world_free(w);
}

/* A search that another one is compared with gets whole evaluations, however good what was found before; then both are known. */
static void test_rivals(void **state) {
    (void)state;
    struct world *w = world_new();
    const size_t units = w->job.units->unit_count;
    uint8_t *bits = mem_calloc(units, 1);
    float *mask = mem_alloc(units, sizeof *mask);
    struct score_parts none, before, during;
    struct rng rng;
    struct error error = {0};
    const struct score_entry *front;
    assert_non_null(bits);
    assert_non_null(mask);
    assert_int_equal(score_mask(w->job.score, bits, &none, &error), STATUS_OK);
    rng_seed(&rng, 13);
    draw(&rng, units, 0.3F, bits);
    const double full = full_reward(w, bits, mask);
    assert_int_equal(score_mask(w->job.score, bits, &before, &error), STATUS_OK);
    assert_true(before.reward != full && before.reward < none.reward); /* beaten */
    score_rival_begin(w->job.score);
    assert_int_equal(score_front(w->job.score, &front), 0);
    assert_int_equal(score_mask(w->job.score, bits, &during, &error), STATUS_OK);
    assert_true(during.reward == full);
    score_rival_end(w->job.score);
    assert_true(score_front(w->job.score, &front) >= 1);
    assert_true(front[0].parts.reward == none.reward);
    assert_int_equal(score_evaluations(w->job.score), 3);
    mem_free(mask);
    mem_free(bits);
    world_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_beaten_mask_never_wins),
        cmocka_unit_test(test_glances),
        cmocka_unit_test(test_rivals),
        cmocka_unit_test(test_no_pruning_costs_nothing_on_clean_samples),
    };
    return cmocka_run_group_tests_name("mitigate: score", tests, NULL, NULL);
}
