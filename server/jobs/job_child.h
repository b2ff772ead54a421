/* The child's side of a job: what main() calls when its first argument is JOB_CHILD_ARGUMENT. */
#ifndef ONP_SERVER_JOBS_JOB_CHILD_H
#define ONP_SERVER_JOBS_JOB_CHILD_H

#include "server/jobs/jobs.h"

#define JOB_CHILD_ARGUMENT "--job-child"

/* argv: program, JOB_CHILD_ARGUMENT, number of the inherited socket. Reads one request from the socket, runs it, reports
 * progress and the outcome over it. Returns the exit status. */
int job_child_main(int argc, char **argv, const struct job_methods *methods);

#endif
