/* The probe set, for the report alone: nothing is ever chosen by it. */
#ifndef ONP_SERVER_MITIGATE_JOB_PROBE_H
#define ONP_SERVER_MITIGATE_JOB_PROBE_H

#include "server/mitigate/job.h"

/* Logits (probe, K) under mask and fill (NULL: the model as it came); the caller's, mem_free(). */
enum status job_probe_logits(struct job *job, const float *mask, const float *fill, float **out, struct error *error);

#endif
