/* Whole networks against the numbers of another framework: the small cases of tests/data/onnx_good (made with ONNX Runtime)
 * and the models of the zoo (made with PyTorch). And from file to file: what is written computes what it should.
 *
 * The zoo is found by ONP_ZOO, or beside the checkout; without it its tests are skipped. Tolerance: the largest difference
 * over the largest logit. float32 sums of a few thousand terms in another order differ by some 1e-6. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/file.h"
#include "common/mem.h"
#include "server/data/npz.h"
#include "server/nn/engine.h"
#include "server/onnx/onnx_model.h"
#include "tests/support/cases.h"
#include "tests/support/cm.h"

static const double TOLERANCE = 1e-4;
enum { GOLDEN_MAX = 64 << 20, MODEL_MAX = 64 << 20, CHUNK = 3 };

static const char *const ZOO[] = {"resnet18-badnets", "resnet18-blended", "resnet18-clean",
                                  "preact18-badnets", "preact18-wanet",   "vgg11-patch"};
enum { ZOO_COUNT = sizeof ZOO / sizeof *ZOO };

struct golden {
    struct npz *npz;
    const float *x, *logits;
    size_t count, classes;
};

static struct golden load_golden(const char *folder) {
    char path[PATH_MAX];
    struct golden golden = {0};
    struct error error = {0};
    (void)snprintf(path, sizeof path, "%s/golden.npz", folder);
    if (npz_load(path, GOLDEN_MAX, GOLDEN_MAX, &golden.npz, &error) != STATUS_OK) {
        fail_msg("%s: %s", path, error.message);
    }
    const struct npy *x = npz_find(golden.npz, "x"), *logits = npz_find(golden.npz, "logits");
    assert_true(x != NULL && x->type == NPY_F4 && logits != NULL && logits->type == NPY_F4);
    golden.x = x->data;
    golden.logits = logits->data;
    golden.count = logits->shape.dim[0];
    golden.classes = logits->shape.dim[1];
    assert_int_equal(x->shape.dim[0], golden.count);
    return golden;
}

static struct onnx_model *load_bytes(const void *bytes, size_t length) {
    struct onnx_model *model = NULL;
    struct error error = {0};
    if (onnx_model_load(bytes, length, &onnx_default_limits, &model, &error) != STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    return model;
}

static struct onnx_model *load_model(const char *folder) {
    size_t length = 0;
    char *bytes = cases_read(folder, "model.onnx", &length);
    struct onnx_model *model = load_bytes(bytes, length);
    mem_free(bytes);
    return model;
}

/* What the file would give, from what the network gives: probabilities if it ends with a Softmax. */
static void finish(const struct onnx_info *info, float *logits, size_t count) {
    for (size_t i = 0; info->probabilities && i < count; i++) {
        float *row = logits + i * info->classes, largest = -INFINITY, sum = 0;
        for (size_t k = 0; k < info->classes; k++) {
            largest = fmaxf(largest, row[k]);
        }
        for (size_t k = 0; k < info->classes; k++) {
            row[k] = expf(row[k] - largest);
            sum += row[k];
        }
        for (size_t k = 0; k < info->classes; k++) {
            row[k] /= sum;
        }
    }
}

/* The pixels as the network takes them: channels first. The caller's. */
static float *pixels(const struct onnx_info *info, const struct golden *golden) {
    size_t plane = info->height * info->width, each = info->channels * plane;
    float *x = mem_calloc(golden->count * each, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < golden->count * each; i++) {
        size_t sample = i / each, channel = i % each / plane, position = i % plane;
        x[i] = golden->x[info->channels_last ? sample * each + position * info->channels + channel : i];
    }
    return x;
}

/* Logits of all golden inputs, (count, classes); the caller's. A chunk that does not divide the count, so that a last,
 * smaller one is among them. */
