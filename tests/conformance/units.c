/* Prunable units of whole networks: how many there are, that a mask in the engine and the same mask folded into the file give the
 * same logits, and that the gradient of the input is that of PyTorch.
 *
 *   units [--tolerance T] FOLDER ...
 *
 * FOLDER has model.onnx, input_0.pb and gradient_0.pb (torchvision.py makes them). A tenth of the units gets the mask 0, another
 * 0.5; the folded file is written to FOLDER/folded.onnx with the masked logits in FOLDER/folded.pb, for another runtime to
 * check. The gradient of the last logits is compared with the file's. Exit status 0: all are within T (of the largest logit),
 * gradients within 2 %. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/arena.h"
#include "common/file.h"
#include "common/mem.h"
#include "common/rng.h"
#include "onnx.pb-c.h"
#include "server/graph/units.h"
#include "server/nn/engine.h"
#include "server/nn/loss.h"
#include "server/onnx/onnx_model.h"
#include "server/onnx/onnx_tensor.h"
#include "server/prune/fold.h"
#include "tests/support/near.h"

enum { PATH_SIZE = 4096, FILE_BYTES_MAX = 1 << 30 };
/* Where a ReLU reads a number near 0, rounding decides which way its gradient goes: a share of 1e-5 of them is 3e-3 of its length. */
static const double GRADIENT_TOLERANCE = 0.02;

struct subject {
    const char *folder;
    struct pool *pool;
    struct arena *arena;
    Onnx__TensorProto *protos[2];
    struct onnx_constant x, gradient;
    struct onnx_model *model, *folded;
    const struct network *network;
    struct network *masked;
    struct unit_map *map;
    float *mask, *fill;
    size_t samples, classes, inputs;
    struct error error;
};

static enum status load_model(struct subject *s, const char *name, struct onnx_model **model) {
    char path[PATH_SIZE];
    char *bytes = NULL;
    size_t length = 0;
    (void)snprintf(path, sizeof path, "%s/%s", s->folder, name);
    enum status status = file_read(path, FILE_BYTES_MAX, &bytes, &length, &s->error);
    if (status == STATUS_OK) {
        status = onnx_model_load((const uint8_t *)bytes, length, &onnx_default_limits, model, &s->error);
    }
    mem_free(bytes);
    return status;
}

/* The floats of a TensorProto file live in `arena`, but for those that the message holds. */
static enum status load_tensor(struct subject *s, const char *name, Onnx__TensorProto **proto,
                               struct onnx_constant *tensor) {
    char path[PATH_SIZE];
    char *bytes = NULL;
    size_t length = 0;
    (void)snprintf(path, sizeof path, "%s/%s", s->folder, name);
    enum status status = file_read(path, FILE_BYTES_MAX, &bytes, &length, &s->error);
    if (status == STATUS_OK) {
        *proto = onnx__tensor_proto__unpack(NULL, length, (const uint8_t *)bytes);
        status = *proto != NULL ? onnx_tensor_read(*proto, name, s->arena, tensor, &s->error)
                                : error_set(&s->error, STATUS_INVALID, path, "failed to read tensor");
    }
    mem_free(bytes);
    if (status == STATUS_OK && (tensor->floats == NULL || tensor->count % s->inputs != 0)) {
        return error_set(&s->error, STATUS_INVALID, path, "got %zu numbers, expected some of %zu a sample",
                         tensor->count, s->inputs);
    }
    return status;
}

static enum status run_logits(struct subject *s, const struct network *network, const float *x, bool masked,
                              float *logits) {
    struct engine *engine = NULL;
    enum status status = engine_new(network, s->pool, &(struct engine_options){0}, &engine, &s->error);
    if (status == STATUS_OK) {
        struct engine_run run = {.count = s->samples, .input = x, .logits = logits};
        run.mask = masked ? s->mask : NULL;
        run.fill = masked ? s->fill : NULL;
        status = engine_run(engine, &run, &s->error);
    }
    engine_free(engine);
    return status;
}

static enum status write_file(struct subject *s, const char *name, const void *bytes, size_t length) {
    char path[PATH_SIZE];
    (void)snprintf(path, sizeof path, "%s/%s", s->folder, name);
    FILE *file = fopen(path, "wb");
    bool ok = file != NULL && fwrite(bytes, 1, length, file) == length;
    if (file != NULL) {
        ok = fclose(file) == 0 && ok;
    }
    return ok ? STATUS_OK : error_set(&s->error, STATUS_IO, path, "failed to write file");
}

