/* Optimisers: each step against the published formulas in double, and a way down a valley. */
#include "server/nn/optim.h"

#include <math.h>

#include "common/mem.h"
#include "common/rng.h"
#include "tests/support/cm.h"

enum { COUNT = 37, STEPS = 20 };

static void make_gradient(struct rng *rng, float *gradient) {
    for (size_t i = 0; i < COUNT; i++) {
        gradient[i] = rng_range(rng, -1.0f, 1.0f);
    }
}

static void assert_near(float got, double expected) {
    if (!(fabs((double)got - expected) <= 1e-5 * fmax(1.0, fabs(expected)))) {
        fail_msg("got %.9g, expected %.9g", (double)got, expected);
    }
}

static void check_adam(float weight_decay) {
    const struct adam_options options = {0.01f, 0.9f, 0.999f, 1e-8f, weight_decay};
    struct error error = {0};
    struct adam *adam = NULL;
    struct rng rng;
    float p[COUNT], gradient[COUNT];
    double want[COUNT], m[COUNT] = {0}, v[COUNT] = {0};

    rng_seed(&rng, 1);
    make_gradient(&rng, p);
    for (size_t i = 0; i < COUNT; i++) {
        want[i] = (double)p[i];
    }
    assert_int_equal(adam_new(COUNT, &options, &adam, &error), STATUS_OK);
    for (int t = 1; t <= STEPS; t++) {
        make_gradient(&rng, gradient);
        adam_step(adam, p, gradient);
        for (size_t i = 0; i < COUNT; i++) {
            double g = (double)gradient[i];
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            double step = m[i] / (1.0 - pow(0.9, t)) / (sqrt(v[i] / (1.0 - pow(0.999, t))) + 1e-8);
            want[i] -= 0.01 * (step + (double)weight_decay * want[i]);
            assert_near(p[i], want[i]);
        }
    }
    adam_free(adam);
}

static void test_adam(void **state) {
    (void)state;
    check_adam(0.0f);
    check_adam(0.1f);
}

static void test_adam_reset_starts_over(void **state) {
    const struct adam_options options = {0.01f, 0.9f, 0.999f, 1e-8f, 0.0f};
    struct error error = {0};
    struct adam *adam = NULL;
    float p = 0.0f, q = 0.0f;
    (void)state;

    assert_int_equal(adam_new(1, &options, &adam, &error), STATUS_OK);
    adam_step(adam, &p, &(float){3.0f});
    assert_near(p, -0.01); /* the first step is the learning rate, whatever the gradient's size */
    adam_step(adam, &p, &(float){-1.0f});
    adam_reset(adam);
    adam_set_learning_rate(adam, 0.5f);
    adam_step(adam, &q, &(float){-7.0f});
    assert_near(q, 0.5);
    adam_free(adam);
    adam_free(NULL);
}

static void check_sgd(const struct sgd_options *options) {
    struct error error = {0};
    struct sgd *sgd = NULL;
    struct rng rng;
    float p[COUNT], gradient[COUNT];
    double want[COUNT], velocity[COUNT] = {0};
    double momentum = (double)options->momentum;

    rng_seed(&rng, 2);
    make_gradient(&rng, p);
    for (size_t i = 0; i < COUNT; i++) {
        want[i] = (double)p[i];
    }
    assert_int_equal(sgd_new(COUNT, options, &sgd, &error), STATUS_OK);
    for (int t = 0; t < STEPS; t++) {
        double rate = t < STEPS / 2 ? (double)options->learning_rate : 0.5;
        sgd_set_learning_rate(sgd, (float)rate);
        make_gradient(&rng, gradient);
        sgd_step(sgd, p, gradient);
        for (size_t i = 0; i < COUNT; i++) {
            double g = (double)gradient[i] + (double)options->weight_decay * want[i];
            velocity[i] = momentum * velocity[i] + g;
            want[i] -= rate * (options->nesterov != 0 ? g + momentum * velocity[i] : velocity[i]);
            assert_near(p[i], want[i]);
        }
    }
    sgd_free(sgd);
}

static void test_sgd(void **state) {
    (void)state;
    check_sgd(&(struct sgd_options){0.1f, 0.0f, 0.0f, 0});
    check_sgd(&(struct sgd_options){0.1f, 0.9f, 0.0f, 0});
    check_sgd(&(struct sgd_options){0.1f, 0.9f, 0.01f, 0});
    check_sgd(&(struct sgd_options){0.1f, 0.9f, 0.01f, 1});
    sgd_free(NULL);
}

/* A stretched bowl: f = sum of s (p - 1)^2 / 2 with s from 1 to 10. */
static void test_both_find_the_minimum(void **state) {
    struct error error = {0};
    struct adam *adam = NULL;
    struct sgd *sgd = NULL;
    float p[COUNT] = {0}, q[COUNT] = {0}, gradient[COUNT];
    (void)state;

    assert_int_equal(adam_new(COUNT, &(struct adam_options){0.05f, 0.9f, 0.999f, 1e-8f, 0.0f}, &adam, &error),
                     STATUS_OK);
    assert_int_equal(sgd_new(COUNT, &(struct sgd_options){0.02f, 0.9f, 0.0f, 1}, &sgd, &error), STATUS_OK);
    for (int t = 0; t < 600; t++) {
        for (size_t i = 0; i < COUNT; i++) {
            gradient[i] = (1.0f + 9.0f * (float)i / COUNT) * (p[i] - 1.0f);
        }
        adam_step(adam, p, gradient);
        for (size_t i = 0; i < COUNT; i++) {
            gradient[i] = (1.0f + 9.0f * (float)i / COUNT) * (q[i] - 1.0f);
        }
        sgd_step(sgd, q, gradient);
    }
    for (size_t i = 0; i < COUNT; i++) {
        assert_true(fabsf(p[i] - 1.0f) < 1e-2f);
        assert_true(fabsf(q[i] - 1.0f) < 1e-4f);
    }
    adam_free(adam);
    sgd_free(sgd);
}

static void test_new_survives_no_memory(void **state) {
    struct error error = {0};
    struct adam *adam = NULL;
    struct sgd *sgd = NULL;
    (void)state;

    for (uint64_t n = 1; n <= 3; n++) {
        error_clear(&error);
        mem_fail_after(n);
        assert_int_equal(adam_new(4, &(struct adam_options){0}, &adam, &error), STATUS_NO_MEMORY);
        mem_fail_after(0);
    }
    for (uint64_t n = 1; n <= 2; n++) {
        error_clear(&error);
        mem_fail_after(n);
        assert_int_equal(sgd_new(4, &(struct sgd_options){0}, &sgd, &error), STATUS_NO_MEMORY);
        mem_fail_after(0);
    }
    assert_null(adam);
    assert_null(sgd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adam),
        cmocka_unit_test(test_adam_reset_starts_over),
        cmocka_unit_test(test_sgd),
        cmocka_unit_test(test_both_find_the_minimum),
        cmocka_unit_test(test_new_survives_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
