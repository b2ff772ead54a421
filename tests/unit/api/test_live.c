/* The interface from upload to download, over real sockets. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/support/cm.h"
#include "tests/support/patience.h"
#include "tests/unit/api/world.h"

static void test_a_job_from_upload_to_download(void **state) {
    struct world *world = *state;
    struct ids ids = {0};
    char text[256];
    const char *answer;
    json_t *json;

    assert_int_equal(submit(world, &ids, "{}"), 202);
    json = wait_for(world, &ids, "succeeded");
    assert_non_null(text_of(json_object_get(json, "links"), "result"));
    assert_true(json_is_null(json_object_get(json, "problem")));
    assert_non_null(text_of(json, "finished_at"));
    json_decref(json);

    json = ask(world, "GET", job_path(&ids, "/result"), NULL, NULL);
    assert_string_equal(text_of(json, "verdict"), "removed");
    assert_int_equal(json_integer_value(json_object_get(json, "seed")), 7);
    json_decref(json);

    json = ask(world, "GET", job_path(&ids, "/artifacts"), NULL, NULL);
    assert_int_equal(json_array_size(json_object_get(json, "data")), 4);
    json_decref(json);

    (void)snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\n" HEAD "Range: bytes=9-13\r\n\r\n",
                   job_path(&ids, "/artifacts/model.onnx"));
    answer = live_ask(&world->live, text);
    assert_int_equal(live_code(answer), 206);
    assert_string_equal(live_body(answer), "model");
    assert_non_null(strstr(answer, "filename=\"model.onnx\""));
    assert_int_equal(code_of(world, "GET", job_path(&ids, "/artifacts/secret"), NULL, NULL), 404);

    assert_int_equal(code_of(world, "POST", job_path(&ids, "/retry"), NULL, NULL), 409);
    assert_int_equal(code_of(world, "POST", job_path(&ids, "/cancel"), NULL, NULL), 409);
    assert_int_equal(code_of(world, "DELETE", job_path(&ids, ""), NULL, NULL), 204);
    assert_int_equal(code_of(world, "GET", job_path(&ids, "/result"), NULL, NULL), 404);
}

static void test_uploads(void **state) {
    struct world *world = *state;
    char first[ID_SIZE], second[ID_SIZE], path[96];
    json_t *json;
    int code = 0;

    upload(world, "/v1/models?name=a%20name", "good bytes", 201, first);
    upload(world, "/v1/models?name=another", "good bytes", 200, second);
    assert_string_equal(first, second);
    (void)snprintf(path, sizeof(path), "/v1/models/%s", first);
    json = ask(world, "GET", path, NULL, &code);
    assert_int_equal(code, 200);
    assert_string_equal(text_of(json, "name"), "a name");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(json, "info"), "length")), 10);
    json_decref(json);

    json = ask(world, "POST", "/v1/models", "bad bytes", &code);
    assert_int_equal(code, 422);
    assert_string_equal(text_of(json_array_get(json_object_get(json, "errors"), 0), "place"), "node 'loop1'");
    json_decref(json);
    assert_int_equal(code_of(world, "POST", "/v1/models?name=%ff", "good", NULL), 400);
    assert_int_equal(code_of(world, "POST", "/v1/models?nam=x", "good", NULL), 400);
    assert_int_equal(code_of(world, "DELETE", path, NULL, NULL), 204);
    assert_int_equal(code_of(world, "DELETE", path, NULL, NULL), 404);
    assert_int_equal(code_of(world, "GET", "/v1/samples/mdl_01ARZ3NDEKTSV4RRFFQ69G5FAV", NULL, NULL), 404);
}

static void test_pages(void **state) {
    struct world *world = *state;
    char ids[5][ID_SIZE], bytes[16], path[128], after[ID_SIZE] = "";
    size_t seen = 0;
    bool more = true;

    for (int i = 0; i < 5; i++) {
        (void)snprintf(bytes, sizeof(bytes), "good %d", i);
        upload(world, "/v1/samples", bytes, 201, ids[i]);
    }
    while (more) {
        json_t *json, *data;
        (void)snprintf(path, sizeof(path), "/v1/samples?limit=2%s%s", after[0] != '\0' ? "&after=" : "", after);
        json = ask(world, "GET", path, NULL, NULL);
        data = json_object_get(json, "data");
        for (size_t i = 0; i < json_array_size(data); i++) {
            assert_true(seen < 5);
            assert_string_equal(text_of(json_array_get(data, i), "id"), ids[4 - seen]);
            seen++;
        }
        more = json_is_true(json_object_get(json, "has_more"));
        (void)snprintf(after, sizeof(after), "%s", more ? text_of(json, "next_after") : "");
        json_decref(json);
    }
    assert_int_equal(seen, 5);
    assert_int_equal(code_of(world, "GET", "/v1/samples?limit=201", NULL, NULL), 400);
    assert_int_equal(code_of(world, "GET", "/v1/samples?after=mdl_01ARZ3NDEKTSV4RRFFQ69G5FAV", NULL, NULL), 400);
}

static void test_refused_jobs(void **state) {
    static const char many[] =
        "good samples, but there are far too many of them, more than a hundred bytes, which is what "
        "the check refuses";
    struct world *world = *state;
    struct ids ids = {0};
    char body[512];

    assert_int_equal(submit(world, &ids, "{\"wrong\": 1}"), 422);
    (void)snprintf(body, sizeof(body), "{\"model_id\":\"%s\",\"samples_id\":\"%s\",\"method\":\"x\"}", ids.model,
                   ids.samples);
    assert_int_equal(code_of(world, "POST", "/v1/jobs", body, "/method"), 422);
    (void)snprintf(body, sizeof(body), "{\"model_id\":\"mdl_01ARZ3NDEKTSV4RRFFQ69G5FAV\",\"samples_id\":\"%s\"}",
                   ids.samples);
    assert_int_equal(code_of(world, "POST", "/v1/jobs", body, "/model_id"), 422);
    upload(world, "/v1/samples", many, 201, ids.samples);
    (void)snprintf(body, sizeof(body), "{\"model_id\":\"%s\",\"samples_id\":\"%s\"}", ids.model, ids.samples);
    assert_int_equal(code_of(world, "POST", "/v1/jobs", body, "/samples_id"), 422);
}

static void test_failed_job_and_retry(void **state) {
    struct world *world = *state;
    struct ids ids = {0};
    char first[ID_SIZE];
    json_t *json;
    int code = 0;

    assert_int_equal(submit(world, &ids, "{\"fail\": true}"), 202);
    json = wait_for(world, &ids, "failed");
    assert_string_equal(text_of(json_object_get(json, "problem"), "status"), "numeric");
    assert_string_equal(text_of(json_object_get(json, "problem"), "where"), "node 'conv1'");
    json_decref(json);
    assert_int_equal(code_of(world, "GET", job_path(&ids, "/result"), NULL, NULL), 409);
    (void)snprintf(first, sizeof(first), "%s", ids.job);
    json = ask(world, "POST", job_path(&ids, "/retry"), NULL, &code);
    assert_int_equal(code, 202);
    assert_string_not_equal(text_of(json, "id"), first);
    assert_true(json_is_true(json_object_get(json_object_get(json, "parameters"), "fail")));
    json_decref(json);
}

static void test_cancel_and_queue(void **state) {
    struct world *world = *state;
    struct ids running = {0}, waiting;

    assert_int_equal(submit(world, &running, "{\"hang\": true}"), 202);
    json_decref(wait_for(world, &running, "running"));
    waiting = running;
    assert_int_equal(submit(world, &waiting, "{}"), 202);
    assert_int_equal(submit(world, &waiting, "{}"), 202);
    assert_int_equal(submit(world, &waiting, "{}"), 429);
    assert_int_equal(code_of(world, "DELETE", job_path(&running, ""), NULL, NULL), 409);
    assert_int_equal(code_of(world, "POST", job_path(&running, "/cancel"), NULL, NULL), 202);
    json_decref(wait_for(world, &running, "cancelled"));
    assert_int_equal(code_of(world, "POST", job_path(&running, "/cancel"), NULL, NULL), 202);
    json_decref(wait_for(world, &waiting, "succeeded"));
}

/* The stream shows each event once, in order, and ends by itself. */
static void test_event_stream(void **state) {
    struct world *world = *state;
    struct ids ids = {0};
    char text[256];
    const char *answer, *at;
    int expected = 1;

    assert_int_equal(submit(world, &ids, "{}"), 202);
    (void)snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\n" HEAD "Accept: text/event-stream\r\n\r\n",
                   job_path(&ids, "/events"));
    answer = live_talk(&world->live, text, strlen(text), NULL);
    assert_int_equal(live_code(answer), 200);
    for (at = strstr(answer, "\nid: "); at != NULL; at = strstr(at + 1, "\nid: ")) {
        assert_int_equal(strtol(at + 5, NULL, 10), expected);
        expected++;
    }
    assert_true(expected > 4); /* queued, starting, running, succeeded at least */
    assert_non_null(strstr(answer, "event: done\ndata: {"));

    (void)snprintf(text, sizeof(text),
                   "GET %s HTTP/1.1\r\n" HEAD "Accept: text/event-stream\r\nLast-Event-ID: %d\r\n\r\n",
                   job_path(&ids, "/events"), expected - 1);
    answer = live_talk(&world->live, text, strlen(text), NULL);
    assert_null(strstr(answer, "id: "));
    assert_non_null(strstr(answer, "event: done"));
    assert_int_equal(code_of(world, "GET", job_path(&ids, "/events?after=x"), NULL, NULL), 400);
}

