/* A cache in the database: whatever is in it can be computed again. */
#include "server/store/store_graphs.h"

#include "server/store/store_internal.h"

enum status store_graph_find(struct store *store, const char *sha256, long layer, json_t **graph, struct error *error) {
    struct store_sql *sql = NULL;
    struct store_query query = {0};
    bool row = false;
    enum status status = store_read_begin(store, &sql, error);
    if (status == STATUS_OK) {
        status = store_query_init(&query, sql, "SELECT graph FROM graphs WHERE sha256 = ? AND layer = ?", error);
    }
    if (status == STATUS_OK) {
        store_query_text(&query, sha256);
        store_query_i64(&query, layer);
        status = store_query_step(&query, &row, error);
    }
    if (status == STATUS_OK) {
        status = row ? store_column_json(&query, 0, graph, error) : STATUS_NOT_FOUND;
    }
    store_query_end(&query);
    store_read_end(store, sql);
    return status;
}

struct keeping {
    const char *sha256;
    long layer;
    const json_t *graph;
};

static enum status keep(struct store_write *write, void *user, struct error *error) {
    const struct keeping *keeping = user;
    struct store_query query;
    enum status status = store_query_init(&query, &write->sql,
                                          "INSERT OR REPLACE INTO graphs (sha256, layer, graph)"
                                          " SELECT ?1, ?2, ?3 WHERE EXISTS (SELECT 1 FROM models WHERE sha256 = ?1)",
                                          error);
    if (status == STATUS_OK) {
        store_query_text(&query, keeping->sha256);
        store_query_i64(&query, keeping->layer);
        store_query_json(&query, keeping->graph);
        status = store_query_finish(&query, NULL, error);
    }
    return status;
}

enum status store_graph_insert(struct store *store, const char *sha256, long layer, const json_t *graph,
                               struct error *error) {
    struct keeping keeping = {.sha256 = sha256, .layer = layer, .graph = graph};
    return store_write_run(store, keep, &keeping, error);
}
