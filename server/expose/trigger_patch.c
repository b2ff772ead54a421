/* The patch family: x' = x (1 - m) + p m with a mask m (H, W) shared by the channels and a pattern p (C, H, W), both in (0, 1)
 * through a sigmoid (Wang et al. 2019, "Neural Cleanse", eq. 2 and 3; there tanh). The objective is the mean cross-entropy to
 * the target plus lambda |m|_1. */
#include <math.h>
#include <stddef.h>

#include "server/expose/trigger_family.h"

/* lambda = WEIGHT / (H W): a mask over a twentieth of the image costs one nat, whatever the image's size. */
static const double MASK_WEIGHT = 20.0;
/* The mask starts at sigmoid(-1.5) = 0.18 everywhere: soft enough for every pixel to get a gradient, light enough for the start not to
 * cover the image. The pattern starts as strong noise, nearly black and white: a backdoor's trigger is a sharp contrast somewhere, and
 * a grey start takes three times the steps to find it (the target then even looks like the hardest class). */
static const float MASK_START = -1.5F, PATTERN_START = 2.0F;

/* Nats of loss that an all-to-all trigger is not charged for: a network that is often wrong, or in doubt, sends an image on with as much doubt.
 * A 3x3 patch in a network of 78 % accuracy came to 7 to 22 pixels with 0.7 to 1.0 nats, and a nat counts as 51. */
static const double MAP_DOUBT = 1.0;

static float sigmoid(float v) {
    return 1.0F / (1.0F + expf(-v));
}

static size_t value_count(const struct image_range *range) {
    return range_pixels(range) + range_values(range);
}

static void start(struct trigger *t, const struct image_range *range, struct rng *rng) {
    const size_t pixels = range_pixels(range);
    for (size_t i = 0; i < pixels; i++) {
        t->parameters[i] = MASK_START + 0.1F * rng_normal(rng);
    }
    for (size_t i = pixels; i < t->parameter_count; i++) {
        t->parameters[i] = PATTERN_START * rng_normal(rng);
    }
}

/* rendered: mask (H, W), then the pattern (C, H, W) in the network's own units. */
static void render(struct trigger *t, const struct image_range *range) {
    const size_t pixels = range_pixels(range);
    double extent = 0.0;
    for (size_t i = 0; i < pixels; i++) {
        t->rendered[i] = sigmoid(t->parameters[i]);
        extent += (double)t->rendered[i];
    }
    for (size_t c = 0; c < range->channels; c++) {
        const float low = range->low[c], span = range->high[c] - range->low[c];
        for (size_t i = 0; i < pixels; i++) {
            const size_t k = pixels + c * pixels + i;
            t->rendered[k] = low + span * sigmoid(t->parameters[k]);
        }
    }
    t->extent = extent;
}

static void apply(const struct trigger *t, const struct image_range *range, const float *restrict x,
                  float *restrict out) {
    const size_t pixels = range_pixels(range);
    const float *restrict mask = t->rendered;
    for (size_t c = 0; c < range->channels; c++) {
        const float *restrict pattern = t->rendered + pixels + c * pixels;
        for (size_t i = 0; i < pixels; i++) {
            out[c * pixels + i] = x[c * pixels + i] + mask[i] * (pattern[i] - x[c * pixels + i]);
        }
    }
}

static void backward(const struct trigger *t, const struct image_range *range, const float *restrict x,
                     const float *restrict dout, float *restrict gradient) {
    const size_t pixels = range_pixels(range);
    const float *restrict mask = t->rendered;
    for (size_t c = 0; c < range->channels; c++) {
        const float *restrict pattern = t->rendered + pixels + c * pixels;
        float *restrict dpattern = gradient + pixels + c * pixels;
        for (size_t i = 0; i < pixels; i++) {
            const float d = dout[c * pixels + i];
            gradient[i] += d * (pattern[i] - x[c * pixels + i]);
            dpattern[i] += d * mask[i];
        }
    }
}

static double mask_lambda(const struct image_range *range) {
    return MASK_WEIGHT / (double)range_pixels(range);
}

static void parameter_gradient(const struct trigger *t, const struct image_range *range, const float *rendered,
                               float *parameter) {
    const size_t pixels = range_pixels(range);
    const float lambda = (float)mask_lambda(range);
    for (size_t i = 0; i < pixels; i++) {
        const float m = t->rendered[i];
        parameter[i] = (rendered[i] + lambda) * m * (1.0F - m);
    }
    for (size_t c = 0; c < range->channels; c++) {
        const float span = range->high[c] - range->low[c];
        for (size_t i = 0; i < pixels; i++) {
            const size_t k = pixels + c * pixels + i;
            const float p = sigmoid(t->parameters[k]);
            parameter[k] = rendered[k] * span * p * (1.0F - p);
        }
    }
}

static double size(const struct trigger *t, const struct image_range *range) {
    const double doubt = t->map != NULL ? MAP_DOUBT : 0.0;
    return t->extent + fmax(0.0, t->loss - doubt) / mask_lambda(range);
}

const struct trigger_family_row trigger_patch_row = {
    .name = "patch",
    .learning_rate = 0.5F,
    .parameter_count = value_count,
    .rendered_count = value_count,
    .start = start,
    .render = render,
    .apply = apply,
    .backward = backward,
    .parameter_gradient = parameter_gradient,
    .project = NULL,
    .size = size,
};
