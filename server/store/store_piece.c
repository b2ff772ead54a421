/* A piece of an upload: appended to the file as it comes, counted in the row once it is on the disk. */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/mem.h"
#include "server/store/store_internal.h"
#include "server/store/store_resumable.h"

struct store_piece {
    struct store *store;
    char id[ID_SIZE];
    uint64_t length;
    uint64_t offset; /* of the thread that writes */
    bool failed;
    int fd;
    atomic_uint users;
    _Atomic uint64_t committed;
};

static enum status refused(struct error *error) {
    return store_refused(error, "store a piece of an upload");
}

enum status store_piece_begin(struct store *store, const struct store_resumable *upload, struct store_piece **out,
                              struct error *error) {
    char path[STORE_PATH_SIZE];
    struct store_piece *piece = mem_calloc(1, sizeof(*piece));
    if (piece == NULL) {
        return error_no_memory(error, "a piece of an upload");
    }
    piece->store = store;
    piece->length = upload->length;
    piece->offset = upload->taken;
    atomic_init(&piece->users, 1);
    atomic_init(&piece->committed, upload->taken);
    (void)snprintf(piece->id, sizeof piece->id, "%s", upload->id);
    piece->fd = -1;
    enum status status = store_resumable_path(store, upload->id, path, error);
    if (status == STATUS_OK) {
        piece->fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
        if (piece->fd < 0 || ftruncate(piece->fd, (off_t)upload->taken) != 0 ||
            lseek(piece->fd, (off_t)upload->taken, SEEK_SET) < 0) {
            status = refused(error);
        }
    }
    if (status != STATUS_OK) {
        store_piece_free(piece);
        return status;
    }
    *out = piece;
    return STATUS_OK;
}

enum status store_piece_write(struct store_piece *piece, const void *data, size_t length, struct error *error) {
    if (piece->failed || length > piece->length - piece->offset) {
        piece->failed = true;
        return error_set(error, STATUS_LIMIT, "upload",
                         "failed to store a piece of an upload: got more than %llu bytes",
                         (unsigned long long)piece->length);
    }
    if (!file_write_all(piece->fd, data, length)) {
        piece->failed = true;
        return refused(error);
    }
    piece->offset += length;
    return STATUS_OK;
}

uint64_t store_piece_offset(const struct store_piece *piece) {
    return piece->offset;
}

struct advance {
    const char *id;
    uint64_t offset;
    int64_t expires_ms;
};

static enum status advance_row(struct store_write *write, void *user, struct error *error) {
    const struct advance *advance = user;
    struct store_query query;
    size_t changed = 0;
    enum status status = store_query_init(
        &query, &write->sql, "UPDATE uploads SET taken = max(taken, ?), expires_ms = ? WHERE id = ?", error);
    if (status == STATUS_OK) {
        store_query_i64(&query, (int64_t)advance->offset);
        store_query_i64(&query, advance->expires_ms);
        store_query_text(&query, advance->id);
        status = store_query_finish(&query, &changed, error);
    }
    if (status == STATUS_OK && changed == 0) {
        status = error_set(error, STATUS_NOT_FOUND, "", "failed to find upload %s: it was deleted", advance->id);
    }
    return status;
}

enum status store_piece_commit(struct store_piece *piece, uint64_t offset, int64_t lifetime_ms, struct error *error) {
    struct advance advance = {.id = piece->id, .offset = offset, .expires_ms = clock_wall_ms() + lifetime_ms};
    enum status status = fdatasync(piece->fd) == 0 ? STATUS_OK : refused(error);
    if (status == STATUS_OK && atomic_load(&piece->committed) == 0) {
        status = file_sync_dir(piece->store->uploads_dir, error); /* the name of a new file */
    }
    if (status == STATUS_OK) {
        status = store_write_run(piece->store, advance_row, &advance, error);
    }
    if (status == STATUS_OK) {
        atomic_store(&piece->committed, offset);
    }
    return status;
}

void store_piece_undo(struct store_piece *piece) {
    /* If this fails, the next piece or start does it: the row does not count these bytes. */
    if (ftruncate(piece->fd, (off_t)atomic_load(&piece->committed)) == 0) {
        piece->offset = atomic_load(&piece->committed);
    }
}

void store_piece_hold(struct store_piece *piece) {
    (void)atomic_fetch_add(&piece->users, 1);
}

void store_piece_free(struct store_piece *piece) {
    if (piece == NULL || atomic_fetch_sub(&piece->users, 1) > 1) {
        return;
    }
    if (piece->fd >= 0) {
        (void)close(piece->fd);
    }
    mem_free(piece);
}
