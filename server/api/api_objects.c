/* Models and samples: uploads that are checked before they become rows, lists, bytes, deletion. */
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/parse.h"
#include "server/api/api_internal.h"
#include "server/api/content_digest.h"

static const char *prefix_of(enum store_kind kind) {
    return kind == STORE_MODEL ? "mdl" : "smp";
}

/* The sink: bytes go to the store's temporary file as they come. */
static enum status sink_write(void *user, const void *data, size_t length, struct error *error) {
    return store_upload_write(user, data, length, error);
}

static const char *sink_full(void *user) {
    return store_upload_full(user);
}

static void sink_close(void *user) {
    store_upload_abort(user);
}

static bool is_utf8(const char *text) {
    json_t *string = json_string(text); /* NULL for anything else */
    bool valid = string != NULL;

    json_decref(string);
    return valid;
}

/* Everything that can be refused before the bytes come is refused here. */
static enum status check_upload(struct http_request *request, struct error *error) {
    static const char *const known[] = {"name", NULL};
    const char *name = http_request_query(request, "name");
    const char *digest = http_request_header(request, "Content-Digest");
    char sha256[DIGEST_HEX_SIZE];

    if (http_request_check_query(request, known, error) != STATUS_OK) {
        return STATUS_INVALID;
    }
    if (name != NULL && strlen(name) >= STORE_NAME_SIZE) {
        return error_set(error, STATUS_INVALID, NULL, "failed to read ?name=: got %zu bytes, expected at most %d",
                         strlen(name), STORE_NAME_SIZE - 1);
    }
    if (name != NULL && !is_utf8(name)) {
        return error_set(error, STATUS_INVALID, NULL, "failed to read ?name=: expected UTF-8");
    }
    return digest != NULL ? content_digest_read(digest, sha256, error) : STATUS_OK;
}

void api_objects_begin(struct http_request *request, struct api *api, enum store_kind kind) {
    const char *length = http_request_header(request, "Content-Length");
    struct store_upload *upload = NULL;
    struct error error = {0};
    uint64_t announced = 0;

    (void)kind;
    if (check_upload(request, &error) != STATUS_OK) {
        api_reply_malformed(request, &error);
        return;
    }
    if (length != NULL && !parse_u64(length, UINT64_MAX / 2, &announced)) {
        announced = 0;
    }
    if (api->draining) {
        error_set(&error, STATUS_UNAVAILABLE, NULL, "failed to take the upload: the server is shutting down");
    } else if (api_room_check(api, announced, &error) == STATUS_OK) {
        (void)store_upload_begin(api->config.store, api->config.max_upload, &upload, &error);
    }
    if (upload == NULL) {
        http_reply_error(request, &error);
        return;
    }
    http_request_set_sink(request, &(struct http_sink){upload, sink_write, sink_full, sink_close});
}

/* Fills the answer from a row. */
static void answer_object(struct api_task *task, struct store_object *object, unsigned code) {
    task->code = code;
    task->reply = api_object_json(task->kind, object);
    (void)snprintf(task->location, sizeof(task->location), "%s/%s",
                   task->kind == STORE_MODEL ? PATH_MODELS : PATH_SAMPLES, object->id);
    store_object_deinit(object);
}

/* Helper thread: bytes to disk, known already?, check, row. */
void api_object_create_work(struct api_task *task) {
    struct store *store = task->api->config.store;
    struct store_object object;
    struct store_blob blob;
    struct error unused = {0};
    json_t *info = NULL;
    bool existed = false;

    memset(&object, 0, sizeof(object));
    if (store_upload_finish(task->upload, &blob, &task->error) != STATUS_OK) {
        return;
    }
    if (task->expected_sha256[0] != '\0' && strcmp(task->expected_sha256, blob.sha256) != 0) {
        error_set(&task->error, STATUS_INVALID, NULL,
                  "failed to take the upload: got bytes with SHA-256 %s, expected %s of Content-Digest", blob.sha256,
                  task->expected_sha256);
        return;
    }
    if (store_object_find_by_sha256(store, task->kind, blob.sha256, &object, &unused) == STATUS_OK) {
        answer_object(task, &object, 200);
        return;
    }
    if (api_room_check(task->api, task->counted ? 0 : blob.size, &task->error) != STATUS_OK) {
        return;
    }
    if (jobs_check_file(task->api->config.jobs, task->kind, store_upload_path(task->upload), &info, &task->error) !=
        STATUS_OK) {
        return;
    }
    if (store_object_insert(store, task->kind, task->upload, task->name, info, &object, &existed, &task->error) ==
        STATUS_OK) {
        answer_object(task, &object, existed ? 200 : 201);
    }
    json_decref(info);
}

