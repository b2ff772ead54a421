/* Whole networks: images a second of the engine, forward, and forward and backward to the input, at batch 100 on 1 and 2 threads.
 *
 *   bench_network MODEL.onnx ...        without one: resnet18-badnets and vgg11-patch of ONP_ZOO (../shared/zoo), if they are there
 *
 * Prints the best and the median of several runs: the best is what the machine can do, the median what it did. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/mem.h"
#include "server/nn/engine.h"
#include "server/nn/loss.h"
#include "server/onnx/onnx_model.h"

enum { BATCH = 100, RUNS = 9 };

static size_t classes;

static void loss(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    static const int32_t target[BATCH] = {0};
    (void)user;
    (void)loss_cross_entropy(n, classes, logits, target + first, 1.0F / BATCH, dlogits);
}

static void ignore(void *user, size_t first, size_t n, const float *x, const float *dx) {
    (void)user, (void)first, (void)n, (void)x, (void)dx;
}

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static enum status measure(const struct network *network, const float *x, size_t threads, bool backward,
                           struct error *error) {
    struct pool *pool = NULL;
    struct engine *engine = NULL;
    const struct engine_options options = {.backward = backward};
    double seconds[RUNS];
    float *logits = mem_alloc(BATCH * classes, sizeof *logits);
    enum status status = logits == NULL ? error_no_memory(error, "logits") : pool_new(threads, &pool, error);
    if (status == STATUS_OK) {
        status = engine_new(network, pool, &options, &engine, error);
    }
    const struct engine_run run = {.count = BATCH,
                                   .input = x,
                                   .logits = logits,
                                   .loss = backward ? loss : NULL,
                                   .input_grad = backward ? ignore : NULL};
    for (int i = -1; i < RUNS && status == STATUS_OK; i++) {
        const double start = clock_seconds();
        status = engine_run(engine, &run, error);
        if (i >= 0) {
            seconds[i] = clock_seconds() - start;
        }
    }
    if (status == STATUS_OK) {
        qsort(seconds, RUNS, sizeof seconds[0], by_value);
        printf("  %zu thread%s  %-18s %7.0f images/s (best %.0f)  chunk %zu, %.1f MB\n", threads,
               threads == 1 ? " " : "s", backward ? "forward + backward" : "forward", BATCH / seconds[RUNS / 2],
               BATCH / seconds[0], engine_chunk(engine), (double)engine_bytes(engine) / 1e6);
    }
    engine_free(engine);
    pool_free(pool);
    mem_free(logits);
    return status;
}

static enum status bench(const char *path, struct error *error) {
    char *bytes = NULL;
    size_t length = 0;
    struct onnx_model *model = NULL;
    float *x = NULL;
    enum status status = file_read(path, onnx_default_limits.max_bytes, &bytes, &length, error);
    if (status == STATUS_OK) {
        status = onnx_model_load((const uint8_t *)bytes, length, &onnx_default_limits, &model, error);
    }
    mem_free(bytes);
    if (status != STATUS_OK) {
        return status;
    }
    const struct network *network = onnx_model_network(model);
    const size_t floats = BATCH * shape_count(&network->values[network->input].shape);
    classes = network->values[network->output].shape.dim[1];
    x = mem_alloc(floats, sizeof *x);
    if (x == NULL) {
        status = error_no_memory(error, "images");
    }
    for (size_t i = 0; i < floats && status == STATUS_OK; i++) {
        x[i] = (float)(i * 2654435761U % 256U) / 255.0F;
    }
    printf("%s: %.1f million multiply-adds an image\n", path, network_macs(network) / 1e6);
    for (size_t threads = 1; threads <= 2 && status == STATUS_OK; threads++) {
        status = measure(network, x, threads, false, error);
        if (status == STATUS_OK) {
            status = measure(network, x, threads, true, error);
        }
    }
    mem_free(x);
    onnx_model_free(model);
    return status;
}

int main(int argc, char **argv) {
    static const char *const usual[] = {"resnet18-badnets", "vgg11-patch"};
    const char *zoo = getenv("ONP_ZOO");
    struct error error = {0};
    enum status status = STATUS_OK;
    for (int i = 1; i < argc && status == STATUS_OK; i++) {
        status = bench(argv[i], &error);
    }
    for (size_t i = 0; argc < 2 && i < 2 && status == STATUS_OK; i++) {
        char path[1024];
        (void)snprintf(path, sizeof path, "%s/%s/model.onnx", zoo == NULL ? "../shared/zoo" : zoo, usual[i]);
        if (access(path, R_OK) == 0) {
            status = bench(path, &error);
        } else {
            printf("%s is not there: set ONP_ZOO\n", path);
        }
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "bench_network: %s: %s\n", error.where, error.message);
    }
    return status == STATUS_OK ? 0 : 1;
}
