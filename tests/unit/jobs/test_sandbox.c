/* The walls around a child, each tried by code that runs into it: this program starts itself again, enters the sandbox as a job's
 * child does and then attempts what it should not get. Every attempt is first made without the sandbox, so that a wall which
 * only seems to hold because the attempt is wrong does not pass. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/file.h"
#include "common/mem.h"
#include "server/jobs/job_sandbox.h"
#include "tests/unit/jobs/fake_methods.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED true
#else
#define IS_SANITIZED false
#endif

/* Exit codes of an attempt. */
enum { GOT_THROUGH = 0, WAS_REFUSED = 10, NO_SANDBOX = 11, NO_SUCH_ATTEMPT = 12 };

struct world {
    struct scratch scratch;
    char model[STORE_PATH_SIZE], secret[STORE_PATH_SIZE], folder[STORE_PATH_SIZE];
};

/* --- the attempts; each tells whether it got through --- */

/* What an attempt sees: the request whose paths the sandbox may have replaced, and the real paths. */
struct view {
    const struct job_request *request;
    const char *model, *secret, *folder;
};

static bool can_open(const char *path, int flags) {
    int fd = open(path, flags | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (void)close(fd);
    }
    return fd >= 0;
}

static bool can_open_in(const char *folder, const char *name, int flags) {
    char path[STORE_PATH_SIZE];
    return file_join(path, sizeof path, folder, name, NULL) == STATUS_OK && can_open(path, flags);
}

static bool reads_its_input(const struct view *view) {
    return can_open(view->request->run.model_path, O_RDONLY);
}

static bool writes_its_folder(const struct view *view) {
    char path[STORE_PATH_SIZE];
    return file_join(path, sizeof path, view->request->run.out_dir, "out", NULL) == STATUS_OK &&
           file_write_atomic(path, "x", 1, NULL) == STATUS_OK;
}

static void *nothing(void *user) {
    return user;
}

static bool computes(const struct view *view) {
    pthread_t thread;
    void *block = mem_alloc(1 << 20, 8);
    bool fine = block != NULL && pthread_create(&thread, NULL, nothing, NULL) == 0 && pthread_join(thread, NULL) == 0;
    (void)view;
    mem_free(block);
    return fine;
}

static bool reads_a_secret(const struct view *view) {
    return can_open(view->secret, O_RDONLY);
}

static bool reads_the_system(const struct view *view) {
    (void)view;
    return can_open("/etc/passwd", O_RDONLY);
}

static bool lists_a_folder(const struct view *view) {
    (void)view;
    return can_open("/etc", O_RDONLY | O_DIRECTORY);
}

static bool looks_at_processes(const struct view *view) {
    (void)view;
    return can_open("/proc/1/status", O_RDONLY);
}

static bool writes_its_input(const struct view *view) {
    return can_open(view->request->run.model_path, O_WRONLY);
}

static bool writes_elsewhere(const struct view *view) {
    return can_open_in(view->folder, "../elsewhere", O_WRONLY | O_CREAT);
}

static bool escapes_by_dots(const struct view *view) {
    return can_open_in(view->request->run.out_dir, "../secret", O_RDONLY);
}

static bool makes_a_link(const struct view *view) {
    char path[STORE_PATH_SIZE];
    return file_join(path, sizeof path, view->request->run.out_dir, "link", NULL) == STATUS_OK &&
           symlink("/etc/passwd", path) == 0;
}

static bool makes_a_hard_link(const struct view *view) {
    char path[STORE_PATH_SIZE];
    return file_join(path, sizeof path, view->request->run.out_dir, "hard", NULL) == STATUS_OK &&
           linkat(AT_FDCWD, view->secret, AT_FDCWD, path, 0) == 0;
}

static bool makes_a_device(const struct view *view) {
    char path[STORE_PATH_SIZE];
    return file_join(path, sizeof path, view->request->run.out_dir, "fifo", NULL) == STATUS_OK &&
           mkfifo(path, 0600) == 0;
}

static bool changes_modes(const struct view *view) {
    return chmod(view->request->run.model_path, 0777) == 0;
}

