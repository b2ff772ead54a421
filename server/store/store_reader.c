/* Read-only connections: taken for one call, kept for the next. In WAL mode they never wait for the writer, and each
 * query sees the database as of one commit. */
#include "common/mem.h"
#include "server/store/store_internal.h"

enum status store_read_begin(struct store *store, struct store_sql **sql, struct error *error) {
    struct store_sql *reader = NULL;
    pthread_mutex_lock(&store->readers_lock);
    if (store->idle_count > 0) {
        reader = store->idle[--store->idle_count];
    }
    pthread_mutex_unlock(&store->readers_lock);
    if (reader == NULL) {
        reader = mem_calloc(1, sizeof(*reader));
        if (reader == NULL) {
            return error_no_memory(error, "a database connection");
        }
        enum status status = store_sql_open(reader, store->database, false, error);
        if (status != STATUS_OK) {
            mem_free(reader);
            return status;
        }
    }
    *sql = reader;
    return STATUS_OK;
}

void store_read_end(struct store *store, struct store_sql *sql) {
    if (sql == NULL) {
        return;
    }
    bool kept = false;
    pthread_mutex_lock(&store->readers_lock);
    if (store->idle_count < STORE_READERS_IDLE) {
        store->idle[store->idle_count++] = sql;
        kept = true;
    }
    pthread_mutex_unlock(&store->readers_lock);
    if (!kept) {
        store_sql_close(sql);
        mem_free(sql);
    }
}

void store_readers_close(struct store *store) {
    for (size_t i = 0; i < store->idle_count; i++) {
        store_sql_close(store->idle[i]);
        mem_free(store->idle[i]);
    }
    store->idle_count = 0;
}
