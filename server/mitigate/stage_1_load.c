/* Stage 1: the model, the samples, the split, the units and the engines. */
#include "common/digest.h"
#include "common/file.h"
#include "common/mem.h"
#include "server/mitigate/job.h"

enum { STEP_CHUNK = 8 };

static enum status load_model(struct job *job, struct error *error) {
    char *bytes = NULL;
    size_t length = 0;
    enum status status = file_read(job->request->model_path, onnx_default_limits.max_bytes, &bytes, &length, error);
    if (status != STATUS_OK) {
        return status;
    }
    digest_bytes(bytes, length, job->model_sha256);
    status = onnx_model_load((const uint8_t *)bytes, length, &onnx_default_limits, &job->model, error);
    mem_free(bytes);
    if (status != STATUS_OK) {
        return status;
    }
    onnx_model_info(job->model, &job->info);
    job->network = onnx_model_network(job->model);
    status = units_find(job->network, &job->units, error);
    if (status == STATUS_OK) {
        status = units_masked_network(job->network, job->units, &job->masked, error);
    }
    job->macs = status == STATUS_OK ? network_macs(job->masked) : 0.0;
    return status;
}

static enum status load_set(const struct job *job, const char *path, struct samples **out, struct error *error) {
    struct samples *samples = NULL;
    enum status status = samples_load(path, &samples_default_limits, &samples, error);
    if (status != STATUS_OK) {
        return status;
    }
    status =
        samples_check_fit(samples, job->info.channels, job->info.height, job->info.width, job->info.classes, error);
    if (status != STATUS_OK) {
        samples_free(samples);
        return status;
    }
    *out = samples;
    return STATUS_OK;
}

static enum status load_samples(struct job *job, struct error *error) {
    enum status status = digest_file(job->request->samples_path, job->samples_sha256, error);
    if (status == STATUS_OK) {
        status = load_set(job, job->request->samples_path, &job->samples, error);
    }
    if (status == STATUS_OK && job->request->probe_path != NULL) {
        status = load_set(job, job->request->probe_path, &job->probe, error);
        if (status == STATUS_OK && job->probe->targets == NULL) {
            status = error_set(error, STATUS_INVALID, "target.npy",
                               "failed to read probe: got no array 'target', expected the attacker's target class");
        }
    }
    return status;
}

/* The images as floats, and those of the build part together, since inversion runs over them alone. */
static enum status spread_samples(struct job *job, struct error *error) {
    const struct samples *s = job->samples;
    const struct rng rng = rng_stream(&job->rng, STREAM_SPLIT);
    enum status status = split_new(s->labels, s->count, job->info.classes, &rng, &job->split, error);
    if (status != STATUS_OK) {
        return status;
    }
    const struct split *split = job->split;
    job->range = (struct image_range){s->channels, s->height, s->width, s->low, s->high};
    job->image_floats = s->channels * s->height * s->width;
    job->images = mem_alloc(s->count * job->image_floats, sizeof *job->images);
    job->build_images = mem_alloc(split->build_count * job->image_floats, sizeof *job->build_images);
    job->build_labels = mem_alloc(split->build_count, sizeof *job->build_labels);
    job->build_and_score_count = split->build_count + split->score_count;
    job->build_and_score = mem_alloc(job->build_and_score_count, sizeof *job->build_and_score);
    if (job->images == NULL || job->build_images == NULL || job->build_labels == NULL || job->build_and_score == NULL) {
        return error_no_memory(error, "the sample images");
    }
    for (size_t i = 0; i < s->count; i++) {
        samples_fetch(s, &i, 1, job->images + i * job->image_floats);
    }
    samples_fetch(s, split->build, split->build_count, job->build_images);
    for (size_t i = 0; i < split->build_count; i++) {
        job->build_labels[i] = s->labels[split->build[i]];
    }
    for (size_t i = 0; i < job->build_and_score_count; i++) {
        job->build_and_score[i] = i < split->build_count ? split->build[i] : split->score[i - split->build_count];
    }
    return STATUS_OK;
}

enum status stage_load(struct job *job, struct error *error) {
    enum status status = load_model(job, error);
    if (status == STATUS_OK) {
        status = load_samples(job, error);
    }
    if (status == STATUS_OK) {
        status = spread_samples(job, error);
    }
    if (status == STATUS_OK) {
        status = pool_new(job->request->threads, &job->pool, error);
    }
    if (status == STATUS_OK) {
        const struct engine_options options = {.rank = true};
        status = engine_new(job->masked, job->pool, &options, &job->forward, error);
    }
    if (status == STATUS_OK) {
        /* Steps of an inversion are small: shorter chunks keep more threads busy, at little cost. */
        const size_t chunk = engine_chunk(job->forward);
        const struct engine_options options = {.backward = true, .chunk = chunk > STEP_CHUNK ? STEP_CHUNK : chunk};
        status = engine_new(job->masked, job->pool, &options, &job->backward, error);
    }
    return status;
}
