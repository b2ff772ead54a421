/* /v1/uploads: resumable uploads as tus 1.0 has them (creation, expiration, termination), and /complete, which makes a model or
 * samples of one. The pieces themselves are in api_upload_piece.c. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/clock.h"
#include "common/json_read.h"
#include "common/mem.h"
#include "common/parse.h"
#include "server/api/api_internal.h"
#include "server/api/upload_checksum.h"

enum { KIND_WORD_SIZE = 16 };

/* --- what is being worked on; loop thread --- */

bool api_upload_lock(struct api *api, const char *id) {
    struct api_busy_upload *busy;

    for (busy = api->busy_uploads; busy != NULL; busy = busy->next) {
        if (strcmp(busy->id, id) == 0) {
            return false;
        }
    }
    busy = mem_calloc(1, sizeof(*busy));
    if (busy == NULL) {
        return false;
    }
    (void)snprintf(busy->id, sizeof(busy->id), "%s", id);
    busy->next = api->busy_uploads;
    api->busy_uploads = busy;
    return true;
}

void api_upload_unlock(struct api *api, const char *id) {
    for (struct api_busy_upload **at = &api->busy_uploads; *at != NULL; at = &(*at)->next) {
        if (strcmp((*at)->id, id) == 0) {
            struct api_busy_upload *found = *at;
            *at = found->next;
            mem_free(found);
            return;
        }
    }
}

static void unlock_after(struct api_task *task) {
    api_upload_unlock(task->api, task->id);
}

/* Locks it for a task, or replies 409. */
static bool lock_or_reply(struct http_request *request, struct api *api, const char *id) {
    struct error error = {0};

    if (api_upload_lock(api, id)) {
        return true;
    }
    error_set(&error, STATUS_CONFLICT, NULL, "failed to take upload %s: another request is at work on it", id);
    http_reply_error(request, &error);
    return false;
}

/* --- header fields --- */

