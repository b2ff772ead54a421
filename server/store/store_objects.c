/* Models and samples: the same few statements over two tables. */
#include "server/store/store_objects.h"

#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "server/store/store_internal.h"

#define COLUMNS(table) table ".id, " table ".name, " table ".sha256, blobs.size, " table ".info, " table ".created_ms"
#define FROM(table) " FROM " table " JOIN blobs ON blobs.sha256 = " table ".sha256"

static const struct kind {
    const char *name;
    const char *prefix;
    const char *find;
    const char *find_by_sha256;
    const char *list;
    const char *insert;
    const char *in_use;
    const char *delete;
} KINDS[STORE_KIND_COUNT] = {
    [STORE_MODEL] =
        {
            .name = "model",
            .prefix = "mdl",
            .find = "SELECT " COLUMNS("models") FROM("models") " WHERE models.id = ?",
            .find_by_sha256 = "SELECT " COLUMNS("models") FROM("models") " WHERE models.sha256 = ?",
            .list = "SELECT " COLUMNS("models") FROM("models") " WHERE models.id < ? ORDER BY models.id DESC LIMIT ?",
            .insert = "INSERT INTO models (id, name, sha256, info, created_ms) VALUES (?, ?, ?, ?, ?)",
            .in_use = "SELECT 1 FROM jobs WHERE state IN ('queued', 'starting', 'running', 'cancelling', 'interrupted')"
                      " AND model_id = ?1 LIMIT 1",
            .delete = "DELETE FROM models WHERE id = ?",
        },
    [STORE_SAMPLES] =
        {
            .name = "samples",
            .prefix = "smp",
            .find = "SELECT " COLUMNS("samples") FROM("samples") " WHERE samples.id = ?",
            .find_by_sha256 = "SELECT " COLUMNS("samples") FROM("samples") " WHERE samples.sha256 = ?",
            .list =
                "SELECT " COLUMNS("samples") FROM("samples") " WHERE samples.id < ? ORDER BY samples.id DESC LIMIT ?",
            .insert = "INSERT INTO samples (id, name, sha256, info, created_ms) VALUES (?, ?, ?, ?, ?)",
            .in_use = "SELECT 1 FROM jobs WHERE state IN ('queued', 'starting', 'running', 'cancelling', 'interrupted')"
                      " AND (samples_id = ?1 OR probe_id = ?1) LIMIT 1",
            .delete = "DELETE FROM samples WHERE id = ?",
        },
};

const char *store_kind_name(enum store_kind kind) {
    return kind < STORE_KIND_COUNT ? KINDS[kind].name : "unknown";
}

void store_object_deinit(struct store_object *object) {
    json_decref(object->info);
    *object = (struct store_object){0};
}

void store_objects_free(struct store_object *objects, size_t count) {
    for (size_t i = 0; i < count; i++) {
        store_object_deinit(&objects[i]);
    }
    mem_free(objects);
}

static enum status read_row(const struct store_query *query, struct store_object *object, struct error *error) {
    *object = (struct store_object){0};
    store_column_text(query, 0, object->id, sizeof object->id);
    store_column_text(query, 1, object->name, sizeof object->name);
    store_column_text(query, 2, object->blob.sha256, sizeof object->blob.sha256);
    object->blob.size = store_column_u64(query, 3);
    object->created_ms = store_column_i64(query, 5);
    return store_column_json(query, 4, &object->info, error);
}

static enum status find_one(struct store_sql *sql, const char *statement, const char *what, const char *key,
                            struct store_object *object, struct error *error) {
    struct store_query query;
    bool row = false;
    enum status status = store_query_init(&query, sql, statement, error);
    if (status != STATUS_OK) {
        return status;
    }
    store_query_text(&query, key);
    status = store_query_step(&query, &row, error);
    if (status == STATUS_OK && !row) {
        status = error_set(error, STATUS_NOT_FOUND, "", "failed to find %s %.80s: there is none", what, key);
    } else if (status == STATUS_OK) {
        status = read_row(&query, object, error);
    }
    store_query_end(&query);
    return status;
}

static enum status find_in(struct store *store, const char *statement, const char *what, const char *key,
                           struct store_object *object, struct error *error) {
    struct store_sql *sql = NULL;
    enum status status = store_read_begin(store, &sql, error);
    if (status == STATUS_OK) {
        status = find_one(sql, statement, what, key, object, error);
    }
    store_read_end(store, sql);
    return status;
}

enum status store_object_find(struct store *store, enum store_kind kind, const char *id, struct store_object *object,
                              struct error *error) {
    return find_in(store, KINDS[kind].find, KINDS[kind].name, id, object, error);
}

enum status store_object_find_by_sha256(struct store *store, enum store_kind kind, const char *sha256,
                                        struct store_object *object, struct error *error) {
    return find_in(store, KINDS[kind].find_by_sha256, KINDS[kind].name, sha256, object, error);
}

/* --- inserting --- */

struct insertion {
    const struct kind *kind;
    const struct store_blob *blob;
    const char *name;
    const json_t *info;
    struct store_object *object;
    bool existed;
};

static enum status insert_row(struct store_write *write, const struct insertion *insertion, const char *id,
                              struct error *error) {
    struct store_query query;
    enum status status = store_blob_insert(write, insertion->blob, error);
    if (status == STATUS_OK) {
        status = store_query_init(&query, &write->sql, insertion->kind->insert, error);
    }
    if (status == STATUS_OK) {
        store_query_text(&query, id);
        store_query_text(&query, insertion->name);
        store_query_text(&query, insertion->blob->sha256);
        store_query_json(&query, insertion->info);
        store_query_i64(&query, clock_wall_ms());
        status = store_query_finish(&query, NULL, error);
    }
    return status;
}

