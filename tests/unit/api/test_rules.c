/* Rules that hold for every resource: preconditions, limits, deadlines, pages of problems, graphs. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "server/http/http_problem.h"
#include "tests/support/cm.h"
#include "tests/support/patience.h"
#include "tests/unit/api/world.h"

static void test_if_match(void **state) {
    struct world *world = *state;
    struct ids ids = {0};
    char path[2][96], fields[160];
    const char *answer;
    int code = 0;

    assert_int_equal(submit(world, &ids, "{}"), 202);
    json_decref(wait_for(world, &ids, "succeeded"));
    (void)snprintf(path[0], sizeof(path[0]), "/v1/jobs/%s", ids.job);
    (void)snprintf(path[1], sizeof(path[1]), "/v1/models/%s", ids.model);
    for (int i = 0; i < 2; i++) {
        json_t *json = ask_with(world, "DELETE", path[i], "If-Match: \"other\"\r\n", NULL, &code, NULL);
        assert_int_equal(code, 412);
        assert_string_equal(text_of(json, "type"), "/problems/precondition-failed");
        json_decref(json);
        json_decref(ask_with(world, "GET", path[i], "If-Match: \"other\"\r\n", NULL, &code, NULL));
        assert_int_equal(code, 412);
        json_decref(ask_with(world, "GET", path[i], "", NULL, &code, &answer));
        (void)snprintf(fields, sizeof(fields), "If-Match: \"other\", %s\r\n", field_of(answer, "ETag"));
        json_decref(ask_with(world, "DELETE", path[i], fields, NULL, &code, NULL));
        assert_int_equal(code, 204);
        json_decref(ask_with(world, "DELETE", path[i], "If-Match: *\r\n", NULL, &code, NULL));
        assert_int_equal(code, 404);
    }
}

static int setup_limited(void **state) {
    return world_setup_with(state, &(struct api_config){.jobs_max = 2});
}

static void test_jobs_of_one_client(void **state) {
    struct world *world = *state;
    struct ids ids = {0};
    const char *answer;
    char body[256];
    int code = 0;

    assert_int_equal(submit(world, &ids, "{\"hang\": true}"), 202);
    assert_int_equal(submit(world, &ids, "{}"), 202);
    (void)snprintf(body, sizeof(body), "{\"model_id\":\"%s\",\"samples_id\":\"%s\"}", ids.model, ids.samples);
    json_decref(ask_with(world, "POST", "/v1/jobs", "", body, &code, &answer));
    assert_int_equal(code, 429);
    assert_string_not_equal(field_of(answer, "Retry-After"), "");
}

/* A job whose time is over before a worker is free. */
static void test_deadline_in_the_queue(void **state) {
    struct world *world = *state;
    struct ids ids = {0};
    char body[256], path[96];
    int code = 0;
    json_t *json;

    assert_int_equal(submit(world, &ids, "{\"hang\": true}"), 202);
    json_decref(wait_for(world, &ids, "running"));
    (void)snprintf(body, sizeof(body), "{\"model_id\":\"%s\",\"samples_id\":\"%s\",\"deadline_s\":1}", ids.model,
                   ids.samples);
    json = ask(world, "POST", "/v1/jobs", body, &code);
    assert_int_equal(code, 202);
    (void)snprintf(path, sizeof(path), "/v1/jobs/%s", text_of(json, "id"));
    json_decref(json);
    struct patience patience = {0};
    json = ask(world, "GET", path, NULL, NULL);
    while (strcmp(text_of(json, "state"), "queued") == 0 && patience_nap(&patience)) {
        json_decref(json);
        json = ask(world, "GET", path, NULL, NULL);
    }
    assert_string_equal(text_of(json, "state"), "failed");
    assert_string_equal(text_of(json_object_get(json, "problem"), "where"), "/deadline_s");
    json_decref(json);
}

static void test_problem_pages(void **state) {
    struct world *world = *state;
    char text[256];
    const char *answer;

    for (size_t i = 0; http_problem_kind(i) != NULL; i++) {
        (void)snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\n" HEAD "\r\n", http_problem_kind(i)->type);
        answer = live_ask(&world->live, text);
        assert_int_equal(live_code(answer), 200);
        assert_non_null(strstr(answer, http_problem_kind(i)->title));
    }
    assert_int_equal(code_of(world, "GET", "/problems/boredom", NULL, NULL), 404);
}

static void test_graph(void **state) {
    struct world *world = *state;
    char id[ID_SIZE], path[96], layer[128];
    int before = world_described(), code = 0;
    json_t *json;

    upload(world, "/v1/models", "good model", 201, id);
    (void)snprintf(path, sizeof(path), "/v1/models/%s/graph", id);
    (void)snprintf(layer, sizeof(layer), "%s?layer=1", path);
    for (int i = 0; i < 2; i++) {
        json = ask(world, "GET", path, NULL, &code);
        assert_int_equal(code, 200);
        assert_int_equal(json_integer_value(json_object_get(json, "asked")), -1);
        json_decref(json);
        json = ask(world, "GET", layer, NULL, &code);
        assert_int_equal(json_integer_value(json_object_get(json, "asked")), 1);
        json_decref(json);
    }
    assert_int_equal(world_described() - before, 2); /* the second ones were kept */
    layer[strlen(layer) - 1] = '2';
    assert_int_equal(code_of(world, "GET", layer, NULL, NULL), 404);
    layer[strlen(layer) - 1] = 'x';
    assert_int_equal(code_of(world, "GET", layer, NULL, NULL), 400);
    path[strlen(path) - strlen("/graph")] = '\0';
    assert_int_equal(code_of(world, "DELETE", path, NULL, NULL), 204);
    upload(world, "/v1/models", "good model", 201, id);
    (void)snprintf(path, sizeof(path), "/v1/models/%s/graph", id);
    assert_int_equal(code_of(world, "GET", path, NULL, NULL), 200);
    assert_int_equal(world_described() - before, 4); /* it went with its model */
}

static int setup_low(void **state) {
    return world_setup_with(state, &(struct api_config){.min_free = (uint64_t)1 << 60});
}

static void test_disk_low(void **state) {
    struct world *world = *state;
    const char *answer;
    int code = 0;

    json_decref(ask_with(world, "POST", "/v1/models", "", "good model", &code, &answer));
    assert_int_equal(code, 503);
    assert_string_not_equal(field_of(answer, "Retry-After"), "");
    assert_int_equal(code_of(world, "GET", "/readyz", NULL, NULL), 503);
    assert_int_equal(code_of(world, "GET", "/v1/models", NULL, NULL), 200);
}

int main(void) {
#define LIVE(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        LIVE(test_if_match),
        cmocka_unit_test_setup_teardown(test_jobs_of_one_client, setup_limited, world_teardown),
        LIVE(test_deadline_in_the_queue),
        LIVE(test_problem_pages),
        LIVE(test_graph),
        cmocka_unit_test_setup_teardown(test_disk_low, setup_low, world_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
