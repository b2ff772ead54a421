/* Inside of api_client: one request and its answer, driven by libcurl's multi interface so that hooks run meanwhile. */
#ifndef ONP_CLIENT_API_REQUEST_H
#define ONP_CLIENT_API_REQUEST_H

#include <curl/curl.h>
#include <stdbool.h>
#include <stdint.h>

#include "client/api_client.h"
#include "common/buf.h"
#include "common/digest.h"
#include "common/error.h"

enum { API_FIELDS_MAX = 4, API_REPLY_FIELD_SIZE = API_ETAG_SIZE, API_RETRY_AFTER_MAX_S = 10, API_BUSY_TRIES = 4 };

struct api_client {
    CURLM *multi; /* keeps connections between requests */
    CURL *easy;
    char *server;        /* as given */
    char *base;          /* "http://localhost:8080" */
    char *socket_path;   /* or NULL */
    bool is_local;       /* loopback or socket: proxies of the environment are not for it */
    char *authorization; /* header line, or NULL */
    const struct api_hooks *hooks;
    double patience_s; /* for which a server that answered before may be away */
    bool reached;      /* it has answered */
};

struct api_field {
    const char *name;
    const char *value;
};

struct api_request {
    const char *method;
    const char *path;
    const char *etag; /* or NULL */
    const char *text; /* JSON body, or NULL */
    size_t text_length;
    const char *key;                         /* Idempotency-Key, or NULL */
    struct api_field fields[API_FIELDS_MAX]; /* more header fields; the first without a name ends them */
    int upload_fd;                           /* -1: none */
    int download_fd;                         /* where a 200 or 206 goes; -1: to `body`, as all other answers do */
    uint64_t from;                           /* byte of the file where sending or receiving begins */
    uint64_t size;                           /* of the whole file to upload */
    struct digest *digest;                   /* of what was downloaded so far, `from` bytes included; or NULL */
    bool may_start_over;                     /* what is downloaded may be overwritten from its first byte */
    double timeout_s;                        /* 0: only stalls are timed out */

    /* The answer. */
    struct buf body;
    long code;
    char reply_etag[API_REPLY_FIELD_SIZE]; /* of the header: "" if there is none */
    char reply_location[API_REPLY_FIELD_SIZE];
    char reply_offset[API_REPLY_FIELD_SIZE]; /* Upload-Offset */
    long retry_after_s;
    bool lost;      /* the connection was made and then broke: what was asked for may have been done */
    uint64_t moved; /* up to which byte the file has travelled */
    uint64_t total;
    enum status io_status; /* of reading or writing the file */
    struct error *error;
    struct api_client *client;
};

void api_request_init(struct api_request *request, const char *method, const char *path);
void api_request_deinit(struct api_request *request);
/* Sends and receives. STATUS_OK means that there is an answer, whatever its code. */
enum status api_request_run(struct api_client *client, struct api_request *request, struct error *error);
/* 2xx, and 304. */
bool api_request_succeeded(const struct api_request *request);
/* 429, 502, 503, 504 with no more than a short Retry-After: worth another try. */
bool api_request_is_busy(const struct api_request *request);
/* The body as JSON; *out is NULL for an answer without one. */
enum status api_request_json(const struct api_request *request, json_t **out, struct error *error);
/* Decodes an answer that is not a success (problem.h). */
enum status api_request_problem(const struct api_request *request, struct error *error);
/* Waits before another try, with the hooks running. false: a hook or a signal asks for the end. */
bool api_request_pause(const struct api_client *client, const struct api_request *request, double seconds);

#endif
