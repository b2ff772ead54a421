/* Content-Digest. */
#include "server/api/content_digest.h"
#include "tests/support/cm.h"

/* SHA-256 of "hello". */
#define BASE64 "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="
#define HEX "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

static void test_read(void **state) {
    static const char *const headers[] = {
        "sha-256=:" BASE64 ":",
        "SHA-256=:" BASE64 ":",
        "sha-512=:AAAA:, sha-256=:" BASE64 ":",
        "sha-256=:" BASE64 ":, md5=:AA==:",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        char hex[DIGEST_HEX_SIZE];
        struct error error = {0};
        assert_int_equal(content_digest_read(headers[i], hex, &error), STATUS_OK);
        assert_string_equal(hex, HEX);
    }
}

static void test_other_algorithms_are_ignored(void **state) {
    char hex[DIGEST_HEX_SIZE] = "x";
    struct error error = {0};

    (void)state;
    assert_int_equal(content_digest_read("sha-512=:AAAA:", hex, &error), STATUS_OK);
    assert_string_equal(hex, "");
    assert_int_equal(content_digest_read("", hex, &error), STATUS_OK);
    assert_string_equal(hex, "");
}

static void test_refused(void **state) {
    static const char *const headers[] = {
        "sha-256=",
        "sha-256=:AAAA:",
        "sha-256=" BASE64,
        "sha-256=:" BASE64,
        "sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQA:",
        "sha-256=:LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
        char hex[DIGEST_HEX_SIZE];
        struct error error = {0};
        assert_int_equal(content_digest_read(headers[i], hex, &error), STATUS_INVALID);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_other_algorithms_are_ignored),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
