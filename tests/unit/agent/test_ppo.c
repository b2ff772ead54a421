/* The search against others with the same number of evaluations, on planted worlds, and its contract: determinism, no mask scored
 * twice, a change of the scoring, cancel, errors, no memory. */
#include "server/agent/ppo.h"
#include "tests/unit/agent/planted.h"

static struct policy *make_policy(const struct planted *world, size_t width, size_t layers, const struct rng *rng) {
    struct policy_shape shape = {world->env.feature_count, width, layers};
    struct policy *policy = NULL;
    struct error error = {0};
    struct rng weights = rng_stream(rng, 1);
    assert_int_equal(policy_new(&shape, &weights, &policy, &error), STATUS_OK);
    return policy;
}

enum method { WARM, PPO, RANDOM, CLIMB, BIT_FLIPS_RANKED, BIT_FLIPS, METHODS };

/* One world: adds each method's reward to sums. All get as many evaluations as PPO took. */
static void compare(size_t layers, size_t layer_size, size_t bad, uint64_t seed, double homophily, double *sums) {
    struct planted world;
    struct error error = {0};
    struct rng rng;
    planted_init(&world, layers, layer_size, bad, seed, 1.8, homophily);
    rng_seed(&rng, seed + 77);
    size_t *order = mem_calloc(world.nodes, sizeof *order);
    uint8_t *warm = mem_calloc(world.nodes, 1);
    planted_ranking(&world, order);
    planted_greedy(&world, order, warm);
    struct policy *policy = make_policy(&world, 48, 3, &rng);
    struct ppo_result result = {0};
    assert_int_equal(ppo_search(policy, &world.env, warm, &ppo_default_options, NULL, &rng, &result, &error),
                     STATUS_OK);
    assert_int_equal(result.evaluations, world.evaluations);
    assert_true(result.evaluations <= 1 + ppo_default_options.iterations * ppo_default_options.masks_per_iteration);
    assert_true(result.best_reward == planted_reward(&world, result.best));
    assert_true(result.warm_reward == planted_reward(&world, warm));
    sums[WARM] += result.warm_reward;
    sums[PPO] += result.best_reward;
    sums[RANDOM] += planted_random(&world, warm, result.evaluations, 3, false, &rng);
    sums[CLIMB] += planted_random(&world, warm, result.evaluations, 2, true, &rng);
    sums[BIT_FLIPS_RANKED] += planted_bit_flips(&world, warm, order, result.evaluations);
    rng_shuffle(&rng, order, world.nodes);
    sums[BIT_FLIPS] += planted_bit_flips(&world, warm, order, result.evaluations);
    mem_free(result.best);
    mem_free(order);
    mem_free(warm);
    policy_free(policy);
    planted_deinit(&world);
}

static void print_sums(const char *what, const double *sums, double seeds) {
    print_message(
        "%s: warm %.3f, ppo %.3f, random %.3f, random climbing %.3f, bit flips by rank %.3f, in random order %.3f\n",
        what, sums[WARM] / seeds, sums[PPO] / seeds, sums[RANDOM] / seeds, sums[CLIMB] / seeds,
        sums[BIT_FLIPS_RANKED] / seeds, sums[BIT_FLIPS] / seeds);
}

/* Backdoor neurons are joined with each other: the agent must beat everything else. */
static void it_beats_other_searches_where_the_graph_tells(void **state) {
    (void)state;
    const struct {
        const char *what;
        size_t layers, layer_size, bad, seeds;
    } worlds[] = {{"600 nodes", 6, 100, 25, 3}, {"1500 nodes", 10, 150, 60, 2}};
    for (size_t w = 0; w < sizeof worlds / sizeof *worlds; w++) {
        double sums[METHODS] = {0};
        for (uint64_t seed = 0; seed < worlds[w].seeds; seed++) {
            compare(worlds[w].layers, worlds[w].layer_size, worlds[w].bad, 1000 * (w + 1) + seed, 0.7, sums);
        }
        print_sums(worlds[w].what, sums, (double)worlds[w].seeds);
        for (enum method m = WARM; m < METHODS; m++) {
            assert_true(m == PPO || sums[PPO] > sums[m]);
        }
    }
}

/* With fewer actions than evaluations flipping every bit once is the optimum of its kind: the agent must come near it, and beat
 * the rest. The graph tells little here. */
static void it_improves_small_worlds_with_weak_graphs(void **state) {
    (void)state;
    double sums[METHODS] = {0};
    for (uint64_t seed = 0; seed < 4; seed++) {
        compare(4, 50, 12, seed, 0.3, sums);
    }
    print_sums("200 nodes", sums, 4);
    assert_true(sums[PPO] > sums[WARM] && sums[PPO] > sums[RANDOM] && sums[PPO] > sums[CLIMB]);
    assert_true((sums[PPO] - sums[WARM]) > 0.9 * (sums[BIT_FLIPS_RANKED] - sums[WARM]));
}