/* Until the only progress of a job that hangs is written: it does not change from then on. */
static void wait_for_progress(struct world *world, const struct ids *ids) {
    struct patience patience = {0};
    bool there = false;

    while (!there && patience_nap(&patience)) {
        json_t *json = ask(world, "GET", job_path(ids, ""), NULL, NULL);
        const char *message = text_of(json_object_get(json, "progress"), "message");
        there = message != NULL && strcmp(message, "half") == 0;
        json_decref(json);
    }
    assert_true(there);
}

static void test_long_poll(void **state) {
    struct world *world = *state;
    struct ids ids = {0};
    char text[384], etag[80];
    const char *answer, *at;
    double start;

    assert_int_equal(submit(world, &ids, "{\"hang\": true}"), 202);
    json_decref(wait_for(world, &ids, "running"));
    wait_for_progress(world, &ids);
    (void)snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\n" HEAD "\r\n", job_path(&ids, ""));
    answer = live_ask(&world->live, text);
    at = strstr(answer, "ETag: ");
    assert_non_null(at);
    (void)snprintf(etag, sizeof(etag), "%.*s", (int)strcspn(at + 6, "\r"), at + 6);
    (void)snprintf(text, sizeof(text), "GET %s HTTP/1.1\r\n" HEAD "If-None-Match: %s\r\n\r\n",
                   job_path(&ids, "?wait=1"), etag);
    start = clock_seconds();
    answer = live_ask(&world->live, text);
    assert_int_equal(live_code(answer), 304);
    assert_true(clock_seconds() - start > 0.9);
    assert_int_equal(code_of(world, "POST", job_path(&ids, "/cancel"), NULL, NULL), 202);
    answer = live_ask(&world->live, text);
    assert_int_equal(live_code(answer), 200);
    assert_int_equal(code_of(world, "GET", job_path(&ids, "?wait=11"), NULL, NULL), 400);
}

