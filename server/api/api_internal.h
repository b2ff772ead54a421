/* What the files of this module share: the context, the handlers of the route table, and the way to the helper threads. */
#ifndef ONP_SERVER_API_API_INTERNAL_H
#define ONP_SERVER_API_API_INTERNAL_H

#include "common/digest.h"
#include "common/id.h"
#include "server/api/api.h"
#include "server/api/api_rate.h"
#include "server/store/store_jobs.h"
#include "server/store/store_objects.h"
#include "server/store/store_resumable.h"
#include "server/store/store_tokens.h"

enum { API_PRIORITY_MAX = 100, API_DEADLINE_MAX_S = 30 * 24 * 3600 };
enum { API_FIELD_SIZE = 64, API_FIELDS_MAX = 4, API_LIST_DEFAULT = 50, API_LOCATION_SIZE = STORE_LOCATION_SIZE };

/* A member of an answer that is given once and never kept. */
#define API_SECRET_MEMBER "token"

/* A token in memory; the row's used_ms is of now, noted_ms what the store has. */
struct api_token {
    struct store_token row;
    int64_t noted_ms;
};
struct api_token_set {
    struct api_token *items; /* newest first */
    size_t count;
};

struct api {
    struct api_config config;
    struct api_token_set tokens; /* loop thread */
    struct api_rate *rate;       /* NULL: no limit */
    bool has_token;
    char token_sha256[DIGEST_HEX_SIZE];
    bool draining;
    int64_t started_ms;
    /* The last look at readiness, so that probes do not queue behind uploads. Loop thread. */
    bool ready_known;
    double ready_checked;     /* clock_seconds() */
    struct error ready_error; /* status STATUS_OK: ready */
    struct api_busy_upload *busy_uploads;
    struct api_documents *documents; /* loop thread */
    double kept_house;               /* when api_tick() last looked for what is due */
};

/* --- tasks: calls that wait for the disk or a check run in a helper thread, and the request sleeps --- */

struct api_task {
    struct http_post post; /* back to the loop */
    struct api *api;
    struct http_server *server;
    struct http_hold *hold;
    void (*work)(struct api_task *task); /* helper thread; fills the answer below */
    void (*done)(struct api_task *task); /* loop thread, before the answer is sent; may be NULL */
    void (*end)(struct api_task *task);  /* loop thread, whatever became of it; may be NULL */
    void *user;                          /* for these */

    /* what work() gets */
    enum store_kind kind;
    char id[ID_SIZE];
    char name[STORE_NAME_SIZE];
    char expected_sha256[DIGEST_HEX_SIZE];            /* of Content-Digest; "" if none */
    struct store_upload *upload;                      /* owned */
    char subject[ID_SIZE];                            /* who asks */
    char idempotency_key[STORE_IDEMPOTENCY_KEY_SIZE]; /* "": none */
    char fingerprint[DIGEST_HEX_SIZE];                /* of the request, for its key */
    bool holds_key;                                   /* it is the first with its key */
    json_t *body;                                     /* owned */
    long layer;                                       /* of a graph; -1: none in particular */
    bool counted;                                     /* its bytes are in store_bytes() already */
    uint64_t length;                                  /* of an upload to come */
    char metadata[STORE_METADATA_SIZE];               /* the same */

    /* what it answers: error.status STATUS_OK and code with reply (204 without), or the error, with code 0 for the usual one */
    struct error error;
    unsigned code;
    json_t *reply;
    char location[API_LOCATION_SIZE];
    bool replayed; /* it is the answer to an earlier request */
    struct {
        const char *name; /* literal */
        char value[API_FIELD_SIZE];
    } fields[API_FIELDS_MAX]; /* more header fields of it */
    size_t field_count;
};

/* A task of this request, or NULL after replying 503 (no memory, draining). */
struct api_task *api_task_new(struct http_request *request, struct api *api, void (*work)(struct api_task *task));
/* Holds the request and starts the task, or replies with why not. Takes the task. */
void api_task_start(struct http_request *request, struct api_task *task);

/* A header field of the answer of a task; `name` is a literal. */
void api_task_field(struct api_task *task, const char *name, const char *value);

/* --- resumable uploads (api_uploads.c, api_upload_piece.c) --- */

#define API_TUS_VERSION "1.0.0"
static const int64_t API_UPLOAD_LIFETIME_MS = 24 * 3600 * (int64_t)1000; /* from its last piece */

/* Uploads that a request is at work on. Loop thread. */
struct api_busy_upload {
    struct api_busy_upload *next;
    char id[ID_SIZE];
};
/* False: another request is at work on it. */
bool api_upload_lock(struct api *api, const char *id);
void api_upload_unlock(struct api *api, const char *id);
/* The upload of the path; false after replying. */
bool api_upload_find(struct http_request *request, struct api *api, struct store_resumable *upload);
/* Whether the client speaks our version of the protocol; false after replying 412. */
bool api_upload_speaks(struct http_request *request);
/* For Upload-Expires: "Wed, 25 Jun 2014 16:00:00 GMT". */
void api_upload_expires(int64_t wall_ms, char out[API_FIELD_SIZE]);

