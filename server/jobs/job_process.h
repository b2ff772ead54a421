/* A child process from its start to its end, as seen by the parent. */
#ifndef ONP_SERVER_JOBS_JOB_PROCESS_H
#define ONP_SERVER_JOBS_JOB_PROCESS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "server/jobs/job_message.h"

/* How a piece of work came to its end, in a child or in a thread. */
enum job_end {
    JOB_END_DONE,    /* it said so and ended in order */
    JOB_END_ERROR,   /* it said what was wrong */
    JOB_END_LOST,    /* it ended without a word: crash, kill, exit */
    JOB_END_STOPPED, /* we ended it */
    JOB_END_BABBLE,  /* it said what no child of ours says */
    JOB_END_BREACH,  /* it asked the kernel for what the sandbox forbids */
    JOB_END_COUNT
};

struct job_process {
    const char *executable; /* NULL: /proc/self/exe */
    const char *folder;     /* exists; its working folder, and of its log */
    size_t threads;         /* for OpenMP */
    double grace_s;         /* from SIGTERM to SIGKILL */
    size_t line_max;        /* of one message */
    void *user;
    void (*progress)(void *user, const struct store_progress *progress); /* may be NULL */
    bool (*stop)(void *user); /* asked ten times a second: true ends the child */
};

struct job_outcome {
    enum job_end end;
    bool killed;          /* of JOB_END_LOST: by a SIGKILL that was not ours (the kernel, short of memory) */
    bool unstarted;       /* of JOB_END_LOST: the system did not let it begin */
    json_t *info;         /* of a check that is done; the caller's */
    struct error problem; /* unless done */
};

/* Starts the child, sends it the request, hands on its progress, and waits for its end, which it brings about itself if it
 * has to. Blocks for as long as that takes. When it returns, the child and all of its process group are gone. */
void job_process_run(const struct job_process *process, const struct job_request *request, struct job_outcome *outcome);

#endif
