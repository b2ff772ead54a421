/* Trigger families: the gradient of each against finite differences, bounds, ranges, and what apply does in plain cases. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/mem.h"
#include "server/expose/trigger.h"
#include "tests/support/near.h"

enum { C = 3, H = 7, W = 6, VALUES = C * H * W };

static const float low[C] = {-2.0F, -1.5F, 0.0F}, high[C] = {2.5F, 2.0F, 1.0F};
static const struct image_range range = {C, H, W, low, high};

static struct trigger *make(enum trigger_family family, uint64_t seed) {
    struct rng rng;
    struct trigger *t = NULL;
    struct error error = {0};
    rng_seed(&rng, seed);
    assert_int_equal(trigger_new(family, 1, 1.0, &range, &rng, &t, &error), STATUS_OK);
    return t;
}

static void random_image(struct rng *rng, float *x) {
    for (size_t i = 0; i < VALUES; i++) {
        const size_t c = i / (H * W);
        x[i] = low[c] + (high[c] - low[c]) * rng_range(rng, 0.2F, 0.8F);
    }
}

/* loss = sum_i weight_i out_i, smooth in the parameters. The patch family's own regulariser (lambda |m|_1) is added by hand. */
static double loss_of(struct trigger *t, const float *x, const float *weight) {
    float out[VALUES];
    double sum = 0.0;
    trigger_render(t, &range);
    trigger_apply(t, &range, x, out);
    for (size_t i = 0; i < VALUES; i++) {
        sum += (double)weight[i] * (double)out[i];
    }
    if (t->family == TRIGGER_PATCH) {
        sum += 20.0 / (H * W) * t->extent;
    }
    return sum;
}

/* Images are float, so a difference of losses over eps is good to about 1e-6 / eps; the warp, whose gradients are small, takes a
 * larger step. */
static void check_gradient(enum trigger_family family, float eps) {
    struct rng rng;
    rng_seed(&rng, 11);
    struct trigger *t = make(family, 5);
    float x[VALUES], weight[VALUES];
    if (family == TRIGGER_WARP) {
        /* Bilinear resampling has kinks where a pixel's flow crosses zero: keep all flows on one side. */
        for (size_t i = 0; i < t->parameter_count; i++) {
            t->parameters[i] = rng_range(&rng, 0.3F, 1.0F);
        }
    }
    random_image(&rng, x);
    for (size_t i = 0; i < VALUES; i++) {
        weight[i] = rng_normal(&rng);
    }
    float *rendered = mem_calloc(t->rendered_count, sizeof *rendered);
    float *gradient = mem_calloc(t->parameter_count, sizeof *gradient);
    trigger_render(t, &range);
    trigger_backward(t, &range, x, weight, rendered);
    trigger_parameter_gradient(t, &range, rendered, gradient);
    double worst = 0.0, scale = 0.0;
    for (size_t i = 0; i < t->parameter_count; i++) {
        const float at = t->parameters[i];
        t->parameters[i] = at + eps;
        const double up = loss_of(t, x, weight);
        t->parameters[i] = at - eps;
        const double down = loss_of(t, x, weight);
        t->parameters[i] = at;
        const double numeric = (up - down) / (2.0 * (double)eps);
        worst = fmax(worst, fabs(numeric - (double)gradient[i]));
        scale = fmax(scale, fabs(numeric));
    }
    assert_true(scale > 0.0);
    assert_true(worst <= 2e-3 * scale);
    mem_free(rendered);
    mem_free(gradient);
    trigger_free(t);
}

static void test_patch_gradient(void **state) {
    (void)state;
    check_gradient(TRIGGER_PATCH, 1e-3F);
}

static void test_additive_gradient(void **state) {
    (void)state;
    check_gradient(TRIGGER_ADDITIVE, 1e-3F);
}

static void test_warp_gradient(void **state) {
    (void)state;
    check_gradient(TRIGGER_WARP, 1e-2F);
}

static void test_patch_extremes(void **state) {
    (void)state;
    struct trigger *t = make(TRIGGER_PATCH, 1);
    float x[VALUES], out[VALUES];
    struct rng rng;
    rng_seed(&rng, 2);
    random_image(&rng, x);
    for (size_t i = 0; i < H * W; i++) {
        t->parameters[i] = -40.0F; /* mask 0: the image comes through */
    }
    trigger_render(t, &range);
    trigger_apply(t, &range, x, out);
    assert_memory_equal(x, out, sizeof x);
    assert_true(t->extent < 1e-6);
    for (size_t i = 0; i < t->parameter_count; i++) {
        t->parameters[i] = 40.0F; /* mask 1, pattern at the top of the range */
    }
    trigger_render(t, &range);
    trigger_apply(t, &range, x, out);
    for (size_t i = 0; i < VALUES; i++) {
        assert_near(out[i], high[i / (H * W)], 1e-5F);
    }
    assert_near(t->extent, H * W, 1e-4);
    trigger_free(t);
}

