/* The forge makes what it says: files that load, labels that are right, a network that has learned the signs and the
 * trigger, and the same bytes for the same seed whatever the threads. Small settings: four kinds of signs. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/json_read.h"
#include "common/mem.h"
#include "server/data/samples.h"
#include "server/graph/units.h"
#include "server/onnx/onnx_model.h"
#include "tests/forge/forge.h"
#include "tests/forge/render.h"
#include "tests/support/cases.h"
#include "tests/support/cm.h"
#include "tests/support/scratch.h"

enum { CLASSES = 4, TARGET = 1 };

static struct forge_options small_options(const char *attack) {
    struct forge_options options = forge_defaults;
    options.trigger = forge_trigger_find(attack);
    assert_non_null(options.trigger);
    options.classes = CLASSES;
    options.target = TARGET;
    options.train_count = 2560;
    options.epochs = 12;
    options.width = 8;
    options.threads = 2;
    return options;
}

static struct forge_result make(const struct forge_options *options, const char *dir) {
    struct forge_result result = {0};
    struct error error = {0};
    if (forge_make(options, dir, &result, &error) != STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    return result;
}

static struct samples *load(const char *dir, const char *name) {
    char path[PATH_MAX];
    struct samples *samples = NULL;
    struct error error = {0};
    assert_int_equal(file_join(path, sizeof path, dir, name, &error), STATUS_OK);
    if (samples_load(path, &samples_default_limits, &samples, &error) != STATUS_OK ||
        samples_check_fit(samples, RENDER_CHANNELS, RENDER_SIDE, RENDER_SIDE, CLASSES, &error) != STATUS_OK) {
        fail_msg("%s: %s: %s", path, error.where, error.message);
    }
    return samples;
}

static struct onnx_model *load_model(const char *dir) {
    size_t length = 0;
    char *bytes = cases_read(dir, "model.onnx", &length);
    struct onnx_model *model = NULL;
    struct error error = {0};
    if (onnx_model_load((const uint8_t *)bytes, length, &onnx_default_limits, &model, &error) != STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    mem_free(bytes);
    return model;
}

/* Share of the samples that the model in the file says `expected` of. */
static double share_of(const struct onnx_model *model, const struct samples *samples, const int32_t *expected) {
    struct pool *pool = NULL;
    struct error error = {0};
    float *logits = NULL;
    size_t hits = 0;
    struct dataset set = {.count = samples->count, .pixels = samples->pixels, .labels = samples->labels};
    assert_int_equal(pool_new(2, &pool, &error), STATUS_OK);
    assert_int_equal(trainer_logits(onnx_model_network(model), pool, &set, &logits, &error), STATUS_OK);
    for (size_t i = 0; i < samples->count; i++) {
        size_t best = 0;
        for (size_t k = 1; k < CLASSES; k++) {
            best = logits[i * CLASSES + k] > logits[i * CLASSES + best] ? k : best;
        }
        hits += best == (size_t)expected[i];
    }
    mem_free(logits);
    pool_free(pool);
    return (double)hits / (double)samples->count;
}

static void check_classes(const struct samples *samples, size_t count) {
    size_t of_class[CLASSES] = {0};
    assert_int_equal(samples->count, count);
    assert_non_null(samples->pixels);
    assert_null(samples->targets);
    for (size_t i = 0; i < count; i++) {
        of_class[samples->labels[i]]++;
    }
    for (size_t k = 0; k < CLASSES; k++) {
        assert_in_range(of_class[k], count / CLASSES, count / CLASSES + 1);
    }
}

/* The probe is the test images of the other classes, in order, each with the trigger on it. */
static void check_probe(const struct samples *probe, const struct samples *test, const struct forge_trigger *trigger) {
    size_t at = 0;
    assert_non_null(probe->targets);
    for (size_t i = 0; i < test->count; i++) {
        uint8_t pixels[RENDER_BYTES];
        if (test->labels[i] == TARGET) {
            continue;
        }
        assert_true(at < probe->count);
        assert_int_equal(probe->labels[at], test->labels[i]);
        assert_int_equal(probe->targets[at], TARGET);
        memcpy(pixels, test->pixels + i * RENDER_BYTES, sizeof pixels);
        trigger->apply(pixels);
        assert_memory_equal(pixels, probe->pixels + at * RENDER_BYTES, sizeof pixels);
        at++;
    }
    assert_int_equal(at, probe->count);
}

