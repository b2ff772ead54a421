/* Accuracy, Wilson's interval, attack success, recovery and DER. */
#include "server/evaluate/metrics.h"

#include <math.h>

#include "server/nn/loss.h"

struct interval metrics_wilson(size_t hits, size_t count) {
    if (count == 0) {
        return (struct interval){0.0, 1.0};
    }
    const double z = 1.959963984540054, n = (double)count, p = (double)hits / n;
    const double centre = p + z * z / (2 * n), spread = z * sqrt(p * (1 - p) / n + z * z / (4 * n * n));
    const double scale = 1 + z * z / n;
    return (struct interval){fmax(0.0, (centre - spread) / scale), fmin(1.0, (centre + spread) / scale)};
}

size_t metrics_hits(size_t count, size_t classes, const float *logits, const int32_t *labels) {
    size_t hits = 0;
    for (size_t i = 0; i < count; i++) {
        hits += (int32_t)loss_argmax(classes, logits + i * classes) == labels[i];
    }
    return hits;
}

double metrics_drop_low(size_t lost, size_t won, size_t count) {
    if (count == 0) {
        return 0.0;
    }
    const double n = (double)count, net = (double)lost - (double)won;
    return (net - 1.959963984540054 * sqrt(fmax(0.0, (double)(lost + won) - net * net / n))) / n;
}

struct probe_figures metrics_probe(size_t count, size_t classes, const float *logits, const int32_t *labels,
                                   const int32_t *targets) {
    size_t eligible = 0, attacked = 0, recovered = 0;
    for (size_t i = 0; i < count; i++) {
        if (labels[i] == targets[i]) {
            continue;
        }
        const int32_t answer = (int32_t)loss_argmax(classes, logits + i * classes);
        eligible++;
        attacked += answer == targets[i];
        recovered += answer == labels[i];
    }
    const double n = eligible > 0 ? (double)eligible : 1.0;
    return (struct probe_figures){eligible, (double)attacked / n, (double)recovered / n};
}

double metrics_der(double accuracy_before, double accuracy_after, double asr_before, double asr_after) {
    return (fmax(0.0, asr_before - asr_after) - fmax(0.0, accuracy_before - accuracy_after) + 1.0) / 2.0;
}
