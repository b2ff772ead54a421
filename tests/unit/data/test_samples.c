/* Good sample sets: layouts, normalisation, ranges, targets, and what is written reads back. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/data/npz.h"
#include "server/data/samples.h"
#include "tests/support/cm.h"
#include "tests/support/scratch.h"

enum { COUNT = 3, CHANNELS = 3, HEIGHT = 2, WIDTH = 5, AREA = HEIGHT * WIDTH, TOTAL = COUNT * CHANNELS * AREA };

static struct npy array(const char *name, enum npy_type type, struct shape shape, void *data) {
    struct npy npy = {.type = type, .shape = shape, .data = data};
    (void)snprintf(npy.name, sizeof npy.name, "%s", name);
    return npy;
}

/* Saves the arrays and loads them as samples. */
static struct samples *through_file(const struct npy *arrays, size_t count) {
    struct scratch scratch;
    struct samples *samples = NULL;
    struct error error = {0};
    scratch_make(&scratch);
    const char *path = scratch_path(&scratch, "s.npz");
    assert_int_equal(npz_save(path, arrays, count, &error), STATUS_OK);
    if (samples_load(path, &samples_default_limits, &samples, &error) != STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    scratch_remove(&scratch);
    return samples;
}

static int64_t LABELS[COUNT] = {4, 0, 2};

static struct npy labels(void) {
    return array("y", NPY_I8, (struct shape){1, {COUNT}}, LABELS);
}

static void test_uint8_nchw(void **state) {
    (void)state;
    uint8_t pixels[TOTAL];
    float mean[CHANNELS] = {0.5F, 0, -1}, std[CHANNELS] = {0.25F, 1, 2}, out[2 * CHANNELS * AREA];
    int32_t target = 7;
    for (size_t i = 0; i < TOTAL; i++) {
        pixels[i] = (uint8_t)(i * 2);
    }
    const struct npy arrays[] = {
        array("x", NPY_U1, (struct shape){4, {COUNT, CHANNELS, HEIGHT, WIDTH}}, pixels),
        labels(),
        array("mean", NPY_F4, (struct shape){1, {CHANNELS}}, mean),
        array("std", NPY_F4, (struct shape){4, {1, CHANNELS, 1, 1}}, std),
        array("target", NPY_I4, (struct shape){0}, &target),
    };
    struct samples *samples = through_file(arrays, 5);
    assert_int_equal(samples->count, COUNT);
    assert_int_equal(samples->channels, CHANNELS);
    assert_int_equal(samples->height, HEIGHT);
    assert_int_equal(samples->width, WIDTH);
    assert_int_equal(samples->classes, 5);
    assert_null(samples->values);
    assert_memory_equal(samples->pixels, pixels, TOTAL);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(samples->labels[i], LABELS[i]);
        assert_int_equal(samples->targets[i], 7);
    }
    for (size_t c = 0; c < CHANNELS; c++) {
        assert_true(samples->low[c] == (0 - mean[c]) / std[c]);
        assert_true(samples->high[c] == (1 - mean[c]) / std[c]);
    }
    const size_t indices[2] = {2, 0};
    samples_fetch(samples, indices, 2, out);
    for (size_t k = 0; k < 2; k++) {
        for (size_t i = 0; i < CHANNELS * AREA; i++) {
            double expected =
                (pixels[indices[k] * CHANNELS * AREA + i] / 255.0 - (double)mean[i / AREA]) / (double)std[i / AREA];
            assert_true(fabs((double)out[k * CHANNELS * AREA + i] - expected) <= 1e-6 * fmax(1, fabs(expected)));
        }
    }
    samples_free(samples);
}

/* (N, H, W, C) becomes (N, C, H, W). */
static void test_channels_last(void **state) {
    (void)state;
    uint8_t pixels[TOTAL];
    float values[TOTAL];
    for (size_t i = 0; i < TOTAL; i++) {
        pixels[i] = (uint8_t)i;
        values[i] = (float)i - 10;
    }
    for (int as_float = 0; as_float < 2; as_float++) {
        const struct npy arrays[] = {array("x", as_float ? NPY_F4 : NPY_U1,
                                           (struct shape){4, {COUNT, HEIGHT, WIDTH, CHANNELS}},
                                           as_float ? (void *)values : (void *)pixels),
                                     labels()};
        struct samples *samples = through_file(arrays, 2);
        assert_int_equal(samples->channels, CHANNELS);
        assert_int_equal(samples->height, HEIGHT);
        assert_int_equal(samples->width, WIDTH);
        for (size_t n = 0; n < COUNT; n++) {
            for (size_t c = 0; c < CHANNELS; c++) {
                for (size_t i = 0; i < AREA; i++) {
                    size_t from = (n * AREA + i) * CHANNELS + c, to = (n * CHANNELS + c) * AREA + i;
                    assert_true(as_float ? samples->values[to] == values[from] : samples->pixels[to] == pixels[from]);
                }
            }
        }
        samples_free(samples);
    }
}

/* One channel first wins over one channel last; six channels on axis 1 are taken as they are. */
static void test_ambiguous_layout(void **state) {
    (void)state;
    uint8_t pixels[36] = {0};
    int64_t label[1] = {0};
    const struct {
        struct shape shape;
        size_t channels, height, width;
    } cases[] = {
        {{4, {1, 3, 4, 3}}, 3, 4, 3}, {{4, {1, 1, 36, 1}}, 1, 36, 1}, {{4, {1, 6, 3, 2}}, 6, 3, 2},
        {{4, {1, 6, 6, 1}}, 1, 6, 6}, {{4, {1, 3, 3, 4}}, 3, 3, 4},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct npy arrays[] = {array("x", NPY_U1, cases[i].shape, pixels),
                                     array("y", NPY_I8, (struct shape){1, {1}}, label)};
        struct samples *samples = through_file(arrays, 2);
        assert_int_equal(samples->channels, cases[i].channels);
        assert_int_equal(samples->height, cases[i].height);
        assert_int_equal(samples->width, cases[i].width);
        samples_free(samples);
    }
}