/* A small fast world with options to match. */
struct small {
    struct planted world;
    struct ppo_options options;
    uint8_t warm[60];
    struct policy *policy;
    struct rng rng;
};

static void small_init(struct small *small) {
    planted_init(&small->world, 3, 20, 6, 9, 1.5, 0.7);
    small->options = ppo_default_options;
    small->options.iterations = 4;
    small->options.clone_steps = 10;
    memset(small->warm, 0, sizeof small->warm);
    small->warm[3] = small->warm[44] = 7; /* any value but 0 prunes */
    rng_seed(&small->rng, 10);
    small->policy = make_policy(&small->world, 8, 2, &small->rng);
}

static void small_deinit(struct small *small) {
    policy_free(small->policy);
    planted_deinit(&small->world);
}

static void a_seed_fixes_the_result(void **state) {
    (void)state;
    struct ppo_result results[2] = {{0}};
    struct error error = {0};
    for (size_t i = 0; i < 2; i++) {
        struct small small;
        small_init(&small);
        assert_int_equal(ppo_search(small.policy, &small.world.env, small.warm, &small.options, NULL, &small.rng,
                                    &results[i], &error),
                         STATUS_OK);
        small_deinit(&small);
    }
    assert_memory_equal(results[0].best, results[1].best, 60);
    assert_true(results[0].best_reward == results[1].best_reward);
    assert_int_equal(results[0].evaluations, results[1].evaluations);
    mem_free(results[0].best);
    mem_free(results[1].best);
}

static enum status all_alike(void *user, const uint8_t *masks, size_t count, double *rewards, struct error *error) {
    (void)user;
    (void)masks;
    (void)error;
    for (size_t i = 0; i < count; i++) {
        rewards[i] = -1.0;
    }
    return STATUS_OK;
}

struct seen {
    size_t iteration, iterations, change_at;
};

static enum status note_iteration(void *user, const struct ppo_progress *progress, const uint8_t *best, bool *changed,
                                  struct error *error) {
    (void)best;
    (void)error;
    struct seen *seen = user;
    seen->iteration = progress->iteration;
    seen->iterations = progress->iterations;
    *changed = progress->iteration == seen->change_at;
    return STATUS_OK;
}

/* Without a gain it ends after its patience, or that long after the scoring changed; with patience 0 it goes on. */
static void it_ends_when_nothing_is_gained(void **state) {
    (void)state;
    static const struct {
        size_t patience, change_at, ends;
    } cases[] = {{5, 0, 5}, {5, 3, 8}, {5, 5, 10}, {0, 0, 20}, {100, 0, 20}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct small small;
        struct ppo_result result = {0};
        struct error error = {0};
        struct seen seen = {.change_at = cases[i].change_at};
        small_init(&small);
        small.options.iterations = 20;
        small.options.patience = cases[i].patience;
        small.options.min_gain = 0.02;
        small.world.env.evaluate = all_alike;
        const struct ppo_hooks hooks = {.user = &seen, .after_iteration = note_iteration};
        assert_int_equal(
            ppo_search(small.policy, &small.world.env, small.warm, &small.options, &hooks, &small.rng, &result, &error),
            STATUS_OK);
        assert_int_equal(seen.iteration, cases[i].ends);
        assert_int_equal(seen.iterations, cases[i].ends);
        mem_free(result.best);
        small_deinit(&small);
    }
}

/* An environment that remembers what it was asked, and changes its scoring when told to. */
struct recorder {
    struct planted *world;
    uint8_t masks[400][60];
    size_t first, count; /* of the current scoring */
    double offset;
    size_t changes, calls, fail_at;
    uint8_t best_seen[60];
    double best_reward;
    atomic_bool cancel;
};

static enum status record(void *user, const uint8_t *masks, size_t count, double *rewards, struct error *error) {
    struct recorder *recorder = user;
    if (++recorder->calls == recorder->fail_at) {
        return error_set(error, STATUS_IO, "env", "failed to score masks: got nothing, expected rewards");
    }
    for (size_t i = 0; i < count; i++) {
        const uint8_t *mask = masks + i * 60;
        for (size_t k = recorder->first; k < recorder->count; k++) {
            assert_memory_not_equal(recorder->masks[k], mask, 60);
        }
        memcpy(recorder->masks[recorder->count++], mask, 60);
        rewards[i] = planted_reward(recorder->world, mask) * (recorder->changes % 2 == 0 ? 1 : 0.5) + recorder->offset;
        if (rewards[i] > recorder->best_reward) {
            recorder->best_reward = rewards[i];
            memcpy(recorder->best_seen, mask, 60);
        }
    }
    return STATUS_OK;
}

