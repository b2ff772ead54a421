/* Adversarial Neuron Pruning (Wu and Wang 2021). Neurons of a backdoored network are sensitive: small relative changes of their weights
 * and biases make it see the trigger where there is none. A mask m over the neurons is trained against such changes (eq. 4):
 *
 *     min over m in [0, 1]  of  alpha L(m w, b) + (1 - alpha) max over |delta|, |xi| <= epsilon of L((m + delta) w, (1 + xi) b)
 *
 * and neurons with a small m are pruned: weights 0, bias as it was.
 *
 * With w a neuron's weights, b its bias and x = w . input + b what a Mask node reads, (m + delta) w . input + b' is the Mask node's m x +
 * (1 - m) fill for a mask of m + delta, a fill of b', and b' in the place of the bias itself. So the engine's gradient by the mask is
 * that by delta and by m; that by xi is b times the sum of the gradients at the neuron's output, which has the sign of the
 * gradient by the bias constant divided by the mask it goes through. The inner step takes signs only. */
#include <string.h>

#include "common/mem.h"
#include "server/baselines/baseline.h"
#include "server/nn/loss.h"

static const float MOMENTUM = 0.9F;

struct search {
    struct job *job;
    struct rng rng;
    struct engine *engine; /* with gradients of the biases */
    size_t *biases;        /* (layers): values of job->network */
    bool *wants_grad;      /* one a value of job->masked */
    float **bias_grad;     /* one a value of job->masked */
    size_t *masked_value;  /* (layers): the same constants in job->masked */
    float *mask, *velocity, *delta, *xi, *trial, *gradient, *sum, *bias; /* (units); bias: as it came */
    struct baseline_batch batch;
};

/* Writes (1 + xi) b, or b if xi is NULL, where the biases are, and into the fill. */
static void set_biases(struct search *s, const float *xi) {
    struct job *job = s->job;
    for (size_t l = 0; l < job->units->layer_count; l++) {
        const struct unit_layer *layer = &job->units->layers[l];
        float *bias = s->biases[l] == NETWORK_NONE ? NULL : network_constant_data(job->network, s->biases[l]);
        for (size_t c = 0; bias != NULL && c < layer->count; c++) {
            const size_t u = layer->first + c;
            bias[c] = s->bias[u] * (xi == NULL ? 1.0F : 1.0F + xi[u]);
        }
    }
    baseline_fill_biases(job, s->biases);
}

/* Gradient of the loss with mask + delta and biases (1 + xi) b; both NULL: as they are. */
static enum status run(struct search *s, const float *delta, const float *xi, struct error *error) {
    struct job *job = s->job;
    for (size_t u = 0; u < job->units->unit_count; u++) {
        s->trial[u] = s->mask[u] + (delta == NULL ? 0.0F : delta[u]);
    }
    set_biases(s, xi);
    const struct engine_run run = {.count = s->batch.count,
                                   .user = &s->batch,
                                   .fill_input = baseline_batch_input,
                                   .mask = s->trial,
                                   .fill = job->fill,
                                   .loss = baseline_batch_loss,
                                   .mask_grad = s->gradient,
                                   .param_grad = s->bias_grad,
                                   .cancel = job_cancel(job)};
    const enum status status = engine_run(s->engine, &run, error);
    set_biases(s, NULL);
    return status;
}

static float sign(float x) {
    return x > 0.0F ? 1.0F : x < 0.0F ? -1.0F : 0.0F;
}

static float clamp(float x, float low, float high) {
    return x < low ? low : x > high ? high : x;
}

/* delta and xi: from a random start in the box, one step of signed ascent as long as the box is wide, projected back. */
static enum status perturb(struct search *s, struct error *error) {
    struct job *job = s->job;
    const float epsilon = (float)job->parameters.perturbation;
    for (size_t u = 0; u < job->units->unit_count; u++) {
        s->delta[u] = rng_range(&s->rng, -epsilon, epsilon);
        s->xi[u] = rng_range(&s->rng, -epsilon, epsilon);
    }
    const enum status status = run(s, s->delta, s->xi, error);
    for (size_t l = 0; l < job->units->layer_count && status == STATUS_OK; l++) {
        const struct unit_layer *layer = &job->units->layers[l];
        const bool has = s->biases[l] != NETWORK_NONE;
        for (size_t c = 0; c < layer->count; c++) {
            const size_t u = layer->first + c;
            const float up =
                has ? sign(s->bias[u]) * sign(s->bias_grad[s->masked_value[l]][c]) * sign(s->trial[u]) : 0.0F;
            s->delta[u] = clamp(s->delta[u] + epsilon * sign(s->gradient[u]), -epsilon, epsilon);
            s->xi[u] = clamp(s->xi[u] + epsilon * up, -epsilon, epsilon);
        }
    }
    return status;
}

