/* What a child of a job gives up before it touches anything that a user sent. */
#ifndef ONP_SERVER_JOBS_JOB_SANDBOX_H
#define ONP_SERVER_JOBS_JOB_SANDBOX_H

#include "common/error.h"
#include "server/jobs/job_message.h"

/* Called once by the child, after the request is read and before it is carried out: no new privileges, no core dumps, its
 * limits, a low priority. This is the place for filters of system calls and paths (seccomp, Landlock). */
enum status job_sandbox_enter(const struct job_limits *limits, struct error *error);
/* Called first of all: the child must not outlive the thread that started it. */
enum status job_sandbox_follow_parent(struct error *error);

#endif
