/* What nobody asks for: about once a second the loop thread looks for what is due, and a helper thread writes it. */
#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "server/api/api_internal.h"

static const double HOUSEKEEP_EVERY_S = 2.0;

/* One round of work for a helper thread. */
struct round {
    struct api *api;
    struct store_token *used;
    size_t used_count;
};

static void complain(enum status status, const struct error *error) {
    if (status != STATUS_OK) {
        log_event(LOG_WARN, "housekeeping_failed", "%s", error->message);
    }
}

static void note_used(struct store *store, const struct store_token *used, size_t count) {
    struct error error = {0};

    complain(store_token_note_used(store, used, count, &error), &error);
}

static void keep_house(void *user) {
    struct round *round = user;

    struct store *store = round->api->config.store;
    struct error error = {0};

    if (round->used_count > 0) {
        note_used(store, round->used, round->used_count);
    }
    complain(store_resumable_purge(store, clock_wall_ms(), &error), &error);
    error_clear(&error);
    complain(store_job_expire_queued(store, &error), &error);
    mem_free(round->used);
    mem_free(round);
}

void api_tick(struct http_server *server, void *context) {
    struct api *api = context;
    double now = clock_seconds();
    struct round *round;
    struct error error = {0};

    (void)server;
    if (api->draining || now - api->kept_house < HOUSEKEEP_EVERY_S) {
        return;
    }
    api->kept_house = now;
    round = mem_calloc(1, sizeof(*round));
    if (round == NULL) {
        return;
    }
    round->api = api;
    round->used_count = api_tokens_take_used(api, &round->used);
    if (jobs_run_later(api->config.jobs, keep_house, round, &error) != STATUS_OK) {
        mem_free(round->used);
        mem_free(round);
    }
}

void api_housekeep_last(struct api *api) {
    struct store_token *used = NULL;
    size_t count;

    api->draining = true;
    count = api_tokens_take_used(api, &used);
    if (count > 0) {
        note_used(api->config.store, used, count);
    }
    mem_free(used);
}
