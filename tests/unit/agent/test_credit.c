/* The credit model: memory of masks, and credits of single flips from rewards of whole masks. */
#include "common/mem.h"
#include "common/rng.h"
#include "server/agent/credit.h"
#include "tests/support/cm.h"

#include <math.h>
#include <string.h>

enum { ACTIONS = 60 };

static struct credit *make(void) {
    struct credit *credit = NULL;
    struct error error = {0};
    assert_int_equal(credit_new(ACTIONS, &credit, &error), STATUS_OK);
    return credit;
}

static void masks_are_found_again(void **state) {
    (void)state;
    struct credit *credit = make();
    struct error error = {0};
    struct rng rng;
    rng_seed(&rng, 1);
    static uint8_t masks[500][ACTIONS];
    for (size_t i = 0; i < 500; i++) {
        for (size_t a = 0; a < ACTIONS; a++) {
            masks[i][a] = rng_uniform(&rng) < 0.3F;
        }
        assert_false(credit_find(credit, masks[i], NULL));
        assert_int_equal(credit_add(credit, masks[i], (double)i, &error), STATUS_OK);
        assert_int_equal(credit_add(credit, masks[i], -1, &error), STATUS_OK); /* known: the first reward stays */
    }
    assert_int_equal(credit_count(credit), 500);
    for (size_t i = 0; i < 500; i++) {
        double reward = 0;
        assert_true(credit_find(credit, masks[i], &reward));
        assert_true(reward == (double)i);
    }
    credit_reset(credit);
    assert_int_equal(credit_count(credit), 0);
    assert_false(credit_find(credit, masks[0], NULL));
    credit_free(credit);
}

/* Rewards are sums of the flips' effects plus a pair that only works together: with 150 masks of five flips each, the model must know
 * the effects of all single flips. */
static void single_flips_get_their_own_credit(void **state) {
    (void)state;
    struct credit *credit = make();
    struct error error = {0};
    struct rng rng;
    rng_seed(&rng, 2);
    double effect[ACTIONS], gain[ACTIONS], own[ACTIONS], scale = 0;
    float belief[ACTIONS];
    uint8_t base[ACTIONS], mask[ACTIONS];
    for (size_t a = 0; a < ACTIONS; a++) {
        effect[a] = 0.5 * (double)rng_normal(&rng) - 0.2;
        belief[a] = rng_normal(&rng);
        base[a] = a % 5 == 0;
    }
    assert_int_equal(credit_add(credit, base, 3, &error), STATUS_OK);
    for (size_t i = 0; i < 150; i++) {
        double reward = 3;
        memcpy(mask, base, sizeof mask);
        for (size_t k = 0; k < 5; k++) {
            size_t a = (size_t)rng_below(&rng, ACTIONS - 1); /* the last one is never flipped */
            mask[a] = !base[a];
        }
        for (size_t a = 0; a < ACTIONS; a++) {
            reward += mask[a] != base[a] ? effect[a] : 0;
        }
        reward += mask[1] != base[1] && mask[2] != base[2] ? 0.5 : 0;
        assert_int_equal(credit_add(credit, mask, reward, &error), STATUS_OK);
    }
    assert_int_equal(credit_fit(credit, base, belief, gain, own, &scale, &error), STATUS_OK);
    double error_square = 0, square = 0;
    for (size_t a = 0; a + 1 < ACTIONS; a++) {
        error_square += (gain[a] - effect[a]) * (gain[a] - effect[a]);
        square += effect[a] * effect[a];
    }
    assert_true(scale > 0);
    assert_true(error_square < 0.02 * square);
    assert_true(own[ACTIONS - 1] == 0); /* nothing is known of it but what is common */
    credit_free(credit);
}

static void belief_counts_as_far_as_it_predicts(void **state) {
    (void)state;
    struct error error = {0};
    for (int honest = 0; honest < 2; honest++) {
        struct credit *credit = make();
        struct rng rng;
        rng_seed(&rng, 3);
        float belief[ACTIONS];
        double gain[ACTIONS], own[ACTIONS], scale = 0, unseen[2] = {0};
        uint8_t base[ACTIONS] = {0}, mask[ACTIONS];
        for (size_t a = 0; a < ACTIONS; a++) {
            belief[a] = a % 2 == 0 ? 1 : -1;
        }
        assert_int_equal(credit_add(credit, base, 0, &error), STATUS_OK);
        for (size_t i = 0; i < 60; i++) {
            memcpy(mask, base, sizeof mask);
            double reward = 0;
            for (size_t k = 0; k < 3; k++) {
                size_t a = (size_t)rng_below(&rng, ACTIONS / 2); /* the other half is never flipped */
                reward += mask[a] ? 0 : honest ? (double)belief[a] : (a % 4 < 2 ? 1 : -1);
                mask[a] = 1;
            }
            assert_int_equal(credit_add(credit, mask, reward, &error), STATUS_OK);
        }
        assert_int_equal(credit_fit(credit, base, belief, gain, own, &scale, &error), STATUS_OK);
        for (size_t a = ACTIONS / 2; a < ACTIONS; a++) {
            unseen[a % 2] += 4 * gain[a] / ACTIONS;
        }
        double told = unseen[0] - unseen[1]; /* even ones are believed good */
        assert_true(honest ? told > 1.5 : fabs(told) < 0.7);
        credit_free(credit);
    }
}

static void an_unknown_base_and_no_memory_are_errors(void **state) {
    (void)state;
    struct error error = {0};
    uint8_t base[ACTIONS] = {0}, mask[ACTIONS] = {1};
    float belief[ACTIONS] = {0};
    double gain[ACTIONS], own[ACTIONS], scale = 0;
    struct credit *credit = make();
    assert_int_equal(credit_fit(credit, base, belief, gain, own, &scale, &error), STATUS_INTERNAL);
    credit_free(credit);
    for (uint64_t n = 1;; n++) {
        credit = NULL;
        error_clear(&error);
        mem_fail_after(n);
        enum status status = credit_new(ACTIONS, &credit, &error);
        status = status == STATUS_OK ? credit_add(credit, base, 1, &error) : status;
        status = status == STATUS_OK ? credit_add(credit, mask, 2, &error) : status;
        status = status == STATUS_OK ? credit_fit(credit, base, belief, gain, own, &scale, &error) : status;
        mem_fail_after(0);
        credit_free(credit);
        if (status == STATUS_OK) {
            assert_true(n > 10);
            assert_true(gain[0] > 0);
            break;
        }
        assert_int_equal(error.status, STATUS_NO_MEMORY);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_are_found_again),
        cmocka_unit_test(single_flips_get_their_own_credit),
        cmocka_unit_test(belief_counts_as_far_as_it_predicts),
        cmocka_unit_test(an_unknown_base_and_no_memory_are_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