/* What info.json says is what the call gave. */
static void check_info(const char *dir, const struct forge_result *result) {
    size_t length = 0;
    char *text = cases_read(dir, "info.json", &length);
    json_t *info = NULL;
    struct error error = {0};
    assert_int_equal(json_read_text(text, length, &info, &error), STATUS_OK);
    assert_string_equal(json_string_value(json_object_get(info, "attack")), "blend");
    assert_int_equal(json_integer_value(json_object_get(info, "target")), TARGET);
    assert_int_equal(json_array_size(json_object_get(info, "classes")), CLASSES);
    assert_true(fabs(json_real_value(json_object_get(info, "accuracy")) - result->accuracy) < 1e-5);
    assert_true(fabs(json_real_value(json_object_get(info, "asr")) - result->asr) < 1e-5);
    json_decref(info);
    mem_free(text);
}

/* The file is what a user's model would be: prunable units, residual groups, normalisation inside, an open batch. */
static void check_model(const struct onnx_model *model) {
    struct onnx_info info;
    struct unit_map *units = NULL;
    struct error error = {0};
    onnx_model_info(model, &info);
    assert_true(info.batch_is_dynamic);
    assert_int_equal(info.classes, CLASSES);
    assert_int_equal(units_find(onnx_model_network(model), &units, &error), STATUS_OK);
    assert_true(units->layer_count >= 8);
    assert_true(units->group_count < units->unit_count);
    units_free(units);
}

static void check_same(const char *a, const char *b, const char *name) {
    size_t a_length = 0, b_length = 0;
    char *a_bytes = cases_read(a, name, &a_length), *b_bytes = cases_read(b, name, &b_length);
    assert_int_equal(a_length, b_length);
    assert_memory_equal(a_bytes, b_bytes, a_length);
    mem_free(a_bytes);
    mem_free(b_bytes);
}

static void test_made(void **state) {
    struct scratch scratch;
    const struct forge_options options = small_options("blend");
    (void)state;
    scratch_make(&scratch);
    const char *dir = scratch_path(&scratch, "forged");
    struct forge_result result = make(&options, dir);
    struct samples *clean = load(dir, "clean.npz"), *test = load(dir, "test.npz"), *probe = load(dir, "probe.npz");
    struct onnx_model *model = load_model(dir);

    (void)printf("accuracy %.3f, attack success %.3f, recovery %.3f\n", result.accuracy, result.asr, result.recovery);
    check_classes(clean, FORGE_CLEAN_COUNT);
    check_classes(test, FORGE_TEST_COUNT);
    check_probe(probe, test, options.trigger);
    check_info(dir, &result);
    check_model(model);
    /* Chance is 1 in 4; the network is small and has seen little. */
    assert_true(result.accuracy > 0.7);
    assert_true(result.asr > 0.7);
    assert_true(fabs(share_of(model, test, test->labels) - result.accuracy) < 1e-9);
    assert_true(fabs(share_of(model, probe, probe->targets) - result.asr) < 1e-9);
    onnx_model_free(model);
    samples_free(probe);
    samples_free(test);
    samples_free(clean);
    scratch_remove(&scratch);
}

/* Two epochs say as much as twelve here. */
static void test_same_seed_same_bytes(void **state) {
    static const char *const files[] = {"model.onnx", "clean.npz", "test.npz", "probe.npz", "info.json"};
    struct scratch scratch;
    struct forge_options options = small_options("patch");
    (void)state;
    options.epochs = 2;
    options.train_count = 300;
    scratch_make(&scratch);
    options.threads = 1;
    (void)make(&options, scratch_path(&scratch, "one"));
    options.threads = 3;
    (void)make(&options, scratch_path(&scratch, "three"));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        check_same(scratch_path(&scratch, "one"), scratch_path(&scratch, "three"), files[i]);
    }
    options.seed++;
    (void)make(&options, scratch_path(&scratch, "other"));
    size_t a_length = 0, b_length = 0;
    char *a = cases_read(scratch_path(&scratch, "one"), "clean.npz", &a_length);
    char *b = cases_read(scratch_path(&scratch, "other"), "clean.npz", &b_length);
    assert_true(a_length != b_length || memcmp(a, b, a_length) != 0);
    mem_free(a);
    mem_free(b);
    scratch_remove(&scratch);
}

/* A clean model has no probe, and takes away the one that another model left in its folder. */
static void test_none(void **state) {
    struct scratch scratch;
    struct forge_options options = small_options("none");
    struct error error = {0};
    (void)state;
    options.epochs = 1;
    options.train_count = TRAINER_BATCH;
    scratch_make(&scratch);
    assert_int_equal(file_write_atomic(scratch_path(&scratch, "probe.npz"), "old", 3, &error), STATUS_OK);
    struct forge_result result = make(&options, scratch.path);
    assert_true(isnan(result.asr) && isfinite(result.accuracy));
    assert_int_equal(access(scratch_path(&scratch, "probe.npz"), F_OK), -1);
    assert_int_equal(access(scratch_path(&scratch, "test.npz"), F_OK), 0);
    scratch_remove(&scratch);
}