static void test_stronger_multiplies_the_change_and_clips(void **state) {
    (void)state;
    float x[VALUES], once[VALUES], out[VALUES];
    struct rng rng;
    rng_seed(&rng, 6);
    random_image(&rng, x);
    for (enum trigger_family family = 0; family < TRIGGER_FAMILY_COUNT; family++) {
        size_t clipped = 0, changed = 0;
        struct trigger *t = make(family, 7);
        trigger_apply(t, &range, x, once);
        trigger_apply_at(t, &range, 1.0F, x, out);
        assert_memory_equal(once, out, sizeof out);
        trigger_apply_at(t, &range, 40.0F, x, out);
        for (size_t i = 0; i < VALUES; i++) {
            const float wanted = x[i] + 40.0F * (once[i] - x[i]);
            const float least = low[i / (H * W)], most = high[i / (H * W)];
            assert_near(out[i], wanted < least ? least : wanted > most ? most : wanted, 1e-4);
            clipped += wanted < least || wanted > most;
            changed += out[i] != once[i];
        }
        assert_true(changed > 0);
        assert_true(clipped > 0 || family == TRIGGER_ADDITIVE);
        trigger_free(t);
    }
}

static void test_additive_stays_in_ball_and_range(void **state) {
    (void)state;
    struct trigger *t = make(TRIGGER_ADDITIVE, 3);
    float x[VALUES], out[VALUES];
    struct rng rng;
    rng_seed(&rng, 4);
    random_image(&rng, x);
    for (size_t i = 0; i < t->parameter_count; i++) {
        t->parameters[i] = rng_normal(&rng);
    }
    trigger_render(t, &range);
    trigger_apply(t, &range, x, out); /* huge d: the result must still be a valid image */
    for (size_t i = 0; i < VALUES; i++) {
        assert_true(out[i] >= low[i / (H * W)] && out[i] <= high[i / (H * W)]);
    }
    trigger_project(t, &range);
    trigger_render(t, &range);
    assert_near(t->extent, 0.018 * sqrt((double)VALUES), 1e-5);
    trigger_free(t);
}

static void test_warp_of_zero_and_of_a_constant(void **state) {
    (void)state;
    struct trigger *t = make(TRIGGER_WARP, 3);
    float x[VALUES], out[VALUES];
    struct rng rng;
    rng_seed(&rng, 4);
    random_image(&rng, x);
    memset(t->parameters, 0, t->parameter_count * sizeof *t->parameters);
    trigger_render(t, &range);
    trigger_apply(t, &range, x, out);
    assert_memory_equal(x, out, sizeof x);
    for (size_t i = 0; i < VALUES; i++) {
        x[i] = 0.5F;
    }
    for (size_t i = 0; i < t->parameter_count; i++) {
        t->parameters[i] = rng_normal(&rng);
    }
    trigger_render(t, &range);
    trigger_apply(t, &range, x, out);
    for (size_t i = 0; i < VALUES; i++) {
        assert_near(out[i], 0.5F, 1e-6F);
    }
    assert_true(t->extent > 0.0 && t->extent <= sqrt(2.0) * 0.5 * 2.0);
    trigger_free(t);
}

static void test_copy_is_deep(void **state) {
    (void)state;
    struct error error = {0};
    struct trigger *t = make(TRIGGER_PATCH, 9), *copy = NULL;
    t->size = 4.5;
    assert_int_equal(trigger_copy(t, &copy, &error), STATUS_OK);
    assert_ptr_not_equal(copy->parameters, t->parameters);
    assert_memory_equal(copy->parameters, t->parameters, t->parameter_count * sizeof(float));
    assert_memory_equal(copy->rendered, t->rendered, t->rendered_count * sizeof(float));
    assert_true(copy->size == 4.5 && copy->target == 1);
    trigger_free(t);
    trigger_free(copy);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patch_gradient),
        cmocka_unit_test(test_additive_gradient),
        cmocka_unit_test(test_warp_gradient),
        cmocka_unit_test(test_patch_extremes),
        cmocka_unit_test(test_stronger_multiplies_the_change_and_clips),
        cmocka_unit_test(test_additive_stays_in_ball_and_range),
        cmocka_unit_test(test_warp_of_zero_and_of_a_constant),
        cmocka_unit_test(test_copy_is_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
