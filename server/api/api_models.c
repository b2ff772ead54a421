/* /v1/models: handlers of the route table over what samples share (api_objects.c). */
#include "server/api/api_internal.h"

void api_models_begin(struct http_request *request, void *context) {
    api_objects_begin(request, context, STORE_MODEL);
}

void api_models_create(struct http_request *request, void *context) {
    api_objects_create(request, context, STORE_MODEL);
}

void api_models_list(struct http_request *request, void *context) {
    api_objects_list(request, context, STORE_MODEL);
}

void api_models_get(struct http_request *request, void *context) {
    api_objects_get(request, context, STORE_MODEL);
}

void api_models_content(struct http_request *request, void *context) {
    api_objects_content(request, context, STORE_MODEL);
}

void api_models_delete(struct http_request *request, void *context) {
    api_objects_delete(request, context, STORE_MODEL);
}
