/* Sample sets from npz arrays: every array is checked against the others before anything is used, and images end up
 * NCHW whatever the file had. Arrays that are in the right layout already are taken over, not copied. */
#include "server/data/samples.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/data/images.h"
#include "server/data/npy.h"

enum { LABEL_MAX = 1 << 20, LEVELS = 256 };

const struct samples_limits samples_default_limits = {
    .max_file_bytes = (size_t)1 << 30,
    .max_unpacked_bytes = (size_t)4 << 30,
    .max_count = 1000000,
    .max_pixels = (size_t)1 << 24,
};

/* Where the channels are in x. */
struct layout {
    bool channels_last;
    size_t count, channels, height, width;
};

static enum status missing(const char *name, struct error *error) {
    return error_set(error, STATUS_INVALID, NULL,
                     "failed to read samples: got no array '%s', expected x (images) and y (labels)", name);
}

/* 1, 3 or 4 channels on axis 1 (also if axis 3 could be one too) or on axis 3; other numbers on axis 1. */
static enum status read_layout(const struct npy *x, const struct samples_limits *limits, struct layout *layout,
                               struct error *error) {
    char text[SHAPE_TEXT_SIZE];
    const size_t *dim = x->shape.dim;
    if (x->shape.rank != 4 || x->type == NPY_I4 || x->type == NPY_I8) {
        return error_set(error, STATUS_INVALID, "x.npy",
                         "failed to read x.npy: got shape %s of %s, expected (N, C, H, W) or (N, H, W, C) of uint8 or "
                         "floats",
                         shape_text(&x->shape, text), npy_type_text(x->type));
    }
    bool first = dim[1] == 1 || dim[1] == 3 || dim[1] == 4;
    bool last = dim[3] == 1 || dim[3] == 3 || dim[3] == 4;
    layout->channels_last = last && !first;
    layout->count = dim[0];
    layout->channels = layout->channels_last ? dim[3] : dim[1];
    layout->height = layout->channels_last ? dim[1] : dim[2];
    layout->width = layout->channels_last ? dim[2] : dim[3];
    if (layout->channels > SAMPLES_CHANNELS_MAX || shape_count(&x->shape) == 0) {
        return error_set(error, STATUS_INVALID, "x.npy",
                         "failed to read x.npy: got shape %s, expected at least one image of 1 to %d channels",
                         shape_text(&x->shape, text), SAMPLES_CHANNELS_MAX);
    }
    size_t pixels = shape_count_from(&x->shape, 1);
    if (layout->count > limits->max_count || pixels > limits->max_pixels) {
        return error_set(error, STATUS_LIMIT, "x.npy",
                         "failed to read x.npy: got shape %s, expected at most %zu images of %zu values",
                         shape_text(&x->shape, text), limits->max_count, limits->max_pixels);
    }
    return STATUS_OK;
}

/* Index in the file of value i of the (count, C, H, W) that we keep. */
static size_t file_index(const struct layout *layout, size_t i) {
    if (!layout->channels_last) {
        return i;
    }
    size_t area = layout->height * layout->width;
    size_t image = i / (layout->channels * area), channel = i / area % layout->channels, at = i % area;
    return (image * area + at) * layout->channels + channel;
}

static enum status take_pixels(struct samples *samples, struct npy *x, const struct layout *layout,
                               struct error *error) {
    if (!layout->channels_last) {
        samples->pixels = x->data;
        x->data = NULL;
        return STATUS_OK;
    }
    size_t total = shape_count(&x->shape);
    const uint8_t *source = x->data;
    samples->pixels = mem_alloc(total, 1);
    if (samples->pixels == NULL) {
        return error_no_memory(error, "the images");
    }
    for (size_t i = 0; i < total; i++) {
        samples->pixels[i] = source[file_index(layout, i)];
    }
    return STATUS_OK;
}

static enum status take_values(struct samples *samples, struct npy *x, const struct layout *layout,
                               struct error *error) {
    size_t total = shape_count(&x->shape);
    if (!layout->channels_last && x->type == NPY_F4) {
        samples->values = x->data;
        x->data = NULL;
    } else {
        samples->values = mem_alloc(total, sizeof *samples->values);
        if (samples->values == NULL) {
            return error_no_memory(error, "the images");
        }
        for (size_t i = 0; i < total; i++) {
            samples->values[i] = (float)npy_double(x, file_index(layout, i));
        }
    }
    for (size_t i = 0; i < total; i++) {
        if (!isfinite(samples->values[i])) {
            return error_set(error, STATUS_INVALID, "x.npy",
                             "failed to read x.npy: got %s in image %zu, expected finite numbers",
                             isnan(samples->values[i]) ? "NaN" : "infinity", i / (total / layout->count));
        }
    }
    return STATUS_OK;
}

