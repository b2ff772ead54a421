/* SGD with Nesterov momentum, weight decay on weights only, one rise and one fall of the learning rate (Smith and Topin,
 * arXiv 1708.07120). Batches are cut into chunks of 32; BatchNorm normalises by chunk ("ghost batches", Hoffer et al.,
 * arXiv 1705.08741), and the running statistics take the chunks in order, so that the threads do not matter.
 *
 * Augmentation: a shift by up to two pixels and a change of light. A trigger in the training images moves with them, as in
 * a victim's own training. */
#include "tests/forge/trainer.h"

#include <math.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "server/nn/engine.h"
#include "server/nn/loss.h"
#include "server/nn/optim.h"
#include "tests/forge/render.h"

enum { SIDE = RENDER_SIDE, CHUNK = 32, BATCH_CHUNKS = TRAINER_BATCH / CHUNK, SHIFT = 2 };

static const float RATE_PEAK = 0.1f, RATE_START = 0.02f, RISE = 0.2f; /* RISE: share of the steps */
static const float MOMENTUM = 0.9f, WEIGHT_DECAY = 5e-4f;
static const float LIGHT = 0.15f; /* gain between 1 - LIGHT and 1 + LIGHT, and half of that as an offset */

struct trainer {
    struct network *network;
    const struct dataset *train;
    const struct rng *rng;
    struct engine *engine;
    size_t classes;

    bool *wants_grad;  /* one a value */
    float **gradients; /* one a value, NULL where not wanted */
    struct sgd **optimisers;

    size_t *order; /* images of this epoch; the batch at work starts at `begin` */
    size_t begin, epoch;

    double chunk_loss[BATCH_CHUNKS];
    size_t chunk_right[BATCH_CHUNKS];
    size_t *stats_offset; /* one a node: its place in `stats`, for BatchNorm */
    size_t stats_floats;
    float *stats; /* (BATCH_CHUNKS, stats_floats): mean (C) and variance (C) of each BatchNorm */
};

/* One image in 0..1, shifted by (down, right) with its edges repeated, times gain plus offset. */
static void augment(const uint8_t *pixels, int down, int right, float gain, float offset, float *x) {
    for (size_t c = 0; c < RENDER_CHANNELS; c++) {
        for (int i = 0; i < SIDE; i++) {
            int row = i - down < 0 ? 0 : (i - down >= SIDE ? SIDE - 1 : i - down);
            const uint8_t *from = pixels + c * SIDE * SIDE + (size_t)row * SIDE;
            float *to = x + c * SIDE * SIDE + (size_t)i * SIDE;
            for (int j = 0; j < SIDE; j++) {
                int column = j - right < 0 ? 0 : (j - right >= SIDE ? SIDE - 1 : j - right);
                to[j] = (float)from[column] * (gain / 255.0f) + offset;
            }
        }
    }
}

static void fill_batch(void *user, size_t first, size_t n, float *x) {
    const struct trainer *trainer = user;
    for (size_t i = 0; i < n; i++) {
        size_t index = trainer->order[trainer->begin + first + i];
        struct rng rng = rng_stream(trainer->rng, 1 + trainer->epoch * trainer->train->count + index);
        int down = (int)rng_below(&rng, 2 * SHIFT + 1) - SHIFT;
        int right = (int)rng_below(&rng, 2 * SHIFT + 1) - SHIFT;
        float gain = rng_range(&rng, 1.0f - LIGHT, 1.0f + LIGHT), offset = rng_range(&rng, -LIGHT / 2, LIGHT / 2);
        augment(trainer->train->pixels + index * RENDER_BYTES, down, right, gain, offset, x + i * RENDER_BYTES);
    }
}

static void batch_loss(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    struct trainer *trainer = user;
    int32_t labels[CHUNK];
    size_t right = 0;
    for (size_t i = 0; i < n; i++) {
        labels[i] = trainer->train->labels[trainer->order[trainer->begin + first + i]];
        right += loss_argmax(trainer->classes, logits + i * trainer->classes) == (size_t)labels[i];
    }
    trainer->chunk_right[first / CHUNK] = right;
    trainer->chunk_loss[first / CHUNK] =
        loss_cross_entropy(n, trainer->classes, logits, labels, 1.0f / TRAINER_BATCH, dlogits);
}

static void keep_stats(void *user, size_t node, size_t first, size_t n, const float *mean, const float *variance) {
    struct trainer *trainer = user;
    size_t channels = trainer->network->values[trainer->network->nodes[node].output].shape.dim[1];
    float *to = trainer->stats + first / CHUNK * trainer->stats_floats + trainer->stats_offset[node];
    (void)n;
    memcpy(to, mean, channels * sizeof *to);
    memcpy(to + channels, variance, channels * sizeof *to);
}

