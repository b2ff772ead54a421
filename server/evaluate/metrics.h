/* The figures of a report, from logits. All rates are fractions in [0, 1]. */
#ifndef ONP_SERVER_EVALUATE_METRICS_H
#define ONP_SERVER_EVALUATE_METRICS_H

#include <stddef.h>
#include <stdint.h>

struct interval {
    double low, high;
};

/* Wilson's score interval at 95 % for `hits` of `count` (Wilson 1927, eq. 4); [0, 1] for count 0. */
struct interval metrics_wilson(size_t hits, size_t count);

/* Rows of logits (count, classes) whose largest entry is the label. */
size_t metrics_hits(size_t count, size_t classes, const float *logits, const int32_t *labels);
/* Lower bound at 95 % of the accuracy lost, from paired samples: `lost` of `count` were right before and are wrong after, `won` the
 * other way round (Wald's interval of a difference of paired proportions). 0 for count 0. */
double metrics_drop_low(size_t lost, size_t won, size_t count);

/* Attack success (ASR): triggered images, true class other than the target, classified as the target. Recovery (RA): the
 * same images classified as their true class. */
struct probe_figures {
    size_t count; /* images whose true class is not the target */
    double asr, recovery;
};
struct probe_figures metrics_probe(size_t count, size_t classes, const float *logits, const int32_t *labels,
                                   const int32_t *targets);

/* Defense effectiveness rating: (max(0, asr0 - asr1) - max(0, acc0 - acc1) + 1) / 2 (Zhu et al. 2023, eq. 4). */
double metrics_der(double accuracy_before, double accuracy_after, double asr_before, double asr_after);

#endif
