/* Reconstructive Neuron Pruning (Li et al. 2023, section 3.2). Unlearning: the loss on clean samples is raised by training all weights
 * (eq. 2) until the accuracy is down. Recovering: with those weights frozen, a mask over the filters is trained to bring
 * the loss down again (eq. 3); backdoor filters are those it does without. They are pruned in the network as it came. */
#include <string.h>

#include "common/mem.h"
#include "server/baselines/baseline.h"
#include "server/mitigate/finetune.h"
#include "server/nn/loss.h"
#include "server/nn/train.h"

/* SGD on the mask, its values kept in [0, 1]. */
static enum status recover(struct job *job, float *mask, float *gradient, struct error *error) {
    const size_t units = job->units->unit_count;
    const struct rng base = rng_stream(&job->rng, STREAM_BASELINE);
    struct rng rng = rng_stream(&base, BASELINE_PERTURB);
    struct baseline_batch batch;
    enum status status = STATUS_OK;
    for (size_t u = 0; u < units; u++) {
        mask[u] = 1.0F;
    }
    for (uint64_t i = 0; i < job->parameters.mask_steps && status == STATUS_OK; i++) {
        baseline_batch_draw(&batch, job, &rng);
        const struct engine_run run = {.count = batch.count,
                                       .user = &batch,
                                       .fill_input = baseline_batch_input,
                                       .mask = mask,
                                       .fill = job->fill,
                                       .loss = baseline_batch_loss,
                                       .mask_grad = gradient,
                                       .cancel = job_cancel(job)};
        job_progress(job, (size_t)i, (size_t)job->parameters.mask_steps, "recovering the filters");
        status = engine_run(job->backward, &run, error);
        for (size_t u = 0; u < units && status == STATUS_OK; u++) {
            const float m = mask[u] - (float)job->parameters.mask_learning_rate * gradient[u];
            mask[u] = m < 0.0F ? 0.0F : m > 1.0F ? 1.0F : m;
        }
    }
    return status;
}

enum status baseline_reconstructive(struct job *job, struct error *error) {
    const size_t units = job->units->unit_count;
    const struct finetune_options unlearn = {.steps = baseline_epoch_steps(job, job->parameters.unlearn_epochs),
                                             .batch = BASELINE_BATCH,
                                             .learning_rate = job->parameters.unlearn_learning_rate,
                                             .ascend = true,
                                             .stop_below = job->parameters.unlearn_accuracy,
                                             .stream = BASELINE_UNLEARN,
                                             .message = "unlearning"};
    float *mask = mem_alloc(units, sizeof *mask), *gradient = mem_alloc(units, sizeof *gradient);
    size_t *biases = mem_alloc(job->units->layer_count, sizeof *biases);
    double accuracy = 0.0;
    enum status status = baseline_begin(job, error);
    if (status == STATUS_OK && (mask == NULL || gradient == NULL || biases == NULL)) {
        status = error_no_memory(error, "the recovery of filters");
    }
    if (status == STATUS_OK) {
        status = baseline_biases(job, biases, error);
    }
    if (status == STATUS_OK) {
        status = finetune_run(job, &unlearn, error);
    }
    if (status == STATUS_OK) {
        status = baseline_accuracy(job, NULL, NULL, &accuracy, error);
    }
    if (status == STATUS_OK) {
        baseline_detail(job, "accuracy_unlearned", json_real(accuracy));
        baseline_fill_biases(job, biases);
        status = recover(job, mask, gradient, error);
    }
    if (status == STATUS_OK && job->original != NULL) {
        snapshot_restore(job->original);
        baseline_fill_biases(job, biases);
    }
    if (status == STATUS_OK) {
        status = baseline_prune_below(job, mask, error);
    }
    mem_free(mask);
    mem_free(gradient);
    mem_free(biases);
    return status;
}
