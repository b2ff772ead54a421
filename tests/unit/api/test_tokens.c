/* Tokens: scopes, the first one, revoking, expiry, rate. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/api_rate.h"
#include "server/store/store_tokens.h"
#include "tests/support/cm.h"
#include "tests/support/patience.h"
#include "tests/unit/api/world.h"

static char bearer[2][128];

/* Header fields that show this secret. */
static const char *show(int slot, const char *secret) {
    (void)snprintf(bearer[slot], sizeof(bearer[slot]), "Authorization: Bearer %s\r\n", secret);
    return bearer[slot];
}

/* Makes a token and keeps its secret and id. */
static int make(struct world *world, const char *fields, const char *body, char secret[SECRET_SIZE], char id[ID_SIZE]) {
    int code = 0;
    const char *answer;
    json_t *json = ask_with(world, "POST", "/v1/tokens", fields, body, &code, &answer);

    if (code == 201) {
        assert_string_equal(field_of(answer, "Cache-Control"), "no-store");
        (void)snprintf(secret, SECRET_SIZE, "%s", text_of(json, "token"));
        (void)snprintf(id, ID_SIZE, "%s", text_of(json, "id"));
    }
    json_decref(json);
    return code;
}

static int code_with(struct world *world, const char *method, const char *path, const char *fields) {
    int code = 0;

    json_decref(ask_with(world, method, path, fields, NULL, &code, NULL));
    return code;
}

static void test_life(void **state) {
    struct world *world = *state;
    char admin[SECRET_SIZE], reader[SECRET_SIZE], admin_id[ID_SIZE], reader_id[ID_SIZE], path[64];
    const char *answer;
    int code = 0;
    json_t *json;

    assert_true(api_is_open(world->api));
    assert_int_equal(code_of(world, "POST", "/v1/tokens", "{\"scopes\": []}", "/scopes"), 422);
    assert_int_equal(code_of(world, "POST", "/v1/tokens", "{\"scopes\": [\"root\"]}", "/scopes"), 422);
    assert_int_equal(code_of(world, "POST", "/v1/tokens", "{\"scopes\": [\"read\"]}", NULL), 409);
    assert_int_equal(make(world, "", "{\"name\": \"me\", \"scopes\": [\"admin\"]}", admin, admin_id), 201);
    assert_memory_equal(admin, "onp_", 4);

    /* From now on everybody is asked. */
    assert_false(api_is_open(world->api));
    json_decref(ask_with(world, "GET", "/v1/jobs", "", NULL, &code, &answer));
    assert_int_equal(code, 401);
    assert_string_equal(field_of(answer, "WWW-Authenticate"), "Bearer realm=\"onp\"");
    json_decref(ask_with(world, "GET", "/v1/jobs", show(0, "onp_wrong"), NULL, &code, &answer));
    assert_int_equal(code, 401);
    assert_non_null(strstr(field_of(answer, "WWW-Authenticate"), "invalid_token"));
    assert_int_equal(code_of(world, "GET", "/healthz", NULL, NULL), 200);

    assert_int_equal(make(world, show(0, admin), "{\"scopes\": [\"read\"], \"expires_in_s\": null}", reader, reader_id),
                     201);
    assert_int_equal(code_with(world, "GET", "/v1/jobs", show(1, reader)), 200);
    json_decref(ask_with(world, "POST", "/v1/jobs", show(1, reader), "{}", &code, &answer));
    assert_int_equal(code, 403);
    assert_non_null(strstr(field_of(answer, "WWW-Authenticate"), "scope=\"write\""));
    assert_int_equal(code_with(world, "GET", "/metrics", show(1, reader)), 403);
    assert_int_equal(code_with(world, "GET", "/metrics", show(0, admin)), 200);
    assert_int_equal(code_with(world, "GET", "/v1/tokens", show(1, reader)), 403);

    json = ask_with(world, "GET", "/v1/tokens?limit=1", show(0, admin), NULL, &code, NULL);
    assert_string_equal(text_of(json_array_get(json_object_get(json, "data"), 0), "id"), reader_id);
    assert_true(json_is_true(json_object_get(json, "has_more")));
    json_decref(json);
    (void)snprintf(path, sizeof(path), "/v1/tokens?after=%s", reader_id);
    json = ask_with(world, "GET", path, show(0, admin), NULL, &code, NULL);
    assert_int_equal(json_array_size(json_object_get(json, "data")), 1);
    assert_string_equal(text_of(json_array_get(json_object_get(json, "data"), 0), "name"), "me");
    assert_null(json_object_get(json_array_get(json_object_get(json, "data"), 0), "token"));
    assert_non_null(text_of(json_array_get(json_object_get(json, "data"), 0), "last_used_at"));
    json_decref(json);

    (void)snprintf(path, sizeof(path), "/v1/tokens/%s", admin_id);
    assert_int_equal(code_with(world, "DELETE", path, show(0, admin)), 409); /* the last admin */
    (void)snprintf(path, sizeof(path), "/v1/tokens/%s", reader_id);
    assert_int_equal(code_with(world, "GET", path, show(0, admin)), 200);
    assert_int_equal(code_with(world, "DELETE", path, show(0, admin)), 204);
    assert_int_equal(code_with(world, "DELETE", path, show(0, admin)), 404);
    assert_int_equal(code_with(world, "GET", "/v1/jobs", show(1, reader)), 401);
    (void)snprintf(path, sizeof(path), "/v1/tokens/%s", admin_id);
    assert_int_equal(code_with(world, "DELETE", path, show(0, admin)), 204); /* the last of all */
    assert_int_equal(code_of(world, "GET", "/v1/jobs", NULL, NULL), 200);
}

