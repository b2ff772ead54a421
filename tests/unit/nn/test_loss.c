/* Losses: against the definitions in double, against finite differences, and where naive formulas overflow. */
#include "server/nn/loss.h"

#include <math.h>

#include "common/rng.h"
#include "tests/support/cm.h"

enum { N = 6, K = 7 };

static double log_softmax(const float *row, size_t k) {
    double sum = 0.0;
    for (size_t j = 0; j < K; j++) {
        sum += exp((double)row[j]);
    }
    return (double)row[k] - log(sum);
}

static void assert_near(double got, double expected, double tolerance) {
    if (!(fabs(got - expected) <= tolerance * fmax(1.0, fabs(expected)))) {
        fail_msg("got %.9g, expected %.9g", got, expected);
    }
}

struct data {
    float logits[N * K];
    float p[N * K]; /* probabilities */
    int32_t labels[N];
};

static struct data make_data(uint64_t seed) {
    struct data data;
    struct rng rng;
    rng_seed(&rng, seed);
    for (size_t i = 0; i < N * K; i++) {
        data.logits[i] = rng_range(&rng, -4.0f, 4.0f);
        data.p[i] = rng_range(&rng, -2.0f, 2.0f);
    }
    for (size_t i = 0; i < N; i++) {
        data.labels[i] = (int32_t)rng_below(&rng, K);
    }
    loss_softmax(N, K, data.p, data.p);
    return data;
}

static void test_values(void **state) {
    struct data data = make_data(1);
    float p[N * K];
    double cross_entropy = 0.0, divergence = 0.0;
    (void)state;

    loss_softmax(N, K, data.logits, p);
    for (size_t i = 0; i < N; i++) {
        cross_entropy -= log_softmax(&data.logits[i * K], (size_t)data.labels[i]);
        for (size_t k = 0; k < K; k++) {
            double expected = log_softmax(&data.logits[i * K], k);
            double target = (double)data.p[i * K + k];
            assert_near((double)p[i * K + k], exp(expected), 1e-6);
            divergence += target * (log(target) - expected);
        }
    }
    assert_near(loss_cross_entropy(N, K, data.logits, data.labels, 1.0f, NULL), cross_entropy, 1e-6);
    assert_near(loss_kl(N, K, data.p, data.logits, 1.0f, NULL), divergence, 1e-6);
    assert_near(loss_kl(N, K, p, data.logits, 1.0f, NULL), 0.0, 1e-6);
}

/* The gradient is of `scale` times the sum; asking for it does not change the value. */
static void test_gradients(void **state) {
    enum { CROSS_ENTROPY, KL, LOSSES };
    const float scale = 0.25f, step = 1e-2f;
    (void)state;

    for (int which = 0; which < LOSSES; which++) {
        struct data data = make_data(2);
        float d[N * K];
        double value[3];
        for (size_t i = 0; i <= N * K; i++) {
            size_t at = i == 0 ? 0 : i - 1; /* the first round fills d */
            float kept = data.logits[at];
            for (int side = 0; side < 3; side++) {
                data.logits[at] = kept + (float)(side - 1) * step;
                float *out = side == 1 ? d : NULL;
                value[side] = which == KL ? loss_kl(N, K, data.p, data.logits, scale, out)
                                          : loss_cross_entropy(N, K, data.logits, data.labels, scale, out);
            }
            data.logits[at] = kept;
            assert_near((double)d[at], (double)scale * (value[2] - value[0]) / (2.0 * (double)step), 1e-4);
            double plain = which == KL ? loss_kl(N, K, data.p, data.logits, scale, NULL)
                                       : loss_cross_entropy(N, K, data.logits, data.labels, scale, NULL);
            assert_near(value[1], plain, 1e-6);
        }
    }
}

static void test_extremes_stay_finite(void **state) {
    const float logits[2 * K] = {1e4f, -1e4f, 0, 0, 0, 0, 0, -3e38f, 3e38f, 0, 0, 0, 0, 0};
    const int32_t right[2] = {0, 1};
    const int32_t wrong[2] = {1, 1};
    const float sure[K] = {0, 1, 0, 0, 0, 0, 0};
    float d[2 * K];
    (void)state;

    assert_near(loss_cross_entropy(2, K, logits, right, 1.0f, d), 0.0, 1e-9);
    assert_near(loss_cross_entropy(1, K, logits, wrong, 1.0f, d), 2e4, 1e-6);
    for (size_t k = 0; k < K; k++) {
        assert_true(isfinite(d[k]));
    }
    assert_true(d[0] == 1.0f && d[1] == -1.0f);
    /* 0 log 0 counts as 0. */
    assert_near(loss_kl(1, K, sure, logits, 1.0f, d), 2e4, 1e-6);
    assert_true(d[0] == 1.0f && d[1] == -1.0f && d[2] == 0.0f);
}

static void test_argmax(void **state) {
    const float row[5] = {1.0f, 3.0f, -1.0f, 3.0f, 2.0f};
    (void)state;

    assert_int_equal(loss_argmax(5, row), 1); /* the first of equals */
    assert_int_equal(loss_argmax(1, row), 0);
    assert_int_equal(loss_argmax(3, row + 2), 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_extremes_stay_finite),
        cmocka_unit_test(test_argmax),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
