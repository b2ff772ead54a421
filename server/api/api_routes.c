/* The route table, in the order of the interface's documentation. */
#include "server/api/api_internal.h"

#define OPEN HTTP_SCOPE_OPEN
#define READ HTTP_SCOPE_READ
#define WRITE HTTP_SCOPE_WRITE
#define ADMIN HTTP_SCOPE_ADMIN

/* clang-format off */
const struct http_route api_routes[] = {
    {"GET",    "/healthz",                       OPEN,  HTTP_BODY_NONE, NULL, api_health_live},
    {"GET",    "/readyz",                        OPEN,  HTTP_BODY_NONE, NULL, api_health_ready},
    {"GET",    "/v2",                            OPEN,  HTTP_BODY_NONE, NULL, api_health_server},
    {"GET",    "/v2/health/live",                OPEN,  HTTP_BODY_NONE, NULL, api_health_live},
    {"GET",    "/v2/health/ready",               OPEN,  HTTP_BODY_NONE, NULL, api_health_ready},
    {"GET",    "/metrics",                       HTTP_SCOPE_METRICS, HTTP_BODY_NONE, NULL, api_metrics_get},
    {"GET",    "/openapi.json",                  OPEN,  HTTP_BODY_NONE, NULL, api_openapi_get},
    {"GET",    "/",                              OPEN,  HTTP_BODY_NONE, NULL, api_dashboard_index},
    {"GET",    "/ui/{file}",                     OPEN,  HTTP_BODY_NONE, NULL, api_dashboard_file},
    {"GET",    "/problems/{type}",               OPEN,  HTTP_BODY_NONE, NULL, api_problems_get},
    {"GET",    "/v1/capabilities",               READ,  HTTP_BODY_NONE, NULL, api_capabilities_get},
    {"POST",   "/v1/models",                     WRITE, HTTP_BODY_STREAM, api_models_begin, api_models_create},
    {"PUT",    "/v1/models",                     WRITE, HTTP_BODY_STREAM, api_models_begin, api_models_create}, /* curl -T */
    {"GET",    "/v1/models",                     READ,  HTTP_BODY_NONE, NULL, api_models_list},
    {"GET",    "/v1/models/{id}",                READ,  HTTP_BODY_NONE, NULL, api_models_get},
    {"GET",    "/v1/models/{id}/content",        READ,  HTTP_BODY_NONE, NULL, api_models_content},
    {"GET",    "/v1/models/{id}/graph",          READ,  HTTP_BODY_NONE, NULL, api_models_graph},
    {"DELETE", "/v1/models/{id}",                WRITE, HTTP_BODY_NONE, NULL, api_models_delete},
    {"POST",   "/v1/samples",                    WRITE, HTTP_BODY_STREAM, api_samples_begin, api_samples_create},
    {"PUT",    "/v1/samples",                    WRITE, HTTP_BODY_STREAM, api_samples_begin, api_samples_create},
    {"GET",    "/v1/samples",                    READ,  HTTP_BODY_NONE, NULL, api_samples_list},
    {"GET",    "/v1/samples/{id}",               READ,  HTTP_BODY_NONE, NULL, api_samples_get},
    {"GET",    "/v1/samples/{id}/content",       READ,  HTTP_BODY_NONE, NULL, api_samples_content},
    {"DELETE", "/v1/samples/{id}",               WRITE, HTTP_BODY_NONE, NULL, api_samples_delete},
    {"OPTIONS", "/v1/uploads",                   OPEN,  HTTP_BODY_NONE, NULL, api_uploads_options},
    {"POST",   "/v1/uploads",                    WRITE, HTTP_BODY_NONE, NULL, api_uploads_create},
    {"HEAD",   "/v1/uploads/{id}",               WRITE, HTTP_BODY_NONE, NULL, api_uploads_head},
    {"PATCH",  "/v1/uploads/{id}",               WRITE, HTTP_BODY_STREAM, api_uploads_patch_begin, api_uploads_patch},
    {"DELETE", "/v1/uploads/{id}",               WRITE, HTTP_BODY_NONE, NULL, api_uploads_delete},
    {"POST",   "/v1/uploads/{id}/complete",      WRITE, HTTP_BODY_JSON, NULL, api_uploads_complete},
    {"POST",   "/v1/jobs",                       WRITE, HTTP_BODY_JSON, NULL, api_jobs_create},
    {"GET",    "/v1/jobs",                       READ,  HTTP_BODY_NONE, NULL, api_jobs_list},
    {"GET",    "/v1/jobs/{id}",                  READ,  HTTP_BODY_NONE, NULL, api_jobs_get},
    {"DELETE", "/v1/jobs/{id}",                  WRITE, HTTP_BODY_NONE, NULL, api_jobs_delete},
    {"POST",   "/v1/jobs/{id}/cancel",           WRITE, HTTP_BODY_NONE, NULL, api_jobs_cancel},
    {"POST",   "/v1/jobs/{id}/retry",            WRITE, HTTP_BODY_NONE, NULL, api_jobs_retry},
    {"GET",    "/v1/jobs/{id}/events",           READ,  HTTP_BODY_NONE, NULL, api_events_get},
    {"GET",    "/v1/jobs/{id}/result",           READ,  HTTP_BODY_NONE, NULL, api_result_get},
    {"GET",    "/v1/jobs/{id}/artifacts",        READ,  HTTP_BODY_NONE, NULL, api_artifacts_list},
    {"GET",    "/v1/jobs/{id}/artifacts/{name}", READ,  HTTP_BODY_NONE, NULL, api_artifacts_get},
    {"POST",   "/v1/tokens",                     ADMIN, HTTP_BODY_JSON, NULL, api_tokens_create},
    {"GET",    "/v1/tokens",                     ADMIN, HTTP_BODY_NONE, NULL, api_tokens_list},
    {"GET",    "/v1/tokens/{id}",                ADMIN, HTTP_BODY_NONE, NULL, api_tokens_get},
    {"DELETE", "/v1/tokens/{id}",                ADMIN, HTTP_BODY_NONE, NULL, api_tokens_delete},
};
/* clang-format on */

const size_t api_route_count = sizeof(api_routes) / sizeof(api_routes[0]);
