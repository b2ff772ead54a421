/* What the published methods share: accuracy on the score samples, pruning by an order or a threshold, fine-tuning, evaluation. */
#include "server/baselines/baseline.h"

#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "server/graph/flow.h"
#include "server/mitigate/finetune.h"
#include "server/mitigate/job_probe.h"
#include "server/mitigate/locked.h"
#include "server/mitigate/report.h"
#include "server/nn/loss.h"

enum { STEPS_MAX = 64 };

enum status baseline_begin(struct job *job, struct error *error) {
    const size_t units = job->units->unit_count;
    job->best = mem_calloc(units, sizeof *job->best);
    job->mask = mem_alloc(units, sizeof *job->mask);
    job->fill = mem_calloc(units, sizeof *job->fill);
    if (job->best == NULL || job->mask == NULL || job->fill == NULL) {
        return error_no_memory(error, "a mask");
    }
    for (size_t u = 0; u < units; u++) {
        job->mask[u] = 1.0F;
    }
    return STATUS_OK;
}

struct part {
    const struct job *job;
    const size_t *samples;
};

static void fetch(void *user, size_t first, size_t n, float *x) {
    const struct part *part = user;
    const size_t floats = part->job->image_floats;
    for (size_t i = 0; i < n; i++) {
        memcpy(x + i * floats, part->job->images + part->samples[first + i] * floats, floats * sizeof *x);
    }
}

void baseline_batch_draw(struct baseline_batch *batch, const struct job *job, struct rng *rng) {
    const size_t build = job->split->build_count;
    batch->job = job;
    batch->count = build < BASELINE_BATCH ? build : BASELINE_BATCH;
    for (size_t i = 0; i < batch->count; i++) {
        batch->picked[i] = (size_t)rng_below(rng, build);
    }
}

void baseline_batch_input(void *user, size_t first, size_t n, float *x) {
    const struct baseline_batch *batch = user;
    const size_t floats = batch->job->image_floats;
    for (size_t i = 0; i < n; i++) {
        memcpy(x + i * floats, batch->job->build_images + batch->picked[first + i] * floats, floats * sizeof *x);
    }
}

void baseline_batch_loss(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    const struct baseline_batch *batch = user;
    const size_t classes = batch->job->info.classes;
    for (size_t i = 0; i < n; i++) {
        loss_cross_entropy(1, classes, logits + i * classes, &batch->job->build_labels[batch->picked[first + i]],
                           1.0F / (float)batch->count, dlogits + i * classes);
    }
}

enum status baseline_accuracy(struct job *job, const float *mask, const float *fill, double *accuracy,
                              struct error *error) {
    const struct split *split = job->split;
    struct part part = {job, split->score};
    float *logits = mem_alloc(split->score_count * job->info.classes, sizeof *logits);
    if (logits == NULL) {
        return error_no_memory(error, "the score samples' logits");
    }
    const struct engine_run run = {.count = split->score_count,
                                   .user = &part,
                                   .fill_input = fetch,
                                   .mask = mask,
                                   .fill = fill,
                                   .logits = logits,
                                   .cancel = job_cancel(job)};
    const enum status status = engine_run(job->forward, &run, error);
    size_t hits = 0;
    for (size_t i = 0; status == STATUS_OK && i < split->score_count; i++) {
        const size_t row = i * job->info.classes;
        hits += metrics_hits(1, job->info.classes, logits + row, &job->samples->labels[split->score[i]]);
    }
    mem_free(logits);
    if (status == STATUS_OK) {
        *accuracy = (double)hits / (double)split->score_count;
    }
    return status;
}

void baseline_prune(struct job *job, size_t unit) {
    job->best[unit] = 1;
    job->mask[unit] = 0.0F;
}

static void keep(struct job *job, size_t unit) {
    job->best[unit] = 0;
    job->mask[unit] = 1.0F;
}

enum status baseline_prune_prefix(struct job *job, const size_t *order, size_t count, size_t *pruned,
                                  struct error *error) {
    const size_t step = count < STEPS_MAX ? 1 : count / STEPS_MAX;
    double before = 0.0, after = 0.0;
    size_t done = 0;
    enum status status = baseline_accuracy(job, job->mask, job->fill, &before, error);
    while (done < count && status == STATUS_OK) {
        const size_t end = done + step < count ? done + step : count;
        for (size_t i = done; i < end; i++) {
            baseline_prune(job, order[i]);
        }
        job_progress(job, end, count, "pruning in order");
        status = baseline_accuracy(job, job->mask, job->fill, &after, error);
        if (status == STATUS_OK && before - after > job->parameters.accuracy_drop) {
            for (size_t i = done; i < end; i++) {
                keep(job, order[i]);
            }
            break;
        }
        done = end;
    }
    *pruned = done;
    return status;
}

struct keyed {
    double key;
    size_t unit;
};

static int by_key(const void *a, const void *b) {
    const struct keyed *x = a, *y = b;
    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    return x->unit < y->unit ? -1 : 1;
}

