/* One HTTP exchange. Bodies go through small callbacks, never whole into memory: a model may have gigabytes. What the
 * server answers in JSON is bounded. */
#include "client/api_request.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "client/interrupt.h"
#include "client/problem.h"
#include "common/clock.h"
#include "common/file.h"
#include "common/json_read.h"
#include "common/words.h"

enum {
    JSON_MAX = 64 << 20, /* a report of a large network with its curve stays far below */
    TICK_MS = 100,
    CONNECT_TIMEOUT_MS = 10000,
    STALL_S = 300, /* the server may check a large model before it answers */
};

void api_request_init(struct api_request *request, const char *method, const char *path) {
    *request = (struct api_request){.method = method, .path = path, .upload_fd = -1, .download_fd = -1};
    buf_init(&request->body, JSON_MAX);
}

void api_request_deinit(struct api_request *request) {
    buf_deinit(&request->body);
}

static size_t on_read(char *out, size_t size, size_t count, void *user) {
    struct api_request *request = user;
    ssize_t got = 0;
    do {
        got = read(request->upload_fd, out, size * count);
    } while (got < 0 && errno == EINTR);
    if (got < 0) {
        request->io_status = error_io(request->error, NULL, "failed to read the file to upload");
        return CURL_READFUNC_ABORT;
    }
    request->moved += (uint64_t)got;
    return (size_t)got;
}

/* libcurl rewinds when a connection that it reused turns out to be closed. */
static int on_seek(void *user, curl_off_t offset, int origin) {
    struct api_request *request = user;
    off_t place = (off_t)request->from;
    if (origin != SEEK_SET || offset != 0 || lseek(request->upload_fd, place, SEEK_SET) != place) {
        return CURL_SEEKFUNC_FAIL;
    }
    request->moved = request->from;
    return CURL_SEEKFUNC_OK;
}

/* The server gives the whole file where the rest of it was asked for: what is there is of another one. */
static bool start_over(struct api_request *request) {
    if (!request->may_start_over || lseek(request->download_fd, 0, SEEK_SET) != 0 ||
        ftruncate(request->download_fd, 0) != 0) {
        request->io_status = error_set(request->error, STATUS_CONFLICT, request->path,
                                       "failed to go on with the download: got another file, expected the same");
        return false;
    }
    if (request->digest != NULL) {
        digest_reset(request->digest);
    }
    request->from = 0;
    request->moved = 0;
    return true;
}

static size_t on_write(char *data, size_t size, size_t count, void *user) {
    struct api_request *request = user;
    size_t length = size * count;
    long code = 0;
    (void)curl_easy_getinfo(request->client->easy, CURLINFO_RESPONSE_CODE, &code);
    if (request->download_fd < 0 || (code != 200 && code != 206)) {
        if (!buf_append(&request->body, data, length)) {
            request->io_status = error_set(request->error, STATUS_LIMIT, request->path,
                                           "failed to read the answer to %s: got more than %d bytes, expected fewer",
                                           request->path, JSON_MAX);
            return 0;
        }
        return length;
    }
    if (code == 200 && request->from > 0 && !start_over(request)) {
        return 0;
    }
    if (!file_write_all(request->download_fd, data, length)) {
        request->io_status = error_io(request->error, NULL, "failed to write the download");
        return 0;
    }
    if (request->digest != NULL) {
        digest_update(request->digest, data, length);
    }
    request->moved += length;
    return length;
}

/* Takes the value of a header line if it is of this name and fits. */
static void take_field(char out[API_REPLY_FIELD_SIZE], const char *name, const char *line, size_t length) {
    size_t at = strlen(name);
    if (length <= at || line[at] != ':' || strncasecmp(line, name, at) != 0) {
        return;
    }
    at++;
    while (at < length && (line[at] == ' ' || line[at] == '\t')) {
        at++;
    }
    while (length > at && strchr("\r\n ", line[length - 1]) != NULL) {
        length--;
    }
    if (length - at < API_REPLY_FIELD_SIZE) {
        memcpy(out, line + at, length - at);
        out[length - at] = '\0';
    }
}

static size_t on_header(char *data, size_t size, size_t count, void *user) {
    struct api_request *request = user;
    take_field(request->reply_etag, "etag", data, size * count);
    take_field(request->reply_location, "location", data, size * count);
    take_field(request->reply_offset, "upload-offset", data, size * count);
    return size * count;
}

