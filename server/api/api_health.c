/* Liveness and readiness, under the names of Kubernetes' custom and of the Open Inference Protocol. */
#include "common/clock.h"
#include "common/words.h"
#include "server/api/api_internal.h"

/* Younger answers are given again, so that a probe costs no commit and never waits behind a queue of uploads. */
static const double READY_AGE_S = 2.0;
/* A commit takes milliseconds; a disk that takes this long for one is of no use now. */
static const double STALL_S = 10.0;

void api_health_live(struct http_request *request, void *context) {
    (void)context;
    http_reply_json(request, 200, json_pack("{s:s, s:b}", "status", "ok", "live", 1));
}

void api_health_server(struct http_request *request, void *context) {
    (void)context;
    http_reply_json(request, 200, json_pack("{s:s, s:s, s:[]}", "name", "onpd", "version", ONP_VERSION, "extensions"));
}

static void reply_ready(struct http_request *request, const struct error *error) {
    if (error->status == STATUS_OK) {
        http_reply_json(request, 200, json_pack("{s:s, s:b}", "status", "ok", "ready", 1));
    } else {
        http_reply_problem(request, 503, error);
    }
}

/* Helper thread: a commit, a look at the disk, a child if the latest could not be started. */
static void ready_work(struct api_task *task) {
    const struct api_config *config = &task->api->config;

    task->code = 200;
    task->reply = json_pack("{s:s, s:b}", "status", "ok", "ready", 1);
    if (store_check_ready(config->store, config->min_free, &task->error) != STATUS_OK ||
        jobs_check_children(config->jobs, &task->error) != STATUS_OK) {
        task->code = 503;
    }
}

/* Loop thread. */
static void ready_done(struct api_task *task) {
    struct api *api = task->api;

    api->ready_known = true;
    api->ready_checked = clock_seconds();
    api->ready_error = task->error;
}

void api_health_ready(struct http_request *request, void *context) {
    struct api *api = context;
    struct error error = {0};
    struct api_task *task;
    double now = clock_seconds();

    if (api->draining) {
        error_set(&error, STATUS_UNAVAILABLE, NULL, "failed to be ready: the server is shutting down");
    } else if (store_stalled_s(api->config.store) > STALL_S) {
        error_set(&error, STATUS_UNAVAILABLE, "database",
                  "failed to be ready: got no answer of the database for %.0f s", store_stalled_s(api->config.store));
    } else if (jobs_check_alive(api->config.jobs, &error) != STATUS_OK) {
        /* `error` says why */
    } else if (!api->ready_known || now - api->ready_checked > READY_AGE_S) {
        task = api_task_new(request, api, ready_work);
        if (task != NULL) {
            task->done = ready_done;
            api_task_start(request, task);
        }
        return;
    } else {
        error = api->ready_error;
    }
    reply_ready(request, &error);
}
