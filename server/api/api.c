/* The context of the handlers, the guard, and the small readers and writers that several resources share. */
#include "server/api/api.h"

#include <string.h>
#include <strings.h>

#include "common/clock.h"
#include "common/mem.h"
#include "common/parse.h"
#include "server/api/api_internal.h"

enum status api_new(const struct api_config *config, struct api **api, struct error *error) {
    struct api *made = mem_calloc(1, sizeof(*made));

    if (made == NULL) {
        return error_no_memory(error, "the API");
    }
    made->config = *config;
    made->config.token = NULL;
    made->started_ms = clock_wall_ms();
    if (config->token != NULL) {
        made->has_token = true;
        digest_bytes(config->token, strlen(config->token), made->token_sha256);
    }
    *api = made;
    return STATUS_OK;
}

void api_free(struct api *api) {
    mem_free(api);
}

void api_drain(struct api *api) {
    api->draining = true;
}

/* Is the name in Host one that no foreign web page can have made to point here? `host` may end with a port. */
static bool host_is_ours(const char *host) {
    size_t length = strcspn(host, ":");

    if (host[0] == '[') {
        return true; /* an IPv6 address */
    }
    if (length == 9 && strncasecmp(host, "localhost", 9) == 0) {
        return true;
    }
    return length > 0 && strspn(host, "0123456789.") == length;
}

/* A browser names the page that sends a request; only pages that we serve ourselves may change something. */
static bool origin_is_ours(const char *origin, const char *host) {
    static const char *const schemes[] = {"http://", "https://"};

    for (size_t i = 0; i < 2; i++) {
        size_t length = strlen(schemes[i]);
        if (strncmp(origin, schemes[i], length) == 0 && host != NULL && strcasecmp(origin + length, host) == 0) {
            return true;
        }
    }
    return false;
}

static bool token_matches(const struct api *api, const char *authorization) {
    char sha256[DIGEST_HEX_SIZE];
    const char *token;

    if (authorization == NULL || strncasecmp(authorization, "Bearer ", 7) != 0) {
        return false;
    }
    token = authorization + 7;
    token += strspn(token, " ");
    /* Hashes are compared, so how long the comparison takes tells nothing about the token. */
    digest_bytes(token, strlen(token), sha256);
    return strcmp(sha256, api->token_sha256) == 0;
}

enum status api_guard(struct http_request *request, const struct http_route *route, void *context, unsigned *code,
                      struct error *error) {
    const struct api *api = context;
    const char *host = http_request_header(request, "Host");
    const char *origin = http_request_header(request, "Origin");

    *code = 403;
    if (api->config.check_host && http_request_peer(request) != HTTP_PEER_UNIX && host != NULL && !host_is_ours(host)) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to admit the request: got Host '%.80s', expected localhost or an address", host);
    }
    if (route->scope == HTTP_SCOPE_OPEN) {
        return STATUS_OK;
    }
    if (api->has_token) {
        if (token_matches(api, http_request_header(request, "Authorization"))) {
            return STATUS_OK;
        }
        *code = 401;
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to admit the request: expected Authorization: Bearer TOKEN");
    }
    if (origin != NULL && route->scope != HTTP_SCOPE_READ && !origin_is_ours(origin, host)) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to admit the request: got Origin '%.80s', expected this server's own pages", origin);
    }
    return STATUS_OK;
}

enum status api_read_page(struct http_request *request, const char *prefix, struct api_page *page,
                          struct error *error) {
    const char *limit = http_request_query(request, "limit");
    uint64_t number = API_LIST_DEFAULT;

    if (limit != NULL && (!parse_u64(limit, STORE_LIST_MAX, &number) || number == 0)) {
        return error_set(error, STATUS_INVALID, NULL, "failed to read ?limit=: got '%.40s', expected 1 to %d", limit,
                         STORE_LIST_MAX);
    }
    page->limit = (size_t)number;
    page->after = http_request_query(request, "after");
    if (page->after != NULL && prefix != NULL && !id_is_valid(page->after, prefix)) {
        return error_set(error, STATUS_INVALID, NULL, "failed to read ?after=: got '%.40s', expected an id %s_...",
                         page->after, prefix);
    }
    return STATUS_OK;
}

json_t *api_list_json(json_t *data, bool has_more, json_t *last) {
    /* "o" with NULL makes json_pack fail and free the rest. */
    return json_pack("{s:o, s:b, s:o}", "data", data, "has_more", has_more ? 1 : 0, "next_after",
                     has_more && last != NULL ? json_incref(last) : json_null());
}

const char *api_path_id(struct http_request *request, const char *prefix) {
    const char *id = http_request_param(request, "id");
    struct error error = {0};

    if (id != NULL && id_is_valid(id, prefix)) {
        return id;
    }
    error_set(&error, STATUS_NOT_FOUND, NULL, "failed to find %.40s: expected an id %s_...", id != NULL ? id : "",
              prefix);
    http_reply_error(request, &error);
    return NULL;
}

void api_reply_malformed(struct http_request *request, const struct error *error) {
    bool malformed = error->status == STATUS_INVALID || error->status == STATUS_LIMIT;

    http_reply_problem(request, malformed ? 400 : 0, error);
}
