/* PATCH /v1/uploads/{id}: one piece. Its bytes go to the file as they come; when the piece ends, or breaks off, a helper thread brings
 * them to disk and counts them. A long piece is counted now and then while it comes, so that a crash does not cost all of it. With
 * Upload-Checksum the piece counts as a whole or not at all. */
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "common/parse.h"
#include "server/api/api_internal.h"
#include "server/api/upload_checksum.h"

static const uint64_t COUNT_EVERY = 32U << 20;

struct patch {
    struct http_post post; /* back to the loop, after a piece that broke off */
    struct api *api;
    struct http_server *server;
    char id[ID_SIZE];
    struct store_piece *piece;
    struct upload_checksum *checksum; /* NULL: none was sent */
    uint64_t noted;                   /* up to where it was counted, or is being */
};

static void patch_free(void *user) {
    struct patch *patch = user;

    if (patch != NULL) {
        store_piece_free(patch->piece);
        upload_checksum_free(patch->checksum);
        mem_free(patch);
    }
}

/* --- counting while it comes --- */

struct note {
    struct store_piece *piece;
    uint64_t offset;
};

static void write_note(void *user) {
    struct note *note = user;
    struct error ignored = {0};

    /* What is not counted now is counted at the end. */
    (void)store_piece_commit(note->piece, note->offset, API_UPLOAD_LIFETIME_MS, &ignored);
    store_piece_free(note->piece);
    mem_free(note);
}

static void note_progress(struct patch *patch) {
    struct note *note = mem_calloc(1, sizeof(*note));
    struct error ignored = {0};

    if (note == NULL || patch->api->draining) {
        mem_free(note);
        return;
    }
    patch->noted = store_piece_offset(patch->piece);
    *note = (struct note){patch->piece, patch->noted};
    store_piece_hold(patch->piece);
    if (jobs_run_later(patch->api->config.jobs, write_note, note, &ignored) != STATUS_OK) {
        store_piece_free(patch->piece);
        mem_free(note);
    }
}

static enum status sink_write(void *user, const void *data, size_t length, struct error *error) {
    struct patch *patch = user;
    enum status status = store_piece_write(patch->piece, data, length, error);

    if (status != STATUS_OK) {
        return status;
    }
    if (patch->checksum != NULL) {
        upload_checksum_update(patch->checksum, data, length);
    } else if (store_piece_offset(patch->piece) - patch->noted >= COUNT_EVERY) {
        note_progress(patch);
    }
    return STATUS_OK;
}

/* --- a piece that broke off --- */

/* Loop thread. */
static void broken_done(struct http_post *post) {
    struct patch *patch = (struct patch *)post; /* its first member */

    api_upload_unlock(patch->api, patch->id);
    patch_free(patch);
}

/* Helper thread. */
static void keep_broken(void *user) {
    struct patch *patch = user;
    struct error ignored = {0};

    if (patch->checksum != NULL) {
        store_piece_undo(patch->piece);
    } else {
        (void)store_piece_commit(patch->piece, store_piece_offset(patch->piece), API_UPLOAD_LIFETIME_MS, &ignored);
    }
    http_server_post(patch->server, &patch->post);
}

static void sink_close(void *user) {
    struct patch *patch = user;
    struct error ignored = {0};

    patch->post.run = broken_done;
    /* After the drain nothing is counted any more; the client resumes from where the row stands. */
    if (patch->api->draining || jobs_run_later(patch->api->config.jobs, keep_broken, patch, &ignored) != STATUS_OK) {
        broken_done(&patch->post);
    }
}

/* --- a whole piece --- */

static void piece_work(struct api_task *task) {
    struct patch *patch = task->user;
    uint64_t offset = store_piece_offset(patch->piece);
    char text[API_FIELD_SIZE];

    if (patch->checksum != NULL && upload_checksum_finish(patch->checksum, &task->error) != STATUS_OK) {
        store_piece_undo(patch->piece);
        task->code = 460;
        return;
    }
    if (store_piece_commit(patch->piece, offset, API_UPLOAD_LIFETIME_MS, &task->error) != STATUS_OK) {
        return;
    }
    task->code = 204;
    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)offset);
    api_task_field(task, "Upload-Offset", text);
    api_upload_expires(clock_wall_ms() + API_UPLOAD_LIFETIME_MS, text);
    api_task_field(task, "Upload-Expires", text);
}