void api_upload_expires(int64_t wall_ms, char out[API_FIELD_SIZE]) {
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;

    out[0] = '\0';
    if (gmtime_r(&seconds, &parts) != NULL) {
        (void)strftime(out, API_FIELD_SIZE, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    }
}

bool api_upload_speaks(struct http_request *request) {
    const char *version = http_request_header(request, "Tus-Resumable");
    struct error error = {0};

    http_reply_header(request, "Tus-Resumable", API_TUS_VERSION);
    if (version != NULL && strcmp(version, API_TUS_VERSION) == 0) {
        return true;
    }
    error_set(&error, STATUS_UNSUPPORTED, NULL,
              "failed to speak the protocol: expected Tus-Resumable: " API_TUS_VERSION);
    http_reply_header(request, "Tus-Version", API_TUS_VERSION);
    http_reply_problem(request, 412, &error);
    return false;
}

static void put_number(struct http_request *request, const char *name, uint64_t value) {
    char text[32];

    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    http_reply_header(request, name, text);
}

static void put_fields(struct http_request *request, const struct store_resumable *upload) {
    char expires[API_FIELD_SIZE];

    put_number(request, "Upload-Offset", upload->taken);
    put_number(request, "Upload-Length", upload->length);
    if (upload->metadata[0] != '\0') {
        http_reply_header(request, "Upload-Metadata", upload->metadata);
    }
    api_upload_expires(upload->expires_ms, expires);
    http_reply_header(request, "Upload-Expires", expires);
    http_reply_header(request, "Cache-Control", "no-store");
}

/* What it is to become, from a word; STORE_KIND_COUNT for none. */
static enum store_kind kind_of(const char *word) {
    enum store_kind kind = STORE_MODEL;

    while (kind < STORE_KIND_COUNT && strcmp(store_kind_name(kind), word) != 0) {
        kind = (enum store_kind)(kind + 1);
    }
    return kind;
}

static enum status read_metadata(const char *metadata, char kind[KIND_WORD_SIZE], char name[STORE_NAME_SIZE],
                                 struct error *error) {
    enum status status = upload_metadata_get(metadata, "kind", kind, KIND_WORD_SIZE, error);

    if (status == STATUS_OK && kind[0] != '\0' && kind_of(kind) == STORE_KIND_COUNT) {
        status = error_set(error, STATUS_INVALID, NULL,
                           "failed to read Upload-Metadata: got kind '%s', expected model or samples", kind);
    }
    if (status == STATUS_OK) {
        status = upload_metadata_get(metadata, "name", name, STORE_NAME_SIZE, error);
    }
    if (status == STATUS_OK && name[0] == '\0') {
        status = upload_metadata_get(metadata, "filename", name, STORE_NAME_SIZE, error);
    }
    return status;
}

/* --- creation --- */

static void create_work(struct api_task *task) {
    const struct api_config *config = &task->api->config;
    struct store_resumable upload;
    char expires[API_FIELD_SIZE];

    if (api_room_check(task->api, task->length, &task->error) != STATUS_OK ||
        store_resumable_create(config->store, task->length, task->metadata, API_UPLOAD_LIFETIME_MS, &upload,
                               &task->error) != STATUS_OK) {
        if (strcmp(task->error.where, "queue") == 0) {
            task->code = 429;
        }
        return;
    }
    task->code = 201;
    task->reply = json_pack("{s:s, s:s, s:I, s:I, s:o, s:o}", "id", upload.id, "object", "upload", "length",
                            (json_int_t)upload.length, "offset", (json_int_t)0, "created_at",
                            api_time_json(upload.created_ms), "expires_at", api_time_json(upload.expires_ms));
    (void)snprintf(task->location, sizeof(task->location), PATH_UPLOADS "/%s", upload.id);
    api_upload_expires(upload.expires_ms, expires);
    api_task_field(task, "Upload-Expires", expires);
}

void api_uploads_create(struct http_request *request, void *context) {
    struct api *api = context;
    const char *length = http_request_header(request, "Upload-Length");
    const char *metadata = http_request_header(request, "Upload-Metadata");
    char kind[KIND_WORD_SIZE], name[STORE_NAME_SIZE];
    struct error error = {0};
    struct api_task *task;
    uint64_t bytes = 0;

    if (!api_upload_speaks(request)) {
        return;
    }
    metadata = metadata != NULL ? metadata : "";
    if (length == NULL || !parse_u64(length, INT64_MAX, &bytes)) {
        error_set(&error, STATUS_INVALID, NULL, "failed to read Upload-Length: expected a number of bytes");
    } else if (strlen(metadata) >= STORE_METADATA_SIZE) {
        error_set(&error, STATUS_INVALID, NULL, "failed to read Upload-Metadata: expected at most %d bytes",
                  STORE_METADATA_SIZE - 1);
    } else {
        (void)read_metadata(metadata, kind, name, &error);
    }
    if (error.status != STATUS_OK) {
        api_reply_malformed(request, &error);
        return;
    }
    if (bytes > api->config.max_upload) {
        error_set(&error, STATUS_LIMIT, NULL, "failed to begin an upload: got %llu bytes, expected at most %llu",
                  (unsigned long long)bytes, (unsigned long long)api->config.max_upload);
        http_reply_error(request, &error);
        return;
    }
    task = api_task_new(request, api, create_work);
    if (task != NULL) {
        task->length = bytes;
        (void)snprintf(task->metadata, sizeof(task->metadata), "%s", metadata);
        api_task_start(request, task);
    }
}

void api_uploads_options(struct http_request *request, void *context) {
    const struct api *api = context;

    http_reply_header(request, "Tus-Resumable", API_TUS_VERSION);
    http_reply_header(request, "Tus-Version", API_TUS_VERSION);
    http_reply_header(request, "Tus-Extension", "creation,expiration,checksum,termination");
    http_reply_header(request, "Tus-Checksum-Algorithm", "sha1,sha256");
    put_number(request, "Tus-Max-Size", api->config.max_upload);
    http_reply_empty(request, 204);
}

/* --- one upload --- */

bool api_upload_find(struct http_request *request, struct api *api, struct store_resumable *upload) {
    const char *id = api_path_id(request, "upl");
    struct error error = {0};

    if (id == NULL) {
        return false;
    }
    if (store_resumable_find(api->config.store, id, upload, &error) != STATUS_OK) {
        http_reply_error(request, &error);
        return false;
    }
    return true;
}

void api_uploads_head(struct http_request *request, void *context) {
    struct store_resumable upload;

    if (api_upload_speaks(request) && api_upload_find(request, context, &upload)) {
        put_fields(request, &upload);
        http_reply_empty(request, 200);
    }
}

static void delete_work(struct api_task *task) {
    if (store_resumable_delete(task->api->config.store, task->id, &task->error) == STATUS_OK) {
        task->code = 204;
    }
}

void api_uploads_delete(struct http_request *request, void *context) {
    struct api *api = context;
    struct store_resumable upload;
    struct api_task *task;

    if (!api_upload_speaks(request) || !api_upload_find(request, api, &upload) ||
        !lock_or_reply(request, api, upload.id)) {
        return;
    }
    task = api_task_new(request, api, delete_work);
    if (task == NULL) {
        api_upload_unlock(api, upload.id);
        return;
    }
    (void)snprintf(task->id, sizeof(task->id), "%s", upload.id);
    task->end = unlock_after;
    api_task_start(request, task);
}

/* --- completion --- */

/* The file goes only when the row of the object is there. */
static void complete_work(struct api_task *task) {
    struct error error = {0};

    api_object_create_work(task);
    if (task->error.status == STATUS_OK) {
        (void)store_resumable_done(task->api->config.store, task->id,
                                   json_string_value(json_object_get(task->reply, "id")), &error);
    }
}

static enum status read_completion(struct http_request *request, const struct store_resumable *upload,
                                   enum store_kind *kind, char name[STORE_NAME_SIZE], struct error *error) {
    char word[KIND_WORD_SIZE];
    const char *asked = word, *called = name;
    struct json_reader reader;
    json_t *body = NULL;
    size_t length;
    enum status status = read_metadata(upload->metadata, word, name, error);

    (void)http_request_body(request, &length);
    if (status == STATUS_OK && length > 0) {
        status = http_request_json(request, &body, error);
        if (status == STATUS_OK && json_reader_init(&reader, body, "", error) == STATUS_OK) {
            (void)json_get_string(&reader, "kind", JSON_OPTIONAL, KIND_WORD_SIZE - 1, &asked);
            (void)json_get_string(&reader, "name", JSON_OPTIONAL, STORE_NAME_SIZE - 1, &called);
            status = json_reader_finish(&reader);
        }
    }
    *kind = error->status == STATUS_OK ? kind_of(asked) : STORE_KIND_COUNT;
    if (error->status == STATUS_OK && *kind == STORE_KIND_COUNT) {
        status = error_set(error, STATUS_INVALID, "/kind",
                           "failed to complete the upload: got kind '%s', expected model or samples", asked);
    }
    if (error->status == STATUS_OK && called != name) {
        (void)snprintf(name, STORE_NAME_SIZE, "%s", called);
    }
    json_decref(body);
    return status != STATUS_OK ? status : error->status;
}

/* Asked again, after the answer got lost. */
static void reply_made(struct http_request *request, struct api *api, const struct store_resumable *upload) {
    enum store_kind kind = id_is_valid(upload->object_id, "mdl") ? STORE_MODEL : STORE_SAMPLES;
    struct store_object object;
    struct error error = {0};
    char location[API_LOCATION_SIZE];

    if (store_object_find(api->config.store, kind, upload->object_id, &object, &error) != STATUS_OK) {
        http_reply_error(request, &error);
        return;
    }
    (void)snprintf(location, sizeof(location), "%s/%s", kind == STORE_MODEL ? PATH_MODELS : PATH_SAMPLES, object.id);
    http_reply_header(request, "Location", location);
    http_reply_json(request, 200, api_object_json(kind, &object));
    store_object_deinit(&object);
}

void api_uploads_complete(struct http_request *request, void *context) {
    struct api *api = context;
    struct store_resumable upload;
    struct store_upload *file = NULL;
    enum store_kind kind = STORE_KIND_COUNT;
    char name[STORE_NAME_SIZE];
    struct error error = {0};
    struct api_task *task;

    if (!api_upload_find(request, api, &upload)) {
        return;
    }
    if (upload.object_id[0] != '\0') {
        reply_made(request, api, &upload);
        return;
    }
    if (read_completion(request, &upload, &kind, name, &error) != STATUS_OK ||
        store_resumable_open(api->config.store, &upload, &file, &error) != STATUS_OK) {
        http_reply_error(request, &error);
        return;
    }
    if (!lock_or_reply(request, api, upload.id)) {
        store_upload_abort(file);
        return;
    }
    task = api_task_new(request, api, complete_work);
    if (task == NULL) {
        api_upload_unlock(api, upload.id);
        store_upload_abort(file);
        return;
    }
    task->kind = kind;
    task->upload = file;
    task->counted = true;
    task->end = unlock_after;
    (void)snprintf(task->id, sizeof(task->id), "%s", upload.id);
    (void)snprintf(task->name, sizeof(task->name), "%s", name);
    api_task_start(request, task);
}
