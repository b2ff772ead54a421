/* Confinement of a job's child by itself. It runs our code on a user's bytes; after this, a mistake in that code costs the job and
 * not the machine. */
#include "server/jobs/job_sandbox.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { NICENESS = 5 };

enum status job_sandbox_follow_parent(struct error *error) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
        return error_io(error, "sandbox", "failed to tie the child to its parent");
    }
    return STATUS_OK;
}

static enum status limit(__rlimit_resource_t resource, uint64_t value, const char *what, struct error *error) {
    struct rlimit limit = {.rlim_cur = (rlim_t)value, .rlim_max = (rlim_t)value};
    if (setrlimit(resource, &limit) != 0) {
        return error_io(error, "sandbox", "failed to limit the child's %s to %llu", what, (unsigned long long)value);
    }
    return STATUS_OK;
}

enum status job_sandbox_enter(const struct job_limits *limits, struct error *error) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return error_io(error, "sandbox", "failed to give up new privileges");
    }
    enum status status = limit(RLIMIT_CORE, 0, "core dump", error);
    if (status == STATUS_OK && limits->memory > 0) {
        status = limit(RLIMIT_AS, limits->memory, "memory", error);
    }
    if (status == STATUS_OK && limits->file > 0) {
        status = limit(RLIMIT_FSIZE, limits->file, "files", error);
    }
    if (status == STATUS_OK) {
        /* The daemon answers before jobs compute. Being nice cannot fail in a way that matters. */
        (void)setpriority(PRIO_PROCESS, 0, NICENESS);
        /* A write over the limit shall be an error of that write, not the end of the child. */
        (void)signal(SIGXFSZ, SIG_IGN);
    }
    return status;
}