/* Whether the token was good at first: on a slow machine it may be over before it is used. */
static bool expires(struct world *world, int seconds) {
    struct patience patience = {0};
    char secret[SECRET_SIZE], id[ID_SIZE], body[64];

    (void)snprintf(body, sizeof(body), "{\"scopes\": [\"admin\"], \"expires_in_s\": %d}", seconds);
    assert_int_equal(make(world, "", body, secret, id), 201);
    const bool good = code_with(world, "GET", "/v1/jobs", show(0, secret)) == 200;
    while (code_with(world, "GET", "/v1/jobs", show(0, secret)) == 200 && patience_nap(&patience)) {
    }
    assert_int_equal(code_with(world, "GET", "/v1/jobs", show(0, secret)), 401);
    assert_int_equal(code_of(world, "GET", "/v1/jobs", NULL, NULL), 401); /* expired is not open */
    return good;
}

static void test_expiry(void **state) {
    bool good = false;

    for (int seconds = 1; !good; seconds *= 2) {
        assert_true(seconds < 60);
        assert_int_equal(world_setup(state), 0);
        good = expires(*state, seconds);
        assert_int_equal(world_teardown(state), 0);
    }
}

static int setup_configured(void **state) {
    return world_setup_with(state, &(struct api_config){.token = "from the file"});
}

static void test_configured_token(void **state) {
    struct world *world = *state;

    assert_int_equal(code_of(world, "GET", "/v1/jobs", NULL, NULL), 401);
    assert_int_equal(code_with(world, "GET", "/v1/tokens", show(0, "from the file")), 200);
    assert_int_equal(code_with(world, "GET", "/v1/jobs", "Authorization: Basic Zm9v\r\n"), 401);
}

static int setup_limited(void **state) {
    return world_setup_with(state, &(struct api_config){.rate = 0.001, .rate_burst = 3});
}

static void test_rate(void **state) {
    struct world *world = *state;
    const char *answer;
    int code = 0;

    for (int i = 0; i < 3; i++) {
        assert_int_equal(code_of(world, "GET", "/v1/jobs", NULL, NULL), 200);
    }
    json_decref(ask_with(world, "GET", "/v1/jobs", "", NULL, &code, &answer));
    assert_int_equal(code, 429);
    assert_in_range(strtol(field_of(answer, "Retry-After"), NULL, 10), 900, 1000); /* less what has passed */
    assert_int_equal(code_of(world, "GET", "/healthz", NULL, NULL), 200);
}

static void test_buckets(void **state) {
    struct api_rate *rate = api_rate_new(2, 4);
    char name[16];

    (void)state;
    for (int i = 0; i < 4; i++) {
        assert_true(api_rate_take(rate, "a", 10) <= 0);
    }
    assert_float_equal(api_rate_take(rate, "a", 10), 0.5, 1e-9);
    assert_true(api_rate_take(rate, "b", 10) <= 0);
    assert_true(api_rate_take(rate, "a", 10.5) <= 0); /* half a second brought one */
    assert_float_equal(api_rate_take(rate, "a", 10.5), 0.5, 1e-9);
    for (int i = 0; i < 4; i++) {
        assert_true(api_rate_take(rate, "a", 100) <= 0); /* never more than the burst */
    }
    assert_true(api_rate_take(rate, "a", 100) > 0);
    for (int i = 0; i < 20000; i++) { /* far more clients than buckets */
        (void)snprintf(name, sizeof(name), "c%d", i);
        assert_true(api_rate_take(rate, name, 200) <= 0);
    }
    api_rate_free(rate);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_life, world_setup, world_teardown),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test_setup_teardown(test_configured_token, setup_configured, world_teardown),
        cmocka_unit_test_setup_teardown(test_rate, setup_limited, world_teardown),
        cmocka_unit_test(test_buckets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
