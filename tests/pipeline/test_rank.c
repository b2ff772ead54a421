/* Ranking in bf16 on trained networks: on at least 99 % of the clean samples it gives the class that f32 gives. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/mem.h"
#include "server/data/samples.h"
#include "server/nn/backend_dnnl.h"
#include "server/nn/engine.h"
#include "server/onnx/onnx_model.h"
#include "tests/support/cm.h"

static const char *const ZOO[] = {"resnet18-badnets", "resnet18-clean", "preact18-wanet", "vgg11-patch"};

enum { SAMPLES_MAX = 300, CHUNK = 16, THREADS = 2 };

static struct onnx_model *load_model(const char *folder) {
    char path[PATH_MAX], *bytes = NULL;
    size_t length = 0;
    struct onnx_model *model = NULL;
    struct error error = {0};
    assert_int_equal(file_join(path, sizeof path, folder, "model.onnx", &error), STATUS_OK);
    if (file_read(path, onnx_default_limits.max_bytes, &bytes, &length, &error) != STATUS_OK ||
        onnx_model_load((const uint8_t *)bytes, length, &onnx_default_limits, &model, &error) != STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    mem_free(bytes);
    return model;
}

/* The clean samples as floats, at most SAMPLES_MAX; the caller's. */
static float *load_images(const char *folder, size_t *count) {
    char path[PATH_MAX];
    struct samples *samples = NULL;
    struct error error = {0};
    assert_int_equal(file_join(path, sizeof path, folder, "clean.npz", &error), STATUS_OK);
    assert_int_equal(samples_load(path, &samples_default_limits, &samples, &error), STATUS_OK);
    const size_t floats = samples->channels * samples->height * samples->width;
    *count = samples->count < SAMPLES_MAX ? samples->count : SAMPLES_MAX;
    float *images = mem_alloc(*count * floats, sizeof *images);
    assert_non_null(images);
    for (size_t i = 0; i < *count; i++) {
        samples_fetch(samples, &i, 1, images + i * floats);
    }
    samples_free(samples);
    return images;
}

static size_t class_of(const float *logits, size_t classes) {
    size_t best = 0;
    for (size_t k = 1; k < classes; k++) {
        best = logits[k] > logits[best] ? k : best;
    }
    return best;
}

static void check(const char *name, const char *folder) {
    struct onnx_model *model = load_model(folder);
    const struct network *network = onnx_model_network(model);
    const size_t classes = network->values[network->output].shape.dim[1];
    size_t count = 0, agree = 0, differ = 0;
    float *images = load_images(folder, &count), *logits[2];
    struct pool *pool = NULL;
    struct error error = {0};
    assert_int_equal(pool_new(THREADS, &pool, &error), STATUS_OK);
    struct engine *engine = NULL;
    assert_int_equal(engine_new(network, pool, &(struct engine_options){.chunk = CHUNK, .rank = true}, &engine, &error),
                     STATUS_OK);
    for (size_t i = 0; i < 2; i++) {
        logits[i] = mem_calloc(count * classes, sizeof(float));
        assert_non_null(logits[i]);
        const struct engine_run run = {.count = count, .input = images, .logits = logits[i], .rank = i == 1};
        assert_int_equal(engine_run(engine, &run, &error), STATUS_OK);
    }
    for (size_t i = 0; i < count; i++) {
        agree += class_of(logits[0] + i * classes, classes) == class_of(logits[1] + i * classes, classes) ? 1 : 0;
        differ += logits[0][i * classes] != logits[1][i * classes] ? 1 : 0;
    }
    (void)printf("%s: %zu of %zu samples have the class of f32\n", name, agree, count);
    assert_true(agree * 100 >= count * 99);
    assert_true(differ > 0); /* it was bf16 indeed */
    mem_free(logits[0]);
    mem_free(logits[1]);
    engine_free(engine);
    pool_free(pool);
    mem_free(images);
    onnx_model_free(model);
}

static void test_zoo(void **state) {
    (void)state;
    const char *zoo = getenv("ONP_ZOO");
    struct stat info;
    if (backend_dnnl_bf16() == BACKEND_DNNL_BF16_NONE) {
        (void)printf("skipped: this CPU does not multiply bf16\n");
        skip();
    }
    assert_int_equal(setenv("ONP_BACKEND", "dnnl", 1), 0);
    for (size_t i = 0; i < sizeof ZOO / sizeof ZOO[0]; i++) {
        char folder[PATH_MAX];
        (void)snprintf(folder, sizeof folder, "%s/%s", zoo != NULL ? zoo : "../shared/zoo", ZOO[i]);
        if (stat(folder, &info) != 0) {
            (void)printf("skipped: no %s (set ONP_ZOO to the folder of the zoo)\n", folder);
            skip();
        }
        check(ZOO[i], folder);
    }
    assert_int_equal(unsetenv("ONP_BACKEND"), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_zoo)};
    return cmocka_run_group_tests_name("pipeline: rank", tests, NULL, NULL);
}
