/* Confinement of a job's child by itself. It runs our code on a user's bytes; after this, a mistake in that code costs the job and
 * not the machine. The order matters: files are opened while we may, the user is changed before privileges are frozen, the
 * list of system calls comes last because the other walls need calls that are not on it. */
#include "server/jobs/job_sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

enum { NICENESS = 5, FILES_MAX = 64 };

/* These sanitizers map more than any limit of address space, and have a thread of their own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED true
#else
#define IS_SANITIZED false
#endif

void job_sandbox_probe(uint32_t uid, struct job_walls *walls) {
    *walls = (struct job_walls){.landlock = job_sandbox_landlock_abi(),
                                .calls = job_sandbox_has_calls(),
                                .user = geteuid() == 0 && uid != 0,
                                .address_space = !IS_SANITIZED};
}

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

static enum status limit_resources(const struct job_limits *limits, struct error *error) {
    enum status status = limit(RLIMIT_CORE, 0, "core dump", error);
    if (status == STATUS_OK && limits->memory > 0 && !IS_SANITIZED) {
        status = limit(RLIMIT_AS, limits->memory, "memory", error);
    }
    if (status == STATUS_OK && limits->file > 0) {
        status = limit(RLIMIT_FSIZE, limits->file, "files", error);
    }
    if (status == STATUS_OK && limits->cpu_s > 0) {
        status = limit(RLIMIT_CPU, limits->cpu_s, "processor time", error);
    }
    if (status == STATUS_OK) {
        status = limit(RLIMIT_NOFILE, FILES_MAX, "open files", error);
    }
    if (status == STATUS_OK) {
        /* The daemon answers before jobs compute. Being nice cannot fail in a way that matters. */
        (void)setpriority(PRIO_PROCESS, 0, NICENESS);
        /* A write over the limit shall be an error of that write, not the end of the child. */
        (void)signal(SIGXFSZ, SIG_IGN);
    }
    return status;
}

/* If memory runs out, the kernel shall take the child and not the daemon. */
static void volunteer(void) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "500", 3);
        (void)close(fd);
    }
}

/* The folder is handed over first: who is nobody could not make a file in it. */
static enum status become_user(const struct job_sandbox *sandbox, const struct job_limits *limits,
                               struct error *error) {
    const pid_t parent = getppid();
    for (size_t i = 0; i < sandbox->count; i++) {
        if (sandbox->files[i].folder && fchown(sandbox->files[i].fd, limits->uid, limits->uid) != 0) {
            return error_io(error, "sandbox", "failed to hand the folder over to user %u", (unsigned)limits->uid);
        }
    }
    if (setgroups(0, NULL) != 0 || setresgid(limits->uid, limits->uid, limits->uid) != 0 ||
        setresuid(limits->uid, limits->uid, limits->uid) != 0) {
        return error_io(error, "sandbox", "failed to become user %u", (unsigned)limits->uid);
    }
    if (setresuid(0, 0, 0) == 0) {
        return error_set(error, STATUS_INTERNAL, "sandbox", "failed to stay user %u: got root back",
                         (unsigned)limits->uid);
    }
    /* A change of user unties the child from its parent, which may have ended meanwhile. */
    enum status status = job_sandbox_follow_parent(error);
    if (status == STATUS_OK && getppid() != parent) {
        status = error_set(error, STATUS_UNAVAILABLE, "sandbox", "failed to start: the parent is gone");
    }
    return status;
}

static enum status missing(const struct job_limits *limits, const struct job_walls *walls, struct error *error) {
    if (limits->sandbox != JOB_SANDBOX_REQUIRE || (walls->landlock > 0 && walls->calls)) {
        return STATUS_OK;
    }
    return error_set(error, STATUS_UNSUPPORTED, "sandbox", "failed to raise the sandbox: got a kernel without %s",
                     walls->landlock > 0 ? "filters of system calls" : "Landlock");
}

enum status job_sandbox_enter(struct job_sandbox *sandbox, struct job_request *request, struct error *error) {
    const struct job_limits *limits = &request->limits;
    struct job_walls walls;
    *sandbox = (struct job_sandbox){.count = 0};
    job_sandbox_probe(limits->uid, &walls);
    const bool closed = limits->sandbox != JOB_SANDBOX_OFF;
    enum status status = missing(limits, &walls, error);
    volunteer();
    if (status == STATUS_OK && closed) {
        status = job_sandbox_open(sandbox, request, error);
    }
    if (status == STATUS_OK && closed && walls.user) {
        status = become_user(sandbox, limits, error);
    }
    if (status == STATUS_OK && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        status = error_io(error, "sandbox", "failed to give up new privileges");
    }
    if (status == STATUS_OK && closed && walls.landlock > 0) {
        status = job_sandbox_close_files(sandbox, walls.landlock, error);
    }
    if (status == STATUS_OK) {
        status = limit_resources(limits, error);
    }
    if (status == STATUS_OK && closed && walls.calls) {
        status = job_sandbox_close_calls(limits->jit, error);
    }
    return status;
}
