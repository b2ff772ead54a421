/* Problem documents. One table gives each code its type and title, so clients can switch on `type`. */
#include "server/http/http_problem.h"

#include <stdbool.h>
#include <stddef.h>

struct problem_row {
    unsigned code;
    const char *type, *title;
};

static const struct problem_row problem_table[] = {
    {400, "/problems/malformed", "Malformed request"},
    {401, "/problems/unauthenticated", "Authentication required"},
    {403, "/problems/forbidden", "Not allowed"},
    {404, "/problems/not-found", "Not found"},
    {405, "/problems/method-not-allowed", "Method not allowed"},
    {409, "/problems/conflict", "Conflict with the current state"},
    {413, "/problems/too-large", "Too large"},
    {415, "/problems/unsupported-media-type", "Unsupported media type"},
    {416, "/problems/range-not-satisfiable", "Range not satisfiable"},
    {422, "/problems/invalid", "Invalid content"},
    {429, "/problems/too-many-requests", "Too many requests"},
    {431, "/problems/header-fields-too-large", "Header fields too large"},
    {500, "/problems/internal", "Internal error"},
    {503, "/problems/unavailable", "Not available now"},
};

static const struct problem_row *problem_row(unsigned code) {
    for (size_t i = 0; i < sizeof(problem_table) / sizeof(problem_table[0]); i++) {
        if (problem_table[i].code == code) {
            return &problem_table[i];
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
    const struct problem_row *row = problem_row(code);
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
    const struct problem_row *row = problem_row(code);
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
