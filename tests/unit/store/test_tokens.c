/* Rows of tokens: what they hold, what survives a restart. */
#include <string.h>

#include "common/mem.h"
#include "server/store/store_tokens.h"
#include "tests/unit/store/fixture.h"

static void test_rows(void **state) {
    struct fixture *fixture = *state;
    struct store_token first, second, *list = NULL;
    struct error error = {0};
    char secret[SECRET_SIZE], other[SECRET_SIZE], sha256[DIGEST_HEX_SIZE];
    size_t count = 0;

    assert_int_equal(store_token_create(fixture->store, "x", 1U << SCOPE_READ, 0, secret, &first, &error),
                     STATUS_CONFLICT);
    error_clear(&error);
    assert_int_equal(store_token_create(fixture->store, "x", 0, 0, secret, &first, &error), STATUS_INVALID);
    error_clear(&error);
    assert_int_equal(store_token_create(fixture->store, "\xff", 1U, 0, secret, &first, &error), STATUS_INVALID);
    error_clear(&error);
    assert_ok(store_token_create(fixture->store, "chief", 1U << SCOPE_ADMIN, 0, secret, &first, &error), &error);
    assert_ok(store_token_create(fixture->store, "", 1U << SCOPE_READ, 77, other, &second, &error), &error);
    assert_string_not_equal(secret, other);
    assert_int_equal(strlen(secret), SECRET_SIZE - 1);
    digest_bytes(secret, strlen(secret), sha256);
    assert_string_equal(first.sha256, sha256);

    second.used_ms = 99;
    assert_ok(store_token_note_used(fixture->store, &second, 1, &error), &error);
    fixture_reopen(fixture);
    assert_ok(store_token_list(fixture->store, &list, &count, &error), &error);
    assert_int_equal(count, 2);
    assert_string_equal(list[0].id, second.id);
    assert_int_equal(list[0].expires_ms, 77);
    assert_int_equal(list[0].used_ms, 99);
    assert_string_equal(list[1].name, "chief");
    assert_string_equal(list[1].sha256, sha256);
    assert_int_equal(list[1].used_ms, 0);
    mem_free(list);

    assert_int_equal(store_token_revoke(fixture->store, first.id, &error), STATUS_CONFLICT);
    error_clear(&error);
    assert_int_equal(fixture_number(fixture, "SELECT count(*) FROM tokens"), 2);
    assert_ok(store_token_revoke(fixture->store, second.id, &error), &error);
    assert_ok(store_token_revoke(fixture->store, first.id, &error), &error);
    assert_int_equal(store_token_revoke(fixture->store, first.id, &error), STATUS_NOT_FOUND);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rows, fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
