/* Answers. Each ends in set_reply(), which adds the common fields and wakes the request if it sleeps; the bytes leave
 * when libmicrohttpd calls again (http_connection.c). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/digest.h"
#include "common/log.h"
#include "common/mem.h"
#include "server/http/http_internal.h"
#include "server/http/http_problem.h"
#include "server/http/http_range.h"

enum {
    JSON_REPLY_MAX = 64 << 20,
    ETAG_DIGITS = 32, /* of the digest of a document: 128 bits name a state well enough */
};

static bool is_get(const struct http_request *request) {
    return strcmp(request->method, "GET") == 0 || strcmp(request->method, "HEAD") == 0;
}

static void add_field(struct MHD_Response *response, const char *name, const char *value) {
    (void)MHD_add_response_header(response, name, value); /* fails only for bytes that http_reply_header() drops */
}

/* Takes the response; NULL means there was no memory for it. */
static void set_reply(struct http_request *request, unsigned code, struct MHD_Response *response, uint64_t bytes) {
    if (request->response != NULL || request->phase == PHASE_REPLIED) {
        if (response != NULL) {
            MHD_destroy_response(response);
        }
        return;
    }
    request->wants_suspend = false;
    request->code = code;
    request->reply_bytes = bytes;
    request->response = response;
    request->failed = response == NULL;
    if (response != NULL) {
        add_field(response, "X-Request-Id", request->id);
        add_field(response, "X-Content-Type-Options", "nosniff");
        for (size_t i = 0; i < request->extra_count; i++) {
            add_field(response, request->extra[i].name, request->extra[i].value);
        }
        /* Refused before a body that is too long to be read and dropped. */
        if (request->phase == PHASE_HEADERS && request->has_body && request->announced > HTTP_SWALLOW_SMALL) {
            request->close_after = true;
        }
        if (request->close_after || request->server->draining) {
            add_field(response, "Connection", "close");
        }
    }
    http_wake(request);
}

/* A field that a reply function sets unless the handler has. */
static void add_default(const struct http_request *request, struct MHD_Response *response, const char *name,
                        const char *value) {
    for (size_t i = 0; i < request->extra_count; i++) {
        if (strcmp(request->extra[i].name, name) == 0) {
            return;
        }
    }
    add_field(response, name, value);
}

void http_reply_header(struct http_request *request, const char *name, const char *value) {
    struct http_extra_header *header;

    if (request->extra_count == HTTP_EXTRA_HEADERS_MAX || strlen(value) >= sizeof(header->value)) {
        return;
    }
    for (const char *at = value; *at != '\0'; at++) {
        if ((unsigned char)*at < 0x20 || (unsigned char)*at == 0x7f) {
            return;
        }
    }
    header = &request->extra[request->extra_count++];
    header->name = name;
    memcpy(header->value, value, strlen(value) + 1);
}

/* A response that owns `data` (mem_free()). */
static struct MHD_Response *response_of(char *data, size_t length) {
    struct MHD_Response *response = MHD_create_response_from_buffer_with_free_callback(length, data, mem_free);

    if (response == NULL) {
        mem_free(data);
    }
    return response;
}

static int append_json(const char *data, size_t length, void *user) {
    return buf_append(user, data, length) ? 0 : -1;
}

/* The document with a final newline; NULL without memory. */
static char *dump_json(const json_t *json, size_t *length) {
    struct buf buf;

    buf_init(&buf, JSON_REPLY_MAX);
    if (json == NULL || json_dump_callback(json, append_json, &buf, JSON_COMPACT) != 0 ||
        !buf_append_text(&buf, "\n")) {
        buf_deinit(&buf);
        return NULL;
    }
    *length = buf.length;
    return buf_take(&buf);
}

