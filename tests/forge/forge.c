/* From options to a folder: see forge.h. */
#include "tests/forge/forge.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/json_read.h"
#include "common/mem.h"
#include "common/words.h"
#include "server/evaluate/metrics.h"
#include "server/onnx/onnx_model.h"
#include "tests/forge/classifier.h"
#include "tests/forge/render.h"

/* Each part has its own stream of the seed, so that a change of one leaves the others alone. */
enum { STREAM_TRAIN = 1, STREAM_CLEAN, STREAM_TEST, STREAM_POISON, STREAM_WEIGHTS, STREAM_TRAINING, STREAM_SHEET };
enum { SHEET_COLUMNS = 24, SHEET_TRIGGERED = 6, MODEL_MAX = 256 << 20 };

const struct forge_options forge_defaults = {
    .rate = 0.1, .target = 0, .seed = 1, .classes = 10, .epochs = 12, .width = 16, .train_count = 10000};

struct forge {
    const struct forge_options *options;
    const char *dir;
    struct rng root;
    struct pool *pool;
    struct dataset *train, *clean, *test, *probe; /* probe NULL without a trigger */
    struct network *network;
    struct onnx_model *exported; /* read back from the file */
};

static enum status check_number(const char *name, uint64_t got, uint64_t low, uint64_t high, struct error *error) {
    if (got < low || got > high) {
        return error_set(error, STATUS_INVALID, name, "failed to read option --%s: got %llu, expected %llu to %llu",
                         name, (unsigned long long)got, (unsigned long long)low, (unsigned long long)high);
    }
    return STATUS_OK;
}

