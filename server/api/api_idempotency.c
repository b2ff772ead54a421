/* Idempotency-Key: a POST that is sent again with the same key has no second effect and gets the first one's answer. Only answers of
 * success are kept: after an error nothing has happened, and the request may be tried again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"
#include "server/api/api_internal.h"

static const int64_t KEPT_MS = 24 * 3600 * (int64_t)1000;

/* Method, path and query; the body is added by digest_body(). */
static bool digest_target(const struct http_request *request, struct api_task *task) {
    struct buf text;
    bool fine;

    buf_init(&text, HTTP_JSON_MAX);
    fine = buf_printf(&text, "%s %s", http_request_method(request), http_request_path(request));
    for (size_t i = 0; fine; i++) {
        const char *name, *value;
        if (!http_request_query_item(request, i, &name, &value)) {
            break;
        }
        fine = buf_printf(&text, "\n%s=%s", name, value);
    }
    if (fine) {
        digest_bytes(text.data, text.length, task->fingerprint);
    }
    buf_deinit(&text);
    return fine;
}

static void mix(struct api_task *task, const char *sha256) {
    char both[2 * DIGEST_HEX_SIZE];

    (void)snprintf(both, sizeof(both), "%s%s", task->fingerprint, sha256);
    digest_bytes(both, strlen(both), task->fingerprint);
}

enum status api_idempotency_key_check(const char *key, struct error *error) {
    size_t length = strlen(key);

    if (length == 0 || length >= STORE_IDEMPOTENCY_KEY_SIZE) {
        return error_set(error, STATUS_INVALID, NULL, "failed to read Idempotency-Key: expected 1 to %d characters",
                         STORE_IDEMPOTENCY_KEY_SIZE - 1);
    }
    for (const char *at = key; *at != '\0'; at++) {
        if (*at < 0x21 || *at > 0x7e) {
            return error_set(error, STATUS_INVALID, NULL,
                             "failed to read Idempotency-Key: expected visible ASCII characters");
        }
    }
    return STATUS_OK;
}

bool api_idempotency_read(struct http_request *request, struct api_task *task) {
    const char *key = http_request_header(request, "Idempotency-Key");
    struct error error = {0};
    size_t length;
    const char *body = http_request_body(request, &length);
    char sha256[DIGEST_HEX_SIZE];

    if (key == NULL || strcmp(http_request_method(request), "POST") != 0) {
        return true;
    }
    if (api_idempotency_key_check(key, &error) != STATUS_OK) {
        api_reply_malformed(request, &error);
        return false;
    }
    if (!digest_target(request, task)) {
        error_no_memory(&error, "the fingerprint of the request");
        http_reply_error(request, &error);
        return false;
    }
    digest_bytes(body, length, sha256);
    mix(task, sha256);
    (void)snprintf(task->idempotency_key, sizeof(task->idempotency_key), "%s", key);
    return true;
}

/* The job that the first request made, as it stands now. */
static void replay_job(struct api_task *task, const struct store_answer *answer) {
    struct store_job job;

    if (store_job_find(task->api->config.store, answer->resource, &job, &task->error) == STATUS_OK) {
        task->reply = api_job_json(&job);
        store_job_deinit(&job);
    }
}

static void replay(struct api_task *task, const struct store_answer *answer) {
    task->replayed = true;
    task->code = answer->code;
    (void)snprintf(task->location, sizeof(task->location), "%s", answer->location);
    if (answer->body != NULL) {
        task->reply = json_loads(answer->body, 0, NULL);
    } else if (answer->resource[0] != '\0') {
        replay_job(task, answer);
    }
}

static struct store_idempotency_key key_of(const struct api_task *task) {
    return (struct store_idempotency_key){task->subject, task->idempotency_key};
}

bool api_idempotency_enter(struct api_task *task) {
    const struct store_idempotency_key key = key_of(task);
    enum store_idempotency found = STORE_IDEMPOTENCY_NEW;
    struct store_answer answer = {0};
    struct store_blob blob;

    if (task->upload != NULL) {
        if (store_upload_finish(task->upload, &blob, &task->error) != STATUS_OK) {
            return false;
        }
        mix(task, blob.sha256);
    }
    if (store_idempotency_begin(task->api->config.store, &key, task->fingerprint, KEPT_MS, &found, &answer,
                                &task->error) != STATUS_OK) {
        return false;
    }
    switch (found) {
    case STORE_IDEMPOTENCY_NEW:
        task->holds_key = true;
        break;
    case STORE_IDEMPOTENCY_REPLAY:
        replay(task, &answer);
        break;
    case STORE_IDEMPOTENCY_BUSY:
        error_set(&task->error, STATUS_CONFLICT, NULL,
                  "failed to do the request again: the first one with this Idempotency-Key is still in progress");
        break;
    case STORE_IDEMPOTENCY_OTHER:
        error_set(&task->error, STATUS_INVALID, NULL,
                  "failed to do the request: its Idempotency-Key was used with another request before");
        break;
    }
    mem_free(answer.body);
    return found == STORE_IDEMPOTENCY_NEW;
}

/* The document without what is shown only once, as text; NULL for none. */
static char *text_of(const json_t *reply) {
    json_t *copy = reply != NULL ? json_copy((json_t *)(uintptr_t)reply) : NULL;
    char *dumped, *text = NULL;

    if (copy != NULL) {
        (void)json_object_del(copy, API_SECRET_MEMBER);
        dumped = json_dumps(copy, JSON_COMPACT);
        text = dumped != NULL ? mem_strdup(dumped) : NULL;
        free(dumped); /* of jansson */
    }
    json_decref(copy);
    return text;
}

void api_idempotency_leave(struct api_task *task) {
    const struct store_idempotency_key key = key_of(task);
    struct store_answer answer = {.code = task->code};
    struct error error = {0};
    bool done = task->error.status == STATUS_OK && task->code >= 200 && task->code < 300;

    if (!task->holds_key) {
        return;
    }
    (void)snprintf(answer.location, sizeof(answer.location), "%s", task->location);
    answer.body = done ? text_of(task->reply) : NULL;
    if (store_idempotency_finish(task->api->config.store, &key, done ? &answer : NULL, &error) != STATUS_OK) {
        log_event(LOG_WARN, "answer_not_kept", "the answer to an Idempotency-Key was not kept: %s", error.message);
    }
    mem_free(answer.body);
}
