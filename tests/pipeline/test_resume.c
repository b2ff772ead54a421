/* A job that was stopped and goes on from its checkpoint ends as one that was never disturbed. */
#include "tests/support/cm.h"

#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/file.h"
#include "common/mem.h"
#include "server/baselines/methods.h"
#include "server/mitigate/mitigate.h"
#include "tests/pipeline/planted.h"

static const char quick[] =
    "{\"iterations\": 5, \"masks_per_iteration\": 6, \"adversary_every\": 2, \"retune_steps\": 20}";

struct world {
    struct planted planted;
    char checkpoint[PATH_MAX];
    json_t *parameters;
};

static void world_make(struct world *w) {
    planted_make(&w->planted, true);
    snprintf(w->checkpoint, sizeof w->checkpoint, "%s", scratch_path(&w->planted.scratch, "checkpoint"));
    w->parameters = json_loads(quick, 0, NULL);
    assert_non_null(w->parameters);
}

static void world_remove(struct world *w) {
    json_decref(w->parameters);
    scratch_remove(&w->planted.scratch);
}

/* Cancels at the call of the progress hook that it is told. */
struct stopper {
    atomic_bool cancel;
    size_t calls, stop_at;
};

static void watch(void *user, const struct mitigate_progress *progress) {
    struct stopper *s = user;
    (void)progress;
    if (++s->calls == s->stop_at) {
        atomic_store(&s->cancel, true);
    }
}

static enum status run(const struct world *w, const char *folder, const char *checkpoint, uint64_t seed,
                       struct stopper *stopper, json_t **report) {
    char out[PATH_MAX];
    struct error error = {0};
    snprintf(out, sizeof out, "%s", scratch_path(&w->planted.scratch, folder));
    assert_int_equal(file_make_dir(out, &error), STATUS_OK);
    struct mitigate_request request = planted_request(&w->planted, out, "onp", w->parameters, seed);
    request.checkpoint = checkpoint != NULL;
    char own[PATH_MAX];
    snprintf(own, sizeof own, "%.*s/%s", (int)sizeof own - 32, out, MITIGATE_CHECKPOINT);
    if (checkpoint != NULL) {
        (void)rename(checkpoint, own); /* as the daemon does between two attempts */
    }
    const struct mitigate_hooks hooks = {stopper, stopper != NULL ? watch : NULL,
                                         stopper != NULL ? &stopper->cancel : NULL};
    const enum status status = methods_run(&request, &hooks, report, &error);
    if (checkpoint != NULL) {
        (void)rename(own, checkpoint);
    }
    if (status != STATUS_OK && status != STATUS_CANCELLED) {
        print_message("%s: %s\n", error.where, error.message);
    }
    return status;
}

/* Seconds, memory and the counts of the checkpoint may differ, nothing else. */
static void forget_costs(json_t *report) {
    json_object_del(report, "seconds");
    json_object_del(json_object_get(report, "provenance"), "peak_memory_bytes");
}

static void assert_same_result(const struct world *w, const char *a, const char *b, json_t *report_a,
                               json_t *report_b) {
    static const char *const files[] = {"model.onnx", "mask.json"};
    for (size_t i = 0; i < 2; i++) {
        char path[64], digest_a[DIGEST_HEX_SIZE], digest_b[DIGEST_HEX_SIZE];
        struct error error = {0};
        snprintf(path, sizeof path, "%s/%s", a, files[i]);
        assert_int_equal(digest_file(scratch_path(&w->planted.scratch, path), digest_a, &error), STATUS_OK);
        snprintf(path, sizeof path, "%s/%s", b, files[i]);
        assert_int_equal(digest_file(scratch_path(&w->planted.scratch, path), digest_b, &error), STATUS_OK);
        assert_string_equal(digest_a, digest_b);
    }
    forget_costs(report_a);
    forget_costs(report_b);
    assert_true(json_equal(report_a, report_b));
}

