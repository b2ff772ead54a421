/* Adam and SGD over flat arrays. One pass over the data a step; the loops have no branch, so the compiler vectorises them. */
#include "server/nn/optim.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"

struct adam {
    size_t count;
    struct adam_options options;
    float *m;                        /* running mean of the gradient */
    float *v;                        /* running mean of its square */
    double beta1_power, beta2_power; /* beta^t, for the correction of the bias towards the zero start */
};

enum status adam_new(size_t count, const struct adam_options *options, struct adam **out, struct error *error) {
    struct adam *adam = mem_calloc(1, sizeof *adam);
    if (adam == NULL) {
        return error_no_memory(error, "optimiser");
    }
    adam->count = count;
    adam->options = *options;
    adam->m = mem_aligned(count, sizeof(float));
    adam->v = mem_aligned(count, sizeof(float));
    if (adam->m == NULL || adam->v == NULL) {
        adam_free(adam);
        return error_no_memory(error, "optimiser");
    }
    adam_reset(adam);
    *out = adam;
    return STATUS_OK;
}

void adam_free(struct adam *adam) {
    if (adam == NULL) {
        return;
    }
    mem_free(adam->v);
    mem_free(adam->m);
    mem_free(adam);
}

void adam_set_learning_rate(struct adam *adam, float learning_rate) {
    adam->options.learning_rate = learning_rate;
}

void adam_reset(struct adam *adam) {
    memset(adam->m, 0, adam->count * sizeof(float));
    memset(adam->v, 0, adam->count * sizeof(float));
    adam->beta1_power = 1.0;
    adam->beta2_power = 1.0;
}

void adam_step(struct adam *adam, float *restrict parameters, const float *restrict gradient) {
    const struct adam_options *o = &adam->options;
    float *restrict m = adam->m;
    float *restrict v = adam->v;
    size_t count = adam->count;

    adam->beta1_power *= (double)o->beta1;
    adam->beta2_power *= (double)o->beta2;
    /* The corrections of both means, folded into two factors (end of section 2 of the paper). */
    float step = (float)((double)o->learning_rate / (1.0 - adam->beta1_power));
    float root_scale = (float)(1.0 / sqrt(1.0 - adam->beta2_power));
    float keep = 1.0f - o->learning_rate * o->weight_decay;
    float beta1 = o->beta1;
    float beta2 = o->beta2;
    float epsilon = o->epsilon;

    for (size_t i = 0; i < count; i++) {
        float g = gradient[i];
        m[i] = beta1 * m[i] + (1.0f - beta1) * g;
        v[i] = beta2 * v[i] + (1.0f - beta2) * g * g;
        parameters[i] = keep * parameters[i] - step * m[i] / (sqrtf(v[i]) * root_scale + epsilon);
    }
}

size_t adam_state_size(const struct adam *adam) {
    return 2 * adam->count * sizeof(float) + 2 * sizeof(double);
}

void adam_save(const struct adam *adam, void *state) {
    const size_t bytes = adam->count * sizeof(float);
    const double powers[2] = {adam->beta1_power, adam->beta2_power};
    char *to = state;
    memcpy(to, powers, sizeof powers);
    memcpy(to + sizeof powers, adam->m, bytes);
    memcpy(to + sizeof powers + bytes, adam->v, bytes);
}

void adam_load(struct adam *adam, const void *state) {
    const size_t bytes = adam->count * sizeof(float);
    double powers[2];
    const char *from = state;
    memcpy(powers, from, sizeof powers);
    memcpy(adam->m, from + sizeof powers, bytes);
    memcpy(adam->v, from + sizeof powers + bytes, bytes);
    adam->beta1_power = powers[0];
    adam->beta2_power = powers[1];
}

struct sgd {
    size_t count;
    struct sgd_options options;
    float *velocity;
};

enum status sgd_new(size_t count, const struct sgd_options *options, struct sgd **out, struct error *error) {
    struct sgd *sgd = mem_calloc(1, sizeof *sgd);
    if (sgd == NULL) {
        return error_no_memory(error, "optimiser");
    }
    sgd->count = count;
    sgd->options = *options;
    sgd->velocity = mem_aligned(count, sizeof(float));
    if (sgd->velocity == NULL) {
        sgd_free(sgd);
        return error_no_memory(error, "optimiser");
    }
    *out = sgd;
    return STATUS_OK;
}

void sgd_free(struct sgd *sgd) {
    if (sgd == NULL) {
        return;
    }
    mem_free(sgd->velocity);
    mem_free(sgd);
}

void sgd_set_learning_rate(struct sgd *sgd, float learning_rate) {
    sgd->options.learning_rate = learning_rate;
}

void sgd_step(struct sgd *sgd, float *restrict parameters, const float *restrict gradient) {
    float *restrict velocity = sgd->velocity;
    size_t count = sgd->count;
    float rate = sgd->options.learning_rate;
    float momentum = sgd->options.momentum;
    float decay = sgd->options.weight_decay;
    /* Nesterov looks one velocity ahead: the step is g + momentum v, else v. */
    float of_gradient = sgd->options.nesterov != 0 ? 1.0f : 0.0f;
    float of_velocity = sgd->options.nesterov != 0 ? momentum : 1.0f;

    for (size_t i = 0; i < count; i++) {
        float g = gradient[i] + decay * parameters[i];
        velocity[i] = momentum * velocity[i] + g;
        parameters[i] -= rate * (of_gradient * g + of_velocity * velocity[i]);
    }
}
