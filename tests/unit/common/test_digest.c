/* SHA-256 against the examples of FIPS 180-4. */
#include <string.h>

#include "common/digest.h"
#include "common/file.h"
#include "common/mem.h"
#include "tests/support/cm.h"
#include "tests/support/scratch.h"

static const char EMPTY[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
static const char ABC[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
static const char MILLION_A[] = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

static void whole(void **state) {
    (void)state;
    char out[DIGEST_HEX_SIZE];
    digest_bytes("", 0, out);
    assert_string_equal(out, EMPTY);
    digest_bytes("abc", 3, out);
    assert_string_equal(out, ABC);
}

static void parts(void **state) {
    (void)state;
    char out[DIGEST_HEX_SIZE];
    char chunk[1000];
    memset(chunk, 'a', sizeof chunk);
    struct digest *digest = digest_new();
    assert_non_null(digest);
    for (int i = 0; i < 1000; i++) {
        digest_update(digest, chunk, 137);
        digest_update(digest, chunk, sizeof chunk - 137);
    }
    digest_finish(digest, out);
    digest_free(digest);
    digest_free(NULL);
    assert_string_equal(out, MILLION_A);
}

static void files(void **state) {
    (void)state;
    struct scratch scratch;
    struct error error = {0};
    char out[DIGEST_HEX_SIZE] = "";
    scratch_make(&scratch);
    const char *path = scratch_path(&scratch, "a");
    char *million = mem_alloc(1000000, 1);
    memset(million, 'a', 1000000);
    assert_int_equal(file_write_atomic(path, million, 1000000, &error), STATUS_OK);
    mem_free(million);
    assert_int_equal(digest_file(path, out, &error), STATUS_OK);
    assert_string_equal(out, MILLION_A);
    assert_int_equal(digest_file(scratch_path(&scratch, "none"), out, &error), STATUS_IO);
    assert_non_null(strstr(error.message, "No such file"));
    error_clear(&error);
    assert_int_equal(digest_file(scratch.path, out, &error), STATUS_IO); /* a folder */
    scratch_remove(&scratch);
}

static void no_memory(void **state) {
    (void)state;
    struct scratch scratch;
    struct error error = {0};
    char out[DIGEST_HEX_SIZE] = "";
    scratch_make(&scratch);
    const char *path = scratch_path(&scratch, "a");
    assert_int_equal(file_write_atomic(path, "abc", 3, &error), STATUS_OK);
    mem_fail_after(1);
    struct digest *digest = digest_new();
    enum status status = digest_file(path, out, &error);
    mem_fail_after(0);
    assert_null(digest);
    assert_int_equal(status, STATUS_NO_MEMORY);
    scratch_remove(&scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole),
        cmocka_unit_test(parts),
        cmocka_unit_test(files),
        cmocka_unit_test(no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
