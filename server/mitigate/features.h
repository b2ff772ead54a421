/* What the policy sees of each unit. Standardised so that a number means the same in every network: within the unit's layer, or, where
 * layers are to be compared, against a typical unit of the network. */
#ifndef ONP_SERVER_MITIGATE_FEATURES_H
#define ONP_SERVER_MITIGATE_FEATURES_H

#include <stdint.h>

#include "common/error.h"
#include "server/mitigate/job.h"

/* Names of the features in their order, separated by spaces. A policy's file carries it: trained on other features it is useless. */
extern const char features_names[];

/* Measures job->features (units, job->feature_count) at the mask `bits` (units, 1 = pruned), in place of those there were. Costs
 * some backward runs over the build samples. */
enum status features_measure(struct job *job, const uint8_t *bits, struct error *error);

#endif
