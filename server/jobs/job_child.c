/* The child of a job: one process, one request, one outcome. Its only ties to the daemon are a socket and the files named in the
 * request; it never opens the database. */
#include "server/jobs/job_child.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/parse.h"
#include "server/jobs/job_message.h"
#include "server/jobs/job_sandbox.h"

enum { CHILD_DONE = 0, CHILD_BROKEN = 1, READ_CHUNK = 16 * 1024 };

struct child {
    int socket;
    const struct job_methods *methods;
    atomic_bool cancel; /* set on SIGTERM, tested by the stages between batches */
    bool mute;          /* the parent no longer listens */
};

/* Takes the line. */
static void say(struct child *child, char *line) {
    size_t length = line != NULL ? strlen(line) : 0;
    for (size_t at = 0; at < length && !child->mute;) {
        ssize_t sent = send(child->socket, line + at, length - at, MSG_NOSIGNAL);
        if (sent > 0) {
            at += (size_t)sent;
        } else if (errno != EINTR) {
            child->mute = true;
        }
    }
    mem_free(line);
}

static void progress(void *user, const struct mitigate_progress *from) {
    struct store_progress to;
    job_message_from_stages(from, &to);
    say(user, job_message_progress(&to));
}

/* Signals are waited for by a thread of their own, so that no handler has to share a global with the rest. */
static void *wait_for_term(void *user) {
    struct child *child = user;
    sigset_t set;
    int number = 0;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    while (sigwait(&set, &number) == 0) {
        atomic_store(&child->cancel, true);
    }
    return NULL;
}

static enum status watch_signals(struct child *child, struct error *error) {
    pthread_t thread;
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    int code = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (code == 0) {
        code = pthread_create(&thread, NULL, wait_for_term, child);
    }
    if (code != 0) {
        errno = code;
        return error_io(error, "child", "failed to watch for signals");
    }
    (void)pthread_detach(thread);
    return STATUS_OK;
}

/* Reads up to the newline that ends the request. */
static enum status read_request(const struct child *child, struct buf *line, struct error *error) {
    char chunk[READ_CHUNK];
    while (line->length == 0 || line->data[line->length - 1] != '\n') {
        ssize_t got = read(child->socket, chunk, sizeof chunk);
        if (got == 0) {
            return error_set(error, STATUS_UNAVAILABLE, "child", "failed to read the request: the parent is gone");
        }
        if (got < 0 && errno != EINTR) {
            return error_io(error, "child", "failed to read the request");
        }
        if (got > 0 && !buf_append(line, chunk, (size_t)got)) {
            return error_set(error, STATUS_LIMIT, "child", "failed to read the request: it is too long");
        }
    }
    return STATUS_OK;
}

static enum status carry_out(struct child *child, const struct job_request *request, json_t **info,
                             struct error *error) {
    const struct mitigate_hooks hooks = {.user = child, .progress = progress, .cancel = &child->cancel};
    json_t *report = NULL;
    enum status status = STATUS_INTERNAL;
    switch (request->task) {
    case JOB_TASK_RUN:
        status = child->methods->run(&request->run, &hooks, &report, error);
        json_decref(report); /* the parent reads it from its file */
        break;
    case JOB_TASK_CHECK_MODEL:
        status = child->methods->check_model(request->path, info, error);
        break;
    case JOB_TASK_CHECK_SAMPLES:
        status = child->methods->check_samples(request->path, info, error);
        break;
    case JOB_TASK_DESCRIBE_GRAPH:
        status = child->methods->describe_graph(request->path, request->layer, info, error);
        break;
    case JOB_TASK_COUNT:
        break;
    }
    if (status != STATUS_OK) {
        (void)error_set(error, status, "", "failed to carry out the request: %s", status_name(status));
    }
    return status;
}

int job_child_main(int argc, char **argv, const struct job_methods *methods) {
    struct child child = {.methods = methods};
    struct error error = {0};
    struct job_request request;
    struct job_sandbox sandbox;
    struct buf line;
    json_t *document = NULL;
    json_t *info = NULL;
    uint64_t number = 0;
    if (argc != 3 || !parse_u64(argv[2], 1024, &number)) {
        log_event(LOG_ERROR, "child_usage", "this way of starting is for the server's own use");
        return CHILD_BROKEN;
    }
    child.socket = (int)number;
    buf_init(&line, JOB_REQUEST_MAX);
    enum status status = job_sandbox_follow_parent(&error);
    if (status == STATUS_OK) {
        status = read_request(&child, &line, &error);
    }
    if (status == STATUS_OK) {
        status = job_message_parse_request(line.data, line.length, &request, &document, &error);
    }
    if (status == STATUS_OK) {
        status = job_sandbox_enter(&sandbox, &request, &error);
    }
    /* Landlock binds the thread that calls and those that it starts: so this comes after. */
    if (status == STATUS_OK) {
        status = watch_signals(&child, &error);
    }
    if (status == STATUS_OK) {
        status = carry_out(&child, &request, &info, &error);
    }
    say(&child, status == STATUS_OK ? job_message_done(info) : job_message_error(&error));
    json_decref(info);
    json_decref(document);
    buf_deinit(&line);
    (void)close(child.socket);
    return child.mute ? CHILD_BROKEN : CHILD_DONE;
}
