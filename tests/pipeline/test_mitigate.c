/* Whole jobs, from files to files, on a network with a planted backdoor of known truth. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "common/digest.h"
#include "common/file.h"
#include "common/mem.h"
#include "server/baselines/methods.h"
#include "server/mitigate/mitigate.h"
#include "server/onnx/onnx_model.h"
#include "tests/pipeline/planted.h"

static const char quick[] = "{\"iterations\": 4, \"masks_per_iteration\": 8}";

/* Runs a job into a folder of its own; the report is the caller's. */
static json_t *run_job_with(const struct planted *w, const char *folder, size_t threads, const char *text) {
    char out[PATH_MAX];
    struct error error = {0};
    json_t *parameters = json_loads(text, 0, NULL), *report = NULL;
    snprintf(out, sizeof out, "%s", scratch_path(&w->scratch, folder));
    assert_int_equal(file_make_dir(out, &error), STATUS_OK);
    struct mitigate_request request = planted_request(w, out, "onp", parameters, 7);
    request.threads = threads;
    const enum status status = methods_run(&request, NULL, &report, &error);
    if (status != STATUS_OK) {
        print_message("%s: %s\n", error.where, error.message);
    }
    assert_int_equal(status, STATUS_OK);
    json_decref(parameters);
    return report;
}

static json_t *run_job(const struct planted *w, const char *folder, size_t threads) {
    return run_job_with(w, folder, threads, quick);
}