static enum status write_logits(struct subject *s, float *logits) {
    Onnx__TensorProto tensor = ONNX__TENSOR_PROTO__INIT;
    int64_t dims[2] = {(int64_t)s->samples, (int64_t)s->classes};
    tensor.dims = dims;
    tensor.n_dims = 2;
    tensor.has_data_type = 1;
    tensor.data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    tensor.has_raw_data = 1;
    tensor.raw_data.data = (uint8_t *)logits;
    tensor.raw_data.len = s->samples * s->classes * sizeof *logits;
    uint8_t *bytes = mem_alloc(onnx__tensor_proto__get_packed_size(&tensor), 1);
    if (bytes == NULL) {
        return error_no_memory(&s->error, "logits");
    }
    size_t length = onnx__tensor_proto__pack(&tensor, bytes);
    enum status status = write_file(s, "folded.pb", bytes, length);
    mem_free(bytes);
    return status;
}

/* The file with the mask folded into its weights. */
static enum status write_folded(struct subject *s) {
    struct fold *fold = NULL;
    struct onnx_edit *edits = NULL;
    uint8_t *bytes = NULL;
    size_t length = 0;
    enum status status = fold_mask(s->network, s->map, s->mask, s->fill, &fold, &s->error);
    if (status == STATUS_OK && (edits = mem_calloc(fold->count, sizeof *edits)) == NULL) {
        status = error_no_memory(&s->error, "edits");
    }
    for (size_t i = 0; status == STATUS_OK && i < fold->count; i++) {
        const struct fold_edit *edit = &fold->edits[i];
        edits[i] = (struct onnx_edit){s->network->nodes[edit->node].origin, edit->slot, edit->data, edit->count};
    }
    if (status == STATUS_OK) {
        status = onnx_model_write(s->model, edits, fold->count, NULL, 0, &bytes, &length, &s->error);
    }
    if (status == STATUS_OK) {
        status = write_file(s, "folded.onnx", bytes, length);
    }
    mem_free(bytes);
    mem_free(edits);
    fold_free(fold);
    return status;
}

static enum status check_fold(struct subject *s, double *difference) {
    size_t count = s->samples * s->classes;
    float *masked = mem_calloc(count, sizeof *masked), *folded = mem_calloc(count, sizeof *folded);
    enum status status = masked == NULL || folded == NULL ? error_no_memory(&s->error, "logits") : STATUS_OK;
    if (status == STATUS_OK) {
        status = run_logits(s, s->masked, s->x.floats, true, masked);
    }
    if (status == STATUS_OK) {
        status = write_folded(s);
    }
    if (status == STATUS_OK) {
        status = write_logits(s, masked);
    }
    if (status == STATUS_OK) {
        status = load_model(s, "folded.onnx", &s->folded);
    }
    if (status == STATUS_OK) {
        status = run_logits(s, onnx_model_network(s->folded), s->x.floats, false, folded);
    }
    if (status == STATUS_OK) {
        *difference = near_apart(folded, masked, count);
    }
    mem_free(masked);
    mem_free(folded);
    return status;
}

struct gradient {
    size_t classes, inputs;
    float *dx;
};

static void last_logit(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    const struct gradient *gradient = user;
    (void)first;
    (void)logits;
    memset(dlogits, 0, n * gradient->classes * sizeof *dlogits);
    for (size_t i = 0; i < n; i++) {
        dlogits[(i + 1) * gradient->classes - 1] = 1;
    }
}

static void keep_gradient(void *user, size_t first, size_t n, const float *x, const float *dx) {
    const struct gradient *gradient = user;
    (void)x;
    memcpy(gradient->dx + first * gradient->inputs, dx, n * gradient->inputs * sizeof *dx);
}

/* The gradient of the sum of the last logits against that of the file: length of the difference over the length. */
static enum status check_gradient(struct subject *s, double *difference) {
    size_t count = s->x.count;
    struct gradient gradient = {s->classes, s->inputs, mem_calloc(count, sizeof(float))};
    struct engine *engine = NULL;
    double apart = 0, norm = 0;
    enum status status =
        gradient.dx == NULL
            ? error_no_memory(&s->error, "a gradient")
            : engine_new(s->network, s->pool, &(struct engine_options){.backward = true}, &engine, &s->error);
    if (status == STATUS_OK) {
        struct engine_run run = {.count = s->samples,
                                 .input = s->x.floats,
                                 .user = &gradient,
                                 .loss = last_logit,
                                 .input_grad = keep_gradient};
        status = engine_run(engine, &run, &s->error);
    }
    for (size_t i = 0; status == STATUS_OK && i < count; i++) {
        double expected = (double)s->gradient.floats[i], error = (double)gradient.dx[i] - expected;
        apart += error * error;
        norm += expected * expected;
    }
    *difference = norm > 0 ? sqrt(apart / norm) : INFINITY;
    engine_free(engine);
    mem_free(gradient.dx);
    return status;
}

