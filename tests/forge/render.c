/* From a sign to a photograph of it: background, sign seen by a tilted camera, things in front of it, light, blur, noise.
 * Colours are floats in 0..1 until the end. H = W = RENDER_SIDE; image coordinates are pixels from the centre. */
#include "tests/forge/render.h"

#include <math.h>

enum { SIDE = RENDER_SIDE, AREA = SIDE * SIDE, BLOBS_MAX = 8, GRID = 9, COVERS_MAX = 2 };

/* A soft-edged box or ellipse, turned: clutter behind the sign, or leaves, twigs and stickers in front of it. */
struct blob {
    float x, y;     /* centre */
    float cos, sin; /* of its turn */
    float half_width, half_height;
    int round;
    float colour[3];
};

/* Image to sign coordinates: turn, shear, stretch, and a division for perspective. */
struct camera {
    float x, y; /* centre of the sign in the image */
    float a[2][2];
    float tilt[2];
    float radius; /* pixels */
};

/* Of the middle of a row or column of pixels. */
static float from_centre(size_t index) {
    return (float)index - 0.5f * (float)(SIDE - 1);
}

static float clamp01(float x) {
    return x < 0.0f ? 0.0f : (x > 1.0f ? 1.0f : x);
}

static int chance(struct rng *rng, float p) {
    return rng_uniform(rng) < p;
}

/* Near to normal, deviation 1: the sum of four uniform numbers out of one draw, since there are 3,072 of them an image. */
static float noise(struct rng *rng) {
    uint64_t bits = rng_next(rng);
    uint64_t sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
    return ((float)sum / 65536.0f - 2.0f) * 1.7320508f;
}

/* What roads have around them: sky, leaves, walls, asphalt, earth; now and then the colours of signs. */
static void draw_colour(struct rng *rng, float colour[3]) {
    static const float common[][3] = {
        {0.55f, 0.70f, 0.88f}, {0.80f, 0.84f, 0.88f}, {0.20f, 0.36f, 0.14f}, {0.36f, 0.46f, 0.22f},
        {0.45f, 0.44f, 0.43f}, {0.28f, 0.28f, 0.30f}, {0.52f, 0.40f, 0.30f}, {0.62f, 0.30f, 0.22f},
        {0.70f, 0.15f, 0.15f}, {0.15f, 0.25f, 0.60f}, {0.85f, 0.72f, 0.20f}, {0.90f, 0.90f, 0.88f},
    };
    size_t pick = (size_t)rng_below(rng, sizeof common / sizeof *common);
    for (size_t c = 0; c < 3; c++) {
        colour[c] = clamp01(common[pick][c] + rng_range(rng, -0.1f, 0.1f));
    }
}

static void draw_blob(struct rng *rng, float reach, float least, float most, struct blob *blob) {
    float turn = rng_range(rng, 0.0f, 3.1415927f);
    blob->x = rng_range(rng, -reach, reach);
    blob->y = rng_range(rng, -reach, reach);
    blob->cos = cosf(turn);
    blob->sin = sinf(turn);
    blob->half_width = rng_range(rng, least, most);
    blob->half_height = rng_range(rng, least, most);
    blob->round = chance(rng, 0.5f);
    draw_colour(rng, blob->colour);
}

/* How much of the pixel at (x, y) the blob covers. */
static float blob_cover(const struct blob *blob, float x, float y) {
    float u = fabsf((x - blob->x) * blob->cos + (y - blob->y) * blob->sin);
    float v = fabsf((y - blob->y) * blob->cos - (x - blob->x) * blob->sin);
    if (blob->round) {
        float p = u / blob->half_width, q = v / blob->half_height;
        float small = blob->half_width < blob->half_height ? blob->half_width : blob->half_height;
        return clamp01(0.5f - (sqrtf(p * p + q * q) - 1.0f) * small);
    }
    u -= blob->half_width;
    v -= blob->half_height;
    return clamp01(0.5f - (u > v ? u : v));
}

static void lay_blob(const struct blob *blob, float x, float y, float rgb[3]) {
    float cover = blob_cover(blob, x, y);
    for (size_t c = 0; c < 3 && cover > 0.0f; c++) {
        rgb[c] += cover * (blob->colour[c] - rgb[c]);
    }
}