/* Floats within [0, 1] can take that range; others what was seen, channel by channel. */
static void test_float_ranges(void **state) {
    (void)state;
    float values[TOTAL], out[CHANNELS * AREA];
    double mean[CHANNELS] = {0.5, 0.25, 0}, std[CHANNELS] = {0.5, 1, 2};
    for (size_t i = 0; i < TOTAL; i++) {
        values[i] = (float)(i % 11) / 10;
    }
    struct npy arrays[] = {array("x", NPY_F4, (struct shape){4, {COUNT, CHANNELS, HEIGHT, WIDTH}}, values), labels(),
                           array("mean", NPY_F8, (struct shape){1, {CHANNELS}}, mean),
                           array("std", NPY_F8, (struct shape){1, {CHANNELS}}, std)};
    struct samples *samples = through_file(arrays, 4);
    assert_true(samples->low[0] == -1 && samples->high[0] == 1);
    assert_true(samples->low[1] == -0.25F && samples->high[1] == 0.75F);
    assert_true(samples->low[2] == 0 && samples->high[2] == 0.5F);
    samples_fetch(samples, &(size_t){1}, 1, out);
    for (size_t i = 0; i < CHANNELS * AREA; i++) {
        assert_true(out[i] == (values[CHANNELS * AREA + i] - (float)mean[i / AREA]) / (float)std[i / AREA]);
    }
    samples_free(samples);

    values[0] = -3;           /* channel 0 of image 0 */
    values[2 * AREA + 3] = 9; /* channel 2 */
    samples = through_file(arrays, 2);
    assert_true(samples->low[0] == -3 && samples->high[0] == 1);
    assert_true(samples->low[1] == 0 && samples->high[1] == 1);
    assert_true(samples->low[2] == 0 && samples->high[2] == 9);
    samples_free(samples);
}

static void test_save_and_load(void **state) {
    (void)state;
    struct scratch scratch;
    uint8_t pixels[TOTAL];
    const int32_t classes[COUNT] = {1, 0, 3}, targets[COUNT] = {2, 2, 1};
    struct samples *samples = NULL;
    struct error error = {0};
    memset(pixels, 0, sizeof pixels); /* an all-black set deflates by more than any ratio limit; it must load */
    pixels[5] = 255;
    scratch_make(&scratch);
    const struct samples_source source = {.count = COUNT,
                                          .channels = CHANNELS,
                                          .height = HEIGHT,
                                          .width = WIDTH,
                                          .pixels = pixels,
                                          .labels = classes,
                                          .targets = targets};
    assert_int_equal(samples_save(scratch_path(&scratch, "s.npz"), &source, &error), STATUS_OK);
    assert_int_equal(samples_load(scratch_path(&scratch, "s.npz"), &samples_default_limits, &samples, &error),
                     STATUS_OK);
    assert_memory_equal(samples->pixels, pixels, sizeof pixels);
    assert_memory_equal(samples->labels, classes, sizeof classes);
    assert_memory_equal(samples->targets, targets, sizeof targets);
    assert_int_equal(samples->classes, 4);
    assert_true(samples->mean[0] == 0 && samples->std[0] == 1);
    samples_free(samples);
    scratch_remove(&scratch);
}

static void test_check_fit(void **state) {
    (void)state;
    uint8_t pixels[TOTAL] = {0};
    int64_t target = 6;
    const struct npy arrays[] = {array("x", NPY_U1, (struct shape){4, {COUNT, CHANNELS, HEIGHT, WIDTH}}, pixels),
                                 labels(), array("target", NPY_I8, (struct shape){1, {1}}, &target)};
    struct samples *plain = through_file(arrays, 2), *probe = through_file(arrays, 3);
    const struct {
        const struct samples *samples;
        size_t channels, height, width, classes;
        enum status status;
        const char *part;
    } cases[] = {
        {plain, 3, 2, 5, 5, STATUS_OK, ""},
        {plain, 1, 2, 5, 5, STATUS_INVALID, "got images of 3 x 2 x 5, expected 1 x 2 x 5"},
        {plain, 3, 5, 2, 5, STATUS_INVALID, "expected 3 x 5 x 2"},
        {plain, 3, 2, 5, 4, STATUS_INVALID, "y.npy with the model: got class 4 of sample 0, expected below 4"},
        {probe, 3, 2, 5, 7, STATUS_OK, ""},
        {probe, 3, 2, 5, 6, STATUS_INVALID, "target.npy with the model: got class 6"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error error = {0};
        assert_int_equal(samples_check_fit(cases[i].samples, cases[i].channels, cases[i].height, cases[i].width,
                                           cases[i].classes, &error),
                         cases[i].status);
        assert_non_null(strstr(error.message, cases[i].part));
    }
    samples_free(plain);
    samples_free(probe);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uint8_nchw),       cmocka_unit_test(test_channels_last),
        cmocka_unit_test(test_ambiguous_layout), cmocka_unit_test(test_float_ranges),
        cmocka_unit_test(test_save_and_load),    cmocka_unit_test(test_check_fit),
    };
    return cmocka_run_group_tests_name("data: samples", tests, NULL, NULL);
}
