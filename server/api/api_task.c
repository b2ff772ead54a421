/* Tasks: a request is held, a helper thread of `jobs` does the work and writes the answer into the task, the task is
 * posted back to the loop thread, which replies and frees it. */
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/api/api_internal.h"

static void task_free(struct api_task *task) {
    store_upload_abort(task->upload);
    json_decref(task->body);
    json_decref(task->reply);
    if (task->end != NULL) {
        task->end(task);
    }
    mem_free(task);
}

void api_task_field(struct api_task *task, const char *name, const char *value) {
    if (task->field_count < API_FIELDS_MAX) {
        task->fields[task->field_count].name = name;
        (void)snprintf(task->fields[task->field_count++].value, API_FIELD_SIZE, "%s", value);
    }
}

static void reply_draining(struct http_request *request) {
    struct error error = {0};

    error_set(&error, STATUS_UNAVAILABLE, NULL, "failed to start the request: the server is shutting down");
    http_reply_error(request, &error);
}

struct api_task *api_task_new(struct http_request *request, struct api *api, void (*work)(struct api_task *task)) {
    struct error error = {0};
    struct api_task *task;

    if (api->draining) {
        reply_draining(request);
        return NULL;
    }
    task = mem_calloc(1, sizeof(*task));
    if (task == NULL) {
        error_no_memory(&error, "a task");
        http_reply_error(request, &error);
        return NULL;
    }
    task->api = api;
    task->server = http_request_server(request);
    task->work = work;
    (void)snprintf(task->subject, sizeof(task->subject), "%s", http_request_subject(request));
    return task;
}

static void reply(struct http_request *request, struct api_task *task) {
    json_t *body = task->reply;

    task->reply = NULL;
    if (task->error.status != STATUS_OK) {
        json_decref(body);
        http_reply_problem(request, task->code, &task->error);
        return;
    }
    for (size_t i = 0; i < task->field_count; i++) {
        http_reply_header(request, task->fields[i].name, task->fields[i].value);
    }
    if (task->replayed) {
        http_reply_header(request, "Idempotency-Replayed", "true");
    }
    if (task->location[0] != '\0') {
        http_reply_header(request, "Location", task->location);
    }
    if (task->code == 202) {
        http_reply_header(request, "Retry-After", "1");
    }
    if (task->code == 204) {
        json_decref(body);
        http_reply_empty(request, 204);
    } else {
        http_reply_json(request, task->code, body);
    }
}

/* Loop thread. */
static void task_done(struct http_post *post) {
    struct api_task *task = (struct api_task *)post; /* its first member */
    struct http_request *request = http_hold_release(task->hold);

    if (task->done != NULL) {
        task->done(task);
    }
    if (request != NULL) {
        reply(request, task);
    }
    task_free(task);
}

/* Helper thread. */
static void task_run(void *user) {
    struct api_task *task = user;

    if (task->idempotency_key[0] == '\0') {
        task->work(task);
    } else if (api_idempotency_enter(task)) {
        task->work(task);
        api_idempotency_leave(task);
    }
    http_server_post(task->server, &task->post);
}

void api_task_start(struct http_request *request, struct api_task *task) {
    struct error error = {0};

    if (!api_idempotency_read(request, task)) {
        task_free(task);
        return;
    }
    task->post.run = task_done;
    task->hold = http_request_hold(request);
    if (task->hold == NULL) {
        reply_draining(request);
    } else if (jobs_run_later(task->api->config.jobs, task_run, task, &error) != STATUS_OK) {
        (void)http_hold_release(task->hold);
        http_reply_error(request, &error);
    } else {
        return;
    }
    task_free(task);
}
