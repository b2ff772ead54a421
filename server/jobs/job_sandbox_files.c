/* The wall around files. Inputs and the folder of results are opened before the walls are raised and reached by their
 * descriptors, /proc/self/fd/N: so a child without rights on the folders above can use them, and no message shows a path of
 * the server. Landlock then allows to open these and a few files of the system, and nothing else. */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server/jobs/job_sandbox.h"

/* Debian 12's header knows the rights up to ABI 2; the kernel tells at run time what it knows. */
#define RIGHT_TRUNCATE (UINT64_C(1) << 14)  /* ABI 3 */
#define RIGHT_IOCTL_DEV (UINT64_C(1) << 15) /* ABI 5 */
#define RIGHTS_ABI_1 ((UINT64_C(1) << 13) - 1)
#define NET_ALL (UINT64_C(3))   /* ABI 4: bind and connect TCP */
#define SCOPE_ALL (UINT64_C(3)) /* ABI 6: abstract sockets, signals */

#define READ_FILE ((uint64_t)LANDLOCK_ACCESS_FS_READ_FILE)
#define READ_TREE (READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITE_FOLDER                                                                                                   \
    (READ_TREE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE |        \
     RIGHT_TRUNCATE)

/* struct landlock_ruleset_attr as of ABI 6; an older kernel gets the part that it knows. */
struct ruleset {
    uint64_t files, net, scoped;
};

/* What the C library and the numeric libraries look at while they compute. */
static const struct {
    const char *path;
    uint64_t rights;
} SYSTEM[] = {
    {"/proc/cpuinfo", READ_FILE},
    {"/proc/meminfo", READ_FILE},
    {"/proc/sys/vm/overcommit_memory", READ_FILE},
    {"/sys/devices/system/cpu", READ_TREE},
    {"/dev/null", READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE},
    {"/dev/urandom", READ_FILE},
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    {"/proc/self", READ_TREE},
#endif
};

/* Replaces *path by the name of its descriptor; NULL stays NULL. */
static enum status keep(struct job_sandbox *sandbox, const char **path, bool folder, struct error *error) {
    if (*path == NULL) {
        return STATUS_OK;
    }
    const size_t at = sandbox->count;
    struct stat info;
    int fd = open(*path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | (folder ? O_DIRECTORY : 0));
    if (fd < 0 || fstat(fd, &info) != 0) {
        enum status status = error_io(error, "sandbox", "failed to open what the request names");
        if (fd >= 0) {
            (void)close(fd);
        }
        return status;
    }
    if (!folder && !S_ISREG(info.st_mode)) {
        (void)close(fd);
        return error_set(error, STATUS_INVALID, "sandbox", "failed to open what the request names: it is no file");
    }
    sandbox->files[at].fd = fd;
    sandbox->files[at].folder = folder;
    (void)snprintf(sandbox->files[at].name, JOB_SANDBOX_NAME, "/proc/self/fd/%d", fd);
    *path = sandbox->files[at].name;
    sandbox->count++;
    return STATUS_OK;
}

enum status job_sandbox_open(struct job_sandbox *sandbox, struct job_request *request, struct error *error) {
    if (request->task != JOB_TASK_RUN) {
        return keep(sandbox, &request->path, false, error);
    }
    struct mitigate_request *run = &request->run;
    enum status status = keep(sandbox, &run->model_path, false, error);
    if (status == STATUS_OK) {
        status = keep(sandbox, &run->samples_path, false, error);
    }
    if (status == STATUS_OK) {
        status = keep(sandbox, &run->probe_path, false, error);
    }
    return status == STATUS_OK ? keep(sandbox, &run->out_dir, true, error) : status;
}

int job_sandbox_landlock_abi(void) {
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    return abi > 0 ? (int)abi : 0;
}

static uint64_t rights_of(int abi) {
    return RIGHTS_ABI_1 | (abi >= 2 ? (uint64_t)LANDLOCK_ACCESS_FS_REFER : 0) | (abi >= 3 ? RIGHT_TRUNCATE : 0) |
           (abi >= 5 ? RIGHT_IOCTL_DEV : 0);
}

static enum status allow(int ruleset, int fd, uint64_t rights, int abi, struct error *error) {
    const struct landlock_path_beneath_attr rule = {.allowed_access = rights & rights_of(abi), .parent_fd = fd};
    if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) {
        return error_io(error, "sandbox", "failed to allow a file to the child");
    }
    return STATUS_OK;
}

static enum status allow_all(int ruleset, const struct job_sandbox *sandbox, int abi, struct error *error) {
    enum status status = STATUS_OK;
    for (size_t i = 0; i < sandbox->count && status == STATUS_OK; i++) {
        status = allow(ruleset, sandbox->files[i].fd, sandbox->files[i].folder ? WRITE_FOLDER : READ_FILE, abi, error);
    }
    for (size_t i = 0; i < sizeof SYSTEM / sizeof SYSTEM[0] && status == STATUS_OK; i++) {
        int fd = open(SYSTEM[i].path, O_PATH | O_CLOEXEC);
        if (fd >= 0) { /* what is not there cannot be looked at either */
            status = allow(ruleset, fd, SYSTEM[i].rights, abi, error);
            (void)close(fd);
        }
    }
    return status;
}

enum status job_sandbox_close_files(const struct job_sandbox *sandbox, int abi, struct error *error) {
    const struct ruleset attributes = {
        .files = rights_of(abi), .net = abi >= 4 ? NET_ALL : 0, .scoped = abi >= 6 ? SCOPE_ALL : 0};
    const size_t size = (abi >= 6 ? 3 : abi >= 4 ? 2 : 1) * sizeof(uint64_t);
    long ruleset = syscall(SYS_landlock_create_ruleset, &attributes, size, 0);
    if (ruleset < 0) {
        return error_io(error, "sandbox", "failed to make a set of rules for files");
    }
    enum status status = allow_all((int)ruleset, sandbox, abi, error);
    if (status == STATUS_OK && syscall(SYS_landlock_restrict_self, ruleset, 0) != 0) {
        status = error_io(error, "sandbox", "failed to close the files of the system to the child");
    }
    (void)close((int)ruleset);
    return status;
}
