/* Brings a database to the newest schema. Each migration is one SQL file named NNNN_what.sql; PRAGMA user_version says
 * which was applied last. All that are missing go in one transaction, so a crash leaves the old schema or the new. */
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"
#include "common/parse.h"
#include "server/store/store_internal.h"

enum { NUMBER_DIGITS = 4, NUMBER_MAX = 9999 };

static enum status number_of(const struct embedded_file *file, uint64_t expected, struct error *error) {
    char digits[NUMBER_DIGITS + 1] = {0};
    uint64_t number = 0;
    if (strlen(file->name) > NUMBER_DIGITS) {
        memcpy(digits, file->name, NUMBER_DIGITS);
    }
    if (!parse_u64(digits, NUMBER_MAX, &number) || file->name[NUMBER_DIGITS] != '_' || number != expected) {
        return error_set(error, STATUS_INTERNAL, file->name,
                         "failed to read the number of a migration: got '%s', expected %04llu_<what>.sql", file->name,
                         (unsigned long long)expected);
    }
    return STATUS_OK;
}

static enum status version_of(struct store_sql *sql, uint64_t *version, struct error *error) {
    struct store_query query;
    bool row = false;
    enum status status = store_query_init(&query, sql, "PRAGMA user_version", error);
    if (status == STATUS_OK) {
        status = store_query_step(&query, &row, error);
    }
    if (status == STATUS_OK) {
        *version = row ? store_column_u64(&query, 0) : 0;
    }
    store_query_end(&query);
    return status;
}

static enum status apply(struct store_sql *sql, const struct embedded_file *file, uint64_t number,
                         struct error *error) {
    char pragma[64];
    (void)snprintf(pragma, sizeof pragma, "PRAGMA user_version = %llu", (unsigned long long)number);
    /* Embedded files end with a NUL. */
    enum status status = store_sql_run(sql, (const char *)file->data, error);
    if (status == STATUS_OK) {
        status = store_sql_run(sql, pragma, error);
    }
    if (status == STATUS_OK) {
        log_event(LOG_INFO, "migration_applied", "database migration %s applied", file->name);
    }
    return status;
}

enum status store_migrate(struct store_sql *sql, const struct embedded_file *migrations, struct error *error) {
    uint64_t newest = 0;
    uint64_t version = 0;
    enum status status = STATUS_OK;
    for (const struct embedded_file *file = migrations; file->name != NULL; file++) {
        status = number_of(file, ++newest, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    status = store_sql_run(sql, "BEGIN IMMEDIATE", error);
    if (status != STATUS_OK) {
        return status;
    }
    status = version_of(sql, &version, error);
    if (status == STATUS_OK && version > newest) {
        status = error_set(error, STATUS_UNSUPPORTED, "database",
                           "failed to open the database: got schema %llu of a newer release, expected at most %llu",
                           (unsigned long long)version, (unsigned long long)newest);
    }
    for (uint64_t i = version; status == STATUS_OK && i < newest; i++) {
        status = apply(sql, &migrations[i], i + 1, error);
    }
    if (status == STATUS_OK) {
        status = store_sql_run(sql, "COMMIT", error);
    }
    if (status != STATUS_OK) {
        (void)store_sql_run(sql, "ROLLBACK", NULL);
    }
    return status;
}
