/* /v1/models/{id}/graph: the graph of neurons. A sandboxed child computes it from the file; the answer is kept. */
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/parse.h"
#include "server/api/api_internal.h"
#include "server/store/store_graphs.h"

/* Whoever deletes a model takes the file from under those who read it: that is no fault of the server. */
static void explain_failure(struct api_task *task) {
    struct store_object model;
    struct error gone = {0};

    switch (store_object_find(task->api->config.store, STORE_MODEL, task->id, &model, &gone)) {
    case STATUS_OK:
        store_object_deinit(&model);
        break;
    case STATUS_NOT_FOUND:
        task->error = gone;
        break;
    default:
        break; /* what failed first says more */
    }
}

/* Helper thread. */
static void graph_work(struct api_task *task) {
    const struct api_config *config = &task->api->config;
    struct store_object model;
    struct error ignored = {0};
    char path[STORE_PATH_SIZE];
    enum status status;

    if (store_object_find(config->store, STORE_MODEL, task->id, &model, &task->error) != STATUS_OK) {
        return;
    }
    status = store_graph_find(config->store, model.blob.sha256, task->layer, &task->reply, &task->error);
    if (status == STATUS_NOT_FOUND) {
        status = store_blob_path(config->store, model.blob.sha256, path, &task->error);
        if (status == STATUS_OK) {
            status = jobs_describe_graph(config->jobs, path, task->layer, &task->reply, &task->error);
        }
        if (status == STATUS_OK &&
            store_graph_insert(config->store, model.blob.sha256, task->layer, task->reply, &ignored) != STATUS_OK) {
            log_event(LOG_WARN, "graph_not_kept", "the graph of model %s was not kept: %s", model.id, ignored.message);
        }
    }
    store_object_deinit(&model);
    task->code = status == STATUS_OK ? 200 : 0;
    if (status != STATUS_OK) {
        explain_failure(task);
    }
}

void api_models_graph(struct http_request *request, void *context) {
    static const char *const known[] = {"layer", NULL};
    const char *id = api_path_id(request, "mdl");
    const char *text = http_request_query(request, "layer");
    struct error error = {0};
    struct api_task *task;
    int64_t layer = -1;

    if (id == NULL) {
        return;
    }
    if (http_request_check_query(request, known, &error) != STATUS_OK ||
        (text != NULL && !parse_i64(text, 0, INT32_MAX, &layer))) {
        error_set(&error, STATUS_INVALID, NULL, "failed to read ?layer=: got '%.40s', expected the number of a layer",
                  text != NULL ? text : "");
        api_reply_malformed(request, &error);
        return;
    }
    task = api_task_new(request, context, graph_work);
    if (task != NULL) {
        (void)snprintf(task->id, sizeof(task->id), "%s", id);
        task->layer = (long)layer;
        api_task_start(request, task);
    }
}