enum status baseline_sort(size_t *units, size_t count, const double *key, struct error *error) {
    struct keyed *list = mem_alloc(count, sizeof *list);
    if (list == NULL) {
        return error_no_memory(error, "an order of units");
    }
    for (size_t i = 0; i < count; i++) {
        list[i] = (struct keyed){key[units[i]], units[i]};
    }
    qsort(list, count, sizeof *list, by_key);
    for (size_t i = 0; i < count; i++) {
        units[i] = list[i].unit;
    }
    mem_free(list);
    return STATUS_OK;
}

enum status baseline_biases(const struct job *job, size_t *values, struct error *error) {
    struct flow *flow = NULL;
    const enum status status = flow_new(job->network, &flow, error);
    for (size_t l = 0; status == STATUS_OK && l < job->units->layer_count; l++) {
        const struct unit_layer *layer = &job->units->layers[l];
        size_t node = layer->norm_node, slot = 2;
        if (node == NETWORK_NONE) {
            struct flow_chain chain;
            flow_chain_of(job->network, flow, layer->weight_node, &chain);
            node = chain.bias_node != NETWORK_NONE ? chain.bias_node : layer->weight_node;
            slot = chain.bias_node != NETWORK_NONE ? chain.bias_slot : 2;
        }
        const struct node *at = &job->network->nodes[node];
        const bool has = flow_has_constant(job->network, at, slot) &&
                         shape_count(&job->network->values[at->inputs[slot]].shape) == layer->count;
        values[l] = has ? at->inputs[slot] : NETWORK_NONE;
    }
    flow_free(flow);
    return status;
}

void baseline_fill_biases(struct job *job, const size_t *values) {
    for (size_t l = 0; l < job->units->layer_count; l++) {
        const struct unit_layer *layer = &job->units->layers[l];
        for (size_t c = 0; c < layer->count; c++) {
            job->fill[layer->first + c] =
                values[l] == NETWORK_NONE ? 0.0F : network_constant_data(job->network, values[l])[c];
        }
    }
}

static void prune_below(struct job *job, const float *key, float threshold) {
    for (size_t u = 0; u < job->units->unit_count; u++) {
        if (key[u] < threshold) {
            baseline_prune(job, u);
        } else {
            keep(job, u);
        }
    }
}

enum status baseline_prune_below(struct job *job, const float *key, struct error *error) {
    double before = 0.0, after = 0.0;
    float chosen = 0.0F;
    prune_below(job, key, 0.0F);
    enum status status = baseline_accuracy(job, job->mask, job->fill, &before, error);
    for (int i = 1; i < 20 && status == STATUS_OK; i++) {
        const float threshold = (float)i * 0.05F;
        prune_below(job, key, threshold);
        status = baseline_accuracy(job, job->mask, job->fill, &after, error);
        if (before - after > job->parameters.accuracy_drop) {
            break;
        }
        chosen = threshold;
    }
    prune_below(job, key, chosen);
    baseline_detail(job, "threshold", json_real((double)chosen));
    return status;
}

void baseline_detail(struct job *job, const char *name, json_t *value) {
    if (job->details == NULL) {
        job->details = json_object();
    }
    json_object_set_new(job->details, name, value);
}

size_t baseline_epoch_steps(const struct job *job, uint64_t epochs) {
    return (size_t)epochs * ((job->split->build_count + BASELINE_BATCH - 1) / BASELINE_BATCH);
}

enum status baseline_none(struct job *job, struct error *error) {
    return baseline_begin(job, error);
}

enum status baseline_finetune(struct job *job, struct error *error) {
    const struct finetune_options options = {.steps = baseline_epoch_steps(job, job->parameters.epochs),
                                             .batch = BASELINE_BATCH,
                                             .learning_rate = job->parameters.learning_rate,
                                             .weight_decay = 5e-4,
                                             .batch_statistics = true,
                                             .stop_below = -1.0,
                                             .stream = BASELINE_TUNE,
                                             .mask = job->mask,
                                             .fill = job->fill,
                                             .message = "fine-tuning"};
    return finetune_run(job, &options, error);
}

enum status baseline_evaluate(struct job *job, struct error *error) {
    const size_t count = job->samples->count, classes = job->info.classes;
    float *probe_logits = NULL;
    job->logits1 = mem_alloc(count * classes, sizeof *job->logits1);
    if (job->logits1 == NULL) {
        return error_no_memory(error, "the repaired logits");
    }
    const struct engine_run run = {.count = count,
                                   .input = job->images,
                                   .mask = job->mask,
                                   .fill = job->fill,
                                   .logits = job->logits1,
                                   .cancel = job_cancel(job)};
    enum status status = engine_run(job->forward, &run, error);
    if (status == STATUS_OK && job->probe != NULL) {
        status = job_probe_logits(job, job->mask, job->fill, &probe_logits, error);
    }
    if (status == STATUS_OK) {
        status = locked_measure(job, &job->locked, error);
    }
    if (status == STATUS_OK) {
        const double net = (double)job->locked.hits_before - (double)job->locked.hits_after;
        job->verdict = net > job->parameters.max_accuracy_drop * (double)job->locked.count ? VERDICT_FAILED_BUDGET
                                                                                           : VERDICT_UNJUDGED;
        status = report_new(job, probe_logits, &job->report, error);
    }
    mem_free(probe_logits);
    return status;
}
