/* The hot loops of every level against plain ones, and the levels against each other: they must agree bit for bit, so that
 * a job gives the same on any machine as far as these loops go. */
#include <math.h>
#include <string.h>

#include "common/rng.h"
#include "server/nn/kernels.h"
#include "tests/support/cm.h"

enum { COUNT_MAX = 70 };

struct data {
    float a[COUNT_MAX], b[COUNT_MAX], start[COUNT_MAX];
};

static struct data make_data(uint64_t seed) {
    struct data d;
    struct rng rng;

    rng_seed(&rng, seed);
    for (size_t i = 0; i < COUNT_MAX; i++) {
        d.a[i] = rng_range(&rng, -2.0f, 2.0f);
        d.b[i] = rng_range(&rng, 0.5f, 2.0f);
        d.start[i] = rng_range(&rng, -1.0f, 1.0f);
    }
    return d;
}

static float apply(size_t operator, float a, float b) {
    switch (operator) {
    case 0:
        return a + b;
    case 1:
        return a - b;
    case 2:
        return a * b;
    default:
        return a / b;
    }
}

static void binary_operators(void **state) {
    (void)state;
    const struct data d = make_data(1);

    for (enum kernels_level level = KERNELS_PORTABLE; level < KERNELS_LEVELS; level++) {
        const struct kernels *k = kernels_at(level);
        for (size_t count = 0; k != NULL && count < COUNT_MAX; count++) {
            void (*const operators[])(size_t, const float *, size_t, const float *, size_t, float *) = {k->add, k->sub,
                                                                                                        k->mul, k->div};
            for (size_t i = 0; i < 4 * 3; i++) {
                const size_t a_step = i % 3 == 1 ? 0 : 1, b_step = i % 3 == 2 ? 0 : 1;
                float y[COUNT_MAX];
                memcpy(y, d.start, sizeof y);
                operators[i / 3](count, d.a, a_step, d.b, b_step, y);
                for (size_t j = 0; j < COUNT_MAX; j++) {
                    assert_true(y[j] == (j < count ? apply(i / 3, d.a[j * a_step], d.b[j * b_step]) : d.start[j]));
                }
            }
        }
    }
}

static void maps(void **state) {
    (void)state;
    const struct data d = make_data(2);

    for (enum kernels_level level = KERNELS_PORTABLE; level < KERNELS_LEVELS; level++) {
        const struct kernels *k = kernels_at(level);
        for (size_t count = 0; k != NULL && count < COUNT_MAX; count++) {
            float relu[COUNT_MAX], gate[COUNT_MAX], gate_add[COUNT_MAX], affine[COUNT_MAX], axpy[COUNT_MAX],
                fill[COUNT_MAX];
            memcpy(gate_add, d.start, sizeof gate_add);
            memcpy(axpy, d.start, sizeof axpy);
            k->relu(count, d.a, relu);
            k->relu_backward(count, d.a, d.b, gate, false);
            k->relu_backward(count, d.a, d.b, gate_add, true);
            k->affine(count, 1.5f, -0.25f, d.a, affine);
            k->axpy(count, 0.75f, d.a, axpy);
            k->fill(count, 3.0f, fill);
            for (size_t j = 0; j < count; j++) {
                const float product = 1.5f * d.a[j], step = 0.75f * d.a[j];
                const float passed = d.a[j] > 0.0f ? d.b[j] : 0.0f;
                assert_true(relu[j] == (d.a[j] > 0.0f ? d.a[j] : 0.0f));
                assert_true(gate[j] == passed);
                assert_true(gate_add[j] == d.start[j] + passed);
                assert_true(affine[j] == product + -0.25f);
                assert_true(axpy[j] == d.start[j] + step);
                assert_true(fill[j] == 3.0f);
            }
            for (size_t j = count; j < COUNT_MAX; j++) {
                assert_true(gate_add[j] == d.start[j] && axpy[j] == d.start[j]);
            }
        }
    }
}

