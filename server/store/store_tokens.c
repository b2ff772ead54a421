/* Tokens: a small table, always read as a whole. */
#include "server/store/store_tokens.h"

#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "server/store/store_internal.h"

static enum status count_tokens(struct store_write *write, const char *except, uint64_t *all, uint64_t *admins,
                                struct error *error) {
    struct store_query query;
    bool row = false;
    enum status status = store_query_init(&query, &write->sql,
                                          "SELECT count(*), count(*) FILTER (WHERE scopes & ? != 0) FROM tokens"
                                          " WHERE id != ?",
                                          error);
    if (status != STATUS_OK) {
        return status;
    }
    store_query_i64(&query, 1 << SCOPE_ADMIN);
    store_query_text(&query, except);
    status = store_query_step(&query, &row, error);
    if (status == STATUS_OK && row) {
        *all = store_column_u64(&query, 0);
        *admins = store_column_u64(&query, 1);
    }
    store_query_end(&query);
    return status;
}

static enum status insert_row(struct store_write *write, const struct store_token *token, struct error *error) {
    struct store_query query;
    enum status status = store_query_init(
        &query, &write->sql,
        "INSERT INTO tokens (id, name, sha256, scopes, created_ms, expires_ms) VALUES (?, ?, ?, ?, ?, ?)", error);
    if (status == STATUS_OK) {
        store_query_text(&query, token->id);
        store_query_text(&query, token->name);
        store_query_text(&query, token->sha256);
        store_query_i64(&query, (int64_t)token->scopes);
        store_query_i64(&query, token->created_ms);
        store_query_i64(&query, token->expires_ms);
        status = store_query_finish(&query, NULL, error);
    }
    return status;
}