static void piece_end(struct api_task *task) {
    api_upload_unlock(task->api, task->id);
    patch_free(task->user);
}

/* What may be refused before the bytes come. */
static bool check_piece(struct http_request *request, const struct store_resumable *upload) {
    const char *type = http_request_header(request, "Content-Type");
    const char *offset = http_request_header(request, "Upload-Offset");
    const char *announced = http_request_header(request, "Content-Length");
    struct error error = {0};
    unsigned code = 0;
    uint64_t at = 0, length = 0;

    if (type == NULL || strcmp(type, "application/offset+octet-stream") != 0) {
        code = 415;
        error_set(&error, STATUS_INVALID, NULL,
                  "failed to take the piece: expected Content-Type: application/offset+octet-stream");
    } else if (offset == NULL || !parse_u64(offset, INT64_MAX, &at)) {
        code = 400;
        error_set(&error, STATUS_INVALID, NULL, "failed to read Upload-Offset: expected a number of bytes");
    } else if (upload->object_id[0] != '\0' || at != upload->taken) {
        error_set(&error, STATUS_CONFLICT, NULL, "failed to take the piece: got offset %llu, expected %llu",
                  (unsigned long long)at, (unsigned long long)upload->taken);
    } else if (announced != NULL && parse_u64(announced, INT64_MAX, &length) && length > upload->length - at) {
        error_set(&error, STATUS_LIMIT, NULL, "failed to take the piece: got %llu bytes, expected at most %llu",
                  (unsigned long long)length, (unsigned long long)(upload->length - at));
    }
    if (error.status != STATUS_OK) {
        http_reply_problem(request, code, &error);
        return false;
    }
    return true;
}

void api_uploads_patch_begin(struct http_request *request, void *context) {
    struct api *api = context;
    const char *checksum = http_request_header(request, "Upload-Checksum");
    struct store_resumable upload;
    struct error error = {0};
    struct patch *patch;

    if (!api_upload_speaks(request) || !api_upload_find(request, api, &upload) || !check_piece(request, &upload)) {
        return;
    }
    patch = mem_calloc(1, sizeof(*patch));
    if (patch == NULL) {
        error_no_memory(&error, "a piece of an upload");
        http_reply_error(request, &error);
        return;
    }
    patch->api = api;
    patch->server = http_request_server(request);
    patch->noted = upload.taken;
    (void)snprintf(patch->id, sizeof(patch->id), "%s", upload.id);
    if (checksum != NULL && upload_checksum_new(checksum, &patch->checksum, &error) != STATUS_OK) {
        api_reply_malformed(request, &error);
        patch_free(patch);
        return;
    }
    if (api->draining) {
        error_set(&error, STATUS_UNAVAILABLE, NULL, "failed to take the piece: the server is shutting down");
    } else if (!api_upload_lock(api, upload.id)) {
        error_set(&error, STATUS_CONFLICT, NULL, "failed to take the piece: another request is at work on the upload");
    } else if (store_piece_begin(api->config.store, &upload, &patch->piece, &error) != STATUS_OK) {
        api_upload_unlock(api, upload.id);
    }
    if (patch->piece == NULL) {
        http_reply_error(request, &error);
        patch_free(patch);
        return;
    }
    http_request_set_sink(request, &(struct http_sink){.user = patch, .write = sink_write, .close = sink_close});
}

void api_uploads_patch(struct http_request *request, void *context) {
    struct patch *patch = http_request_take_sink(request);
    struct api_task *task = api_task_new(request, context, piece_work);

    if (task == NULL) {
        api_upload_unlock(patch->api, patch->id);
        patch_free(patch);
        return;
    }
    task->user = patch;
    task->end = piece_end;
    (void)snprintf(task->id, sizeof(task->id), "%s", patch->id);
    api_task_start(request, task);
}
