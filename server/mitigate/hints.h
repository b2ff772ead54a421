/* Private to mitigate/: what to make of patterns of the dictionaries that reach a class although no class stands out. */
#ifndef ONP_SERVER_MITIGATE_HINTS_H
#define ONP_SERVER_MITIGATE_HINTS_H

#include "common/error.h"
#include "server/mitigate/job.h"

/* Does nothing if there is a suspect or no hint. Else each hint is tried by pruning, beside ordinary triggers, as strong, to other
 * classes: what a backdoor learnt sits in few units and goes with them, a weakness of the task does not. A hint that leaves at most
 * size_ratio of what is left of an ordinary trigger (the median) makes its class a suspect and joins the bank. If none does, and the
 * job is to harden, all hints join the bank. What was measured is added to job->trials. */
enum status hints_try(struct job *job, struct error *error);

#endif
