/* /v1/tokens, and the set of tokens in memory that the guard looks into: a request must not wait for the database to learn who
 * asks. The set is read again after each change; when a token was used is noted here and written down now and then. */
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/json_read.h"
#include "common/log.h"
#include "common/mem.h"
#include "server/api/api_internal.h"

enum { EXPIRES_MAX_S = 10 * 366 * 24 * 3600 };
static const int64_t USE_NOTED_EVERY_MS = 60000;

/* --- the set; loop thread --- */

static struct api_token *find_id(const struct api_token_set *set, const char *id) {
    for (size_t i = 0; i < set->count; i++) {
        if (strcmp(set->items[i].row.id, id) == 0) {
            return &set->items[i];
        }
    }
    return NULL;
}

enum status api_tokens_load(struct api *api, struct error *error) {
    struct store_token *rows = NULL;
    struct api_token_set fresh = {0};
    enum status status = store_token_list(api->config.store, &rows, &fresh.count, error);

    if (status == STATUS_OK) {
        fresh.items = mem_calloc(fresh.count, sizeof(*fresh.items));
        status = fresh.items != NULL ? STATUS_OK : error_no_memory(error, "the tokens");
    }
    if (status == STATUS_OK) {
        for (size_t i = 0; i < fresh.count; i++) {
            const struct api_token *old = find_id(&api->tokens, rows[i].id);
            fresh.items[i] = (struct api_token){.row = rows[i], .noted_ms = rows[i].used_ms};
            if (old != NULL && old->row.used_ms > rows[i].used_ms) {
                fresh.items[i].row.used_ms = old->row.used_ms;
            }
        }
        mem_free(api->tokens.items);
        api->tokens = fresh;
    }
    mem_free(rows);
    return status;
}

struct api_token *api_tokens_find(struct api *api, const char *sha256) {
    for (size_t i = 0; i < api->tokens.count; i++) {
        /* Hashes are compared, so how long the comparison takes tells nothing about a token. */
        if (strcmp(api->tokens.items[i].row.sha256, sha256) == 0) {
            return &api->tokens.items[i];
        }
    }
    return NULL;
}

size_t api_tokens_take_used(struct api *api, struct store_token **rows) {
    struct store_token *taken = NULL;
    size_t count = 0;
    const int64_t now = clock_wall_ms();

    for (size_t i = 0; i < api->tokens.count; i++) {
        struct api_token *token = &api->tokens.items[i];
        if (token->row.used_ms <= token->noted_ms ||
            (!api->draining && now - token->noted_ms < USE_NOTED_EVERY_MS && token->noted_ms > 0)) {
            continue;
        }
        if (taken == NULL) {
            taken = mem_calloc(api->tokens.count, sizeof(*taken));
        }
        if (taken == NULL) {
            break;
        }
        token->noted_ms = token->row.used_ms;
        taken[count++] = token->row;
    }
    *rows = taken;
    return count;
}

/* --- documents --- */

static json_t *scopes_json(unsigned scopes) {
    json_t *list = json_array();

    for (unsigned scope = 0; scope < SCOPE_COUNT; scope++) {
        if ((scopes & 1U << scope) != 0) {
            (void)json_array_append_new(list, json_string(token_scope_name((enum token_scope)scope)));
        }
    }
    return list;
}

static json_t *token_json(const struct store_token *token) {
    return json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "id", token->id, "object", "token", "name", token->name,
                     "scopes", scopes_json(token->scopes), "created_at", api_time_json(token->created_ms), "expires_at",
                     api_time_json(token->expires_ms), "last_used_at", api_time_json(token->used_ms));
}

/* --- handlers --- */

struct token_request {
    const char *name;
    unsigned scopes;
    uint64_t expires_in_s; /* 0: never */
};

static enum status read_scopes(const json_t *list, unsigned *scopes, struct error *error) {
    size_t i;
    json_t *word;

    *scopes = 0;
    json_array_foreach(list, i, word) {
        enum token_scope scope = json_is_string(word) ? token_scope_from_name(json_string_value(word)) : SCOPE_COUNT;
        if (scope == SCOPE_COUNT) {
            return error_set(error, STATUS_INVALID, "/scopes",
                             "failed to read scopes: got an unknown one, expected read, write, metrics, admin");
        }
        *scopes |= 1U << scope;
    }
    if (*scopes == 0) {
        return error_set(error, STATUS_INVALID, "/scopes", "failed to read scopes: expected at least one");
    }
    return STATUS_OK;
}

static enum status read_body(json_t *body, struct token_request *request, struct error *error) {
    struct json_reader reader;
    json_t *scopes = NULL;
    enum status status;

