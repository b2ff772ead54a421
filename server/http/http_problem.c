/* Problem documents. One table gives each code its type, title and meaning, so clients can switch on `type`. */
#include "server/http/http_problem.h"

#include <stdbool.h>
#include <stddef.h>

static const struct http_problem_kind kinds[] = {
    {400, "/problems/malformed", "Malformed request",
     "The request itself cannot be read: its target, a query parameter, a header field or the JSON of its body. It "
     "will not work better a second time."},
    {401, "/problems/unauthenticated", "Authentication required",
     "The request has no bearer token, or one that is unknown, revoked or expired. Send Authorization: Bearer TOKEN."},
    {403, "/problems/forbidden", "Not allowed",
     "The token lacks the scope that this route asks for, or a browser sent the request from a page, or under a name, "
     "that is not this server's."},
    {404, "/problems/not-found", "Not found", "There is no such path or resource; it may have been deleted."},
    {405, "/problems/method-not-allowed", "Method not allowed",
     "The path exists, but not with this method. Allow lists those it has."},
    {409, "/problems/conflict", "Conflict with the current state",
     "The resource is in a state that forbids this: a job that is still running, a model in use, an upload at another "
     "offset, a request with this Idempotency-Key still in progress."},
    {412, "/problems/precondition-failed", "Precondition failed",
     "If-Match names another state than the resource has now, or Tus-Resumable names a version of the protocol that "
     "this server does not speak."},
    {413, "/problems/too-large", "Too large",
     "The content is larger than a limit, or than the space that is left to store uploads. /v1/capabilities lists the "
     "limits."},
    {415, "/problems/unsupported-media-type", "Unsupported media type",
     "The body has another media type than this route takes, or a content encoding."},
    {416, "/problems/range-not-satisfiable", "Range not satisfiable",
     "The range starts past the end of the content. Content-Range has its length."},
    {422, "/problems/invalid", "Invalid content",
     "The request was understood, but what it says is wrong; errors tells where. Also for an Idempotency-Key that was "
     "used with another request before."},
    {429, "/problems/too-many-requests", "Too many requests",
     "Too many requests, or too many jobs are queued or running. Try again after the seconds of Retry-After."},
    {431, "/problems/header-fields-too-large", "Header fields too large",
     "There are too many header fields, or they are too long."},
    {460, "/problems/checksum-mismatch", "Checksum mismatch",
     "The bytes of this piece of an upload do not have the checksum of Upload-Checksum; they were dropped, send them "
     "again."},
    {500, "/problems/internal", "Internal error",
     "The server met an error of its own. Its log has the request's id, X-Request-Id."},
    {503, "/problems/unavailable", "Not available now",
     "The server is shutting down, short of memory or disk, or busy. Try again after the seconds of Retry-After."},
};
enum { KIND_COUNT = sizeof(kinds) / sizeof(kinds[0]) };

const struct http_problem_kind *http_problem_kind(size_t index) {
    return index < KIND_COUNT ? &kinds[index] : NULL;
}

static const struct http_problem_kind *problem_row(unsigned code) {
    for (size_t i = 0; i < KIND_COUNT; i++) {
        if (kinds[i].code == code) {
            return &kinds[i];
        }
    }
    return NULL;
}

unsigned http_problem_code(enum status status) {
    static const unsigned codes[STATUS_COUNT] = {
        [STATUS_OK] = 500,          [STATUS_NO_MEMORY] = 503, [STATUS_IO] = 500,          [STATUS_INVALID] = 422,
        [STATUS_UNSUPPORTED] = 422, [STATUS_LIMIT] = 413,     [STATUS_NOT_FOUND] = 404,   [STATUS_CONFLICT] = 409,
        [STATUS_CANCELLED] = 503,   [STATUS_NUMERIC] = 422,   [STATUS_UNAVAILABLE] = 503, [STATUS_INTERNAL] = 500,
    };
    return (unsigned)status < STATUS_COUNT ? codes[status] : 500;
}

const char *http_problem_title(unsigned code) {
    const struct http_problem_kind *row = problem_row(code);
    return row != NULL ? row->title : "Error";
}

static json_t *problem_errors(const struct error *error) {
    bool is_pointer = error->where[0] == '/';
    json_t *entry = json_pack("{s:s, s:s, s:s}", "pointer", is_pointer ? error->where : "", "code",
                              status_name(error->status), "detail", error->message);

    if (entry != NULL && !is_pointer && json_object_set_new(entry, "place", json_string(error->where)) != 0) {
        json_decref(entry);
        entry = NULL;
    }
    return entry == NULL ? NULL : json_pack("[o]", entry);
}

/* The path with '?' for what is not ASCII, as jansson takes only UTF-8 and a path may hold any bytes. */
static json_t *instance_json(const char *path) {
    char text[512];
    size_t length = 0;

    for (; path[length] != '\0' && length + 1 < sizeof(text); length++) {
        text[length] = (unsigned char)path[length] < 0x80 ? path[length] : '?';
    }
    text[length] = '\0';
    return json_string(text);
}

json_t *http_problem_make(unsigned code, const struct error *error, const char *instance) {
    const struct http_problem_kind *row = problem_row(code);
    const char *detail = error->message;
    bool about_content = code == 400 || code == 413 || code == 415 || code == 422;
    json_t *problem;

    if (code >= 500 && error->status != STATUS_UNAVAILABLE) {
        detail = code == 503 ? "The server cannot do this now; try again later."
                             : "The server met an error of its own; its log has the request id.";
    }
    problem =
        json_pack("{s:s, s:s, s:i, s:s, s:o}", "type", row != NULL ? row->type : "about:blank", "title",
                  http_problem_title(code), "status", (int)code, "detail", detail, "instance", instance_json(instance));
    if (problem != NULL && about_content && error->where[0] != '\0' &&
        json_object_set_new(problem, "errors", problem_errors(error)) != 0) {
        json_decref(problem);
        problem = NULL;
    }
    return problem;
}
