/* /openapi.json: the contract. openapi.yaml is kept in the JSON form of YAML 1.2, so that it is served as it is. */
#include <string.h>

#include "common/embedded.h"
#include "server/api/api_internal.h"

void api_openapi_get(struct http_request *request, void *context) {
    struct error error = {0};

    (void)context;
    for (const struct embedded_file *file = embedded_openapi; file->name != NULL; file++) {
        if (strcmp(file->name, "openapi.yaml") == 0) {
            http_reply_text(request, "application/json", (const char *)file->data, file->size);
            return;
        }
    }
    error_set(&error, STATUS_NOT_FOUND, NULL, "failed to find the interface description: it was not built in");
    http_reply_error(request, &error);
}