/* running = momentum running + (1 - momentum) chunk, chunk after chunk. */
static void update_stats(struct trainer *trainer) {
    const struct network *network = trainer->network;
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        if (node->op != OP_BATCH_NORM) {
            continue;
        }
        float *mean = network_constant_data(network, node->inputs[3]);
        float *variance = network_constant_data(network, node->inputs[4]);
        size_t channels = network->values[node->output].shape.dim[1];
        float keep = node->attr.momentum;
        for (size_t chunk = 0; chunk < BATCH_CHUNKS; chunk++) {
            const float *from = trainer->stats + chunk * trainer->stats_floats + trainer->stats_offset[i];
            for (size_t c = 0; c < channels; c++) {
                mean[c] = keep * mean[c] + (1.0f - keep) * from[c];
                variance[c] = keep * variance[c] + (1.0f - keep) * from[channels + c];
            }
        }
    }
}

/* From RATE_START up to the peak in a straight line, then down to 0 along half a cosine. */
static float learning_rate(size_t step, size_t steps) {
    float at = ((float)step + 0.5f) / (float)steps;
    if (at < RISE) {
        return RATE_START + (RATE_PEAK - RATE_START) * at / RISE;
    }
    return RATE_PEAK * 0.5f * (1.0f + cosf(3.1415927f * (at - RISE) / (1.0f - RISE)));
}

/* Marks value as trained, with a gradient and an optimiser of its own. */
static enum status train_value(struct trainer *trainer, size_t value, float decay, struct error *error) {
    size_t count = shape_count(&trainer->network->values[value].shape);
    struct sgd_options options = {.momentum = MOMENTUM, .weight_decay = decay, .nesterov = 1};
    trainer->wants_grad[value] = true;
    trainer->gradients[value] = mem_aligned(count, sizeof(float));
    if (trainer->gradients[value] == NULL) {
        return error_no_memory(error, "gradients");
    }
    return sgd_new(count, &options, &trainer->optimisers[value], error);
}

/* What is trained: weights and biases of Conv and Gemm, scale and bias of BatchNorm. */
static enum status choose_trained(struct trainer *trainer, struct error *error) {
    const struct network *network = trainer->network;
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        bool weights = node->op == OP_CONV || node->op == OP_GEMM;
        if (!weights && node->op != OP_BATCH_NORM) {
            continue;
        }
        if (!weights) {
            trainer->stats_offset[i] = trainer->stats_floats;
            trainer->stats_floats += 2 * network->values[node->output].shape.dim[1];
        }
        for (size_t k = 1; k < node->input_count && k <= 2; k++) {
            enum status status = train_value(trainer, node->inputs[k], weights && k == 1 ? WEIGHT_DECAY : 0.0f, error);
            if (status != STATUS_OK) {
                return status;
            }
        }
    }
    return STATUS_OK;
}

static void trainer_deinit(struct trainer *trainer) {
    for (size_t v = 0; v < trainer->network->value_count; v++) {
        if (trainer->optimisers != NULL) {
            sgd_free(trainer->optimisers[v]);
        }
        if (trainer->gradients != NULL) {
            mem_free(trainer->gradients[v]);
        }
    }
    engine_free(trainer->engine);
    mem_free(trainer->stats);
    mem_free(trainer->stats_offset);
    mem_free(trainer->order);
    mem_free(trainer->optimisers);
    mem_free(trainer->gradients);
    mem_free(trainer->wants_grad);
}

static enum status trainer_init(struct trainer *trainer, struct pool *pool, struct error *error) {
    const struct network *network = trainer->network;
    trainer->classes = network->values[network->output].shape.dim[1];
    trainer->wants_grad = mem_calloc(network->value_count, sizeof *trainer->wants_grad);
    trainer->gradients = mem_calloc(network->value_count, sizeof *trainer->gradients);
    trainer->optimisers = mem_calloc(network->value_count, sizeof *trainer->optimisers);
    trainer->stats_offset = mem_calloc(network->node_count, sizeof *trainer->stats_offset);
    trainer->order = mem_alloc(trainer->train->count, sizeof *trainer->order);
    if (trainer->wants_grad == NULL || trainer->gradients == NULL || trainer->optimisers == NULL ||
        trainer->stats_offset == NULL || trainer->order == NULL) {
        return error_no_memory(error, "training");
    }
    enum status status = choose_trained(trainer, error);
    if (status != STATUS_OK) {
        return status;
    }
    trainer->stats = mem_calloc(BATCH_CHUNKS * trainer->stats_floats, sizeof *trainer->stats);
    if (trainer->stats == NULL) {
        return error_no_memory(error, "training");
    }
    const struct engine_options options = {.chunk = CHUNK, .backward = true, .wants_grad = trainer->wants_grad};
    return engine_new(network, pool, &options, &trainer->engine, error);
}