static void reply_no_memory(struct http_request *request) {
    static const char text[] = "{\"type\":\"/problems/unavailable\",\"title\":\"Not available now\",\"status\":503}\n";
    struct MHD_Response *response =
        MHD_create_response_from_buffer(sizeof(text) - 1, (void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT);

    if (response != NULL) {
        add_field(response, "Content-Type", "application/problem+json");
        add_field(response, "Retry-After", "5");
    }
    set_reply(request, 503, response, sizeof(text) - 1);
}

static void make_etag(const char *data, size_t length, char etag[HTTP_ETAG_SIZE]) {
    char hex[DIGEST_HEX_SIZE];

    digest_bytes(data, length, hex);
    (void)snprintf(etag, HTTP_ETAG_SIZE, "\"%.*s\"", ETAG_DIGITS, hex);
}

static void reply_not_modified(struct http_request *request, const char *etag) {
    struct MHD_Response *response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);

    if (response != NULL) {
        add_field(response, "ETag", etag);
        add_field(response, "Cache-Control", "no-cache");
    }
    set_reply(request, 304, response, 0);
}

/* If-Match says that the client thinks of another state: replies 412. */
static bool is_other_state(struct http_request *request, const char *etag) {
    struct error error = {0};

    if (http_if_match_holds(http_request_header(request, "If-Match"), etag)) {
        return false;
    }
    error_set(&error, STATUS_CONFLICT, NULL, "failed to find the state of If-Match: got a resource with ETag %s", etag);
    http_reply_problem(request, 412, &error);
    return true;
}

bool http_request_if_match(struct http_request *request, json_t *json) {
    char etag[HTTP_ETAG_SIZE];
    size_t length = 0;
    char *text = dump_json(json, &length);

    json_decref(json);
    if (text == NULL) {
        reply_no_memory(request);
        return false;
    }
    make_etag(text, length, etag);
    mem_free(text);
    return !is_other_state(request, etag);
}

/* Replies with bytes that are the callee's; 304 if the client has this state already. */
static void reply_bytes(struct http_request *request, unsigned code, char *data, size_t length, const char *type,
                        const char *etag) {
    struct MHD_Response *response;

    if (code == 200 && is_get(request) && is_other_state(request, etag)) {
        mem_free(data);
        return;
    }
    if (code == 200 && is_get(request) && http_etag_matches(http_request_header(request, "If-None-Match"), etag)) {
        mem_free(data);
        reply_not_modified(request, etag);
        return;
    }
    response = response_of(data, length);
    if (response != NULL) {
        add_field(response, "Content-Type", type);
        add_default(request, response, "Cache-Control", "no-cache");
        if (code < 300) {
            add_field(response, "ETag", etag);
        }
    }
    set_reply(request, code, response, length);
}

bool http_document_make(struct http_document *document, json_t *json) {
    *document = (struct http_document){0};
    document->text = dump_json(json, &document->length);
    json_decref(json);
    if (document->text == NULL) {
        return false;
    }
    make_etag(document->text, document->length, document->etag);
    return true;
}

void http_document_deinit(struct http_document *document) {
    mem_free(document->text);
    *document = (struct http_document){0};
}

void http_reply_json(struct http_request *request, unsigned code, json_t *json) {
    struct http_document document;

    if (!http_document_make(&document, json)) {
        reply_no_memory(request);
        return;
    }
    reply_bytes(request, code, document.text, document.length, "application/json", document.etag);
}

static bool must_wait(struct http_request *request, const char *etag, const char *topic, double seconds) {
    return seconds > 0 && http_etag_matches(http_request_header(request, "If-None-Match"), etag) &&
           http_request_wait(request, topic, seconds);
}

void http_reply_document_or_wait(struct http_request *request, const struct http_document *document, const char *topic,
                                 double seconds) {
    char *copy;

    if (must_wait(request, document->etag, topic, seconds)) {
        return;
    }
    copy = mem_dup(document->text, document->length);
    if (copy == NULL) {
        reply_no_memory(request);
        return;
    }
    reply_bytes(request, 200, copy, document->length, "application/json", document->etag);
}

void http_reply_json_or_wait(struct http_request *request, json_t *json, const char *topic, double seconds) {
    struct http_document document;

    if (!http_document_make(&document, json)) {
        reply_no_memory(request);
    } else if (must_wait(request, document.etag, topic, seconds)) {
        http_document_deinit(&document);
    } else {
        reply_bytes(request, 200, document.text, document.length, "application/json", document.etag);
    }
}

void http_reply_text(struct http_request *request, const char *content_type, const char *text, size_t length) {
    char *copy = mem_dup(text, length), etag[HTTP_ETAG_SIZE];

    if (copy == NULL) {
        reply_no_memory(request);
        return;
    }
    make_etag(text, length, etag);
    reply_bytes(request, 200, copy, length, content_type, etag);
}

