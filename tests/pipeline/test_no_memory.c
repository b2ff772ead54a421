/* The Nth allocation of a whole job fails, and all after it, for many N over every method: the job ends with an error with words, or does
 * its work; never a crash, never half a file, and (with a sanitizer) never a leak. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/mem.h"
#include "common/rng.h"
#include "server/baselines/methods.h"
#include "server/onnx/onnx_model.h"
#include "tests/pipeline/planted.h"
#include "tests/support/cm.h"

/* Failures tried a method, unless ONP_NO_MEMORY_POINTS says how many: half among the first allocations, half anywhere. */
enum { POINTS = 40 };

struct world {
    struct planted planted;
    char out[PATH_MAX], written[PATH_MAX];
};

static int make_world(void **state) {
    struct world *w = mem_calloc(1, sizeof *w);
    struct error error = {0};
    assert_non_null(w);
    planted_make(&w->planted, true);
    snprintf(w->out, sizeof w->out, "%s", scratch_path(&w->planted.scratch, "out"));
    snprintf(w->written, sizeof w->written, "%s", scratch_path(&w->planted.scratch, "out/model.onnx"));
    assert_int_equal(file_make_dir(w->out, &error), STATUS_OK);
    *state = w;
    return 0;
}

static int remove_world(void **state) {
    struct world *w = *state;
    scratch_remove(&w->planted.scratch);
    mem_free(w);
    return 0;
}

/* One thread, so that the Nth allocation is the same one each time. */
static enum status run(const struct world *w, const char *method, const json_t *parameters, struct error *error) {
    struct mitigate_request request = planted_request(&w->planted, w->out, method, parameters, 3);
    json_t *report = NULL;
    request.threads = 1;
    request.checkpoint = true;
    (void)unlink(w->written);
    const enum status status = methods_run(&request, NULL, &report, error);
    if (status == STATUS_OK) {
        assert_string_equal(json_string_value(json_object_get(report, "method")), method);
    }
    json_decref(report);
    (void)unlink(scratch_path(&w->planted.scratch, "out/" MITIGATE_CHECKPOINT));
    return status;
}

/* The job's model and report are whole, or not there. */
static void check_files(const struct world *w, enum status status) {
    if (status == STATUS_OK) {
        assert_int_equal(access(w->written, R_OK), 0);
    } else if (access(w->written, R_OK) == 0) {
        struct error error = {0};
        char *bytes = NULL;
        size_t length = 0;
        struct onnx_model *model = NULL;
        assert_int_equal(file_read(w->written, (size_t)1 << 26, &bytes, &length, &error), STATUS_OK);
        assert_int_equal(onnx_model_load((const uint8_t *)bytes, length, &onnx_default_limits, &model, &error),
                         STATUS_OK);
        onnx_model_free(model);
        mem_free(bytes);
    }
}

static void fail_over(const struct world *w, const char *method, const char *text) {
    const char *asked = getenv("ONP_NO_MEMORY_POINTS");
    const size_t points = asked != NULL ? (size_t)strtoul(asked, NULL, 10) : POINTS;
    json_t *parameters = json_loads(text, 0, NULL);
    struct error error = {0};
    struct rng rng;
    size_t failed = 0;
    assert_non_null(parameters);
    rng_seed(&rng, 11);
    const uint64_t before = mem_allocation_count();
    if (run(w, method, parameters, &error) != STATUS_OK) {
        fail_msg("%s: %s", method, error.message);
    }
    const uint64_t total = mem_allocation_count() - before, first = total < points ? total : points;
    for (size_t i = 0; i < points; i++) {
        const uint64_t n = 1 + rng_below(&rng, i < points / 2 ? first : total);
        error_clear(&error);
        mem_fail_after(n);
        const enum status status = run(w, method, parameters, &error);
        mem_fail_after(0);
        if (status != STATUS_OK && (status != STATUS_NO_MEMORY || error.message[0] == '\0')) {
            fail_msg("%s, allocation %llu of %llu: status %d, \"%s\"", method, (unsigned long long)n,
                     (unsigned long long)total, (int)status, error.message);
        }
        failed += status != STATUS_OK;
        check_files(w, status);
    }
    /* Some losses are made up for (an entry of the front, a curve's point), most are not. */
    if (2 * failed < points) {
        fail_msg("%s: only %zu of %zu jobs without memory failed", method, failed, points);
    }
    json_decref(parameters);
}

static void onp(void **state) {
    fail_over(
        *state, "onp",
        "{\"iterations\": 2, \"expose_steps\": 4, \"expose_rungs\": 2, \"retune_steps\": 5, \"finetune_steps\": 2,"
        " \"adversary_every\": 1, \"compact\": true}");
}

static void others(void **state) {
    static const struct {
        const char *method, *parameters;
    } cases[] = {{"clp", "{}"},
                 {"random", "{}"},
                 {"fp", "{\"epochs\": 1}"},
                 {"ft", "{\"epochs\": 1}"},
                 {"anp", "{\"mask_steps\": 3}"},
                 {"rnp", "{\"mask_steps\": 3, \"unlearn_epochs\": 1}"},
                 {"nc", "{\"epochs\": 1}"},
                 {"greedy", "{}"},
                 {"evaluate", "{}"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        fail_over(*state, cases[i].method, cases[i].parameters);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(onp),
        cmocka_unit_test(others),
    };
    return cmocka_run_group_tests(tests, make_world, remove_world);
}