    *request = (struct token_request){.name = ""};
    if (json_is_null(json_object_get(body, "expires_in_s"))) {
        (void)json_object_del(body, "expires_in_s");
    }
    status = json_reader_init(&reader, body, "", error);
    if (status != STATUS_OK) {
        return status;
    }
    (void)json_get_string(&reader, "name", JSON_OPTIONAL, STORE_TOKEN_NAME_SIZE - 1, &request->name);
    (void)json_get_array(&reader, "scopes", JSON_REQUIRED, &scopes);
    (void)json_get_u64(&reader, "expires_in_s", JSON_OPTIONAL, 1, EXPIRES_MAX_S, &request->expires_in_s);
    status = json_reader_finish(&reader);
    return status == STATUS_OK ? read_scopes(scopes, &request->scopes, error) : status;
}

static void create_work(struct api_task *task) {
    struct token_request request;
    struct store_token token;
    char secret[SECRET_SIZE];
    int64_t expires_ms = 0;

    if (read_body(task->body, &request, &task->error) != STATUS_OK) {
        return;
    }
    if (request.expires_in_s > 0) {
        expires_ms = clock_wall_ms() + (int64_t)request.expires_in_s * 1000;
    }
    if (store_token_create(task->api->config.store, request.name, request.scopes, expires_ms, secret, &token,
                           &task->error) != STATUS_OK) {
        return;
    }
    log_event(LOG_INFO, "token_created", "token %s", token.id);
    task->code = 201;
    task->reply = token_json(&token);
    (void)json_object_set_new(task->reply, API_SECRET_MEMBER, json_string(secret));
    (void)snprintf(task->location, sizeof(task->location), PATH_TOKENS "/%s", token.id);
}

/* Loop thread: the guard shall know at once. */
static void reload(struct api_task *task) {
    struct error error = {0};

    if (task->error.status == STATUS_OK && api_tokens_load(task->api, &error) != STATUS_OK) {
        log_event(LOG_ERROR, "tokens_not_read", "%s", error.message);
    }
}

void api_tokens_create(struct http_request *request, void *context) {
    struct api *api = context;
    struct token_request unused;
    struct api_task *task;
    struct error error = {0};
    json_t *body = NULL;

    if (http_request_json(request, &body, &error) != STATUS_OK) {
        api_reply_malformed(request, &error);
        return;
    }
    if (read_body(body, &unused, &error) != STATUS_OK) {
        http_reply_error(request, &error);
        json_decref(body);
        return;
    }
    task = api_task_new(request, api, create_work);
    if (task == NULL) {
        json_decref(body);
        return;
    }
    http_reply_header(request, "Cache-Control", "no-store");
    task->body = body;
    task->done = reload;
    api_task_start(request, task);
}

void api_tokens_list(struct http_request *request, void *context) {
    static const char *const known[] = {"limit", "after", NULL};
    struct api *api = context;
    struct api_page page;
    struct error error = {0};
    size_t first = 0, count = 0;
    json_t *data;

    if (http_request_check_query(request, known, &error) != STATUS_OK ||
        api_read_page(request, "tok", &page, &error) != STATUS_OK) {
        api_reply_malformed(request, &error);
        return;
    }
    while (page.after != NULL && first < api->tokens.count &&
           strcmp(api->tokens.items[first].row.id, page.after) >= 0) {
        first++;
    }
    data = json_array();
    for (count = 0; count < page.limit && first + count < api->tokens.count; count++) {
        (void)json_array_append_new(data, token_json(&api->tokens.items[first + count].row));
    }
    data = json_array_size(data) == count ? data : (json_decref(data), NULL);
    http_reply_json(
        request, 200,
        api_list_json(data, first + count < api->tokens.count, json_object_get(json_array_get(data, count - 1), "id")));
}

/* The token of the path, or NULL after replying. */
static struct api_token *token_of_path(struct http_request *request, struct api *api) {
    const char *id = api_path_id(request, "tok");
    struct api_token *token = id == NULL ? NULL : find_id(&api->tokens, id);
    struct error error = {0};

    if (id != NULL && token == NULL) {
        error_set(&error, STATUS_NOT_FOUND, NULL, "failed to find token %s: there is none", id);
        http_reply_error(request, &error);
    }
    return token;
}

void api_tokens_get(struct http_request *request, void *context) {
    const struct api_token *token = token_of_path(request, context);

    if (token != NULL) {
        http_reply_json(request, 200, token_json(&token->row));
    }
}

static void revoke_work(struct api_task *task) {
    if (store_token_revoke(task->api->config.store, task->id, &task->error) == STATUS_OK) {
        log_event(LOG_INFO, "token_revoked", "token %s", task->id);
        task->code = 204;
    }
}

void api_tokens_delete(struct http_request *request, void *context) {
    struct api *api = context;
    const struct api_token *token = token_of_path(request, api);
    struct api_task *task;

    if (token == NULL || !http_request_if_match(request, token_json(&token->row))) {
        return;
    }
    task = api_task_new(request, api, revoke_work);
    if (task != NULL) {
        (void)snprintf(task->id, sizeof(task->id), "%s", token->row.id);
        task->done = reload;
        api_task_start(request, task);
    }
}
