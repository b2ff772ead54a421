/* The additive family: x' = clip(x + d) with |d|_2 in pixel units held in a ball. Blends and other patterns spread over the
 * image reach their target at a strength at which no other class is reached. */
#include <math.h>
#include <stddef.h>

#include "server/expose/trigger_family.h"

/* Root mean square of d, in units of the pixel range, that the ball allows: 4.6 / 255, an L2 norm of 1 at 3 x 32 x 32. */
static const double BOUND_RMS = 0.018;

static double radius(const struct trigger *t, const struct image_range *range) {
    return t->scale * BOUND_RMS * sqrt((double)range_values(range));
}

static void start(struct trigger *t, const struct image_range *range, struct rng *rng) {
    for (size_t i = 0; i < t->parameter_count; i++) {
        t->parameters[i] = rng_normal(rng) * (float)(0.1 * BOUND_RMS);
    }
    (void)range;
}

static double norm(const struct trigger *t) {
    double sum = 0.0;
    for (size_t i = 0; i < t->parameter_count; i++) {
        sum += (double)t->parameters[i] * (double)t->parameters[i];
    }
    return sqrt(sum);
}

/* rendered: d (C, H, W) in the network's own units. */
static void render(struct trigger *t, const struct image_range *range) {
    const size_t pixels = range_pixels(range);
    for (size_t i = 0; i < t->parameter_count; i++) {
        const size_t c = i / pixels;
        t->rendered[i] = t->parameters[i] * (range->high[c] - range->low[c]);
    }
    t->extent = norm(t);
}

static void apply(const struct trigger *t, const struct image_range *range, const float *restrict x,
                  float *restrict out) {
    const size_t pixels = range_pixels(range);
    for (size_t c = 0; c < range->channels; c++) {
        const float low = range->low[c], high = range->high[c];
        for (size_t i = c * pixels; i < (c + 1) * pixels; i++) {
            const float v = x[i] + t->rendered[i];
            out[i] = v < low ? low : v > high ? high : v;
        }
    }
}

static void backward(const struct trigger *t, const struct image_range *range, const float *restrict x,
                     const float *restrict dout, float *restrict gradient) {
    const size_t pixels = range_pixels(range);
    for (size_t c = 0; c < range->channels; c++) {
        const float low = range->low[c], high = range->high[c];
        for (size_t i = c * pixels; i < (c + 1) * pixels; i++) {
            const float v = x[i] + t->rendered[i];
            gradient[i] += v < low || v > high ? 0.0F : dout[i];
        }
    }
}

static void parameter_gradient(const struct trigger *t, const struct image_range *range, const float *rendered,
                               float *parameter) {
    const size_t pixels = range_pixels(range);
    for (size_t i = 0; i < t->parameter_count; i++) {
        const size_t c = i / pixels;
        parameter[i] = rendered[i] * (range->high[c] - range->low[c]);
    }
}

static void project(struct trigger *t, const struct image_range *range) {
    const double length = norm(t), most = radius(t, range);
    if (length > most) {
        const float factor = (float)(most / length);
        for (size_t i = 0; i < t->parameter_count; i++) {
            t->parameters[i] *= factor;
        }
    }
}

/* --- the dictionary: sinusoids --- */

/* Cycles over the image. Along an axis all are tried, at two phases (an attack's stripes are upright or level), oblique ones in wider
 * steps and at one. */
enum {
    CYCLES_MAX = 16,
    OBLIQUE = 7,
    PHASES = 2,
    AXIAL_ENTRIES = 2 * CYCLES_MAX * PHASES,
    OBLIQUE_ENTRIES = 2 * OBLIQUE * OBLIQUE
};
static const double oblique[OBLIQUE] = {1, 2, 3, 4, 6, 8, 11};

static size_t entry_count(const struct image_range *range) {
    (void)range;
    return (size_t)AXIAL_ENTRIES + OBLIQUE_ENTRIES;
}

static void set_entry(struct trigger *t, const struct image_range *range, size_t index) {
    static const double two_pi = 6.283185307179586;
    size_t phase = 0;
    double rows = 0.0, columns = 0.0;
    if (index < AXIAL_ENTRIES) {
        const size_t wave = index / PHASES, cycles = 1 + wave / 2;
        phase = index % PHASES;
        *(wave % 2 == 0 ? &columns : &rows) = (double)cycles;
    } else {
        const size_t k = index - AXIAL_ENTRIES;
        columns = oblique[k / 2 % OBLIQUE];
        rows = oblique[k / 2 / OBLIQUE] * (k % 2 == 0 ? 1.0 : -1.0);
    }
    for (size_t i = 0; i < t->parameter_count; i++) {
        const size_t at = i % range_pixels(range);
        const size_t row = at / range->width, column = at % range->width;
        const double y = (double)row / (double)range->height, x = (double)column / (double)range->width;
        t->parameters[i] = (float)sin(two_pi * (rows * y + columns * x + 0.25 * (double)phase));
    }
    /* A wave of which nothing is seen at this phase (all zeros on the pixels' grid) stays what it is: no trigger. */
    const double length = norm(t), most = radius(t, range);
    for (size_t i = 0; i < t->parameter_count && length > 1e-3 * most; i++) {
        t->parameters[i] *= (float)(most / length);
    }
}

static double size(const struct trigger *t, const struct image_range *range) {
    (void)range;
    return t->loss;
}

const struct trigger_family_row trigger_additive_row = {
    .name = "additive",
    .learning_rate = 0.005F,
    .bounded = true,
    .rate_by_scale = true,
    .parameter_count = range_values,
    .rendered_count = range_values,
    .start = start,
    .render = render,
    .apply = apply,
    .backward = backward,
    .parameter_gradient = parameter_gradient,
    .project = project,
    .size = size,
    .entry_count = entry_count,
    .set_entry = set_entry,
    .entry_scale = 3.1, /* a sinusoid of amplitude 20 / 255 (Barni et al. 2019, "SIG") */
};
