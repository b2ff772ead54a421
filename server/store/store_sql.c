/* SQLite behind a few calls: connections, cached statements, binding, errors. Every connection is used by one thread
 * at a time, so SQLite's own mutexes are off. */
#include "server/store/store_sql.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json_read.h"

enum { BUSY_TIMEOUT_MS = 10000 };

enum status store_sql_error(struct store_sql *sql, int code, const char *what, struct error *error) {
    const char *text = sql->db ? sqlite3_errmsg(sql->db) : sqlite3_errstr(code);
    enum status status = STATUS_INTERNAL;
    switch (code & 0xff) {
    case SQLITE_FULL:
    case SQLITE_BUSY:
    case SQLITE_READONLY:
        status = STATUS_UNAVAILABLE;
        break;
    case SQLITE_NOMEM:
        status = STATUS_NO_MEMORY;
        break;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_PERM:
        status = STATUS_IO;
        break;
    default:
        break;
    }
    return error_set(error, status, "database", "failed to %s: %s (%d)", what, text, code);
}

enum status store_sql_run(struct store_sql *sql, const char *text, struct error *error) {
    int code = sqlite3_exec(sql->db, text, NULL, NULL, NULL);
    return code == SQLITE_OK ? STATUS_OK : store_sql_error(sql, code, "run a statement of the database", error);
}

enum status store_sql_open(struct store_sql *sql, const char *path, bool writable, struct error *error) {
    *sql = (struct store_sql){0};
    int flags = SQLITE_OPEN_NOMUTEX | (writable ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY);
    int code = sqlite3_open_v2(path, &sql->db, flags, NULL);
    enum status status;
    if (code != SQLITE_OK) {
        status = store_sql_error(sql, code, "open the database", error);
        goto fail;
    }
    sqlite3_extended_result_codes(sql->db, 1);
    sqlite3_busy_timeout(sql->db, BUSY_TIMEOUT_MS);
    if (writable) {
        status = store_sql_run(sql, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;",
                               error);
    } else {
        /* Debian's SQLite can corrupt a database with two checkpointers; a reader must not be one, not even on close. */
        code = sqlite3_db_config(sql->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        status = code == SQLITE_OK ? store_sql_run(sql, "PRAGMA query_only = ON;", error)
                                   : store_sql_error(sql, code, "set up the database connection", error);
    }
    if (status == STATUS_OK) {
        return STATUS_OK;
    }
fail:
    store_sql_close(sql);
    return status;
}

void store_sql_close(struct store_sql *sql) {
    for (size_t i = 0; i < sql->cached; i++) {
        sqlite3_finalize(sql->cache[i].statement);
    }
    sqlite3_close(sql->db);
    *sql = (struct store_sql){0};
}

enum status store_query_init_once(struct store_query *query, struct store_sql *sql, const char *text,
                                  struct error *error) {
    *query = (struct store_query){.sql = sql};
    int code = sqlite3_prepare_v2(sql->db, text, -1, &query->statement, NULL);
    return code == SQLITE_OK ? STATUS_OK : store_sql_error(sql, code, "prepare a statement of the database", error);
}

enum status store_query_init(struct store_query *query, struct store_sql *sql, const char *text, struct error *error) {
    for (size_t i = 0; i < sql->cached; i++) {
        if (sql->cache[i].text == text) {
            *query = (struct store_query){.sql = sql, .statement = sql->cache[i].statement, .cached = true};
            return STATUS_OK;
        }
    }
    enum status status = store_query_init_once(query, sql, text, error);
    if (status == STATUS_OK && sql->cached < STORE_SQL_CACHE) {
        sql->cache[sql->cached].text = text;
        sql->cache[sql->cached].statement = query->statement;
        sql->cached++;
        query->cached = true;
    }
    return status;
}

static void bound(struct store_query *query, int code) {
    if (query->code == SQLITE_OK) {
        query->code = code;
    }
}

void store_query_text(struct store_query *query, const char *text) {
    query->bound++;
    bound(query, text ? sqlite3_bind_text(query->statement, query->bound, text, -1, SQLITE_TRANSIENT)
                      : sqlite3_bind_null(query->statement, query->bound));
}

void store_query_i64(struct store_query *query, int64_t value) {
    query->bound++;
    bound(query, sqlite3_bind_int64(query->statement, query->bound, value));
}

void store_query_u64(struct store_query *query, uint64_t value) {
    int64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    store_query_i64(query, bits);
}

void store_query_real(struct store_query *query, double value) {
    query->bound++;
    bound(query, isnan(value) ? sqlite3_bind_null(query->statement, query->bound)
                              : sqlite3_bind_double(query->statement, query->bound, value));
}

void store_query_json(struct store_query *query, const json_t *value) {
    if (!value) {
        store_query_text(query, "{}");
        return;
    }
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    query->bound++;
    /* jansson's memory comes from malloc, so SQLite may free it. */
    bound(query, text ? sqlite3_bind_text(query->statement, query->bound, text, -1, free) : SQLITE_NOMEM);
}

enum status store_query_step(struct store_query *query, bool *row, struct error *error) {
    *row = false;
    if (query->code == SQLITE_OK) {
        int code = sqlite3_step(query->statement);
        if (code == SQLITE_ROW || code == SQLITE_DONE) {
            *row = code == SQLITE_ROW;
            return STATUS_OK;
        }
        query->code = code;
    }
    return store_sql_error(query->sql, query->code, "run a statement of the database", error);
}

enum status store_query_finish(struct store_query *query, size_t *changed, struct error *error) {
    bool row = true;
    enum status status = STATUS_OK;
    while (status == STATUS_OK && row) {
        status = store_query_step(query, &row, error);
    }
    if (status == STATUS_OK && changed) {
        *changed = (size_t)sqlite3_changes(query->sql->db);
    }
    store_query_end(query);
    return status;
}

void store_query_end(struct store_query *query) {
    if (query->statement && query->cached) {
        sqlite3_reset(query->statement);
        sqlite3_clear_bindings(query->statement);
    } else {
        sqlite3_finalize(query->statement);
    }
    query->statement = NULL;
}

int64_t store_column_i64(const struct store_query *query, int column) {
    return sqlite3_column_int64(query->statement, column);
}

uint64_t store_column_u64(const struct store_query *query, int column) {
    int64_t bits = sqlite3_column_int64(query->statement, column);
    uint64_t value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

double store_column_real(const struct store_query *query, int column) {
    return store_column_is_null(query, column) ? (double)NAN : sqlite3_column_double(query->statement, column);
}

bool store_column_is_null(const struct store_query *query, int column) {
    return sqlite3_column_type(query->statement, column) == SQLITE_NULL;
}

void store_column_text(const struct store_query *query, int column, char *out, size_t size) {
    const unsigned char *text = sqlite3_column_text(query->statement, column);
    snprintf(out, size, "%s", text ? (const char *)text : "");
}

enum status store_column_json(const struct store_query *query, int column, json_t **out, struct error *error) {
    const unsigned char *text = sqlite3_column_text(query->statement, column);
    if (!text) {
        return error_no_memory(error, "a column");
    }
    struct error why = {0};
    const size_t length = (size_t)sqlite3_column_bytes(query->statement, column);
    enum status status = json_read_text((const char *)text, length, out, &why);
    if (status != STATUS_OK) { /* what we have written ourselves: not the fault of who asks now */
        status = error_set(error, status == STATUS_NO_MEMORY ? status : STATUS_INTERNAL, "database",
                           "failed to read a column of the database: %s", why.message);
    }
    return status;
}
