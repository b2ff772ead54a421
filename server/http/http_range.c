/* Ranges and entity tags. Several ranges in one request are answered with the whole, which RFC 9110 allows: nobody
 * downloads a model in interleaved pieces, and multipart answers have a history of exhausting servers. */
#include "server/http/http_range.h"

#include <stddef.h>
#include <string.h>

/* Reads decimal digits; false if there are none or the number overflows. */
static bool take_number(const char **text, uint64_t *value) {
    const char *at = *text;
    uint64_t number = 0;

    while (*at >= '0' && *at <= '9') {
        if (__builtin_mul_overflow(number, 10U, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number)) {
            return false;
        }
        at++;
    }
    if (at == *text) {
        return false;
    }
    *text = at;
    *value = number;
    return true;
}

static enum http_range_result suffix_range(const char *text, uint64_t size, uint64_t *first, uint64_t *length) {
    uint64_t suffix;

    if (!take_number(&text, &suffix) || *text != '\0') {
        return HTTP_RANGE_WHOLE;
    }
    if (suffix == 0 || size == 0) {
        return HTTP_RANGE_UNSATISFIABLE;
    }
    *length = suffix < size ? suffix : size;
    *first = size - *length;
    return HTTP_RANGE_PART;
}

enum http_range_result http_range_parse(const char *header, uint64_t size, uint64_t *first, uint64_t *length) {
    const char *text;
    uint64_t from, to = UINT64_MAX;

    if (header == NULL || strncmp(header, "bytes=", 6) != 0) {
        return HTTP_RANGE_WHOLE;
    }
    text = header + 6;
    if (*text == '-') {
        return suffix_range(text + 1, size, first, length);
    }
    if (!take_number(&text, &from) || *text++ != '-') {
        return HTTP_RANGE_WHOLE;
    }
    if (*text != '\0' && (!take_number(&text, &to) || *text != '\0' || to < from)) {
        return HTTP_RANGE_WHOLE;
    }
    if (from >= size) {
        return HTTP_RANGE_UNSATISFIABLE;
    }
    *first = from;
    *length = (to >= size ? size - 1 : to) - from + 1;
    return HTTP_RANGE_PART;
}

/* Is `etag` in the list? A weak tag of the list ("W/...") counts only if `weak`. */
static bool is_listed(const char *header, const char *etag, bool weak) {
    size_t length = strlen(etag);
    const char *at = header;

    if (strcmp(header, "*") == 0) {
        return true;
    }
    while (*at != '\0') {
        bool fits = true;
        at += strspn(at, " \t,");
        if (strncmp(at, "W/", 2) == 0) {
            at += 2;
            fits = weak;
        }
        if (fits && strncmp(at, etag, length) == 0 && strchr(" \t,", at[length]) != NULL) {
            return true; /* strchr() also finds the final NUL */
        }
        at += strcspn(at, ",");
    }
    return false;
}

bool http_etag_matches(const char *header, const char *etag) {
    return header != NULL && is_listed(header, etag, true);
}

bool http_if_match_holds(const char *header, const char *etag) {
    return header == NULL || is_listed(header, etag, false);
}

bool http_if_range_holds(const char *header, const char *etag) {
    return header == NULL || strcmp(header, etag) == 0;
}