static enum status insert(struct store_write *write, void *user, struct error *error) {
    const struct store_token *token = user;
    uint64_t all = 0;
    uint64_t admins = 0;
    enum status status = count_tokens(write, "", &all, &admins, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (all == 0 && (token->scopes & 1U << SCOPE_ADMIN) == 0) {
        return error_set(error, STATUS_CONFLICT, "/scopes",
                         "failed to make a token: the first one closes the server to all others, so it needs the scope "
                         "admin");
    }
    if (all >= STORE_TOKENS_MAX) {
        return error_set(error, STATUS_LIMIT, "", "failed to make a token: got %llu, the most there may be",
                         (unsigned long long)all);
    }
    return insert_row(write, token, error);
}

enum status store_token_create(struct store *store, const char *name, unsigned scopes, int64_t expires_ms,
                               char secret[SECRET_SIZE], struct store_token *token, struct error *error) {
    struct store_token made = {.scopes = scopes, .created_ms = clock_wall_ms(), .expires_ms = expires_ms};
    char text[SECRET_SIZE];
    json_t *string = json_string(name);
    if (string == NULL || strlen(name) >= sizeof made.name) {
        json_decref(string);
        return error_set(error, STATUS_INVALID, "/name",
                         "failed to make a token: got a bad name, expected UTF-8 of at most %d bytes",
                         STORE_TOKEN_NAME_SIZE - 1);
    }
    json_decref(string);
    if (scopes == 0 || scopes >= 1U << SCOPE_COUNT) {
        return error_set(error, STATUS_INVALID, "/scopes",
                         "failed to make a token: expected at least one of read, write, metrics, admin");
    }
    secret_make(text);
    digest_bytes(text, strlen(text), made.sha256);
    id_make("tok", made.id);
    (void)snprintf(made.name, sizeof made.name, "%s", name);
    enum status status = store_write_run(store, insert, &made, error);
    if (status == STATUS_OK) {
        memcpy(secret, text, sizeof text);
        *token = made;
    }
    return status;
}

static void read_row(const struct store_query *query, struct store_token *token) {
    *token = (struct store_token){0};
    store_column_text(query, 0, token->id, sizeof token->id);
    store_column_text(query, 1, token->name, sizeof token->name);
    store_column_text(query, 2, token->sha256, sizeof token->sha256);
    token->scopes = (unsigned)store_column_i64(query, 3);
    token->created_ms = store_column_i64(query, 4);
    token->expires_ms = store_column_i64(query, 5);
    token->used_ms = store_column_i64(query, 6);
}

static enum status read_all(struct store_query *query, struct store_token **tokens, size_t *count,
                            struct error *error) {
    size_t room = 0;
    bool row = false;
    enum status status = store_query_step(query, &row, error);
    while (status == STATUS_OK && row) {
        if (*count == room) {
            size_t more = room == 0 ? 16 : room * 2;
            struct store_token *grown = mem_realloc(*tokens, more, sizeof(**tokens));
            if (grown == NULL) {
                return error_no_memory(error, "a list of tokens");
            }
            *tokens = grown;
            room = more;
        }
        read_row(query, &(*tokens)[(*count)++]);
        status = store_query_step(query, &row, error);
    }
    return status;
}

enum status store_token_list(struct store *store, struct store_token **tokens, size_t *count, struct error *error) {
    struct store_sql *sql = NULL;
    struct store_query query = {0};
    struct store_token *found = NULL;
    size_t rows = 0;
    enum status status = store_read_begin(store, &sql, error);
    if (status == STATUS_OK) {
        status = store_query_init(
            &query, sql,
            "SELECT id, name, sha256, scopes, created_ms, expires_ms, used_ms FROM tokens ORDER BY id DESC", error);
    }
    if (status == STATUS_OK) {
        status = read_all(&query, &found, &rows, error);
    }
    store_query_end(&query);
    store_read_end(store, sql);
    if (status != STATUS_OK) {
        mem_free(found);
        return status;
    }
    *tokens = found;
    *count = rows;
    return STATUS_OK;
}

static enum status revoke(struct store_write *write, void *user, struct error *error) {
    const char *id = user;
    struct store_query query;
    uint64_t others = 0;
    uint64_t admins = 0;
    size_t changed = 0;
    enum status status = store_query_init(&query, &write->sql, "DELETE FROM tokens WHERE id = ?", error);
    if (status == STATUS_OK) {
        store_query_text(&query, id);
        status = store_query_finish(&query, &changed, error);
    }
    if (status == STATUS_OK && changed == 0) {
        return error_set(error, STATUS_NOT_FOUND, "", "failed to revoke token %.80s: there is none", id);
    }
    if (status == STATUS_OK) {
        status = count_tokens(write, id, &others, &admins, error);
    }
    if (status == STATUS_OK && others > 0 && admins == 0) {
        /* The transaction is undone, and the row stays. */
        status = error_set(error, STATUS_CONFLICT, "",
                           "failed to revoke token %.80s: it is the last one with the scope admin", id);
    }
    return status;
}

enum status store_token_revoke(struct store *store, const char *id, struct error *error) {
    return store_write_run(store, revoke, (void *)(uintptr_t)id, error);
}

struct uses {
    const struct store_token *tokens;
    size_t count;
};

static enum status note_used(struct store_write *write, void *user, struct error *error) {
    const struct uses *uses = user;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < uses->count && status == STATUS_OK; i++) {
        struct store_query query;
        status = store_query_init(&query, &write->sql, "UPDATE tokens SET used_ms = ? WHERE id = ?", error);
        if (status == STATUS_OK) {
            store_query_i64(&query, uses->tokens[i].used_ms);
            store_query_text(&query, uses->tokens[i].id);
            status = store_query_finish(&query, NULL, error);
        }
    }
    return status;
}

enum status store_token_note_used(struct store *store, const struct store_token *tokens, size_t count,
                                  struct error *error) {
    struct uses uses = {.tokens = tokens, .count = count};
    return store_write_run(store, note_used, &uses, error);
}