static float *run(const struct onnx_model *model, const struct golden *golden) {
    struct pool *pool = NULL;
    struct engine *engine = NULL;
    struct error error = {0};
    struct onnx_info info;
    float *logits = mem_calloc(golden->count * golden->classes, sizeof *logits);
    assert_non_null(logits);
    onnx_model_info(model, &info);
    float *x = pixels(&info, golden);
    assert_int_equal(pool_new(2, &pool, &error), STATUS_OK);
    if (engine_new(onnx_model_network(model), pool, &(struct engine_options){.chunk = CHUNK}, &engine, &error) !=
            STATUS_OK ||
        engine_run(engine, &(struct engine_run){.count = golden->count, .input = x, .logits = logits}, &error) !=
            STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    engine_free(engine);
    pool_free(pool);
    mem_free(x);
    finish(&info, logits, golden->count);
    return logits;
}

static double relative_error(const float *got, const float *expected, size_t count) {
    double difference = 0, largest = 0;
    for (size_t i = 0; i < count; i++) {
        difference = fmax(difference, fabs((double)got[i] - (double)expected[i]));
        largest = fmax(largest, fabs((double)expected[i]));
    }
    return difference / largest;
}

static double check_golden(const struct onnx_model *model, const struct golden *golden) {
    float *logits = run(model, golden);
    double relative = relative_error(logits, golden->logits, golden->count * golden->classes);
    mem_free(logits);
    return relative;
}

static void run_case(void *user, const char *name, const char *folder) {
    size_t *wrong = user;
    struct golden golden = load_golden(folder);
    struct onnx_model *model = load_model(folder);
    double relative = check_golden(model, &golden);
    if (!(relative <= TOLERANCE)) {
        (void)fprintf(stderr, "%s: relative error %g\n", name, relative);
        (*wrong)++;
    }
    onnx_model_free(model);
    npz_free(golden.npz);
}

static void test_operators(void **state) {
    (void)state;
    size_t wrong = 0;
    assert_true(cases_each("tests/data/onnx_good", run_case, &wrong) >= 80);
    assert_int_equal(wrong, 0);
}

/* "<zoo>/<model>" into `folder`; skips the running test if there is no zoo. */
static const char *zoo_folder(const char *model, char folder[PATH_MAX]) {
    struct stat info;
    const char *zoo = getenv("ONP_ZOO");
    (void)snprintf(folder, PATH_MAX, "%s/%s", zoo != NULL ? zoo : "../shared/zoo", model);
    if (stat(folder, &info) != 0) {
        (void)printf("skipped: no %s (set ONP_ZOO to the folder of the zoo)\n", folder);
        skip();
    }
    return folder;
}

static void test_zoo(void **state) {
    (void)state;
    for (size_t i = 0; i < ZOO_COUNT; i++) {
        char folder[PATH_MAX];
        struct golden golden = load_golden(zoo_folder(ZOO[i], folder));
        struct onnx_model *model = load_model(folder);
        double relative = check_golden(model, &golden);
        (void)printf("%s: relative error %.1e\n", ZOO[i], relative);
        assert_true(relative <= TOLERANCE);
        onnx_model_free(model);
        npz_free(golden.npz);
    }
}

static struct onnx_model *write_back(const struct onnx_model *model, const struct onnx_edit *edits, size_t count) {
    uint8_t *bytes = NULL;
    size_t length = 0;
    struct error error = {0};
    if (onnx_model_write(model, edits, count, NULL, 0, &bytes, &length, &error) != STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    struct onnx_model *written = load_bytes(bytes, length);
    mem_free(bytes);
    return written;
}

/* Without edits the file is the same to the byte, so the network must be too. */
static void test_zoo_round_trip(void **state) {
    (void)state;
    for (size_t i = 0; i < ZOO_COUNT; i++) {
        char folder[PATH_MAX];
        uint8_t *written = NULL;
        size_t length = 0, written_length = 0;
        struct error error = {0};
        char *bytes = cases_read(zoo_folder(ZOO[i], folder), "model.onnx", &length);
        struct onnx_model *model = load_bytes(bytes, length);
        assert_int_equal(onnx_model_write(model, NULL, 0, NULL, 0, &written, &written_length, &error), STATUS_OK);
        assert_int_equal(written_length, length);
        assert_memory_equal(written, bytes, length);
        mem_free(written);
        mem_free(bytes);
        onnx_model_free(model);
    }
}

/* Conv and BatchNorm nodes with two channels or more that can be silenced by their slots. */
static bool is_layer(const struct node *node) {
    return node->op == OP_CONV || node->op == OP_BATCH_NORM;
}

/* One edit: zeros in what makes channel 1 of that slot; `data` is the caller's. */
static struct onnx_edit zero_channel(const struct network *network, const struct node *node, size_t slot) {
    const struct value *value = &network->values[node->inputs[slot]];
    size_t count = shape_count(&value->shape), block = shape_count_from(&value->shape, 1);
    float *data = mem_dup(value->data, count * sizeof *data);
    assert_non_null(data);
    memset(data + block, 0, block * sizeof *data);
    return (struct onnx_edit){.node = node->origin, .slot = slot, .data = data, .count = count};
}

/* Edits that silence channel 1 of every third layer and, for a Conv without bias, add one that lifts channel 0. `network`
 * (the second model's own) gets the same by its constants where they are not shared; where they are, only the file can. */
static size_t make_edits(const struct network *network, struct onnx_edit *edits) {
    size_t count = 0, layers = 0;
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        if (!is_layer(node) || layers++ % 3 != 0) {
            continue;
        }
        edits[count++] = zero_channel(network, node, 1);
        if (node->op == OP_BATCH_NORM || node->input_count == 3) {
            edits[count++] = zero_channel(network, node, 2);
        } else {
            size_t channels = network->values[node->output].shape.dim[1];
            float *bias = mem_calloc(channels, sizeof *bias);
            assert_non_null(bias);
            bias[0] = 0.125F;
            edits[count++] = (struct onnx_edit){.node = node->origin, .slot = 2, .data = bias, .count = channels};
        }
    }
    return count;
}

/* Each edited slot of the written file reads the edit, each other slot what it read before. */
static void check_slots(const struct network *before, const struct network *after, const struct onnx_edit *edits,
                        size_t edit_count) {
    assert_int_equal(before->node_count, after->node_count);
    for (size_t i = 0; i < after->node_count; i++) {
        const struct node *a = &before->nodes[i], *b = &after->nodes[i];
        assert_int_equal(a->origin, b->origin);
        for (size_t slot = 0; slot < b->input_count; slot++) {
            const struct value *value = &after->values[b->inputs[slot]];
            const float *expected = slot < a->input_count ? before->values[a->inputs[slot]].data : NULL;
            for (size_t k = 0; k < edit_count; k++) {
                expected = edits[k].node == b->origin && edits[k].slot == slot ? edits[k].data : expected;
            }
            if (value->kind == VALUE_CONSTANT) {
                assert_non_null(expected);
                assert_memory_equal(value->data, expected, shape_count(&value->shape) * sizeof *expected);
            }
        }
    }
}

/* What a channel that was silenced gives must be zero after the written file is read: channel 1 of the first edited layer. */
struct silence {
    size_t wrong, seen;
    size_t channels, area;
};

static void watch(void *user, size_t layer, size_t first, size_t n, const float *x) {
    struct silence *silence = user;
    (void)layer;
    (void)first;
    for (size_t k = 0; k < n; k++) {
        for (size_t i = 0; i < silence->area; i++) {
            silence->wrong += x[(k * silence->channels + 1) * silence->area + i] != 0.0F;
            silence->seen++;
        }
    }
}

static void check_silence(const struct onnx_model *model, const struct golden *golden, const char *name) {
    const struct network *network = onnx_model_network(model);
    struct network *masked = NULL;
    struct pool *pool = NULL;
    struct engine *engine = NULL;
    struct error error = {0};
    struct silence silence = {0};
    size_t i = 0;
    while (!is_layer(&network->nodes[i])) {
        i++;
    }
    const struct mask_site site = {.value = network->nodes[i].output, .axis = 1};
    const struct shape *shape = &network->values[site.value].shape;
    silence.channels = shape->dim[1];
    silence.area = shape_count_from(shape, 2);
    assert_int_equal(network_with_masks(network, &site, 1, &masked, &error), STATUS_OK);
    assert_int_equal(pool_new(1, &pool, &error), STATUS_OK);
    assert_int_equal(engine_new(masked, pool, &(struct engine_options){.chunk = CHUNK}, &engine, &error), STATUS_OK);
    const struct engine_run once = {.count = golden->count, .input = golden->x, .user = &silence, .tap = watch};
    if (engine_run(engine, &once, &error) != STATUS_OK) {
        fail_msg("%s: %s", name, error.message);
    }
    assert_int_equal(silence.seen, golden->count * silence.area);
    assert_int_equal(silence.wrong, 0);
    engine_free(engine);
    pool_free(pool);
    network_free(masked);
}

/* On files with BatchNorm folded and not, biases shared and missing: channels silenced by edits of the file. */
static void test_zoo_edits(void **state) {
    (void)state;
    for (size_t i = 0; i < ZOO_COUNT; i++) {
        char folder[PATH_MAX];
        struct golden golden = load_golden(zoo_folder(ZOO[i], folder));
        struct onnx_model *model = load_model(folder);
        const struct network *network = onnx_model_network(model);
        struct onnx_edit *edits = mem_calloc(2 * network->node_count, sizeof *edits);
        assert_non_null(edits);
        size_t count = make_edits(network, edits);
        assert_true(count > 4);
        struct onnx_model *written = write_back(model, edits, count);
        check_slots(network, onnx_model_network(written), edits, count);
        check_silence(written, &golden, ZOO[i]);
        double relative = check_golden(written, &golden);
        assert_true(isfinite(relative) && relative > TOLERANCE); /* the edits do something */
        for (size_t k = 0; k < count; k++) {
            mem_free((void *)(uintptr_t)edits[k].data);
        }
        mem_free(edits);
        onnx_model_free(written);
        onnx_model_free(model);
        npz_free(golden.npz);
    }
}

/* Exported anew by us, a network of the zoo computes the same. */
static void test_zoo_export(void **state) {
    (void)state;
    for (size_t i = 0; i < ZOO_COUNT; i++) {
        char folder[PATH_MAX];
        uint8_t *bytes = NULL;
        size_t length = 0;
        struct error error = {0};
        struct golden golden = load_golden(zoo_folder(ZOO[i], folder));
        struct onnx_model *model = load_model(folder);
        assert_int_equal(onnx_export(onnx_model_network(model), "onp", &bytes, &length, &error), STATUS_OK);
        struct onnx_model *exported = load_bytes(bytes, length);
        float *a = run(model, &golden), *b = run(exported, &golden);
        assert_memory_equal(a, b, golden.count * golden.classes * sizeof *a);
        mem_free(a);
        mem_free(b);
        mem_free(bytes);
        onnx_model_free(exported);
        onnx_model_free(model);
        npz_free(golden.npz);
    }
}

static int choose_dnnl(void **state) {
    (void)state;
    return setenv("ONP_BACKEND", "dnnl", 1);
}

static int choose_nothing(void **state) {
    (void)state;
    return unsetenv("ONP_BACKEND");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_operators),
        cmocka_unit_test(test_zoo),
        cmocka_unit_test(test_zoo_round_trip),
        cmocka_unit_test(test_zoo_edits),
        cmocka_unit_test(test_zoo_export),
        {"test_operators in oneDNN", test_operators, choose_dnnl, choose_nothing, NULL},
        {"test_zoo in oneDNN", test_zoo, choose_dnnl, choose_nothing, NULL},
    };
    return cmocka_run_group_tests_name("pipeline: golden", tests, NULL, NULL);
}
