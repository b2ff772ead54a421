/* Children: start, talk, stop, bury. Nothing a child does is trusted: lines are bounded, messages parsed strictly, the total counted;
 * it is told to stop by SIGTERM and made to by SIGKILL, and what is left of its process group goes with it. */
#include "server/jobs/job_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "server/jobs/job_spawn.h"

enum { TICK_MS = 100, READ_CHUNK = 16 * 1024, TOTAL_MAX = 256 * 1024 * 1024, LOG_TAIL = 1500 };
static const double LINGER_S = 10.0; /* a child that has said its outcome must end within this time */

struct talk {
    const struct job_process *process;
    struct job_outcome *outcome;
    pid_t pid;
    int socket; /* -1 once the child has closed its end */
    int end;    /* readable once the child has ended; -1 if the kernel has no such thing: then the tick finds out */
    char *request;
    size_t request_length, sent;
    struct buf line;
    size_t total;
    bool said;      /* an outcome has come */
    bool stopping;  /* SIGTERM is sent */
    double kill_at; /* when SIGKILL follows */
    bool killed;    /* SIGKILL is sent */
};

static void send_request(struct talk *talk) {
    ssize_t sent =
        send(talk->socket, talk->request + talk->sent, talk->request_length - talk->sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) {
        talk->sent += (size_t)sent;
    } else if (errno != EAGAIN && errno != EINTR) {
        talk->sent = talk->request_length; /* it is gone; its end will tell */
    }
}

static void kill_child(struct talk *talk) {
    if (!talk->killed) {
        (void)kill(-talk->pid, SIGKILL);
        talk->killed = true;
    }
}

static void babble(struct talk *talk, const struct error *what) {
    talk->outcome->end = JOB_END_BABBLE;
    talk->said = true;
    error_clear(&talk->outcome->problem);
    (void)error_set(&talk->outcome->problem, STATUS_INTERNAL, "child",
                    "failed to understand the child: got '%.300s', expected a message", what->message);
    kill_child(talk);
}

static void hear_line(struct talk *talk, const char *line, size_t length) {
    struct job_message message;
    struct error error = {0};
    if (talk->said || job_message_parse(line, length, &message, &error) != STATUS_OK) {
        (void)error_set(&error, STATUS_INVALID, "", "more after the outcome");
        babble(talk, &error);
        return;
    }
    switch (message.kind) {
    case JOB_MESSAGE_PROGRESS:
        if (talk->process->progress != NULL) {
            talk->process->progress(talk->process->user, &message.progress);
        }
        return;
    case JOB_MESSAGE_DONE:
        talk->outcome->end = JOB_END_DONE;
        talk->outcome->info = message.info;
        break;
    case JOB_MESSAGE_ERROR:
        talk->outcome->end = JOB_END_ERROR;
        talk->outcome->problem = message.problem;
        break;
    }
    talk->said = true;
    talk->kill_at = clock_seconds() + LINGER_S;
}

static void hear(struct talk *talk, const char *bytes, size_t length) {
    struct error error = {0};
    talk->total += length;
    if (talk->total > TOTAL_MAX) {
        (void)error_set(&error, STATUS_LIMIT, "", "too much");
        babble(talk, &error);
    }
    while (length > 0 && !talk->killed) {
        const char *newline = memchr(bytes, '\n', length);
        size_t part = newline != NULL ? (size_t)(newline - bytes) : length;
        if (talk->line.length + part > talk->process->line_max || !buf_append(&talk->line, bytes, part)) {
            (void)error_set(&error, STATUS_LIMIT, "", "a line that is too long");
            babble(talk, &error);
            return;
        }
        if (newline != NULL) {
            hear_line(talk, talk->line.data, talk->line.length);
            buf_reset(&talk->line);
            part++;
        }
        bytes += part;
        length -= part;
    }
}

static void receive(struct talk *talk) {
    char chunk[READ_CHUNK];
    ssize_t got = recv(talk->socket, chunk, sizeof chunk, MSG_DONTWAIT);
    if (got > 0) {
        hear(talk, chunk, (size_t)got);
    } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        (void)close(talk->socket);
        talk->socket = -1;
        talk->kill_at = talk->kill_at > 0 ? talk->kill_at : clock_seconds() + LINGER_S;
    }
}

static void push_to_end(struct talk *talk) {
    double now = clock_seconds();
    if (!talk->stopping && !talk->said && talk->process->stop(talk->process->user)) {
        talk->stopping = true;
        talk->kill_at = now + talk->process->grace_s;
        (void)kill(talk->pid, SIGTERM);
    }
    if (talk->kill_at > 0 && now >= talk->kill_at) {
        kill_child(talk);
    }
}

/* true once the child has ended; it is not reaped yet, so its number still belongs to it. */
static bool has_ended(const struct talk *talk) {
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)talk->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == talk->pid;
}