/* One step on the batch at trainer->begin; adds its loss and its right answers. */
static enum status train_batch(struct trainer *trainer, float rate, double *loss, size_t *right, struct error *error) {
    const struct engine_run run = {.count = TRAINER_BATCH,
                                   .user = trainer,
                                   .fill_input = fill_batch,
                                   .train = true,
                                   .loss = batch_loss,
                                   .param_grad = trainer->gradients,
                                   .batch_stats = keep_stats};
    enum status status = engine_run(trainer->engine, &run, error);
    if (status != STATUS_OK) {
        return status;
    }
    update_stats(trainer);
    for (size_t v = 0; v < trainer->network->value_count; v++) {
        if (trainer->optimisers[v] != NULL) {
            sgd_set_learning_rate(trainer->optimisers[v], rate);
            sgd_step(trainer->optimisers[v], network_constant_data(trainer->network, v), trainer->gradients[v]);
        }
    }
    for (size_t chunk = 0; chunk < BATCH_CHUNKS; chunk++) {
        *loss += trainer->chunk_loss[chunk];
        *right += trainer->chunk_right[chunk];
    }
    return STATUS_OK;
}

/* All whole batches of a fresh order; what is left over has its turn in another epoch. */
static enum status train_epoch(struct trainer *trainer, size_t epochs, double *loss, size_t *right,
                               struct error *error) {
    size_t batches = trainer->train->count / TRAINER_BATCH;
    struct rng shuffler = rng_stream(trainer->rng, 0);
    shuffler = rng_stream(&shuffler, trainer->epoch);
    for (size_t i = 0; i < trainer->train->count; i++) {
        trainer->order[i] = i;
    }
    rng_shuffle(&shuffler, trainer->order, trainer->train->count);
    for (size_t batch = 0; batch < batches; batch++) {
        float rate = learning_rate(trainer->epoch * batches + batch, epochs * batches);
        trainer->begin = batch * TRAINER_BATCH;
        enum status status = train_batch(trainer, rate, loss, right, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

enum status trainer_run(struct network *network, struct pool *pool, const struct dataset *train,
                        const struct trainer_options *options, const struct rng *rng, struct error *error) {
    struct trainer trainer = {.network = network, .train = train, .rng = rng};
    double start = clock_seconds();
    size_t whole = train->count / TRAINER_BATCH * TRAINER_BATCH;
    double seen = (double)whole;
    enum status status = STATUS_OK;

    if (train->count < TRAINER_BATCH) {
        return error_set(error, STATUS_INVALID, NULL, "failed to train: got %zu images, expected at least %d",
                         train->count, TRAINER_BATCH);
    }
    status = trainer_init(&trainer, pool, error);
    for (; trainer.epoch < options->epochs && status == STATUS_OK; trainer.epoch++) {
        double loss = 0.0;
        size_t right = 0;
        status = train_epoch(&trainer, options->epochs, &loss, &right, error);
        if (status == STATUS_OK && options->report != NULL) {
            options->report(&(struct trainer_epoch){.number = trainer.epoch + 1,
                                                    .epochs = options->epochs,
                                                    .loss = loss / seen,
                                                    .accuracy = (double)right / seen,
                                                    .seconds = clock_seconds() - start});
        }
    }
    trainer_deinit(&trainer);
    return status;
}

static void fill_plain(void *user, size_t first, size_t n, float *x) {
    const struct dataset *set = user;
    for (size_t i = 0; i < n * RENDER_BYTES; i++) {
        x[i] = (float)set->pixels[first * RENDER_BYTES + i] / 255.0f;
    }
}

enum status trainer_logits(const struct network *network, struct pool *pool, const struct dataset *set, float **out,
                           struct error *error) {
    size_t classes = network->values[network->output].shape.dim[1];
    struct engine *engine = NULL;
    struct dataset borrowed = *set;
    float *logits = mem_alloc(set->count * classes, sizeof *logits);
    enum status status = logits == NULL ? error_no_memory(error, "logits") : STATUS_OK;

    if (status == STATUS_OK) {
        status = engine_new(network, pool, &(struct engine_options){.chunk = CHUNK}, &engine, error);
    }
    if (status == STATUS_OK) {
        const struct engine_run run = {
            .count = set->count, .user = &borrowed, .fill_input = fill_plain, .logits = logits};
        status = engine_run(engine, &run, error);
    }
    engine_free(engine);
    if (status != STATUS_OK) {
        mem_free(logits);
        return status;
    }
    *out = logits;
    return STATUS_OK;
}
