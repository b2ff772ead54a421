/* An upload is a row of small steps (begin, ask where it stands, send, complete), each one request. After any of them has failed
 * the next is chosen from what the server says, so a lost answer needs no case of its own. */
#include "client/api_upload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/api_request.h"
#include "common/base64.h"
#include "common/clock.h"
#include "common/id.h"
#include "common/mem.h"
#include "common/parse.h"
#include "common/words.h"

enum {
    CHUNK = 256 * 1024,
    METADATA_SIZE = 1024,
    NUMBER_SIZE = 24,
    KEY_SIZE = DIGEST_HEX_SIZE + 8,
    CALL_TIMEOUT_S = 60
};
/* The server holds an upload for a connection that died silently until that has been idle for a minute. */
static const double AWAY_MAX_S = 90;
static const double PAUSE_S = 0.25;
static const struct api_field TUS = {"Tus-Resumable", "1.0.0"};

struct upload {
    struct api_client *client;
    const char *file;
    int fd;
    uint64_t size;
    char sha256[DIGEST_HEX_SIZE];
    char metadata[METADATA_SIZE];
    char key[KEY_SIZE];       /* Idempotency-Key of its beginning */
    char path[API_PATH_SIZE]; /* of the upload; "" before it has begun */
    uint64_t offset;          /* what the server has */
    bool is_located;          /* the offset is known */
    bool is_fresh;            /* the key is one of this process alone */
    double pause_s;           /* before another try */
    int busy;                 /* answers that asked for patience, in a row */
    double since;             /* clock_seconds() when it last moved on */
    json_t *object;
};

/* What came of a step. */
enum outcome { WENT_ON, TRY_AGAIN, IS_GONE, HAS_FAILED };