static void learn_total(const struct api_client *client, struct api_request *request) {
    curl_off_t total = 0;
    if (request->download_fd >= 0 && request->total == 0 &&
        curl_easy_getinfo(client->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &total) == CURLE_OK && total > 0) {
        request->total = request->from + (uint64_t)total;
    }
}

static bool tick(const struct api_client *client, const struct api_request *request, bool waiting) {
    return client->hooks == NULL || client->hooks->tick(client->hooks->user, request->moved, request->total, waiting);
}

static CURLcode drive(struct api_client *client, struct api_request *request) {
    CURLcode result = CURLE_OK;
    int running = 1;
    int left = 0;
    if (curl_multi_add_handle(client->multi, client->easy) != CURLM_OK) {
        return CURLE_FAILED_INIT;
    }
    while (running > 0 && result == CURLE_OK) {
        if (curl_multi_perform(client->multi, &running) != CURLM_OK) {
            result = CURLE_FAILED_INIT;
            break;
        }
        learn_total(client, request);
        if (running > 0 && !tick(client, request, false)) {
            result = CURLE_ABORTED_BY_CALLBACK;
        } else if (running > 0) {
            (void)curl_multi_poll(client->multi, NULL, 0, TICK_MS, NULL);
        }
    }
    const CURLMsg *message = NULL;
    while ((message = curl_multi_info_read(client->multi, &left)) != NULL) {
        if (message->msg == CURLMSG_DONE && result == CURLE_OK) {
            result = message->data.result;
        }
    }
    (void)curl_multi_remove_handle(client->multi, client->easy);
    return result;
}

static bool append_header(struct curl_slist **list, const char *name, const char *value) {
    char line[1536];
    int length = snprintf(line, sizeof line, "%s: %s", name, value);
    if (length < 0 || (size_t)length >= sizeof line) {
        return false;
    }
    struct curl_slist *grown = curl_slist_append(*list, line);
    if (grown == NULL) {
        return false;
    }
    *list = grown;
    return true;
}

static bool make_headers(const struct api_client *client, const struct api_request *request, struct curl_slist **out) {
    bool fine = append_header(out, "Accept", "application/json, application/problem+json, */*");
    if (client->authorization != NULL) {
        struct curl_slist *grown = curl_slist_append(*out, client->authorization);
        fine = fine && grown != NULL;
        *out = grown != NULL ? grown : *out;
    }
    if (request->text != NULL) {
        fine = fine && append_header(out, "Content-Type", "application/json");
    }
    if (request->etag != NULL && request->etag[0] != '\0') {
        fine = fine && append_header(out, "If-None-Match", request->etag);
    }
    if (request->key != NULL) {
        fine = fine && append_header(out, "Idempotency-Key", request->key);
    }
    for (size_t i = 0; i < API_FIELDS_MAX && request->fields[i].name != NULL; i++) {
        fine = fine && append_header(out, request->fields[i].name, request->fields[i].value);
    }
    return fine;
}

/* Options that every request has. */
static void set_common(const struct api_client *client, struct api_request *request, const char *url) {
    CURL *easy = client->easy;
    curl_easy_reset(easy);
    (void)curl_easy_setopt(easy, CURLOPT_URL, url);
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(easy, CURLOPT_USERAGENT, "onp/" ONP_VERSION);
    (void)curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    (void)curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)STALL_S);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_write);
    (void)curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(easy, CURLOPT_HEADERDATA, request);
    if (client->socket_path != NULL) {
        (void)curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, client->socket_path);
    }
    if (client->is_local) {
        (void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
    }
    if (request->timeout_s > 0) {
        (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(request->timeout_s * 1000));
    }
}

static void set_body(const struct api_client *client, struct api_request *request) {
    CURL *easy = client->easy;
    if (request->upload_fd >= 0) {
        (void)curl_easy_setopt(easy, CURLOPT_POST, 1L);
        (void)curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_read);
        (void)curl_easy_setopt(easy, CURLOPT_READDATA, request);
        (void)curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
        (void)curl_easy_setopt(easy, CURLOPT_SEEKDATA, request);
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(request->size - request->from));
        (void)curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, 256L * 1024);
    } else if (request->text != NULL || strcmp(request->method, "POST") == 0) {
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->text != NULL ? request->text : "");
        (void)curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->text_length);
    }
    if (strcmp(request->method, "HEAD") == 0) {
        (void)curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    } else if (strcmp(request->method, "GET") != 0) {
        (void)curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
    }
}