static void test_guard(void **state) {
    struct world *world = *state;

    assert_int_equal(
        live_code(live_ask(&world->live, "GET /v1/jobs HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")),
        403);
    assert_int_equal(live_code(live_ask(&world->live, "GET /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n"
                                                      "Connection: close\r\n\r\n")),
                     403);
    assert_int_equal(
        live_code(live_ask(&world->live, "GET /v1/jobs HTTP/1.1\r\nHost: [::1]:80\r\nConnection: close\r\n\r\n")), 200);
    assert_int_equal(live_code(live_ask(&world->live, "POST /v1/jobs HTTP/1.1\r\nOrigin: http://a.example\r\n" HEAD
                                                      "Content-Length: 0\r\n\r\n")),
                     403);
    assert_int_equal(live_code(live_ask(&world->live, "POST /v1/jobs HTTP/1.1\r\nOrigin: http://localhost\r\n" HEAD
                                                      "Content-Length: 0\r\n\r\n")),
                     400);
}

static void test_operations(void **state) {
    struct world *world = *state;
    json_t *json;

    assert_int_equal(code_of(world, "GET", "/healthz", NULL, NULL), 200);
    assert_int_equal(code_of(world, "GET", "/readyz", NULL, NULL), 200);
    assert_int_equal(code_of(world, "GET", "/v2/health/ready", NULL, NULL), 200);
    json = ask(world, "GET", "/v1/capabilities", NULL, NULL);
    assert_int_equal(json_array_size(json_object_get(json, "operators")), 2);
    assert_int_equal(json_array_size(json_object_get(json, "stages")), STAGE_COUNT);
    json_decref(json);
    assert_non_null(
        strstr(live_ask(&world->live, "GET /metrics HTTP/1.1\r\n" HEAD "\r\n"), "onpd_jobs{state=\"queued\"} 0\n"));
    assert_int_equal(live_code(live_ask(&world->live, "GET /ui/style.css HTTP/1.1\r\n" HEAD "\r\n")), 200);
    assert_int_equal(live_code(live_ask(&world->live, "GET /ui/none.js HTTP/1.1\r\n" HEAD "\r\n")), 404);
}

int main(void) {
#define LIVE(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        LIVE(test_a_job_from_upload_to_download),
        LIVE(test_uploads),
        LIVE(test_pages),
        LIVE(test_refused_jobs),
        LIVE(test_failed_job_and_retry),
        LIVE(test_cancel_and_queue),
        LIVE(test_event_stream),
        LIVE(test_long_poll),
        LIVE(test_guard),
        LIVE(test_operations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