static bool opens_a_socket(const struct view *view) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)view;
    return fd >= 0;
}

static bool opens_a_local_socket(const struct view *view) {
    int ends[2];
    (void)view;
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0;
}

static bool sends_to_an_address(const struct view *view) {
    /* On a socket that a mistake might have left open; here there is none, so the address alone must end it. */
    const struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    (void)view;
    return sendto(0, "x", 1, 0, (const struct sockaddr *)&to, sizeof to) == 1 || errno == ENOTSOCK;
}

static bool runs_a_program(const struct view *view) {
    char name[] = "true";
    char *const argv[] = {name, NULL};
    (void)view;
    (void)execve("/bin/true", argv, NULL);
    return false; /* where it gets through, its status is that of /bin/true: GOT_THROUGH */
}

static bool starts_a_process(const struct view *view) {
    (void)view;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(0);
    }
    return pid > 0 && waitpid(pid, NULL, 0) == pid;
}

static bool starts_a_process_anew(const struct view *view) {
    (void)view;
    long pid = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid == 0) {
        _exit(0);
    }
    return pid > 0;
}

static bool enters_a_name_space(const struct view *view) {
    (void)view;
    return unshare(CLONE_NEWUSER) == 0 || errno == EPERM || errno == EINVAL || errno == ENOSPC;
}

static bool traces(const struct view *view) {
    (void)view;
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0;
}

static bool signals_its_parent(const struct view *view) {
    (void)view;
    return kill(getppid(), 0) == 0;
}

static bool reads_other_memory(const struct view *view) {
    (void)view;
    return syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0) == 0;
}

static bool makes_code(const struct view *view) {
    (void)view;
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED;
}

static bool turns_data_into_code(const struct view *view) {
    (void)view;
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page != MAP_FAILED && mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0;
}

static bool becomes_root(const struct view *view) {
    (void)view;
    return syscall(SYS_setuid, 0) == 0;
}

static bool is_root(const struct view *view) {
    (void)view;
    return geteuid() == 0 || getegid() == 0;
}

static bool raises_a_limit(const struct view *view) {
    const struct rlimit more = {RLIM_INFINITY, RLIM_INFINITY};
    (void)view;
    return setrlimit(RLIMIT_CORE, &more) == 0;
}

static bool takes_memory(const struct view *view) {
    void *block = mem_alloc((size_t)3 << 30, 1);
    (void)view;
    if (block == NULL) {
        return false;
    }
    mem_free(block);
    return true;
}

static bool opens_many_files(const struct view *view) {
    (void)view;
    for (int i = 0; i < 200; i++) {
        if (open("/dev/null", O_RDONLY | O_CLOEXEC) < 0) {
            return false;
        }
    }
    return true;
}

