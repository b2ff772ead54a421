/* What is checked before a body is read: framing, request id, target, route, guard, and what the body claims to be. */
#include <string.h>
#include <strings.h>

#include "common/id.h"
#include "common/parse.h"
#include "common/text.h"
#include "server/http/http_framing.h"
#include "server/http/http_internal.h"

struct field_list {
    struct http_field items[HTTP_FIELDS_MAX + 1];
    size_t count;
};

static enum MHD_Result collect_field(void *user, enum MHD_ValueKind kind, const char *name, size_t name_length,
                                     const char *value, size_t value_length) {
    struct field_list *list = user;

    (void)kind;
    if (list->count <= HTTP_FIELDS_MAX) {
        list->items[list->count++] = (struct http_field){name, value, name_length, value_length};
    }
    return MHD_YES;
}

/* libmicrohttpd cuts a request line at a NUL; then the version does not follow the target. `version` may be a static
 * text only if there was none in the line, which strict mode refuses. */
static bool target_is_whole(const struct http_request *request, const char *version) {
    return version == request->raw_target + request->raw_target_length + 1;
}

static bool check_framing(struct http_request *request, const char *version) {
    struct field_list list;
    struct error error = {0};
    enum status status;

    list.count = 0; /* and its items are not cleared */
    (void)MHD_get_connection_values_n(request->connection, MHD_HEADER_KIND, collect_field, &list);
    status = http_framing_check(list.items, list.count, strcmp(version, "HTTP/1.1") == 0, &error);
    if (status == STATUS_OK && !target_is_whole(request, version)) {
        status = error_set(&error, STATUS_INVALID, NULL, "failed to read the request line: got a NUL byte in it");
    }
    if (status == STATUS_OK) {
        return true;
    }
    /* Where the next request would start is not certain any more. */
    request->close_after = true;
    http_reply_problem(request, status == STATUS_LIMIT ? 431 : 400, &error);
    return false;
}

static void choose_id(struct http_request *request) {
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    const char *given = http_request_header(request, "X-Request-Id");
    size_t length = given == NULL ? 0 : strlen(given);

    if (length > 0 && length < HTTP_REQUEST_ID_SIZE && strspn(given, allowed) == length) {
        memcpy(request->id, given, length + 1);
    } else {
        id_make("req", request->id);
    }
}

/* Clients behind old proxies send PATCH and DELETE as POST; the protocol of resumable uploads asks servers to understand that. What
 * the request may do is decided by the route it means. */
static void choose_method(struct http_request *request, const char *method) {
    const char *other = strcmp(method, "POST") == 0 ? http_request_header(request, "X-HTTP-Method-Override") : NULL;
    bool taken = other != NULL && (strcmp(other, "PATCH") == 0 || strcmp(other, "DELETE") == 0);
    struct text text;

    text_begin(&text, request->method, sizeof(request->method));
    text_add(&text, taken ? other : method);
}

static bool find_route(struct http_request *request) {
    const struct http_config *config = &request->server->config;
    struct error error = {0};

    if (request->uri_status != STATUS_OK) {
        http_reply_problem(request, 400, &request->uri_error);
        return false;
    }
    switch (
        http_route_match(config->routes, config->route_count, request->method, request->uri.path, &request->match)) {
    case HTTP_MATCH_FOUND:
        return true;
    case HTTP_MATCH_NO_METHOD:
        error_set(&error, STATUS_INVALID, NULL, "failed to do %s on this path: expected one of %s", request->method,
                  request->match.allow);
        http_reply_header(request, "Allow", request->match.allow);
        request->match.index = config->route_count;
        http_reply_problem(request, 405, &error);
        return false;
    case HTTP_MATCH_NO_PATH:
        break;
    }
    request->match.index = config->route_count;
    error_set(&error, STATUS_NOT_FOUND, NULL, "failed to find this path: there is nothing here");
    http_reply_problem(request, 404, &error);
    return false;
}

static bool check_guard(struct http_request *request) {
    const struct http_config *config = &request->server->config;
    struct error error = {0};
    unsigned code = 403;

    if (config->guard == NULL ||
        config->guard(request, request->match.route, config->context, &code, &error) == STATUS_OK) {
        return true;
    }
    if (code == 401 && request->extra_count == 0) {
        http_reply_header(request, "WWW-Authenticate", "Bearer realm=\"onp\"");
    }
    http_reply_problem(request, code, &error);
    return false;
}

/* true if the media type of `header` is `type`, whatever its parameters. */
static bool media_type_is(const char *header, const char *type) {
    size_t length = strlen(type);
    return strncasecmp(header, type, length) == 0 && strchr("; \t", header[length]) != NULL;
}

static bool refuse_type(struct http_request *request, const char *got, const char *expected) {
    struct error error = {0};

    error_set(&error, STATUS_INVALID, NULL, "failed to take the body: got %.80s, expected %s", got, expected);
    http_reply_problem(request, 415, &error);
    return false;
}

static bool check_type(struct http_request *request, enum http_body kind) {
    const char *type = http_request_header(request, "Content-Type");
    const char *encoding = http_request_header(request, "Content-Encoding");

    if (encoding != NULL && strcasecmp(encoding, "identity") != 0) {
        return refuse_type(request, encoding, "no Content-Encoding");
    }
    if (type == NULL) {
        return true;
    }
    if (kind == HTTP_BODY_JSON && !media_type_is(type, "application/json")) {
        return refuse_type(request, type, "application/json (curl: -H 'Content-Type: application/json')");
    }
    if (kind == HTTP_BODY_STREAM && media_type_is(type, "multipart/form-data")) {
        return refuse_type(request, type, "the bytes of the file themselves (curl: --data-binary @FILE or -T FILE)");
    }
    return true;
}

static bool check_body(struct http_request *request) {
    enum http_body kind = request->match.route->body;
    struct error error = {0};

    request->limit = kind == HTTP_BODY_JSON     ? HTTP_JSON_MAX
                     : kind == HTTP_BODY_STREAM ? request->server->config.max_upload
                                                : 0;
    if (!request->has_body) {
        return true;
    }
    if (kind == HTTP_BODY_NONE || (request->announced != UINT64_MAX && request->announced > request->limit)) {
        error_set(&error, STATUS_LIMIT, NULL, "failed to take the body: expected at most %llu bytes",
                  (unsigned long long)request->limit);
        http_reply_problem(request, 413, &error);
        return false;
    }
    return check_type(request, kind);
}

/* libmicrohttpd has checked that Content-Length is a number. */
static void read_body_fields(struct http_request *request) {
    const char *length = http_request_header(request, "Content-Length");

    if (http_request_header(request, "Transfer-Encoding") != NULL) {
        request->has_body = true;
        request->announced = UINT64_MAX;
    } else if (length != NULL && parse_u64(length, UINT64_MAX, &request->announced)) {
        request->has_body = request->announced > 0;
    }
}

bool http_admit(struct http_request *request, const char *method, const char *version) {
    const struct http_route *route;

    choose_method(request, method);
    choose_id(request);
    read_body_fields(request);
    if (!check_framing(request, version) || !find_route(request) || !check_guard(request) || !check_body(request)) {
        return false;
    }
    route = request->match.route;
    if (route->body == HTTP_BODY_STREAM) {
        route->begin(request, request->server->config.context);
        return request->response == NULL;
    }
    return true;
}
