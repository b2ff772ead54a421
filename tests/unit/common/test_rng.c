/* The generator against the sequence that its published definition gives, and the distributions against theory. */
#include <math.h>
#include <string.h>

#include "common/rng.h"
#include "tests/support/cm.h"

static void outputs_match_the_definition(void **state) {
    (void)state;
    /* xoshiro256** worked out from its definition for the state 1, 2, 3, 4. */
    static const uint64_t EXPECTED[] = {
        11520,
        0,
        1509978240,
        UINT64_C(1215971899390074240),
        UINT64_C(1216172134540287360),
        UINT64_C(607988272756665600),
    };
    struct rng rng = {{1, 2, 3, 4}};
    for (size_t i = 0; i < sizeof EXPECTED / sizeof EXPECTED[0]; i++) {
        assert_true(rng_next(&rng) == EXPECTED[i]);
    }
}

static void seeding_matches_splitmix64(void **state) {
    (void)state;
    struct rng rng;
    rng_seed(&rng, 0);
    assert_true(rng.state[0] == UINT64_C(0xe220a8397b1dcdaf));
    assert_true(rng.state[1] == UINT64_C(0x6e789e6aa1b965f4));
    assert_true(rng.state[2] == UINT64_C(0x06c45d188009454f));
    assert_true(rng.state[3] == UINT64_C(0xf88bb8a8724c81ec));
    rng_seed(&rng, 42);
    assert_true(rng_next(&rng) == UINT64_C(1546998764402558742));
    assert_true(rng_next(&rng) == UINT64_C(6990951692964543102));
}

static void streams_are_stable_and_apart(void **state) {
    (void)state;
    enum { STREAMS = 64 };
    struct rng parent;
    rng_seed(&parent, 7);
    const struct rng before = parent;
    uint64_t firsts[STREAMS];
    for (uint64_t i = 0; i < STREAMS; i++) {
        struct rng child = rng_stream(&parent, i);
        struct rng again = rng_stream(&parent, i);
        firsts[i] = rng_next(&child);
        assert_true(firsts[i] == rng_next(&again));
        for (uint64_t k = 0; k < i; k++) {
            assert_true(firsts[k] != firsts[i]);
        }
        assert_true(firsts[i] != rng_next(&again));
    }
    assert_memory_equal(&parent, &before, sizeof parent);
    struct rng other;
    rng_seed(&other, 8);
    other = rng_stream(&other, 0);
    assert_true(rng_next(&other) != firsts[0]);
}

static void below_stays_below_and_is_even(void **state) {
    (void)state;
    enum { BINS = 7, DRAWS = 70000 };
    struct rng rng;
    size_t bins[BINS] = {0};
    rng_seed(&rng, 1);
    for (int i = 0; i < DRAWS; i++) {
        bins[rng_below(&rng, BINS)]++;
    }
    double chi2 = 0.0;
    for (int i = 0; i < BINS; i++) {
        double off = (double)bins[i] - (double)DRAWS / BINS;
        chi2 += off * off / ((double)DRAWS / BINS);
    }
    assert_true(chi2 < 22.5); /* 6 degrees of freedom: exceeded once in a thousand seeds */
    for (int i = 0; i < 100; i++) {
        assert_true(rng_below(&rng, 1) == 0);
        assert_true(rng_below(&rng, UINT64_MAX) < UINT64_MAX);
    }
}

static void below_has_no_modulo_bias(void **state) {
    (void)state;
    /* With bound 3 * 2^62, the remainder of a plain 64-bit draw falls below 2^62 half of the time instead of a third. */
    const uint64_t bound = UINT64_C(3) << 62;
    enum { DRAWS = 30000 };
    struct rng rng;
    size_t low = 0;
    rng_seed(&rng, 2);
    for (int i = 0; i < DRAWS; i++) {
        uint64_t value = rng_below(&rng, bound);
        assert_true(value < bound);
        low += value < UINT64_C(1) << 62;
    }
    /* A third of 30000 is 10000, standard deviation 82: five of them to each side. */
    assert_in_range(low, 9590, 10410);
}