/* Image (3, H, W): two colours from top to bottom, clutter over them, and a smooth random texture. */
static void paint_background(struct rng *rng, float *image) {
    struct blob blobs[BLOBS_MAX];
    float top[3], bottom[3], grid[GRID][GRID];
    size_t count = 2 + (size_t)rng_below(rng, BLOBS_MAX - 1);
    float texture = rng_range(rng, 0.02f, 0.14f), horizon = rng_range(rng, -8.0f, 10.0f);
    float soft = rng_range(rng, 0.05f, 0.6f);

    draw_colour(rng, top);
    draw_colour(rng, bottom);
    for (size_t i = 0; i < count; i++) {
        draw_blob(rng, 18.0f, 1.0f, 9.0f, &blobs[i]);
    }
    for (size_t i = 0; i < GRID; i++) {
        for (size_t j = 0; j < GRID; j++) {
            grid[i][j] = texture * noise(rng);
        }
    }
    for (size_t at = 0; at < AREA; at++) {
        size_t row = at / SIDE, column = at % SIDE;
        float y = from_centre(row), x = from_centre(column);
        float share = clamp01(0.5f + (y - horizon) * soft), rgb[3];
        size_t i = row / 4, j = column / 4; /* cells of the grid are 4 pixels wide */
        float fy = (float)(row % 4) / 4.0f, fx = (float)(column % 4) / 4.0f;
        float grain = (grid[i][j] * (1.0f - fx) + grid[i][j + 1] * fx) * (1.0f - fy) +
                      (grid[i + 1][j] * (1.0f - fx) + grid[i + 1][j + 1] * fx) * fy;
        for (size_t c = 0; c < 3; c++) {
            rgb[c] = top[c] + share * (bottom[c] - top[c]);
        }
        for (size_t k = 0; k < count; k++) {
            lay_blob(&blobs[k], x, y, rgb);
        }
        for (size_t c = 0; c < 3; c++) {
            image[c * AREA + at] = rgb[c] + grain;
        }
    }
}

static void draw_camera(struct rng *rng, struct camera *camera) {
    float turn = 0.13f * rng_normal(rng), shear = 0.08f * rng_normal(rng);
    float aspect = rng_range(rng, 0.72f, 1.08f), room = 0.0f;
    float cosine = cosf(turn), sine = sinf(turn);

    camera->radius = rng_range(rng, 8.0f, 13.5f);
    room = 0.5f * (SIDE / 2.0f - camera->radius) + 1.0f;
    camera->x = rng_range(rng, -room, room);
    camera->y = rng_range(rng, -room, room);
    camera->tilt[0] = rng_range(rng, -0.12f, 0.12f);
    camera->tilt[1] = rng_range(rng, -0.12f, 0.12f);
    camera->a[0][0] = (cosine + shear * sine) / (camera->radius * aspect);
    camera->a[0][1] = (sine - shear * cosine) / (camera->radius * aspect);
    camera->a[1][0] = -sine / camera->radius;
    camera->a[1][1] = cosine / camera->radius;
}

/* Faded by sun and dirt: towards grey, and every colour a little off. */
static void draw_paint(struct rng *rng, struct sign_paint *paint) {
    float fade = rng_range(rng, 0.0f, 0.45f);
    fade *= fade * 2.0f;
    sign_fresh_paint(paint);
    for (size_t k = 0; k < SIGN_COLOURS; k++) {
        float *rgb = paint->colour[k];
        float grey = 0.25f + 0.5f * (rgb[0] + rgb[1] + rgb[2]) / 3.0f;
        for (size_t c = 0; c < 3; c++) {
            rgb[c] = clamp01(rgb[c] + fade * (grey - rgb[c]) + rng_range(rng, -0.07f, 0.07f));
        }
    }
}

/* The sign, and for some images a leaf or a twig over a part of it. */
static void paint_sign(struct rng *rng, size_t index, float *image) {
    struct camera camera;
    struct sign_paint paint;
    struct blob covers[COVERS_MAX];
    size_t cover_count = chance(rng, 0.25f) ? 1 + (size_t)rng_below(rng, COVERS_MAX) : 0;
    float stroke = rng_range(rng, 0.85f, 1.2f);

    draw_camera(rng, &camera);
    draw_paint(rng, &paint);
    for (size_t i = 0; i < cover_count; i++) {
        draw_blob(rng, camera.radius, 0.08f * camera.radius, 0.4f * camera.radius, &covers[i]);
        covers[i].x += camera.x;
        covers[i].y += camera.y;
    }
    for (size_t at = 0; at < AREA; at++) {
        float y = from_centre(at / SIDE), x = from_centre(at % SIDE);
        float dx = x - camera.x, dy = y - camera.y;
        float u = camera.a[0][0] * dx + camera.a[0][1] * dy, v = camera.a[1][0] * dx + camera.a[1][1] * dy;
        float depth = 1.0f + camera.tilt[0] * u + camera.tilt[1] * v;
        float rgb[3] = {image[at], image[AREA + at], image[2 * AREA + at]};

        if (depth > 0.4f) { /* beyond is so far from the sign that nothing of it can be there */
            sign_lay(index, &paint, u / depth, v / depth, camera.radius * depth, stroke, rgb);
        }
        for (size_t i = 0; i < cover_count; i++) {
            lay_blob(&covers[i], x, y, rgb);
        }
        for (size_t c = 0; c < 3; c++) {
            image[c * AREA + at] = rgb[c];
        }
    }
}

