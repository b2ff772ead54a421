/* Backup and restore. The database is copied by SQLite's backup interface over a read-only connection, as of one moment, while a
 * server may go on writing; blobs never change, so they are copied afterwards. One that was deleted in between leaves the copy
 * of the database naming what is gone: then the database is copied again. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "server/store/store_internal.h"
#include "server/store/store_upkeep.h"

enum { TRIES = 5, STEP_PAGES = 256, BUSY_MS = 20 };

static enum status copy_database(const char *from, const char *to, struct error *error) {
    struct store_sql source = {0}, target = {0};
    (void)unlink(to);
    enum status status = store_sql_open(&source, from, false, error);
    if (status != STATUS_OK) {
        return status;
    }
    int code = sqlite3_open_v2(to, &target.db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    sqlite3_backup *backup = code == SQLITE_OK ? sqlite3_backup_init(target.db, "main", source.db, "main") : NULL;
    if (backup == NULL) {
        status = store_sql_error(&target, code, "make the copy of the database", error);
        goto done;
    }
    do {
        code = sqlite3_backup_step(backup, STEP_PAGES);
        if (code == SQLITE_BUSY || code == SQLITE_LOCKED) {
            (void)sqlite3_sleep(BUSY_MS);
        }
    } while (code == SQLITE_OK || code == SQLITE_BUSY || code == SQLITE_LOCKED);
    code = code == SQLITE_DONE ? sqlite3_backup_finish(backup) : (sqlite3_backup_finish(backup), code);
    if (code != SQLITE_OK) {
        status = store_sql_error(&target, code, "copy the database", error);
        goto done;
    }
    /* A copy that is one file: no WAL of its own. */
    status = store_sql_run(&target, "PRAGMA journal_mode = DELETE", error);
done:
    store_sql_close(&target);
    store_sql_close(&source);
    return status;
}

static enum status check_database(struct store_sql *sql, struct error *error) {
    struct store_query query;
    bool row = false;
    char answer[64] = "";
    enum status status = store_query_init_once(&query, sql, "PRAGMA integrity_check(1)", error);
    if (status == STATUS_OK) {
        status = store_query_step(&query, &row, error);
        if (status == STATUS_OK && row) {
            store_column_text(&query, 0, answer, sizeof answer);
        }
        store_query_end(&query);
    }
    if (status == STATUS_OK && strcmp(answer, "ok") != 0) {
        status = error_set(error, STATUS_INVALID, "database", "failed to check the database: %s", answer);
    }
    return status;
}

static enum status blob_path(const char *blobs, const char *sha256, char out[STORE_PATH_SIZE], struct error *error) {
    char name[DIGEST_HEX_SIZE + 4];
    (void)snprintf(name, sizeof name, "%.2s/%.64s", sha256, sha256);
    return file_join(out, STORE_PATH_SIZE, blobs, name, error);
}

static enum status check_blob(const char *path, const char *sha256, struct error *error) {
    char found[DIGEST_HEX_SIZE];
    const enum status status = digest_file(path, found, error);
    if (status == STATUS_OK && strcmp(found, sha256) != 0) {
        return error_set(error, STATUS_INVALID, "blob", "failed to check blob %.16s...: its bytes have another hash",
                         sha256);
    }
    return status;
}

/* STATUS_NOT_FOUND if the source has lost it meanwhile. */
static enum status copy_blob(const char *from_blobs, const char *to_blobs, const char *sha256,
                             struct store_backup_figures *figures, struct error *error) {
    char from[STORE_PATH_SIZE], to[STORE_PATH_SIZE], part[STORE_PATH_SIZE + 8], folder[STORE_PATH_SIZE];
    struct stat info;
    enum status status = blob_path(from_blobs, sha256, from, error);
    if (status == STATUS_OK) {
        status = blob_path(to_blobs, sha256, to, error);
    }
    if (status != STATUS_OK || lstat(to, &info) == 0) {
        return status;
    }
    (void)snprintf(part, sizeof part, "%s.part", to);
    (void)snprintf(folder, sizeof folder, "%.*s", (int)(strlen(to) - DIGEST_HEX_SIZE), to);
    if (lstat(from, &info) != 0) {
        return error_set(error, STATUS_NOT_FOUND, "blob", "failed to copy blob %.16s...: it is not there", sha256);
    }
    status = file_make_dir(folder, error);
    (void)unlink(part);
    if (status == STATUS_OK) {
        status = file_copy(from, part, error); /* durable */
    }
    if (status == STATUS_OK) {
        status = check_blob(part, sha256, error);
    }
    if (status == STATUS_OK && (chmod(part, 0444) != 0 || rename(part, to) != 0)) {
        status = error_io(error, "blob", "failed to name a copied blob");
    }
    if (status == STATUS_OK) {
        figures->copied++;
        figures->bytes += (uint64_t)info.st_size;
    } else {
        (void)unlink(part);
    }
    return status;
}

