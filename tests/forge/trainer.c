/* SGD with Nesterov momentum, weight decay on weights only, one rise and one fall of the learning rate (Smith and Topin,
 * arXiv 1708.07120). Batches are cut into chunks of 32; BatchNorm normalises by chunk ("ghost batches", Hoffer et al.,
 * arXiv 1705.08741), and the running statistics take the chunks in order, so that the threads do not matter.
 *
 * Augmentation: a shift by up to two pixels and a change of light. A trigger in the training images moves with them, as in
 * a victim's own training. */
#include "tests/forge/trainer.h"

#include <math.h>

#include "common/clock.h"
#include "common/mem.h"
#include "server/nn/engine.h"
#include "server/nn/loss.h"
#include "server/nn/train.h"
#include "tests/forge/render.h"

enum { SIDE = RENDER_SIDE, CHUNK = 32, BATCH_CHUNKS = TRAINER_BATCH / CHUNK, SHIFT = 2 };

static const float RATE_PEAK = 0.1f, RATE_START = 0.02f, RISE = 0.2f; /* RISE: share of the steps */
static const float MOMENTUM = 0.9f, WEIGHT_DECAY = 5e-4f;
static const float LIGHT = 0.15f; /* gain between 1 - LIGHT and 1 + LIGHT, and half of that as an offset */

struct trainer {
    const struct dataset *train;
    const struct rng *rng;
    struct train *weights;
    size_t classes;

    size_t *order; /* images of this epoch; the batch at work starts at `begin` */
    size_t begin, epoch;

    double chunk_loss[BATCH_CHUNKS];
    size_t chunk_right[BATCH_CHUNKS];
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

/* From RATE_START up to the peak in a straight line, then down to 0 along half a cosine. */
static float learning_rate(size_t step, size_t steps) {
    float at = ((float)step + 0.5f) / (float)steps;
    if (at < RISE) {
        return RATE_START + (RATE_PEAK - RATE_START) * at / RISE;
    }
    return RATE_PEAK * 0.5f * (1.0f + cosf(3.1415927f * (at - RISE) / (1.0f - RISE)));
}

/* One step on the batch at trainer->begin; adds its loss and its right answers. */
static enum status train_batch(struct trainer *trainer, float rate, double *loss, size_t *right, struct error *error) {
    const struct engine_run run = {
        .count = TRAINER_BATCH, .user = trainer, .fill_input = fill_batch, .loss = batch_loss};
    enum status status = train_step(trainer->weights, &run, rate, error);
    if (status != STATUS_OK) {
        return status;
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
    struct trainer trainer = {.train = train, .rng = rng};
    const struct train_options weights = {.chunk = CHUNK,
                                          .batch_max = TRAINER_BATCH,
                                          .momentum = MOMENTUM,
                                          .weight_decay = WEIGHT_DECAY,
                                          .batch_statistics = true};
    double start = clock_seconds();
    size_t whole = train->count / TRAINER_BATCH * TRAINER_BATCH;
    double seen = (double)whole;
    enum status status = STATUS_OK;

    if (train->count < TRAINER_BATCH) {
        return error_set(error, STATUS_INVALID, NULL, "failed to train: got %zu images, expected at least %d",
                         train->count, TRAINER_BATCH);
    }
    trainer.classes = network->values[network->output].shape.dim[1];
    trainer.order = mem_alloc(train->count, sizeof *trainer.order);
    status = trainer.order == NULL ? error_no_memory(error, "training")
                                   : train_new(network, pool, &weights, &trainer.weights, error);
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
    train_free(trainer.weights);
    mem_free(trainer.order);
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
