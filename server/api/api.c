/* The context of the handlers, the guard, and the small readers and writers that several resources share. */
#include "server/api/api.h"

#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "common/parse.h"
#include "server/api/api_internal.h"

enum status api_new(const struct api_config *config, struct api **api, struct error *error) {
    struct api *made = mem_calloc(1, sizeof(*made));
    enum status status;

    if (made == NULL) {
        return error_no_memory(error, "the API");
    }
    made->config = *config;
    made->started_ms = clock_wall_ms();
    api_set_token(made, config->token);
    made->config.token = NULL;
    made->documents = api_documents_new();
    status = made->documents != NULL ? api_tokens_load(made, error) : error_no_memory(error, "the documents");
    if (status == STATUS_OK) {
        status = store_idempotency_recover(config->store, error);
    }
    if (status == STATUS_OK && config->rate > 0) {
        made->rate = api_rate_new(config->rate, config->rate_burst);
        status = made->rate != NULL ? STATUS_OK : error_no_memory(error, "the rate limit");
    }
    if (status != STATUS_OK) {
        api_free(made);
        return status;
    }
    *api = made;
    return STATUS_OK;
}

void api_free(struct api *api) {
    if (api == NULL) {
        return;
    }
    api_housekeep_last(api);
    api_rate_free(api->rate);
    api_documents_free(api->documents);
    mem_free(api->tokens.items);
    mem_free(api);
}

void api_set_token(struct api *api, const char *token) {
    api->has_token = token != NULL;
    if (token != NULL) {
        digest_bytes(token, strlen(token), api->token_sha256);
    }
}

enum status api_reload_tokens(struct api *api, struct error *error) {
    return api_tokens_load(api, error);
}

void api_drain(struct api *api) {
    api->draining = true;
}

enum status api_read_page(struct http_request *request, const char *prefix, struct api_page *page,
                          struct error *error) {
    const char *limit = http_request_query(request, "limit");
    uint64_t number = API_LIST_DEFAULT;

    if (limit != NULL && (!parse_u64(limit, STORE_LIST_MAX, &number) || number == 0)) {
        return error_set(error, STATUS_INVALID, NULL, "failed to read ?limit=: got '%.40s', expected 1 to %d", limit,
                         STORE_LIST_MAX);
    }
    page->limit = (size_t)number;
    page->after = http_request_query(request, "after");
    if (page->after != NULL && prefix != NULL && !id_is_valid(page->after, prefix)) {
        return error_set(error, STATUS_INVALID, NULL, "failed to read ?after=: got '%.40s', expected an id %s_...",
                         page->after, prefix);
    }
    return STATUS_OK;
}

json_t *api_list_json(json_t *data, bool has_more, json_t *last) {
    /* "o" with NULL makes json_pack fail and free the rest. */
    return json_pack("{s:o, s:b, s:o}", "data", data, "has_more", has_more ? 1 : 0, "next_after",
                     has_more && last != NULL ? json_incref(last) : json_null());
}

const char *api_path_id(struct http_request *request, const char *prefix) {
    const char *id = http_request_param(request, "id");
    struct error error = {0};

    if (id != NULL && id_is_valid(id, prefix)) {
        return id;
    }
    error_set(&error, STATUS_NOT_FOUND, NULL, "failed to find %.40s: expected an id %s_...", id != NULL ? id : "",
              prefix);
    http_reply_error(request, &error);
    return NULL;
}

void api_reply_malformed(struct http_request *request, const struct error *error) {
    bool malformed = error->status == STATUS_INVALID || error->status == STATUS_LIMIT;

    http_reply_problem(request, malformed ? 400 : 0, error);
}