/* Exposure, colour temperature, haze, and on some images a shadow with a soft edge or a light that falls off. */
static void light(struct rng *rng, float *image) {
    float exposure = expf(0.25f * rng_normal(rng) - 0.05f), warm = 0.1f * rng_normal(rng);
    float haze = chance(rng, 0.3f) ? rng_range(rng, 0.05f, 0.4f) : 0.0f;
    float shadow = chance(rng, 0.45f) ? rng_range(rng, 0.2f, 0.65f) : 0.0f;
    float turn = rng_range(rng, 0.0f, 6.2831853f), offset = rng_range(rng, -8.0f, 8.0f);
    float soft = rng_range(rng, 0.04f, 0.8f);
    float cosine = cosf(turn), sine = sinf(turn);
    const float gain[3] = {exposure * (1.0f + warm), exposure, exposure * (1.0f - warm)};

    for (size_t at = 0; at < AREA; at++) {
        float y = from_centre(at / SIDE), x = from_centre(at % SIDE);
        float dark = 1.0f - shadow * clamp01(0.5f + (x * cosine + y * sine - offset) * soft);
        for (size_t c = 0; c < 3; c++) {
            float *value = &image[c * AREA + at];
            *value = (*value * (1.0f - haze) + 0.75f * haze) * gain[c] * dark;
        }
    }
}

/* One direction of a blur by a normal curve; `step` is the distance between neighbours, pixels at the edge repeat. */
static void blur_lines(const float weights[4], size_t step, const float *from, float *to) {
    size_t across = step == 1 ? SIDE : 1;
    for (size_t line = 0; line < SIDE; line++) {
        const float *in = from + line * across;
        float *out = to + line * across;
        for (size_t i = 0; i < SIDE; i++) {
            float sum = weights[0] * in[i * step];
            for (size_t k = 1; k < 4; k++) {
                size_t left = i < k ? 0 : i - k, right = i + k < SIDE ? i + k : SIDE - 1;
                sum += weights[k] * (in[left * step] + in[right * step]);
            }
            out[i * step] = sum;
        }
    }
}

/* The lens, and on some images the car that moves: the blur is wider along one axis. */
static void blur(struct rng *rng, float *image) {
    float plane[AREA], weights[2][4];
    float sigma = rng_range(rng, 0.25f, 0.95f);
    float sigmas[2] = {sigma, sigma};
    if (chance(rng, 0.25f)) {
        sigmas[rng_below(rng, 2)] += rng_range(rng, 0.2f, 0.8f);
    }
    for (size_t axis = 0; axis < 2; axis++) {
        float sum = 1.0f;
        weights[axis][0] = 1.0f;
        for (size_t k = 1; k < 4; k++) {
            weights[axis][k] = expf(-0.5f * (float)(k * k) / (sigmas[axis] * sigmas[axis]));
            sum += 2.0f * weights[axis][k];
        }
        for (size_t k = 0; k < 4; k++) {
            weights[axis][k] /= sum;
        }
    }
    for (size_t c = 0; c < 3; c++) {
        blur_lines(weights[0], 1, image + c * AREA, plane);
        blur_lines(weights[1], SIDE, plane, image + c * AREA);
    }
}

void render_sign(struct rng *rng, size_t index, uint8_t *pixels) {
    float image[RENDER_BYTES]; // (3, H, W)
    float sensor = rng_range(rng, 0.01f, 0.045f);

    paint_background(rng, image);
    paint_sign(rng, index, image);
    light(rng, image);
    blur(rng, image);
    for (size_t i = 0; i < RENDER_BYTES; i++) {
        pixels[i] = (uint8_t)(255.0f * clamp01(image[i] + sensor * noise(rng)) + 0.5f);
    }
}