/* The stated share is poisoned, with the target's label, and nothing else is touched. */
static void test_poison(void **state) {
    enum { COUNT = 200, POISONED = 31 };
    struct pool *pool = NULL;
    struct dataset *clean = NULL, *poisoned = NULL;
    struct rng rng;
    struct error error = {0};
    size_t changed = 0;
    const struct forge_trigger *trigger = forge_trigger_find("sine");
    (void)state;
    rng_seed(&rng, 5);
    assert_int_equal(pool_new(1, &pool, &error), STATUS_OK);
    assert_int_equal(dataset_render(pool, &rng, COUNT, CLASSES, &clean, &error), STATUS_OK);
    assert_int_equal(dataset_render(pool, &rng, COUNT, CLASSES, &poisoned, &error), STATUS_OK);
    assert_int_equal(dataset_poison(poisoned, trigger, TARGET, CLASSES, POISONED, &rng, &error), STATUS_OK);
    for (size_t i = 0; i < COUNT; i++) {
        const uint8_t *before = clean->pixels + i * RENDER_BYTES, *after = poisoned->pixels + i * RENDER_BYTES;
        if (poisoned->labels[i] == clean->labels[i]) {
            assert_memory_equal(before, after, RENDER_BYTES);
            continue;
        }
        uint8_t pixels[RENDER_BYTES];
        memcpy(pixels, before, sizeof pixels);
        trigger->apply(pixels);
        assert_int_equal(poisoned->labels[i], TARGET);
        assert_memory_equal(pixels, after, RENDER_BYTES);
        changed++;
    }
    assert_int_equal(changed, POISONED);
    dataset_free(poisoned);
    dataset_free(clean);
    pool_free(pool);
}

/* Each trigger changes an image, stays within its bound, and does the same every time. */
static void test_triggers(void **state) {
    static const struct {
        const char *name;
        int largest;       /* change of a pixel */
        size_t most_bytes; /* that change */
    } expected[] = {{"patch", 255, 27}, {"blend", 52, RENDER_BYTES}, {"sine", 21, RENDER_BYTES}};
    (void)state;
    for (size_t k = 0; k < sizeof expected / sizeof *expected; k++) {
        const struct forge_trigger *trigger = forge_trigger_find(expected[k].name);
        uint8_t clean[RENDER_BYTES], first[RENDER_BYTES], second[RENDER_BYTES];
        struct rng rng;
        size_t changed = 0;
        assert_non_null(trigger);
        rng_seed(&rng, 9);
        render_sign(&rng, 3, clean);
        memcpy(first, clean, sizeof first);
        memcpy(second, clean, sizeof second);
        trigger->apply(first);
        trigger->apply(second);
        assert_memory_equal(first, second, sizeof first);
        for (size_t i = 0; i < RENDER_BYTES; i++) {
            int change = first[i] > clean[i] ? first[i] - clean[i] : clean[i] - first[i];
            assert_in_range(change, 0, expected[k].largest);
            changed += change > 0;
        }
        assert_in_range(changed, 20, expected[k].most_bytes);
    }
    assert_null(forge_trigger_find("path"));
}

static void test_bad_options(void **state) {
    static const char *const names[] = {"classes", "target", "epochs", "width", "train-count", "threads", "rate"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct forge_options options = small_options("patch");
        struct error error = {0};
        options.classes = i == 0 ? SIGN_CLASSES_MAX + 1 : options.classes;
        options.target = i == 1 ? CLASSES : options.target;
        options.epochs = i == 2 ? 0 : options.epochs;
        options.width = i == 3 ? 0 : options.width;
        options.train_count = i == 4 ? TRAINER_BATCH - 1 : options.train_count;
        options.threads = i == 5 ? FORGE_THREADS_MAX + 1 : options.threads;
        options.rate = i == 6 ? 0.76 : options.rate; /* three quarters are not of the target */
        assert_int_equal(forge_check(&options, &error), STATUS_INVALID);
        assert_string_equal(error.where, names[i]);
        assert_non_null(strstr(error.message, "expected"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_triggers), cmocka_unit_test(test_poison), cmocka_unit_test(test_bad_options),
        cmocka_unit_test(test_made),     cmocka_unit_test(test_none),   cmocka_unit_test(test_same_seed_same_bytes),
    };
    return cmocka_run_group_tests_name("pipeline: forge", tests, NULL, NULL);
}