static bool writes_a_large_file(const struct view *view) {
    char path[STORE_PATH_SIZE];
    if (file_join(path, sizeof path, view->request->run.out_dir, "large", NULL) != STATUS_OK) {
        return false;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    return fd >= 0 && ftruncate(fd, (off_t)1 << 30) == 0;
}

/* How a wall answers. */
enum answer { PASSES, REFUSES, KILLS };

static const struct attempt {
    const char *name;
    bool (*run)(const struct view *view);
    enum answer answer;
    bool as_root_only; /* the wall stands only if the daemon is root */
} ATTEMPTS[] = {
    {"reads its input", reads_its_input, PASSES, false},
    {"writes its folder", writes_its_folder, PASSES, false},
    {"computes", computes, PASSES, false},
    {"reads a secret", reads_a_secret, REFUSES, false},
    {"reads the system", reads_the_system, REFUSES, false},
    {"lists a folder", lists_a_folder, REFUSES, false},
    {"looks at processes", looks_at_processes, REFUSES, false},
    {"writes its input", writes_its_input, REFUSES, false},
    {"writes elsewhere", writes_elsewhere, REFUSES, false},
    {"escapes by dots", escapes_by_dots, REFUSES, false},
    {"makes a link", makes_a_link, KILLS, false},
    {"makes a hard link", makes_a_hard_link, KILLS, false},
    {"makes a device", makes_a_device, KILLS, false},
    {"changes modes", changes_modes, KILLS, false},
    {"opens a socket", opens_a_socket, KILLS, false},
    {"opens a local socket", opens_a_local_socket, KILLS, false},
    {"sends to an address", sends_to_an_address, KILLS, false},
    {"runs a program", runs_a_program, KILLS, false},
    {"starts a process", starts_a_process, KILLS, false},
    {"starts a process anew", starts_a_process_anew, KILLS, false},
    {"enters a name space", enters_a_name_space, KILLS, false},
    {"traces", traces, KILLS, false},
    {"signals its parent", signals_its_parent, KILLS, false},
    {"reads other memory", reads_other_memory, KILLS, false},
    {"makes code", makes_code, KILLS, false},
    {"turns data into code", turns_data_into_code, KILLS, false},
    {"becomes root", becomes_root, KILLS, true},
    {"is root", is_root, REFUSES, true},
    {"raises a limit", raises_a_limit, KILLS, false},
    {"takes memory", takes_memory, REFUSES, false},
    {"opens many files", opens_many_files, REFUSES, false},
    {"writes a large file", writes_a_large_file, REFUSES, false},
};

/* --- the child --- */

/* argv: program, "--attempt", name, model, secret, folder, mode, "jit" or "". */
static int attempt_main(char **argv) {
    struct error error = {0};
    struct job_sandbox sandbox;
    struct job_request request = {
        .task = JOB_TASK_RUN,
        .limits = {.memory = (uint64_t)2 << 30, .file = 1 << 20, .sandbox = JOB_SANDBOX_REQUIRE, .uid = 65534},
        .run = {.model_path = argv[3], .samples_path = argv[3], .out_dir = argv[5]}};
    const struct view view = {.request = &request, .model = argv[3], .secret = argv[4], .folder = argv[5]};
    request.limits.jit = strcmp(argv[7], "jit") == 0;
    request.limits.cpu_s = strcmp(argv[2], "computes for ever") == 0 ? 1 : 0;
    if (strcmp(argv[6], "open") != 0 && job_sandbox_enter(&sandbox, &request, &error) != STATUS_OK) {
        (void)fprintf(stderr, "%s\n", error.message);
        return NO_SANDBOX;
    }
    if (request.limits.cpu_s > 0) {
        for (volatile unsigned long i = 0;; i++) {
        }
    }
    for (size_t i = 0; i < sizeof ATTEMPTS / sizeof ATTEMPTS[0]; i++) {
        if (strcmp(ATTEMPTS[i].name, argv[2]) == 0) {
            return ATTEMPTS[i].run(&view) ? GOT_THROUGH : WAS_REFUSED;
        }
    }
    return NO_SUCH_ATTEMPT;
}

/* --- the parent --- */

static int make_world(void **state) {
    struct world *world = mem_calloc(1, sizeof *world);
    struct error error = {0};
    assert_non_null(world);
    scratch_make(&world->scratch);
    (void)snprintf(world->model, sizeof world->model, "%s", scratch_path(&world->scratch, "model"));
    (void)snprintf(world->secret, sizeof world->secret, "%s", scratch_path(&world->scratch, "secret"));
    (void)snprintf(world->folder, sizeof world->folder, "%s", scratch_path(&world->scratch, "folder"));
    assert_ok(file_write_atomic(world->model, "m", 1, &error), &error);
    assert_ok(file_write_atomic(world->secret, "s", 1, &error), &error);
    assert_int_equal(chmod(world->model, 0444), 0);
    assert_int_equal(mkdir(world->folder, 0700), 0);
    *state = world;
    return 0;
}

static int remove_world(void **state) {
    struct world *world = *state;
    scratch_remove(&world->scratch);
    mem_free(world);
    return 0;
}

/* The wait status of one attempt. */
static int attempt(const struct world *world, const char *name, const char *mode, const char *jit) {
    int status = 0;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char program[] = "attempt", argument[] = "--attempt";
        char words[6][STORE_PATH_SIZE];
        const char *const from[] = {name, world->model, world->secret, world->folder, mode, jit};
        char *argv[9] = {program, argument};
        for (size_t i = 0; i < 6; i++) {
            (void)snprintf(words[i], sizeof words[i], "%s", from[i]);
            argv[i + 2] = words[i];
        }
        /* The leak checker stops the process by tracing it, which is what the sandbox forbids. */
        (void)setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
        (void)setenv("OPENBLAS_NUM_THREADS", "1", 1);
        (void)execv("/proc/self/exe", argv);
        _exit(99);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static bool exited_with(int status, int code) {
    return WIFEXITED(status) && WEXITSTATUS(status) == code;
}

/* skip() returns by a jump. */
static void need_walls(void) {
    struct job_walls walls;
    job_sandbox_probe(65534, &walls);
    if (walls.landlock == 0 || !walls.calls) {
        print_message("skipped: this kernel has no Landlock or no seccomp\n");
        skip();
    }
}

static void each_wall_holds(void **state) {
    const struct world *world = *state;
    unsigned wrong = 0;
    need_walls();
    for (size_t i = 0; i < sizeof ATTEMPTS / sizeof ATTEMPTS[0]; i++) {
        const struct attempt *row = &ATTEMPTS[i];
        if ((row->as_root_only && geteuid() != 0) || (IS_SANITIZED && row->run == takes_memory)) {
            continue;
        }
        int status = attempt(world, row->name, "closed", "");
        bool right = row->answer == PASSES    ? exited_with(status, GOT_THROUGH)
                     : row->answer == REFUSES ? exited_with(status, WAS_REFUSED)
                                              : WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
        if (!right) {
            print_error("a child that %s: wait status %#x\n", row->name, (unsigned)status);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

static void each_attempt_gets_through_without_walls(void **state) {
    const struct world *world = *state;
    unsigned wrong = 0;
    for (size_t i = 0; i < sizeof ATTEMPTS / sizeof ATTEMPTS[0]; i++) {
        const struct attempt *row = &ATTEMPTS[i];
        /* Only root may write a file that is read-only, look at every process, raise a limit, be root. */
        bool by_root = row->as_root_only || row->run == writes_its_input || row->run == raises_a_limit;
        if ((by_root && geteuid() != 0) || (IS_SANITIZED && row->run == takes_memory)) {
            continue;
        }
        int status = attempt(world, row->name, "open", "");
        if (!exited_with(status, GOT_THROUGH)) {
            print_error("without walls, a child that %s: wait status %#x\n", row->name, (unsigned)status);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

static void code_may_be_made_only_where_it_was_asked_for(void **state) {
    need_walls();
    assert_true(exited_with(attempt(*state, "makes code", "closed", "jit"), GOT_THROUGH));
    assert_true(exited_with(attempt(*state, "turns data into code", "closed", "jit"), GOT_THROUGH));
    assert_int_equal(WTERMSIG(attempt(*state, "opens a socket", "closed", "jit")), SIGSYS);
}

static void processor_time_has_an_end(void **state) {
    need_walls();
    int status = attempt(*state, "computes for ever", "closed", "");
    /* Soft and hard limit are one: the kernel kills. */
    assert_true(WIFSIGNALED(status) && (WTERMSIG(status) == SIGKILL || WTERMSIG(status) == SIGXCPU));
}

static void what_is_not_there_is_not_opened(void **state) {
    struct world missing = *(struct world *)*state;
    need_walls();
    (void)snprintf(missing.model, sizeof missing.model, "%s", "/no/such/file");
    assert_true(exited_with(attempt(&missing, "computes", "closed", ""), NO_SANDBOX));
    (void)snprintf(missing.model, sizeof missing.model, "%s", "/dev/zero");
    assert_true(exited_with(attempt(&missing, "computes", "closed", ""), NO_SANDBOX));
}

int main(int argc, char **argv) {
    if (argc == 8 && strcmp(argv[1], "--attempt") == 0) {
        return attempt_main(argv);
    }
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_world, remove_world)
    const struct CMUnitTest tests[] = {
        CASE(each_wall_holds),
        CASE(each_attempt_gets_through_without_walls),
        CASE(code_may_be_made_only_where_it_was_asked_for),
        CASE(processor_time_has_an_end),
        CASE(what_is_not_there_is_not_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
