/* Whole networks with a random mask: the engine with Mask nodes and the file that has the mask in its weights give the same
 * logits. The networks are those of tests/data/onnx_good that have units: convolutions, squeeze-excitation, attention, shifted
 * windows, channels last, normalisations, from several exporters and opsets. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/rng.h"
#include "server/graph/units.h"
#include "server/nn/engine.h"
#include "server/onnx/onnx_model.h"
#include "server/prune/fold.h"
#include "tests/support/cases.h"
#include "tests/support/cm.h"

enum { SAMPLES = 3, CHUNK = 2 };
static const double TOLERANCE = 1e-4; /* of the largest logit */

struct tally {
    size_t networks, last_axis, wrong;
};

static struct onnx_model *load(const void *bytes, size_t length) {
    struct onnx_model *model = NULL;
    struct error error = {0};
    if (onnx_model_load(bytes, length, &onnx_default_limits, &model, &error) != STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    return model;
}

static float *run(const struct network *network, const float *x, const float *mask, const float *fill) {
    struct pool *pool = NULL;
    struct engine *engine = NULL;
    struct error error = {0};
    float *logits = mem_calloc(SAMPLES * shape_count(&network->values[network->output].shape), sizeof *logits);
    assert_non_null(logits);
    assert_int_equal(pool_new(2, &pool, &error), STATUS_OK);
    struct engine_run wanted = {.count = SAMPLES, .input = x, .mask = mask, .fill = fill, .logits = logits};
    if (engine_new(network, pool, &(struct engine_options){.chunk = CHUNK}, &engine, &error) != STATUS_OK ||
        engine_run(engine, &wanted, &error) != STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    engine_free(engine);
    pool_free(pool);
    return logits;
}

static struct onnx_model *folded_model(const struct onnx_model *model, const struct unit_map *map, const float *mask,
                                       const float *fill) {
    const struct network *network = onnx_model_network(model);
    struct fold *fold = NULL;
    struct error error = {0};
    uint8_t *bytes = NULL;
    size_t length = 0;
    assert_int_equal(fold_mask(network, map, mask, fill, &fold, &error), STATUS_OK);
    struct onnx_edit *edits = mem_calloc(fold->count, sizeof *edits);
    assert_non_null(edits);
    for (size_t i = 0; i < fold->count; i++) {
        const struct fold_edit *edit = &fold->edits[i];
        edits[i] = (struct onnx_edit){network->nodes[edit->node].origin, edit->slot, edit->data, edit->count};
    }
    if (onnx_model_write(model, edits, fold->count, NULL, 0, &bytes, &length, &error) != STATUS_OK) {
        fail_msg("%s: %s", error.where, error.message);
    }
    struct onnx_model *folded = load(bytes, length);
    mem_free(edits);
    mem_free(bytes);
    fold_free(fold);
    return folded;
}

static double difference(const float *a, const float *b, size_t count) {
    double worst = 0, largest = 1e-6;
    for (size_t i = 0; i < count; i++) {
        double apart = fabs((double)a[i] - (double)b[i]);
        worst = apart <= worst ? worst : apart; /* a NaN becomes the worst */
        largest = fmax(largest, fabs((double)b[i]));
    }
    return worst / largest;
}

static double check(const struct onnx_model *model, const struct unit_map *map, struct rng *rng) {
    const struct network *network = onnx_model_network(model);
    struct network *masked = NULL;
    struct error error = {0};
    size_t inputs = SAMPLES * shape_count(&network->values[network->input].shape);
    size_t classes = shape_count(&network->values[network->output].shape);
    float *x = mem_calloc(inputs, sizeof *x);
    float *mask = mem_calloc(map->unit_count, sizeof *mask), *fill = mem_calloc(map->unit_count, sizeof *fill);
    if (x == NULL || mask == NULL || fill == NULL) {
        fail();
        return INFINITY;
    }
    for (size_t i = 0; i < inputs; i++) {
        x[i] = rng_normal(rng);
    }
    for (size_t u = 0; u < map->unit_count; u++) {
        float draw = rng_range(rng, 0, 1);
        mask[u] = draw < 0.2F ? 0 : draw < 0.3F ? 0.5F : 1;
        fill[u] = rng_range(rng, -0.5F, 0.5F);
    }
    assert_int_equal(units_masked_network(network, map, &masked, &error), STATUS_OK);
    struct onnx_model *folded = folded_model(model, map, mask, fill);
    float *expected = run(masked, x, mask, fill), *got = run(onnx_model_network(folded), x, NULL, NULL);
    double apart = difference(got, expected, SAMPLES * classes);
    mem_free(expected);
    mem_free(got);
    mem_free(x);
    mem_free(mask);
    mem_free(fill);
    onnx_model_free(folded);
    network_free(masked);
    return apart;
}

static void fold_case(void *user, const char *name, const char *folder) {
    struct tally *tally = user;
    struct rng rng;
    struct unit_map *map = NULL;
    struct error error = {0};
    size_t length = 0;
    char *bytes = cases_read(folder, "model.onnx", &length);
    struct onnx_model *model = load(bytes, length);
    mem_free(bytes);
    rng_seed(&rng, 21);
    if (units_find(onnx_model_network(model), &map, &error) == STATUS_OK) {
        double apart = check(model, map, &rng);
        tally->networks++;
        for (size_t l = 0; l < map->layer_count; l++) {
            tally->last_axis += map->layers[l].axis > 1;
        }
        if (!(apart <= TOLERANCE)) {
            (void)fprintf(stderr, "%s: masked and folded differ by %g\n", name, apart);
            tally->wrong++;
        }
    }
    units_free(map);
    onnx_model_free(model);
}

static void masked_and_folded_networks_agree(void **state) {
    (void)state;
    struct tally tally = {0, 0, 0};
    (void)cases_each("tests/data/onnx_good", fold_case, &tally);
    assert_int_equal(tally.wrong, 0);
    assert_true(tally.networks >= 20);
    assert_true(tally.last_axis >= 20);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(masked_and_folded_networks_agree)};
    return cmocka_run_group_tests_name("pipeline: folds", tests, NULL, NULL);
}
