/* Files on their way. A private server and a far one are used through the same calls. */
#include "client/transfer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "client/api_upload.h"
#include "client/interrupt.h"
#include "common/words.h"

enum { LABEL_SIZE = 64, NAME_MAX_BYTES = 200 };

static const struct kind_row {
    const char *name, *path, *prefix;
} KINDS[] = {
    [TRANSFER_MODEL] = {"model", PATH_MODELS, "mdl"},
    [TRANSFER_SAMPLES] = {"samples", PATH_SAMPLES, "smp"},
};

struct ticker {
    struct progress_bar *bar;
    char label[LABEL_SIZE];
    int interrupts;
};

static bool on_tick(void *user, uint64_t done, uint64_t total, bool waiting) {
    const struct ticker *ticker = user;
    struct progress_state state = {.label = ticker->label, .fraction = -1, .eta_s = -1, .best_reward = NAN};
    if (total > 0) {
        state.fraction = (double)done / (double)total;
        /* All is sent, but the server reads it through before it answers. */
        state.message = done == total ? "checking" : NULL;
    }
    state.message = waiting ? "waiting for the server" : state.message;
    progress_bar_show(ticker->bar, &state);
    return interrupt_count() == ticker->interrupts;
}

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text);
    size_t end_length = strlen(end);
    return length > end_length && strcmp(text + length - end_length, end) == 0;
}

enum transfer_kind transfer_kind_of(const char *file) {
    if (ends_with(file, ".onnx")) {
        return TRANSFER_MODEL;
    }
    return ends_with(file, ".npz") || ends_with(file, ".zip") ? TRANSFER_SAMPLES : TRANSFER_UNKNOWN;
}

enum transfer_kind transfer_kind_from_name(const char *name) {
    for (int kind = 0; kind < TRANSFER_UNKNOWN; kind++) {
        if (strcmp(name, KINDS[kind].name) == 0) {
            return (enum transfer_kind)kind;
        }
    }
    return TRANSFER_UNKNOWN;
}

static const char *base_name(const char *file) {
    const char *slash = strrchr(file, '/');
    return slash != NULL ? slash + 1 : file;
}

static struct ticker make_ticker(struct progress_bar *bar, const char *verb, const char *name) {
    struct ticker ticker = {.bar = bar, .interrupts = interrupt_count()};
    (void)snprintf(ticker.label, sizeof ticker.label, "%s %.40s", verb, name);
    return ticker;
}

enum status transfer_upload(struct api_client *client, struct progress_bar *bar, enum transfer_kind kind,
                            const char *file, const char *name, json_t **object, struct error *error) {
    const char *shown = name != NULL ? name : base_name(file);
    if (strlen(shown) > NAME_MAX_BYTES) {
        return error_set(error, STATUS_LIMIT, file,
                         "failed to upload %.100s: got a name of %zu bytes, expected at most %d", file, strlen(shown),
                         NAME_MAX_BYTES);
    }
    struct ticker ticker = make_ticker(bar, "upload", base_name(file));
    struct api_hooks hooks = {.user = &ticker, .tick = on_tick};
    api_client_set_hooks(client, &hooks);
    enum status status = api_upload_file(client, KINDS[kind].name, shown, file, object, error);
    api_client_set_hooks(client, NULL);
    return status;
}

enum status transfer_object_id(struct api_client *client, struct progress_bar *bar, enum transfer_kind kind,
                               const char *word, char id[ID_SIZE], struct error *error) {
    if (id_is_valid(word, KINDS[kind].prefix)) {
        (void)snprintf(id, ID_SIZE, "%s", word);
        return STATUS_OK;
    }
    json_t *object = NULL;
    enum status status = transfer_upload(client, bar, kind, word, NULL, &object, error);
    if (status == STATUS_OK) {
        const char *given = json_string_value(json_object_get(object, "id"));
        if (given == NULL || !id_is_valid(given, KINDS[kind].prefix)) {
            status = error_set(error, STATUS_INVALID, word, "failed to upload %.100s: got no id, expected one", word);
        } else {
            (void)snprintf(id, ID_SIZE, "%s", given);
        }
    }
    json_decref(object);
    return status;
}

/* Digest and size of an artifact, as the job's list has them. */
static enum status find_artifact(struct api_client *client, const char *job_id, const char *artifact,
                                 struct api_download_info *info, struct error *error) {
    char path[API_PATH_SIZE];
    json_t *list = NULL;
    json_t *item = NULL;
    size_t i = 0;
    enum status status = api_path(path, PATH_JOBS, job_id, "/artifacts", error);
    if (status == STATUS_OK) {
        status = api_client_get(client, path, &list, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    status = STATUS_NOT_FOUND;
    json_array_foreach(json_object_get(list, "data"), i, item) {
        const char *name = json_string_value(json_object_get(item, "name"));
        const char *sha256 = json_string_value(json_object_get(item, "sha256"));
        json_int_t size = json_integer_value(json_object_get(item, "size"));
        if (name != NULL && sha256 != NULL && strcmp(name, artifact) == 0 && size >= 0) {
            (void)snprintf(info->sha256, sizeof info->sha256, "%s", sha256);
            info->size = (uint64_t)size;
            status = STATUS_OK;
        }
    }
    json_decref(list);
    return status == STATUS_OK
               ? status
               : error_set(error, status, NULL, "failed to download %.64s of job %.40s: it has none", artifact, job_id);
}

enum status transfer_artifact(struct api_client *client, struct progress_bar *bar, const char *job_id,
                              const char *artifact, const char *file, struct api_download_info *info,
                              struct error *error) {
    char path[API_PATH_SIZE];
    char suffix[API_PATH_SIZE];
    char escaped[API_PATH_SIZE / 4];
    struct api_download_info found = {.size = 0};
    if (!api_escape(escaped, sizeof escaped, artifact)) {
        return error_set(error, STATUS_LIMIT, NULL, "failed to download: got an artifact name of %zu bytes",
                         strlen(artifact));
    }
    (void)snprintf(suffix, sizeof suffix, "/artifacts/%s", escaped);
    enum status status = api_path(path, PATH_JOBS, job_id, suffix, error);
    if (status == STATUS_OK) {
        status = find_artifact(client, job_id, artifact, &found, error);
    }
    if (status == STATUS_OK) {
        struct ticker ticker = make_ticker(bar, "download", artifact);
        struct api_hooks hooks = {.user = &ticker, .tick = on_tick};
        api_client_set_hooks(client, &hooks);
        status = api_download_file(client, path, &found, file, error);
        api_client_set_hooks(client, NULL);
    }
    if (status == STATUS_OK && info != NULL) {
        *info = found;
    }
    return status;
}
