/* The policy network: gradients of every parameter against finite differences, meaning of its outputs, errors. */
#include "server/agent/policy.h"
#include "tests/unit/agent/planted.h"

/* A small world whose actions group nodes, and with nodes that no action prunes. */
enum { LAYERS = 3, SIDE = 8, NODES = LAYERS * SIDE, ACTIONS = 15 };

static void small_world(struct planted *world) {
    planted_init(world, LAYERS, SIDE, 4, 5, 1.5, 0.5);
    for (size_t u = 0; u < NODES; u++) {
        world->action_of[u] = u % 7 == 6 ? RL_NO_ACTION : u % ACTIONS;
    }
    world->env.action_count = ACTIONS;
}

static struct policy *make(struct planted *world, size_t width, size_t layers, uint64_t seed) {
    struct policy_shape shape = {world->env.feature_count, width, layers};
    struct policy *policy = NULL;
    struct error error = {0};
    struct rng rng;
    rng_seed(&rng, seed);
    assert_int_equal(policy_new(&shape, &rng, &policy, &error), STATUS_OK);
    return policy;
}

/* The objective: a fixed random combination of the outputs. */
static double objective(struct policy *policy, const struct planted *world, const float *weights) {
    float logits[ACTIONS], value = 0;
    struct error error = {0};
    assert_int_equal(policy_forward(policy, &world->env, logits, &value, &error), STATUS_OK);
    double sum = 0.7 * (double)value;
    for (size_t a = 0; a < ACTIONS; a++) {
        sum += (double)weights[a] * (double)logits[a];
    }
    return sum;
}

static void every_gradient_agrees_with_finite_differences(void **state) {
    (void)state;
    struct planted world;
    small_world(&world);
    struct policy *policy = make(&world, 6, 2, 7);
    struct rng rng;
    rng_seed(&rng, 8);
    float weights[ACTIONS];
    for (size_t a = 0; a < ACTIONS; a++) {
        weights[a] = rng_normal(&rng);
    }
    size_t count = policy_parameter_count(policy);
    float *p = policy_parameters(policy), *g = policy_gradient(policy);
    for (size_t i = 0; i < count; i++) {
        p[i] += 0.2F * rng_normal(&rng); /* no zeros: the head's weights must pass a gradient on */
    }
    (void)objective(policy, &world, weights);
    memset(g, 0, count * sizeof *g);
    policy_backward(policy, &world.env, weights, 0.7F);
    double worst = 0;
    for (size_t i = 0; i < count; i++) {
        /* Central difference: error of the formula ~ h^2, of float rounding ~ 1e-6 / h; both about 1e-4 here. */
        float keep = p[i], h = 5e-3F;
        p[i] = keep + h;
        double up = objective(policy, &world, weights);
        p[i] = keep - h;
        double down = objective(policy, &world, weights);
        p[i] = keep;
        double numeric = (up - down) / (2.0 * (double)h);
        double off = fabs(numeric - (double)g[i]) / (0.1 + fabs(numeric));
        worst = fmax(worst, off);
        if (off > 1e-2) {
            fail_msg("parameter %zu of %zu: gradient %g, finite difference %g", i, count, (double)g[i], numeric);
        }
    }
    print_message("%zu parameters, largest relative difference %.1e\n", count, worst);
    policy_free(policy);
    planted_deinit(&world);
}

static void backward_adds_to_the_gradient(void **state) {
    (void)state;
    struct planted world;
    small_world(&world);
    struct policy *policy = make(&world, 8, 3, 9);
    float logits[ACTIONS], value = 0, ones[ACTIONS];
    struct error error = {0};
    for (size_t a = 0; a < ACTIONS; a++) {
        ones[a] = 1;
    }
    size_t count = policy_parameter_count(policy);
    assert_int_equal(policy_forward(policy, &world.env, logits, &value, &error), STATUS_OK);
    policy_backward(policy, &world.env, ones, 1);
    float *once = mem_dup(policy_gradient(policy), count * sizeof *once);
    policy_backward(policy, &world.env, ones, 1);
    double norm = 0;
    for (size_t i = 0; i < count; i++) {
        assert_true(fabsf(policy_gradient(policy)[i] - 2 * once[i]) <= 1e-5F * (1 + fabsf(once[i])));
        norm += fabs((double)once[i]);
    }
    assert_true(norm > 0);
    mem_free(once);
    policy_free(policy);
    planted_deinit(&world);
}

