/* `onp run` without a server goes the same way as with one: a whole onpd, on a socket that nobody else can open. The
 * child dies with us even if we are killed (PR_SET_PDEATHSIG), and is not in the terminal's foreground group, so that the
 * first Ctrl-C reaches only us and can cancel the job in order. */
#include "client/local_server.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/interrupt.h"
#include "client/onpd_path.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/mem.h"

enum { PATH_SIZE = 256, ADDRESS_SIZE = PATH_SIZE + 8, LOG_TAIL = 4096 };

static const double READY_MAX_S = 30.0;
static const double GRACE_S = 5.0;
static const double NAP_S = 0.02;

struct local_server {
    pid_t pid; /* 0: none, or ended */
    char dir[PATH_SIZE];
    char socket[PATH_SIZE];
    char log[PATH_SIZE];
    char data[PATH_SIZE];
    char address[ADDRESS_SIZE];
};

static enum status make_folder(struct local_server *server, struct error *error) {
    const char *base = getenv("TMPDIR");
    base = base != NULL && base[0] == '/' ? base : "/tmp";
    int length = snprintf(server->dir, sizeof server->dir, "%s/onp-XXXXXX", base);
    /* The socket's name must fit sockaddr_un. */
    if (length < 0 || (size_t)length + sizeof "/sock" > sizeof((struct sockaddr_un *)NULL)->sun_path) {
        server->dir[0] = '\0';
        return error_set(error, STATUS_LIMIT, "TMPDIR",
                         "failed to start onpd: got a TMPDIR of %zu bytes, expected fewer than 90", strlen(base));
    }
    if (mkdtemp(server->dir) == NULL) { /* mode 0700 */
        enum status status = error_io(error, base, "failed to make a folder in %.100s", base);
        server->dir[0] = '\0';
        return status;
    }
    enum status status = file_join(server->socket, sizeof server->socket, server->dir, "sock", error);
    if (status == STATUS_OK) {
        status = file_join(server->log, sizeof server->log, server->dir, "onpd.log", error);
    }
    if (status == STATUS_OK) {
        status = file_join(server->data, sizeof server->data, server->dir, "data", error);
    }
    if (status == STATUS_OK) {
        status = file_make_dir(server->data, error);
    }
    (void)snprintf(server->address, sizeof server->address, "unix:%s", server->socket);
    return status;
}

/* Our environment without ONP_...: those are settings of onpd, too, and meant for another one (ONP_TOKEN, ONP_LISTEN).
 * The strings stay those of `environ`; mem_free() the array. */
static char **make_environment(void) {
    size_t count = 0;
    size_t kept = 0;
    while (environ[count] != NULL) {
        count++;
    }
    char **result = mem_calloc(count + 1, sizeof *result);
    for (size_t i = 0; result != NULL && i < count; i++) {
        if (strncmp(environ[i], "ONP_", 4) != 0) {
            result[kept++] = environ[i];
        }
    }
    return result;
}

/* In the child between fork and exec: only async-signal-safe calls. */
static void become_onpd(const char *path, char *const argv[], char *const env[], int log_fd, pid_t parent) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = SIG_DFL;
    (void)sigaction(SIGPIPE, &action, NULL);
    (void)setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    int null_fd = open("/dev/null", O_RDONLY);
    if (getppid() != parent || null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 || dup2(log_fd, STDOUT_FILENO) < 0 ||
        dup2(log_fd, STDERR_FILENO) < 0) {
        _exit(126);
    }
    (void)execvpe(path, argv, env);
    static const char message[] = "cannot execute onpd: it is neither beside onp nor in PATH; set ONPD\n";
    ssize_t ignored = write(STDERR_FILENO, message, sizeof message - 1);
    (void)ignored;
    _exit(127);
}

static enum status spawn(struct local_server *server, uint64_t threads, struct error *error) {
    char path[PATH_SIZE * 2];
    char threads_text[24];
    enum status status = onpd_path_find(path, sizeof path, error);
    if (status != STATUS_OK) {
        return status;
    }
    (void)snprintf(threads_text, sizeof threads_text, "%llu", (unsigned long long)threads);
    char unix_option[] = "--unix", data_option[] = "--data", threads_option[] = "--threads";
    char workers[] = "--workers=1", drain[] = "--drain=0", grace[] = "--cancel-grace=2";
    /* threads 0 is onpd's default: one a core. */
    char *argv[] = {path,  unix_option, server->socket, data_option,  server->data, workers,
                    drain, grace,       threads_option, threads_text, NULL};
    char **env = make_environment();
    if (env == NULL) {
        return error_no_memory(error, "an environment");
    }
    int log_fd = open(server->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0) {
        status = error_io(error, NULL, "failed to create %s", server->log);
        goto done;
    }
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid == 0) {
        become_onpd(path, argv, env, log_fd, parent);
    }
    if (pid < 0) {
        status = error_io(error, NULL, "failed to start onpd");
    } else {
        server->pid = pid;
    }
    (void)close(log_fd);