static double number(const json_t *report, const char *section, const char *name) {
    const json_t *value = json_object_get(json_object_get(report, section), name);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

static void test_backdoor_is_found_and_removed(void **state) {
    (void)state;
    struct planted w;
    planted_make(&w, true);
    json_t *report = run_job(&w, "out", 2);
    assert_string_equal(json_string_value(json_object_get(report, "verdict")), "removed");
    assert_true(number(report, "accuracy", "before") >= 0.95);
    assert_true(number(report, "accuracy", "after") >= number(report, "accuracy", "before") - 0.02);
    assert_true(number(report, "probe", "asr_before") >= 0.95);
    assert_true(number(report, "probe", "asr_after") <= 0.05);
    assert_true(number(report, "probe", "recovery_after") >= 0.9);
    const json_t *suspects = json_object_get(json_object_get(report, "exposure"), "suspects");
    assert_int_equal(json_array_size(suspects), 1);
    assert_int_equal(json_integer_value(json_array_get(suspects, 0)), PLANTED_TARGET);
    /* The planted channel is gone, in the layer that makes it or in the one it passes through. */
    bool found = false;
    size_t index, at;
    json_t *layer, *channel;
    json_array_foreach(json_object_get(report, "pruned"), index, layer) {
        json_array_foreach(json_object_get(layer, "channels"), at, channel) {
            found = found || json_integer_value(channel) == PLANTED_CHANNEL;
        }
    }
    assert_true(found);
    json_decref(report);
    scratch_remove(&w.scratch);
}

static void test_clean_model_is_left_alone(void **state) {
    (void)state;
    struct planted w;
    planted_make(&w, false);
    json_t *report = run_job(&w, "out", 2);
    assert_string_equal(json_string_value(json_object_get(report, "verdict")), "no_backdoor_found");
    assert_int_equal(json_integer_value(json_object_get(report, "pruned_units")), 0);
    assert_true(number(report, "accuracy", "after") == number(report, "accuracy", "before"));
    json_decref(report);
    scratch_remove(&w.scratch);
}

/* The events of that name of a stage in out/trace.jsonl (all stages: NULL), without their times. */
static json_t *events_of(const struct planted *w, const char *wanted, const char *stage) {
    struct error error = {0};
    json_t *events = json_array();
    char *trace = NULL;
    size_t length = 0;
    assert_int_equal(file_read(scratch_path(&w->scratch, "out/trace.jsonl"), 1 << 24, &trace, &length, &error),
                     STATUS_OK);
    for (char *line = trace, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        json_t *event = json_loadb(line, (size_t)(end - line), 0, NULL);
        const char *name = json_string_value(json_object_get(event, "event"));
        const char *in = json_string_value(json_object_get(event, "stage"));
        if (name != NULL && strcmp(name, wanted) == 0 && (stage == NULL || strcmp(in, stage) == 0)) {
            json_object_del(event, "seconds");
            json_object_del(event, "stage");
            json_array_append(events, event);
        }
        json_decref(event);
    }
    mem_free(trace);
    return events;
}

/* An attack that found nothing is not made again on the same network; on one that was fine-tuned since, it is. */
static void test_adversary_does_not_repeat_itself(void **state) {
    (void)state;
    struct planted w;
    planted_make(&w, true);
    json_decref(run_job(&w, "out", 2));
    json_t *attacks = events_of(&w, "adversary", NULL);
    assert_true(json_array_size(attacks) > 0);
    for (size_t i = 0; i < json_array_size(attacks); i++) {
        for (size_t j = 0; j < i; j++) {
            assert_false(json_equal(json_array_get(attacks, i), json_array_get(attacks, j)));
        }
    }
    json_decref(attacks);
    scratch_remove(&w.scratch);

    planted_make(&w, true);
    json_decref(run_job_with(&w, "out", 2, "{\"iterations\": 0, \"finetune_steps\": 40}"));
    attacks = events_of(&w, "adversary", "evaluate");
    assert_true(json_array_size(attacks) > 0);
    json_decref(attacks);
    scratch_remove(&w.scratch);
}

/* Nothing is pruned, and the rounds of retuning care little for triggers: what then still works is hardened against. */
static void test_what_still_works_is_hardened_against(void **state) {
    (void)state;
    struct planted w;
    planted_make(&w, true);
    json_t *report = run_job_with(
        &w, "out", 2, "{\"warm_start\": false, \"iterations\": 0, \"retune_steps\": 20, \"trigger_weight\": 0.1}");
    json_t *rounds = events_of(&w, "retune", "repair"), *attacks = events_of(&w, "adversary", "repair");
    size_t hardenings = 0;
    for (size_t i = 0; i < json_array_size(rounds); i++) {
        const json_t *round = json_array_get(rounds, i);
        if (json_number_value(json_object_get(round, "clean_weight")) < 1.0) {
            hardenings++;
            assert_true(json_number_value(json_object_get(round, "reward_after")) >
                        json_number_value(json_object_get(round, "reward_before")));
        }
    }
    assert_int_equal(hardenings, 2);
    /* One between the rounds, and one before each hardening. */
    assert_int_equal(json_array_size(attacks), json_array_size(rounds) - 1);
    assert_true(number(report, "accuracy", "after") >= number(report, "accuracy", "before") - 0.01);
    json_decref(rounds);
    json_decref(attacks);
    json_decref(report);
    scratch_remove(&w.scratch);
}

static void digest_of(const struct planted *w, const char *name, char out[DIGEST_HEX_SIZE]) {
    struct error error = {0};
    assert_int_equal(digest_file(scratch_path(&w->scratch, name), out, &error), STATUS_OK);
}

static void test_same_seed_same_bytes_for_any_number_of_threads(void **state) {
    (void)state;
    struct planted w;
    char one[DIGEST_HEX_SIZE], two[DIGEST_HEX_SIZE];
    planted_make(&w, true);
    json_decref(run_job(&w, "a", 1));
    json_decref(run_job(&w, "b", 3));
    digest_of(&w, "a/model.onnx", one);
    digest_of(&w, "b/model.onnx", two);
    assert_string_equal(one, two);
    digest_of(&w, "a/mask.json", one);
    digest_of(&w, "b/mask.json", two);
    assert_string_equal(one, two);
    scratch_remove(&w.scratch);
}

static void test_files_of_a_job(void **state) {
    (void)state;
    struct planted w;
    struct error error = {0};
    planted_make(&w, true);
    json_t *report = run_job(&w, "out", 2);
    json_t *file = json_load_file(scratch_path(&w.scratch, "out/report.json"), 0, NULL);
    assert_non_null(file);
    static const char *const sections[] = {"schema",   "method",  "seed",     "verdict",      "model",
                                           "samples",  "probe",   "pruned",   "pruned_units", "search",
                                           "exposure", "seconds", "accuracy", "provenance"};
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++) {
        assert_non_null(json_object_get(file, sections[i]));
        assert_non_null(json_object_get(report, sections[i]));
    }
    json_t *mask = json_load_file(scratch_path(&w.scratch, "out/mask.json"), 0, NULL);
    assert_true(json_equal(json_object_get(mask, "pruned"), json_object_get(file, "pruned")));
    /* Every line of the trace is a JSON object of its own. */
    char *trace = NULL;
    size_t length = 0, lines = 0;
    assert_int_equal(file_read(scratch_path(&w.scratch, "out/trace.jsonl"), 1 << 24, &trace, &length, &error),
                     STATUS_OK);
    for (char *line = trace, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        json_t *event = json_loadb(line, (size_t)(end - line), 0, NULL);
        assert_true(json_is_object(event));
        json_decref(event);
        lines++;
    }
    assert_true(lines > 12);
    mem_free(trace);
    /* The repaired model says what was done, and is a model. */
    char *bytes = NULL;
    struct onnx_model *model = NULL;
    assert_int_equal(file_read(scratch_path(&w.scratch, "out/model.onnx"), 1 << 24, &bytes, &length, &error),
                     STATUS_OK);
    assert_non_null(memmem(bytes, length, "onp.verdict", 11));
    assert_int_equal(onnx_model_load((const uint8_t *)bytes, length, &onnx_default_limits, &model, &error), STATUS_OK);
    onnx_model_free(model);
    mem_free(bytes);
    json_decref(mask);
    json_decref(file);
    json_decref(report);
    scratch_remove(&w.scratch);
}

