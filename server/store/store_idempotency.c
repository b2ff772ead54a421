/* Idempotency keys as rows. A row is there from the start of the work to a day after; the job that a request makes is noted in the
 * transaction that inserts it, so not even a crash between work and answer makes it twice. */
#include "server/store/store_idempotency.h"

#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "server/store/store_internal.h"

enum { BODY_MAX = 1 << 20 };

struct beginning {
    const struct store_idempotency_key *key;
    const char *fingerprint;
    int64_t max_age_ms;
    enum store_idempotency found;
    struct store_answer answer;
};

static void bind_key(struct store_query *query, const struct store_idempotency_key *key) {
    store_query_text(query, key->subject);
    store_query_text(query, key->key);
}

static enum status forget_old(struct store_write *write, int64_t before_ms, struct error *error) {
    struct store_query query;
    enum status status = store_query_init(&query, &write->sql, "DELETE FROM idempotency WHERE created_ms < ?", error);
    if (status == STATUS_OK) {
        store_query_i64(&query, before_ms);
        status = store_query_finish(&query, NULL, error);
    }
    return status;
}

static enum status take_body(const struct store_query *query, int column, char **body, struct error *error) {
    char *text;
    *body = NULL;
    if (store_column_is_null(query, column)) {
        return STATUS_OK;
    }
    text = mem_calloc(BODY_MAX, 1);
    if (text == NULL) {
        return error_no_memory(error, "a stored answer");
    }
    store_column_text(query, column, text, BODY_MAX);
    *body = mem_strdup(text);
    mem_free(text);
    return *body != NULL ? STATUS_OK : error_no_memory(error, "a stored answer");
}

/* *row: whether there is one; then `found` and `answer` are set. */
static enum status look(struct store_write *write, struct beginning *beginning, bool *row, struct error *error) {
    struct store_query query;
    char fingerprint[DIGEST_HEX_SIZE];
    struct store_answer *answer = &beginning->answer;
    enum status status = store_query_init(
        &query, &write->sql,
        "SELECT fingerprint, code, location, body, resource FROM idempotency WHERE subject = ? AND key = ?", error);
    if (status != STATUS_OK) {
        return status;
    }
    bind_key(&query, beginning->key);
    status = store_query_step(&query, row, error);
    if (status == STATUS_OK && *row) {
        store_column_text(&query, 0, fingerprint, sizeof fingerprint);
        answer->code = (unsigned)store_column_i64(&query, 1);
        store_column_text(&query, 2, answer->location, sizeof answer->location);
        store_column_text(&query, 4, answer->resource, sizeof answer->resource);
        beginning->found = strcmp(fingerprint, beginning->fingerprint) != 0 ? STORE_IDEMPOTENCY_OTHER
                           : answer->code == 0                              ? STORE_IDEMPOTENCY_BUSY
                                                                            : STORE_IDEMPOTENCY_REPLAY;
        if (beginning->found == STORE_IDEMPOTENCY_REPLAY) {
            status = take_body(&query, 3, &answer->body, error);
        }
    }
    store_query_end(&query);
    return status;
}

static enum status begin(struct store_write *write, void *user, struct error *error) {
    struct beginning *beginning = user;
    struct store_query query;
    const int64_t now = clock_wall_ms();
    bool row = false;
    enum status status = forget_old(write, now - beginning->max_age_ms, error);
    if (status == STATUS_OK) {
        status = look(write, beginning, &row, error);
    }
    if (status != STATUS_OK || row) {
        return status;
    }
    beginning->found = STORE_IDEMPOTENCY_NEW;
    status =
        store_query_init(&query, &write->sql,
                         "INSERT INTO idempotency (subject, key, fingerprint, created_ms) VALUES (?, ?, ?, ?)", error);
    if (status == STATUS_OK) {
        bind_key(&query, beginning->key);
        store_query_text(&query, beginning->fingerprint);
        store_query_i64(&query, now);
        status = store_query_finish(&query, NULL, error);
    }
    return status;
}

enum status store_idempotency_begin(struct store *store, const struct store_idempotency_key *key,
                                    const char *fingerprint, int64_t max_age_ms, enum store_idempotency *found,
                                    struct store_answer *answer, struct error *error) {
    struct beginning beginning = {.key = key, .fingerprint = fingerprint, .max_age_ms = max_age_ms};
    enum status status = store_write_run(store, begin, &beginning, error);
    if (status != STATUS_OK) {
        mem_free(beginning.answer.body);
        return status;
    }
    *found = beginning.found;
    *answer = beginning.answer;
    return STATUS_OK;
}

struct finishing {
    const struct store_idempotency_key *key;
    const struct store_answer *answer;
};

static enum status finish(struct store_write *write, void *user, struct error *error) {
    const struct finishing *finishing = user;
    const struct store_answer *answer = finishing->answer;
    struct store_query query;
    enum status status;
    if (answer == NULL) {
        status = store_query_init(&query, &write->sql, "DELETE FROM idempotency WHERE subject = ? AND key = ?", error);
    } else {
        status = store_query_init(&query, &write->sql,
                                  "UPDATE idempotency SET code = ?3, location = ?4, body = ?5"
                                  " WHERE subject = ?1 AND key = ?2",
                                  error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    bind_key(&query, finishing->key);
    if (answer != NULL) {
        store_query_i64(&query, answer->code);
        store_query_text(&query, answer->location);
        store_query_text(&query, answer->body);
    }
    return store_query_finish(&query, NULL, error);
}

enum status store_idempotency_finish(struct store *store, const struct store_idempotency_key *key,
                                     const struct store_answer *answer, struct error *error) {
    struct finishing finishing = {.key = key, .answer = answer};
    if (answer != NULL && answer->body != NULL && strlen(answer->body) >= BODY_MAX) {
        return error_set(error, STATUS_LIMIT, "", "failed to keep an answer: got %zu bytes", strlen(answer->body));
    }
    return store_write_run(store, finish, &finishing, error);
}

static enum status recover(struct store_write *write, void *user, struct error *error) {
    (void)user;
    enum status status =
        store_sql_run(&write->sql, "DELETE FROM idempotency WHERE code = 0 AND resource IS NULL", error);
    if (status == STATUS_OK) {
        status = store_sql_run(
            &write->sql, "UPDATE idempotency SET code = 202, location = '" PATH_JOBS "/' || resource WHERE code = 0",
            error);
    }
    return status;
}

enum status store_idempotency_recover(struct store *store, struct error *error) {
    return store_write_run(store, recover, NULL, error);
}

enum status store_idempotency_note(struct store_write *write, const struct store_idempotency_key *key,
                                   const char *resource, struct error *error) {
    struct store_query query;
    enum status status = store_query_init(
        &query, &write->sql, "UPDATE idempotency SET resource = ?3 WHERE subject = ?1 AND key = ?2", error);
    if (status == STATUS_OK) {
        bind_key(&query, key);
        store_query_text(&query, resource);
        status = store_query_finish(&query, NULL, error);
    }
    return status;
}
