/* Stage 8: the repaired file. It is written, read back and run, and must give the logits that the masked network gave. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/mem.h"
#include "server/mitigate/affordable.h"
#include "server/mitigate/compaction.h"
#include "server/mitigate/job.h"
#include "server/mitigate/pictures.h"
#include "server/mitigate/report.h"
#include "server/prune/fold.h"

/* Largest difference of logits, relative to the largest logit: the fold reorders sums, nothing more. */
static const double LOGITS_TOLERANCE = 1e-3;
enum { COMPARED_MIN = 128 }; /* samples, of a network that is dear to run */

static bool is_folded(const struct fold *fold, size_t node, size_t slot) {
    for (size_t i = 0; i < fold->count; i++) {
        if (fold->edits[i].node == node && fold->edits[i].slot == slot) {
            return true;
        }
    }
    return false;
}

/* The slots that the mask changes, and of the others those whose weights were trained. */
static enum status gather_edits(const struct job *job, const struct fold *fold, struct onnx_edit **out, size_t *count,
                                struct error *error) {
    const struct network *network = job->network;
    size_t slots = fold->count, n = 0;
    for (size_t i = 0; i < network->node_count; i++) {
        slots += network->nodes[i].input_count;
    }
    struct onnx_edit *edits = mem_calloc(slots, sizeof *edits);
    if (edits == NULL) {
        return error_no_memory(error, "the edits of the model");
    }
    for (size_t i = 0; i < fold->count; i++) {
        const struct fold_edit *edit = &fold->edits[i];
        edits[n++] = (struct onnx_edit){network->nodes[edit->node].origin, edit->slot, edit->data, edit->count};
    }
    for (size_t i = 0; job->original != NULL && i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        for (size_t k = 0; k < node->input_count; k++) {
            const size_t value = node->inputs[k];
            if (value == NETWORK_NONE || !snapshot_differs(job->original, value) || is_folded(fold, i, k)) {
                continue;
            }
            edits[n++] = (struct onnx_edit){node->origin, k, network->values[value].data,
                                            shape_count(&network->values[value].shape)};
        }
    }
    *out = edits;
    *count = n;
    return STATUS_OK;
}

enum { MARKS = 6 };

/* What is written into the file about where it comes from. */
struct marks {
    char pruned[24], seed[24];
    struct onnx_metadata list[MARKS];
};

static void mark(const struct job *job, struct marks *marks) {
    snprintf(marks->pruned, sizeof marks->pruned, "%zu", report_pruned_units(job));
    snprintf(marks->seed, sizeof marks->seed, "%llu", (unsigned long long)job->request->seed);
    const struct onnx_metadata list[MARKS] = {
        {"onp.version", ONP_VERSION},        {"onp.method", job->request->method},
        {"onp.seed", marks->seed},           {"onp.verdict", verdict_name(job->verdict)},
        {"onp.pruned_units", marks->pruned}, {"onp.source_sha256", job->model_sha256},
    };
    memcpy(marks->list, list, sizeof list);
}

static enum status write_model(struct job *job, uint8_t **bytes, size_t *length, struct error *error) {
    struct fold *fold = NULL;
    struct onnx_edit *edits = NULL;
    struct marks marks;
    mark(job, &marks);
    enum status status = fold_mask(job->network, job->units, job->mask, job->fill, &fold, error);
    if (status != STATUS_OK) {
        return status;
    }
    size_t count = 0;
    status = gather_edits(job, fold, &edits, &count, error);
    if (status == STATUS_OK) {
        status = onnx_model_write(job->model, edits, count, marks.list, MARKS, bytes, length, error);
    }
    mem_free(edits);
    fold_free(fold);
    return status;
}

static enum status compare_logits(const struct job *job, const float *logits, size_t count, struct error *error) {
    double largest = 0.0, difference = 0.0;
    for (size_t i = 0; i < count * job->info.classes; i++) {
        largest = fmax(largest, fabs((double)job->logits1[i]));
        difference = fmax(difference, fabs((double)job->logits1[i] - (double)logits[i]));
    }
    if (!(difference <= LOGITS_TOLERANCE * largest)) {
        return error_set(error, STATUS_INTERNAL, "model.onnx",
                         "failed to verify the repaired model: got logits that differ by %.3g of the largest, expected "
                         "at most %.3g",
                         difference / largest, LOGITS_TOLERANCE);
    }
    return STATUS_OK;
}