struct watcher {
    atomic_bool cancel;
    enum job_stage cancel_at;
    double fraction;
    size_t calls;
    bool backwards;
    unsigned stages; /* bit a stage seen */
};

static void watch(void *user, const struct mitigate_progress *progress) {
    struct watcher *w = user;
    w->calls++;
    w->backwards = w->backwards || progress->fraction < w->fraction;
    w->fraction = progress->fraction;
    w->stages |= 1U << progress->stage;
    if (progress->stage == w->cancel_at) {
        atomic_store(&w->cancel, true);
    }
}

static void test_progress_rises_through_all_stages(void **state) {
    (void)state;
    struct planted w;
    struct error error = {0};
    struct watcher watcher = {.cancel_at = STAGE_COUNT};
    json_t *parameters = json_loads(quick, 0, NULL), *report = NULL;
    planted_make(&w, true);
    const struct mitigate_request request = planted_request(&w, w.scratch.path, "onp", parameters, 7);
    const struct mitigate_hooks hooks = {&watcher, watch, &watcher.cancel};
    assert_int_equal(methods_run(&request, &hooks, &report, &error), STATUS_OK);
    assert_false(watcher.backwards);
    assert_true(watcher.fraction > 0.99);
    assert_int_equal(watcher.stages, (1U << STAGE_COUNT) - 1);
    json_decref(report);
    json_decref(parameters);
    scratch_remove(&w.scratch);
}

static void test_cancel_in_each_stage(void **state) {
    (void)state;
    struct planted w;
    json_t *parameters = json_loads(quick, 0, NULL), *report = NULL;
    planted_make(&w, true);
    const struct mitigate_request request = planted_request(&w, w.scratch.path, "onp", parameters, 7);
    for (enum job_stage s = STAGE_LOAD; s < STAGE_EXPORT; s++) {
        struct error error = {0};
        struct watcher watcher = {.cancel_at = s};
        const struct mitigate_hooks hooks = {&watcher, watch, &watcher.cancel};
        assert_int_equal(methods_run(&request, &hooks, &report, &error), STATUS_CANCELLED);
        assert_null(report);
    }
    json_decref(parameters);
    scratch_remove(&w.scratch);
}

