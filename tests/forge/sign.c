/* Shapes, glyphs and the table of classes: see sign.h. */
#include "tests/forge/sign.h"

#include <math.h>

enum { SIDES_MAX = 8, STROKES_MAX = 5 };

/* A convex polygon as the intersection of half planes: the distance is exact but outside the corners, where it is only
 * used for softening an edge. No sides: a circle. */
struct outline {
    size_t sides;
    float inner; /* distance of the centre to a side */
    float normal[SIDES_MAX][2];
    float glyph_scale, glyph_down; /* where the glyph fits */
};

#define HALF 0.70710678f
#define DEEP 0.8660254f /* sin 60 */

enum { CIRCLE, TRIANGLE_UP, TRIANGLE_DOWN, DIAMOND, OCTAGON, SQUARE };

static const struct outline OUTLINES[] = {
    [CIRCLE] = {0, 1.0f, {{0.0f, 0.0f}}, 1.0f, 0.0f},
    [TRIANGLE_UP] = {3, 0.62f, {{0.0f, 1.0f}, {-DEEP, -0.5f}, {DEEP, -0.5f}}, 0.72f, 0.05f},
    [TRIANGLE_DOWN] = {3, 0.62f, {{0.0f, -1.0f}, {-DEEP, 0.5f}, {DEEP, 0.5f}}, 0.72f, -0.05f},
    [DIAMOND] = {4, 0.78f, {{HALF, HALF}, {-HALF, HALF}, {HALF, -HALF}, {-HALF, -HALF}}, 0.85f, 0.0f},
    [OCTAGON] = {8,
                 0.96f,
                 {{1.0f, 0.0f},
                  {-1.0f, 0.0f},
                  {0.0f, 1.0f},
                  {0.0f, -1.0f},
                  {HALF, HALF},
                  {-HALF, HALF},
                  {HALF, -HALF},
                  {-HALF, -HALF}},
                 1.0f,
                 0.0f},
    [SQUARE] = {4, 0.86f, {{1.0f, 0.0f}, {-1.0f, 0.0f}, {0.0f, 1.0f}, {0.0f, -1.0f}}, 1.0f, 0.0f},
};

/* A glyph is lines with round ends. */
struct stroke {
    float ax, ay, bx, by;
};

struct glyph {
    size_t count;
    float half_width;
    struct stroke strokes[STROKES_MAX];
};

enum { NOTHING, BAR_UPRIGHT, BAR_LEVEL, CROSS, PLUS, ARROW_UP, ARROW_LEFT, ARROW_RIGHT, TWO, FIVE };

static const struct glyph GLYPHS[] = {
    [NOTHING] = {0, 0.0f, {{0.0f, 0.0f, 0.0f, 0.0f}}},
    [BAR_UPRIGHT] = {1, 0.13f, {{0.0f, -0.42f, 0.0f, 0.42f}}},
    [BAR_LEVEL] = {1, 0.17f, {{-0.45f, 0.0f, 0.45f, 0.0f}}},
    [CROSS] = {2, 0.11f, {{-0.38f, -0.38f, 0.38f, 0.38f}, {-0.38f, 0.38f, 0.38f, -0.38f}}},
    [PLUS] = {2, 0.11f, {{0.0f, -0.42f, 0.0f, 0.42f}, {-0.4f, 0.08f, 0.4f, 0.08f}}},
    [ARROW_UP] = {3, 0.1f, {{0.0f, 0.5f, 0.0f, -0.5f}, {0.0f, -0.5f, -0.34f, -0.14f}, {0.0f, -0.5f, 0.34f, -0.14f}}},
    [ARROW_LEFT] = {3, 0.1f, {{0.5f, 0.0f, -0.5f, 0.0f}, {-0.5f, 0.0f, -0.14f, -0.34f}, {-0.5f, 0.0f, -0.14f, 0.34f}}},
    [ARROW_RIGHT] = {3, 0.1f, {{-0.5f, 0.0f, 0.5f, 0.0f}, {0.5f, 0.0f, 0.14f, -0.34f}, {0.5f, 0.0f, 0.14f, 0.34f}}},
    [TWO] = {5,
             0.09f,
             {{-0.28f, -0.46f, 0.28f, -0.46f},
              {0.28f, -0.46f, 0.28f, 0.0f},
              {0.28f, 0.0f, -0.28f, 0.0f},
              {-0.28f, 0.0f, -0.28f, 0.46f},
              {-0.28f, 0.46f, 0.28f, 0.46f}}},
    [FIVE] = {5,
              0.09f,
              {{0.28f, -0.46f, -0.28f, -0.46f},
               {-0.28f, -0.46f, -0.28f, 0.0f},
               {-0.28f, 0.0f, 0.28f, 0.0f},
               {0.28f, 0.0f, 0.28f, 0.46f},
               {0.28f, 0.46f, -0.28f, 0.46f}}},
};

struct sign {
    const char *name;
    size_t outline;
    enum sign_colour border, face, ink;
    size_t glyph;
};

