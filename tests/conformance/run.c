/* Runs cases that are folders with model.onnx, input_0.pb and output_0.pb, and compares what our engine gives.
 *
 *   run [--tolerance T] [--skipped FILE] FOLDER
 *
 * A case is FOLDER/<case>/, or the first of its variants FOLDER/<case>/<variant>/ that loads. One that does not pass
 * must stand in FILE ("<case>: <reason>", a line each) and is a skip; one that stands there and passes must be taken off: both
 * count as failures otherwise, so the list only shrinks. The error is the largest difference over the largest expected magnitude.
 * Last line: `N passed, N failed, N skipped`. Exit status 0: none failed. */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/file.h"
#include "common/mem.h"
#include "onnx.pb-c.h"
#include "server/nn/engine.h"
#include "server/onnx/onnx_model.h"
#include "server/onnx/onnx_tensor.h"
#include "tests/support/near.h"

enum { PATH_SIZE = 4096, LIST_MAX = 4096, FILE_BYTES_MAX = 1 << 30 };

struct tally {
    size_t passed, failed, skipped;
    double tolerance;
    const char *list; /* text of the file of skips, "" without one */
    struct pool *pool;
};

struct outcome {
    bool loaded;
    double error;
    char reason[ERROR_MESSAGE_MAX + ERROR_WHERE_MAX];
};

static bool is_listed(const struct tally *tally, const char *name) {
    size_t length = strlen(name);
    for (const char *line = tally->list; line != NULL && *line != '\0';) {
        if (strncmp(line, name, length) == 0 && line[length] == ':') {
            return true;
        }
        line = strchr(line, '\n');
        line = line != NULL ? line + 1 : NULL;
    }
    return false;
}

static enum status read_bytes(const char *folder, const char *name, char **bytes, size_t *length, struct error *error) {
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return file_read(path, FILE_BYTES_MAX, bytes, length, error);
}

/* The floats of a TensorProto file live in `arena`, but for those that the message holds. */
static enum status read_tensor(const char *folder, const char *name, struct arena *arena, Onnx__TensorProto **proto,
                               struct onnx_constant *tensor, struct error *error) {
    char *bytes = NULL;
    size_t length = 0;
    enum status status = read_bytes(folder, name, &bytes, &length, error);
    if (status == STATUS_OK) {
        *proto = onnx__tensor_proto__unpack(NULL, length, (const uint8_t *)bytes);
        status = *proto == NULL ? error_set(error, STATUS_INVALID, name, "failed to read tensor: got other bytes")
                                : onnx_tensor_read(*proto, name, arena, tensor, error);
    }
    if (status == STATUS_OK && tensor->floats == NULL) {
        status = error_set(error, STATUS_INVALID, name, "failed to read tensor: got integers, expected float32");
    }
    mem_free(bytes);
    return status;
}

static enum status run_model(const struct onnx_model *model, struct pool *pool, const struct onnx_constant *x,
                             const struct onnx_constant *y, double *difference, struct error *error) {
    const struct network *network = onnx_model_network(model);
    size_t inputs = shape_count(&network->values[network->input].shape);
    size_t outputs = shape_count(&network->values[network->output].shape);
    struct engine *engine = NULL;
    float *logits = NULL;
    enum status status = STATUS_OK;
    if (x->count == 0 || x->count % inputs != 0 || x->count / inputs * outputs != y->count) {
        return error_set(error, STATUS_INVALID, "", "got %zu inputs and %zu outputs, expected %zu and %zu a sample",
                         x->count, y->count, inputs, outputs);
    }
    logits = mem_alloc(y->count, sizeof *logits);
    status = logits == NULL ? error_no_memory(error, "logits")
                            : engine_new(network, pool, &(struct engine_options){0}, &engine, error);
    if (status == STATUS_OK) {
        struct engine_run run = {.count = x->count / inputs, .input = x->floats, .logits = logits};
        status = engine_run(engine, &run, error);
    }
    if (status == STATUS_OK) {
        *difference = near_apart(logits, y->floats, y->count);
    }
    engine_free(engine);
    mem_free(logits);
    return status;
}

