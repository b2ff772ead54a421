/* Blobs: files named by their SHA-256, <data>/blobs/ab/abcdef... They come in by a hard link from a finished, synced file, so a
 * blob is there as a whole or not at all, and rows are written only after it is durable. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/digest.h"
#include "common/file.h"
#include "common/log.h"
#include "common/mem.h"
#include "server/store/store_internal.h"

enum { HASH_CHUNK = 128 * 1024, COLLECT_MAX = 1000, DIGEST_LENGTH = DIGEST_HEX_SIZE - 1 };

static bool is_digest(const char *text) {
    return strlen(text) == DIGEST_LENGTH && strspn(text, "0123456789abcdef") == DIGEST_LENGTH;
}

static void shard_name(const char *sha256, char out[3]) {
    memcpy(out, sha256, 2);
    out[2] = '\0';
}

enum status store_blob_path(const struct store *store, const char *sha256, char out[STORE_PATH_SIZE],
                            struct error *error) {
    char shard[3];
    char folder[STORE_PATH_SIZE];
    if (!is_digest(sha256)) {
        return error_set(error, STATUS_INVALID, "blob", "failed to find a blob: got '%.80s', expected a SHA-256",
                         sha256);
    }
    shard_name(sha256, shard);
    enum status status = file_join(folder, sizeof folder, store->blobs_dir, shard, error);
    return status == STATUS_OK ? file_join(out, STORE_PATH_SIZE, folder, sha256, error) : status;
}

enum status store_refused(struct error *error, const char *what) {
    if (errno == ENOSPC || errno == EDQUOT) {
        return error_set(error, STATUS_UNAVAILABLE, "disk", "failed to %s: the disk is full", what);
    }
    if (errno == EROFS || errno == EACCES) {
        return error_set(error, STATUS_UNAVAILABLE, "disk", "failed to %s: the disk is read-only", what);
    }
    return error_io(error, "data folder", "failed to %s", what);
}

static enum status hash_file(int fd, struct digest *digest, uint64_t *size, struct error *error) {
    char *chunk = mem_alloc(1, HASH_CHUNK);
    enum status status = chunk != NULL ? STATUS_OK : error_no_memory(error, "a buffer to hash a file");
    uint64_t total = 0;
    while (status == STATUS_OK) {
        ssize_t got = read(fd, chunk, HASH_CHUNK);
        if (got == 0) {
            break;
        }
        if (got < 0 && errno != EINTR) {
            status = error_io(error, "file", "failed to read a file to be stored");
        } else if (got > 0) {
            digest_update(digest, chunk, (size_t)got);
            total += (uint64_t)got;
        }
    }
    mem_free(chunk);
    *size = total;
    return status;
}

/* The file may come from a child that is not trusted: a second name could be that of any file of ours. It is fine only as the blob
 * of an earlier try that got as far as linking it. */
static bool is_only_name(const struct store *store, const struct stat *info, const struct store_blob *blob) {
    char path[STORE_PATH_SIZE];
    struct stat other;
    return info->st_nlink == 1 ||
           (info->st_nlink == 2 && store_blob_path(store, blob->sha256, path, NULL) == STATUS_OK &&
            lstat(path, &other) == 0 && other.st_dev == info->st_dev && other.st_ino == info->st_ino);
}

enum status store_blob_seal(const struct store *store, const char *path, struct store_blob *blob, struct error *error) {
    struct stat info;
    enum status status = STATUS_OK;
    struct digest *digest = digest_new();
    int fd = -1;
    if (digest == NULL) {
        return error_no_memory(error, "a hash");
    }
    /* A link could point at anything, a FIFO could block. */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &info) != 0) {
        status = error_io(error, "file", "failed to open a file to be stored");
        goto end;
    }
    if (!S_ISREG(info.st_mode)) {
        status = error_set(error, STATUS_INVALID, "file", "failed to store a file: got a special file");
        goto end;
    }
    status = hash_file(fd, digest, &blob->size, error);
    if (status == STATUS_OK) {
        digest_finish(digest, blob->sha256);
        if (!is_only_name(store, &info, blob)) {
            status = error_set(error, STATUS_INVALID, "file", "failed to store a file: got a link");
        } else if (fchmod(fd, 0444) != 0 || fsync(fd) != 0) {
            status = store_refused(error, "bring a file to disk");
        }
    }
end:
    if (fd >= 0) {
        (void)close(fd);
    }
    digest_free(digest);
    return status;
}

