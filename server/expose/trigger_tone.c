/* The tone family: transformations of the whole image that need no pattern of their own, from a fixed list. Quantisation to few levels,
 * with and without dithering (Wang et al. 2022, "BppAttack"), and what photo filters do: gamma, contrast, saturation, a
 * colour cast, blur and sharpening. They have nothing to take a gradient by, so that all are tried (dictionary.h); every
 * one is mild: a clean network keeps most of its accuracy under it. */
#include <math.h>
#include <stddef.h>

#include "server/expose/trigger_family.h"

enum tone { TONE_QUANTISE, TONE_DITHER, TONE_GAMMA, TONE_CONTRAST, TONE_SATURATION, TONE_CAST, TONE_SHARPEN };

/* One entry: what, how strong, and for a cast which channel. */
static const struct tone_entry {
    enum tone tone;
    float strength;
    size_t channel;
} entries[] = {
    {TONE_QUANTISE, 4, 0},      {TONE_QUANTISE, 5, 0},     {TONE_QUANTISE, 6, 0},    {TONE_QUANTISE, 8, 0},
    {TONE_QUANTISE, 10, 0},     {TONE_QUANTISE, 12, 0},    {TONE_QUANTISE, 16, 0},   {TONE_QUANTISE, 32, 0},
    {TONE_DITHER, 4, 0},        {TONE_DITHER, 5, 0},       {TONE_DITHER, 6, 0},      {TONE_DITHER, 8, 0},
    {TONE_DITHER, 12, 0},       {TONE_DITHER, 16, 0},      {TONE_DITHER, 32, 0},     {TONE_GAMMA, 0.7F, 0},
    {TONE_GAMMA, 1.4F, 0},      {TONE_CONTRAST, 0.75F, 0}, {TONE_CONTRAST, 1.3F, 0}, {TONE_SATURATION, 0.3F, 0},
    {TONE_SATURATION, 2.0F, 0}, {TONE_CAST, 0.08F, 0},     {TONE_CAST, -0.08F, 0},   {TONE_CAST, 0.08F, 1},
    {TONE_CAST, -0.08F, 1},     {TONE_CAST, 0.08F, 2},     {TONE_CAST, -0.08F, 2},   {TONE_SHARPEN, -0.5F, 0},
    {TONE_SHARPEN, 0.5F, 0},    {TONE_SHARPEN, 1.0F, 0},
};
enum { ENTRIES = sizeof entries / sizeof entries[0] };

static size_t one(const struct image_range *range) {
    (void)range;
    return 1;
}

static size_t entry_count(const struct image_range *range) {
    (void)range;
    return ENTRIES;
}

/* The only parameter is the entry's index. */
static void set_entry(struct trigger *t, const struct image_range *range, size_t index) {
    (void)range;
    t->parameters[0] = (float)index;
}

static void start(struct trigger *t, const struct image_range *range, struct rng *rng) {
    set_entry(t, range, (size_t)rng_below(rng, ENTRIES));
}

static void render(struct trigger *t, const struct image_range *range) {
    (void)range;
    t->rendered[0] = t->parameters[0];
    t->extent = 0.0;
}

static float clamp01(float v) {
    return v < 0.0F ? 0.0F : v > 1.0F ? 1.0F : v;
}

static float nearest_level(float v, float levels) {
    return clamp01(roundf(v * (levels - 1.0F)) / (levels - 1.0F));
}

/* Error diffusion after Floyd and Steinberg (1976) in one plane (H, W), in place. */
static void dither(float *plane, size_t height, size_t width, float levels) {
    for (size_t i = 0; i < height; i++) {
        for (size_t j = 0; j < width; j++) {
            float *at = plane + i * width + j;
            const float level = nearest_level(*at, levels), rest = *at - level;
            *at = level;
            if (j + 1 < width) {
                at[1] += rest * (7.0F / 16.0F);
            }
            if (i + 1 < height) {
                at[width] += rest * (5.0F / 16.0F);
                if (j > 0) {
                    at[width - 1] += rest * (3.0F / 16.0F);
                }
                if (j + 1 < width) {
                    at[width + 1] += rest * (1.0F / 16.0F);
                }
            }
        }
    }
}

