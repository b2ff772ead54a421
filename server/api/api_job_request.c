/* The body of POST /v1/jobs. Form is checked here; what the method's parameters mean, and whether model and samples fit,
 * is checked by jobs_submit(). */
#include <string.h>

#include "common/json_read.h"
#include "server/api/api_internal.h"

enum {
    LABEL_KEY_MAX = 63,
    LABEL_VALUE_MAX = 255,
};

static enum status check_id(const char *id, const char *prefix, const char *pointer, struct error *error) {
    if (!id_is_valid(id, prefix)) {
        return error_set(error, STATUS_INVALID, pointer, "failed to read %s: got '%.40s', expected an id %s_...",
                         pointer + 1, id, prefix);
    }
    return STATUS_OK;
}

static enum status check_labels(const json_t *labels, struct error *error) {
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    const char *key;
    json_t *value;

    if (json_object_size(labels) > STORE_LABELS_MAX) {
        return error_set(error, STATUS_INVALID, "/labels", "failed to read labels: got %zu, expected at most %d",
                         json_object_size(labels), STORE_LABELS_MAX);
    }
    /* The macro's const-ness: iteration does not change the object. */
    json_object_foreach((json_t *)(uintptr_t)labels, key, value) {
        size_t length = strlen(key);
        if (length == 0 || length > LABEL_KEY_MAX || strspn(key, allowed) != length) {
            return error_set(error, STATUS_INVALID, "/labels",
                             "failed to read label '%.80s': expected a key of 1 to %d characters A-Z a-z 0-9 . _ -",
                             key, LABEL_KEY_MAX);
        }
        if (!json_is_string(value) || json_string_length(value) > LABEL_VALUE_MAX) {
            return error_set(error, STATUS_INVALID, "/labels",
                             "failed to read label '%s': expected a string of at most %d bytes", key, LABEL_VALUE_MAX);
        }
    }
    return STATUS_OK;
}

/* A job as the interface gives it out has null where nothing was asked for; what is given out may be sent again. */
static void drop_nulls(json_t *body) {
    static const char *const names[] = {"probe_id", "deadline_s"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (json_is_null(json_object_get(body, names[i]))) {
            (void)json_object_del(body, names[i]);
        }
    }
}

enum status api_job_request_read(json_t *body, struct store_job_request *request, struct error *error) {
    struct json_reader reader;
    int64_t priority = 0;
    json_t *parameters = NULL, *labels = NULL;
    enum status status;

    memset(request, 0, sizeof(*request));
    request->method = "onp";
    drop_nulls(body);
    status = json_reader_init(&reader, body, "", error);
    if (status != STATUS_OK) {
        return status;
    }
    (void)json_get_string(&reader, "model_id", JSON_REQUIRED, ID_SIZE - 1, &request->model_id);
    (void)json_get_string(&reader, "samples_id", JSON_REQUIRED, ID_SIZE - 1, &request->samples_id);
    (void)json_get_string(&reader, "probe_id", JSON_OPTIONAL, ID_SIZE - 1, &request->probe_id);
    (void)json_get_string(&reader, "method", JSON_OPTIONAL, STORE_METHOD_SIZE - 1, &request->method);
    (void)json_get_object(&reader, "parameters", JSON_OPTIONAL, &parameters);
    (void)json_get_u64(&reader, "seed", JSON_OPTIONAL, 0, INT64_MAX, &request->seed);
    (void)json_get_i64(&reader, "priority", JSON_OPTIONAL, -API_PRIORITY_MAX, API_PRIORITY_MAX, &priority);
    (void)json_get_object(&reader, "labels", JSON_OPTIONAL, &labels);
    (void)json_get_double(&reader, "deadline_s", JSON_OPTIONAL, 1.0, API_DEADLINE_MAX_S, &request->deadline_s);
    status = json_reader_finish(&reader);
    if (status == STATUS_OK) {
        status = check_id(request->model_id, "mdl", "/model_id", error);
    }
    if (status == STATUS_OK) {
        status = check_id(request->samples_id, "smp", "/samples_id", error);
    }
    if (status == STATUS_OK && request->probe_id != NULL) {
        status = check_id(request->probe_id, "smp", "/probe_id", error);
    }
    if (status == STATUS_OK && labels != NULL) {
        status = check_labels(labels, error);
    }
    request->parameters = parameters;
    request->labels = labels;
    request->priority = (int)priority;
    return status;
}
