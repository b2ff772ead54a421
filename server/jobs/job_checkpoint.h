/* What an interrupted attempt has computed, kept for the next one. */
#ifndef ONP_SERVER_JOBS_JOB_CHECKPOINT_H
#define ONP_SERVER_JOBS_JOB_CHECKPOINT_H

#include <stdbool.h>

#include "server/jobs/jobs_internal.h"

/* Moves the job's checkpoint, if there is one, into the folder of a new attempt. */
bool job_checkpoint_take(const struct jobs *jobs, const char *job_id, const char *folder);
/* Moves it out of the folder of an attempt that is over, for the next. */
void job_checkpoint_put_back(const struct jobs *jobs, const char *job_id, const char *folder);
void job_checkpoint_drop(const struct jobs *jobs, const char *job_id);
/* At the start: puts back what attempts left that were killed together with the server. */
enum status job_checkpoint_salvage(struct jobs *jobs, struct error *error);
/* At the start, after the jobs are recovered: drops those of jobs that will not run again. */
void job_checkpoint_clean(struct jobs *jobs);

#endif
