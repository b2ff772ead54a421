/* The same request sent again: one effect, one answer. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/store/store_idempotency.h"
#include "tests/support/cm.h"
#include "tests/support/patience.h"
#include "tests/unit/api/world.h"

#define KEY "Idempotency-Key: first-try\r\n"

static size_t count_jobs(struct world *world) {
    json_t *json = ask(world, "GET", "/v1/jobs", NULL, NULL);
    size_t count = json_array_size(json_object_get(json, "data"));

    json_decref(json);
    return count;
}

static const char *job_body(const struct ids *ids, int seed) {
    static char body[256];

    (void)snprintf(body, sizeof(body), "{\"model_id\":\"%s\",\"samples_id\":\"%s\",\"seed\":%d}", ids->model,
                   ids->samples, seed);
    return body;
}

static void test_jobs(void **state) {
    struct world *world = *state;
    struct ids ids = {0};
    char first[ID_SIZE], location[128];
    const char *answer;
    int code = 0;
    json_t *json;

    upload(world, "/v1/models", "good model", 201, ids.model);
    upload(world, "/v1/samples", "good samples", 201, ids.samples);
    json = ask_with(world, "POST", "/v1/jobs", KEY, job_body(&ids, 1), &code, &answer);
    assert_int_equal(code, 202);
    assert_string_equal(field_of(answer, "Idempotency-Replayed"), "");
    (void)snprintf(first, sizeof(first), "%s", text_of(json, "id"));
    (void)snprintf(location, sizeof(location), "%s", field_of(answer, "Location"));
    json_decref(json);

    json = ask_with(world, "POST", "/v1/jobs", KEY, job_body(&ids, 1), &code, &answer);
    assert_int_equal(code, 202);
    assert_string_equal(text_of(json, "id"), first);
    assert_string_equal(text_of(json, "state"), "queued"); /* as it was answered then */
    assert_string_equal(field_of(answer, "Location"), location);
    assert_string_equal(field_of(answer, "Idempotency-Replayed"), "true");
    json_decref(json);
    assert_int_equal(count_jobs(world), 1);

    json_decref(ask_with(world, "POST", "/v1/jobs", KEY, job_body(&ids, 2), &code, NULL));
    assert_int_equal(code, 422);
    json_decref(ask_with(world, "POST", "/v1/jobs", "Idempotency-Key: other\r\n", job_body(&ids, 1), &code, NULL));
    assert_int_equal(code, 202);
    assert_int_equal(count_jobs(world), 2);
    json_decref(ask_with(world, "POST", "/v1/jobs", "Idempotency-Key: a b\r\n", job_body(&ids, 1), &code, NULL));
    assert_int_equal(code, 400);
}

static void test_errors_are_not_kept(void **state) {
    struct world *world = *state;
    struct ids ids = {0};
    int code = 0;

    upload(world, "/v1/models", "good model", 201, ids.model);
    (void)snprintf(ids.samples, sizeof(ids.samples), "smp_01ARZ3NDEKTSV4RRFFQ69G5FAV");
    json_decref(ask_with(world, "POST", "/v1/jobs", KEY, job_body(&ids, 1), &code, NULL));
    assert_int_equal(code, 422);
    json_decref(ask_with(world, "POST", "/v1/jobs", KEY, job_body(&ids, 1), &code, NULL));
    assert_int_equal(code, 422);
    upload(world, "/v1/samples", "good samples", 201, ids.samples);
    json_decref(ask_with(world, "POST", "/v1/jobs", KEY, job_body(&ids, 1), &code, NULL));
    assert_int_equal(code, 202); /* the key was free */
}

static void test_uploads_and_secrets(void **state) {
    struct world *world = *state;
    const char *answer;
    int code = 0;
    json_t *json;

    json_decref(ask_with(world, "POST", "/v1/models?name=a", KEY, "good bytes", &code, NULL));
    assert_int_equal(code, 201);
    json_decref(ask_with(world, "POST", "/v1/models?name=a", KEY, "good bytes", &code, &answer));
    assert_int_equal(code, 201); /* not 200: it is the first answer */
    assert_string_equal(field_of(answer, "Idempotency-Replayed"), "true");
    json_decref(ask_with(world, "POST", "/v1/models?name=a", KEY, "good others", &code, NULL));
    assert_int_equal(code, 422);
    json_decref(ask_with(world, "POST", "/v1/models?name=b", KEY, "good bytes", &code, NULL));
    assert_int_equal(code, 422);

    json = ask_with(world, "POST", "/v1/tokens", "Idempotency-Key: t\r\n", "{\"scopes\": [\"admin\"]}", &code, NULL);
    assert_int_equal(code, 201);
    assert_non_null(text_of(json, "token"));
    char fields[256];
    (void)snprintf(fields, sizeof(fields), "Authorization: Bearer %s\r\n" KEY, text_of(json, "token"));
    json_decref(json);
    /* A key belongs to who sent it: the same one of another sender is free. */
    json_decref(ask_with(world, "POST", "/v1/models?name=b", fields, "good bytes", &code, &answer));
    assert_int_equal(code, 200);
    assert_string_equal(field_of(answer, "Idempotency-Replayed"), "");
    (void)snprintf(strstr(fields, "Idempotency-Key"), 64, "Idempotency-Key: u\r\n");
    json_decref(ask_with(world, "POST", "/v1/tokens", fields, "{\"scopes\": [\"read\"]}", &code, NULL));
    json = ask_with(world, "POST", "/v1/tokens", fields, "{\"scopes\": [\"read\"]}", &code, NULL);
    assert_int_equal(code, 201);
    assert_non_null(text_of(json, "id"));
    assert_null(text_of(json, "token")); /* shown once */
    json_decref(json);
}

