/* Who may do what: under which name the server was reached, which token was shown, what it allows, how often. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/clock.h"
#include "server/api/api_internal.h"

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

static unsigned needed_scope(enum http_scope scope) {
    static const enum token_scope scopes[] = {[HTTP_SCOPE_OPEN] = SCOPE_READ,
                                              [HTTP_SCOPE_READ] = SCOPE_READ,
                                              [HTTP_SCOPE_WRITE] = SCOPE_WRITE,
                                              [HTTP_SCOPE_METRICS] = SCOPE_METRICS,
                                              [HTTP_SCOPE_ADMIN] = SCOPE_ADMIN};
    return 1U << scopes[scope];
}

/* What the shown token allows, or 0 with *why; notes who asks and when. */
static unsigned scopes_of(struct http_request *request, struct api *api, const char **why) {
    const char *shown = http_request_header(request, "Authorization");
    const int64_t now = clock_wall_ms();
    char sha256[DIGEST_HEX_SIZE];
    struct api_token *token;

    *why = "expected Authorization: Bearer TOKEN";
    if (shown == NULL || strncasecmp(shown, "Bearer ", 7) != 0) {
        return 0;
    }
    shown += 7;
    shown += strspn(shown, " ");
    digest_bytes(shown, strlen(shown), sha256);
    if (api->has_token && strcmp(sha256, api->token_sha256) == 0) {
        http_request_set_subject(request, "configured");
        return (1U << SCOPE_COUNT) - 1;
    }
    token = api_tokens_find(api, sha256);
    if (token == NULL) {
        *why = "the token is not known, or was revoked";
        return 0;
    }
    if (token->row.expires_ms != 0 && now >= token->row.expires_ms) {
        *why = "the token has expired";
        return 0;
    }
    token->row.used_ms = now;
    http_request_set_subject(request, token->row.id);
    return (token->row.scopes & 1U << SCOPE_ADMIN) != 0 ? (1U << SCOPE_COUNT) - 1 : token->row.scopes;
}

static enum status check_token(struct http_request *request, struct api *api, const struct http_route *route,
                               unsigned *code, struct error *error) {
    unsigned needed = needed_scope(route->scope), scopes;
    const char *why = "", *word = "";
    char challenge[128];

    scopes = scopes_of(request, api, &why);
    if (scopes == 0) {
        bool shown = http_request_header(request, "Authorization") != NULL;
        http_reply_header(request, "WWW-Authenticate",
                          shown ? "Bearer realm=\"onp\", error=\"invalid_token\"" : "Bearer realm=\"onp\"");
        *code = 401;
        return error_set(error, STATUS_INVALID, NULL, "failed to admit the request: %s", why);
    }
    if ((scopes & needed) != 0) {
        return STATUS_OK;
    }
    for (unsigned scope = 0; scope < SCOPE_COUNT; scope++) {
        word = needed == 1U << scope ? token_scope_name((enum token_scope)scope) : word;
    }
    (void)snprintf(challenge, sizeof(challenge), "Bearer realm=\"onp\", error=\"insufficient_scope\", scope=\"%s\"",
                   word);
    http_reply_header(request, "WWW-Authenticate", challenge);
    *code = 403;
    return error_set(error, STATUS_INVALID, NULL, "failed to admit the request: the token lacks the scope %s", word);
}

/* A client is its token, or its address if it has none. */
static enum status check_rate(struct http_request *request, struct api *api, unsigned *code, struct error *error) {
    char address[HTTP_ADDRESS_SIZE], seconds[32];
    const char *client = http_request_subject(request);
    double wait;

    if (api->rate == NULL) {
        return STATUS_OK;
    }
    if (client[0] == '\0') {
        http_request_address(request, address);
        client = address;
    }
    wait = api_rate_take(api->rate, client, clock_seconds());
    if (wait <= 0) {
        return STATUS_OK;
    }
    (void)snprintf(seconds, sizeof(seconds), "%.0f", ceil(wait));
    http_reply_header(request, "Retry-After", seconds);
    *code = 429;
    return error_set(error, STATUS_UNAVAILABLE, NULL,
                     "failed to admit the request: got more than %g a second, expected to be asked again in %s s",
                     api->config.rate, seconds);
}

bool api_is_open(const struct api *api) {
    return !api->has_token && api->tokens.count == 0;
}

enum status api_guard(struct http_request *request, const struct http_route *route, void *context, unsigned *code,
                      struct error *error) {
    struct api *api = context;
    const char *host = http_request_header(request, "Host");
    const char *origin = http_request_header(request, "Origin");
    bool open = api_is_open(api);
    enum status status;

    *code = 403;
    if (open && api->config.check_host && http_request_peer(request) != HTTP_PEER_UNIX && host != NULL &&
        !host_is_ours(host)) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to admit the request: got Host '%.80s', expected localhost or an address", host);
    }
    if (route->scope == HTTP_SCOPE_OPEN) {
        return STATUS_OK;
    }
    if (open && origin != NULL && route->scope != HTTP_SCOPE_READ && !origin_is_ours(origin, host)) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to admit the request: got Origin '%.80s', expected this server's own pages", origin);
    }
    status = open ? STATUS_OK : check_token(request, api, route, code, error);
    if (status == STATUS_OK || *code == 401) {
        struct error late = {0};
        unsigned late_code = 429;
        /* Guesses at tokens count, too. */
        if (check_rate(request, api, &late_code, &late) != STATUS_OK) {
            *code = late_code;
            *error = late;
            return late.status;
        }
    }
    return status;
}
