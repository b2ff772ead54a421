/* Retuning: after the mask is chosen, one gain a kept unit (the mask's own values, then other than 1) is fitted by distillation, so that
 * clean accuracy lost by pruning comes back and what is left of the backdoor's pull goes. One number a unit, from the build samples
 * alone: mostly too few to learn by heart, and where not, there are variants. */
#ifndef ONP_SERVER_MITIGATE_RETUNE_H
#define ONP_SERVER_MITIGATE_RETUNE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/mitigate/job.h"

struct retune_options {
    size_t steps;
    double clean_weight;
    /* Clean samples are varied in these ways (augment.h), and the network as it came says what is right for each variant. */
    struct augmentation variants;
    bool cleaner;    /* not kept unless it costs less on clean samples, too */
    uint64_t stream; /* of the job's generator for retuning */
};

/* options->steps of Adam on the entries of mask (units) that are not 0: on batches of clean and triggered build samples the loss is that of the
 * reward, clean_weight KL(p0(x) || p(x)) + lambda KL(p0(x) || p(w(x))), clean_weight 1 where the reward itself is meant. Gains stay
 * within [0.2, 2]. With an empty bank only the first term. The result is kept if this loss is smaller on the score samples; else mask
 * is left as it was. */
enum status retune(struct job *job, float *mask, const float *fill, const struct retune_options *options,
                   struct error *error);

#endif