static enum status open_file(struct upload *upload, struct error *error) {
    struct stat info;
    upload->fd = open(upload->file, O_RDONLY | O_CLOEXEC);
    if (upload->fd < 0) {
        return error_io(error, upload->file, "failed to open file %.200s", upload->file);
    }
    if (fstat(upload->fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size == 0) {
        return error_set(error, STATUS_INVALID, upload->file,
                         "failed to upload %.200s: got %s, expected a regular file", upload->file,
                         S_ISREG(info.st_mode) ? "an empty file" : "something else");
    }
    upload->size = (uint64_t)info.st_size;
    return STATUS_OK;
}

/* The digest of the file, with the hooks running: some gigabytes take seconds. */
static enum status hash_file(struct upload *upload, struct error *error) {
    const struct api_hooks *hooks = upload->client->hooks;
    struct digest *digest = digest_new();
    unsigned char *chunk = mem_alloc(CHUNK, 1);
    enum status status = digest != NULL && chunk != NULL ? STATUS_OK : error_no_memory(error, "a digest");
    ssize_t got = 1;
    while (status == STATUS_OK && got != 0) {
        got = read(upload->fd, chunk, CHUNK);
        if (got < 0 && errno != EINTR) {
            status = error_io(error, upload->file, "failed to read file %.200s", upload->file);
        } else if (hooks != NULL && !hooks->tick(hooks->user, 0, upload->size, false)) {
            status = error_set(error, STATUS_CANCELLED, NULL, "stopped uploading %.200s", upload->file);
        } else if (got > 0) {
            digest_update(digest, chunk, (size_t)got);
        }
    }
    if (status == STATUS_OK) {
        digest_finish(digest, upload->sha256);
    }
    mem_free(chunk);
    digest_free(digest);
    return status;
}

static enum status describe(struct upload *upload, const char *kind, const char *name, struct error *error) {
    char text[METADATA_SIZE + DIGEST_HEX_SIZE];
    char digest[DIGEST_HEX_SIZE];
    char *kind_64 = base64_encode(kind, strlen(kind));
    char *name_64 = base64_encode(name, strlen(name));
    int length = -1;
    if (kind_64 != NULL && name_64 != NULL) {
        length = snprintf(upload->metadata, sizeof upload->metadata, "kind %s,name %s", kind_64, name_64);
    }
    mem_free(kind_64);
    mem_free(name_64);
    if (length < 0 || (size_t)length >= sizeof upload->metadata) {
        return error_set(error, STATUS_LIMIT, upload->file, "failed to upload %.200s: got too long a name",
                         upload->file);
    }
    (void)snprintf(text, sizeof text, "%s %s", upload->sha256, upload->metadata);
    digest_bytes(text, strlen(text), digest);
    (void)snprintf(upload->key, sizeof upload->key, "upload_%s", digest);
    return STATUS_OK;
}

/* Sends the request and sorts its answer; on HAS_FAILED `error` says why. */
static enum outcome run(struct upload *upload, struct api_request *request, struct error *error) {
    enum status status = api_request_run(upload->client, request, error);
    if (status == STATUS_UNAVAILABLE && (request->lost || upload->client->reached)) {
        upload->is_located = false;
        upload->pause_s = PAUSE_S;
        return TRY_AGAIN;
    }
    if (status != STATUS_OK) {
        return HAS_FAILED;
    }
    if (api_request_succeeded(request)) {
        upload->busy = 0;
        return WENT_ON;
    }
    if (request->code == 404 || request->code == 410) {
        return IS_GONE;
    }
    /* A conflict: another process sends the same bytes, or our own lost connection still counts. */
    if (request->code == 409 || (api_request_is_busy(request) && upload->busy++ < API_BUSY_TRIES)) {
        upload->is_located = false;
        upload->pause_s = request->retry_after_s > 0 ? (double)request->retry_after_s : PAUSE_S;
        return TRY_AGAIN;
    }
    /* Whoever uploads several files wants to know which; where in it, the server says. */
    struct error cause = {0};
    (void)api_request_problem(request, &cause);
    bool has_place = strncmp(cause.where, request->method, strlen(request->method)) != 0;
    (void)error_set(error, cause.status, has_place ? cause.where : upload->file, "%.120s: %s", upload->file,
                    cause.message);
    return HAS_FAILED;
}

static enum outcome begin(struct upload *upload, struct error *error) {
    struct api_request request;
    char size[NUMBER_SIZE];
    (void)snprintf(size, sizeof size, "%llu", (unsigned long long)upload->size);
    api_request_init(&request, "POST", PATH_UPLOADS);
    request.key = upload->key;
    request.timeout_s = CALL_TIMEOUT_S;
    request.fields[0] = TUS;
    request.fields[1] = (struct api_field){"Upload-Length", size};
    request.fields[2] = (struct api_field){"Upload-Metadata", upload->metadata};
    enum outcome outcome = run(upload, &request, error);
    if (outcome == WENT_ON) {
        /* Ours is a path; a proxy may have made a URL of it, of which the last part is the id. */
        const char *slash = strrchr(request.reply_location, '/');
        const char *id = slash != NULL ? slash + 1 : "";
        if (id_is_valid(id, "upl")) {
            (void)snprintf(upload->path, sizeof upload->path, PATH_UPLOADS "/%s", id);
            upload->is_located = false;
        } else {
            (void)error_set(error, STATUS_INVALID, PATH_UPLOADS, "failed to begin an upload: got no id, expected one");
            outcome = HAS_FAILED;
        }
    }
    api_request_deinit(&request);
    return outcome;
}

/* Notes the offset of an answer. */
static enum outcome take_offset(struct upload *upload, const struct api_request *request, struct error *error) {
    uint64_t offset = 0;
    if (!parse_u64(request->reply_offset, upload->size, &offset)) {
        (void)error_set(error, STATUS_INVALID, upload->path,
                        "failed to upload %.100s: got offset \"%.32s\", expected at most %llu", upload->file,
                        request->reply_offset, (unsigned long long)upload->size);
        return HAS_FAILED;
    }
    if (offset != upload->offset) {
        upload->since = clock_seconds();
    }
    upload->offset = offset;
    upload->is_located = true;
    return WENT_ON;
}

static enum outcome locate(struct upload *upload, struct error *error) {
    struct api_request request;
    api_request_init(&request, "HEAD", upload->path);
    request.timeout_s = CALL_TIMEOUT_S;
    request.fields[0] = TUS;
    enum outcome outcome = run(upload, &request, error);
    if (outcome == WENT_ON) {
        outcome = take_offset(upload, &request, error);
    }
    api_request_deinit(&request);
    return outcome;
}

static enum outcome send_rest(struct upload *upload, struct error *error) {
    struct api_request request;
    char offset[NUMBER_SIZE];
    if (lseek(upload->fd, (off_t)upload->offset, SEEK_SET) != (off_t)upload->offset) {
        (void)error_io(error, upload->file, "failed to read file %.200s", upload->file);
        return HAS_FAILED;
    }
    (void)snprintf(offset, sizeof offset, "%llu", (unsigned long long)upload->offset);
    api_request_init(&request, "PATCH", upload->path);
    request.upload_fd = upload->fd;
    request.from = upload->offset;
    request.size = upload->size;
    request.fields[0] = TUS;
    request.fields[1] = (struct api_field){"Upload-Offset", offset};
    request.fields[2] = (struct api_field){"Content-Type", "application/offset+octet-stream"};
    enum outcome outcome = run(upload, &request, error);
    if (outcome == WENT_ON) {
        outcome = take_offset(upload, &request, error);
    }
    api_request_deinit(&request);
    return outcome;
}

/* Nothing refers to what was refused: the server need not keep it until it expires. */
static void give_up(struct upload *upload) {
    struct error ignored = {0};
    struct api_request request;
    api_request_init(&request, "DELETE", upload->path);
    request.timeout_s = CALL_TIMEOUT_S;
    request.fields[0] = TUS;
    (void)api_request_run(upload->client, &request, &ignored);
    api_request_deinit(&request);
}

/* The server checks the file now, which may take a while. */
static enum outcome complete(struct upload *upload, struct error *error) {
    struct api_request request;
    char path[API_PATH_SIZE + 16];
    (void)snprintf(path, sizeof path, "%s/complete", upload->path);
    api_request_init(&request, "POST", path);
    request.from = upload->size; /* for the bar */
    request.size = upload->size;
    enum outcome outcome = run(upload, &request, error);
    if (outcome == WENT_ON && api_request_json(&request, &upload->object, error) != STATUS_OK) {
        outcome = HAS_FAILED;
    } else if (outcome == HAS_FAILED && request.code >= 400 && request.code < 500) {
        give_up(upload);
    }
    api_request_deinit(&request);
    return outcome;
}

static enum outcome step(struct upload *upload, struct error *error) {
    if (upload->path[0] == '\0') {
        return begin(upload, error);
    }
    if (!upload->is_located) {
        return locate(upload, error);
    }
    return upload->offset < upload->size ? send_rest(upload, error) : complete(upload, error);
}

/* Steps until there is an object. */
static enum status transfer(struct upload *upload, struct error *error) {
    upload->since = clock_seconds();
    while (upload->object == NULL) {
        struct error cause = {0};
        struct api_request idle;
        enum outcome outcome = step(upload, &cause);
        if (outcome == IS_GONE && !upload->is_fresh) {
            /* What an earlier process began has expired, was refused, or what it made was deleted. */
            upload->is_fresh = true;
            upload->path[0] = '\0';
            upload->offset = 0;
            id_make("key", upload->key);
            continue;
        }
        if (outcome == WENT_ON) {
            continue;
        }
        if (cause.status == STATUS_OK) {
            (void)error_set(&cause, outcome == IS_GONE ? STATUS_NOT_FOUND : STATUS_UNAVAILABLE, upload->path,
                            "failed to upload %.100s: got %s, expected it to go on", upload->file,
                            outcome == IS_GONE ? "no such upload" : "a server that is busy with it");
        }
        if (outcome != TRY_AGAIN || clock_seconds() - upload->since > AWAY_MAX_S) {
            return error_set(error, cause.status, cause.where, "%s", cause.message);
        }
        api_request_init(&idle, "HEAD", upload->path);
        idle.moved = upload->offset;
        idle.total = upload->size;
        if (!api_request_pause(upload->client, &idle, upload->pause_s)) {
            return error_set(error, STATUS_CANCELLED, NULL, "stopped uploading %.200s", upload->file);
        }
    }
    const char *theirs = json_string_value(json_object_get(upload->object, "sha256"));
    if (theirs == NULL || strcmp(theirs, upload->sha256) != 0) {
        return error_set(error, STATUS_IO, upload->file,
                         "failed to upload %.100s: got SHA-256 %.64s, expected %s (did it change meanwhile?)",
                         upload->file, theirs != NULL ? theirs : "none", upload->sha256);
    }
    return STATUS_OK;
}

enum status api_upload_file(struct api_client *client, const char *kind, const char *name, const char *file,
                            json_t **out, struct error *error) {
    struct upload *upload = mem_calloc(1, sizeof *upload);
    if (upload == NULL) {
        return error_no_memory(error, "an upload");
    }
    *upload = (struct upload){.client = client, .file = file, .fd = -1};
    enum status status = open_file(upload, error);
    if (status == STATUS_OK) {
        status = hash_file(upload, error);
    }
    if (status == STATUS_OK) {
        status = describe(upload, kind, name, error);
    }
    if (status == STATUS_OK) {
        status = transfer(upload, error);
    }
    if (status == STATUS_OK) {
        *out = upload->object;
        upload->object = NULL;
    }
    json_decref(upload->object);
    if (upload->fd >= 0) {
        (void)close(upload->fd);
    }
    mem_free(upload);
    return status;
}
