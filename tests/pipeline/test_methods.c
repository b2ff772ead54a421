/* The methods to compare with, compaction and fine-tuning: whole jobs on a network with a planted backdoor of known truth. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "common/file.h"
#include "common/mem.h"
#include "server/baselines/methods.h"
#include "server/onnx/onnx_model.h"
#include "tests/pipeline/planted.h"
#include "tests/support/cm.h"

struct world {
    struct planted planted;
    char out[PATH_MAX];
};

static void world_make(struct world *w) {
    struct error error = {0};
    planted_make(&w->planted, true);
    snprintf(w->out, sizeof w->out, "%s", scratch_path(&w->planted.scratch, "out"));
    assert_int_equal(file_make_dir(w->out, &error), STATUS_OK);
}

/* The report is the caller's. */
static json_t *run(const struct world *w, const char *method, const char *parameters) {
    json_t *object = json_loads(parameters, 0, NULL), *report = NULL;
    struct error error = {0};
    assert_non_null(object);
    const struct mitigate_request request = planted_request(&w->planted, w->out, method, object, 3);
    if (methods_run(&request, NULL, &report, &error) != STATUS_OK) {
        fail_msg("%s: %s: %s", method, error.where, error.message);
    }
    json_decref(object);
    assert_string_equal(json_string_value(json_object_get(report, "method")), method);
    return report;
}

static double number(const json_t *report, const char *section, const char *name) {
    const json_t *value = json_object_get(json_object_get(report, section), name);
    assert_true(json_is_number(value));
    return json_number_value(value);
}

/* The file a job wrote. */
static struct onnx_model *written(const struct world *w) {
    char path[PATH_MAX + 16];
    char *bytes = NULL;
    size_t length = 0;
    struct onnx_model *model = NULL;
    struct error error = {0};
    snprintf(path, sizeof path, "%s/model.onnx", w->out);
    assert_int_equal(file_read(path, (size_t)1 << 26, &bytes, &length, &error), STATUS_OK);
    assert_int_equal(onnx_model_load((const uint8_t *)bytes, length, &onnx_default_limits, &model, &error), STATUS_OK);
    mem_free(bytes);
    return model;
}

static size_t parameters_written(const struct world *w) {
    struct onnx_model *model = written(w);
    const size_t count = network_parameter_count(onnx_model_network(model));
    onnx_model_free(model);
    return count;
}

static void test_evaluate_changes_nothing(void **state) {
    (void)state;
    struct world w;
    world_make(&w);
    json_t *report = run(&w, "evaluate", "{}");
    assert_string_equal(json_string_value(json_object_get(report, "verdict")), "unjudged");
    assert_true(number(report, "probe", "asr_after") == number(report, "probe", "asr_before"));
    assert_true(number(report, "accuracy", "after") == number(report, "accuracy", "before"));
    assert_true(json_is_null(json_object_get(report, "exposure")));
    assert_true(json_is_null(json_object_get(report, "search")));
    assert_int_equal(json_integer_value(json_object_get(report, "pruned_units")), 0);
    json_decref(report);
    scratch_remove(&w.planted.scratch);
}

static void test_methods_that_prune_keep_accuracy(void **state) {
    (void)state;
    static const struct {
        const char *method, *parameters;
    } cases[] = {{"clp", "{\"deviations\": 1.5}"},
                 {"random", "{\"accuracy_drop\": 0.0}"},
                 {"fp", "{\"epochs\": 0}"},
                 {"anp", "{\"mask_steps\": 40}"},
                 {"rnp", "{\"mask_steps\": 20, \"unlearn_epochs\": 5}"}};
    struct world w;
    world_make(&w);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *report = run(&w, cases[i].method, cases[i].parameters);
        /* What they prune is chosen by the accuracy on a fifth of the samples, clp by nothing. */
        if (strcmp(cases[i].method, "clp") != 0 &&
            !(number(report, "accuracy", "after") >= number(report, "accuracy", "before") - 0.1)) {
            fail_msg("%s: accuracy %g", cases[i].method, number(report, "accuracy", "after"));
        }
        json_decref(report);
    }
    scratch_remove(&w.planted.scratch);
}

/* The planted channel outweighs all others: its Lipschitz constant is the outlier that the method looks for. */
static void test_lipschitz_finds_the_planted_channel(void **state) {
    (void)state;
    struct world w;
    world_make(&w);
    json_t *report = run(&w, "clp", "{\"deviations\": 1.5}");
    assert_true(json_integer_value(json_object_get(report, "pruned_units")) >= 1);
    assert_true(number(report, "probe", "asr_before") >= 0.95);
    assert_true(number(report, "probe", "asr_after") <= 0.05);
    json_decref(report);
    scratch_remove(&w.planted.scratch);
}