/* One folder with a model. A model that loads and then goes wrong has an infinite error. */
static void run_folder(const struct tally *tally, const char *folder, struct outcome *outcome) {
    struct error error = {0};
    struct onnx_model *model = NULL;
    struct arena *arena = arena_new(0);
    Onnx__TensorProto *protos[2] = {NULL, NULL};
    struct onnx_constant tensors[2] = {{0}, {0}};
    char *bytes = NULL;
    size_t length = 0;
    *outcome = (struct outcome){.error = INFINITY};
    enum status status =
        arena == NULL ? error_no_memory(&error, "a case") : read_bytes(folder, "model.onnx", &bytes, &length, &error);
    if (status == STATUS_OK) {
        status = onnx_model_load((const uint8_t *)bytes, length, &onnx_default_limits, &model, &error);
    }
    outcome->loaded = status == STATUS_OK;
    for (size_t i = 0; status == STATUS_OK && i < 2; i++) {
        status = read_tensor(folder, i == 0 ? "input_0.pb" : "output_0.pb", arena, &protos[i], &tensors[i], &error);
    }
    if (status == STATUS_OK) {
        status = run_model(model, tally->pool, &tensors[0], &tensors[1], &outcome->error, &error);
    }
    if (status != STATUS_OK) {
        (void)snprintf(outcome->reason, sizeof outcome->reason, "%s: %s", error.where, error.message);
    }
    onnx_model_free(model);
    for (size_t i = 0; i < 2; i++) {
        onnx__tensor_proto__free_unpacked(protos[i], NULL);
    }
    arena_free(arena);
    mem_free(bytes);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names of the entries of a folder, sorted; 0 if it cannot be read. */
static size_t list_folder(const char *folder, char *names[LIST_MAX]) {
    size_t count = 0;
    DIR *directory = opendir(folder);
    for (struct dirent *entry = NULL; directory != NULL && (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] != '.' && count < LIST_MAX) {
            char *name = mem_strdup(entry->d_name);
            if (name == NULL) {
                break;
            }
            names[count++] = name;
        }
    }
    if (directory != NULL) {
        (void)closedir(directory);
    }
    qsort(names, count, sizeof *names, by_name);
    return count;
}

static void free_names(char **names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        mem_free(names[i]);
    }
}

/* The case itself if it has a model, else its variants in the order of their names until one loads. */
static void run_variants(const struct tally *tally, const char *folder, struct outcome *outcome) {
    char path[PATH_SIZE];
    char **names = mem_calloc(LIST_MAX, sizeof *names);
    size_t count = names != NULL ? list_folder(folder, names) : 0;
    *outcome = (struct outcome){.reason = "no variant of one float32 input (N, F) and one output (N, K)"};
    bool whole = false;
    for (size_t i = 0; i < count; i++) {
        whole = whole || strcmp(names[i], "model.onnx") == 0;
    }
    if (whole) {
        run_folder(tally, folder, outcome);
    }
    for (size_t i = 0; !whole && !outcome->loaded && i < count; i++) {
        if (strcmp(names[i], "reason") != 0) {
            (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]);
            run_folder(tally, path, outcome);
        }
    }
    free_names(names, count);
    mem_free(names);
}

static void run_case(struct tally *tally, const char *root, const char *name) {
    char folder[PATH_SIZE];
    struct outcome outcome;
    (void)snprintf(folder, sizeof folder, "%s/%s", root, name);
    run_variants(tally, folder, &outcome);
    bool listed = is_listed(tally, name), right = outcome.loaded && outcome.error <= tally->tolerance;
    if (right && !listed) {
        tally->passed++;
        printf("ok      %s (error %.1e)\n", name, outcome.error);
    } else if (!right && listed) {
        tally->skipped++;
        printf("skipped %s: %s\n", name, outcome.reason);
    } else {
        tally->failed++;
        printf("FAILED  %s: %s%s (error %.1e)\n", name, right ? "passes, so take it off the list of skips" : "",
               outcome.reason, outcome.error);
    }
    (void)fflush(stdout);
}

int main(int count, char **arguments) {
    struct tally tally = {.tolerance = 1e-5, .list = ""};
    struct error error = {0};
    const char *root = NULL, *list = NULL;
    char *text = NULL;
    size_t length = 0;
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--tolerance") == 0 && i + 1 < count) {
            tally.tolerance = strtod(arguments[++i], NULL);
        } else if (strcmp(arguments[i], "--skipped") == 0 && i + 1 < count) {
            list = arguments[++i];
        } else {
            root = arguments[i];
        }
    }
    if (root == NULL) {
        (void)fprintf(stderr, "usage: run [--tolerance T] [--skipped FILE] FOLDER\n");
        return 2;
    }
    if ((list != NULL && file_read(list, FILE_BYTES_MAX, &text, &length, &error) != STATUS_OK) ||
        pool_new(2, &tally.pool, &error) != STATUS_OK) {
        (void)fprintf(stderr, "%s: %s\n", error.where, error.message);
        return 2;
    }
    char *lines = mem_calloc(length + 1, 1);
    char **names = mem_calloc(LIST_MAX, sizeof *names);
    if (lines != NULL && names != NULL) {
        if (length > 0) {
            memcpy(lines, text, length);
        }
        tally.list = lines;
        size_t cases = list_folder(root, names);
        for (size_t i = 0; i < cases; i++) {
            run_case(&tally, root, names[i]);
        }
        free_names(names, cases);
    }
    pool_free(tally.pool);
    mem_free(names);
    mem_free(lines);
    mem_free(text);
    printf("%zu passed, %zu failed, %zu skipped\n", tally.passed, tally.failed, tally.skipped);
    return tally.failed > 0 || tally.passed == 0 ? 1 : 0;
}