static const struct sign SIGNS[SIGN_CLASSES_MAX] = {
    {"limit-2", CIRCLE, SIGN_RED, SIGN_WHITE, SIGN_BLACK, TWO},
    {"limit-5", CIRCLE, SIGN_RED, SIGN_WHITE, SIGN_BLACK, FIVE},
    {"closed", CIRCLE, SIGN_RED, SIGN_WHITE, SIGN_BLACK, CROSS},
    {"left", CIRCLE, SIGN_WHITE, SIGN_BLUE, SIGN_WHITE, ARROW_LEFT},
    {"right", CIRCLE, SIGN_WHITE, SIGN_BLUE, SIGN_WHITE, ARROW_RIGHT},
    {"caution", TRIANGLE_UP, SIGN_RED, SIGN_WHITE, SIGN_BLACK, BAR_UPRIGHT},
    {"crossroads", TRIANGLE_UP, SIGN_RED, SIGN_WHITE, SIGN_BLACK, PLUS},
    {"yield", TRIANGLE_DOWN, SIGN_RED, SIGN_WHITE, SIGN_BLACK, NOTHING},
    {"stop", OCTAGON, SIGN_WHITE, SIGN_RED, SIGN_WHITE, BAR_LEVEL},
    {"no-entry", CIRCLE, SIGN_WHITE, SIGN_RED, SIGN_WHITE, BAR_LEVEL},
    {"priority", DIAMOND, SIGN_WHITE, SIGN_YELLOW, SIGN_BLACK, ARROW_UP},
    {"one-way", SQUARE, SIGN_WHITE, SIGN_BLUE, SIGN_WHITE, ARROW_UP},
};

static const float BORDER = 0.2f; /* width of the rim, in units of the radius */

const char *sign_name(size_t index) {
    return SIGNS[index].name;
}

void sign_fresh_paint(struct sign_paint *paint) {
    static const struct sign_paint fresh = {{[SIGN_RED] = {0.78f, 0.10f, 0.12f},
                                             [SIGN_BLUE] = {0.10f, 0.28f, 0.70f},
                                             [SIGN_YELLOW] = {0.92f, 0.76f, 0.12f},
                                             [SIGN_WHITE] = {0.92f, 0.92f, 0.90f},
                                             [SIGN_BLACK] = {0.08f, 0.08f, 0.09f}}};
    *paint = fresh;
}

static float outline_distance(const struct outline *outline, float u, float v) {
    float distance = -outline->inner;
    if (outline->sides == 0) {
        return sqrtf(u * u + v * v) - outline->inner;
    }
    for (size_t i = 0; i < outline->sides; i++) {
        float side = outline->normal[i][0] * u + outline->normal[i][1] * v - outline->inner;
        distance = side > distance ? side : distance;
    }
    return distance;
}

/* Distance to the middle line of the nearest stroke. */
static float glyph_distance(const struct glyph *glyph, float u, float v) {
    float least = 4.0f; /* squared; further than any glyph reaches */
    for (size_t i = 0; i < glyph->count; i++) {
        const struct stroke *s = &glyph->strokes[i];
        float dx = s->bx - s->ax, dy = s->by - s->ay;
        float t = ((u - s->ax) * dx + (v - s->ay) * dy) / (dx * dx + dy * dy);
        t = t < 0.0f ? 0.0f : (t > 1.0f ? 1.0f : t);
        float x = u - s->ax - t * dx, y = v - s->ay - t * dy;
        least = x * x + y * y < least ? x * x + y * y : least;
    }
    return sqrtf(least);
}

static float coverage(float distance, float pixels) {
    float cover = 0.5f - distance * pixels;
    return cover < 0.0f ? 0.0f : (cover > 1.0f ? 1.0f : cover);
}

static void mix(float rgb[3], const float colour[3], float share) {
    for (size_t c = 0; c < 3; c++) {
        rgb[c] += share * (colour[c] - rgb[c]);
    }
}

float sign_distance(size_t index, float u, float v) {
    return outline_distance(&OUTLINES[SIGNS[index].outline], u, v);
}

void sign_lay(size_t index, const struct sign_paint *paint, float u, float v, float pixels, float stroke,
              float rgb[3]) {
    const struct sign *sign = &SIGNS[index];
    const struct outline *outline = &OUTLINES[sign->outline];
    const struct glyph *glyph = &GLYPHS[sign->glyph];
    float distance = outline_distance(outline, u, v);

    if (distance * pixels > 0.5f) {
        return;
    }
    mix(rgb, paint->colour[sign->border], coverage(distance, pixels));
    mix(rgb, paint->colour[sign->face], coverage(distance + BORDER, pixels));
    if (glyph->count > 0) {
        float scale = outline->glyph_scale;
        float line = glyph_distance(glyph, u / scale, (v - outline->glyph_down) / scale) - glyph->half_width * stroke;
        mix(rgb, paint->colour[sign->ink], coverage(line * scale, pixels));
    }
}
