/* What a job leaves: its report and its files. */
#include <string.h>

#include "common/mem.h"
#include "server/api/api_internal.h"

static const struct {
    const char *suffix, *type;
} content_types[] = {
    {".json", "application/json"},
    {".jsonl", "application/x-ndjson"},
};

static const char *content_type_of(const char *name) {
    const char *dot = strrchr(name, '.');

    for (size_t i = 0; dot != NULL && i < sizeof(content_types) / sizeof(content_types[0]); i++) {
        if (strcmp(dot, content_types[i].suffix) == 0) {
            return content_types[i].type;
        }
    }
    return "application/octet-stream";
}

void api_result_get(struct http_request *request, void *context) {
    struct api *api = context;
    const char *id = api_path_id(request, "job");
    struct error error = {0};
    json_t *report = NULL;

    if (id == NULL) {
        return;
    }
    if (store_job_result(api->config.store, id, &report, &error) != STATUS_OK) {
        http_reply_error(request, &error);
    } else {
        http_reply_json(request, 200, report);
    }
}

void api_artifacts_list(struct http_request *request, void *context) {
    struct api *api = context;
    const char *id = api_path_id(request, "job");
    struct store_artifact *artifacts = NULL;
    size_t count = 0;
    struct error error = {0};
    json_t *data;

    if (id == NULL) {
        return;
    }
    if (store_artifact_list(api->config.store, id, &artifacts, &count, &error) != STATUS_OK) {
        http_reply_error(request, &error);
        return;
    }
    data = json_array();
    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(data,
                                    json_pack("{s:s, s:s, s:I}", "name", artifacts[i].name, "sha256",
                                              artifacts[i].blob.sha256, "size", (json_int_t)artifacts[i].blob.size));
    }
    mem_free(artifacts);
    data = json_array_size(data) == count ? data : (json_decref(data), NULL);
    http_reply_json(request, 200, api_list_json(data, false, NULL));
}

void api_artifacts_get(struct http_request *request, void *context) {
    struct api *api = context;
    const char *id = api_path_id(request, "job"), *name = http_request_param(request, "name");
    struct store_artifact artifact;
    struct error error = {0};
    char path[STORE_PATH_SIZE];

    if (id == NULL) {
        return;
    }
    if (store_artifact_find(api->config.store, id, name, &artifact, &error) != STATUS_OK ||
        store_blob_path(api->config.store, artifact.blob.sha256, path, &error) != STATUS_OK) {
        http_reply_error(request, &error);
        return;
    }
    http_reply_file(request, path, content_type_of(artifact.name), artifact.blob.sha256, artifact.name);
}
