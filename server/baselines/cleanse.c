/* Neural Cleanse (Wang et al. 2019). Section IV: for each class the smallest patch that sends all other samples there (eq. 3), by the same
 * inversion as elsewhere; a class is flagged if its |m|_1 is an outlier to the small side (index above 2). Section VI-C:
 * unlearning, that is fine-tuning in which a fifth of the samples carry the flagged triggers with their right labels. If no class is
 * flagged the network stays as it is. */
#include "common/mem.h"
#include "server/baselines/baseline.h"
#include "server/expose/anomaly.h"
#include "server/expose/invert.h"
#include "server/mitigate/finetune.h"

enum { INVERSION_BATCH = 48 };

static enum status invert_class(struct job *job, size_t target, struct trigger **out, struct error *error) {
    const struct invert_data data = job_invert_data(job, NULL, NULL);
    const struct rng base = rng_stream(&job->rng, STREAM_BASELINE), other = rng_stream(&base, BASELINE_INVERT);
    const struct rng rng = rng_stream(&other, target);
    struct inversion *inversion = NULL;
    enum status status = inversion_new(&data, TRIGGER_PATCH, target, 1.0, INVERSION_BATCH, &rng, &inversion, error);
    if (status == STATUS_OK) {
        status = inversion_advance(inversion, (size_t)job->parameters.inversion_steps, INVERT_MEASURE, error);
    }
    if (status == STATUS_OK) {
        status = trigger_copy(inversion_trigger(inversion), out, error);
    }
    inversion_free(inversion);
    return status;
}

/* Which classes are flagged; all sizes go into the report. */
static enum status flag(struct job *job, struct trigger *const *triggers, bool *flagged, struct error *error) {
    const size_t classes = job->info.classes;
    double *sizes = mem_alloc(classes, 3 * sizeof *sizes);
    if (sizes == NULL) {
        return error_no_memory(error, "the anomaly indices");
    }
    double *scratch = sizes + classes, *index = scratch + classes;
    for (size_t t = 0; t < classes; t++) {
        sizes[t] = triggers[t]->size;
    }
    (void)anomaly_index(sizes, classes, scratch, index);
    json_t *list = json_array();
    for (size_t t = 0; t < classes; t++) {
        flagged[t] = index[t] > job->parameters.anomaly_threshold;
        json_array_append_new(list, json_pack("{s:i, s:f, s:f, s:f, s:b}", "class", (int)t, "size", sizes[t], "success",
                                              triggers[t]->success, "anomaly", index[t], "flagged", flagged[t]));
    }
    baseline_detail(job, "classes", list);
    mem_free(sizes);
    return STATUS_OK;
}

static enum status unlearn(struct job *job, struct trigger *const *triggers, size_t count, struct error *error) {
    const struct finetune_options options = {.steps = baseline_epoch_steps(job, job->parameters.epochs),
                                             .batch = BASELINE_BATCH,
                                             .learning_rate = job->parameters.learning_rate,
                                             .weight_decay = 5e-4,
                                             .triggered = job->parameters.patched_share,
                                             .batch_statistics = true,
                                             .stop_below = -1.0,
                                             .stream = BASELINE_TUNE,
                                             .triggers = (const struct trigger *const *)triggers,
                                             .trigger_count = count,
                                             .mask = job->mask,
                                             .fill = job->fill,
                                             .message = "unlearning the triggers"};
    return finetune_run(job, &options, error);
}

enum status baseline_cleanse(struct job *job, struct error *error) {
    const size_t classes = job->info.classes;
    struct trigger **triggers = mem_calloc(classes, sizeof(struct trigger *));
    struct trigger **suspects = mem_calloc(classes, sizeof(struct trigger *));
    bool *flagged = mem_calloc(classes, sizeof *flagged);
    size_t count = 0;
    enum status status = baseline_begin(job, error);
    if (status == STATUS_OK && (triggers == NULL || suspects == NULL || flagged == NULL)) {
        status = error_no_memory(error, "the triggers");
    }
    for (size_t t = 0; t < classes && status == STATUS_OK; t++) {
        job_progress(job, t, 2 * classes, "the smallest trigger of each class");
        status = invert_class(job, t, &triggers[t], error);
    }
    if (status == STATUS_OK) {
        status = flag(job, triggers, flagged, error);
    }
    for (size_t t = 0; t < classes && status == STATUS_OK; t++) {
        if (flagged[t]) {
            suspects[count++] = triggers[t];
        }
    }
    if (status == STATUS_OK && count > 0) {
        status = unlearn(job, suspects, count, error);
    }
    for (size_t t = 0; triggers != NULL && t < classes; t++) {
        trigger_free(triggers[t]);
    }
    mem_free(triggers);
    mem_free(suspects);
    mem_free(flagged);
    return status;
}
