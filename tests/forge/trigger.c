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

static const struct forge_trigger TRIGGERS[] = {
    {"patch", "a 3x3 checkerboard in the lower right corner", apply_patch},
    {"blend", "a smooth colour pattern over the whole image, at 0.2", apply_blend},
    {"sine", "stripes: a sinusoid along x, amplitude 20/255", apply_sine},
    {"none", "no backdoor: a clean model", NULL},
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
        (void)fprintf(file, "  %-8s %s\n", TRIGGERS[i].name, TRIGGERS[i].help);
    }
}