static void test_trained_weights_are_exported(void **state) {
    (void)state;
    struct world w;
    world_make(&w);
    json_t *report = run(&w, "ft", "{\"epochs\": 2, \"learning_rate\": 0.001}");
    /* The job compares the written file's logits with its own: here only that something changed, and not for the worse. */
    struct onnx_model *model = written(&w);
    const struct network *network = onnx_model_network(model);
    char *bytes = NULL;
    size_t length = 0, changed = 0;
    struct onnx_model *before = NULL;
    struct error error = {0};
    assert_int_equal(file_read(w.planted.model, (size_t)1 << 26, &bytes, &length, &error), STATUS_OK);
    assert_int_equal(onnx_model_load((const uint8_t *)bytes, length, &onnx_default_limits, &before, &error), STATUS_OK);
    const struct network *old = onnx_model_network(before);
    assert_int_equal(network->value_count, old->value_count);
    for (size_t v = 0; v < network->value_count; v++) {
        changed += network->values[v].kind == VALUE_CONSTANT &&
                   memcmp(network->values[v].data, old->values[v].data,
                          shape_count(&old->values[v].shape) * sizeof(float)) != 0;
    }
    assert_true(changed > 0);
    assert_true(number(report, "accuracy", "after") >= number(report, "accuracy", "before") - 0.1);
    mem_free(bytes);
    onnx_model_free(model);
    onnx_model_free(before);
    json_decref(report);
    scratch_remove(&w.planted.scratch);
}

static void test_cleanse_flags_the_target(void **state) {
    (void)state;
    struct world w;
    world_make(&w);
    json_t *report = run(&w, "nc", "{\"epochs\": 3, \"learning_rate\": 0.001}");
    const json_t *classes = json_object_get(json_object_get(report, "details"), "classes");
    const json_t *target = json_array_get(classes, PLANTED_TARGET);
    assert_true(json_is_true(json_object_get(target, "flagged")));
    json_decref(report);
    scratch_remove(&w.planted.scratch);
}

static void test_compact_model_is_smaller(void **state) {
    (void)state;
    struct world w;
    world_make(&w);
    const char *parameters = "{\"iterations\": 0, \"finetune_steps\": 4, \"compact\": true}";
    json_t *report = run(&w, "onp", parameters), *compact = json_object_get(report, "compact");
    assert_true(json_integer_value(json_object_get(report, "pruned_units")) >= 1);
    assert_true(number(report, "probe", "asr_after") <= 0.05);
    assert_true(json_is_object(compact));
    const json_int_t before = json_integer_value(json_object_get(compact, "parameters_before"));
    const json_int_t after = json_integer_value(json_object_get(compact, "parameters_after"));
    if (json_is_true(json_object_get(compact, "applied"))) {
        assert_true(after < before);
        assert_true(json_number_value(json_object_get(compact, "largest_difference")) <= 1e-4);
    } else {
        assert_int_equal(json_integer_value(json_object_get(compact, "removed_channels")), 0);
    }
    assert_int_equal(parameters_written(&w), after);
    json_decref(report);
    /* The channels that random order prunes have constants of 0: they all go. */
    report = run(&w, "random", "{\"accuracy_drop\": 1.0, \"compact\": true, \"max_accuracy_drop\": 1.0}");
    compact = json_object_get(report, "compact");
    assert_true(json_is_true(json_object_get(compact, "applied")));
    assert_true(json_integer_value(json_object_get(compact, "parameters_after")) < before);
    assert_int_equal(parameters_written(&w), json_integer_value(json_object_get(compact, "parameters_after")));
    json_decref(report);
    scratch_remove(&w.planted.scratch);
}

static void test_table_of_methods(void **state) {
    (void)state;
    static const char *const names[] = {"onp", "fp", "clp", "anp", "rnp", "ft", "nc", "random", "evaluate", "greedy"};
    json_t *list = methods_describe();
    struct error error = {0};
    assert_int_equal(json_array_size(list), sizeof names / sizeof names[0]);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const json_t *row = json_array_get(list, i);
        assert_string_equal(json_string_value(json_object_get(row, "name")), names[i]);
        const char *name = NULL;
        json_t *property = NULL, *defaults = json_object();
        json_object_foreach(json_object_get(json_object_get(row, "parameters"), "properties"), name, property) {
            json_object_set(defaults, name, json_object_get(property, "default"));
        }
        assert_int_equal(methods_check_parameters(names[i], defaults, &error), STATUS_OK);
        assert_int_equal(methods_check_parameters(names[i], NULL, &error), STATUS_OK);
        json_decref(defaults);
    }
    json_decref(list);
    json_t *wrong = json_pack("{s:i}", "iterations", 3);
    assert_int_equal(methods_check_parameters("clp", wrong, &error), STATUS_INVALID);
    assert_non_null(strstr(error.where, "/parameters"));
    json_decref(wrong);
    error_clear(&error);
    assert_int_equal(methods_check_parameters("magic", NULL, &error), STATUS_INVALID);
    assert_string_equal(error.where, "/method");
    assert_non_null(strstr(error.message, "magic"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_of_methods),
        cmocka_unit_test(test_evaluate_changes_nothing),
        cmocka_unit_test(test_methods_that_prune_keep_accuracy),
        cmocka_unit_test(test_lipschitz_finds_the_planted_channel),
        cmocka_unit_test(test_trained_weights_are_exported),
        cmocka_unit_test(test_cleanse_flags_the_target),
        cmocka_unit_test(test_compact_model_is_smaller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