static void a_new_policy_is_undecided_and_the_same_for_a_seed(void **state) {
    (void)state;
    struct planted world;
    small_world(&world);
    struct policy *a = make(&world, 16, 3, 10), *b = make(&world, 16, 3, 10), *c = make(&world, 16, 3, 11);
    float logits[ACTIONS], value = 0;
    struct error error = {0};
    assert_int_equal(policy_forward(a, &world.env, logits, &value, &error), STATUS_OK);
    for (size_t i = 0; i < ACTIONS; i++) {
        assert_true(logits[i] == 0);
    }
    size_t size = policy_parameter_count(a) * sizeof(float);
    assert_memory_equal(policy_parameters(a), policy_parameters(b), size);
    assert_memory_not_equal(policy_parameters(a), policy_parameters(c), size);
    policy_free(a);
    policy_free(b);
    policy_free(c);
    planted_deinit(&world);
}

static void one_policy_serves_graphs_of_any_size(void **state) {
    (void)state;
    struct planted small, large;
    planted_init(&small, 2, 10, 3, 1, 1, 0.5);
    planted_init(&large, 5, 60, 9, 2, 1, 0.5);
    struct policy *policy = make(&small, 12, 2, 12);
    float first[20], again[20], many[300], value = 0;
    struct error error = {0};
    size_t count = policy_parameter_count(policy);
    for (size_t i = 0; i < count; i++) {
        policy_parameters(policy)[i] += 0.01F * (float)(i % 7);
    }
    assert_int_equal(policy_forward(policy, &small.env, first, &value, &error), STATUS_OK);
    assert_int_equal(policy_forward(policy, &large.env, many, &value, &error), STATUS_OK);
    assert_int_equal(policy_forward(policy, &small.env, again, &value, &error), STATUS_OK);
    assert_memory_equal(first, again, sizeof first);
    large.env.feature_count--;
    assert_int_equal(policy_forward(policy, &large.env, many, &value, &error), STATUS_INVALID);
    policy_free(policy);
    planted_deinit(&small);
    planted_deinit(&large);
}

static void every_failed_allocation_is_reported(void **state) {
    (void)state;
    struct planted world;
    small_world(&world);
    struct policy_shape shape = {world.env.feature_count, 8, 2};
    float logits[ACTIONS], value = 0;
    for (uint64_t n = 1;; n++) {
        struct policy *policy = NULL;
        struct error error = {0};
        struct rng rng;
        rng_seed(&rng, 13);
        mem_fail_after(n);
        enum status status = policy_new(&shape, &rng, &policy, &error);
        if (status == STATUS_OK) {
            status = policy_forward(policy, &world.env, logits, &value, &error);
        }
        mem_fail_after(0);
        policy_free(policy);
        if (status == STATUS_OK) {
            assert_true(n > 10);
            break;
        }
        assert_int_equal(error.status, STATUS_NO_MEMORY);
    }
    struct policy *policy = NULL;
    struct error error = {0};
    struct rng rng;
    rng_seed(&rng, 13);
    shape.layers = 1000;
    assert_int_equal(policy_new(&shape, &rng, &policy, &error), STATUS_INVALID);
    planted_deinit(&world);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_gradient_agrees_with_finite_differences),
        cmocka_unit_test(backward_adds_to_the_gradient),
        cmocka_unit_test(a_new_policy_is_undecided_and_the_same_for_a_seed),
        cmocka_unit_test(one_policy_serves_graphs_of_any_size),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
