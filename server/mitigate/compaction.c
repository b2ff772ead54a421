/* Compacts the repaired network, writes it, reads it back, compares its logits and its speed. */
#include "server/mitigate/compaction.h"

#include <math.h>

#include "common/clock.h"
#include "common/mem.h"
#include "server/prune/compact.h"

static const double LOGITS_TOLERANCE = 1e-4; /* of the largest logit */
enum { TIMINGS = 3 };

/* Seconds of one pass over the samples; the fastest counts, since only disturbances make one slower. */
static enum status pass(struct job *job, struct engine *engine, float *logits, double *best, struct error *error) {
    const struct engine_run run = {
        .count = job->samples->count, .input = job->images, .logits = logits, .cancel = job_cancel(job)};
    const double start = clock_seconds();
    const enum status status = engine_run(engine, &run, error);
    *best = fmin(*best, clock_seconds() - start);
    return status;
}

/* Both networks in turn; logits (samples, K) are left as the second gave them. *ratio: seconds of the second over those of the first. */
static enum status race(struct job *job, const struct network *first, const struct network *second, float *logits,
                        double *ratio, struct error *error) {
    const struct engine_options options = {.backward = false};
    struct engine *engines[2] = {NULL, NULL};
    double best[2] = {(double)INFINITY, (double)INFINITY};
    enum status status = engine_new(first, job->pool, &options, &engines[0], error);
    if (status == STATUS_OK) {
        status = engine_new(second, job->pool, &options, &engines[1], error);
    }
    for (size_t i = 0; i < 2 * (size_t)TIMINGS && status == STATUS_OK; i++) {
        status = pass(job, engines[i % 2], logits, &best[i % 2], error);
    }
    engine_free(engines[0]);
    engine_free(engines[1]);
    *ratio = best[1] / best[0];
    return status;
}

static double difference_of(const struct job *job, const float *logits) {
    double largest = 0.0, difference = 0.0;
    for (size_t i = 0; i < job->samples->count * job->info.classes; i++) {
        largest = fmax(largest, fabs((double)job->logits1[i]));
        difference = fmax(difference, fabs((double)job->logits1[i] - (double)logits[i]));
    }
    return largest > 0.0 ? difference / largest : difference;
}

static void tell(struct job *job, bool applied, size_t bytes_before, size_t bytes_after,
                 const struct compact_figures *f, double difference, double ratio) {
    json_object_set_new(job->report, "compact",
                        json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:I, s:I, s:f, s:f}", "applied", applied,
                                  "removed_channels", (json_int_t)f->removed, "merged_channels", (json_int_t)f->merged,
                                  "constant_channels_kept", (json_int_t)f->kept, "parameters_before",
                                  (json_int_t)f->parameters_before, "parameters_after", (json_int_t)f->parameters_after,
                                  "macs_before", f->macs_before, "macs_after", f->macs_after, "bytes_before",
                                  (json_int_t)bytes_before, "bytes_after", (json_int_t)bytes_after,
                                  "largest_difference", difference, "forward_ratio", ratio));
}

/* The network as a file with the metadata, and that file read back. */
static enum status write_network(const struct network *network, const struct onnx_metadata *metadata,
                                 size_t metadata_count, uint8_t **bytes, size_t *length, struct onnx_model **model,
                                 struct error *error) {
    struct onnx_model *bare = NULL;
    uint8_t *plain = NULL;
    size_t plain_length = 0;
    enum status status = onnx_export(network, "onp " ONP_VERSION, &plain, &plain_length, error);
    if (status == STATUS_OK) {
        status = onnx_model_load(plain, plain_length, &onnx_default_limits, &bare, error);
    }
    if (status == STATUS_OK) {
        status = onnx_model_write(bare, NULL, 0, metadata, metadata_count, bytes, length, error);
    }
    if (status == STATUS_OK) {
        status = onnx_model_load(*bytes, *length, &onnx_default_limits, model, error);
    }
    onnx_model_free(bare);
    mem_free(plain);
    return status;
}

enum status compaction_run(struct job *job, const struct onnx_model *repaired, size_t repaired_bytes,
                           const struct onnx_metadata *metadata, size_t metadata_count, uint8_t **bytes, size_t *length,
                           struct error *error) {
    struct network *network = NULL;
    struct onnx_model *model = NULL;
    struct compact_figures figures = {0};
    uint8_t *written = NULL;
    size_t written_length = 0;
    double ratio = 1.0, difference = 0.0;
    float *logits = mem_alloc(job->samples->count * job->info.classes, sizeof *logits);
    enum status status = logits == NULL ? error_no_memory(error, "the compact model's logits")
                                        : compact_network(onnx_model_network(repaired), &network, &figures, error);
    *bytes = NULL;
    if (status == STATUS_OK && figures.removed == 0) {
        tell(job, false, repaired_bytes, repaired_bytes, &figures, 0.0, 1.0);
        goto done;
    }
    if (status == STATUS_OK) {
        status = write_network(network, metadata, metadata_count, &written, &written_length, &model, error);
    }
    if (status == STATUS_OK) {
        status = race(job, onnx_model_network(repaired), onnx_model_network(model), logits, &ratio, error);
    }
    if (status == STATUS_OK) {
        difference = difference_of(job, logits);
        const bool applied = difference <= LOGITS_TOLERANCE;
        tell(job, applied, repaired_bytes, written_length, &figures, difference, ratio);
        if (applied) {
            *bytes = written;
            *length = written_length;
            written = NULL;
        }
    }
done:
    mem_free(written);
    onnx_model_free(model);
    network_free(network);
    mem_free(logits);
    return status;
}