static enum status step(struct search *s, struct error *error) {
    const struct parameters *p = &s->job->parameters;
    const size_t units = s->job->units->unit_count;
    baseline_batch_draw(&s->batch, s->job, &s->rng);
    enum status status = perturb(s, error);
    if (status == STATUS_OK) {
        status = run(s, s->delta, s->xi, error);
    }
    for (size_t u = 0; u < units && status == STATUS_OK; u++) {
        s->sum[u] = (1.0F - (float)p->tradeoff) * s->gradient[u];
    }
    if (status == STATUS_OK) {
        status = run(s, NULL, NULL, error);
    }
    for (size_t u = 0; u < units && status == STATUS_OK; u++) {
        s->velocity[u] = MOMENTUM * s->velocity[u] + s->sum[u] + (float)p->tradeoff * s->gradient[u];
        s->mask[u] = clamp(s->mask[u] - (float)p->mask_learning_rate * s->velocity[u], 0.0F, 1.0F);
    }
    return status;
}

/* The constants of job->masked that share the data of the biases, and an engine that gives their gradients. */
static enum status find_biases(struct search *s, struct error *error) {
    struct job *job = s->job;
    enum status status = baseline_biases(job, s->biases, error);
    for (size_t l = 0; l < job->units->layer_count && status == STATUS_OK; l++) {
        s->masked_value[l] = NETWORK_NONE;
        for (size_t v = 0; v < job->masked->value_count && s->biases[l] != NETWORK_NONE; v++) {
            if (job->masked->values[v].kind == VALUE_CONSTANT &&
                job->masked->values[v].data == job->network->values[s->biases[l]].data) {
                s->masked_value[l] = v;
            }
        }
        const size_t v = s->masked_value[l];
        if (v == NETWORK_NONE || s->wants_grad[v]) {
            continue;
        }
        s->wants_grad[v] = true;
        s->bias_grad[v] = mem_aligned(job->units->layers[l].count, sizeof(float));
        status = s->bias_grad[v] == NULL ? error_no_memory(error, "gradients") : STATUS_OK;
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct engine_options options = {.backward = true, .wants_grad = s->wants_grad};
    return engine_new(job->masked, job->pool, &options, &s->engine, error);
}

static enum status search_init(struct search *s, struct error *error) {
    const struct job *job = s->job;
    const size_t units = job->units->unit_count, layers = job->units->layer_count;
    float **const arrays[] = {&s->mask, &s->velocity, &s->delta, &s->xi, &s->trial, &s->gradient, &s->sum, &s->bias};
    bool all = true;
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        *arrays[i] = mem_calloc(units, sizeof(float));
        all = all && *arrays[i] != NULL;
    }
    s->biases = mem_alloc(layers, sizeof *s->biases);
    s->masked_value = mem_alloc(layers, sizeof *s->masked_value);
    s->wants_grad = mem_calloc(job->masked->value_count, sizeof *s->wants_grad);
    s->bias_grad = mem_calloc(job->masked->value_count, sizeof *s->bias_grad);
    if (!all || s->biases == NULL || s->masked_value == NULL || s->wants_grad == NULL || s->bias_grad == NULL) {
        return error_no_memory(error, "the search for sensitive neurons");
    }
    for (size_t u = 0; u < units; u++) {
        s->mask[u] = 1.0F;
    }
    const enum status status = find_biases(s, error);
    if (status == STATUS_OK) {
        baseline_fill_biases(s->job, s->biases);
        memcpy(s->bias, job->fill, units * sizeof *s->bias);
    }
    return status;
}

static void search_deinit(struct search *s) {
    for (size_t v = 0; s->bias_grad != NULL && v < s->job->masked->value_count; v++) {
        mem_free(s->bias_grad[v]);
    }
    engine_free(s->engine);
    mem_free(s->bias_grad);
    mem_free(s->wants_grad);
    mem_free(s->masked_value);
    mem_free(s->biases);
    mem_free(s->mask);
    mem_free(s->velocity);
    mem_free(s->delta);
    mem_free(s->xi);
    mem_free(s->trial);
    mem_free(s->gradient);
    mem_free(s->sum);
    mem_free(s->bias);
}

enum status baseline_adversarial(struct job *job, struct error *error) {
    const struct rng base = rng_stream(&job->rng, STREAM_BASELINE);
    const size_t steps = (size_t)job->parameters.mask_steps;
    struct search s = {.job = job, .rng = rng_stream(&base, BASELINE_PERTURB)};
    enum status status = baseline_begin(job, error);
    if (status == STATUS_OK) {
        status = search_init(&s, error);
    }
    for (size_t i = 0; i < steps && status == STATUS_OK; i++) {
        job_progress(job, i, steps, "a mask against perturbed neurons");
        status = step(&s, error);
    }
    if (status == STATUS_OK) {
        status = baseline_prune_below(job, s.mask, error);
    }
    search_deinit(&s);
    return status;
}
