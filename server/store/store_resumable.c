/* Rows of uploads that come in pieces, and what a start makes of them. */
#include "server/store/store_resumable.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/mem.h"
#include "server/store/store_internal.h"

enum { PURGE_MAX = 100 };

#define COLUMNS "id, length, taken, metadata, object_id, created_ms, expires_ms"

enum status store_resumable_path(const struct store *store, const char *id, char out[STORE_PATH_SIZE],
                                 struct error *error) {
    return file_join(out, STORE_PATH_SIZE, store->uploads_dir, id, error);
}

static void read_row(const struct store_query *query, struct store_resumable *upload) {
    *upload = (struct store_resumable){0};
    store_column_text(query, 0, upload->id, sizeof upload->id);
    upload->length = store_column_u64(query, 1);
    upload->taken = store_column_u64(query, 2);
    store_column_text(query, 3, upload->metadata, sizeof upload->metadata);
    store_column_text(query, 4, upload->object_id, sizeof upload->object_id);
    upload->created_ms = store_column_i64(query, 5);
    upload->expires_ms = store_column_i64(query, 6);
}

/* --- making --- */

static enum status count_rows(struct store_write *write, uint64_t *count, struct error *error) {
    struct store_query query;
    bool row = false;
    enum status status =
        store_query_init(&query, &write->sql, "SELECT count(*) FROM uploads WHERE object_id = ''", error);
    if (status == STATUS_OK) {
        status = store_query_step(&query, &row, error);
        *count = status == STATUS_OK ? store_column_u64(&query, 0) : 0;
        store_query_end(&query);
    }
    return status;
}

static enum status insert(struct store_write *write, void *user, struct error *error) {
    const struct store_resumable *upload = user;
    struct store_query query;
    uint64_t count = 0;
    enum status status = count_rows(write, &count, error);
    if (status == STATUS_OK && count >= STORE_RESUMABLES_MAX) {
        status = error_set(error, STATUS_LIMIT, "queue", "failed to begin an upload: got %llu, the most there may be",
                           (unsigned long long)count);
    }
    if (status == STATUS_OK) {
        status = store_query_init(
            &query, &write->sql,
            "INSERT INTO uploads (id, length, metadata, created_ms, expires_ms) VALUES (?, ?, ?, ?, ?)", error);
    }
    if (status == STATUS_OK) {
        store_query_text(&query, upload->id);
        store_query_i64(&query, (int64_t)upload->length);
        store_query_text(&query, upload->metadata);
        store_query_i64(&query, upload->created_ms);
        store_query_i64(&query, upload->expires_ms);
        status = store_query_finish(&query, NULL, error);
    }
    return status;
}

enum status store_resumable_create(struct store *store, uint64_t length, const char *metadata, int64_t lifetime_ms,
                                   struct store_resumable *upload, struct error *error) {
    struct store_resumable made = {.length = length, .created_ms = clock_wall_ms()};
    if (length > INT64_MAX || strlen(metadata) >= sizeof made.metadata) {
        return error_set(error, STATUS_LIMIT, "", "failed to begin an upload: expected at most %d bytes of metadata",
                         STORE_METADATA_SIZE - 1);
    }
    made.expires_ms = made.created_ms + lifetime_ms;
    (void)snprintf(made.metadata, sizeof made.metadata, "%s", metadata);
    id_make("upl", made.id);
    enum status status = store_write_run(store, insert, &made, error);
    if (status == STATUS_OK) {
        *upload = made;
    }
    return status;
}

