/* Framing checks. libmicrohttpd 0.9.75 takes a request with two lengths, folds lines into the wrong field, ends lines at
 * a bare CR or LF and cuts a value at a NUL; a proxy in front may read the same bytes as two requests. So such requests are refused whole. */
#include "server/http/http_framing.h"

#include <string.h>
#include <strings.h>

static bool is_token_character(unsigned char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static bool is_token(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (!is_token_character((unsigned char)text[i])) {
            return false;
        }
    }
    return length > 0;
}

static bool is_field_value(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return true;
}

/* The value must follow its name with only ':' and blanks between: a folded line is moved elsewhere by the parser. */
static bool value_follows_name(const struct http_field *field) {
    const char *at = field->name + field->name_length + 1;

    if (field->value < at || field->value - at > HTTP_FIELD_BYTES_MAX) {
        return false;
    }
    while (at < field->value && (*at == ' ' || *at == '\t')) {
        at++;
    }
    return at == field->value;
}

/* After the value: CR and LF, now both NUL, then the next name, or the empty line that ends the fields. The parser also ends a line at a
 * bare LF or CR, which others read as a part of the value: only one byte is NUL then. */
static bool line_ends_after_value(const struct http_field *field, const struct http_field *next) {
    const char *end = field->value + field->value_length;

    return end[0] == '\0' && end[1] == '\0' && (next == NULL || next->name == end + 2);
}

static enum status check_field(const struct http_field *field, const struct http_field *next, struct error *error) {
    if (!is_token(field->name, field->name_length)) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to read the header fields: got a name that is not a token");
    }
    if (field->value == NULL || !value_follows_name(field)) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to read the header fields: got a folded line, expected one line a field");
    }
    if (!is_field_value(field->value, field->value_length)) {
        return error_set(error, STATUS_INVALID, NULL, "failed to read header field %s: got a control byte in its value",
                         field->name);
    }
    if (!line_ends_after_value(field, next)) {
        return error_set(
            error, STATUS_INVALID, NULL,
            "failed to read the header fields: got a NUL byte, a folded line, a bare CR or a bare LF after field %s",
            field->name);
    }
    return STATUS_OK;
}

static enum status count_once(size_t seen, const char *name, struct error *error) {
    if (seen > 1) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to read the header fields: got %s %zu times, expected once", name, seen);
    }
    return STATUS_OK;
}

enum status http_framing_check(const struct http_field *fields, size_t count, bool http_1_1, struct error *error) {
    size_t lengths = 0, encodings = 0, hosts = 0, bytes = 0;
    enum status status = STATUS_OK;

    for (size_t i = 0; i < count; i++) {
        const struct http_field *field = &fields[i];

        bytes += field->name_length + field->value_length;
        if (count > HTTP_FIELDS_MAX || bytes > HTTP_FIELD_BYTES_MAX) {
            return error_set(error, STATUS_LIMIT, NULL,
                             "failed to read the header fields: got more than %d fields or %d bytes", HTTP_FIELDS_MAX,
                             HTTP_FIELD_BYTES_MAX);
        }
        status = check_field(field, i + 1 < count ? field + 1 : NULL, error);
        if (status != STATUS_OK) {
            return status;
        }
        if (strcasecmp(field->name, "Content-Length") == 0) {
            lengths++;
        } else if (strcasecmp(field->name, "Host") == 0) {
            hosts++;
        } else if (strcasecmp(field->name, "Transfer-Encoding") == 0) {
            encodings++;
            if (strcasecmp(field->value, "chunked") != 0) {
                return error_set(error, STATUS_INVALID, NULL,
                                 "failed to read Transfer-Encoding: got '%.64s', expected 'chunked'", field->value);
            }
        }
    }
    if (lengths > 0 && encodings > 0) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to read the header fields: got Content-Length together with Transfer-Encoding");
    }
    if (encodings > 0 && !http_1_1) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to read the header fields: got Transfer-Encoding in HTTP/1.0");
    }
    if (hosts == 0 && http_1_1) {
        return error_set(error, STATUS_INVALID, NULL, "failed to read the header fields: got no Host, expected one");
    }
    status = count_once(hosts, "Host", error);
    if (status == STATUS_OK) {
        status = count_once(lengths, "Content-Length", error);
    }
    if (status == STATUS_OK) {
        status = count_once(encodings, "Transfer-Encoding", error);
    }
    return status;
}
