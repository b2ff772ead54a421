/* Sample sets: labelled images in memory. From an npz file: x uint8 or float32, NCHW or NHWC; y integers; optional mean and std (one
 * a channel); a probe set also has target (one integer, or one a sample). Or from a zip of pictures of one size,
 * "class/image.png" or ".jpg": 3 channels; classes are the folders in order (by number if all are numbers). Writing npz is
 * for the forge and tests.
 *
 * uint8 pixels v are v / 255, then (v - mean) / std if given. Float samples are taken as they are, then normalised likewise if
 * mean and std are given (as the judge does). What the network is fed is always the result, NCHW float32. */
#ifndef ONP_SERVER_DATA_SAMPLES_H
#define ONP_SERVER_DATA_SAMPLES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct samples_limits {
    size_t max_file_bytes, max_unpacked_bytes, max_count, max_pixels; /* pixels: C * H * W of one image */
};
extern const struct samples_limits samples_default_limits;

enum { SAMPLES_CHANNELS_MAX = 16 };

struct samples {
    size_t count, channels, height, width;
    uint8_t *pixels;  /* (count, C, H, W) if the file had uint8, else NULL */
    float *values;    /* (count, C, H, W) if the file had floats, else NULL; not yet normalised */
    int32_t *labels;  /* (count), >= 0 */
    int32_t *targets; /* (count) or NULL if the file has no target */
    size_t classes;   /* largest label + 1 */
    float mean[SAMPLES_CHANNELS_MAX], std[SAMPLES_CHANNELS_MAX]; /* 0 and 1 if not given */
    /* The range a valid input can take a channel, after normalisation: from pixel 0 to 1 for uint8; for floats within [0, 1] the same;
     * other floats: the least and largest value seen in the channel. */
    float low[SAMPLES_CHANNELS_MAX], high[SAMPLES_CHANNELS_MAX];
};

/* Errors name the npz entry ("x.npy") and what was got and expected. */
enum status samples_load(const char *path, const struct samples_limits *limits, struct samples **out,
                         struct error *error);
void samples_free(struct samples *samples);
/* STATUS_INVALID unless the images are C x H x W and labels (and targets) are below `classes`. */
enum status samples_check_fit(const struct samples *samples, size_t channels, size_t height, size_t width,
                              size_t classes, struct error *error);
/* out (n, C, H, W): the images at `indices`, normalised as the network takes them. */
void samples_fetch(const struct samples *samples, const size_t *indices, size_t n, float *out);

/* Writes uint8 images (count, C, H, W), labels and (if not NULL) targets, mean and std as a deflated npz, atomically. */
struct samples_source {
    size_t count, channels, height, width;
    const uint8_t *pixels;
    const int32_t *labels;
    const int32_t *targets;  /* or NULL */
    const float *mean, *std; /* (C) or NULL */
};
enum status samples_save(const char *path, const struct samples_source *source, struct error *error);

#endif
