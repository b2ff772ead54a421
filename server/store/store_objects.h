/* Models and samples: two tables of the same shape, one row an uploaded file. */
#ifndef ONP_SERVER_STORE_STORE_OBJECTS_H
#define ONP_SERVER_STORE_STORE_OBJECTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/id.h"
#include "server/store/store.h"

enum store_kind { STORE_MODEL, STORE_SAMPLES, STORE_KIND_COUNT };
/* "model", "samples". */
const char *store_kind_name(enum store_kind kind);

enum { STORE_NAME_SIZE = 256, STORE_LIST_MAX = 200 };

struct store_object {
    char id[ID_SIZE];           /* mdl_... or smp_... */
    char name[STORE_NAME_SIZE]; /* what the user calls it; may be "" */
    struct store_blob blob;
    json_t *info; /* what checking it found (mitigate_check_model, mitigate_check_samples); an object */
    int64_t created_ms;
};

/* Frees what the struct holds and clears it. */
void store_object_deinit(struct store_object *object);

/* Makes an upload an object: finishes it, moves the file to its blob and inserts the row. If the same bytes are there
 * already, that row is returned as it is and *existed is true. `info` is borrowed; name may be NULL. Afterwards call
 * store_upload_abort() as always. *object is the caller's (store_object_deinit()). STATUS_LIMIT: name too long. */
enum status store_object_insert(struct store *store, enum store_kind kind, struct store_upload *upload,
                                const char *name, const json_t *info, struct store_object *object, bool *existed,
                                struct error *error);

/* STATUS_NOT_FOUND if there is none. */
enum status store_object_find(struct store *store, enum store_kind kind, const char *id, struct store_object *object,
                              struct error *error);
enum status store_object_find_by_sha256(struct store *store, enum store_kind kind, const char *sha256,
                                        struct store_object *object, struct error *error);

/* A page, newest first: up to `limit` (1..STORE_LIST_MAX) rows older than id `after` (NULL: from the newest; an id that is
 * gone still marks its place). *objects (mem_alloc'd, each with store_object_deinit(); or store_objects_free()) and
 * *count are written on success; *has_more tells whether there are older ones. */
enum status store_object_list(struct store *store, enum store_kind kind, const char *after, size_t limit,
                              struct store_object **objects, size_t *count, bool *has_more, struct error *error);
void store_objects_free(struct store_object *objects, size_t count);

/* Deletes the row. STATUS_NOT_FOUND; STATUS_CONFLICT while a job that is not finished uses it. Finished jobs keep their
 * result and the id. The bytes go with the next store_collect_blobs(). */
enum status store_object_delete(struct store *store, enum store_kind kind, const char *id, struct error *error);

#endif
