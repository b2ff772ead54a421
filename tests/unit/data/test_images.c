/* Zips of pictures: what good ones give, and every folder of tests/data/zip_bad refused as it says. */
#include <limits.h>
#include <spng.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>
#include <zip.h>

#include "common/file.h"
#include "common/mem.h"
#include "server/data/samples.h"
#include "tests/support/cases.h"
#include "tests/support/cm.h"
#include "tests/support/scratch.h"

enum { HEIGHT = 4, WIDTH = 6, AREA = HEIGHT * WIDTH };

/* Value of a pixel that tells pictures, channels and places apart. */
static uint8_t pixel(unsigned picture, unsigned channel, unsigned at) {
    return (uint8_t)(picture * 50 + channel * 20 + at);
}

/* The caller's (free(), as libspng gives it). */
static void *make_png(unsigned picture, enum spng_color_type colour, size_t *length) {
    uint8_t rows[AREA * 4];
    unsigned channels = colour == SPNG_COLOR_TYPE_GRAYSCALE ? 1 : colour == SPNG_COLOR_TYPE_TRUECOLOR_ALPHA ? 4 : 3;
    struct spng_ihdr header = {.width = WIDTH, .height = HEIGHT, .bit_depth = 8, .color_type = (uint8_t)colour};
    spng_ctx *png = spng_ctx_new(SPNG_CTX_ENCODER);
    int code = 0;
    for (unsigned i = 0; i < AREA; i++) {
        for (unsigned c = 0; c < channels; c++) {
            rows[i * channels + c] = c == 3 ? 255 : pixel(picture, c, i);
        }
    }
    assert_int_equal(spng_set_option(png, SPNG_ENCODE_TO_BUFFER, 1), 0);
    assert_int_equal(spng_set_ihdr(png, &header), 0);
    assert_int_equal(spng_encode_image(png, rows, (size_t)AREA * channels, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE), 0);
    void *bytes = spng_get_png_buffer(png, length, &code);
    assert_non_null(bytes);
    spng_ctx_free(png);
    return bytes;
}

/* Flat, so that its loss is small; the caller's (tjFree()). */
static unsigned char *make_jpeg(uint8_t value, unsigned long *length) {
    unsigned char rows[AREA * 3];
    unsigned char *bytes = NULL;
    tjhandle jpeg = tjInitCompress();
    memset(rows, value, sizeof rows);
    *length = 0;
    assert_int_equal(
        tjCompress2(jpeg, rows, WIDTH, 0, HEIGHT, TJPF_RGB, &bytes, length, TJSAMP_444, 95, TJFLAG_ACCURATEDCT), 0);
    (void)tjDestroy(jpeg);
    return bytes;
}

static void add(zip_t *zip, const char *name, const void *bytes, size_t length) {
    zip_source_t *source = zip_source_buffer(zip, bytes, length, 0);
    assert_true(zip_file_add(zip, name, source, 0) >= 0);
}