static enum status take_images(struct samples *samples, struct npz *npz, const struct samples_limits *limits,
                               struct error *error) {
    struct npy *x = NULL;
    struct layout layout = {0};
    for (size_t i = 0; i < npz->count; i++) {
        if (strcmp(npz->arrays[i].name, "x") == 0) {
            x = &npz->arrays[i];
        }
    }
    if (x == NULL) {
        return missing("x", error);
    }
    enum status status = read_layout(x, limits, &layout, error);
    if (status != STATUS_OK) {
        return status;
    }
    samples->count = layout.count;
    samples->channels = layout.channels;
    samples->height = layout.height;
    samples->width = layout.width;
    return x->type == NPY_U1 ? take_pixels(samples, x, &layout, error) : take_values(samples, x, &layout, error);
}

/* One class number a sample, or (if `one_for_all`) one for all. *out is (count), the caller's. */
static enum status read_classes(const struct npy *array, const char *place, size_t count, bool one_for_all,
                                int32_t **out, struct error *error) {
    char text[SHAPE_TEXT_SIZE];
    size_t got = shape_count(&array->shape);
    bool single = one_for_all && got == 1;
    bool flat = array->shape.rank == 1 || (array->shape.rank == 2 && array->shape.dim[1] == 1) || single;
    if (array->type != NPY_U1 && array->type != NPY_I4 && array->type != NPY_I8) {
        return error_set(error, STATUS_INVALID, place, "failed to read %s: got element type %s, expected integers",
                         place, npy_type_text(array->type));
    }
    if (!flat || (got != count && !single)) {
        return error_set(error, STATUS_INVALID, place, "failed to read %s: got shape %s, expected [%zu]%s", place,
                         shape_text(&array->shape, text), count, one_for_all ? " or one number" : "");
    }
    int32_t *classes = mem_alloc(count, sizeof *classes);
    if (classes == NULL) {
        return error_no_memory(error, "the labels");
    }
    for (size_t i = 0; i < count; i++) {
        int64_t label = npy_integer(array, single ? 0 : i);
        if (label < 0 || label >= LABEL_MAX) {
            mem_free(classes);
            return error_set(error, STATUS_INVALID, place,
                             "failed to read %s: got class %lld of sample %zu, expected 0 to %d", place,
                             (long long)label, i, LABEL_MAX - 1);
        }
        classes[i] = (int32_t)label;
    }
    *out = classes;
    return STATUS_OK;
}

/* One finite number a channel; std above 0. */
static enum status read_channels(const struct npy *array, const char *place, size_t channels, bool positive,
                                 float out[SAMPLES_CHANNELS_MAX], struct error *error) {
    char text[SHAPE_TEXT_SIZE];
    bool is_float = array->type == NPY_F2 || array->type == NPY_F4 || array->type == NPY_F8;
    if (!is_float || shape_count(&array->shape) != channels || array->shape.rank > 4) {
        return error_set(error, STATUS_INVALID, place,
                         "failed to read %s: got shape %s of %s, expected [%zu] of floats (one a channel)", place,
                         shape_text(&array->shape, text), npy_type_text(array->type), channels);
    }
    for (size_t i = 0; i < channels; i++) {
        out[i] = (float)npy_double(array, i);
        if (!isfinite(out[i]) || (positive && !(out[i] > 0))) {
            return error_set(error, STATUS_INVALID, place, "failed to read %s: got %g, expected a finite number%s",
                             place, (double)out[i], positive ? " above 0" : "");
        }
    }
    return STATUS_OK;
}

static enum status take_normalisation(struct samples *samples, const struct npz *npz, struct error *error) {
    const struct npy *mean = npz_find(npz, "mean"), *std = npz_find(npz, "std");
    if ((mean == NULL) != (std == NULL)) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to read samples: got '%s' alone, expected both mean and std or neither",
                         mean != NULL ? "mean" : "std");
    }
    if (mean == NULL) {
        return STATUS_OK;
    }
    enum status status = read_channels(mean, "mean.npy", samples->channels, false, samples->mean, error);
    return status != STATUS_OK ? status : read_channels(std, "std.npy", samples->channels, true, samples->std, error);
}

/* Least and largest float of each channel. */
static void float_range(const struct samples *samples, float low[SAMPLES_CHANNELS_MAX],
                        float high[SAMPLES_CHANNELS_MAX]) {
    size_t area = samples->height * samples->width;
    for (size_t c = 0; c < samples->channels; c++) {
        low[c] = INFINITY;
        high[c] = -INFINITY;
        for (size_t n = 0; n < samples->count; n++) {
            const float *plane = samples->values + (n * samples->channels + c) * area;
            for (size_t i = 0; i < area; i++) {
                low[c] = fminf(low[c], plane[i]);
                high[c] = fmaxf(high[c], plane[i]);
            }
        }
    }
}