static enum status insert(struct store_write *write, void *user, struct error *error) {
    struct insertion *insertion = user;
    struct error absent = {0};
    char id[ID_SIZE];
    enum status status = find_one(&write->sql, insertion->kind->find_by_sha256, insertion->kind->name,
                                  insertion->blob->sha256, insertion->object, &absent);
    insertion->existed = status == STATUS_OK;
    if (status == STATUS_OK) {
        return STATUS_OK;
    }
    if (status != STATUS_NOT_FOUND) {
        return error_set(error, status, absent.where, "%s", absent.message);
    }
    id_make(insertion->kind->prefix, id);
    status = insert_row(write, insertion, id, error);
    return status == STATUS_OK
               ? find_one(&write->sql, insertion->kind->find, insertion->kind->name, id, insertion->object, error)
               : status;
}

enum status store_object_insert(struct store *store, enum store_kind kind, struct store_upload *upload,
                                const char *name, const json_t *info, struct store_object *object, bool *existed,
                                struct error *error) {
    struct store_blob blob;
    struct store_object row = {0};
    struct insertion insertion = {
        .kind = &KINDS[kind], .blob = &blob, .name = name != NULL ? name : "", .info = info, .object = &row};
    if (strlen(insertion.name) >= STORE_NAME_SIZE) {
        return error_set(error, STATUS_LIMIT, "/name",
                         "failed to insert %s: got a name of %zu bytes, expected at most %d", KINDS[kind].name,
                         strlen(insertion.name), STORE_NAME_SIZE - 1);
    }
    json_t *text = json_string(insertion.name);
    if (text == NULL) {
        return error_set(error, STATUS_INVALID, "/name", "failed to insert %s: the name is not UTF-8",
                         KINDS[kind].name);
    }
    json_decref(text);
    enum status status = store_upload_finish(upload, &blob, error);
    if (status != STATUS_OK) {
        return status;
    }
    pthread_rwlock_rdlock(&store->blobs_lock);
    status = store_blob_link(store, store_upload_path(upload), &blob, error);
    if (status == STATUS_OK) {
        status = store_write_run(store, insert, &insertion, error);
    }
    pthread_rwlock_unlock(&store->blobs_lock);
    if (status != STATUS_OK) {
        store_object_deinit(&row);
        return status;
    }
    *object = row;
    *existed = insertion.existed;
    return STATUS_OK;
}

/* --- listing and deleting --- */

/* Reads up to `limit` rows; one more was asked for, to know whether there are more. */
static enum status read_page(struct store_query *query, size_t limit, struct store_object *objects, size_t *count,
                             bool *has_more, struct error *error) {
    bool row = false;
    enum status status = store_query_step(query, &row, error);
    while (status == STATUS_OK && row && *count < limit) {
        (*count)++;
        status = read_row(query, &objects[*count - 1], error);
        if (status == STATUS_OK) {
            status = store_query_step(query, &row, error);
        }
    }
    *has_more = row;
    return status;
}

enum status store_object_list(struct store *store, enum store_kind kind, const char *after, size_t limit,
                              struct store_object **objects, size_t *count, bool *has_more, struct error *error) {
    struct store_sql *sql = NULL;
    struct store_query query = {0};
    struct store_object *page = NULL;
    size_t rows = 0;
    bool more = false;
    if (limit < 1 || limit > STORE_LIST_MAX) {
        return error_set(error, STATUS_INVALID, "/limit", "failed to list %s: got a limit of %zu, expected 1 to %d",
                         KINDS[kind].name, limit, STORE_LIST_MAX);
    }
    page = mem_calloc(limit, sizeof(*page));
    enum status status = page != NULL ? store_read_begin(store, &sql, error) : error_no_memory(error, "a list");
    if (status == STATUS_OK) {
        status = store_query_init(&query, sql, KINDS[kind].list, error);
    }
    if (status == STATUS_OK) {
        store_query_text(&query, after != NULL ? after : "~"); /* '~' sorts after every id */
        store_query_i64(&query, (int64_t)limit + 1);
        status = read_page(&query, limit, page, &rows, &more, error);
    }
    store_query_end(&query);
    store_read_end(store, sql);
    if (status != STATUS_OK) {
        store_objects_free(page, rows);
        return status;
    }
    *objects = page;
    *count = rows;
    *has_more = more;
    return STATUS_OK;
}

struct deletion {
    const struct kind *kind;
    const char *id;
};

static enum status delete (struct store_write *write, void *user, struct error *error) {
    const struct deletion *deletion = user; struct store_query query; bool used = false; size_t changed = 0;
    enum status status = store_query_init(&query, &write->sql, deletion->kind->in_use, error);
    if (status != STATUS_OK){return status;}
store_query_text(&query, deletion->id);
status = store_query_step(&query, &used, error);
store_query_end(&query);
if (status == STATUS_OK && used) {
    return error_set(error, STATUS_CONFLICT, "", "failed to delete %s %.80s: a job that is not finished uses it",
                     deletion->kind->name, deletion->id);
}
if (status == STATUS_OK) {
    status = store_query_init(&query, &write->sql, deletion->kind->delete, error);
}
if (status == STATUS_OK) {
    store_query_text(&query, deletion->id);
    status = store_query_finish(&query, &changed, error);
}
if (status == STATUS_OK && changed == 0) {
    status = error_set(error, STATUS_NOT_FOUND, "", "failed to delete %s %.80s: there is none", deletion->kind->name,
                       deletion->id);
}
return status;
}

enum status store_object_delete(struct store *store, enum store_kind kind, const char *id, struct error *error) {
    struct deletion deletion = {.kind = &KINDS[kind], .id = id};
    return store_write_run(store, delete, &deletion, error);
}
