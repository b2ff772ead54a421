/* Matching a path against the route table, segment by segment. A linear walk: the table has some forty rows and a
 * comparison ends at the first byte that differs. */
#include "server/http/http_route.h"

#include <stdbool.h>
#include <string.h>

#include "common/error.h"

static bool is_param_character(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '_' ||
           c == '-';
}

/* Takes the segment at *path as the value of the parameter at *template (which points at '{'). */
static bool take_param(const char **template, const char **path, struct http_match *match) {
    const char *value = *path, *close = strchr(*template, '}');
    size_t length = 0;

    if (close == NULL || match->param_count == HTTP_PARAMS_MAX) {
        return false;
    }
    while (is_param_character(value[length])) {
        length++;
    }
    if (length == 0 || length >= HTTP_PARAM_SIZE || (length == 1 && value[0] == '.') ||
        (length == 2 && value[0] == '.' && value[1] == '.')) {
        return false;
    }
    match->param_names[match->param_count] = *template + 1;
    memcpy(match->params[match->param_count], value, length);
    match->params[match->param_count][length] = '\0';
    match->param_count++;
    *template = close + 1;
    *path = value + length;
    return true;
}

static bool path_matches(const char *template, const char *path, struct http_match *match) {
    match->param_count = 0;
    while (*template != '\0') {
        if (*template == '{') {
            if (!take_param(&template, &path, match)) {
                return false;
            }
        } else if (*template != *path) {
            return false;
        } else {
            template ++;
            path++;
        }
    }
    return *path == '\0';
}

static void allow_add(struct http_match *match, const char *method) {
    size_t used = strlen(match->allow), length = strlen(method), comma = used > 0 ? 2 : 0;

    if (used + comma + length >= sizeof(match->allow)) {
        return;
    }
    memcpy(match->allow + used, ", ", comma);
    memcpy(match->allow + used + comma, method, length + 1);
}

enum http_match_result http_route_match(const struct http_route *routes, size_t count, const char *method,
                                        const char *path, struct http_match *match) {
    bool head = strcmp(method, "HEAD") == 0;

    memset(match, 0, sizeof(*match));
    for (size_t i = 0; i < count; i++) {
        bool is_get = strcmp(routes[i].method, "GET") == 0;
        if (!path_matches(routes[i].path, path, match)) {
            continue;
        }
        if (strcmp(routes[i].method, method) == 0 || (head && is_get)) {
            match->route = &routes[i];
            match->index = i;
            return HTTP_MATCH_FOUND;
        }
        allow_add(match, routes[i].method);
        if (is_get) {
            allow_add(match, "HEAD");
        }
    }
    match->param_count = 0;
    return match->allow[0] != '\0' ? HTTP_MATCH_NO_METHOD : HTTP_MATCH_NO_PATH;
}

const char *http_match_param(const struct http_match *match, const char *name) {
    size_t length = strlen(name);

    for (size_t i = 0; i < match->param_count; i++) {
        if (strncmp(match->param_names[i], name, length) == 0 && match->param_names[i][length] == '}') {
            return match->params[i];
        }
    }
    return NULL;
}
