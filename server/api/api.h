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
    /* What mitigations exist, [{"name", "summary", "parameters"}], a new reference (methods_describe()). */
    json_t *(*describe_methods)(void);
    const char *const *operators; /* ONNX operators, NULL-terminated, static */
    int opset_min, opset_max;
    /* A token of the configuration, which allows everything; NULL: none; copied as its hash. Others are rows of the store. While
     * there is none at all, nobody is asked for one. */
    const char *token;
    bool check_host;   /* while open: refuse names other than localhost and addresses in Host (against DNS rebinding) */
    double rate;       /* requests a second of one token, or of one address without; 0: no limit */
    double rate_burst; /* how many of them at once */
    uint64_t max_upload;  /* bytes, as in struct http_config */
    uint64_t min_free;    /* bytes on the disk below which the server is not ready */
    uint64_t quota_bytes; /* of all that is stored and announced; 0: no limit */
    uint64_t jobs_max;    /* queued and running jobs of one token; 0: no limit */
    double wait_max_s;    /* the most that ?wait= may ask for */
};

enum status api_new(const struct api_config *config, struct api **api, struct error *error);
/* Accepts NULL. No task of it may be running: after jobs_stop() and http_server_free(). */
void api_free(struct api *api);
/* From now on whatever needs `jobs` is answered 503 and readiness is false. Loop thread. */
void api_drain(struct api *api);

/* Whether nobody is asked for a token: there is none in the configuration or the store. */
bool api_is_open(const struct api *api);
/* Another token of the configuration (NULL: none) from now on. Loop thread. */
void api_set_token(struct api *api, const char *token);
/* Reads the store's tokens again. Loop thread. */
enum status api_reload_tokens(struct api *api, struct error *error);

/* The table for struct http_config; the context of its handlers is the struct api. */
extern const struct http_route api_routes[];
extern const size_t api_route_count;
/* For struct http_config.tick: notes when tokens were used, and whatever else is due. */
void api_tick(struct http_server *server, void *context);
/* For struct http_config.guard: the bearer token, its scopes and its rate and, when none is asked for, where a browser's request comes
 * from. */
enum status api_guard(struct http_request *request, const struct http_route *route, void *context, unsigned *code,
                      struct error *error);

#endif
