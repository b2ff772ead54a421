/* Private to mitigate/: figures from the locked samples, which nothing before the verdict has seen. */
#ifndef ONP_SERVER_MITIGATE_LOCKED_H
#define ONP_SERVER_MITIGATE_LOCKED_H

#include <stddef.h>

#include "common/error.h"
#include "server/mitigate/job.h"

/* Of the repaired network: job->mask, job->fill and job->logits1, against job->logits0. */
enum status locked_measure(struct job *job, struct locked_figures *out, struct error *error);

#endif