/* Reads the written bytes back and runs them. */
static enum status verify_model(struct job *job, const uint8_t *bytes, size_t length, struct error *error) {
    struct onnx_model *model = NULL;
    struct engine *engine = NULL;
    const size_t count = affordable(job->macs, job->samples->count, COMPARED_MIN);
    float *logits = mem_alloc(count * job->info.classes, sizeof *logits);
    const struct engine_options options = {.backward = false};
    enum status status = logits == NULL ? error_no_memory(error, "the logits of the written model")
                                        : onnx_model_load(bytes, length, &onnx_default_limits, &model, error);
    if (status == STATUS_OK) {
        status = engine_new(onnx_model_network(model), job->pool, &options, &engine, error);
    }
    if (status == STATUS_OK) {
        const struct engine_run run = {
            .count = count, .input = job->images, .logits = logits, .cancel = job_cancel(job)};
        status = engine_run(engine, &run, error);
    }
    if (status == STATUS_OK) {
        status = compare_logits(job, logits, count, error);
    }
    engine_free(engine);
    onnx_model_free(model);
    mem_free(logits);
    return status;
}

/* Takes the compact file in the place of the repaired one, if it can be had. */
static enum status compact_model(struct job *job, uint8_t **bytes, size_t *length, struct error *error) {
    struct onnx_model *repaired = NULL;
    struct marks marks;
    uint8_t *compact = NULL;
    size_t compact_length = 0;
    mark(job, &marks);
    enum status status = onnx_model_load(*bytes, *length, &onnx_default_limits, &repaired, error);
    if (status == STATUS_OK) {
        status = compaction_run(job, repaired, *length, marks.list, MARKS, &compact, &compact_length, error);
    }
    onnx_model_free(repaired);
    if (status == STATUS_OK && compact != NULL) {
        mem_free(*bytes);
        *bytes = compact;
        *length = compact_length;
    }
    return status;
}

static enum status write_text(const struct job *job, const char *name, const char *text, struct error *error) {
    char path[4096];
    enum status status = file_join(path, sizeof path, job->request->out_dir, name, error);
    return status == STATUS_OK ? file_write_atomic(path, text, strlen(text), error) : status;
}

static enum status write_json(const struct job *job, const char *name, const json_t *value, struct error *error) {
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    if (text == NULL) {
        return error_no_memory(error, name);
    }
    const enum status status = write_text(job, name, text, error);
    free(text); /* jansson's allocation */
    return status;
}

static enum status write_mask(const struct job *job, struct error *error) {
    json_t *mask = json_pack("{s:i, s:s, s:i, s:i, s:o}", "schema", 1, "model_sha256", job->model_sha256, "units",
                             (int)job->units->unit_count, "pruned_units", (int)report_pruned_units(job), "pruned",
                             report_pruned(job));
    const enum status status =
        mask == NULL ? error_no_memory(error, "the mask file") : write_json(job, ARTIFACT_MASK, mask, error);
    json_decref(mask);
    return status;
}

/* Takes `pictures`. */
static enum status write_pictures(const struct job *job, const char *name, json_t *pictures, struct error *error) {
    char *text = pictures == NULL ? NULL : json_dumps(pictures, JSON_COMPACT | JSON_REAL_PRECISION(4));
    const enum status status = text == NULL ? error_no_memory(error, name) : write_text(job, name, text, error);
    free(text); /* jansson's allocation */
    json_decref(pictures);
    return status;
}

static enum status write_trace(const struct job *job, struct error *error) {
    struct buf text;
    size_t index;
    json_t *event;
    buf_init(&text, (size_t)64 << 20);
    json_array_foreach(job->trace, index, event) {
        char *line = json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(9));
        buf_append_text(&text, line == NULL ? "{}" : line);
        buf_append_text(&text, "\n");
        free(line); /* jansson's allocation */
    }
    const enum status status = text.failed ? error_no_memory(error, "the trace")
                                           : write_text(job, ARTIFACT_TRACE, text.data == NULL ? "" : text.data, error);
    buf_deinit(&text);
    return status;
}

enum status stage_export(struct job *job, struct error *error) {
    char path[4096];
    uint8_t *bytes = NULL;
    size_t length = 0;
    const double start = clock_seconds();
    enum status status = write_model(job, &bytes, &length, error);
    if (status == STATUS_OK) {
        status = verify_model(job, bytes, length, error);
    }
    if (status == STATUS_OK && job->parameters.compact) {
        status = compact_model(job, &bytes, &length, error);
    }
    if (status == STATUS_OK) {
        status = file_join(path, sizeof path, job->request->out_dir, ARTIFACT_MODEL, error);
    }
    if (status == STATUS_OK) {
        status = file_write_atomic(path, bytes, length, error);
    }
    mem_free(bytes);
    if (status == STATUS_OK) {
        status = write_mask(job, error);
    }
    if (status == STATUS_OK) {
        status = write_trace(job, error);
    }
    if (status == STATUS_OK) {
        status = write_pictures(job, ARTIFACT_TRIGGERS, pictures_triggers(job), error);
    }
    if (status == STATUS_OK) {
        status = write_pictures(job, ARTIFACT_UNITS, pictures_units(job), error);
    }
    if (status == STATUS_OK) {
        job->stage_seconds[STAGE_EXPORT] = clock_seconds() - start;
        report_seconds(job, job->report, clock_seconds() - job->started);
        status = write_json(job, ARTIFACT_REPORT, job->report, error);
    }
    return status;
}
