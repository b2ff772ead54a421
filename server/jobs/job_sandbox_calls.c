/* The wall of system calls: a list of what computing needs. No sockets beyond the one inherited, no programs, no processes, no
 * tracing, no change of identity or of the machine. Anything else ends the process (SIGSYS), which the daemon counts. */
#include <errno.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "server/jobs/job_sandbox.h"

#define NEW_SPACES                                                                                                     \
    (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)
enum { SET_VMA = 0x53564d41, XCOMP_SUPPORTED = 0x1021, XCOMP_REQUEST = 0x1023 }; /* names of memory; AMX */

static const int ALLOWED[] = {
    /* files, as far as the other wall lets it */
    SCMP_SYS(read), SCMP_SYS(pread64), SCMP_SYS(readv), SCMP_SYS(preadv), SCMP_SYS(write), SCMP_SYS(pwrite64),
    SCMP_SYS(writev), SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(close), SCMP_SYS(lseek), SCMP_SYS(stat),
    SCMP_SYS(lstat), SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(fstatfs), SCMP_SYS(statx), SCMP_SYS(access),
    SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(getdents64),
    SCMP_SYS(getcwd), SCMP_SYS(unlink), SCMP_SYS(unlinkat), SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2),
    SCMP_SYS(ftruncate), SCMP_SYS(fallocate), SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(fadvise64),
    SCMP_SYS(fcntl), SCMP_SYS(dup), SCMP_SYS(umask), SCMP_SYS(poll), SCMP_SYS(ppoll),
    /* memory; mmap and mprotect have conditions below */
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(mincore),
    /* threads */
    SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(get_robust_list), SCMP_SYS(rseq), SCMP_SYS(membarrier),
    SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity), SCMP_SYS(getcpu), SCMP_SYS(exit), SCMP_SYS(exit_group),
    SCMP_SYS(restart_syscall), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigtimedwait), SCMP_SYS(sigaltstack),
    /* what time it is and who we are */
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep),
    SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getppid), SCMP_SYS(getuid),
    SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid), SCMP_SYS(getrlimit), SCMP_SYS(getrusage), SCMP_SYS(times),
    SCMP_SYS(sysinfo), SCMP_SYS(uname), SCMP_SYS(getrandom)};

/* Calls that programs survive without; they get an error instead of an end. */
static const struct {
    int call, code;
} REFUSED[] = {{SCMP_SYS(clone3), ENOSYS},            /* its flags lie in memory, where a filter cannot see them */
               {SCMP_SYS(ioctl), ENOTTY},             /* isatty() of the log */
               {SCMP_SYS(mbind), EPERM},              /* placement of memory is a wish */
               {SCMP_SYS(set_mempolicy), EPERM},      /* the same */
               {SCMP_SYS(sched_setaffinity), EPERM}}; /* the same for threads */

bool job_sandbox_has_calls(void) {
    const uint32_t action = SECCOMP_RET_KILL_PROCESS;
    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

static int allow_plain(scmp_filter_ctx filter) {
    int code = 0;
    for (size_t i = 0; i < sizeof ALLOWED / sizeof ALLOWED[0] && code == 0; i++) {
        code = seccomp_rule_add(filter, SCMP_ACT_ALLOW, ALLOWED[i], 0);
    }
    for (size_t i = 0; i < sizeof REFUSED / sizeof REFUSED[0] && code == 0; i++) {
        code = seccomp_rule_add(filter, SCMP_ACT_ERRNO((unsigned)REFUSED[i].code), REFUSED[i].call, 0);
    }
    return code;
}

static int allow_memory(scmp_filter_ctx filter, bool jit) {
    static const int calls[] = {SCMP_SYS(mmap), SCMP_SYS(mprotect)};
    const struct scmp_arg_cmp plain = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
    int code = 0;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0] && code == 0; i++) {
        code = jit ? seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0)
                   : seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, calls[i], 1, &plain);
    }
    return code;
}

/* `call` is allowed when one argument compares. */
static int allow_if(scmp_filter_ctx filter, int call, struct scmp_arg_cmp condition) {
    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, 1, &condition);
}

static int allow_conditional(scmp_filter_ctx filter) {
    const struct {
        int call;
        struct scmp_arg_cmp condition;
    } rows[] = {
        /* threads, not processes, and in no new name space */
        {SCMP_SYS(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD | NEW_SPACES, CLONE_THREAD)},
        /* abort() and raise() signal this process */
        {SCMP_SYS(tgkill), SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid())},
        /* send() on the inherited socket, without an address */
        {SCMP_SYS(sendto), SCMP_A4(SCMP_CMP_EQ, 0)},
        /* limits are read, not set */
        {SCMP_SYS(prlimit64), SCMP_A2(SCMP_CMP_EQ, 0)},
        {SCMP_SYS(prctl), SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME)},
        {SCMP_SYS(prctl), SCMP_A0(SCMP_CMP_EQ, SET_VMA)},
        {SCMP_SYS(arch_prctl), SCMP_A0(SCMP_CMP_EQ, XCOMP_SUPPORTED)},
        {SCMP_SYS(arch_prctl), SCMP_A0(SCMP_CMP_EQ, XCOMP_SUPPORTED + 1)},
        {SCMP_SYS(arch_prctl), SCMP_A0(SCMP_CMP_EQ, XCOMP_REQUEST)},
    };
    int code = 0;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && code == 0; i++) {
        code = allow_if(filter, rows[i].call, rows[i].condition);
    }
    return code;
}

enum status job_sandbox_close_calls(bool jit, struct error *error) {
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (filter == NULL) {
        return error_no_memory(error, "a filter of system calls");
    }
    /* A call of another machine's numbers is none of ours. */
    int code = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (code == 0) {
        code = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    }
    if (code == 0) {
        code = allow_plain(filter);
    }
    if (code == 0) {
        code = allow_memory(filter, jit);
    }
    if (code == 0) {
        code = allow_conditional(filter);
    }
    if (code == 0) {
        code = seccomp_load(filter);
    }
    seccomp_release(filter);
    if (code != 0) {
        errno = -code;
        return error_io(error, "sandbox", "failed to close the system calls to the child");
    }
    return STATUS_OK;
}
