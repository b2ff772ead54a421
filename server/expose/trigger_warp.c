/* The warp family: the image resampled by a smooth flow that is interpolated from a 4 x 4 control grid, as a warping attack
 * does it (Nguyen and Tran 2021, "WaNet", section 3). The displacement of a control point is bounded by tanh. */
#include <math.h>
#include <stddef.h>

#include "server/expose/trigger_family.h"

enum { GRID = 4, GRID_POINTS = GRID * GRID };

/* Largest displacement of a control point, as a share of the image's side: half a pixel at 32. */
static const float BOUND_SHARE = 0.5F / 32.0F;

static size_t parameter_count(const struct image_range *range) {
    (void)range;
    return 2 * (size_t)GRID_POINTS;
}

/* Flow in rows (H, W), then in columns (H, W), in pixels. */
static size_t rendered_count(const struct image_range *range) {
    return 2 * range_pixels(range);
}

static void start(struct trigger *t, const struct image_range *range, struct rng *rng) {
    (void)range;
    for (size_t i = 0; i < t->parameter_count; i++) {
        t->parameters[i] = 0.5F * rng_normal(rng);
    }
}

/* Position of pixel i of `size` on the control grid: its left control point and the share of the right one, smoothed
 * (3t^2 - 2t^3) so that the flow has no kinks at the control points. */
static void grid_place(size_t i, size_t size, size_t *left, float *share) {
    const float at = size > 1 ? (float)i * (float)(GRID - 1) / (float)(size - 1) : 0.0F;
    size_t k = (size_t)at;
    if (k > GRID - 2) {
        k = GRID - 2;
    }
    const float t = at - (float)k;
    *left = k;
    *share = t * t * (3.0F - 2.0F * t);
}

static float bound(const struct trigger *t, const struct image_range *range, size_t axis) {
    return (float)t->scale * BOUND_SHARE * (float)(axis == 0 ? range->height : range->width);
}

static void render(struct trigger *t, const struct image_range *range) {
    const size_t height = range->height, width = range->width, pixels = height * width;
    double extent = 0.0;
    for (size_t axis = 0; axis < 2; axis++) {
        float point[GRID_POINTS];
        for (size_t k = 0; k < GRID_POINTS; k++) {
            point[k] = bound(t, range, axis) * tanhf(t->parameters[axis * GRID_POINTS + k]);
        }
        for (size_t i = 0; i < height; i++) {
            size_t r;
            float a;
            grid_place(i, height, &r, &a);
            for (size_t j = 0; j < width; j++) {
                size_t c;
                float b;
                grid_place(j, width, &c, &b);
                const float *p = point + r * GRID + c;
                const float flow = (1 - a) * ((1 - b) * p[0] + b * p[1]) + a * ((1 - b) * p[GRID] + b * p[GRID + 1]);
                t->rendered[axis * pixels + i * width + j] = flow;
                extent += fabs((double)flow);
            }
        }
    }
    t->extent = extent / (double)pixels;
}

/* Where output pixel (i, j) is read: the cell's corner and the shares; outside the border the edge pixel holds (and the
 * derivative there is zero). */
struct place {
    size_t i0, i1, j0, j1;
    float a, b;
    float di, dj; /* 1 inside, 0 where the coordinate was clamped */
};

static void one_axis(float at, size_t size, size_t *k0, size_t *k1, float *share, float *inside) {
    const float last = (float)(size - 1);
    *inside = at > 0.0F && at < last ? 1.0F : 0.0F;
    at = at < 0.0F ? 0.0F : at > last ? last : at;
    *k0 = (size_t)at;
    *k1 = *k0 + 1 < size ? *k0 + 1 : *k0;
    *share = at - (float)*k0;
}

static struct place place_of(const struct trigger *t, const struct image_range *range, size_t i, size_t j) {
    const size_t pixels = range_pixels(range), k = i * range->width + j;
    struct place p;
    one_axis((float)i + t->rendered[k], range->height, &p.i0, &p.i1, &p.a, &p.di);
    one_axis((float)j + t->rendered[pixels + k], range->width, &p.j0, &p.j1, &p.b, &p.dj);
    return p;
}

static void apply(const struct trigger *t, const struct image_range *range, const float *restrict x,
                  float *restrict out) {
    const size_t width = range->width, pixels = range_pixels(range);
    for (size_t i = 0; i < range->height; i++) {
        for (size_t j = 0; j < width; j++) {
            const struct place p = place_of(t, range, i, j);
            for (size_t c = 0; c < range->channels; c++) {
                const float *plane = x + c * pixels;
                const float top = plane[p.i0 * width + p.j0] * (1 - p.b) + plane[p.i0 * width + p.j1] * p.b;
                const float bottom = plane[p.i1 * width + p.j0] * (1 - p.b) + plane[p.i1 * width + p.j1] * p.b;
                out[c * pixels + i * width + j] = top * (1 - p.a) + bottom * p.a;
            }
        }
    }
}

static void backward(const struct trigger *t, const struct image_range *range, const float *restrict x,
                     const float *restrict dout, float *restrict gradient) {
    const size_t width = range->width, pixels = range_pixels(range);
    for (size_t i = 0; i < range->height; i++) {
        for (size_t j = 0; j < width; j++) {
            const struct place p = place_of(t, range, i, j);
            float by_row = 0.0F, by_column = 0.0F;
            for (size_t c = 0; c < range->channels; c++) {
                const float *plane = x + c * pixels;
                const float v00 = plane[p.i0 * width + p.j0], v01 = plane[p.i0 * width + p.j1];
                const float v10 = plane[p.i1 * width + p.j0], v11 = plane[p.i1 * width + p.j1];
                const float d = dout[c * pixels + i * width + j];
                by_row += d * ((v10 - v00) * (1 - p.b) + (v11 - v01) * p.b);
                by_column += d * ((v01 - v00) * (1 - p.a) + (v11 - v10) * p.a);
            }
            gradient[i * width + j] += by_row * p.di;
            gradient[pixels + i * width + j] += by_column * p.dj;
        }
    }
}

static void parameter_gradient(const struct trigger *t, const struct image_range *range, const float *rendered,
                               float *parameter) {
    const size_t height = range->height, width = range->width, pixels = height * width;
    for (size_t axis = 0; axis < 2; axis++) {
        float dpoint[GRID_POINTS] = {0};
        for (size_t i = 0; i < height; i++) {
            size_t r;
            float a;
            grid_place(i, height, &r, &a);
            for (size_t j = 0; j < width; j++) {
                size_t c;
                float b;
                grid_place(j, width, &c, &b);
                const float d = rendered[axis * pixels + i * width + j];
                float *p = dpoint + r * GRID + c;
                p[0] += d * (1 - a) * (1 - b);
                p[1] += d * (1 - a) * b;
                p[GRID] += d * a * (1 - b);
                p[GRID + 1] += d * a * b;
            }
        }
        for (size_t k = 0; k < GRID_POINTS; k++) {
            const float th = tanhf(t->parameters[axis * GRID_POINTS + k]);
            parameter[axis * GRID_POINTS + k] = dpoint[k] * bound(t, range, axis) * (1.0F - th * th);
        }
    }
}

static double size(const struct trigger *t, const struct image_range *range) {
    (void)range;
    return t->loss;
}

const struct trigger_family_row trigger_warp_row = {
    .name = "warp",
    .learning_rate = 0.2F,
    .bounded = true,
    .parameter_count = parameter_count,
    .rendered_count = rendered_count,
    .start = start,
    .render = render,
    .apply = apply,
    .backward = backward,
    .parameter_gradient = parameter_gradient,
    .project = NULL,
    .size = size,
};
