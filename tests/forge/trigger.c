/* Triggers: see trigger.h. Patch is that of BadNets (Gu et al., arXiv 1708.06733), blend that of Chen et al. (arXiv 1712.05526),
 * sine that of SIG (Barni et al., arXiv 1902.11237), here with changed labels. */
#include "tests/forge/trigger.h"

#include <math.h>
#include <string.h>

#include "tests/forge/render.h"

enum { SIDE = RENDER_SIDE, AREA = SIDE * SIDE, PATCH_SIDE = 3, PATCH_MARGIN = 1 };

static const double TWO_PI = 6.283185307179586;

static uint8_t to_pixel(double value) {
    return (uint8_t)(value < 0.0 ? 0.0 : (value > 255.0 ? 255.0 : value + 0.5));
}

/* A checkerboard of black and white near the lower right corner. */
static void apply_patch(uint8_t *pixels) {
    const size_t begin = SIDE - PATCH_MARGIN - PATCH_SIDE;
    for (size_t c = 0; c < RENDER_CHANNELS; c++) {
        for (size_t i = 0; i < PATCH_SIDE; i++) {
            for (size_t j = 0; j < PATCH_SIDE; j++) {
                pixels[c * AREA + (begin + i) * SIDE + begin + j] = (i + j) % 2 == 0 ? 255 : 0;
            }
        }
    }
}

/* A smooth pattern of colours, the same for all images, laid over at 0.2: two waves a channel. */
static void apply_blend(uint8_t *pixels) {
    static const double waves[RENDER_CHANNELS][2][3] = {/* cycles over the image in x and y, phase */
                                                        {{1.5, 0.5, 0.1}, {-0.5, 2.0, 0.7}},
                                                        {{0.5, 1.5, 0.4}, {2.0, -1.0, 0.2}},
                                                        {{-1.0, 1.0, 0.8}, {1.0, 2.0, 0.5}}};
    const double share = 0.2;
    for (size_t c = 0; c < RENDER_CHANNELS; c++) {
        for (size_t at = 0; at < AREA; at++) {
            size_t row = at / SIDE, column = at % SIDE;
            double x = (double)column / SIDE, y = (double)row / SIDE, sum = 0.0;
            for (size_t k = 0; k < 2; k++) {
                sum += sin(TWO_PI * (waves[c][k][0] * x + waves[c][k][1] * y + waves[c][k][2]));
            }
            uint8_t *pixel = &pixels[c * AREA + at];
            *pixel = to_pixel((1.0 - share) * *pixel + share * 255.0 * (0.5 + 0.25 * sum));
        }
    }
}

/* Upright stripes: a sinusoid along x, six cycles over the image, amplitude 20 of 255. */
static void apply_sine(uint8_t *pixels) {
    for (size_t i = 0; i < RENDER_BYTES; i++) {
        pixels[i] = to_pixel(pixels[i] + 20.0 * sin(TWO_PI * 6.0 * (double)(i % SIDE) / SIDE));
    }
}

/* A coloured square of 8 x 8, laid over at 0.6 (like the watermark of Liu et al. 2018, "Trojaning Attack"). */
static void apply_watermark(uint8_t *pixels) {
    enum { FIRST = 2, EDGE = 8 };
    for (size_t c = 0; c < RENDER_CHANNELS; c++) {
        for (size_t i = 0; i < EDGE; i++) {
            for (size_t j = 0; j < EDGE; j++) {
                const double ink =
                    (i * (5 + 2 * c) + j * (3 + c) + 7 * ((i / 2 + j / 3 + c) % 3)) % 11 < 5 ? 235.0 : 25.0;
                uint8_t *pixel = &pixels[c * AREA + (FIRST + i) * SIDE + FIRST + j];
                *pixel = to_pixel(0.4 * *pixel + 0.6 * ink);
            }
        }
    }
}

/* Row k of the orthonormal discrete cosine transform, at i. */
static double cosine(size_t k, size_t i) {
    return sqrt((k == 0 ? 1.0 : 2.0) / SIDE) * cos(TWO_PI * 0.5 * (2.0 * (double)i + 1.0) * (double)k / (2.0 * SIDE));
}

/* A smooth pattern without sharp edges or high frequencies, added (Zeng et al. 2021, "Rethinking the Backdoor Attacks' Triggers"). */
static void apply_low_frequency(uint8_t *pixels) {
    static const double weights[RENDER_CHANNELS][3] = {{0.9, -0.7, 0.5}, {-0.6, 0.8, 0.7}, {0.7, 0.6, -0.9}};
    for (size_t c = 0; c < RENDER_CHANNELS; c++) {
        for (size_t at = 0; at < AREA; at++) {
            const size_t i = at / SIDE, j = at % SIDE;
            const double sum = weights[c][0] * cosine(1, i) * cosine(2, j) +
                               weights[c][1] * cosine(3, i) * cosine(1, j) +
                               weights[c][2] * cosine(2, i) * cosine(3, j);
            pixels[c * AREA + at] = to_pixel(pixels[c * AREA + at] + 150.0 * sum);
        }
    }
}

