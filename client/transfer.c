/* Files on their way. A private server and a far one are used through the same calls. */
#include "client/transfer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

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

static bool on_tick(void *user, uint64_t done, uint64_t total) {
    const struct ticker *ticker = user;
    struct progress_state state = {.label = ticker->label, .fraction = -1, .eta_s = -1, .best_reward = NAN};
    if (total > 0) {
        state.fraction = (double)done / (double)total;
        /* All is sent, but the server reads it through before it answers. */
        state.message = done == total ? "checking" : NULL;
    }
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
    char path[API_PATH_SIZE];
    char escaped[API_PATH_SIZE];
    const char *shown = name != NULL ? name : base_name(file);
    int length = -1;
    if (strlen(shown) <= NAME_MAX_BYTES && api_escape(escaped, sizeof escaped, shown)) {
        length = snprintf(path, sizeof path, "%s?name=%s", KINDS[kind].path, escaped);
    }
    if (length < 0 || (size_t)length >= sizeof path) {
        return error_set(error, STATUS_LIMIT, file,
                         "failed to upload %.100s: got a name of %zu bytes, expected at most %d", file, strlen(shown),
                         NAME_MAX_BYTES);
    }
    struct ticker ticker = make_ticker(bar, "upload", base_name(file));
    struct api_hooks hooks = {.user = &ticker, .tick = on_tick};
    api_client_set_hooks(client, &hooks);
    enum status status = api_client_upload(client, path, file, object, error);
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

enum status transfer_artifact(struct api_client *client, struct progress_bar *bar, const char *job_id,
                              const char *artifact, const char *file, struct error *error) {
    char path[API_PATH_SIZE];
    char suffix[API_PATH_SIZE];
    char escaped[API_PATH_SIZE / 4];
    if (!api_escape(escaped, sizeof escaped, artifact)) {
        return error_set(error, STATUS_LIMIT, NULL, "failed to download: got an artifact name of %zu bytes",
                         strlen(artifact));
    }
    (void)snprintf(suffix, sizeof suffix, "/artifacts/%s", escaped);
    enum status status = api_path(path, PATH_JOBS, job_id, suffix, error);
    if (status == STATUS_OK) {
        struct ticker ticker = make_ticker(bar, "download", artifact);
        struct api_hooks hooks = {.user = &ticker, .tick = on_tick};
        api_client_set_hooks(client, &hooks);
        status = api_client_download(client, path, file, error);
        api_client_set_hooks(client, NULL);
    }
    return status;
}