/* api_documents.c: the document of a job, borrowed until the next call; NULL with the error. Loop thread. */
struct api_documents *api_documents_new(void);
void api_documents_free(struct api_documents *documents); /* accepts NULL */
const struct http_document *api_documents_job(struct api *api, const char *id, struct error *error);

/* api_limits.c: whether `bytes` more may be stored: STATUS_UNAVAILABLE if the disk is low, STATUS_LIMIT over the quota. Reads only, does not
 * wait. */
enum status api_room_check(struct api *api, uint64_t bytes, struct error *error);

/* --- idempotency keys (api_idempotency.c) --- */

/* Whether a key is 1 to STORE_IDEMPOTENCY_KEY_SIZE - 1 visible characters; STATUS_INVALID. Pure. */
enum status api_idempotency_key_check(const char *key, struct error *error);
/* Loop thread: the key of a POST into the task; false after replying that it is malformed. */
bool api_idempotency_read(struct http_request *request, struct api_task *task);
/* Helper thread, for tasks with a key: true if the work is to be done; else the task has its answer. */
bool api_idempotency_enter(struct api_task *task);
/* After the work: keeps its answer. */
void api_idempotency_leave(struct api_task *task);

/* --- parts of requests --- */

/* ?limit= and ?after= of a list; `prefix` of the ids, NULL: any number (events). */
struct api_page {
    size_t limit;
    const char *after; /* NULL: from the start */
};
enum status api_read_page(struct http_request *request, const char *prefix, struct api_page *page, struct error *error);
/* {"data": [...], "has_more", "next_after"}; takes `data`; `last` may be NULL. */
json_t *api_list_json(json_t *data, bool has_more, json_t *last);
/* The id of the path; replies 404 and gives NULL if it is not one of this prefix. */
const char *api_path_id(struct http_request *request, const char *prefix);
/* Replies 400 to an error of how the request is written. */
void api_reply_malformed(struct http_request *request, const struct error *error);

/* --- tokens (api_tokens.c); loop thread --- */

/* Reads the set from the store. */
enum status api_tokens_load(struct api *api, struct error *error);
/* The token whose secret has this hash, or NULL. */
struct api_token *api_tokens_find(struct api *api, const char *sha256);
/* Those whose use is to be written down, as an array that is the caller's (mem_free()). */
size_t api_tokens_take_used(struct api *api, struct store_token **rows);

/* api_housekeep.c: what is left to write at the end. */
void api_housekeep_last(struct api *api);

/* --- documents; new references, NULL without memory --- */

json_t *api_time_json(int64_t wall_ms); /* RFC 3339, null for 0 */
json_t *api_object_json(enum store_kind kind, const struct store_object *object);
json_t *api_job_json(const struct store_job *job);
json_t *api_event_json(const struct store_event *event);

/* api_job_request.c: reads the body of POST /v1/jobs; strings are borrowed from `body`, from which optional members that are null are
 * removed. */
enum status api_job_request_read(json_t *body, struct store_job_request *request, struct error *error);

/* api_objects.c: models and samples are two tables of one shape. */
void api_objects_begin(struct http_request *request, struct api *api, enum store_kind kind);
void api_objects_create(struct http_request *request, struct api *api, enum store_kind kind);
void api_objects_list(struct http_request *request, struct api *api, enum store_kind kind);
void api_objects_get(struct http_request *request, struct api *api, enum store_kind kind);
void api_objects_content(struct http_request *request, struct api *api, enum store_kind kind);
void api_objects_delete(struct http_request *request, struct api *api, enum store_kind kind);
/* Helper thread: makes task->upload an object of task->kind, after all checks. */
void api_object_create_work(struct api_task *task);

/* --- handlers, one file a resource --- */

http_handler api_models_begin, api_models_create, api_models_list, api_models_get, api_models_content,
    api_models_delete;
http_handler api_samples_begin, api_samples_create, api_samples_list, api_samples_get, api_samples_content,
    api_samples_delete;
http_handler api_jobs_create, api_jobs_list, api_jobs_get, api_jobs_cancel, api_jobs_retry, api_jobs_delete;
http_handler api_uploads_options, api_uploads_create, api_uploads_head, api_uploads_patch_begin, api_uploads_patch,
    api_uploads_delete, api_uploads_complete;
http_handler api_models_graph, api_problems_get;
http_handler api_tokens_create, api_tokens_list, api_tokens_get, api_tokens_delete;
http_handler api_events_get;
http_handler api_result_get, api_artifacts_list, api_artifacts_get;
http_handler api_capabilities_get;
http_handler api_health_live, api_health_ready, api_health_server;
http_handler api_metrics_get;
http_handler api_openapi_get;
http_handler api_dashboard_index, api_dashboard_file;

/* api_metrics_work.c: store, queue, stages and disk. */
void api_metrics_put_work(struct buf *out, struct api *api);

#endif