static enum status prepare(struct subject *s) {
    struct rng rng;
    s->arena = arena_new(0);
    enum status status = s->arena == NULL ? error_no_memory(&s->error, "a network") : STATUS_OK;
    if (status == STATUS_OK) {
        status = load_model(s, "model.onnx", &s->model);
    }
    if (status == STATUS_OK) {
        s->network = onnx_model_network(s->model);
        s->inputs = shape_count(&s->network->values[s->network->input].shape);
        s->classes = shape_count(&s->network->values[s->network->output].shape);
        status = load_tensor(s, "input_0.pb", &s->protos[0], &s->x);
        s->samples = s->x.count / s->inputs;
    }
    if (status == STATUS_OK) {
        status = load_tensor(s, "gradient_0.pb", &s->protos[1], &s->gradient);
    }
    if (status == STATUS_OK && s->gradient.count != s->x.count) {
        status = error_set(&s->error, STATUS_INVALID, s->folder, "got a gradient of another size than the input");
    }
    if (status == STATUS_OK) {
        status = units_find(s->network, &s->map, &s->error);
    }
    if (status == STATUS_OK) {
        status = units_masked_network(s->network, s->map, &s->masked, &s->error);
    }
    if (status == STATUS_OK) {
        s->mask = mem_calloc(s->map->unit_count, sizeof *s->mask);
        s->fill = mem_calloc(s->map->unit_count, sizeof *s->fill);
        status = s->mask == NULL || s->fill == NULL ? error_no_memory(&s->error, "a mask") : STATUS_OK;
    }
    rng_seed(&rng, 5);
    for (size_t u = 0; status == STATUS_OK && u < s->map->unit_count; u++) {
        float draw = rng_range(&rng, 0, 1);
        s->mask[u] = draw < 0.1F ? 0.0F : draw < 0.2F ? 0.5F : 1.0F;
        s->fill[u] = rng_range(&rng, -0.05F, 0.05F);
    }
    return status;
}

static bool check(struct pool *pool, const char *folder, double tolerance) {
    struct subject s = {.folder = folder, .pool = pool};
    double fold = INFINITY, gradient = INFINITY;
    enum status status = prepare(&s);
    if (status == STATUS_OK) {
        status = check_fold(&s, &fold);
    }
    if (status == STATUS_OK) {
        status = check_gradient(&s, &gradient);
    }
    bool ok = status == STATUS_OK && fold <= tolerance && gradient <= GRADIENT_TOLERANCE;
    if (status == STATUS_OK) {
        printf("%s %s: %zu layers, %zu units, %zu groups, fold %.1e, gradient %.1e\n", ok ? "ok     " : "FAILED ",
               folder, s.map->layer_count, s.map->unit_count, s.map->group_count, fold, gradient);
    } else {
        printf("FAILED  %s: %s: %s\n", folder, s.error.where, s.error.message);
    }
    (void)fflush(stdout);
    units_free(s.map);
    network_free(s.masked);
    onnx_model_free(s.folded);
    onnx_model_free(s.model);
    for (size_t i = 0; i < 2; i++) {
        if (s.protos[i] != NULL) {
            onnx__tensor_proto__free_unpacked(s.protos[i], NULL);
        }
    }
    arena_free(s.arena);
    mem_free(s.mask);
    mem_free(s.fill);
    return ok;
}

int main(int count, char **arguments) {
    double tolerance = 1e-4;
    struct error error = {0};
    struct pool *pool = NULL;
    size_t failed = 0, checked = 0;
    if (pool_new(2, &pool, &error) != STATUS_OK) {
        (void)fprintf(stderr, "%s\n", error.message);
        return 2;
    }
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--tolerance") == 0 && i + 1 < count) {
            tolerance = strtod(arguments[++i], NULL);
            continue;
        }
        checked++;
        failed += !check(pool, arguments[i], tolerance);
    }
    pool_free(pool);
    return failed > 0 || checked == 0 ? 1 : 0;
}