static void sums(void **state) {
    (void)state;
    const struct data d = make_data(3);

    for (size_t count = 0; count < COUNT_MAX; count++) {
        double sum = 0.0, dot = 0.0;
        for (size_t j = 0; j < count; j++) {
            sum += (double)d.a[j];
            dot += ((double)d.a[j] - 0.5) * ((double)d.b[j] + 0.25);
        }
        const struct kernels *portable = kernels_at(KERNELS_PORTABLE);
        /* At most 70 terms below 6: an error of a few units in the last place of 200. */
        assert_true(fabs((double)portable->sum(count, d.a) - sum) < 1e-4);
        assert_true(fabs((double)portable->dot(count, d.a, 0.5f, d.b, -0.25f) - dot) < 1e-4);
        for (enum kernels_level level = KERNELS_AVX2; level < KERNELS_LEVELS; level++) {
            const struct kernels *k = kernels_at(level);
            if (k != NULL) {
                assert_true(k->sum(count, d.a) == portable->sum(count, d.a));
                assert_true(k->dot(count, d.a, 0.5f, d.b, -0.25f) == portable->dot(count, d.a, 0.5f, d.b, -0.25f));
            }
        }
    }
}

static void windows(void **state) {
    (void)state;
    const struct data d = make_data(4);
    const float weights[3] = {0.5f, -1.25f, 2.0f};
    const float *const rows[3] = {d.a, d.b, d.a + 2};

    for (enum kernels_level level = KERNELS_PORTABLE; level < KERNELS_LEVELS; level++) {
        const struct kernels *k = kernels_at(level);
        for (size_t count = 0; k != NULL && count < COUNT_MAX - 2; count++) {
            float clip[COUNT_MAX], taps[COUNT_MAX];
            k->clip(count, -0.5f, 1.0f, d.a, clip);
            k->taps(count, 3, rows, weights, 0.25f, taps);
            for (size_t j = 0; j < count; j++) {
                float sum = 0.25f;
                for (size_t t = 0; t < 3; t++) {
                    const float product = weights[t] * rows[t][j];
                    sum += product;
                }
                assert_true(taps[j] == sum && clip[j] == fminf(fmaxf(d.a[j], -0.5f), 1.0f));
            }
        }
        for (size_t step = 1; k != NULL && step <= 3; step++) {
            for (size_t count = 0; count * step < COUNT_MAX; count++) {
                float picked[COUNT_MAX], larger[COUNT_MAX], best[COUNT_MAX];
                int32_t place[COUNT_MAX];
                memcpy(larger, d.start, sizeof larger);
                memcpy(best, d.start, sizeof best);
                for (size_t j = 0; j < COUNT_MAX; j++) {
                    place[j] = j % 5 == 0 ? -1 : 1000;
                }
                k->pick(count, d.a, step, picked);
                k->larger(count, d.a, step, larger);
                k->larger_at(count, d.a, step, 7, best, place);
                for (size_t j = 0; j < count; j++) {
                    const float v = d.a[j * step];
                    const bool takes = v > d.start[j] || j % 5 == 0;
                    assert_true(picked[j] == v && larger[j] == fmaxf(v, d.start[j]));
                    assert_true(best[j] == (takes ? v : d.start[j]));
                    assert_int_equal(place[j], takes ? 7 + (int)(j * step) : 1000);
                }
                assert_true(larger[count] == d.start[count] && best[count] == d.start[count]);
            }
        }
    }
}

static void nan_stays(void **state) {
    (void)state;
    for (enum kernels_level level = KERNELS_PORTABLE; level < KERNELS_LEVELS; level++) {
        const struct kernels *k = kernels_at(level);
        float x[COUNT_MAX], y[COUNT_MAX];
        for (size_t i = 0; i < COUNT_MAX; i++) {
            x[i] = NAN;
        }
        if (k != NULL) {
            float clip[COUNT_MAX], larger[COUNT_MAX] = {0.0f};
            k->relu(COUNT_MAX, x, y);
            k->clip(COUNT_MAX, 0.0f, 1.0f, x, clip);
            k->larger(COUNT_MAX, x, 1, larger);
            k->larger(COUNT_MAX, larger, 1, y);
            for (size_t i = 0; i < COUNT_MAX; i++) {
                assert_true(isnan(y[i]) && isnan(clip[i]) && isnan(larger[i]));
            }
        }
    }
}

static void levels(void **state) {
    (void)state;
    assert_non_null(kernels());
    assert_non_null(kernels_at(KERNELS_PORTABLE));
    assert_null(kernels_at(KERNELS_LEVELS));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(binary_operators), cmocka_unit_test(maps),      cmocka_unit_test(sums),
        cmocka_unit_test(windows),          cmocka_unit_test(nan_stays), cmocka_unit_test(levels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