void api_objects_create(struct http_request *request, struct api *api, enum store_kind kind) {
    const char *name = http_request_query(request, "name");
    const char *digest = http_request_header(request, "Content-Digest");
    struct store_upload *upload = http_request_take_sink(request);
    struct error error = {0};
    struct api_task *task;

    if (store_upload_size(upload) == 0) {
        store_upload_abort(upload);
        error_set(&error, STATUS_INVALID, NULL, "failed to take the upload: got an empty body, expected %s",
                  kind == STORE_MODEL ? "an ONNX file" : "an npz file");
        http_reply_error(request, &error);
        return;
    }
    task = api_task_new(request, api, api_object_create_work);
    if (task == NULL) {
        store_upload_abort(upload);
        return;
    }
    task->kind = kind;
    task->upload = upload;
    if (digest != NULL) {
        (void)content_digest_read(digest, task->expected_sha256, &error); /* was checked before the body */
    }
    (void)snprintf(task->name, sizeof(task->name), "%s", name != NULL ? name : "");
    api_task_start(request, task);
}

void api_objects_list(struct http_request *request, struct api *api, enum store_kind kind) {
    static const char *const known[] = {"limit", "after", NULL};
    struct store_object *objects = NULL;
    struct api_page page;
    struct error error = {0};
    size_t count = 0;
    bool has_more = false;
    json_t *data;

    if (http_request_check_query(request, known, &error) != STATUS_OK ||
        api_read_page(request, prefix_of(kind), &page, &error) != STATUS_OK) {
        api_reply_malformed(request, &error);
        return;
    }
    if (store_object_list(api->config.store, kind, page.after, page.limit, &objects, &count, &has_more, &error) !=
        STATUS_OK) {
        http_reply_error(request, &error);
        return;
    }
    data = json_array();
    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(data, api_object_json(kind, &objects[i]));
    }
    store_objects_free(objects, count);
    data = json_array_size(data) == count ? data : (json_decref(data), NULL);
    http_reply_json(request, 200,
                    api_list_json(data, has_more, json_object_get(json_array_get(data, count - 1), "id")));
}

/* The row of the path's id, or false after replying. */
static bool find_object(struct http_request *request, struct api *api, enum store_kind kind,
                        struct store_object *object) {
    const char *id = api_path_id(request, prefix_of(kind));
    struct error error = {0};

    if (id == NULL) {
        return false;
    }
    if (store_object_find(api->config.store, kind, id, object, &error) != STATUS_OK) {
        http_reply_error(request, &error);
        return false;
    }
    return true;
}

void api_objects_get(struct http_request *request, struct api *api, enum store_kind kind) {
    struct store_object object;

    if (find_object(request, api, kind, &object)) {
        http_reply_json(request, 200, api_object_json(kind, &object));
        store_object_deinit(&object);
    }
}

void api_objects_content(struct http_request *request, struct api *api, enum store_kind kind) {
    struct store_object object;
    struct error error = {0};
    char path[STORE_PATH_SIZE], name[ID_SIZE + 8];

    if (!find_object(request, api, kind, &object)) {
        return;
    }
    if (store_blob_path(api->config.store, object.blob.sha256, path, &error) != STATUS_OK) {
        http_reply_error(request, &error);
    } else {
        (void)snprintf(name, sizeof(name), "%s.%s", object.id, kind == STORE_MODEL ? "onnx" : "npz");
        http_reply_file(request, path, "application/octet-stream", object.blob.sha256, name);
    }
    store_object_deinit(&object);
}

/* If-Match is compared with the document that GET gives. */
static bool may_delete(struct http_request *request, struct api *api, enum store_kind kind) {
    struct store_object object;
    bool may;

    if (http_request_header(request, "If-Match") == NULL) {
        return true;
    }
    if (!find_object(request, api, kind, &object)) {
        return false;
    }
    may = http_request_if_match(request, api_object_json(kind, &object));
    store_object_deinit(&object);
    return may;
}

static void delete_work(struct api_task *task) {
    if (store_object_delete(task->api->config.store, task->kind, task->id, &task->error) == STATUS_OK) {
        struct error ignored = {0};
        task->code = 204;
        /* The row is gone, which is what was asked for; bytes that stay behind go at the next collection. */
        (void)store_collect_blobs(task->api->config.store, NULL, &ignored);
    }
}

void api_objects_delete(struct http_request *request, struct api *api, enum store_kind kind) {
    const char *id = api_path_id(request, prefix_of(kind));
    struct api_task *task =
        id == NULL || !may_delete(request, api, kind) ? NULL : api_task_new(request, api, delete_work);

    if (task != NULL) {
        task->kind = kind;
        (void)snprintf(task->id, sizeof(task->id), "%s", id);
        api_task_start(request, task);
    }
}
