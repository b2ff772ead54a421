/* A SQLite connection and queries on it, with our status and errors. Inside the store only. */
#ifndef ONP_SERVER_STORE_STORE_SQL_H
#define ONP_SERVER_STORE_STORE_SQL_H

#include <jansson.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

enum { STORE_SQL_CACHE = 64 };

/* One connection; one thread at a time. */
struct store_sql {
    sqlite3 *db;
    struct {
        const char *text;
        sqlite3_stmt *statement;
    } cache[STORE_SQL_CACHE];
    size_t cached;
};

/* writable: makes the file and sets it to WAL; else read-only, and never checkpoints. */
enum status store_sql_open(struct store_sql *sql, const char *path, bool writable, struct error *error);
void store_sql_close(struct store_sql *sql);
/* Runs statements that give no rows. */
enum status store_sql_run(struct store_sql *sql, const char *text, struct error *error);
/* Records the connection's latest error, `code`, as "failed to <what>: ...". */
enum status store_sql_error(struct store_sql *sql, int code, const char *what, struct error *error);

/* A prepared statement in use. Values are bound in the order of the calls; the first failure is kept and reported by
 * the next step. */
struct store_query {
    struct store_sql *sql;
    sqlite3_stmt *statement;
    int bound;
    int code;
    bool cached;
};

/* `text` must be a literal: the statement is kept and found again by its address. */
enum status store_query_init(struct store_query *query, struct store_sql *sql, const char *text, struct error *error);
/* For texts that are put together; the statement is not kept. */
enum status store_query_init_once(struct store_query *query, struct store_sql *sql, const char *text,
                                  struct error *error);
void store_query_text(struct store_query *query, const char *text); /* NULL: null */
void store_query_i64(struct store_query *query, int64_t value);
void store_query_u64(struct store_query *query, uint64_t value);       /* by its bit pattern */
void store_query_real(struct store_query *query, double value);        /* NaN: null */
void store_query_json(struct store_query *query, const json_t *value); /* NULL: "{}" */
/* *row: whether there is a row to read. */
enum status store_query_step(struct store_query *query, bool *row, struct error *error);
/* Steps to the end and ends the query; *changed (may be NULL): rows that it changed. */
enum status store_query_finish(struct store_query *query, size_t *changed, struct error *error);
/* Must be called for each query that was started; a second call does nothing. */
void store_query_end(struct store_query *query);

/* Columns of the current row, from 0. */
int64_t store_column_i64(const struct store_query *query, int column);
uint64_t store_column_u64(const struct store_query *query, int column);
double store_column_real(const struct store_query *query, int column); /* null: NaN */
bool store_column_is_null(const struct store_query *query, int column);
/* Copies text, cut to `size` (null: ""). */
void store_column_text(const struct store_query *query, int column, char *out, size_t size);
/* New reference. */
enum status store_column_json(const struct store_query *query, int column, json_t **out, struct error *error);

#endif
