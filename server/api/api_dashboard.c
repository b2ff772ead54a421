/* The dashboard's files, embedded at build time. */
#include <string.h>

#include "common/embedded.h"
#include "server/api/api_internal.h"

/* Scripts and styles only from files of ours, no frames around us, no text that becomes markup: what a page shows came
 * from uploads. */
static const char content_policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

static const struct {
    const char *suffix, *type;
} content_types[] = {
    {".html", "text/html; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".svg", "image/svg+xml"},
};

static void reply_file(struct http_request *request, const char *name) {
    const char *dot = strrchr(name, '.'), *type = "application/octet-stream";
    struct error error = {0};

    for (size_t i = 0; dot != NULL && i < sizeof(content_types) / sizeof(content_types[0]); i++) {
        if (strcmp(dot, content_types[i].suffix) == 0) {
            type = content_types[i].type;
        }
    }
    for (const struct embedded_file *file = embedded_dashboard; file->name != NULL; file++) {
        if (strcmp(file->name, name) == 0) {
            http_reply_header(request, "Content-Security-Policy", content_policy);
            http_reply_header(request, "Referrer-Policy", "no-referrer");
            http_reply_header(request, "Cross-Origin-Opener-Policy", "same-origin");
            http_reply_text(request, type, (const char *)file->data, file->size);
            return;
        }
    }
    error_set(&error, STATUS_NOT_FOUND, NULL, "failed to find page %.60s", name);
    http_reply_error(request, &error);
}

void api_dashboard_index(struct http_request *request, void *context) {
    (void)context;
    reply_file(request, "index.html");
}

void api_dashboard_file(struct http_request *request, void *context) {
    (void)context;
    reply_file(request, http_request_param(request, "file"));
}
