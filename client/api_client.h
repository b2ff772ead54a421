/* The REST interface of onpd over libcurl: JSON calls over TCP, TLS or a unix socket. Files go through api_upload.h and
 * api_download.h. One thread at a time. */
#ifndef ONP_CLIENT_API_CLIENT_H
#define ONP_CLIENT_API_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct api_client;

enum { API_ETAG_SIZE = 128, API_PATH_SIZE = 1024, API_PATIENCE_S = 15 };

struct api_reply {
    long code;                /* HTTP status: 2xx or 304 */
    json_t *body;             /* the caller's (json_decref()); NULL for 204 and 304 */
    char etag[API_ETAG_SIZE]; /* with its quotes; "" if none */
};

/* Called some ten times a second while a request runs. done, total: bytes of the file that travels (total 0: not
 * known). waiting: the last try failed, and the next has not begun. Returning false stops the request with STATUS_CANCELLED. */
struct api_hooks {
    void *user;
    bool (*tick)(void *user, uint64_t done, uint64_t total, bool waiting);
};

/* server: "http://host:port", "https://...", "host:port", "unix:/path/to/socket", "http+unix://%2Fpath". token: NULL or ""
 * for none. */
enum status api_client_new(const char *server, const char *token, struct api_client **out, struct error *error);
void api_client_free(struct api_client *client);
/* Borrowed until it is replaced; NULL: none. */
void api_client_set_hooks(struct api_client *client, const struct api_hooks *hooks);
/* For how long calls try to reach a server again that has answered before (at first API_PATIENCE_S); 0: not at all. */
void api_client_set_patience(struct api_client *client, double seconds);
/* The server as it was given; borrowed. */
const char *api_client_server(const struct api_client *client);

/* One JSON call. `path` starts with '/' and is already escaped; `body` NULL: none. `etag` NULL or "": unconditional.
 * timeout_s bounds each try. Answers 429 and 503 with a short Retry-After are tried again a few times, and so is a call whose
 * connection broke, for as long as api_client_set_patience() says; a POST carries the same Idempotency-Key each time. An answer that is not a success is decoded into `error` (problem.h); STATUS_UNAVAILABLE if
 * the server was not reached. */
enum status api_client_call(struct api_client *client, const char *method, const char *path, const json_t *body,
                            const char *etag, double timeout_s, struct api_reply *reply, struct error *error);
/* POST with an Idempotency-Key of the caller's. */
enum status api_client_post(struct api_client *client, const char *path, const json_t *body, const char *key,
                            struct api_reply *reply, struct error *error);
/* GET; on success *out is a new reference. */
enum status api_client_get(struct api_client *client, const char *path, json_t **out, struct error *error);
/* Builds "/v1/jobs/<word><suffix>" with `word` escaped; STATUS_LIMIT if it does not fit. suffix may hold a query. */
enum status api_path(char out[API_PATH_SIZE], const char *base, const char *word, const char *suffix,
                     struct error *error);
/* Escapes a word for a query or a path segment; false if it does not fit. */
bool api_escape(char *out, size_t size, const char *word);

#endif
