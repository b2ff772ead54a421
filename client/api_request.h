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

struct api_client {
    CURLM *multi; /* keeps connections between requests */
    CURL *easy;
    char *server;        /* as given */
    char *base;          /* "http://localhost:8080" */
    char *socket_path;   /* or NULL */
    bool is_local;       /* loopback or socket: proxies of the environment are not for it */
    char *authorization; /* header line, or NULL */
    const struct api_hooks *hooks;
};

struct api_request {
    const char *method;
    const char *path;
    const char *etag; /* or NULL */
    const char *text; /* JSON body, or NULL */
    size_t text_length;
    const char *key; /* Idempotency-Key, or NULL */
    int upload_fd;   /* -1: none */
    uint64_t upload_size;
    struct digest *digest; /* of what was uploaded; or NULL */
    int download_fd;       /* -1: the answer goes to `body` */
    double timeout_s;      /* 0: only stalls are timed out */

    /* The answer. */
    struct buf body;
    long code;
    char reply_etag[API_ETAG_SIZE];
    long retry_after_s;
    uint64_t moved; /* bytes of the file so far */
    uint64_t total;
    enum status io_status; /* of reading or writing the file */
    struct error *error;
    struct api_client *client;
};

void api_request_init(struct api_request *request, const char *method, const char *path);
void api_request_deinit(struct api_request *request);
/* Sends and receives. STATUS_OK means that there is an answer, whatever its code. */
enum status api_request_run(struct api_client *client, struct api_request *request, struct error *error);

#endif