/* Its answer is for nobody. */
static void *send_slow(void *user) {
    struct live *live = user;
    char answer[4096];
    static const char text[] = "POST /v1/models HTTP/1.1\r\n" HEAD KEY "Content-Length: 9\r\n\r\ngood slow";
    int fd = live_connect(live);

    assert_int_equal(write(fd, text, sizeof(text) - 1), (ssize_t)sizeof(text) - 1);
    while (read(fd, answer, sizeof(answer)) > 0) {
    }
    (void)close(fd);
    return NULL;
}

static void test_in_flight(void **state) {
    struct world *world = *state;
    pthread_t thread;
    int code = 0;
    struct patience patience = {0};

    atomic_store(&world->hold_checks, true);
    assert_int_equal(pthread_create(&thread, NULL, send_slow, &world->live), 0);
    while (atomic_load(&world->checks_held) == 0) {
        assert_true(patience_nap(&patience));
    }
    json_decref(ask_with(world, "POST", "/v1/models", KEY, "good slow", &code, NULL));
    assert_int_equal(code, 409);
    atomic_store(&world->hold_checks, false);
    assert_int_equal(pthread_join(thread, NULL), 0);
    while (code == 409 && patience_nap(&patience)) {
        json_decref(ask_with(world, "POST", "/v1/models", KEY, "good slow", &code, NULL));
    }
    assert_int_equal(code, 201);
}

/* The server dies after the job was made and before it was answered. */
static void test_crash(void **state) {
    struct world *world = *state;
    const struct store_idempotency_key key = {"", "k"}, unused = {"", "l"};
    struct ids ids = {0};
    struct store_job_request request = {.method = "onp", .idempotency = &key};
    struct store_job job;
    enum store_idempotency found;
    struct store_answer answer;
    struct error error = {0};

    upload(world, "/v1/models", "good model", 201, ids.model);
    upload(world, "/v1/samples", "good samples", 201, ids.samples);
    request.model_id = ids.model;
    request.samples_id = ids.samples;
    assert_int_equal(store_idempotency_begin(world->store, &key, "f", 1000000, &found, &answer, &error), STATUS_OK);
    assert_int_equal(found, STORE_IDEMPOTENCY_NEW);
    assert_int_equal(store_idempotency_begin(world->store, &unused, "f", 1000000, &found, &answer, &error), STATUS_OK);
    assert_int_equal(store_job_insert(world->store, &request, 0, &job, &error), STATUS_OK);
    assert_int_equal(store_idempotency_begin(world->store, &key, "f", 1000000, &found, &answer, &error), STATUS_OK);
    assert_int_equal(found, STORE_IDEMPOTENCY_BUSY);
    assert_int_equal(store_idempotency_recover(world->store, &error), STATUS_OK);
    assert_int_equal(store_idempotency_begin(world->store, &key, "f", 1000000, &found, &answer, &error), STATUS_OK);
    assert_int_equal(found, STORE_IDEMPOTENCY_REPLAY);
    assert_int_equal(answer.code, 202);
    assert_string_equal(answer.resource, job.id);
    assert_null(answer.body);
    assert_int_equal(store_idempotency_begin(world->store, &unused, "g", 1000000, &found, &answer, &error), STATUS_OK);
    assert_int_equal(found, STORE_IDEMPOTENCY_NEW); /* nothing was done for it */
    (void)usleep(5000);
    assert_int_equal(store_idempotency_begin(world->store, &key, "f", 1, &found, &answer, &error), STATUS_OK);
    assert_int_equal(found, STORE_IDEMPOTENCY_NEW); /* its time is over */
    store_job_deinit(&job);
}

int main(void) {
#define LIVE(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        LIVE(test_jobs),  LIVE(test_errors_are_not_kept), LIVE(test_uploads_and_secrets), LIVE(test_in_flight),
        LIVE(test_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