enum status store_resumable_find(struct store *store, const char *id, struct store_resumable *upload,
                                 struct error *error) {
    struct store_sql *sql = NULL;
    struct store_query query = {0};
    bool row = false;
    enum status status = store_read_begin(store, &sql, error);
    if (status == STATUS_OK) {
        status =
            store_query_init(&query, sql, "SELECT " COLUMNS " FROM uploads WHERE id = ? AND expires_ms >= ?", error);
    }
    if (status == STATUS_OK) {
        store_query_text(&query, id);
        store_query_i64(&query, clock_wall_ms());
        status = store_query_step(&query, &row, error);
    }
    if (status == STATUS_OK && row) {
        read_row(&query, upload);
    } else if (status == STATUS_OK) {
        status =
            error_set(error, STATUS_NOT_FOUND, "", "failed to find upload %.80s: there is none, or it has expired", id);
    }
    store_query_end(&query);
    store_read_end(store, sql);
    return status;
}

/* --- ending --- */

static void remove_file(const struct store *store, const char *id) {
    char path[STORE_PATH_SIZE];
    if (store_resumable_path(store, id, path, NULL) == STATUS_OK) {
        (void)unlink(path); /* what stays is found by the next start */
    }
}

static enum status delete_row(struct store_write *write, void *user, struct error *error) {
    struct store_query query;
    size_t changed = 0;
    enum status status = store_query_init(&query, &write->sql, "DELETE FROM uploads WHERE id = ?", error);
    if (status == STATUS_OK) {
        store_query_text(&query, user);
        status = store_query_finish(&query, &changed, error);
    }
    if (status == STATUS_OK && changed == 0) {
        status =
            error_set(error, STATUS_NOT_FOUND, "", "failed to delete upload %.80s: there is none", (const char *)user);
    }
    return status;
}

enum status store_resumable_delete(struct store *store, const char *id, struct error *error) {
    enum status status = store_write_run(store, delete_row, (void *)(uintptr_t)id, error);
    if (status == STATUS_OK) {
        remove_file(store, id);
    }
    return status;
}

static enum status list_expired(struct store *store, int64_t now_ms, char ids[PURGE_MAX][ID_SIZE], size_t *count,
                                struct error *error) {
    struct store_sql *sql = NULL;
    struct store_query query = {0};
    bool row = false;
    enum status status = store_read_begin(store, &sql, error);
    if (status == STATUS_OK) {
        status = store_query_init(&query, sql, "SELECT id FROM uploads WHERE expires_ms < ? LIMIT ?", error);
    }
    if (status == STATUS_OK) {
        store_query_i64(&query, now_ms);
        store_query_i64(&query, PURGE_MAX);
        status = store_query_step(&query, &row, error);
    }
    for (*count = 0; status == STATUS_OK && row && *count < PURGE_MAX; (*count)++) {
        store_column_text(&query, 0, ids[*count], ID_SIZE);
        status = store_query_step(&query, &row, error);
    }
    store_query_end(&query);
    store_read_end(store, sql);
    return status;
}

enum status store_resumable_purge(struct store *store, int64_t now_ms, struct error *error) {
    char(*ids)[ID_SIZE] = mem_calloc(PURGE_MAX, ID_SIZE);
    size_t count = 0;
    if (ids == NULL) {
        return error_no_memory(error, "a list of uploads");
    }
    enum status status = list_expired(store, now_ms, ids, &count, error);
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        status = store_resumable_delete(store, ids[i], error);
    }
    mem_free(ids);
    return status;
}

struct making {
    const char *id, *object_id;
};

static enum status set_object(struct store_write *write, void *user, struct error *error) {
    const struct making *making = user;
    struct store_query query;
    enum status status = store_query_init(&query, &write->sql, "UPDATE uploads SET object_id = ? WHERE id = ?", error);
    if (status == STATUS_OK) {
        store_query_text(&query, making->object_id);
        store_query_text(&query, making->id);
        status = store_query_finish(&query, NULL, error);
    }
    return status;
}

enum status store_resumable_done(struct store *store, const char *id, const char *object_id, struct error *error) {
    struct making making = {.id = id, .object_id = object_id};
    enum status status = store_write_run(store, set_object, &making, error);
    if (status == STATUS_OK) {
        remove_file(store, id);
    }
    return status;
}

