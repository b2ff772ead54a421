/* Every folder of tests/data/onnx_bad must be refused with the status and the words that it says; and no damage to a good
 * file may do worse than that. */
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/onnx/onnx_model.h"
#include "tests/support/cases.h"
#include "tests/support/cm.h"

static const char SMALL[] = "tests/data/onnx_good/small_cnn";

static enum status load(const void *bytes, size_t length, struct error *error) {
    struct onnx_model *model = NULL;
    enum status status = onnx_model_load(bytes, length, &onnx_default_limits, &model, error);
    assert_true((status == STATUS_OK) == (model != NULL));
    assert_int_equal(error->status, status);
    onnx_model_free(model);
    return status;
}

static void run_bad(void *user, const char *name, const char *folder) {
    size_t *wrong = user, length = 0;
    struct error error = {0};
    char *bytes = cases_read(folder, "model.onnx", &length);
    enum status status = load(bytes, length, &error);
    *wrong += !cases_error_matches(name, folder, status, &error);
    mem_free(bytes);
}

static void test_bad_cases(void **state) {
    (void)state;
    size_t wrong = 0;
    assert_true(cases_each("tests/data/onnx_bad", run_bad, &wrong) >= 250);
    assert_int_equal(wrong, 0);
}

static void run_good(void *user, const char *name, const char *folder) {
    size_t *wrong = user, length = 0;
    struct error error = {0};
    char *bytes = cases_read(folder, "model.onnx", &length);
    if (load(bytes, length, &error) != STATUS_OK) {
        (void)fprintf(stderr, "%s: %s: %s\n", name, error.where, error.message);
        (*wrong)++;
    }
    mem_free(bytes);
}

static void test_good_cases(void **state) {
    (void)state;
    size_t wrong = 0;
    assert_true(cases_each("tests/data/onnx_good", run_good, &wrong) >= 80);
    assert_int_equal(wrong, 0);
}

/* One bit of every byte in turn. Many of these are still models (a weight has changed); none may crash or leak, and an
 * error must say something. */
static void test_bit_flips(void **state) {
    (void)state;
    size_t length = 0, refused = 0;
    char *bytes = cases_read(SMALL, "model.onnx", &length);
    for (size_t i = 0; i < length; i++) {
        struct error error = {0};
        char flip = (char)(1 << (i % 8));
        bytes[i] ^= flip;
        if (load(bytes, length, &error) != STATUS_OK) {
            assert_int_not_equal(error.message[0], '\0');
            refused++;
        }
        bytes[i] ^= flip;
    }
    assert_true(refused > length / 20);
    mem_free(bytes);
}

/* The copy is of exact size, so that a read past the end is one past the allocation. */
static void test_truncations(void **state) {
    (void)state;
    size_t length = 0, whole = 0;
    char *bytes = cases_read(SMALL, "model.onnx", &length);
    for (size_t end = 0; end < length; end++) {
        struct error error = {0};
        char *part = mem_dup(bytes, end);
        assert_non_null(part);
        whole += load(part, end, &error) == STATUS_OK;
        mem_free(part);
    }
    assert_in_range(whole, 0, 2); /* what comes after the graph and the opset may be missing */
    mem_free(bytes);
}

/* Whole runs of bytes replaced, as a lost block of a disk would. */
static void test_blocks_of_zeros_and_ones(void **state) {
    (void)state;
    size_t length = 0;
    char *bytes = cases_read(SMALL, "model.onnx", &length);
    for (size_t at = 0; at + 64 <= length; at += 16) {
        char kept[64];
        memcpy(kept, bytes + at, sizeof kept);
        for (int value = 0; value < 256; value += 85) {
            struct error error = {0};
            memset(bytes + at, value, sizeof kept);
            (void)load(bytes, length, &error);
        }
        memcpy(bytes + at, kept, sizeof kept);
    }
    struct error error = {0};
    assert_int_equal(load(bytes, length, &error), STATUS_OK);
    mem_free(bytes);
}

/* Each limit, set just below what the small model needs, is what refuses it. */
static void test_limits(void **state) {
    (void)state;
    size_t length = 0;
    char *bytes = cases_read(SMALL, "model.onnx", &length);
    struct onnx_limits tight[6];
    for (size_t i = 0; i < 6; i++) {
        tight[i] = onnx_default_limits;
    }
    tight[0].max_bytes = length - 1;
    tight[1].max_nodes = 11;
    tight[2].max_initializers = 0;
    tight[2].max_nodes = 8;
    tight[3].max_depth = 4;
    tight[4].max_parameters = 100;
    tight[5].max_activation = 4 * 8 * 8 - 1;
    for (size_t i = 0; i < 6; i++) {
        struct error error = {0};
        struct onnx_model *model = NULL;
        assert_int_equal(onnx_model_load((const uint8_t *)bytes, length, &tight[i], &model, &error), STATUS_LIMIT);
        assert_null(model);
        assert_int_equal(error.status, STATUS_LIMIT);
    }
    mem_free(bytes);
}

/* A few kilobytes of empty messages must not become megabytes: they are counted before they are unpacked. */
static void test_empty_messages_are_counted(void **state) {
    (void)state;
    enum { EMPTY = 60000, HEADER = 6 };
    uint8_t *bytes = mem_calloc(HEADER + 2 * EMPTY, 1);
    struct error error = {0};
    assert_non_null(bytes);
    const uint8_t header[HEADER] = {
        0x08, 0x07, 0x3a, ((2 * EMPTY) & 0x7f) | 0x80, ((2 * EMPTY >> 7) & 0x7f) | 0x80, 2 * EMPTY >> 14};
    memcpy(bytes, header, HEADER);
    for (size_t i = 0; i < EMPTY; i++) {
        bytes[HEADER + 2 * i] = 0x2a; /* graph.initializer, 0 bytes */
    }
    assert_int_equal(onnx_scan(bytes, HEADER + 2 * EMPTY, &onnx_default_limits, &error), STATUS_LIMIT);
    assert_non_null(strstr(error.message, "tensors"));
    assert_non_null(strstr(error.where, "byte "));
    mem_free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_cases),
        cmocka_unit_test(test_good_cases),
        cmocka_unit_test(test_bit_flips),
        cmocka_unit_test(test_truncations),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_blocks_of_zeros_and_ones),
        cmocka_unit_test(test_empty_messages_are_counted),
    };
    return cmocka_run_group_tests_name("onnx: bad input", tests, NULL, NULL);
}
