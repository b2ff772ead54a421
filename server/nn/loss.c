/* Losses on logits. Every row is shifted by its largest logit before exp(), so nothing overflows; sums over a row are in
 * float (K is small), sums over rows in double (there may be many). The loops are plain; the exponentials are a handful a
 * sample against the millions of multiply-adds of the network before them. */
#include "server/nn/loss.h"

#include <math.h>

static float row_max(size_t classes, const float *row) {
    float max = row[0];
    for (size_t k = 1; k < classes; k++) {
        max = row[k] > max ? row[k] : max;
    }
    return max;
}

/* log(sum(exp(row))). */
static float row_log_sum_exp(size_t classes, const float *row) {
    float max = row_max(classes, row);
    float sum = 0.0f;
    for (size_t k = 0; k < classes; k++) {
        sum += expf(row[k] - max);
    }
    return max + logf(sum);
}

/* p = exp(row - max) / sum; returns log(sum(exp(row))). p may be row. */
static float row_softmax(size_t classes, const float *row, float *p) {
    float max = row_max(classes, row);
    float sum = 0.0f;
    for (size_t k = 0; k < classes; k++) {
        p[k] = expf(row[k] - max);
        sum += p[k];
    }
    float inverse = 1.0f / sum;
    for (size_t k = 0; k < classes; k++) {
        p[k] *= inverse;
    }
    return max + logf(sum);
}

void loss_softmax(size_t n, size_t classes, const float *logits, float *p) {
    for (size_t i = 0; i < n; i++) {
        (void)row_softmax(classes, logits + i * classes, p + i * classes);
    }
}

double loss_cross_entropy(size_t n, size_t classes, const float *logits, const int32_t *labels, float scale,
                          float *dlogits) {
    double loss = 0.0;
    for (size_t i = 0; i < n; i++) {
        const float *row = logits + i * classes;
        size_t label = (size_t)labels[i];
        if (dlogits == NULL) {
            loss += (double)(row_log_sum_exp(classes, row) - row[label]);
            continue;
        }
        float *d = dlogits + i * classes; /* scale * (softmax - one hot) */
        loss += (double)(row_softmax(classes, row, d) - row[label]);
        d[label] -= 1.0f;
        for (size_t k = 0; k < classes; k++) {
            d[k] *= scale;
        }
    }
    return loss;
}

double loss_leave(size_t n, size_t classes, const float *logits, const int32_t *labels, float scale, float *dlogits) {
    double loss = 0.0;
    for (size_t i = 0; i < n; i++) {
        const float *row = logits + i * classes;
        const size_t label = (size_t)labels[i];
        float most = -INFINITY, others = 0.0f;
        for (size_t k = 0; k < classes; k++) {
            most = k != label && row[k] > most ? row[k] : most;
        }
        for (size_t k = 0; k < classes; k++) {
            others += k != label ? expf(row[k] - most) : 0.0f;
        }
        const float log_others = most + logf(others), log_all = row_log_sum_exp(classes, row);
        loss += (double)(log_all - log_others);
        for (size_t k = 0; dlogits != NULL && k < classes; k++) {
            const float among_others = k != label ? expf(row[k] - log_others) : 0.0f;
            dlogits[i * classes + k] = scale * (expf(row[k] - log_all) - among_others);
        }
    }
    return loss;
}

double loss_kl(size_t n, size_t classes, const float *p, const float *logits, float scale, float *dlogits) {
    double loss = 0.0;
    for (size_t i = 0; i < n; i++) {
        const float *row = logits + i * classes;
        const float *target = p + i * classes;
        float log_sum = row_log_sum_exp(classes, row);
        for (size_t k = 0; k < classes; k++) {
            /* 0 log 0 is 0. */
            loss += target[k] > 0.0f ? (double)(target[k] * (logf(target[k]) - (row[k] - log_sum))) : 0.0;
        }
        if (dlogits == NULL) {
            continue;
        }
        float *d = dlogits + i * classes; /* scale * (softmax - p) */
        for (size_t k = 0; k < classes; k++) {
            d[k] = scale * (expf(row[k] - log_sum) - target[k]);
        }
    }
    return loss;
}

size_t loss_argmax(size_t classes, const float *logits) {
    size_t best = 0;
    for (size_t k = 1; k < classes; k++) {
        best = logits[k] > logits[best] ? k : best;
    }
    return best;
}
