/* What a child of a job is confined to; set by the daemon, sent with the request, applied by job_sandbox.h. */
#ifndef ONP_SERVER_JOBS_JOB_LIMITS_H
#define ONP_SERVER_JOBS_JOB_LIMITS_H

#include <stdbool.h>
#include <stdint.h>

enum job_sandbox_mode {
    JOB_SANDBOX_AUTO,    /* what the kernel has */
    JOB_SANDBOX_REQUIRE, /* all walls, or the child refuses to work */
    JOB_SANDBOX_OFF,     /* limits of resources only */
    JOB_SANDBOX_MODE_COUNT
};

struct job_limits {
    uint64_t memory; /* bytes of address space; 0: no limit */
    uint64_t file;   /* bytes of one file; 0: no limit */
    uint64_t cpu_s;  /* seconds of processor time over all threads; 0: no limit */
    enum job_sandbox_mode sandbox;
    uint32_t uid; /* user (and group) of a child whose daemon runs as root; 0: root it stays */
    bool jit;     /* memory may become executable: a backend makes code at run time */
};

#endif
