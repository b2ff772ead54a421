/* /v1/jobs: submission, lists, one job with long-poll, cancel, retry, deletion. */
#include <stdio.h>
#include <string.h>

#include "common/parse.h"
#include "server/api/api_internal.h"

/* Fills the answer of a task from a row: 202 with its place. */
static void answer_job(struct api_task *task, struct store_job *job) {
    task->code = 202;
    task->reply = api_job_json(job);
    (void)snprintf(task->location, sizeof(task->location), PATH_JOBS "/%s", job->id);
    store_job_deinit(job);
}

/* A submission names things in its body: that they are missing or in a wrong state is about the content. A full queue is
 * the client's to wait for. */
static void answer_refusal(struct api_task *task) {
    if (task->error.status == STATUS_NOT_FOUND) {
        task->code = 422;
    } else if (task->error.status == STATUS_UNAVAILABLE && strcmp(task->error.where, "queue") == 0) {
        task->code = 429;
    }
}

static void submit(struct api_task *task, struct store_job_request *request) {
    const struct store_idempotency_key key = {task->subject, task->idempotency_key};
    struct store_job job;

    request->idempotency = task->holds_key ? &key : NULL;
    request->owner = task->subject;
    request->owner_max = task->api->config.jobs_max;
    if (store_check_disk(task->api->config.store, task->api->config.min_free, &task->error) == STATUS_OK) {
        if (jobs_submit(task->api->config.jobs, request, &job, &task->error) == STATUS_OK) {
            answer_job(task, &job);
        } else {
            answer_refusal(task);
        }
    }
    request->idempotency = NULL; /* it ends here */
}

static void create_work(struct api_task *task) {
    struct store_job_request request;

    if (api_job_request_read(task->body, &request, &task->error) != STATUS_OK) {
        return;
    }
    submit(task, &request);
}

void api_jobs_create(struct http_request *request, void *context) {
    struct api_task *task;
    struct store_job_request unused;
    struct error error = {0};
    json_t *body = NULL;

    if (http_request_json(request, &body, &error) != STATUS_OK) {
        api_reply_malformed(request, &error);
        return;
    }
    /* Wrong content is answered at once, even when the helpers are busy; the task reads it again for its own borrowed strings. */
    if (api_job_request_read(body, &unused, &error) != STATUS_OK) {
        http_reply_error(request, &error);
        json_decref(body);
        return;
    }
    task = api_task_new(request, context, create_work);
    if (task == NULL) {
        json_decref(body);
        return;
    }
    task->body = body;
    api_task_start(request, task);
}

static enum status read_filter(struct http_request *request, struct store_job_filter *filter, struct error *error) {
    const char *state = http_request_query(request, "state");

    *filter = (struct store_job_filter){JOB_STATE_COUNT, http_request_query(request, "method"),
                                        http_request_query(request, "label")};
    if (state == NULL) {
        return STATUS_OK;
    }
    filter->state = job_state_from_name(state);
    if (filter->state == JOB_STATE_COUNT) {
        return error_set(error, STATUS_INVALID, NULL, "failed to read ?state=: got '%.40s', expected a job state",
                         state);
    }
    return STATUS_OK;
}

void api_jobs_list(struct http_request *request, void *context) {
    static const char *const known[] = {"limit", "after", "state", "method", "label", NULL};
    struct api *api = context;
    struct store_job *jobs = NULL;
    struct store_job_filter filter;
    struct api_page page;
    struct error error = {0};
    size_t count = 0;
    bool has_more = false;
    json_t *data;

    if (http_request_check_query(request, known, &error) != STATUS_OK ||
        api_read_page(request, "job", &page, &error) != STATUS_OK ||
        read_filter(request, &filter, &error) != STATUS_OK) {
        api_reply_malformed(request, &error);
        return;
    }
    if (store_job_list(api->config.store, &filter, page.after, page.limit, &jobs, &count, &has_more, &error) !=
        STATUS_OK) {
        http_reply_error(request, &error);
        return;
    }
    data = json_array();
    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(data, api_job_json(&jobs[i]));
    }
    store_jobs_free(jobs, count);
    data = json_array_size(data) == count ? data : (json_decref(data), NULL);
    http_reply_json(request, 200,
                    api_list_json(data, has_more, json_object_get(json_array_get(data, count - 1), "id")));
}

