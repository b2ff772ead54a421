/* A file is known by its digest, so a part that lies there from yesterday may be taken on trust: what comes of it is checked as a
 * whole, and fetched anew if it is wrong. */
#include "client/api_download.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/api_request.h"
#include "common/clock.h"
#include "common/mem.h"

enum { CHUNK = 256 * 1024, RANGE_SIZE = 48, ETAG_SIZE = DIGEST_HEX_SIZE + 2 };
static const double AWAY_MAX_S = 60;
static const double PAUSE_S = 0.25;

struct download {
    struct api_client *client;
    const char *path;
    const char *file;
    const struct api_download_info *info;
    int fd;
    uint64_t have;         /* bytes that are written */
    struct digest *digest; /* of them */
    bool is_stream;        /* what is written stays written */
    int busy;
    double since; /* clock_seconds() when it last moved on */
};

/* One request for what is missing. *again: it broke off, and another may go on. */
static enum status fetch_rest(struct download *download, bool *again, struct error *error) {
    char range[RANGE_SIZE];
    char etag[ETAG_SIZE];
    struct api_request request;
    api_request_init(&request, "GET", download->path);
    request.download_fd = download->fd;
    request.from = download->have;
    request.digest = download->digest;
    request.may_start_over = !download->is_stream;
    if (download->have > 0) {
        (void)snprintf(range, sizeof range, "bytes=%llu-", (unsigned long long)download->have);
        (void)snprintf(etag, sizeof etag, "\"%s\"", download->info->sha256);
        request.fields[0] = (struct api_field){"Range", range};
        request.fields[1] = (struct api_field){"If-Range", etag};
    }
    *again = false;
    enum status status = api_request_run(download->client, &request, error);
    if (request.moved != download->have) {
        download->have = request.moved;
        download->since = clock_seconds();
        download->busy = 0;
    }
    if (status == STATUS_UNAVAILABLE) {
        *again = request.lost || download->client->reached;
    } else if (status == STATUS_OK && !api_request_succeeded(&request)) {
        *again = api_request_is_busy(&request) && download->busy++ < API_BUSY_TRIES;
        status = api_request_problem(&request, error);
    }
    api_request_deinit(&request);
    return status;
}

/* Until all is there, or it is hopeless. */
static enum status fetch_all(struct download *download, struct error *error) {
    download->since = clock_seconds();
    while (download->have < download->info->size) {
        struct error cause = {0};
        struct api_request idle;
        bool again = false;
        enum status status = fetch_rest(download, &again, &cause);
        if (status == STATUS_OK && download->have != download->info->size) {
            return error_set(error, STATUS_IO, download->path,
                             "failed to download %.200s: got %llu bytes, expected %llu", download->path,
                             (unsigned long long)download->have, (unsigned long long)download->info->size);
        }
        if (status == STATUS_OK) {
            break;
        }
        if (!again || clock_seconds() - download->since > AWAY_MAX_S) {
            return error_set(error, status, cause.where[0] != '\0' ? cause.where : download->file, "%s", cause.message);
        }
        api_request_init(&idle, "GET", download->path);
        idle.moved = download->have;
        idle.total = download->info->size;
        if (!api_request_pause(download->client, &idle, PAUSE_S)) {
            return error_set(error, STATUS_CANCELLED, NULL, "stopped downloading %.200s", download->path);
        }
    }
    return STATUS_OK;
}

static enum status check_digest(const struct download *download, struct error *error) {
    char ours[DIGEST_HEX_SIZE];
    digest_finish(download->digest, ours);
    if (strcmp(ours, download->info->sha256) == 0) {
        return STATUS_OK;
    }
    return error_set(error, STATUS_IO, download->path, "failed to download %.100s: got SHA-256 %s, expected %s",
                     download->path, ours, download->info->sha256);
}

static enum status empty_part(struct download *download, const char *part, struct error *error) {
    if (ftruncate(download->fd, 0) != 0 || lseek(download->fd, 0, SEEK_SET) != 0) {
        return error_io(error, part, "failed to empty file %.200s", part);
    }
    digest_reset(download->digest);
    download->have = 0;
    return STATUS_OK;
}

