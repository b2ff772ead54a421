/* The REST interface of onpd over libcurl: JSON calls, uploads from files, downloads to files; over TCP, TLS or a unix
 * socket. One thread at a time. */
#ifndef ONP_CLIENT_API_CLIENT_H
#define ONP_CLIENT_API_CLIENT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct api_client;

enum { API_ETAG_SIZE = 128, API_PATH_SIZE = 1024 };

struct api_reply {
    long code;                /* HTTP status: 2xx or 304 */
    json_t *body;             /* the caller's (json_decref()); NULL for 204 and 304 */
    char etag[API_ETAG_SIZE]; /* with its quotes; "" if none */
};

/* Called some ten times a second while a request runs. done, total: bytes of the file that travels (total 0: not
 * known). Returning false stops the request with STATUS_CANCELLED. */
struct api_hooks {
    void *user;
    bool (*tick)(void *user, uint64_t done, uint64_t total);
};

/* server: "http://host:port", "https://...", "host:port", "unix:/path/to/socket", "http+unix://%2Fpath". token: NULL or ""
 * for none. */
enum status api_client_new(const char *server, const char *token, struct api_client **out, struct error *error);
void api_client_free(struct api_client *client);
/* Borrowed until it is replaced; NULL: none. */
void api_client_set_hooks(struct api_client *client, const struct api_hooks *hooks);
/* The server as it was given; borrowed. */
const char *api_client_server(const struct api_client *client);

/* One JSON call. `path` starts with '/' and is already escaped; `body` NULL: none. `etag` NULL or "": unconditional.
 * timeout_s bounds the whole call. Answers 429 and 503 with a short Retry-After are tried again a few times. An answer that
 * is not a success is decoded into `error` (problem.h); STATUS_UNAVAILABLE if the server was not reached. */
enum status api_client_call(struct api_client *client, const char *method, const char *path, const json_t *body,
                            const char *etag, double timeout_s, struct api_reply *reply, struct error *error);
/* GET; on success *out is a new reference. */
enum status api_client_get(struct api_client *client, const char *path, json_t **out, struct error *error);
/* POSTs a regular file as application/octet-stream, streamed. The answer's "sha256", if it has one, must be that of the
 * bytes that were sent. On success *out is a new reference. */
enum status api_client_upload(struct api_client *client, const char *path, const char *file, json_t **out,
                              struct error *error);
/* GETs into a file: a temporary file beside it, synced and renamed when it is whole. file "-": standard output. */
enum status api_client_download(struct api_client *client, const char *path, const char *file, struct error *error);

/* Builds "/v1/jobs/<word><suffix>" with `word` escaped; STATUS_LIMIT if it does not fit. suffix may hold a query. */
enum status api_path(char out[API_PATH_SIZE], const char *base, const char *word, const char *suffix,
                     struct error *error);
/* Escapes a word for a query or a path segment; false if it does not fit. */
bool api_escape(char *out, size_t size, const char *word);

#endif
