/* From the bits of a chosen mask to the repaired network: job->mask and job->fill. */
#ifndef ONP_SERVER_MITIGATE_REPAIR_H
#define ONP_SERVER_MITIGATE_REPAIR_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/mitigate/job.h"

/* bits (units), 1 = pruned. Up to `rounds` of retuning, with the adversary between two rounds. */
enum status repair_mask(struct job *job, const uint8_t *bits, size_t rounds, struct error *error);

#endif