static void find_range(struct samples *samples) {
    float low[SAMPLES_CHANNELS_MAX] = {0}, high[SAMPLES_CHANNELS_MAX] = {0};
    bool unit = true;
    if (samples->values != NULL) {
        float_range(samples, low, high);
        for (size_t c = 0; c < samples->channels; c++) {
            unit = unit && low[c] >= 0 && high[c] <= 1;
        }
    }
    for (size_t c = 0; c < samples->channels; c++) {
        samples->low[c] = ((unit ? 0 : low[c]) - samples->mean[c]) / samples->std[c];
        samples->high[c] = ((unit ? 1 : high[c]) - samples->mean[c]) / samples->std[c];
    }
}

static enum status fill_from_npz(struct samples *samples, struct npz *npz, const struct samples_limits *limits,
                                 struct error *error) {
    const struct npy *y = npz_find(npz, "y"), *target = npz_find(npz, "target");
    if (y == NULL) {
        return missing("y", error);
    }
    enum status status = take_images(samples, npz, limits, error);
    if (status == STATUS_OK) {
        status = read_classes(y, "y.npy", samples->count, false, &samples->labels, error);
    }
    if (status == STATUS_OK && target != NULL) {
        status = read_classes(target, "target.npy", samples->count, true, &samples->targets, error);
    }
    if (status == STATUS_OK) {
        status = take_normalisation(samples, npz, error);
    }
    return status;
}

enum status samples_load(const char *path, const struct samples_limits *limits, struct samples **out,
                         struct error *error) {
    struct npz *npz = NULL;
    struct samples *samples = mem_calloc(1, sizeof *samples);
    enum status status = samples != NULL ? STATUS_OK : error_no_memory(error, "a sample set");
    for (size_t i = 0; status == STATUS_OK && i < SAMPLES_CHANNELS_MAX; i++) {
        samples->std[i] = 1;
    }
    if (status == STATUS_OK && images_is_archive(path)) {
        status = images_load(path, limits, samples, error);
    } else if (status == STATUS_OK) {
        status = npz_load(path, limits->max_file_bytes, limits->max_unpacked_bytes, &npz, error);
        if (status == STATUS_OK) {
            status = fill_from_npz(samples, npz, limits, error);
        }
        npz_free(npz);
    }
    if (status != STATUS_OK) {
        samples_free(samples);
        return status;
    }
    for (size_t i = 0; i < samples->count; i++) {
        if ((size_t)samples->labels[i] >= samples->classes) {
            samples->classes = (size_t)samples->labels[i] + 1;
        }
    }
    find_range(samples);
    *out = samples;
    return STATUS_OK;
}

void samples_free(struct samples *samples) {
    if (samples == NULL) {
        return;
    }
    mem_free(samples->pixels);
    mem_free(samples->values);
    mem_free(samples->labels);
    mem_free(samples->targets);
    mem_free(samples);
}

enum status samples_check_fit(const struct samples *samples, size_t channels, size_t height, size_t width,
                              size_t classes, struct error *error) {
    if (samples->channels != channels || samples->height != height || samples->width != width) {
        return error_set(error, STATUS_INVALID, "x.npy",
                         "failed to match x.npy with the model: got images of %zu x %zu x %zu, expected %zu x %zu x "
                         "%zu (channels, height, width)",
                         samples->channels, samples->height, samples->width, channels, height, width);
    }
    for (size_t i = 0; i < samples->count; i++) {
        bool bad_label = (size_t)samples->labels[i] >= classes;
        if (bad_label || (samples->targets != NULL && (size_t)samples->targets[i] >= classes)) {
            const char *place = bad_label ? "y.npy" : "target.npy";
            return error_set(error, STATUS_INVALID, place,
                             "failed to match %s with the model: got class %d of sample %zu, expected below %zu", place,
                             bad_label ? samples->labels[i] : samples->targets[i], i, classes);
        }
    }
    return STATUS_OK;
}

/* What each of the 256 pixel values of one channel is for the network. */
static void pixel_table(const struct samples *samples, size_t channel, float table[LEVELS]) {
    for (size_t v = 0; v < LEVELS; v++) {
        table[v] = (float)(((double)v / 255 - (double)samples->mean[channel]) / (double)samples->std[channel]);
    }
}

void samples_fetch(const struct samples *samples, const size_t *indices, size_t n, float *out) {
    size_t area = samples->height * samples->width;
    float table[LEVELS];
    for (size_t c = 0; c < samples->channels; c++) {
        if (samples->pixels != NULL) {
            pixel_table(samples, c, table);
        }
        for (size_t k = 0; k < n; k++) {
            size_t plane = (indices[k] * samples->channels + c) * area;
            float *to = out + (k * samples->channels + c) * area;
            for (size_t i = 0; i < area; i++) {
                to[i] = samples->pixels != NULL ? table[samples->pixels[plane + i]]
                                                : (samples->values[plane + i] - samples->mean[c]) / samples->std[c];
            }
        }
    }
}