/* What the trace of a finished job says of its checkpoint. */
static void counts_of(const struct world *w, const char *folder, long *recalled, long *computed) {
    char path[64], *text = NULL;
    size_t length = 0;
    struct error error = {0};
    *recalled = *computed = -1;
    snprintf(path, sizeof path, "%s/trace.jsonl", folder);
    assert_int_equal(file_read(scratch_path(&w->planted.scratch, path), 1 << 24, &text, &length, &error), STATUS_OK);
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        json_t *event = json_loadb(line, (size_t)(end - line), 0, NULL);
        const char *name = json_string_value(json_object_get(event, "event"));
        if (name != NULL && strcmp(name, "checkpoint") == 0) {
            *recalled = (long)json_integer_value(json_object_get(event, "recalled"));
            *computed = (long)json_integer_value(json_object_get(event, "computed"));
        }
        json_decref(event);
    }
    mem_free(text);
}

static void test_a_checkpoint_changes_nothing(void **state) {
    (void)state;
    struct world w;
    json_t *without = NULL, *with = NULL, *again = NULL;
    long recalled, computed;
    world_make(&w);
    assert_int_equal(run(&w, "a", NULL, 7, NULL, &without), STATUS_OK);
    assert_int_equal(run(&w, "b", w.checkpoint, 7, NULL, &with), STATUS_OK);
    assert_same_result(&w, "a", "b", without, with);
    counts_of(&w, "b", &recalled, &computed);
    assert_int_equal(recalled, 0);
    assert_true(computed > 40);
    /* All of it is recalled by a second run. */
    const long all = computed;
    assert_int_equal(run(&w, "c", w.checkpoint, 7, NULL, &again), STATUS_OK);
    assert_same_result(&w, "a", "c", without, again);
    counts_of(&w, "c", &recalled, &computed);
    assert_int_equal(recalled, all);
    assert_int_equal(computed, 0);
    json_decref(without);
    json_decref(with);
    json_decref(again);
    world_remove(&w);
}

static void test_stopped_many_times_it_ends_the_same(void **state) {
    (void)state;
    struct world w;
    json_t *undisturbed = NULL, *report = NULL;
    struct stopper stopper = {0};
    size_t stops = 0;
    long recalled, computed;
    world_make(&w);
    assert_int_equal(run(&w, "a", NULL, 7, NULL, &undisturbed), STATUS_OK);
    /* Each attempt gets a little further than the one before. Every stage calls the hook at its start at least. */
    for (size_t stop_at = 2;; stop_at += 2) {
        stopper.calls = 0;
        stopper.stop_at = stop_at;
        atomic_store(&stopper.cancel, false);
        const enum status status = run(&w, "b", w.checkpoint, 7, &stopper, &report);
        if (status == STATUS_OK) {
            break;
        }
        assert_int_equal(status, STATUS_CANCELLED);
        stops++;
    }
    assert_true(stops >= STAGE_COUNT / 2);
    counts_of(&w, "b", &recalled, &computed);
    assert_true(recalled > 40);
    assert_same_result(&w, "a", "b", undisturbed, report);
    json_decref(undisturbed);
    json_decref(report);
    world_remove(&w);
}

static void test_cut_anywhere_it_ends_the_same(void **state) {
    (void)state;
    struct world w;
    struct stat info;
    json_t *first = NULL, *second = NULL, *other = NULL;
    long recalled, computed;
    world_make(&w);
    assert_int_equal(run(&w, "a", w.checkpoint, 7, NULL, &first), STATUS_OK);
    counts_of(&w, "a", &recalled, &computed);
    const long all = computed;
    /* As a kill in the middle of exposing, of searching, of repairing, and of a write leaves it. */
    for (int part = 5; part > 0; part--) {
        assert_int_equal(stat(w.checkpoint, &info), 0);
        assert_int_equal(truncate(w.checkpoint, info.st_size * part / 6 - part), 0);
        assert_int_equal(run(&w, "b", w.checkpoint, 7, NULL, &second), STATUS_OK);
        counts_of(&w, "b", &recalled, &computed);
        assert_true(recalled > 0 && computed > 0);
        assert_int_equal(recalled + computed, all);
        assert_same_result(&w, "a", "b", first, second);
        json_decref(second);
    }
    /* Another seed is another job. */
    assert_int_equal(run(&w, "c", w.checkpoint, 8, NULL, &other), STATUS_OK);
    counts_of(&w, "c", &recalled, &computed);
    assert_int_equal(recalled, 0);
    json_decref(first);
    json_decref(other);
    world_remove(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_checkpoint_changes_nothing),
        cmocka_unit_test(test_stopped_many_times_it_ends_the_same),
        cmocka_unit_test(test_cut_anywhere_it_ends_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
