/* Starting the child of a job: fork and exec with a clean environment and no descriptor but its own. */
#ifndef ONP_SERVER_JOBS_JOB_SPAWN_H
#define ONP_SERVER_JOBS_JOB_SPAWN_H

#include <stddef.h>
#include <sys/types.h>

#include "common/error.h"

struct job_spawned {
    pid_t pid;  /* leads a process group of its own */
    int socket; /* our end; close it */
    int log;    /* what the child writes to stderr; close it */
};

enum { JOB_SPAWN_CANNOT_EXEC = 127 }; /* exit status of a child that could not become the program */

/* Runs `executable` (NULL: this binary again) with JOB_CHILD_ARGUMENT in `folder`, where its stderr goes to child.log. */
enum status job_spawn(const char *executable, const char *folder, size_t threads, struct job_spawned *spawned,
                      struct error *error);

#endif
