/* Calls of the REST interface. Everything that is about one exchange of bytes is in api_request.c; here are addresses,
 * retries, JSON and files. */
#include "client/api_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/api_request.h"
#include "client/interrupt.h"
#include "client/problem.h"
#include "common/digest.h"
#include "common/file.h"
#include "common/id.h"
#include "common/json_read.h"
#include "common/mem.h"

enum { RETRIES = 4, RETRY_AFTER_MAX_S = 10, CALL_TIMEOUT_S = 60, BODY_MAX = 1 << 20 };

static char *join(const char *first, const char *second) {
    struct buf text;
    buf_init(&text, 16384);
    (void)buf_printf(&text, "%s%s", first, second);
    return buf_take(&text);
}

/* "%2Frun%2Fonpd.sock" to "/run/onpd.sock". */
static char *unescape(const char *text) {
    char *plain = curl_easy_unescape(NULL, text, 0, NULL);
    char *copy = plain != NULL ? mem_strdup(plain) : NULL;
    curl_free(plain);
    return copy;
}

static bool has_prefix(const char *text, const char *prefix) {
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool host_is_loopback(const char *base) {
    const char *host = strstr(base, "://");
    host = host != NULL ? host + 3 : base;
    return has_prefix(host, "127.") || has_prefix(host, "[::1]") || has_prefix(host, "localhost:") ||
           strcmp(host, "localhost") == 0;
}

/* Fills base, socket_path and is_local from the address as it was given. */
static enum status read_address(struct api_client *client, struct error *error) {
    const char *server = client->server;
    if (has_prefix(server, "unix:")) {
        const char *path = server + strlen("unix:");
        path += has_prefix(path, "//") ? 2 : 0;
        client->socket_path = mem_strdup(path);
        client->base = mem_strdup("http://localhost");
    } else if (has_prefix(server, "http+unix://")) {
        client->socket_path = unescape(server + strlen("http+unix://"));
        client->base = mem_strdup("http://localhost");
    } else if (has_prefix(server, "http://") || has_prefix(server, "https://")) {
        client->base = mem_strdup(server);
    } else if (strstr(server, "://") != NULL || server[0] == '\0' || server[0] == '/') {
        return error_set(error, STATUS_INVALID, "--server",
                         "failed to read server: got \"%.200s\", expected http://host:port, https://host or unix:/path",
                         server);
    } else {
        client->base = join("http://", server);
    }
    if (client->base == NULL || (client->socket_path == NULL && strstr(server, "unix:") == server)) {
        return error_no_memory(error, "a server address");
    }
    size_t length = strlen(client->base);
    while (length > 0 && client->base[length - 1] == '/') {
        client->base[--length] = '\0';
    }
    client->is_local = client->socket_path != NULL || host_is_loopback(client->base);
    return STATUS_OK;
}

enum status api_client_new(const char *server, const char *token, struct api_client **out, struct error *error) {
    enum status status = STATUS_OK;
    struct api_client *client = mem_calloc(1, sizeof *client);
    if (client == NULL) {
        return error_no_memory(error, "an API client");
    }
    client->server = mem_strdup(server);
    client->multi = curl_multi_init();
    client->easy = curl_easy_init();
    if (client->server == NULL || client->multi == NULL || client->easy == NULL) {
        status = error_no_memory(error, "an API client");
        goto fail;
    }
    status = read_address(client, error);
    if (status != STATUS_OK) {
        goto fail;
    }
    if (token != NULL && token[0] != '\0') {
        if (strpbrk(token, "\r\n") != NULL) {
            status = error_set(error, STATUS_INVALID, "--token",
                               "failed to read token: got a line break, expected one line");
            goto fail;
        }
        client->authorization = join("Authorization: Bearer ", token);
        if (client->authorization == NULL) {
            status = error_no_memory(error, "a token");
            goto fail;
        }
    }
    *out = client;
    return STATUS_OK;
fail:
    api_client_free(client);
    return status;
}

void api_client_free(struct api_client *client) {
    if (client == NULL) {
        return;
    }
    curl_easy_cleanup(client->easy);
    (void)curl_multi_cleanup(client->multi);
    mem_free(client->server);
    mem_free(client->base);
    mem_free(client->socket_path);
    mem_free(client->authorization);
    mem_free(client);
}

void api_client_set_hooks(struct api_client *client, const struct api_hooks *hooks) {
    client->hooks = hooks;
}

const char *api_client_server(const struct api_client *client) {
    return client->server;
}

/* The body as JSON; NULL is fine for an answer without one. */
static enum status parse_body(const struct api_request *request, json_t **out, struct error *error) {
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

static enum status fail_with_problem(const struct api_request *request, struct error *error) {
    struct error ignored = {0};
    json_t *body = NULL;
    char what[160];
    (void)snprintf(what, sizeof what, "%s %.140s", request->method, request->path);
    (void)parse_body(request, &body, &ignored); /* a proxy may answer in HTML: the code says enough then */
    enum status status = problem_to_error(request->code, body, what, error);
    json_decref(body);
    return status;
}

static bool is_success(long code) {
    return (code >= 200 && code < 300) || code == 304;
}

/* Runs a call again while the server asks for a little patience. */
static enum status run_patiently(struct api_client *client, struct api_request *request, struct error *error) {
    for (int attempt = 0;; attempt++) {
        enum status status = api_request_run(client, request, error);
        bool is_busy = request->code == 429 || request->code == 503;
        if (status != STATUS_OK || !is_busy || attempt == RETRIES || request->retry_after_s > RETRY_AFTER_MAX_S) {
            return status;
        }
        double pause = request->retry_after_s > 0 ? (double)request->retry_after_s : 0.5 * (double)(1 << attempt);
        if (!interrupt_sleep(pause)) {
            return status;
        }
    }
}

static int append_text(const char *data, size_t size, void *user) {
    return buf_append(user, data, size) ? 0 : -1;
}

enum status api_client_call(struct api_client *client, const char *method, const char *path, const json_t *body,
                            const char *etag, double timeout_s, struct api_reply *reply, struct error *error) {
    enum status status = STATUS_OK;
    char key[ID_SIZE];
    struct buf text;
    struct api_request request;
    buf_init(&text, BODY_MAX);
    api_request_init(&request, method, path);
    request.etag = etag;
    request.timeout_s = timeout_s;
    if (body != NULL) {
        if (json_dump_callback(body, append_text, &text, JSON_COMPACT) != 0 || text.failed) {
            status = error_no_memory(error, "a request body");
            goto done;
        }
        request.text = text.data;
        request.text_length = text.length;
    }
    if (strcmp(method, "POST") == 0) {
        id_make("key", key);
        request.key = key; /* the same for each try, so that a try whose answer was lost is not done twice */
    }
    status = run_patiently(client, &request, error);
    if (status != STATUS_OK) {
        goto done;
    }
    if (!is_success(request.code)) {
        status = fail_with_problem(&request, error);
        goto done;
    }
    json_t *answer = NULL;
    status = parse_body(&request, &answer, error);
    if (status == STATUS_OK) {
        *reply = (struct api_reply){.code = request.code, .body = answer};
        (void)snprintf(reply->etag, sizeof reply->etag, "%s", request.reply_etag);
    }
done:
    buf_deinit(&text);
    api_request_deinit(&request);
    return status;
}

enum status api_client_get(struct api_client *client, const char *path, json_t **out, struct error *error) {
    struct api_reply reply = {0};
    enum status status = api_client_call(client, "GET", path, NULL, NULL, CALL_TIMEOUT_S, &reply, error);
    if (status == STATUS_OK && reply.body == NULL) {
        status = error_set(error, STATUS_INVALID, path,
                           "failed to read the answer to %.200s: got nothing, expected JSON", path);
    }
    if (status == STATUS_OK) {
        *out = reply.body;
    }
    return status;
}

static enum status open_upload(const char *file, int *fd, uint64_t *size, struct error *error) {
    struct stat info;
    int opened = open(file, O_RDONLY | O_CLOEXEC);
    if (opened < 0) {
        return error_io(error, file, "failed to open file %.200s", file);
    }
    if (fstat(opened, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size == 0) {
        (void)close(opened);
        return error_set(error, STATUS_INVALID, file, "failed to upload %.200s: got %s, expected a regular file", file,
                         S_ISREG(info.st_mode) ? "an empty file" : "something else");
    }
    *fd = opened;
    *size = (uint64_t)info.st_size;
    return STATUS_OK;
}

enum status api_client_upload(struct api_client *client, const char *path, const char *file, json_t **out,
                              struct error *error) {
    json_t *answer = NULL;
    char ours[DIGEST_HEX_SIZE];
    struct api_request request;
    api_request_init(&request, "POST", path);
    request.digest = digest_new();
    enum status status = request.digest != NULL ? STATUS_OK : error_no_memory(error, "a digest");
    if (status == STATUS_OK) {
        status = open_upload(file, &request.upload_fd, &request.upload_size, error);
    }
    if (status == STATUS_OK) {
        status = api_request_run(client, &request, error);
    }
    if (status == STATUS_OK && !is_success(request.code)) {
        status = fail_with_problem(&request, error);
    }
    if (status == STATUS_OK) {
        status = parse_body(&request, &answer, error);
    }
    if (status == STATUS_OK) {
        const char *theirs = json_string_value(json_object_get(answer, "sha256"));
        if (request.digest == NULL) {
            status = error_no_memory(error, "a digest");
        } else {
            digest_finish(request.digest, ours);
        }
        if (status == STATUS_OK && theirs != NULL && strcmp(theirs, ours) != 0) {
            status = error_set(error, STATUS_IO, file, "failed to upload %.100s: got SHA-256 %.64s, expected %s", file,
                               theirs, ours);
        }
    }
    if (status == STATUS_OK) {
        *out = answer;
        answer = NULL;
    }
    json_decref(answer);
    if (request.upload_fd >= 0) {
        (void)close(request.upload_fd);
    }
    digest_free(request.digest);
    api_request_deinit(&request);
    return status;
}

/* GETs into an open descriptor. */
static enum status fetch(struct api_client *client, const char *path, int fd, struct error *error) {
    struct api_request request;
    api_request_init(&request, "GET", path);
    request.download_fd = fd;
    enum status status = api_request_run(client, &request, error);
    if (status == STATUS_OK && request.code != 200) {
        status = fail_with_problem(&request, error);
    }
    api_request_deinit(&request);
    return status;
}

enum status api_client_download(struct api_client *client, const char *path, const char *file, struct error *error) {
    if (strcmp(file, "-") == 0) {
        return fetch(client, path, STDOUT_FILENO, error);
    }
    char suffix[48];
    (void)snprintf(suffix, sizeof suffix, ".part-%ld", (long)getpid());
    char *part = join(file, suffix);
    if (part == NULL) {
        return error_no_memory(error, "a file name");
    }
    enum status status = STATUS_OK;
    int fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        status = error_io(error, file, "failed to create file %.200s", part);
        goto done;
    }
    status = fetch(client, path, fd, error);
    if (status == STATUS_OK && fsync(fd) != 0 && errno != EINVAL) {
        status = error_io(error, file, "failed to sync file %.200s", part);
    }
    if (close(fd) != 0 && status == STATUS_OK) {
        status = error_io(error, file, "failed to close file %.200s", part);
    }
    if (status == STATUS_OK && rename(part, file) != 0) {
        status = error_io(error, file, "failed to rename file %.200s", part);
    }
    if (status != STATUS_OK) {
        (void)unlink(part);
    }
done:
    mem_free(part);
    return status;
}

bool api_escape(char *out, size_t size, const char *word) {
    char *escaped = curl_easy_escape(NULL, word, 0);
    int length = escaped != NULL ? snprintf(out, size, "%s", escaped) : -1;
    curl_free(escaped);
    return length >= 0 && (size_t)length < size;
}

enum status api_path(char out[API_PATH_SIZE], const char *base, const char *word, const char *suffix,
                     struct error *error) {
    char escaped[API_PATH_SIZE];
    int length = -1;
    if (api_escape(escaped, sizeof escaped, word)) {
        length = snprintf(out, API_PATH_SIZE, "%s/%s%s", base, escaped, suffix);
    }
    if (length < 0 || length >= API_PATH_SIZE) {
        return error_set(error, STATUS_LIMIT, word, "failed to build path of %.64s: got too long a word", word);
    }
    return STATUS_OK;
}
