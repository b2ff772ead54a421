/* What a server says when it says no. The text may come from any server, so every part is bounded; error_set() cleans
 * the bytes. */
#include "client/problem.h"

#include <string.h>

#include "common/buf.h"

enum status problem_status(long code) {
    switch (code) {
    case 404:
    case 410:
        return STATUS_NOT_FOUND;
    case 409:
    case 412:
        return STATUS_CONFLICT;
    case 413:
    case 414:
    case 431:
        return STATUS_LIMIT;
    case 415:
        return STATUS_UNSUPPORTED;
    case 429:
    case 502:
    case 503:
    case 504:
        return STATUS_UNAVAILABLE;
    default:
        return code >= 400 && code < 500 ? STATUS_INVALID : STATUS_INTERNAL;
    }
}

static const char *text_of(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "";
}

/* What to do about it, where the answer alone does not say. */
static const char *hint(long code) {
    return code == 401 ? " (give a token: --token or ONP_TOKEN)" : code == 403 ? " (the token lacks the scope)" : "";
}

enum status problem_to_error(long code, const json_t *body, const char *what, struct error *error) {
    enum status status = problem_status(code);
    const json_t *errors = json_object_get(body, "errors");
    const char *detail = text_of(body, "detail");
    const char *title = text_of(body, "title");
    const char *where = what;
    struct buf message;
    buf_init(&message, ERROR_MESSAGE_MAX);
    (void)buf_printf(&message, "%.360s", detail[0] != '\0' ? detail : title);
    if (detail[0] == '\0' && title[0] == '\0') {
        (void)buf_printf(&message, "failed to %s: got HTTP status %ld, expected success", what, code);
    }
    size_t i = 0;
    json_t *item = NULL;
    json_array_foreach(errors, i, item) {
        const char *pointer = text_of(item, "pointer");
        pointer = pointer[0] != '\0' ? pointer : text_of(item, "place"); /* "node 'conv1'", "byte 12" */
        const char *text = text_of(item, "detail");
        if (i == 0 && pointer[0] != '\0') {
            where = pointer;
        }
        /* A server with one error often repeats it as the detail. */
        if (text[0] == '\0' || (message.data != NULL && strstr(message.data, text) != NULL)) {
            continue;
        }
        size_t length = strlen(pointer) + strlen(text) + 5;
        if (message.length + length >= message.max) {
            break;
        }
        (void)buf_printf(&message, "; %s%s%s", i > 0 ? pointer : "", i > 0 && pointer[0] != '\0' ? ": " : "", text);
    }
    (void)error_set(error, status, where, "%s%s", message.data != NULL ? message.data : "failed", hint(code));
    buf_deinit(&message);
    return status;
}