enum status store_blob_link(struct store *store, const char *path, const struct store_blob *blob, struct error *error) {
    char shard[3];
    char folder[STORE_PATH_SIZE];
    char name[STORE_PATH_SIZE];
    shard_name(blob->sha256, shard);
    enum status status = file_join(folder, sizeof folder, store->blobs_dir, shard, error);
    if (status == STATUS_OK) {
        status = store_blob_path(store, blob->sha256, name, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (mkdir(folder, 0750) == 0) {
        status = file_sync_dir(store->blobs_dir, error);
    } else if (errno != EEXIST) {
        return store_refused(error, "make a folder for a blob");
    }
    /* A file that is there already has the same bytes: it got its name only after they were on disk. */
    if (status == STATUS_OK && link(path, name) != 0 && errno != EEXIST) {
        return store_refused(error, "store a blob");
    }
    return status == STATUS_OK ? file_sync_dir(folder, error) : status;
}

enum status store_blob_insert(struct store_write *write, const struct store_blob *blob, struct error *error) {
    struct store_query query;
    enum status status =
        store_query_init(&query, &write->sql,
                         "INSERT INTO blobs (sha256, size, created_ms) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", error);
    if (status == STATUS_OK) {
        store_query_text(&query, blob->sha256);
        store_query_i64(&query, (int64_t)blob->size);
        store_query_i64(&query, clock_wall_ms());
        status = store_query_finish(&query, NULL, error);
    }
    return status;
}

/* --- collecting --- */

struct collection {
    char (*names)[DIGEST_HEX_SIZE]; /* (COLLECT_MAX) */
    size_t count;
};

static enum status collect(struct store_write *write, void *user, struct error *error) {
    struct collection *found = user;
    struct store_query query;
    bool row = false;
    enum status status = store_query_init(
        &query, &write->sql,
        "DELETE FROM blobs WHERE sha256 IN (SELECT sha256 FROM blobs AS b"
        " WHERE NOT EXISTS (SELECT 1 FROM models WHERE models.sha256 = b.sha256)"
        " AND NOT EXISTS (SELECT 1 FROM samples WHERE samples.sha256 = b.sha256)"
        " AND NOT EXISTS (SELECT 1 FROM artifacts WHERE artifacts.sha256 = b.sha256) LIMIT ?) RETURNING sha256",
        error);
    if (status != STATUS_OK) {
        return status;
    }
    store_query_i64(&query, COLLECT_MAX);
    found->count = 0;
    for (status = store_query_step(&query, &row, error); status == STATUS_OK && row && found->count < COLLECT_MAX;
         status = store_query_step(&query, &row, error)) {
        store_column_text(&query, 0, found->names[found->count++], DIGEST_HEX_SIZE);
    }
    store_query_end(&query);
    return status;
}

enum status store_collect_blobs(struct store *store, size_t *removed, struct error *error) {
    char path[STORE_PATH_SIZE];
    size_t total = 0;
    struct collection found = {.names = mem_calloc(COLLECT_MAX, DIGEST_HEX_SIZE)};
    if (found.names == NULL) {
        return error_no_memory(error, "a list of blobs");
    }
    enum status status;
    do {
        /* Nobody may be between giving a file its name and committing the row for it. */
        pthread_rwlock_wrlock(&store->blobs_lock);
        status = store_write_run(store, collect, &found, error);
        for (size_t i = 0; status == STATUS_OK && i < found.count; i++) {
            /* A file that stays is found by the next start. */
            if (store_blob_path(store, found.names[i], path, NULL) == STATUS_OK && unlink(path) == 0) {
                total++;
            }
        }
        pthread_rwlock_unlock(&store->blobs_lock);
    } while (status == STATUS_OK && found.count == COLLECT_MAX);
    mem_free(found.names);
    if (removed != NULL) {
        *removed = total;
    }
    return status;
}

/* --- at the start --- */

static enum status is_known(struct store *store, const char *sha256, bool *known, struct error *error) {
    struct store_query query;
    enum status status = store_query_init(&query, &store->write.sql, "SELECT 1 FROM blobs WHERE sha256 = ?", error);
    if (status == STATUS_OK) {
        store_query_text(&query, sha256);
        status = store_query_step(&query, known, error);
    }
    store_query_end(&query);
    return status;
}

static enum status clean_shard(struct store *store, const char *folder, size_t *removed, struct error *error) {
    char path[STORE_PATH_SIZE];
    enum status status = STATUS_OK;
    DIR *dir = opendir(folder);
    if (dir == NULL) {
        return error_io(error, "data folder", "failed to list a folder of blobs");
    }
    for (struct dirent *entry = readdir(dir); entry != NULL && status == STATUS_OK; entry = readdir(dir)) {
        bool known = false;
        if (!is_digest(entry->d_name)) {
            continue;
        }
        status = is_known(store, entry->d_name, &known, error);
        if (status == STATUS_OK && !known && file_join(path, sizeof path, folder, entry->d_name, NULL) == STATUS_OK &&
            unlink(path) == 0) {
            (*removed)++;
        }
    }
    (void)closedir(dir);
    return status;
}

enum status store_blobs_clean(struct store *store, struct error *error) {
    char shard[STORE_PATH_SIZE];
    size_t removed = 0;
    enum status status = file_remove_tree(store->tmp_dir, error);
    if (status == STATUS_OK) {
        status = file_make_dir(store->tmp_dir, error);
    }
    DIR *dir = status == STATUS_OK ? opendir(store->blobs_dir) : NULL;
    if (status == STATUS_OK && dir == NULL) {
        status = error_io(error, "data folder", "failed to list the folder of blobs");
    }
    while (status == STATUS_OK) {
        struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            break;
        }
        if (strlen(entry->d_name) == 2 && strspn(entry->d_name, "0123456789abcdef") == 2) {
            status = file_join(shard, sizeof shard, store->blobs_dir, entry->d_name, error);
            if (status == STATUS_OK) {
                status = clean_shard(store, shard, &removed, error);
            }
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    if (removed > 0) {
        log_event(LOG_INFO, "blobs_removed", "%zu files that no row names removed", removed);
    }
    return status;
}