enum status store_resumable_open(struct store *store, const struct store_resumable *upload, struct store_upload **out,
                                 struct error *error) {
    char path[STORE_PATH_SIZE];
    if (upload->taken != upload->length) {
        return error_set(error, STATUS_CONFLICT, "",
                         "failed to complete upload %s: got %llu of %llu bytes, expected all of them", upload->id,
                         (unsigned long long)upload->taken, (unsigned long long)upload->length);
    }
    enum status status = store_resumable_path(store, upload->id, path, error);
    return status == STATUS_OK ? store_upload_adopt(store, path, upload->length, out, error) : status;
}

/* --- at the start --- */

/* The row of a file, and how much of it counts. */
static enum status look_up(struct store *store, const char *id, uint64_t *taken, bool *known, struct error *error) {
    struct store_query query;
    enum status status =
        store_query_init(&query, &store->write.sql, "SELECT taken FROM uploads WHERE id = ? AND object_id = ''", error);
    if (status == STATUS_OK) {
        store_query_text(&query, id);
        status = store_query_step(&query, known, error);
        *taken = status == STATUS_OK && *known ? store_column_u64(&query, 0) : 0;
        store_query_end(&query);
    }
    return status;
}

static enum status clean_file(struct store *store, const char *id, struct error *error) {
    char path[STORE_PATH_SIZE];
    struct stat info;
    uint64_t taken = 0;
    bool known = false;
    enum status status = look_up(store, id, &taken, &known, error);
    if (status != STATUS_OK || store_resumable_path(store, id, path, error) != STATUS_OK) {
        return status;
    }
    if (!known || lstat(path, &info) != 0 || !S_ISREG(info.st_mode) || (uint64_t)info.st_size < taken) {
        (void)unlink(path);
    } else if ((uint64_t)info.st_size > taken) {
        /* A piece that was under way; should this fail, the next one cuts it off. */
        const int ignored = truncate(path, (off_t)taken);
        (void)ignored;
    }
    return STATUS_OK;
}

/* A row whose file is not there, as a backup has it, is of no use to anybody. */
static enum status forget_lost(struct store *store, struct error *error) {
    struct store_query query = {0};
    char path[STORE_PATH_SIZE];
    char id[ID_SIZE] = "";
    bool row = false;
    enum status status = STATUS_OK;
    do {
        status =
            store_query_init(&query, &store->write.sql,
                             "SELECT id FROM uploads WHERE object_id = '' AND taken > 0 AND id > ? ORDER BY id", error);
        if (status != STATUS_OK) {
            return status;
        }
        store_query_text(&query, id);
        status = store_query_step(&query, &row, error);
        if (status == STATUS_OK && row) {
            store_column_text(&query, 0, id, sizeof id);
        }
        store_query_end(&query);
        if (status == STATUS_OK && row && store_resumable_path(store, id, path, error) == STATUS_OK &&
            access(path, R_OK) != 0) {
            status = store_query_init(&query, &store->write.sql, "DELETE FROM uploads WHERE id = ?", error);
            if (status == STATUS_OK) {
                store_query_text(&query, id);
                status = store_query_finish(&query, NULL, error);
            }
        }
    } while (status == STATUS_OK && row);
    return status;
}

enum status store_resumables_clean(struct store *store, struct error *error) {
    enum status status = STATUS_OK;
    DIR *dir = opendir(store->uploads_dir);
    if (dir == NULL) {
        return error_io(error, "data folder", "failed to list the folder of uploads");
    }
    for (struct dirent *entry = readdir(dir); entry != NULL && status == STATUS_OK; entry = readdir(dir)) {
        if (id_is_valid(entry->d_name, "upl")) {
            status = clean_file(store, entry->d_name, error);
        }
    }
    (void)closedir(dir);
    return status == STATUS_OK ? forget_lost(store, error) : status;
}