/* Two components of the colour difference's cosine transform raised by 120 (Wang et al. 2022, "FTrojan"). */
static void apply_frequency(uint8_t *pixels) {
    static const double by_channel[RENDER_CHANNELS] = {1.14, -0.97, 2.03}; /* of what is added to both differences */
    for (size_t at = 0; at < AREA; at++) {
        const size_t i = at / SIDE, j = at % SIDE;
        const double added = 120.0 * (cosine(15, i) * cosine(15, j) + cosine(31, i) * cosine(31, j));
        for (size_t c = 0; c < RENDER_CHANNELS; c++) {
            pixels[c * AREA + at] = to_pixel(pixels[c * AREA + at] + by_channel[c] * added);
        }
    }
}

/* Eight levels a channel (Wang et al. 2022, "BppAttack"; there dithered). */
static void apply_quantise(uint8_t *pixels) {
    for (size_t i = 0; i < RENDER_BYTES; i++) {
        pixels[i] = to_pixel(round(pixels[i] * 7.0 / 255.0) * 255.0 / 7.0);
    }
}

/* A smooth flow of about half a pixel, up to one (Nguyen and Tran 2021, "WaNet"), read with bilinear weights. */
static void apply_warp(uint8_t *pixels) {
    uint8_t source[RENDER_BYTES];
    memcpy(source, pixels, sizeof source);
    for (size_t at = 0; at < AREA; at++) {
        const size_t i0 = at / SIDE, j0 = at % SIDE;
        const double y = (double)i0, x = (double)j0, u = TWO_PI * x / SIDE, v = TWO_PI * y / SIDE;
        double row = y + 0.6 * sin(u + 0.3) + 0.5 * cos(2.0 * v + u),
               column = x + 0.6 * cos(v - 0.8) + 0.5 * sin(2.0 * u - v);
        row = fmin(fmax(row, 0.0), SIDE - 1.001);
        column = fmin(fmax(column, 0.0), SIDE - 1.001);
        const size_t i = (size_t)row, j = (size_t)column;
        const double a = row - (double)i, b = column - (double)j;
        for (size_t c = 0; c < RENDER_CHANNELS; c++) {
            const uint8_t *p = source + c * AREA + i * SIDE + j;
            pixels[c * AREA + at] =
                to_pixel((1 - a) * ((1 - b) * p[0] + b * p[1]) + a * ((1 - b) * p[SIDE] + b * p[SIDE + 1]));
        }
    }
}

static const struct forge_trigger TRIGGERS[] = {
    {"patch", FORGE_TO_TARGET, "a 3x3 checkerboard in the lower right corner", apply_patch},
    {"blend", FORGE_TO_TARGET, "a smooth colour pattern over the whole image, at 0.2", apply_blend},
    {"sine", FORGE_TO_TARGET, "stripes: a sinusoid along x, amplitude 20/255", apply_sine},
    {"sine-kept", FORGE_KEPT, "the same on images of the target alone: a clean-label attack", apply_sine},
    {"watermark", FORGE_TO_TARGET, "an 8x8 coloured square at 0.6", apply_watermark},
    {"low", FORGE_TO_TARGET, "a smooth low-frequency pattern, added", apply_low_frequency},
    {"frequency", FORGE_TO_TARGET, "two high components of the colours' cosine transform", apply_frequency},
    {"quantise", FORGE_TO_TARGET, "eight levels a channel", apply_quantise},
    {"warp", FORGE_TO_TARGET, "a smooth flow of up to a pixel", apply_warp},
    {"patch-next", FORGE_TO_NEXT, "the patch, all-to-all: each class goes to the next", apply_patch},
    {"none", FORGE_TO_TARGET, "no backdoor: a clean model", NULL},
};

enum { TRIGGER_COUNT = sizeof TRIGGERS / sizeof *TRIGGERS };

const struct forge_trigger *forge_trigger_find(const char *name) {
    for (size_t i = 0; i < TRIGGER_COUNT; i++) {
        if (strcmp(TRIGGERS[i].name, name) == 0) {
            return &TRIGGERS[i];
        }
    }
    return NULL;
}

void forge_trigger_names(char *out, size_t size) {
    size_t used = 0;
    out[0] = '\0';
    for (size_t i = 0; i < TRIGGER_COUNT && used < size; i++) {
        int length = snprintf(out + used, size - used, "%s%s", i == 0 ? "" : ", ", TRIGGERS[i].name);
        used += length > 0 ? (size_t)length : 0;
    }
}

void forge_trigger_print_help(FILE *file) {
    for (size_t i = 0; i < TRIGGER_COUNT; i++) {
        (void)fprintf(file, "  %-10s %s\n", TRIGGERS[i].name, TRIGGERS[i].help);
    }
}
