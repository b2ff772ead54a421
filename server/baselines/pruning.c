/* Methods that rank units and prune: Fine-Pruning (Liu, Dolan-Gavitt and Garg 2018, section 4: the channels of the last convolution that
 * are least active on clean inputs are pruned, one after the other, until the accuracy falls; then fine-tuning), Channel Lipschitz
 * Pruning (Zheng et al. 2022, eq. 7 and 8: a channel's Lipschitz constant, and mean + u deviations of its layer as the threshold; no
 * data), and units drawn at random. */
#include <math.h>

#include "common/mem.h"
#include "server/baselines/baseline.h"

/* The deepest layer of a convolution; the deepest of all if there is none. */
static const struct unit_layer *last_convolution(const struct job *job) {
    const struct unit_layer *last = NULL;
    for (size_t l = 0; l < job->units->layer_count; l++) {
        const struct unit_layer *layer = &job->units->layers[l];
        const bool convolution =
            layer->weight_node != NETWORK_NONE && job->network->nodes[layer->weight_node].op == OP_CONV;
        if (convolution && (last == NULL || layer->depth >= last->depth)) {
            last = layer;
        }
    }
    return last != NULL ? last : &job->units->layers[job->units->layer_count - 1];
}

enum status baseline_fine_pruning(struct job *job, struct error *error) {
    const size_t units = job->units->unit_count;
    const struct unit_layer *layer = last_convolution(job);
    double *activity = mem_calloc(units, sizeof *activity);
    size_t *order = mem_alloc(layer->count, sizeof *order), pruned = 0;
    enum status status = baseline_begin(job, error);
    if (status == STATUS_OK && (activity == NULL || order == NULL)) {
        status = error_no_memory(error, "the order of pruning");
    }
    for (size_t c = 0; status == STATUS_OK && c < layer->count; c++) {
        const size_t u = layer->first + c;
        const double mean = (double)job->stats0->mean[u], deviation = (double)job->stats0->deviation[u];
        /* The mean after a ReLU; without one straight behind, positive and negative values must not cancel. */
        activity[u] = layer->low == 0.0F ? mean : sqrt(mean * mean + deviation * deviation);
        order[c] = u;
    }
    if (status == STATUS_OK) {
        status = baseline_sort(order, layer->count, activity, error);
    }
    if (status == STATUS_OK) {
        status = baseline_prune_prefix(job, order, layer->count - 1, &pruned, error);
    }
    mem_free(activity);
    mem_free(order);
    return status;
}

enum status baseline_lipschitz(struct job *job, struct error *error) {
    const enum status status = baseline_begin(job, error);
    for (size_t l = 0; status == STATUS_OK && l < job->units->layer_count; l++) {
        const struct unit_layer *layer = &job->units->layers[l];
        const float *features = job->graph->weight_features + layer->first * WEIGHT_FEATURE_COUNT;
        double sum = 0.0, square = 0.0;
        for (size_t c = 0; c < layer->count; c++) {
            sum += (double)features[c * WEIGHT_FEATURE_COUNT + WEIGHT_FEATURE_LIPSCHITZ];
        }
        const double mean = sum / (double)layer->count;
        for (size_t c = 0; c < layer->count; c++) {
            const double d = (double)features[c * WEIGHT_FEATURE_COUNT + WEIGHT_FEATURE_LIPSCHITZ] - mean;
            square += d * d;
        }
        const double threshold = mean + job->parameters.deviations * sqrt(square / (double)layer->count);
        for (size_t c = 0; c < layer->count; c++) {
            if ((double)features[c * WEIGHT_FEATURE_COUNT + WEIGHT_FEATURE_LIPSCHITZ] > threshold) {
                baseline_prune(job, layer->first + c);
            }
        }
    }
    return status;
}

enum status baseline_random(struct job *job, struct error *error) {
    const size_t units = job->units->unit_count;
    const struct rng base = rng_stream(&job->rng, STREAM_BASELINE);
    struct rng rng = rng_stream(&base, BASELINE_ORDER);
    size_t *order = mem_alloc(units, sizeof *order), pruned = 0;
    enum status status = baseline_begin(job, error);
    if (status == STATUS_OK && order == NULL) {
        status = error_no_memory(error, "the order of pruning");
    }
    if (status == STATUS_OK) {
        for (size_t u = 0; u < units; u++) {
            order[u] = u;
        }
        rng_shuffle(&rng, order, units);
        status = baseline_prune_prefix(job, order, units, &pruned, error);
    }
    mem_free(order);
    return status;
}
