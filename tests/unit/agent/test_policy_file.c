/* Policies as files: what is written reads back, and nothing else is read. */
#include <stdio.h>

#include "common/digest.h"
#include "server/agent/policy_file.h"
#include "tests/unit/agent/planted.h"

static const char names[] = "one two three";
enum { HEADER = 28, DIGEST = DIGEST_HEX_SIZE - 1 };

struct file {
    uint8_t *bytes;
    size_t length;
    struct policy *policy;
};

static void file_init(struct file *file) {
    const struct policy_shape shape = {3, 5, 2};
    struct error error = {0};
    struct rng rng;
    rng_seed(&rng, 4);
    assert_int_equal(policy_new(&shape, &rng, &file->policy, &error), STATUS_OK);
    assert_int_equal(policy_save(file->policy, names, &file->bytes, &file->length, &error), STATUS_OK);
}

static void file_deinit(struct file *file) {
    policy_free(file->policy);
    mem_free(file->bytes);
}

static enum status load(const uint8_t *bytes, size_t length, const char *features, char *message, size_t size) {
    struct policy *policy = NULL;
    struct error error = {0};
    const enum status status = policy_load(bytes, length, features, &policy, &error);
    assert_true((status == STATUS_OK) == (policy != NULL));
    (void)snprintf(message, size, "%s", error.message);
    policy_free(policy);
    return status;
}

/* As somebody would who makes a file by hand: with a digest that fits. */
static void sign(struct file *file) {
    char digest[DIGEST_HEX_SIZE];
    digest_bytes(file->bytes, file->length - DIGEST, digest);
    memcpy(file->bytes + file->length - DIGEST, digest, DIGEST);
}

static void what_is_written_reads_back(void **state) {
    (void)state;
    struct file file;
    struct policy *copy = NULL;
    struct error error = {0};
    file_init(&file);
    assert_int_equal(policy_load(file.bytes, file.length, names, &copy, &error), STATUS_OK);
    assert_memory_equal(policy_shape_of(copy), policy_shape_of(file.policy), sizeof(struct policy_shape));
    assert_memory_equal(policy_parameters(copy), policy_parameters(file.policy),
                        policy_parameter_count(copy) * sizeof(float));
    policy_free(copy);
    file_deinit(&file);
}

static void damage_is_refused(void **state) {
    (void)state;
    struct file file;
    char message[256];
    file_init(&file);
    for (size_t length = 0; length < file.length; length++) {
        assert_int_equal(load(file.bytes, length, names, message, sizeof message), STATUS_INVALID);
    }
    for (size_t i = 0; i < file.length; i++) {
        file.bytes[i] ^= 0x10;
        assert_int_equal(load(file.bytes, file.length, names, message, sizeof message), STATUS_INVALID);
        file.bytes[i] ^= 0x10;
    }
    assert_int_equal(load(file.bytes, file.length, names, message, sizeof message), STATUS_OK);
    file_deinit(&file);
}

static void a_signed_file_is_checked_all_the_same(void **state) {
    (void)state;
    static const struct {
        size_t at;
        uint8_t value;
        const char *says;
    } cases[] = {
        {8, 0, "shape"},      {9, 2, "shape"},           {8, 4, "length"},
        {12, 0, "shape"},     {13, 2, "shape"},          {12, 6, "length"},
        {16, 0, "shape"},     {16, 9, "shape"},          {16, 1, "length"},
        {20, 4, "shape"},     {24, 12, "features"},      {27, 0xff, "features"},
        {24, 14, "features"}, {HEADER, 'O', "features"}, {HEADER + 13 + 3, 0x7f, "weight"},
    };
    char message[256];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct file file;
        file_init(&file);
        file.bytes[cases[i].at] = cases[i].value;
        sign(&file);
        assert_int_equal(load(file.bytes, file.length, names, message, sizeof message), STATUS_INVALID);
        assert_non_null(strstr(message, cases[i].says));
        file_deinit(&file);
    }
}

static void other_features_are_refused(void **state) {
    (void)state;
    struct file file;
    char message[256];
    file_init(&file);
    assert_int_equal(load(file.bytes, file.length, "one two four", message, sizeof message), STATUS_INVALID);
    assert_int_equal(load(file.bytes, file.length, "", message, sizeof message), STATUS_INVALID);
    assert_non_null(strstr(message, "other features"));
    file_deinit(&file);
}

static void every_failed_allocation_is_reported(void **state) {
    (void)state;
    struct file file;
    file_init(&file);
    for (uint64_t n = 1;; n++) {
        struct policy *copy = NULL;
        struct error error = {0};
        mem_fail_after(n);
        const enum status status = policy_load(file.bytes, file.length, names, &copy, &error);
        mem_fail_after(0);
        policy_free(copy);
        if (status == STATUS_OK) {
            assert_true(n > 2);
            break;
        }
        assert_int_equal(status, STATUS_NO_MEMORY);
    }
    file_deinit(&file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(damage_is_refused),
        cmocka_unit_test(a_signed_file_is_checked_all_the_same),
        cmocka_unit_test(other_features_are_refused),
        cmocka_unit_test(every_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
