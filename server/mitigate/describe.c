/* What an uploaded model or sample set is, and whether they fit: the checks of an upload and of a job's submission, in the
 * same words as the job itself would fail with. */
#include <string.h>

#include "common/file.h"
#include "common/json_read.h"
#include "common/mem.h"
#include "server/data/samples.h"
#include "server/graph/units.h"
#include "server/mitigate/describe.h"
#include "server/mitigate/mitigate.h"
#include "server/onnx/onnx_model.h"

enum status describe_load(const char *path, struct onnx_model **model, struct unit_map **units, struct error *error) {
    char *bytes = NULL;
    size_t length = 0;
    enum status status = file_read(path, onnx_default_limits.max_bytes, &bytes, &length, error);
    if (status != STATUS_OK) {
        return status;
    }
    struct onnx_model *loaded = NULL;
    status = onnx_model_load((const uint8_t *)bytes, length, &onnx_default_limits, &loaded, error);
    mem_free(bytes);
    if (status == STATUS_OK) {
        status = units_find(onnx_model_network(loaded), units, error);
    }
    if (status != STATUS_OK) {
        onnx_model_free(loaded);
        return status;
    }
    *model = loaded;
    return STATUS_OK;
}

enum status mitigate_check_model(const char *path, json_t **info, struct error *error) {
    struct onnx_model *model = NULL;
    struct unit_map *units = NULL;
    struct onnx_info i;
    const enum status status = describe_load(path, &model, &units, error);
    if (status != STATUS_OK) {
        return status;
    }
    onnx_model_info(model, &i);
    json_t *object =
        json_pack("{s:[{s:s, s:[I,I,I]}], s:[{s:s, s:[I]}], s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:f}",
                  "inputs", "name", i.input_name, "shape", (json_int_t)i.channels, (json_int_t)i.height,
                  (json_int_t)i.width, "outputs", "name", i.output_name, "shape", (json_int_t)i.classes, "opset",
                  (json_int_t)i.opset, "ir_version", (json_int_t)i.ir_version, "producer", i.producer, "nodes",
                  (json_int_t)i.nodes, "parameters", (json_int_t)i.parameters, "units", (json_int_t)units->unit_count,
                  "layers", (json_int_t)units->layer_count, "classes", (json_int_t)i.classes, "batch",
                  i.batch_is_dynamic ? "dynamic" : "fixed", "macs", network_macs(onnx_model_network(model)));
    units_free(units);
    onnx_model_free(model);
    if (object == NULL) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to describe the model: got a name that is not UTF-8, expected UTF-8");
    }
    *info = object;
    return STATUS_OK;
}

enum status mitigate_check_samples(const char *path, json_t **info, struct error *error) {
    struct samples *s = NULL;
    const enum status status = samples_load(path, &samples_default_limits, &s, error);
    if (status != STATUS_OK) {
        return status;
    }
    json_t *counts = json_array();
    bool normalised = false;
    for (size_t c = 0; c < s->channels; c++) {
        normalised = normalised || s->mean[c] != 0.0F || s->std[c] != 1.0F;
    }
    size_t *per_class = mem_calloc(s->classes, sizeof *per_class);
    for (size_t n = 0; per_class != NULL && n < s->count; n++) {
        per_class[s->labels[n]]++;
    }
    for (size_t c = 0; per_class != NULL && c < s->classes; c++) {
        json_array_append_new(counts, json_integer((json_int_t)per_class[c]));
    }
    mem_free(per_class);
    json_t *object = json_pack("{s:I, s:[I,I,I], s:I, s:s, s:o, s:b, s:b}", "count", (json_int_t)s->count, "shape",
                               (json_int_t)s->channels, (json_int_t)s->height, (json_int_t)s->width, "classes",
                               (json_int_t)s->classes, "dtype", s->pixels != NULL ? "uint8" : "float32", "class_counts",
                               counts, "normalised", normalised, "has_target", s->targets != NULL);
    samples_free(s);
    if (object == NULL) {
        return error_no_memory(error, "the description of a sample set");
    }
    *info = object;
    return STATUS_OK;
}

static json_int_t dim(const json_t *shape, size_t i) {
    return json_integer_value(json_array_get(shape, i));
}

static enum status check_set(const json_t *model, const json_t *set, const char *pointer, struct error *error) {
    const json_t *want = json_object_get(json_array_get(json_object_get(model, "inputs"), 0), "shape");
    const json_t *got = json_object_get(set, "shape");
    if (!json_equal(want, got)) {
        return error_set(error, STATUS_INVALID, pointer,
                         "failed to fit the samples to the model: got images of %lld x %lld x %lld, expected %lld x "
                         "%lld x %lld (channels, height, width)",
                         (long long)dim(got, 0), (long long)dim(got, 1), (long long)dim(got, 2),
                         (long long)dim(want, 0), (long long)dim(want, 1), (long long)dim(want, 2));
    }
    const json_int_t classes = json_integer_value(json_object_get(model, "classes"));
    const json_int_t used = json_integer_value(json_object_get(set, "classes"));
    if (used > classes) {
        return error_set(error, STATUS_INVALID, pointer,
                         "failed to fit the samples to the model: got a label %lld, expected labels below %lld",
                         (long long)used - 1, (long long)classes);
    }
    return STATUS_OK;
}

enum status mitigate_check_fit(const json_t *model, const json_t *samples, const json_t *probe, struct error *error) {
    enum status status = check_set(model, samples, "/samples_id", error);
    if (status == STATUS_OK && probe != NULL) {
        status = check_set(model, probe, "/probe_id", error);
        if (status == STATUS_OK && !json_is_true(json_object_get(probe, "has_target"))) {
            status = error_set(error, STATUS_INVALID, "/probe_id",
                               "failed to use the sample set as a probe: got no array 'target', expected the "
                               "attacker's target class");
        }
    }
    return status;
}
