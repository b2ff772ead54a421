/* /problems/{type}: what the `type` of a problem document points at. */
#include <stdio.h>
#include <string.h>

#include "server/api/api_internal.h"
#include "server/http/http_problem.h"

void api_problems_get(struct http_request *request, void *context) {
    const char *path = http_request_path(request);
    struct error error = {0};
    char page[1024];

    (void)context;
    for (size_t i = 0; http_problem_kind(i) != NULL; i++) {
        const struct http_problem_kind *kind = http_problem_kind(i);
        if (strcmp(kind->type, path) == 0) {
            int length = snprintf(page, sizeof(page),
                                  "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\">"
                                  "<title>%s</title></head>\n<body><h1>%u %s</h1><p>%s</p></body>\n</html>\n",
                                  kind->title, kind->code, kind->title, kind->meaning);
            http_reply_header(request, "Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'");
            http_reply_text(request, "text/html; charset=utf-8", page, (size_t)length);
            return;
        }
    }
    error_set(&error, STATUS_NOT_FOUND, NULL, "failed to find this kind of problem: there is none");
    http_reply_error(request, &error);
}
