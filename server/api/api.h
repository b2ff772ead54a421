/* The REST interface: route table, guard and the context that its handlers share. Handlers turn a request into calls and
 * keep no state of their own. */
#ifndef ONP_SERVER_API_API_H
#define ONP_SERVER_API_API_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/http/http_request.h"
#include "server/http/http_route.h"
#include "server/http/http_server.h"
#include "server/jobs/jobs.h"
#include "server/store/store.h"

struct api;

struct api_config {
    struct store *store; /* borrowed; must outlive the api */
    struct jobs *jobs;   /* borrowed; not used any more after api_drain() */
    /* What mitigations exist, [{"name", "summary", "parameters"}], a new reference (mitigate_describe_methods()). */
    json_t *(*describe_methods)(void);
    const char *const *operators; /* ONNX operators, NULL-terminated, static */
    int opset_min, opset_max;
    const char *token;   /* what a bearer must show; NULL: no token is asked for; copied as its hash */
    bool check_host;     /* refuse names other than localhost and addresses in Host (against DNS rebinding) */
    uint64_t max_upload; /* bytes, as in struct http_config */
    uint64_t min_free;   /* bytes on the disk below which the server is not ready */
    double wait_max_s;   /* the most that ?wait= may ask for */
};

enum status api_new(const struct api_config *config, struct api **api, struct error *error);
/* Accepts NULL. No task of it may be running: after jobs_stop() and http_server_free(). */
void api_free(struct api *api);
/* From now on whatever needs `jobs` is answered 503 and readiness is false. Loop thread. */
void api_drain(struct api *api);

/* The table for struct http_config; the context of its handlers is the struct api. */
extern const struct http_route api_routes[];
extern const size_t api_route_count;
/* For struct http_config.guard: the bearer token and, when none is asked for, where a browser's request comes from. */
enum status api_guard(struct http_request *request, const struct http_route *route, void *context, unsigned *code,
                      struct error *error);

#endif