/* The mean of the 3 x 3 neighbourhood of x (H, W), edges repeated. */
static float neighbourhood(const float *x, size_t height, size_t width, size_t i, size_t j) {
    float sum = 0.0F;
    for (size_t a = 0; a < 3; a++) {
        for (size_t b = 0; b < 3; b++) {
            const size_t row = i + a < 1 ? 0 : i + a - 1 >= height ? height - 1 : i + a - 1;
            const size_t column = j + b < 1 ? 0 : j + b - 1 >= width ? width - 1 : j + b - 1;
            sum += x[row * width + column];
        }
    }
    return sum / 9.0F;
}

static void sharpen(const float *restrict x, float *restrict out, size_t height, size_t width, float strength) {
    for (size_t i = 0; i < height; i++) {
        for (size_t j = 0; j < width; j++) {
            const float v = x[i * width + j];
            out[i * width + j] = v + strength * (v - neighbourhood(x, height, width, i, j));
        }
    }
}

/* out: pixels in [0, 1] in, transformed out. What works on one value at a time. */
static void point_tone(const struct tone_entry *entry, const struct image_range *range, float *out) {
    const size_t pixels = range_pixels(range), values = range_values(range), channels = range->channels;
    double sum = 0.0;
    for (size_t i = 0; i < values; i++) {
        sum += (double)out[i];
    }
    const float mean = (float)(sum / (double)values);
    for (size_t p = 0; p < pixels; p++) {
        float grey = 0.0F;
        for (size_t c = 0; c < channels; c++) {
            grey += out[c * pixels + p] / (float)channels;
        }
        for (size_t c = 0; c < channels; c++) {
            float *v = &out[c * pixels + p];
            switch (entry->tone) {
            case TONE_QUANTISE:
                *v = nearest_level(*v, entry->strength);
                break;
            case TONE_GAMMA:
                *v = powf(clamp01(*v), entry->strength);
                break;
            case TONE_CONTRAST:
                *v = mean + entry->strength * (*v - mean);
                break;
            case TONE_SATURATION:
                *v = grey + entry->strength * (*v - grey);
                break;
            case TONE_CAST:
                *v += c == entry->channel ? entry->strength : 0.0F;
                break;
            case TONE_DITHER:
            case TONE_SHARPEN:
                break;
            }
        }
    }
}

static void apply(const struct trigger *t, const struct image_range *range, const float *restrict x,
                  float *restrict out) {
    const struct tone_entry *entry = &entries[(size_t)t->rendered[0]];
    const size_t pixels = range_pixels(range);
    for (size_t c = 0; c < range->channels; c++) {
        const float low = range->low[c], span = range->high[c] - low;
        float *plane = out + c * pixels;
        if (entry->tone == TONE_SHARPEN) {
            sharpen(x + c * pixels, plane, range->height, range->width, entry->strength);
        } else {
            for (size_t i = 0; i < pixels; i++) {
                plane[i] = x[c * pixels + i];
            }
        }
        for (size_t i = 0; i < pixels; i++) {
            plane[i] = clamp01((plane[i] - low) / span);
        }
        if (entry->tone == TONE_DITHER) {
            dither(plane, range->height, range->width, entry->strength);
        }
    }
    point_tone(entry, range, out);
    for (size_t c = 0; c < range->channels; c++) {
        const float low = range->low[c], span = range->high[c] - low;
        for (size_t i = c * pixels; i < (c + 1) * pixels; i++) {
            out[i] = low + span * clamp01(out[i]);
        }
    }
}

static double size(const struct trigger *t, const struct image_range *range) {
    (void)range;
    return t->loss;
}

const struct trigger_family_row trigger_tone_row = {
    .name = "tone",
    .parameter_count = one,
    .rendered_count = one,
    .start = start,
    .render = render,
    .apply = apply,
    .size = size,
    .entry_count = entry_count,
    .set_entry = set_entry,
};
