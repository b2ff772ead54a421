/* SGD with Nesterov momentum over the trained constants of a network, and copies of all constants. */
#include "server/nn/train.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "server/nn/optim.h"

struct train {
    const struct network *network;
    struct train_options options;
    struct engine *engine;
    bool *wants_grad;  /* one a value */
    float **gradients; /* one a value, NULL where not wanted */
    struct sgd **optimisers;
    size_t *stats_offset; /* one a node: its place in `stats`, for BatchNorm */
    size_t stats_floats;
    float *stats; /* (chunks of a batch, stats_floats): mean (C) and variance (C) of each BatchNorm */
};

/* The caller's run, and ours around it: both want `user`. */
struct wrapped {
    struct train *train;
    const struct engine_run *run;
};

static void fill_input(void *user, size_t first, size_t n, float *x) {
    const struct wrapped *w = user;
    w->run->fill_input(w->run->user, first, n, x);
}

static void take_loss(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    const struct wrapped *w = user;
    w->run->loss(w->run->user, first, n, logits, dlogits);
}

static size_t channels_of(const struct train *train, size_t node) {
    return train->network->values[train->network->nodes[node].output].shape.dim[1];
}

static void keep_stats(void *user, size_t node, size_t first, size_t n, const float *mean, const float *variance) {
    const struct wrapped *w = user;
    struct train *train = w->train;
    const size_t channels = channels_of(train, node);
    float *to = train->stats + first / train->options.chunk * train->stats_floats + train->stats_offset[node];
    (void)n;
    memcpy(to, mean, channels * sizeof *to);
    memcpy(to + channels, variance, channels * sizeof *to);
}

/* running = momentum running + (1 - momentum) chunk, chunk after chunk. */
static void update_stats(struct train *train, size_t chunks) {
    const struct network *network = train->network;
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        if (node->op != OP_BATCH_NORM) {
            continue;
        }
        float *mean = network_constant_data(network, node->inputs[3]);
        float *variance = network_constant_data(network, node->inputs[4]);
        const size_t channels = channels_of(train, i);
        const float keep = node->attr.momentum;
        for (size_t chunk = 0; chunk < chunks; chunk++) {
            const float *from = train->stats + chunk * train->stats_floats + train->stats_offset[i];
            for (size_t c = 0; c < channels; c++) {
                mean[c] = keep * mean[c] + (1.0F - keep) * from[c];
                variance[c] = keep * variance[c] + (1.0F - keep) * from[channels + c];
            }
        }
    }
}

/* Marks value as trained, with a gradient and an optimiser of its own; a constant that two nodes share is one. */
static enum status train_value(struct train *train, size_t value, float decay, struct error *error) {
    const size_t count = shape_count(&train->network->values[value].shape);
    const struct sgd_options options = {.momentum = train->options.momentum, .weight_decay = decay, .nesterov = 1};
    if (train->wants_grad[value]) {
        return STATUS_OK;
    }
    train->wants_grad[value] = true;
    train->gradients[value] = mem_aligned(count, sizeof(float));
    if (train->gradients[value] == NULL) {
        return error_no_memory(error, "gradients");
    }
    return sgd_new(count, &options, &train->optimisers[value], error);
}

static enum status choose_trained(struct train *train, struct error *error) {
    const struct network *network = train->network;
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        const bool weights = node->op == OP_CONV || node->op == OP_GEMM;
        if (!weights && node->op != OP_BATCH_NORM) {
            continue;
        }
        if (!weights) {
            train->stats_offset[i] = train->stats_floats;
            train->stats_floats += 2 * channels_of(train, i);
        }
        for (size_t k = 1; k < node->input_count && k <= 2; k++) {
            const size_t value = node->inputs[k];
            if (value == NETWORK_NONE || network->values[value].kind != VALUE_CONSTANT) {
                continue;
            }
            const float decay = weights && k == 1 ? train->options.weight_decay : 0.0F;
            const enum status status = train_value(train, value, decay, error);
            if (status != STATUS_OK) {
                return status;
            }
        }
    }
    return STATUS_OK;
}

void train_free(struct train *train) {
    if (train == NULL) {
        return;
    }
    for (size_t v = 0; v < train->network->value_count; v++) {
        if (train->optimisers != NULL) {
            sgd_free(train->optimisers[v]);
        }
        if (train->gradients != NULL) {
            mem_free(train->gradients[v]);
        }
    }
    engine_free(train->engine);
    mem_free(train->stats);
    mem_free(train->stats_offset);
    mem_free(train->optimisers);
    mem_free(train->gradients);
    mem_free(train->wants_grad);
    mem_free(train);
}

