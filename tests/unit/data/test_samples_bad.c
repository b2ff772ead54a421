/* Every folder of tests/data/npz_bad must be refused as it says, and no damage to a good file may crash. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "common/file.h"
#include "common/mem.h"
#include "server/data/samples.h"
#include "tests/support/cases.h"
#include "tests/support/cm.h"
#include "tests/support/scratch.h"

enum { COUNT = 8, CHANNELS = 3, SIDE = 4, PIXELS = CHANNELS * SIDE * SIDE };

static void run_bad(void *user, const char *name, const char *folder) {
    size_t *wrong = user;
    char path[PATH_MAX];
    struct error error = {0};
    struct samples *samples = NULL;
    (void)snprintf(path, sizeof path, "%s/samples.npz", folder);
    enum status status = samples_load(path, &samples_default_limits, &samples, &error);
    *wrong += !cases_error_matches(name, folder, status, &error);
    assert_true((status == STATUS_OK) == (samples != NULL));
    samples_free(samples);
}

static void test_bad_cases(void **state) {
    (void)state;
    size_t wrong = 0;
    assert_true(cases_each("tests/data/npz_bad", run_bad, &wrong) >= 60);
    assert_int_equal(wrong, 0);
}

static void save_good(const char *path) {
    uint8_t pixels[COUNT * PIXELS];
    const int32_t labels[COUNT] = {0, 1, 2, 0, 1, 2, 0, 1}, targets[COUNT] = {0};
    const float mean[CHANNELS] = {0.5F, 0.4F, 0.3F}, std[CHANNELS] = {0.2F, 0.3F, 0.4F};
    struct error error = {0};
    for (size_t i = 0; i < sizeof pixels; i++) {
        pixels[i] = (uint8_t)(i * 37);
    }
    const struct samples_source source = {.count = COUNT,
                                          .channels = CHANNELS,
                                          .height = SIDE,
                                          .width = SIDE,
                                          .pixels = pixels,
                                          .labels = labels,
                                          .targets = targets,
                                          .mean = mean,
                                          .std = std};
    assert_int_equal(samples_save(path, &source, &error), STATUS_OK);
}

/* One bit of each byte in turn, then every length: the file is written anew each time. */
static void test_damage(void **state) {
    (void)state;
    struct scratch scratch;
    char *bytes = NULL;
    size_t length = 0, refused = 0;
    struct error error = {0};
    scratch_make(&scratch);
    save_good(scratch_path(&scratch, "good.npz"));
    assert_int_equal(file_read(scratch_path(&scratch, "good.npz"), 1 << 20, &bytes, &length, &error), STATUS_OK);
    for (size_t i = 0; i < 2 * length; i++) {
        const char *path = scratch_path(&scratch, "damaged.npz");
        struct samples *samples = NULL;
        struct error why = {0};
        bool flip = i < length;
        size_t at = flip ? i : i - length;
        (void)remove(path); /* some file systems flush a file that is emptied and written again */
        FILE *file = fopen(path, "wb");
        assert_non_null(file);
        bytes[at] ^= (char)(flip ? 1 << (at % 8) : 0);
        assert_int_equal(fwrite(bytes, 1, flip ? length : at, file), flip ? length : at);
        assert_int_equal(fclose(file), 0);
        bytes[at] ^= (char)(flip ? 1 << (at % 8) : 0);
        if (samples_load(path, &samples_default_limits, &samples, &why) != STATUS_OK) {
            assert_null(samples);
            assert_int_not_equal(why.message[0], '\0');
            refused++;
        }
        samples_free(samples);
    }
    assert_true(refused > length); /* every truncation and most flips */
    mem_free(bytes);
    scratch_remove(&scratch);
}

static void test_limits(void **state) {
    (void)state;
    struct scratch scratch;
    struct samples_limits tight[4];
    scratch_make(&scratch);
    save_good(scratch_path(&scratch, "good.npz"));
    for (size_t i = 0; i < 4; i++) {
        tight[i] = samples_default_limits;
    }
    tight[0].max_file_bytes = 100;
    tight[1].max_unpacked_bytes = 500;
    tight[2].max_count = COUNT - 1;
    tight[3].max_pixels = PIXELS - 1;
    for (size_t i = 0; i < 4; i++) {
        struct error error = {0};
        struct samples *samples = NULL;
        assert_int_equal(samples_load(scratch_path(&scratch, "good.npz"), &tight[i], &samples, &error), STATUS_LIMIT);
        assert_null(samples);
    }
    scratch_remove(&scratch);
}

static void test_no_file(void **state) {
    (void)state;
    struct scratch scratch;
    struct samples *samples = NULL;
    struct error error = {0};
    scratch_make(&scratch);
    assert_int_equal(samples_load(scratch_path(&scratch, "none.npz"), &samples_default_limits, &samples, &error),
                     STATUS_IO);
    error_clear(&error);
    assert_int_equal(samples_load(scratch.path, &samples_default_limits, &samples, &error), STATUS_IO);
    assert_null(samples);
    scratch_remove(&scratch);
}

/* Every allocation of ours in turn fails. */
static void test_no_memory(void **state) {
    (void)state;
    struct scratch scratch;
    struct samples *samples = NULL;
    size_t failures = 0;
    scratch_make(&scratch);
    save_good(scratch_path(&scratch, "good.npz"));
    for (uint64_t n = 1; samples == NULL; n++) {
        struct error error = {0};
        mem_fail_after(n);
        enum status status =
            samples_load(scratch_path(&scratch, "good.npz"), &samples_default_limits, &samples, &error);
        mem_fail_after(0);
        assert_int_equal(status, samples != NULL ? STATUS_OK : STATUS_NO_MEMORY);
        failures += samples == NULL;
    }
    assert_true(failures >= 10);
    samples_free(samples);
    scratch_remove(&scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_cases), cmocka_unit_test(test_damage),    cmocka_unit_test(test_limits),
        cmocka_unit_test(test_no_file),   cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("data: bad samples", tests, NULL, NULL);
}
