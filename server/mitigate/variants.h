/* Which variants of its images (augment.h) a network takes for the same thing. */
#ifndef ONP_SERVER_MITIGATE_VARIANTS_H
#define ONP_SERVER_MITIGATE_VARIANTS_H

#include "common/error.h"
#include "server/mitigate/job.h"

/* Sets job->natural: the kinds on which the network as it came is nearly as accurate as on the build samples. What is fitted to such variants
 * is fitted to what the network will see; where classes are a place or a side, it is not. Costs two runs of the build samples, or of as
 * many as a network that is dear to run affords. */
enum status variants_measure(struct job *job, struct error *error);

#endif