done:
    mem_free(env);
    return status;
}

static bool listens(const struct local_server *server) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, server->socket, strlen(server->socket) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool connected = fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0) {
        (void)close(fd);
    }
    return connected;
}

static enum status wait_ready(struct local_server *server, struct error *error) {
    double give_up = clock_seconds() + READY_MAX_S;
    while (!listens(server)) {
        int how = 0;
        if (waitpid(server->pid, &how, WNOHANG) == server->pid) {
            server->pid = 0;
            return error_set(error, STATUS_INTERNAL, NULL,
                             "failed to start onpd: got exit status %d, expected it to run",
                             WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how));
        }
        if (interrupt_count() > 0) {
            return error_set(error, STATUS_CANCELLED, NULL, "stopped while onpd was starting");
        }
        if (clock_seconds() > give_up) {
            return error_set(error, STATUS_INTERNAL, NULL,
                             "failed to start onpd: got no answer in %.0f s, expected one", READY_MAX_S);
        }
        (void)interrupt_sleep(NAP_S);
    }
    return STATUS_OK;
}

enum status local_server_start(uint64_t threads, struct local_server **out, struct error *error) {
    struct local_server *server = mem_calloc(1, sizeof *server);
    if (server == NULL) {
        return error_no_memory(error, "a private server");
    }
    enum status status = make_folder(server, error);
    if (status == STATUS_OK) {
        status = spawn(server, threads, error);
    }
    if (status == STATUS_OK) {
        status = wait_ready(server, error);
    }
    if (status == STATUS_OK) {
        *out = server;
        return STATUS_OK;
    }
    if (status != STATUS_CANCELLED) {
        local_server_print_log(server, stderr);
    }
    local_server_stop(server);
    return status;
}

const char *local_server_address(const struct local_server *server) {
    return server->address;
}

void local_server_print_log(const struct local_server *server, FILE *file) {
    char text[LOG_TAIL];
    int fd = server->log[0] != '\0' ? open(server->log, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        return;
    }
    off_t size = lseek(fd, 0, SEEK_END);
    (void)lseek(fd, size > LOG_TAIL ? size - LOG_TAIL : 0, SEEK_SET);
    ssize_t got = read(fd, text, sizeof text);
    (void)close(fd);
    if (got > 0) {
        (void)fprintf(file, "onp: the log of onpd ends with:\n");
        (void)fwrite(text, 1, (size_t)got, file);
        if (text[got - 1] != '\n') {
            (void)fputc('\n', file);
        }
    }
}

static void end_process(pid_t pid) {
    double give_up = clock_seconds() + GRACE_S;
    int how = 0;
    (void)kill(pid, SIGTERM);
    for (;;) {
        pid_t got = waitpid(pid, &how, WNOHANG);
        if (got == pid || (got < 0 && errno != EINTR)) {
            return;
        }
        if (clock_seconds() > give_up) {
            break;
        }
        (void)interrupt_sleep(NAP_S);
    }
    (void)kill(-pid, SIGKILL); /* its group, for the children of jobs */
    (void)kill(pid, SIGKILL);
    while (waitpid(pid, &how, 0) < 0 && errno == EINTR) {
    }
}

void local_server_stop(struct local_server *server) {
    struct error error = {0};
    if (server == NULL) {
        return;
    }
    if (server->pid > 0) {
        end_process(server->pid);
    }
    if (server->dir[0] != '\0' && file_remove_tree(server->dir, &error) != STATUS_OK) {
        (void)fprintf(stderr, "onp: %s\n", error.message);
    }
    mem_free(server);
}

enum status local_server_connect(const struct command_options *options, uint64_t threads, struct local_server **server,
                                 struct api_client **client, struct error *error) {
    if (command_has_server(options)) {
        return command_connect(options, client, error);
    }
    enum status status = local_server_start(threads, server, error);
    return status == STATUS_OK ? api_client_new(local_server_address(*server), NULL, client, error) : status;
}