void http_reply_empty(struct http_request *request, unsigned code) {
    set_reply(request, code, MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT), 0);
}

static void reply_unsatisfiable(struct http_request *request, uint64_t size) {
    struct error error = {0};
    char value[64];

    (void)snprintf(value, sizeof(value), "bytes */%llu", (unsigned long long)size);
    http_reply_header(request, "Content-Range", value);
    error_set(&error, STATUS_INVALID, NULL, "failed to serve the range: expected one that starts within %llu bytes",
              (unsigned long long)size);
    http_reply_problem(request, 416, &error);
}

void http_reply_file(struct http_request *request, const char *path, const char *content_type, const char *sha256,
                     const char *download_name) {
    const char *range = http_request_header(request, "Range");
    char etag[HTTP_ETAG_SIZE], text[HTTP_HEADER_VALUE_SIZE];
    uint64_t first = 0, length, size;
    unsigned code = 200;
    struct stat info;
    struct error error = {0};
    struct MHD_Response *response;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &info) != 0) {
        error_io(&error, NULL, "failed to open the file of %s", request->uri.path);
        http_reply_error(request, &error);
        goto out;
    }
    size = length = (uint64_t)info.st_size;
    (void)snprintf(etag, sizeof(etag), "\"%s\"", sha256);
    if (is_other_state(request, etag)) {
        goto out;
    }
    if (http_etag_matches(http_request_header(request, "If-None-Match"), etag)) {
        reply_not_modified(request, etag);
        goto out;
    }
    if (http_if_range_holds(http_request_header(request, "If-Range"), etag)) {
        enum http_range_result result = http_range_parse(range, size, &first, &length);
        if (result == HTTP_RANGE_UNSATISFIABLE) {
            reply_unsatisfiable(request, size);
            goto out;
        }
        code = result == HTTP_RANGE_PART ? 206 : 200;
    }
    response = MHD_create_response_from_fd_at_offset64(length, fd, first);
    if (response == NULL) {
        reply_no_memory(request);
        goto out;
    }
    fd = -1; /* the response closes it */
    add_field(response, "Content-Type", content_type);
    add_field(response, "ETag", etag);
    add_field(response, "Accept-Ranges", "bytes");
    add_field(response, "Cache-Control", "no-cache");
    (void)snprintf(text, sizeof(text), "attachment; filename=\"%.200s\"", download_name);
    add_field(response, "Content-Disposition", text);
    if (code == 206) {
        (void)snprintf(text, sizeof(text), "bytes %llu-%llu/%llu", (unsigned long long)first,
                       (unsigned long long)(first + length - 1), (unsigned long long)size);
        add_field(response, "Content-Range", text);
    }
    set_reply(request, code, response, length);
out:
    if (fd >= 0) {
        (void)close(fd);
    }
}

void http_reply_error(struct http_request *request, const struct error *error) {
    http_reply_problem(request, http_problem_code(error->status), error);
}

void http_reply_problem(struct http_request *request, unsigned code, const struct error *error) {
    json_t *problem;
    size_t length = 0;
    char *text;
    struct MHD_Response *response;

    if (code == 0) {
        code = http_problem_code(error->status);
    }
    if (code >= 500) {
        log_event(LOG_ERROR, "http_problem", "request %s: %u %s: %s", request->id, code, error->where, error->message);
    }
    problem = http_problem_make(code, error, request->uri.path);
    text = dump_json(problem, &length);
    json_decref(problem);
    if (text == NULL) {
        reply_no_memory(request);
        return;
    }
    response = response_of(text, length);
    if (response != NULL) {
        add_field(response, "Content-Type", "application/problem+json");
        add_field(response, "Cache-Control", "no-store");
        if (code == 503 || code == 429) {
            add_default(request, response, "Retry-After", "5");
        }
    }
    set_reply(request, code, response, length);
}

/* For http_stream.c, which makes its own kind of response. */
void http_reply_response(struct http_request *request, unsigned code, struct MHD_Response *response, const char *type) {
    if (response != NULL) {
        add_field(response, "Content-Type", type);
        add_field(response, "Cache-Control", "no-store");
    }
    set_reply(request, code, response, 0);
}
