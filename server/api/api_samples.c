/* /v1/samples: handlers of the route table over what models share (api_objects.c). */
#include "server/api/api_internal.h"

void api_samples_begin(struct http_request *request, void *context) {
    api_objects_begin(request, context, STORE_SAMPLES);
}

void api_samples_create(struct http_request *request, void *context) {
    api_objects_create(request, context, STORE_SAMPLES);
}

void api_samples_list(struct http_request *request, void *context) {
    api_objects_list(request, context, STORE_SAMPLES);
}

void api_samples_get(struct http_request *request, void *context) {
    api_objects_get(request, context, STORE_SAMPLES);
}

void api_samples_content(struct http_request *request, void *context) {
    api_objects_content(request, context, STORE_SAMPLES);
}

void api_samples_delete(struct http_request *request, void *context) {
    api_objects_delete(request, context, STORE_SAMPLES);
}
