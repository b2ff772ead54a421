#include "server/mitigate/variants.h"

#include "common/mem.h"
#include "server/mitigate/affordable.h"

/* Of the accuracy, what must be left of it on variants. CIFAR networks, with backdoors or without, keep 92 to 100 %, networks whose classes
 * are shapes at a place 76 to 88 %. */
static const double NEARLY = 0.9;
enum { AFFORDABLE_MIN = 96 }; /* samples of a network that is dear to run */

static enum status count_hits(struct job *job, struct augmentation kinds, size_t count, float *images, float *logits,
                              size_t *hits, struct error *error) {
    const struct image_range *shape = &job->range;
    struct rng rng = rng_stream(&job->rng, STREAM_VARIANTS);
    for (size_t i = 0; i < count; i++) {
        augment_image(kinds, shape->channels, shape->height, shape->width, &rng,
                      job->build_images + i * job->image_floats, images + i * job->image_floats);
    }
    const struct engine_run run = {.count = count, .input = images, .logits = logits, .cancel = job_cancel(job)};
    const enum status status = engine_run(job->forward, &run, error);
    *hits = status == STATUS_OK ? metrics_hits(count, job->info.classes, logits, job->build_labels) : 0;
    return status;
}

static bool is_natural(size_t hits, size_t before) {
    return (double)hits >= NEARLY * (double)before;
}

enum status variants_measure(struct job *job, struct error *error) {
    const size_t count = affordable(job->macs, job->split->build_count, AFFORDABLE_MIN), classes = job->info.classes;
    size_t before = 0, moved = 0, mirrored = 0;
    for (size_t i = 0; i < count; i++) {
        before += job->build_predicted[i] == job->build_labels[i];
    }
    float *images = mem_alloc(count * job->image_floats, sizeof *images);
    float *logits = mem_alloc(count * classes, sizeof *logits);
    enum status status =
        images == NULL || logits == NULL ? error_no_memory(error, "the variants of the samples") : STATUS_OK;
    if (status == STATUS_OK) {
        status = count_hits(job, (struct augmentation){.moved = true}, count, images, logits, &moved, error);
    }
    if (status == STATUS_OK) {
        status = count_hits(job, (struct augmentation){.mirrored = true}, count, images, logits, &mirrored, error);
    }
    if (status == STATUS_OK) {
        job->natural = (struct augmentation){is_natural(moved, before), is_natural(mirrored, before)};
        job_trace(job, json_pack("{s:s, s:i, s:i, s:i, s:i}", "event", "variants", "samples", (int)count, "right",
                                 (int)before, "right_moved", (int)moved, "right_mirrored", (int)mirrored));
    }
    mem_free(images);
    mem_free(logits);
    return status;
}