enum status train_new(const struct network *network, struct pool *pool, const struct train_options *options,
                      struct train **out, struct error *error) {
    struct train *train = mem_calloc(1, sizeof *train);
    if (train == NULL) {
        return error_no_memory(error, "training");
    }
    const size_t chunks = (options->batch_max + options->chunk - 1) / options->chunk;
    train->network = network;
    train->options = *options;
    train->wants_grad = mem_calloc(network->value_count, sizeof *train->wants_grad);
    train->gradients = mem_calloc(network->value_count, sizeof *train->gradients);
    train->optimisers = mem_calloc(network->value_count, sizeof *train->optimisers);
    train->stats_offset = mem_calloc(network->node_count, sizeof *train->stats_offset);
    enum status status = STATUS_OK;
    if (train->wants_grad == NULL || train->gradients == NULL || train->optimisers == NULL ||
        train->stats_offset == NULL) {
        status = error_no_memory(error, "training");
        goto fail;
    }
    status = choose_trained(train, error);
    if (status != STATUS_OK) {
        goto fail;
    }
    train->stats = mem_calloc(chunks * train->stats_floats, sizeof *train->stats);
    if (train->stats == NULL) {
        status = error_no_memory(error, "training");
        goto fail;
    }
    const struct engine_options engine = {.chunk = options->chunk, .backward = true, .wants_grad = train->wants_grad};
    status = engine_new(network, pool, &engine, &train->engine, error);
    if (status != STATUS_OK) {
        goto fail;
    }
    *out = train;
    return STATUS_OK;
fail:
    train_free(train);
    return status;
}

static void limit_norm(struct train *train) {
    double sum = 0.0;
    for (size_t v = 0; v < train->network->value_count; v++) {
        const size_t count = train->gradients[v] == NULL ? 0 : shape_count(&train->network->values[v].shape);
        for (size_t i = 0; i < count; i++) {
            sum += (double)train->gradients[v][i] * (double)train->gradients[v][i];
        }
    }
    const double norm = sqrt(sum);
    if (train->options.max_norm <= 0.0F || norm <= (double)train->options.max_norm) {
        return;
    }
    const float scale = train->options.max_norm / (float)norm;
    for (size_t v = 0; v < train->network->value_count; v++) {
        const size_t count = train->gradients[v] == NULL ? 0 : shape_count(&train->network->values[v].shape);
        for (size_t i = 0; i < count; i++) {
            train->gradients[v][i] *= scale;
        }
    }
}

enum status train_step(struct train *train, const struct engine_run *run, float learning_rate, struct error *error) {
    struct wrapped wrapped = {train, run};
    const struct engine_run ours = {.count = run->count,
                                    .user = &wrapped,
                                    .input = run->input,
                                    .fill_input = run->fill_input == NULL ? NULL : fill_input,
                                    .mask = run->mask,
                                    .fill = run->fill,
                                    .train = train->options.batch_statistics,
                                    .logits = run->logits,
                                    .loss = take_loss,
                                    .param_grad = train->gradients,
                                    .batch_stats = train->options.batch_statistics ? keep_stats : NULL,
                                    .cancel = run->cancel};
    const enum status status = engine_run(train->engine, &ours, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (train->options.batch_statistics) {
        update_stats(train, (run->count + train->options.chunk - 1) / train->options.chunk);
    }
    if (train->options.max_norm > 0.0F) {
        limit_norm(train);
    }
    for (size_t v = 0; v < train->network->value_count; v++) {
        if (train->optimisers[v] != NULL) {
            sgd_set_learning_rate(train->optimisers[v], learning_rate);
            sgd_step(train->optimisers[v], network_constant_data(train->network, v), train->gradients[v]);
        }
    }
    return STATUS_OK;
}

struct snapshot {
    const struct network *network;
    float **data; /* one a value, NULL for what is no constant */
};

void snapshot_free(struct snapshot *snapshot) {
    if (snapshot == NULL) {
        return;
    }
    for (size_t v = 0; snapshot->data != NULL && v < snapshot->network->value_count; v++) {
        mem_free(snapshot->data[v]);
    }
    mem_free(snapshot->data);
    mem_free(snapshot);
}

enum status snapshot_new(const struct network *network, struct snapshot **out, struct error *error) {
    struct snapshot *snapshot = mem_calloc(1, sizeof *snapshot);
    if (snapshot == NULL) {
        return error_no_memory(error, "a copy of the weights");
    }
    snapshot->network = network;
    snapshot->data = mem_calloc(network->value_count, sizeof *snapshot->data);
    for (size_t v = 0; snapshot->data != NULL && v < network->value_count; v++) {
        const struct value *value = &network->values[v];
        if (value->kind != VALUE_CONSTANT) {
            continue;
        }
        snapshot->data[v] = mem_dup(value->data, shape_count(&value->shape) * sizeof *value->data);
        if (snapshot->data[v] == NULL) {
            snapshot_free(snapshot);
            return error_no_memory(error, "a copy of the weights");
        }
    }
    if (snapshot->data == NULL) {
        snapshot_free(snapshot);
        return error_no_memory(error, "a copy of the weights");
    }
    *out = snapshot;
    return STATUS_OK;
}

static size_t bytes_of(const struct snapshot *snapshot, size_t value) {
    return shape_count(&snapshot->network->values[value].shape) * sizeof(float);
}

void snapshot_restore(const struct snapshot *snapshot) {
    for (size_t v = 0; v < snapshot->network->value_count; v++) {
        if (snapshot->data[v] != NULL) {
            memcpy(network_constant_data(snapshot->network, v), snapshot->data[v], bytes_of(snapshot, v));
        }
    }
}

bool snapshot_differs(const struct snapshot *snapshot, size_t value) {
    return snapshot->data[value] != NULL &&
           memcmp(snapshot->data[value], network_constant_data(snapshot->network, value), bytes_of(snapshot, value)) !=
               0;
}
