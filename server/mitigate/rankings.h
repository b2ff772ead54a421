/* What each unit has to do with the clean task and with the found triggers, and rankings made of it: where the warm start and
 * the policy's features come from. Measured on the build samples. */
#ifndef ONP_SERVER_MITIGATE_RANKINGS_H
#define ONP_SERVER_MITIGATE_RANKINGS_H

#include <stddef.h>

#include "common/error.h"
#include "server/mitigate/job.h"

/* Taylor effects: by how much pruning a unit lowers a loss to first order, dL/dm at the mask given (Molchanov et al. 2017, eq. 7,
 * signed, and with mean fill in place of zero). All arrays (units). */
struct unit_effects {
    float *taylor_trigger; /* L = mean over triggers of KL(p0(x) || p(w(x))) */
    float *taylor_clean;   /* L = cross-entropy of the labels on clean samples */
    float *change;         /* activation change under the triggers, in clean deviations */
};

/* mask (units) as in engine_run, NULL for none. With an empty bank taylor_trigger and change are zero. */
enum status unit_effects_new(struct job *job, const float *mask, struct unit_effects **out, struct error *error);
void unit_effects_free(struct unit_effects *effects);

/* What the reward is expected to gain by pruning each unit, as first[u] - second[u], at the mask given:
 * first (units): dL/dm of the reward's own loss L = KL(p0(x) || p(x)) + trigger_weight * mean over triggers KL(p0(x) || p(w(x)));
 * second (units), never negative: half of E[(d log p_y / dm)^2] with y drawn from p itself, over the same mixture of samples. That is
 * the diagonal of half the Fisher information, the second-order part of a KL (Amari 1998; LeCun et al. 1990 for a diagonal second
 * order in pruning). Estimated by a few backward runs in which samples have random signs, so that the square of their sum is the sum
 * of their squares on average. A pruned unit gains -first by being kept again, to first order. Triggers share twice the samples. */
enum status unit_gains(struct job *job, const float *mask, float *first, float *second, struct error *error);

#endif