void api_jobs_get(struct http_request *request, void *context) {
    struct api *api = context;
    const char *id = api_path_id(request, "job");
    const char *wait = http_request_query(request, "wait");
    double seconds = 0;
    const struct http_document *document;
    struct error error = {0};

    if (id == NULL) {
        return;
    }
    if (wait != NULL && !parse_double(wait, 0.0, api->config.wait_max_s, &seconds)) {
        error_set(&error, STATUS_INVALID, NULL, "failed to read ?wait=: got '%.40s', expected 0 to %.0f seconds", wait,
                  api->config.wait_max_s);
        api_reply_malformed(request, &error);
        return;
    }
    document = api_documents_job(api, id, &error);
    if (document == NULL) {
        http_reply_error(request, &error);
    } else {
        http_reply_document_or_wait(request, document, id, seconds);
    }
}

/* Starts a task about the job of the path. */
static void start_for_job(struct http_request *request, struct api *api, void (*work)(struct api_task *task)) {
    const char *id = api_path_id(request, "job");
    struct api_task *task = id == NULL ? NULL : api_task_new(request, api, work);

    if (task != NULL) {
        (void)snprintf(task->id, sizeof(task->id), "%s", id);
        api_task_start(request, task);
    }
}

static void cancel_work(struct api_task *task) {
    struct store_job job;

    if (jobs_cancel(task->api->config.jobs, task->id, &job, &task->error) == STATUS_OK) {
        answer_job(task, &job);
    }
}

void api_jobs_cancel(struct http_request *request, void *context) {
    start_for_job(request, context, cancel_work);
}

/* Terminal states never change, so a retry is a new job of the same request. */
static void retry_work(struct api_task *task) {
    struct store_job old;
    struct store_job_request request;

    if (store_job_find(task->api->config.store, task->id, &old, &task->error) != STATUS_OK) {
        return;
    }
    if (old.state != JOB_FAILED && old.state != JOB_CANCELLED) {
        error_set(&task->error, STATUS_CONFLICT, NULL,
                  "failed to retry job %s: got state %s, expected failed or cancelled", old.id,
                  job_state_name(old.state));
    } else {
        request = (struct store_job_request){
            .model_id = old.model_id,
            .samples_id = old.samples_id,
            .probe_id = old.probe_id[0] != '\0' ? old.probe_id : NULL,
            .method = old.method,
            .parameters = old.parameters,
            .seed = old.seed,
            .priority = old.priority,
            .labels = old.labels,
            .deadline_s = old.deadline_s,
        };
        submit(task, &request);
    }
    store_job_deinit(&old);
}

void api_jobs_retry(struct http_request *request, void *context) {
    start_for_job(request, context, retry_work);
}

static void delete_work(struct api_task *task) {
    if (store_job_delete(task->api->config.store, task->id, &task->error) == STATUS_OK) {
        struct error ignored = {0};
        task->code = 204;
        /* The row is gone, which is what was asked for; bytes that stay behind go at the next collection. */
        (void)store_collect_blobs(task->api->config.store, NULL, &ignored);
    }
}

/* If-Match is compared with the document that GET gives. */
static bool may_delete(struct http_request *request, struct api *api) {
    const char *id;
    struct store_job job;
    struct error error = {0};
    bool may;

    if (http_request_header(request, "If-Match") == NULL) {
        return true;
    }
    id = api_path_id(request, "job");
    if (id == NULL) {
        return false;
    }
    if (store_job_find(api->config.store, id, &job, &error) != STATUS_OK) {
        http_reply_error(request, &error);
        return false;
    }
    may = http_request_if_match(request, api_job_json(&job));
    store_job_deinit(&job);
    return may;
}

void api_jobs_delete(struct http_request *request, void *context) {
    if (!may_delete(request, context)) {
        return;
    }
    start_for_job(request, context, delete_work);
}