/* The connection was there, and broke. */
static bool was_lost(const struct api_client *client, CURLcode code) {
    curl_off_t connected = 0;
    bool breaks = code == CURLE_GOT_NOTHING || code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR ||
                  code == CURLE_PARTIAL_FILE || code == CURLE_OPERATION_TIMEDOUT;
    return breaks && curl_easy_getinfo(client->easy, CURLINFO_PRETRANSFER_TIME_T, &connected) == CURLE_OK &&
           connected > 0;
}

static enum status explain(const struct api_client *client, const struct api_request *request, CURLcode code,
                           struct error *error) {
    if (code == CURLE_ABORTED_BY_CALLBACK) {
        return error_set(error, STATUS_CANCELLED, request->path, "stopped waiting for %s", request->path);
    }
    if (request->io_status != STATUS_OK) {
        return request->io_status;
    }
    if (code == CURLE_OUT_OF_MEMORY || code == CURLE_FAILED_INIT) {
        return error_no_memory(error, "an HTTP request");
    }
    if (code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL) {
        return error_set(error, STATUS_INVALID, "--server", "failed to read server \"%.200s\": got %s, expected a URL",
                         client->server, curl_easy_strerror(code));
    }
    return error_set(error, STATUS_UNAVAILABLE, client->server,
                     "failed to reach server %.200s: got \"%s\", expected an answer", client->server,
                     curl_easy_strerror(code));
}

enum status api_request_run(struct api_client *client, struct api_request *request, struct error *error) {
    enum status status = STATUS_OK;
    struct curl_slist *headers = NULL;
    struct buf url;
    buf_init(&url, 8192);
    (void)buf_printf(&url, "%s%s", client->base, request->path);
    request->client = client;
    request->error = error;
    request->moved = request->from;
    request->total = request->upload_fd >= 0 ? request->size : 0;
    request->code = 0;
    request->lost = false;
    request->reply_etag[0] = request->reply_location[0] = request->reply_offset[0] = '\0';
    buf_reset(&request->body);
    if (url.failed || !make_headers(client, request, &headers)) {
        status = error_set(error, STATUS_LIMIT, request->path, "failed to build request %.200s: got too long a value",
                           request->path);
        goto done;
    }
    set_common(client, request, url.data);
    set_body(client, request);
    (void)curl_easy_setopt(client->easy, CURLOPT_HTTPHEADER, headers);
    CURLcode code = drive(client, request);
    if (code != CURLE_OK) {
        request->lost = was_lost(client, code);
        status = explain(client, request, code, error);
        goto done;
    }
    curl_off_t retry_after = 0;
    (void)curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &request->code);
    (void)curl_easy_getinfo(client->easy, CURLINFO_RETRY_AFTER, &retry_after);
    request->retry_after_s = (long)retry_after;
    client->reached = true;
done:
    curl_slist_free_all(headers);
    buf_deinit(&url);
    return status;
}

bool api_request_succeeded(const struct api_request *request) {
    return (request->code >= 200 && request->code < 300) || request->code == 304;
}

bool api_request_is_busy(const struct api_request *request) {
    return problem_status(request->code) == STATUS_UNAVAILABLE && request->retry_after_s <= API_RETRY_AFTER_MAX_S;
}

enum status api_request_json(const struct api_request *request, json_t **out, struct error *error) {
    *out = NULL;
    if (request->body.length == 0) {
        return STATUS_OK;
    }
    struct error cause = {0};
    if (json_read_text(request->body.data, request->body.length, out, &cause) != STATUS_OK) {
        return error_set(error, STATUS_INVALID, request->path, "failed to read the answer to %.200s: %.200s (%.80s)",
                         request->path, cause.message, cause.where);
    }
    return STATUS_OK;
}

enum status api_request_problem(const struct api_request *request, struct error *error) {
    struct error ignored = {0};
    json_t *body = NULL;
    char what[160];
    (void)snprintf(what, sizeof what, "%s %.140s", request->method, request->path);
    (void)api_request_json(request, &body, &ignored); /* a proxy may answer in HTML: the code says enough then */
    enum status status = problem_to_error(request->code, body, what, error);
    json_decref(body);
    return status;
}

bool api_request_pause(const struct api_client *client, const struct api_request *request, double seconds) {
    const double nap_s = TICK_MS / 1000.0;
    const double end = clock_seconds() + seconds;
    double left = seconds;
    while (left > 0) {
        if (!interrupt_sleep(left < nap_s ? left : nap_s) || !tick(client, request, true)) {
            return false;
        }
        left = end - clock_seconds();
    }
    return true;
}
