/* Request targets to decoded paths and query items, in fixed buffers: a request costs the same memory whatever it asks for. */
#include "server/http/http_uri.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

/* What an unescaper hands back for one character. */
enum { ESCAPE_BAD = -1 };

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return ESCAPE_BAD;
}

/* Decodes the character at *text and moves past it; ESCAPE_BAD for a malformed escape or a control byte. */
static int next_character(const char **text, const char *end) {
    const char *at = *text;
    int value = (unsigned char)*at;

    if (*at == '%') {
        int high, low;
        if (end - at < 3) {
            return ESCAPE_BAD;
        }
        high = hex_digit(at[1]);
        low = hex_digit(at[2]);
        if (high < 0 || low < 0) {
            return ESCAPE_BAD;
        }
        value = high * 16 + low;
        *text = at + 3;
    } else {
        *text = at + 1;
    }
    return value < 0x20 || value == 0x7f ? ESCAPE_BAD : value;
}

static enum status decode_path(const char *from, const char *end, struct http_uri *out, struct error *error) {
    size_t length = 0;

    out->path[0] = '\0';
    while (from < end) {
        bool escaped = *from == '%';
        int value = next_character(&from, end);
        if (value == ESCAPE_BAD || (escaped && value == '/')) {
            return error_set(error, STATUS_INVALID, NULL,
                             "failed to read the request path: got a malformed or forbidden escape, expected %%XX");
        }
        if (length + 1 >= sizeof(out->path)) {
            return error_set(error, STATUS_LIMIT, NULL, "failed to read the request path: expected at most %zu bytes",
                             sizeof(out->path) - 1);
        }
        out->path[length++] = (char)value;
        out->path[length] = '\0';
    }
    return STATUS_OK;
}

static enum status too_long(struct error *error) {
    return error_set(error, STATUS_LIMIT, NULL,
                     "failed to read the query: expected at most %d parameters in %d bytes altogether",
                     HTTP_QUERY_ITEMS_MAX, HTTP_QUERY_SIZE - 1);
}

static enum status decode_query(const char *from, const char *end, struct http_uri *out, struct error *error) {
    size_t used = 0;

    while (from < end) {
        struct http_query_item *item;
        bool in_value = false;

        if (*from == '&') {
            from++;
            continue;
        }
        if (out->query_count == HTTP_QUERY_ITEMS_MAX) {
            return too_long(error);
        }
        item = &out->query[out->query_count++];
        item->name = out->store + used;
        item->value = "";
        while (from < end && *from != '&') {
            int value;
            if (used + 2 >= sizeof(out->store)) {
                return too_long(error);
            }
            if (*from == '=' && !in_value) {
                out->store[used++] = '\0';
                item->value = out->store + used;
                in_value = true;
                from++;
                continue;
            }
            if (*from == '+') {
                value = ' ';
                from++;
            } else {
                value = next_character(&from, end);
            }
            if (value == ESCAPE_BAD) {
                return error_set(error, STATUS_INVALID, NULL,
                                 "failed to read the query: got a malformed escape, expected %%XX");
            }
            out->store[used++] = (char)value;
        }
        out->store[used++] = '\0';
    }
    return STATUS_OK;
}

enum status http_uri_parse(const char *raw, struct http_uri *out, struct error *error) {
    const char *path = raw, *question, *end;
    enum status status;

    out->path[0] = '\0';
    out->query_count = 0;
    if (strncasecmp(raw, "http://", 7) == 0 || strncasecmp(raw, "https://", 8) == 0) {
        path = strchr(strstr(raw, "//") + 2, '/');
        if (path == NULL) {
            path = "/";
        }
    }
    if (*path != '/') {
        return error_set(error, STATUS_INVALID, NULL, "failed to read the request target: expected a path from '/'");
    }
    end = path + strlen(path);
    question = strchr(path, '?');
    status = decode_path(path, question != NULL ? question : end, out, error);
    if (status == STATUS_OK && question != NULL) {
        status = decode_query(question + 1, end, out, error);
    }
    if (status != STATUS_OK) {
        out->query_count = 0; /* the last item may not be whole */
    }
    return status;
}

const char *http_uri_query(const struct http_uri *uri, const char *name) {
    for (size_t i = 0; i < uri->query_count; i++) {
        if (strcmp(uri->query[i].name, name) == 0) {
            return uri->query[i].value;
        }
    }
    return NULL;
}