enum status forge_check(const struct forge_options *options, struct error *error) {
    const struct {
        const char *name;
        uint64_t got, low, high;
    } numbers[] = {
        {"classes", options->classes, FORGE_CLASSES_MIN, SIGN_CLASSES_MAX},
        {"target", options->target, 0, options->classes - 1},
        {"epochs", options->epochs, 1, FORGE_EPOCHS_MAX},
        {"width", options->width, 1, FORGE_WIDTH_MAX},
        {"train-count", options->train_count, TRAINER_BATCH, FORGE_TRAIN_MAX},
        {"threads", options->threads, 0, FORGE_THREADS_MAX},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        enum status status = check_number(numbers[i].name, numbers[i].got, numbers[i].low, numbers[i].high, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    /* Only images of the other classes can be poisoned. */
    double most = 1.0 - 1.0 / (double)options->classes;
    if (!(options->rate >= 0.0 && options->rate <= most)) {
        return error_set(error, STATUS_INVALID, "rate", "failed to read option --rate: got %g, expected 0 to %g",
                         options->rate, most);
    }
    return STATUS_OK;
}

static enum status render_all(struct forge *forge, struct error *error) {
    const struct forge_options *options = forge->options;
    const struct {
        uint64_t stream;
        size_t count;
        struct dataset **out;
    } sets[] = {{STREAM_TRAIN, (size_t)options->train_count, &forge->train},
                {STREAM_CLEAN, FORGE_CLEAN_COUNT, &forge->clean},
                {STREAM_TEST, FORGE_TEST_COUNT, &forge->test}};
    enum status status = STATUS_OK;

    for (size_t i = 0; i < sizeof sets / sizeof *sets && status == STATUS_OK; i++) {
        struct rng rng = rng_stream(&forge->root, sets[i].stream);
        status = dataset_render(forge->pool, &rng, sets[i].count, (size_t)options->classes, sets[i].out, error);
    }
    if (status == STATUS_OK && options->trigger->apply != NULL) {
        struct rng rng = rng_stream(&forge->root, STREAM_POISON);
        size_t count = (size_t)(options->rate * (double)options->train_count + 0.5);
        status = dataset_poison(forge->train, options->trigger, (int32_t)options->target, (size_t)options->classes,
                                count, &rng, error);
        if (status == STATUS_OK) {
            status = dataset_trigger(forge->test, options->trigger, (int32_t)options->target, (size_t)options->classes,
                                     &forge->probe, error);
        }
    }
    return status;
}

static enum status train(struct forge *forge, struct error *error) {
    const struct forge_options *options = forge->options;
    struct rng weights = rng_stream(&forge->root, STREAM_WEIGHTS);
    struct rng training = rng_stream(&forge->root, STREAM_TRAINING);
    enum status status = classifier_new((size_t)options->width, (size_t)options->classes, options->plain, &weights,
                                        &forge->network, error);
    if (status != STATUS_OK) {
        return status;
    }
    return trainer_run(forge->network, forge->pool, forge->train,
                       &(struct trainer_options){.epochs = (size_t)options->epochs, .report = options->report},
                       &training, error);
}

/* Writes the model and reads the file back. */
static enum status write_model(struct forge *forge, struct error *error) {
    char path[PATH_MAX];
    uint8_t *bytes = NULL;
    char *read_back = NULL;
    size_t length = 0;
    enum status status = file_join(path, sizeof path, forge->dir, "model.onnx", error);

    if (status == STATUS_OK) {
        status = onnx_export(forge->network, "onp-forge " ONP_VERSION, &bytes, &length, error);
    }
    if (status == STATUS_OK) {
        status = file_write_atomic(path, bytes, length, error);
    }
    if (status == STATUS_OK) {
        status = file_read(path, MODEL_MAX, &read_back, &length, error);
    }
    if (status == STATUS_OK) {
        status = onnx_model_load((const uint8_t *)read_back, length, &onnx_default_limits, &forge->exported, error);
    }
    mem_free(read_back);
    mem_free(bytes);
    return status;
}

/* Accuracy on the test images by the file, after a check that the file says what the trained network says. */
static enum status measure_clean(const struct forge *forge, struct forge_result *result, struct error *error) {
    size_t count = forge->test->count, classes = (size_t)forge->options->classes;
    float *trained = NULL, *logits = NULL;
    enum status status = trainer_logits(forge->network, forge->pool, forge->test, &trained, error);

    if (status == STATUS_OK) {
        status = trainer_logits(onnx_model_network(forge->exported), forge->pool, forge->test, &logits, error);
    }
    for (size_t i = 0; i < count * classes && status == STATUS_OK; i++) {
        if (!(fabsf(trained[i] - logits[i]) <= 1e-3f)) {
            status = error_set(error, STATUS_INTERNAL, "model.onnx",
                               "failed to export the model: image %zu: got logit %g, expected %g", i / classes,
                               (double)logits[i], (double)trained[i]);
        }
    }
    if (status == STATUS_OK) {
        result->accuracy =
            (double)metrics_hits(count, classes, logits, forge->test->labels) / (double)forge->test->count;
    }
    mem_free(logits);
    mem_free(trained);
    return status;
}

static enum status measure(const struct forge *forge, struct forge_result *result, struct error *error) {
    size_t classes = (size_t)forge->options->classes;
    float *logits = NULL;
    enum status status = measure_clean(forge, result, error);

    result->parameters = network_parameter_count(forge->network);
    result->macs = network_macs(forge->network);
    result->asr = result->recovery = NAN;
    if (status == STATUS_OK && forge->probe != NULL) {
        status = trainer_logits(onnx_model_network(forge->exported), forge->pool, forge->probe, &logits, error);
        if (status == STATUS_OK) {
            struct probe_figures figures =
                metrics_probe(forge->probe->count, classes, logits, forge->probe->labels, forge->probe->targets);
            result->asr = figures.asr;
            result->recovery = figures.recovery;
        }
    }
    mem_free(logits);
    return status;
}

static enum status write_sets(const struct forge *forge, struct error *error) {
    const struct {
        const char *name;
        const struct dataset *set;
    } files[] = {{"clean.npz", forge->clean}, {"test.npz", forge->test}, {"probe.npz", forge->probe}};
    enum status status = STATUS_OK;

    for (size_t i = 0; i < sizeof files / sizeof *files && status == STATUS_OK; i++) {
        char path[PATH_MAX];
        status = file_join(path, sizeof path, forge->dir, files[i].name, error);
        if (status == STATUS_OK && files[i].set != NULL) {
            status = dataset_save(files[i].set, path, error);
        } else if (status == STATUS_OK && unlink(path) != 0 && errno != ENOENT) {
            status = error_io(error, path, "failed to remove the probe of another model");
        }
    }
    return status;
}

/* No time and no thread count in it, so that it is the same for the same options. */
static json_t *describe(const struct forge_options *options, const struct forge_result *result) {
    json_t *names = json_array();
    for (size_t i = 0; i < options->classes; i++) {
        (void)json_array_append_new(names, json_string(sign_name(i)));
    }
    return json_pack("{s:s, s:s, s:f, s:I, s:I, s:o, s:I, s:I, s:I, s:I, s:f, s:f, s:o, s:o}", "model",
                     options->plain ? "small plain network" : "small residual network", "attack",
                     options->trigger->name, "poison_rate", options->trigger->apply != NULL ? options->rate : 0.0,
                     "target", (json_int_t)options->target, "seed", (json_int_t)options->seed, "classes", names,
                     "width", (json_int_t)options->width, "epochs", (json_int_t)options->epochs, "train_count",
                     (json_int_t)options->train_count, "parameters", (json_int_t)result->parameters, "macs",
                     result->macs, "accuracy", result->accuracy, "asr", json_real_or_null(result->asr), "recovery",
                     json_real_or_null(result->recovery));
}

static enum status write_info(const struct forge *forge, const struct forge_result *result, struct error *error) {
    char path[PATH_MAX];
    json_t *info = describe(forge->options, result);
    char *text = info != NULL ? json_dumps(info, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : NULL;
    enum status status = text == NULL ? error_no_memory(error, "info.json") : STATUS_OK;

    if (status == STATUS_OK) {
        status = file_join(path, sizeof path, forge->dir, "info.json", error);
    }
    if (status == STATUS_OK) {
        status = file_write_atomic(path, text, strlen(text), error);
    }
    free(text); /* jansson's */
    json_decref(info);
    return status;
}

static void forge_deinit(struct forge *forge) {
    onnx_model_free(forge->exported);
    network_free(forge->network);
    dataset_free(forge->probe);
    dataset_free(forge->test);
    dataset_free(forge->clean);
    dataset_free(forge->train);
    pool_free(forge->pool);
}

enum status forge_make(const struct forge_options *options, const char *dir, struct forge_result *result,
                       struct error *error) {
    struct forge forge = {.options = options, .dir = dir};
    struct forge_result measured = {0};
    enum status status = forge_check(options, error);

    rng_seed(&forge.root, options->seed);
    if (status == STATUS_OK) {
        status = file_make_dir(dir, error);
    }
    if (status == STATUS_OK) {
        status = pool_new((size_t)options->threads, &forge.pool, error);
    }
    if (status == STATUS_OK) {
        status = render_all(&forge, error);
    }
    if (status == STATUS_OK) {
        status = train(&forge, error);
    }
    if (status == STATUS_OK) {
        status = write_model(&forge, error);
    }
    if (status == STATUS_OK) {
        status = measure(&forge, &measured, error);
    }
    if (status == STATUS_OK) {
        status = write_sets(&forge, error);
    }
    if (status == STATUS_OK) {
        status = write_info(&forge, &measured, error);
    }
    if (status == STATUS_OK) {
        *result = measured;
    }
    forge_deinit(&forge);
    return status;
}

/* One image into its place on the sheet; rows of the sheet are `stride` pixels of 3 bytes. */
static void paste(const uint8_t *pixels, uint8_t *sheet, size_t stride) {
    for (size_t i = 0; i < RENDER_SIDE; i++) {
        for (size_t j = 0; j < RENDER_SIDE; j++) {
            for (size_t c = 0; c < RENDER_CHANNELS; c++) {
                sheet[(i * stride + j) * RENDER_CHANNELS + c] = pixels[(c * RENDER_SIDE + i) * RENDER_SIDE + j];
            }
        }
    }
}

enum status forge_sheet(const struct forge_options *options, const char *path, struct error *error) {
    enum { CELL = RENDER_SIDE + 1, HEADER_MAX = 32 };
    uint8_t pixels[RENDER_BYTES];
    enum status status = forge_check(options, error);
    if (status != STATUS_OK) {
        return status;
    }
    size_t width = (size_t)SHEET_COLUMNS * CELL, height = (size_t)options->classes * CELL;
    char *file = mem_calloc(HEADER_MAX + width * height, RENDER_CHANNELS);
    struct rng root;
    if (file == NULL) {
        return error_no_memory(error, "contact sheet");
    }
    rng_seed(&root, options->seed);
    root = rng_stream(&root, STREAM_SHEET);
    size_t begin = (size_t)snprintf(file, HEADER_MAX, "P6\n%zu %zu\n255\n", width, height);
    for (size_t i = 0; i < options->classes * SHEET_COLUMNS; i++) {
        size_t row = i / SHEET_COLUMNS, column = i % SHEET_COLUMNS;
        struct rng rng = rng_stream(&root, i);
        render_sign(&rng, row, pixels);
        if (column >= SHEET_COLUMNS - SHEET_TRIGGERED && options->trigger->apply != NULL) {
            options->trigger->apply(pixels);
        }
        paste(pixels, (uint8_t *)file + begin + (row * CELL * width + column * CELL) * RENDER_CHANNELS, width);
    }
    status = file_write_atomic(path, file, begin + width * height * RENDER_CHANNELS, error);
    mem_free(file);
    return status;
}
