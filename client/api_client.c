/* Calls of the REST interface. Everything that is about one exchange of bytes is in api_request.c; here are addresses,
 * retries and JSON. */
#include "client/api_client.h"

#include <stdio.h>
#include <string.h>

#include "client/api_request.h"
#include "common/clock.h"
#include "common/id.h"
#include "common/mem.h"

enum { CALL_TIMEOUT_S = 60, BODY_MAX = 1 << 20 };
static const double LOST_PAUSE_S = 0.25;

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
    client->patience_s = API_PATIENCE_S;
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

void api_client_set_patience(struct api_client *client, double seconds) {
    client->patience_s = seconds;
}

const char *api_client_server(const struct api_client *client) {
    return client->server;
}

/* What became of the tries so far. */
struct tries {
    int busy;          /* answers that asked for patience */
    int lost;          /* connections that broke or could not be made */
    double lost_since; /* clock_seconds() */
};

/* Seconds until another try; < 0: there is none. */
static double next_try(const struct api_client *client, const struct api_request *request, enum status status,
                       struct tries *tries) {
    if (status == STATUS_UNAVAILABLE && (request->lost || client->reached)) {
        double now = clock_seconds();
        tries->lost_since = tries->lost == 0 ? now : tries->lost_since;
        double pause = LOST_PAUSE_S * (double)(1 << (tries->lost < 3 ? tries->lost : 3));
        tries->lost++;
        return now - tries->lost_since + pause < client->patience_s ? pause : -1;
    }
    /* The first try, whose answer was lost, is still being worked on. */
    bool is_own_conflict = request->code == 409 && request->key != NULL && tries->lost > 0;
    if (status != STATUS_OK || !(api_request_is_busy(request) || is_own_conflict) || tries->busy == API_BUSY_TRIES) {
        return -1;
    }
    double backoff = 0.5 * (double)(1 << tries->busy++);
    return request->retry_after_s > 0 ? (double)request->retry_after_s : backoff;
}

/* Runs a call again where that is worth while. */
static enum status run_patiently(struct api_client *client, struct api_request *request, struct error *error) {
    struct tries tries = {0};
    for (;;) {
        struct error cause = {0};
        enum status status = api_request_run(client, request, &cause);
        double pause = next_try(client, request, status, &tries);
        if (pause < 0 || !api_request_pause(client, request, pause)) {
            return status == STATUS_OK ? status : error_set(error, status, cause.where, "%s", cause.message);
        }
    }
}

static int append_text(const char *data, size_t size, void *user) {
    return buf_append(user, data, size) ? 0 : -1;
}

/* Sends the request with `body`, and takes the answer apart. */
static enum status exchange(struct api_client *client, struct api_request *request, const json_t *body,
                            struct api_reply *reply, struct error *error) {
    enum status status = STATUS_OK;
    json_t *answer = NULL;
    struct buf text;
    buf_init(&text, BODY_MAX);
    if (body != NULL) {
        if (json_dump_callback(body, append_text, &text, JSON_COMPACT) != 0 || text.failed) {
            status = error_no_memory(error, "a request body");
            goto done;
        }
        request->text = text.data;
        request->text_length = text.length;
    }
    status = run_patiently(client, request, error);
    if (status == STATUS_OK && !api_request_succeeded(request)) {
        status = api_request_problem(request, error);
    }
    if (status == STATUS_OK) {
        status = api_request_json(request, &answer, error);
    }
    if (status == STATUS_OK) {
        *reply = (struct api_reply){.code = request->code, .body = answer};
        (void)snprintf(reply->etag, sizeof reply->etag, "%s", request->reply_etag);
    }
done:
    buf_deinit(&text);
    return status;
}

enum status api_client_call(struct api_client *client, const char *method, const char *path, const json_t *body,
                            const char *etag, double timeout_s, struct api_reply *reply, struct error *error) {
    char key[ID_SIZE];
    struct api_request request;
    api_request_init(&request, method, path);
    request.etag = etag;
    request.timeout_s = timeout_s;
    if (strcmp(method, "POST") == 0) {
        id_make("key", key);
        request.key = key; /* the same for each try, so that a try whose answer was lost is not done twice */
    }
    enum status status = exchange(client, &request, body, reply, error);
    api_request_deinit(&request);
    return status;
}

enum status api_client_post(struct api_client *client, const char *path, const json_t *body, const char *key,
                            struct api_reply *reply, struct error *error) {
    struct api_request request;
    api_request_init(&request, "POST", path);
    request.timeout_s = CALL_TIMEOUT_S;
    request.key = key;
    enum status status = exchange(client, &request, body, reply, error);
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