/* Takes the digest of what an earlier process left, and the place behind it. */
static enum status read_part(struct download *download, const char *part, struct error *error) {
    unsigned char *chunk = mem_alloc(CHUNK, 1);
    enum status status = chunk != NULL ? STATUS_OK : error_no_memory(error, "a chunk of a file");
    ssize_t got = 1;
    while (status == STATUS_OK && got != 0) {
        got = read(download->fd, chunk, CHUNK);
        if (got < 0 && errno != EINTR) {
            status = error_io(error, part, "failed to read file %.200s", part);
        } else if (got > 0) {
            digest_update(download->digest, chunk, (size_t)got);
            download->have += (uint64_t)got;
        }
    }
    mem_free(chunk);
    return status == STATUS_OK && download->have > download->info->size ? empty_part(download, part, error) : status;
}

/* Opens the part for this process alone. */
static enum status open_part(struct download *download, const char *part, struct error *error) {
    download->fd = open(part, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (download->fd < 0) {
        return error_io(error, part, "failed to create file %.200s", part);
    }
    if (flock(download->fd, LOCK_EX | LOCK_NB) != 0) {
        return error_set(error, STATUS_CONFLICT, part, "failed to download into %.200s: another process does", part);
    }
    return read_part(download, part, error);
}

static enum status into_part(struct download *download, const char *file, const char *part, struct error *error) {
    enum status status = open_part(download, part, error);
    if (status != STATUS_OK) {
        return status;
    }
    bool had_some = download->have > 0;
    status = fetch_all(download, error);
    if (status == STATUS_OK) {
        struct error cause = {0};
        status = check_digest(download, had_some ? &cause : error);
    }
    if (status != STATUS_OK && error->status == STATUS_OK) { /* what an earlier process left was something else */
        status = empty_part(download, part, error);
        status = status == STATUS_OK ? fetch_all(download, error) : status;
        status = status == STATUS_OK ? check_digest(download, error) : status;
    }
    if (status == STATUS_OK && fsync(download->fd) != 0 && errno != EINVAL) {
        status = error_io(error, file, "failed to sync file %.200s", part);
    }
    if (status == STATUS_OK && rename(part, file) != 0) {
        status = error_io(error, file, "failed to rename file %.200s", part);
    }
    if (status != STATUS_OK && (download->have == 0 || download->have == download->info->size)) {
        (void)unlink(part); /* nothing to go on from, or wrong as a whole */
    }
    return status;
}

static enum status into_stream(struct download *download, struct error *error) {
    download->is_stream = true;
    enum status status = fetch_all(download, error);
    return status == STATUS_OK ? check_digest(download, error) : status;
}

static bool is_stream(const char *file) {
    struct stat info;
    return stat(file, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
}

enum status api_download_file(struct api_client *client, const char *path, const struct api_download_info *info,
                              const char *file, struct error *error) {
    struct download download = {.client = client, .path = path, .file = file, .info = info, .fd = -1};
    enum status status = STATUS_OK;
    struct buf part;
    buf_init(&part, 16384);
    download.digest = digest_new();
    if (download.digest == NULL || !buf_printf(&part, "%s.part", file)) {
        status = error_no_memory(error, "a download");
    } else if (strcmp(file, "-") == 0) {
        download.fd = dup(STDOUT_FILENO);
        status =
            download.fd >= 0 ? into_stream(&download, error) : error_io(error, NULL, "failed to write standard output");
    } else if (is_stream(file)) {
        download.fd = open(file, O_WRONLY | O_CLOEXEC);
        status =
            download.fd >= 0 ? into_stream(&download, error) : error_io(error, file, "failed to open %.200s", file);
    } else {
        status = into_part(&download, file, part.data, error);
    }
    if (download.fd >= 0 && close(download.fd) != 0 && status == STATUS_OK) {
        status = error_io(error, file, "failed to close file %.200s", file);
    }
    digest_free(download.digest);
    buf_deinit(&part);
    return status;
}