static void below_rejects_the_uneven_rest(void **state) {
    (void)state;
    /* For bound 2^63 + 1 the threshold 2^64 mod bound is 2^63 - 1. The second and third outputs of this state (see
     * above) are 0 and an even number x < 2^62, whose products with the bound have the low words 0 and x: both fall
     * below the threshold, so both must be thrown away. */
    const uint64_t bound = (UINT64_C(1) << 63) + 1;
    struct rng rng = {{1, 2, 3, 4}};
    (void)rng_next(&rng);
    struct rng copy = rng;
    uint64_t value = rng_below(&rng, bound);
    assert_true(rng_next(&copy) == 0);
    assert_true(rng_next(&copy) == 1509978240);
    uint64_t raw = rng_next(&copy);
    while (raw * bound < (UINT64_C(1) << 63) - 1) {
        raw = rng_next(&copy);
    }
    assert_true(value == (uint64_t)((unsigned __int128)raw * bound >> 64));
    assert_memory_equal(&rng, &copy, sizeof rng);
}

static void uniforms_cover_their_interval(void **state) {
    (void)state;
    enum { DRAWS = 100000 };
    struct rng rng;
    double sum = 0.0;
    double sum_double = 0.0;
    rng_seed(&rng, 3);
    for (int i = 0; i < DRAWS; i++) {
        float single = rng_uniform(&rng);
        double full = rng_uniform_double(&rng);
        float range = rng_range(&rng, -3.0F, 5.0F);
        assert_true(single >= 0.0F && single < 1.0F);
        assert_true(full >= 0.0 && full < 1.0);
        assert_true(range >= -3.0F && range < 5.0F);
        sum += (double)single;
        sum_double += full;
    }
    /* The mean of 100000 uniforms has a standard deviation of 0.0009. */
    assert_true(fabs(sum / DRAWS - 0.5) < 0.005);
    assert_true(fabs(sum_double / DRAWS - 0.5) < 0.005);
    /* An interval of one representable step: rounding must not give its open end. */
    float high = nextafterf(1.0F, 2.0F);
    for (int i = 0; i < 1000; i++) {
        assert_true(rng_range(&rng, 1.0F, high) < high);
    }
}

static void normal_has_its_moments(void **state) {
    (void)state;
    enum { DRAWS = 100000 };
    struct rng rng;
    double sum = 0.0;
    double squares = 0.0;
    double fourths = 0.0;
    rng_seed(&rng, 4);
    for (int i = 0; i < DRAWS; i++) {
        double x = (double)rng_normal(&rng);
        assert_true(isfinite(x));
        sum += x;
        squares += x * x;
        fourths += x * x * x * x;
    }
    /* Standard deviations of the three estimates: 0.0032, 0.0045, 0.031. Five of them each. */
    assert_true(fabs(sum / DRAWS) < 0.016);
    assert_true(fabs(squares / DRAWS - 1.0) < 0.023);
    assert_true(fabs(fourths / DRAWS - 3.0) < 0.16);
}

static void shuffle_permutes_evenly(void **state) {
    (void)state;
    enum { COUNT = 4, DRAWS = 24000 };
    struct rng rng;
    size_t seen[COUNT][COUNT] = {{0}};
    rng_seed(&rng, 5);
    for (int i = 0; i < DRAWS; i++) {
        size_t items[COUNT] = {0, 1, 2, 3};
        rng_shuffle(&rng, items, COUNT);
        size_t mask = 0;
        for (size_t k = 0; k < COUNT; k++) {
            assert_true(items[k] < COUNT);
            mask |= (size_t)1 << items[k];
            seen[k][items[k]]++;
        }
        assert_int_equal(mask, 15);
    }
    for (size_t k = 0; k < COUNT; k++) {
        for (size_t j = 0; j < COUNT; j++) {
            assert_in_range(seen[k][j], 6000 - 340, 6000 + 340); /* five standard deviations of 67 */
        }
    }
    size_t none = 9;
    rng_shuffle(&rng, &none, 0);
    rng_shuffle(&rng, &none, 1);
    assert_int_equal(none, 9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outputs_match_the_definition),  cmocka_unit_test(seeding_matches_splitmix64),
        cmocka_unit_test(streams_are_stable_and_apart),  cmocka_unit_test(below_stays_below_and_is_even),
        cmocka_unit_test(below_has_no_modulo_bias),      cmocka_unit_test(below_rejects_the_uneven_rest),
        cmocka_unit_test(uniforms_cover_their_interval), cmocka_unit_test(normal_has_its_moments),
        cmocka_unit_test(shuffle_permutes_evenly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
