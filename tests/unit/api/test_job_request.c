/* The body of POST /v1/jobs: what is taken, and the JSON pointer of what is not. */
#include <stdio.h>
#include <string.h>

#include "server/api/api_internal.h"
#include "tests/support/cm.h"

#define MODEL "\"model_id\": \"mdl_01ARZ3NDEKTSV4RRFFQ69G5FAV\""
#define SAMPLES "\"samples_id\": \"smp_01ARZ3NDEKTSV4RRFFQ69G5FAV\""

static void test_least(void **state) {
    struct store_job_request request;
    struct error error = {0};
    json_t *body = json_loads("{" MODEL ", " SAMPLES ", \"probe_id\": null}", 0, NULL);

    (void)state;
    assert_int_equal(api_job_request_read(body, &request, &error), STATUS_OK);
    assert_string_equal(request.model_id, "mdl_01ARZ3NDEKTSV4RRFFQ69G5FAV");
    assert_string_equal(request.samples_id, "smp_01ARZ3NDEKTSV4RRFFQ69G5FAV");
    assert_null(request.probe_id);
    assert_string_equal(request.method, "onp");
    assert_null(request.parameters);
    assert_null(request.labels);
    assert_int_equal(request.seed, 0);
    assert_int_equal(request.priority, 0);
    assert_true(request.deadline_s <= 0);
    json_decref(body);
}

static void test_all(void **state) {
    struct store_job_request request;
    struct error error = {0};
    json_t *body =
        json_loads("{" MODEL ", " SAMPLES ", \"probe_id\": \"smp_01ARZ3NDEKTSV4RRFFQ69G5FAW\", \"method\": \"clp\","
                   "\"parameters\": {\"a\": 1}, \"seed\": 7, \"priority\": -3, \"labels\": {\"team\": \"x\"},"
                   "\"deadline_s\": 60}",
                   0, NULL);

    (void)state;
    assert_int_equal(api_job_request_read(body, &request, &error), STATUS_OK);
    assert_string_equal(request.probe_id, "smp_01ARZ3NDEKTSV4RRFFQ69G5FAW");
    assert_string_equal(request.method, "clp");
    assert_int_equal(json_object_size(request.parameters), 1);
    assert_int_equal(request.seed, 7);
    assert_int_equal(request.priority, -3);
    assert_string_equal(json_string_value(json_object_get(request.labels, "team")), "x");
    assert_true(request.deadline_s > 59 && request.deadline_s < 61);
    json_decref(body);
}

static void test_refused(void **state) {
    static const struct {
        const char *body, *where;
    } cases[] = {
        {"{}", "/model_id"},
        {"{" MODEL "}", "/samples_id"},
        {"{\"model_id\": 5, " SAMPLES "}", "/model_id"},
        {"{\"model_id\": \"smp_01ARZ3NDEKTSV4RRFFQ69G5FAV\", " SAMPLES "}", "/model_id"},
        {"{" MODEL ", \"samples_id\": \"smp_01arz3ndektsv4rrffq69g5fav\"}", "/samples_id"},
        {"{" MODEL ", " SAMPLES ", \"probe_id\": \"x\"}", "/probe_id"},
        {"{" MODEL ", " SAMPLES ", \"sed\": 1}", "/sed"},
        {"{" MODEL ", " SAMPLES ", \"seed\": -1}", "/seed"},
        {"{" MODEL ", " SAMPLES ", \"seed\": 1.5}", "/seed"},
        {"{" MODEL ", " SAMPLES ", \"priority\": 101}", "/priority"},
        {"{" MODEL ", " SAMPLES ", \"parameters\": []}", "/parameters"},
        {"{" MODEL ", " SAMPLES ", \"deadline_s\": 0}", "/deadline_s"},
        {"{" MODEL ", " SAMPLES ", \"labels\": {\"a\": 1}}", "/labels"},
        {"{" MODEL ", " SAMPLES ", \"labels\": {\"a b\": \"c\"}}", "/labels"},
        {"{" MODEL ", " SAMPLES ", \"labels\": {\"\": \"c\"}}", "/labels"},
        {"{" MODEL ", " SAMPLES ", \"method\": \"123456789012345678901234567890123\"}", "/method"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct store_job_request request;
        struct error error = {0};
        json_t *body = json_loads(cases[i].body, 0, NULL);
        assert_non_null(body);
        assert_int_equal(api_job_request_read(body, &request, &error), STATUS_INVALID);
        assert_string_equal(error.where, cases[i].where);
        json_decref(body);
    }
}

static void test_too_many_labels(void **state) {
    json_t *labels = json_object(), *body = json_pack("{s:s, s:s, s:o}", "model_id", "mdl_01ARZ3NDEKTSV4RRFFQ69G5FAV",
                                                      "samples_id", "smp_01ARZ3NDEKTSV4RRFFQ69G5FAV", "labels", labels);
    struct store_job_request request;
    struct error error = {0};

    (void)state;
    for (int i = 0; i <= STORE_LABELS_MAX; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "k%d", i);
        assert_int_equal(json_object_set_new(labels, key, json_string("v")), 0);
    }
    assert_int_equal(api_job_request_read(body, &request, &error), STATUS_INVALID);
    assert_string_equal(error.where, "/labels");
    json_decref(body);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_least),
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_too_many_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