static enum status change_twice(void *user, const struct ppo_progress *progress, const uint8_t *best, bool *changed,
                                struct error *error) {
    (void)error;
    struct recorder *recorder = user;
    assert_int_equal(progress->iterations, 4);
    assert_true(progress->reward_best == recorder->best_reward);
    assert_memory_equal(best, recorder->best_seen, 60);
    if (progress->iteration == 2 || progress->iteration == 3) {
        *changed = true;
        recorder->changes++;
        recorder->first = recorder->count;
        recorder->offset -= 1;
        recorder->best_reward = -INFINITY;
    }
    return STATUS_OK;
}

static void no_mask_is_scored_twice_and_changes_start_anew(void **state) {
    (void)state;
    struct small small;
    small_init(&small);
    static struct recorder recorder;
    recorder = (struct recorder){.world = &small.world, .best_reward = -INFINITY};
    small.world.env.user = &recorder;
    small.world.env.evaluate = record;
    struct ppo_hooks hooks = {.user = &recorder, .after_iteration = change_twice, .cancel = &recorder.cancel};
    struct ppo_result result = {0};
    struct error error = {0};
    assert_int_equal(
        ppo_search(small.policy, &small.world.env, small.warm, &small.options, &hooks, &small.rng, &result, &error),
        STATUS_OK);
    assert_int_equal(recorder.changes, 2);
    assert_int_equal(result.evaluations, recorder.count);
    assert_true(result.best_reward == recorder.best_reward);
    assert_memory_equal(result.best, recorder.best_seen, 60);
    uint8_t clean[60];
    for (size_t a = 0; a < 60; a++) {
        clean[a] = small.warm[a] != 0;
    }
    assert_true(result.warm_reward == planted_reward(&small.world, clean) - 2);
    mem_free(result.best);
    small_deinit(&small);
}

static void cancel_and_errors_end_the_search(void **state) {
    (void)state;
    for (int cancel = 0; cancel < 2; cancel++) {
        struct small small;
        small_init(&small);
        static struct recorder recorder;
        recorder = (struct recorder){.world = &small.world, .fail_at = cancel ? 0 : 2, .cancel = cancel != 0};
        small.world.env.user = &recorder;
        small.world.env.evaluate = record;
        struct ppo_hooks hooks = {.cancel = &recorder.cancel};
        struct ppo_result result = {0};
        struct error error = {0};
        enum status status =
            ppo_search(small.policy, &small.world.env, small.warm, &small.options, &hooks, &small.rng, &result, &error);
        assert_int_equal(status, cancel ? STATUS_CANCELLED : STATUS_IO);
        assert_int_equal(error.status, status);
        assert_null(result.best);
        small_deinit(&small);
    }
}

static void a_world_of_three_actions_is_searched_through(void **state) {
    (void)state;
    struct small small;
    small_init(&small);
    for (size_t u = 0; u < 60; u++) {
        small.world.action_of[u] = u < 3 ? u : RL_NO_ACTION;
    }
    small.world.nodes = 3; /* of the reward */
    small.world.env.action_count = 3;
    struct ppo_result result = {0};
    struct error error = {0};
    assert_int_equal(
        ppo_search(small.policy, &small.world.env, small.warm, &small.options, NULL, &small.rng, &result, &error),
        STATUS_OK);
    assert_true(result.evaluations <= 8);
    small.world.nodes = 60;
    mem_free(result.best);
    small_deinit(&small);
}

static void every_failed_allocation_is_reported(void **state) {
    (void)state;
    for (uint64_t n = 1;; n++) {
        struct small small;
        small_init(&small);
        small.options.iterations = 2;
        struct ppo_result result = {0};
        struct error error = {0};
        mem_fail_after(n);
        enum status status =
            ppo_search(small.policy, &small.world.env, small.warm, &small.options, NULL, &small.rng, &result, &error);
        mem_fail_after(0);
        small_deinit(&small);
        mem_free(result.best);
        if (status == STATUS_OK) {
            assert_true(n > 30);
            break;
        }
        assert_int_equal(status, STATUS_NO_MEMORY);
        assert_int_equal(error.status, STATUS_NO_MEMORY);
        assert_null(result.best);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_beats_other_searches_where_the_graph_tells),
        cmocka_unit_test(it_improves_small_worlds_with_weak_graphs),
        cmocka_unit_test(a_seed_fixes_the_result),
        cmocka_unit_test(it_ends_when_nothing_is_gained),
        cmocka_unit_test(no_mask_is_scored_twice_and_changes_start_anew),
        cmocka_unit_test(cancel_and_errors_end_the_search),
        cmocka_unit_test(a_world_of_three_actions_is_searched_through),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
