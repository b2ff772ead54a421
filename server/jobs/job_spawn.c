/* Starting the child of a job. Between fork and exec only async-signal-safe calls are made: other threads of the daemon may hold any
 * lock at that moment. Everything that needs memory is made before. */
#include "server/jobs/job_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/file.h"
#include "server/jobs/job_child.h"

enum { CHILD_SOCKET = 3, ENVIRONMENT_MAX = 16, VALUE_MAX = 1200 };

/* What a child may know of our environment: nothing secret, and of what changes results only the backend, which stands in the
 * report. Sanitizers' settings are for tests. */
static const char *const PASSED_ON[] = {"ONP_BACKEND", "ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"};

struct start {
    const char *executable;
    const char *folder;
    int socket, log, null;
    char values[ENVIRONMENT_MAX][VALUE_MAX];
    char *environment[ENVIRONMENT_MAX + 1];
    size_t count;
};

static void set(struct start *start, const char *name, const char *value) {
    if (start->count < ENVIRONMENT_MAX) {
        char *text = start->values[start->count];
        int length = snprintf(text, VALUE_MAX, "%s=%s", name, value);
        if (length > 0 && length < VALUE_MAX) {
            start->environment[start->count++] = text;
        }
    }
}

static void make_environment(struct start *start, size_t threads) {
    char count[32];
    (void)snprintf(count, sizeof count, "%zu", threads > 0 ? threads : 1);
    set(start, "PATH", "/usr/bin:/bin");
    set(start, "LC_ALL", "C");
    set(start, "HOME", start->folder);
    set(start, "TMPDIR", start->folder);
    /* The stages spread batches over threads themselves; BLAS threads would only get in their way. */
    set(start, "OPENBLAS_NUM_THREADS", "1");
    set(start, "OMP_NUM_THREADS", count);
    set(start, "OMP_WAIT_POLICY", "passive");
#ifdef __SANITIZE_ADDRESS__
    /* The leak checker stops the process by tracing it, which is what the sandbox ends a child for. The first of two
     * values of one name counts. */
    char options[VALUE_MAX];
    const char *given = getenv("ASAN_OPTIONS");
    (void)snprintf(options, sizeof options, "%s:detect_leaks=0", given != NULL ? given : "");
    set(start, "ASAN_OPTIONS", options);
#endif
    for (size_t i = 0; i < sizeof PASSED_ON / sizeof PASSED_ON[0]; i++) {
        const char *value = getenv(PASSED_ON[i]);
        if (value != NULL) {
            set(start, PASSED_ON[i], value);
        }
    }
}

/* In the child; does not return. */
static void become(const struct start *start) {
    char name[] = "onpd-job";
    char argument[] = JOB_CHILD_ARGUMENT;
    char number[] = {'0' + CHILD_SOCKET, '\0'};
    char *argv[] = {name, argument, number, NULL};
    sigset_t none;
    (void)setpgid(0, 0);
    (void)signal(SIGPIPE, SIG_DFL);
    (void)signal(SIGTERM, SIG_DFL);
    (void)signal(SIGINT, SIG_DFL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (chdir(start->folder) != 0 || dup2(start->null, STDIN_FILENO) < 0 || dup2(start->null, STDOUT_FILENO) < 0 ||
        dup2(start->log, STDERR_FILENO) < 0 || dup2(start->socket, CHILD_SOCKET) < 0) {
        _exit(JOB_SPAWN_CANNOT_EXEC);
    }
    /* All of ours are close-on-exec anyway; this is for those of libraries. */
    (void)close_range(CHILD_SOCKET + 1, ~0U, 0);
    (void)execve(start->executable, argv, start->environment);
    _exit(JOB_SPAWN_CANNOT_EXEC);
}

/* A descriptor that dup2() to 0..CHILD_SOCKET cannot step on, whatever descriptors the daemon was started with. */
static int lift(int fd) {
    if (fd < 0 || fd > CHILD_SOCKET) {
        return fd;
    }
    int lifted = fcntl(fd, F_DUPFD_CLOEXEC, CHILD_SOCKET + 1);
    int cause = errno;
    (void)close(fd);
    errno = cause;
    return lifted;
}

static enum status open_all(struct start *start, int ends[2], struct error *error) {
    char path[VALUE_MAX];
    enum status status = file_join(path, sizeof path, start->folder, "child.log", error);
    if (status != STATUS_OK) {
        return status;
    }
    start->log = lift(open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_APPEND, 0600));
    start->null = lift(open("/dev/null", O_RDWR | O_CLOEXEC));
    if (start->log < 0 || start->null < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return error_io(error, "child", "failed to open the descriptors of a child");
    }
    ends[0] = lift(ends[0]);
    ends[1] = lift(ends[1]);
    if (ends[0] < 0 || ends[1] < 0) {
        return error_io(error, "child", "failed to open the socket of a child");
    }
    start->socket = ends[1];
    return STATUS_OK;
}

static void close_all(const int *descriptors, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (descriptors[i] >= 0) {
            (void)close(descriptors[i]);
        }
    }
}

enum status job_spawn(const char *executable, const char *folder, size_t threads, struct job_spawned *spawned,
                      struct error *error) {
    struct start start = {.executable = executable != NULL ? executable : "/proc/self/exe",
                          .folder = folder,
                          .socket = -1,
                          .log = -1,
                          .null = -1};
    int ends[2] = {-1, -1};
    pid_t pid = -1;
    make_environment(&start, threads);
    enum status status = open_all(&start, ends, error);
    if (status == STATUS_OK) {
        pid = fork();
        if (pid == 0) {
            become(&start);
        }
        status = pid > 0 ? STATUS_OK : error_io(error, "child", "failed to start a child");
    }
    if (status != STATUS_OK) {
        const int all[] = {ends[0], ends[1], start.log, start.null};
        close_all(all, sizeof all / sizeof all[0]);
        return status;
    }
    /* Both sides do it, because either may come first. */
    (void)setpgid(pid, pid);
    const int theirs[] = {ends[1], start.null};
    close_all(theirs, sizeof theirs / sizeof theirs[0]);
    *spawned = (struct job_spawned){.pid = pid, .socket = ends[0], .log = start.log};
    return STATUS_OK;
}