static void test_wrong_files_are_refused_by_name(void **state) {
    (void)state;
    struct planted w;
    planted_make(&w, true);
    json_t *report = NULL;
    struct error error = {0};
    struct mitigate_request request = planted_request(&w, w.scratch.path, "onp", NULL, 7);
    request.model_path = w.samples;
    assert_int_equal(methods_run(&request, NULL, &report, &error), STATUS_INVALID);
    error_clear(&error);
    request = planted_request(&w, w.scratch.path, "onp", NULL, 7);
    request.probe_path = w.samples; /* has no target */
    assert_int_equal(methods_run(&request, NULL, &report, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "target"));
    error_clear(&error);
    request.method = "magic";
    assert_int_equal(methods_run(&request, NULL, &report, &error), STATUS_INVALID);
    assert_null(report);
    scratch_remove(&w.scratch);
}

static void test_checks_of_an_upload(void **state) {
    (void)state;
    struct planted w;
    struct error error = {0};
    json_t *model = NULL, *samples = NULL, *probe = NULL, *graph = NULL;
    planted_make(&w, true);
    assert_int_equal(mitigate_check_model(w.model, &model, &error), STATUS_OK);
    assert_int_equal(mitigate_check_samples(w.samples, &samples, &error), STATUS_OK);
    assert_int_equal(mitigate_check_samples(w.probe, &probe, &error), STATUS_OK);
    assert_int_equal(json_integer_value(json_object_get(model, "units")), 18);
    assert_int_equal(json_integer_value(json_object_get(model, "classes")), 4);
    assert_string_equal(json_string_value(json_object_get(model, "batch")), "dynamic");
    assert_int_equal(json_integer_value(json_object_get(samples, "count")), 120);
    assert_false(json_is_true(json_object_get(samples, "has_target")));
    assert_int_equal(mitigate_check_fit(model, samples, probe, &error), STATUS_OK);
    assert_int_equal(mitigate_check_fit(model, samples, samples, &error), STATUS_INVALID);
    assert_string_equal(error.where, "/probe_id");
    error_clear(&error);
    json_object_set_new(model, "classes", json_integer(3));
    assert_int_equal(mitigate_check_fit(model, samples, NULL, &error), STATUS_INVALID);
    assert_string_equal(error.where, "/samples_id");
    error_clear(&error);
    assert_int_equal(mitigate_describe_graph(w.model, 1, &graph, &error), STATUS_OK);
    assert_int_equal(json_array_size(json_object_get(graph, "layers")), 2);
    assert_true(json_array_size(json_object_get(graph, "edges")) > 0);
    const json_t *layer = json_array_get(json_object_get(graph, "layers"), 1);
    const json_t *node = json_array_get(json_object_get(graph, "nodes"), 0);
    assert_int_equal(json_array_size(json_object_get(graph, "nodes")),
                     json_integer_value(json_object_get(layer, "channels")));
    assert_int_equal(json_integer_value(json_object_get(node, "unit")),
                     json_integer_value(json_object_get(layer, "first")));
    assert_true(json_real_value(json_object_get(json_object_get(node, "features"), "l1")) > 0);
    json_decref(graph);
    assert_int_equal(mitigate_describe_graph(w.model, -1, &graph, &error), STATUS_OK);
    assert_null(json_object_get(graph, "nodes"));
    json_decref(graph);
    assert_int_equal(mitigate_describe_graph(w.model, 2, &graph, &error), STATUS_NOT_FOUND);
    json_decref(model);
    json_decref(samples);
    json_decref(probe);
    scratch_remove(&w.scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backdoor_is_found_and_removed),
        cmocka_unit_test(test_clean_model_is_left_alone),
        cmocka_unit_test(test_same_seed_same_bytes_for_any_number_of_threads),
        cmocka_unit_test(test_adversary_does_not_repeat_itself),
        cmocka_unit_test(test_what_still_works_is_hardened_against),
        cmocka_unit_test(test_files_of_a_job),
        cmocka_unit_test(test_progress_rises_through_all_stages),
        cmocka_unit_test(test_cancel_in_each_stage),
        cmocka_unit_test(test_wrong_files_are_refused_by_name),
        cmocka_unit_test(test_checks_of_an_upload),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