static struct samples *load(const char *path) {
    struct error error = {0};
    struct samples *samples = NULL;
    if (samples_load(path, &samples_default_limits, &samples, &error) != STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    return samples;
}

static void pictures_become_samples(void **state) {
    struct scratch scratch;
    size_t lengths[3];
    unsigned long jpeg_length = 0;
    int code = 0;
    (void)state;
    scratch_make(&scratch);
    void *red = make_png(1, SPNG_COLOR_TYPE_TRUECOLOR, &lengths[0]);
    void *grey = make_png(2, SPNG_COLOR_TYPE_GRAYSCALE, &lengths[1]);
    void *clear = make_png(3, SPNG_COLOR_TYPE_TRUECOLOR_ALPHA, &lengths[2]);
    unsigned char *jpeg = make_jpeg(77, &jpeg_length);
    zip_t *zip = zip_open(scratch_path(&scratch, "pictures.zip"), ZIP_CREATE, &code);
    assert_non_null(zip);
    assert_true(zip_dir_add(zip, "cat", 0) >= 0);
    add(zip, "cat-big/a.jpeg", jpeg, jpeg_length);
    add(zip, "cat/b.PNG", grey, lengths[1]);
    add(zip, "cat/a.png", red, lengths[0]);
    add(zip, "ape/z.png", clear, lengths[2]);
    assert_int_equal(zip_close(zip), 0);
    struct samples *samples = load(scratch_path(&scratch, "pictures.zip"));
    /* ape, cat, cat-big; within a folder by name */
    const int32_t labels[] = {0, 1, 1, 2};
    assert_int_equal(samples->count, 4);
    assert_int_equal(samples->channels, 3);
    assert_int_equal(samples->height, HEIGHT);
    assert_int_equal(samples->width, WIDTH);
    assert_int_equal(samples->classes, 3);
    assert_memory_equal(samples->labels, labels, sizeof labels);
    assert_null(samples->targets);
    for (unsigned c = 0; c < 3; c++) {
        for (unsigned i = 0; i < AREA; i++) {
            assert_int_equal(samples->pixels[(0 * 3 + c) * AREA + i], pixel(3, c, i));
            assert_int_equal(samples->pixels[(1 * 3 + c) * AREA + i], pixel(1, c, i));
            assert_int_equal(samples->pixels[(2 * 3 + c) * AREA + i], pixel(2, 0, i));
            assert_in_range(samples->pixels[(3 * 3 + c) * AREA + i], 75, 79);
        }
    }
    assert_true(samples->std[0] == 1.0F && samples->mean[2] == 0.0F && samples->high[1] == 1.0F);
    samples_free(samples);
    tjFree(jpeg);
    free(red);   /* of libspng */
    free(grey);  /* of libspng */
    free(clear); /* of libspng */
    scratch_remove(&scratch);
}

static void folders_that_are_numbers_count_as_such(void **state) {
    struct scratch scratch;
    size_t length = 0;
    int code = 0;
    (void)state;
    scratch_make(&scratch);
    void *picture = make_png(1, SPNG_COLOR_TYPE_TRUECOLOR, &length);
    zip_t *zip = zip_open(scratch_path(&scratch, "numbers.zip"), ZIP_CREATE, &code);
    assert_non_null(zip);
    add(zip, "10/a.png", picture, length);
    add(zip, "9/a.png", picture, length);
    add(zip, "0/a.png", picture, length);
    assert_int_equal(zip_close(zip), 0);
    struct samples *samples = load(scratch_path(&scratch, "numbers.zip"));
    assert_int_equal(samples->classes, 11);
    assert_int_equal(samples->labels[0] + samples->labels[1] + samples->labels[2], 19);
    samples_free(samples);
    free(picture); /* of libspng */
    scratch_remove(&scratch);
}

static void run_bad(void *user, const char *name, const char *folder) {
    size_t *wrong = user;
    char path[PATH_MAX];
    struct error error = {0};
    struct samples *samples = NULL;
    (void)snprintf(path, sizeof path, "%s/samples.zip", folder);
    enum status status = samples_load(path, &samples_default_limits, &samples, &error);
    *wrong += !cases_error_matches(name, folder, status, &error);
    assert_true((status == STATUS_OK) == (samples != NULL));
    samples_free(samples);
}

static void bad_zips_are_refused(void **state) {
    (void)state;
    size_t wrong = 0;
    assert_true(cases_each("tests/data/zip_bad", run_bad, &wrong) >= 30);
    assert_int_equal(wrong, 0);
}

/* Cut anywhere, one bit of each byte turned: an answer, never a crash. */
static void damage_is_survived(void **state) {
    struct scratch scratch;
    size_t picture_length = 0, length = 0, refused = 0, cases = 0;
    struct error error = {0};
    char *bytes = NULL;
    int code = 0;
    (void)state;
    scratch_make(&scratch);
    void *picture = make_png(1, SPNG_COLOR_TYPE_TRUECOLOR, &picture_length);
    const char *good = scratch_path(&scratch, "good.zip");
    zip_t *zip = zip_open(good, ZIP_CREATE, &code);
    assert_non_null(zip);
    add(zip, "a/a.png", picture, picture_length);
    assert_int_equal(zip_close(zip), 0);
    assert_int_equal(file_read(good, 1 << 20, &bytes, &length, &error), STATUS_OK);
    assert_true(length > 0);
    for (size_t i = 0; i < 2 * length; i++, cases++) {
        char saved = bytes[i % length];
        size_t cut = i < length ? length : i - length;
        const char *path = scratch_path(&scratch, "damaged.zip");
        struct samples *samples = NULL;
        struct error why = {0};
        bytes[i % length] = (char)(i < length ? saved ^ (1 << (i % 8)) : saved);
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        assert_int_equal(fwrite(bytes, 1, cut, file), cut);
        assert_int_equal(fclose(file), 0);
        refused += samples_load(path, &samples_default_limits, &samples, &why) != STATUS_OK;
        samples_free(samples);
        bytes[i % length] = saved;
    }
    assert_true(refused > cases / 2);
    mem_free(bytes);
    free(picture); /* of libspng */
    scratch_remove(&scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_become_samples),
        cmocka_unit_test(folders_that_are_numbers_count_as_such),
        cmocka_unit_test(bad_zips_are_refused),
        cmocka_unit_test(damage_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