static void talk_until_end(struct talk *talk) {
    while (true) {
        bool ended = has_ended(talk);
        /* What a child that is killed still says is of no interest. */
        struct pollfd pollers[] = {{.fd = talk->killed ? -1 : talk->socket, .events = POLLIN},
                                   {.fd = talk->end, .events = POLLIN}};
        if (talk->sent < talk->request_length) {
            pollers[0].events |= POLLOUT;
        }
        int ready = poll(pollers, 2, ended ? 0 : TICK_MS);
        if (ready > 0 && (pollers[0].revents & POLLOUT) != 0) {
            send_request(talk);
        }
        if (ready > 0 && (pollers[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
            receive(talk);
        } else if (ended) {
            return; /* and all that it said is heard */
        }
        push_to_end(talk);
    }
}

static void judge(struct talk *talk, int status) {
    struct job_outcome *outcome = talk->outcome;
    bool in_order = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    bool breach = WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
    if (!breach && talk->said && (in_order || outcome->end != JOB_END_DONE)) {
        return;
    }
    json_decref(outcome->info);
    outcome->info = NULL;
    error_clear(&outcome->problem);
    if (breach) {
        outcome->end = JOB_END_BREACH;
        (void)error_set(&outcome->problem, STATUS_INVALID, "sandbox",
                        "failed to stay in the sandbox: the child made a system call that is not allowed");
        return;
    }
    if (talk->stopping) {
        outcome->end = JOB_END_STOPPED;
        (void)error_set(&outcome->problem, STATUS_CANCELLED, "child", "the child was stopped");
        return;
    }
    outcome->end = JOB_END_LOST;
    outcome->unstarted = WIFEXITED(status) && WEXITSTATUS(status) == JOB_SPAWN_CANNOT_EXEC;
    outcome->killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && !talk->killed;
    if (WIFSIGNALED(status)) {
        (void)error_set(&outcome->problem, STATUS_INTERNAL, "child", "the child process was ended by signal %d (%s)%s",
                        WTERMSIG(status), sigabbrev_np(WTERMSIG(status)),
                        outcome->killed ? ", perhaps for want of memory" : "");
    } else {
        (void)error_set(&outcome->problem, STATUS_INTERNAL, "child", "the child process ended with status %d%s",
                        WEXITSTATUS(status), talk->said ? " after its outcome" : " and without an outcome");
    }
}

/* Why a child was lost is often in what it wrote last. */
static void log_tail(int log, pid_t pid) {
    char tail[LOG_TAIL + 1];
    off_t length = lseek(log, 0, SEEK_END);
    off_t from = length > LOG_TAIL ? length - LOG_TAIL : 0;
    ssize_t got = length > 0 ? pread(log, tail, LOG_TAIL, from) : 0;
    if (got > 0) {
        tail[got] = '\0';
        log_event(LOG_WARN, "child_log", "child %d wrote last: %s", (int)pid, tail);
    }
}

void job_process_run(const struct job_process *process, const struct job_request *request,
                     struct job_outcome *outcome) {
    struct talk talk = {.process = process, .outcome = outcome, .socket = -1, .end = -1};
    struct job_spawned spawned = {.socket = -1, .log = -1};
    /* Not to have started is not the job's fault: it may run again. */
    *outcome = (struct job_outcome){.end = JOB_END_LOST};
    buf_init(&talk.line, process->line_max + 1);
    talk.request = job_message_request(request);
    if (talk.request == NULL) {
        (void)error_no_memory(&outcome->problem, "a request");
        goto end;
    }
    talk.request_length = strlen(talk.request);
    if (job_spawn(process->executable, process->folder, process->threads, &spawned, &outcome->problem) != STATUS_OK) {
        outcome->unstarted = true;
        goto end;
    }
    talk.pid = spawned.pid;
    talk.socket = spawned.socket;
    talk.end = pidfd_open(talk.pid, 0);
    talk_until_end(&talk);
    /* Anything that it started itself goes with it, while its number is still taken. */
    (void)kill(-talk.pid, SIGKILL);
    int status = 0;
    while (waitpid(talk.pid, &status, 0) < 0 && errno == EINTR) {
    }
    judge(&talk, status);
    if (outcome->end == JOB_END_LOST || outcome->end == JOB_END_BABBLE || outcome->end == JOB_END_BREACH) {
        log_tail(spawned.log, talk.pid);
    }
end:
    if (talk.socket >= 0) {
        (void)close(talk.socket);
    }
    if (talk.end >= 0) {
        (void)close(talk.end);
    }
    if (spawned.log >= 0) {
        (void)close(spawned.log);
    }
    buf_deinit(&talk.line);
    mem_free(talk.request);
}