/* All blobs that the database at `database` names. */
static enum status copy_blobs(const char *database, const char *from, const char *to,
                              struct store_backup_figures *figures, struct error *error) {
    struct store_sql sql = {0};
    struct store_query query;
    char from_blobs[STORE_PATH_SIZE], to_blobs[STORE_PATH_SIZE], sha256[DIGEST_HEX_SIZE];
    enum status status = file_join(from_blobs, sizeof from_blobs, from, "blobs", error);
    if (status == STATUS_OK) {
        status = file_join(to_blobs, sizeof to_blobs, to, "blobs", error);
    }
    if (status == STATUS_OK) {
        status = file_make_dir(to_blobs, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    if (sqlite3_open_v2(database, &sql.db, SQLITE_OPEN_READONLY, NULL) != SQLITE_OK) {
        status = store_sql_error(&sql, SQLITE_CANTOPEN, "open the copied database", error);
    }
    if (status == STATUS_OK) {
        status = check_database(&sql, error);
    }
    if (status == STATUS_OK) {
        status = store_query_init_once(&query, &sql, "SELECT sha256 FROM blobs", error);
    }
    if (status == STATUS_OK) {
        bool row = false;
        figures->blobs = 0;
        while ((status = store_query_step(&query, &row, error)) == STATUS_OK && row) {
            store_column_text(&query, 0, sha256, sizeof sha256);
            figures->blobs++;
            status = copy_blob(from_blobs, to_blobs, sha256, figures, error);
            if (status != STATUS_OK) {
                break;
            }
        }
        store_query_end(&query);
    }
    store_sql_close(&sql);
    return status;
}

static enum status copy_store(const char *from, const char *to, struct store_backup_figures *figures,
                              struct error *error) {
    char source[STORE_PATH_SIZE], target[STORE_PATH_SIZE], part[STORE_PATH_SIZE];
    *figures = (struct store_backup_figures){0};
    enum status status = file_join(source, sizeof source, from, "onp.db", error);
    if (status == STATUS_OK && access(source, R_OK) != 0) {
        return error_io(error, "database", "failed to read the database");
    }
    if (status == STATUS_OK) {
        status = file_make_dir(to, error);
    }
    if (status == STATUS_OK) {
        status = file_join(target, sizeof target, to, "onp.db", error);
    }
    if (status == STATUS_OK) {
        status = file_join(part, sizeof part, to, "onp.db.part", error);
    }
    for (int tries = 0; status == STATUS_OK; tries++) {
        struct error again = {0};
        status = copy_database(source, part, error);
        if (status != STATUS_OK) {
            break;
        }
        status = copy_blobs(part, from, to, figures, &again);
        if (status == STATUS_NOT_FOUND && tries + 1 < TRIES) {
            status = STATUS_OK;
            continue;
        }
        if (status != STATUS_OK) {
            (void)error_set(error, status, again.where, "%s", again.message);
        }
        break;
    }
    if (status == STATUS_OK && (chmod(part, 0600) != 0 || rename(part, target) != 0)) {
        status = error_io(error, "database", "failed to name the copied database");
    }
    return status == STATUS_OK ? file_sync_dir(to, error) : status;
}

enum status store_backup(const char *data_dir, const char *folder, struct store_backup_figures *figures,
                         struct error *error) {
    return copy_store(data_dir, folder, figures, error);
}

enum status store_restore(const char *folder, const char *data_dir, struct store_backup_figures *figures,
                          struct error *error) {
    char target[STORE_PATH_SIZE];
    struct stat info;
    enum status status = file_join(target, sizeof target, data_dir, "onp.db", error);
    if (status == STATUS_OK && lstat(target, &info) == 0) {
        status =
            error_set(error, STATUS_CONFLICT, "--data", "failed to restore: the data folder holds a store already");
    }
    return status == STATUS_OK ? copy_store(folder, data_dir, figures, error) : status;
}
