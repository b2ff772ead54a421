/* /v1/jobs/{id}/events: a page of events as JSON, or all of them as they come as server-sent events. */
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "common/parse.h"
#include "server/api/api_internal.h"

enum { EVENTS_AT_ONCE = 50, PING_S = 15 };

/* One open stream. */
struct event_stream {
    struct store *store;
    char job_id[ID_SIZE];
    uint64_t after; /* sequence of the last event sent */
};

static int append_json(const char *data, size_t length, void *user) {
    return buf_append(user, data, length) ? 0 : -1;
}

/* "id:" only for events of the database; the compact document has no line breaks. */
static bool append_event(struct buf *out, uint64_t id, const char *type, json_t *data) {
    bool fine = data != NULL;

    fine = fine && (id == 0 || buf_printf(out, "id: %llu\n", (unsigned long long)id));
    fine = fine && buf_printf(out, "event: %s\ndata: ", type) &&
           json_dump_callback(data, append_json, out, JSON_COMPACT) == 0 && buf_append_text(out, "\n\n");
    json_decref(data);
    return fine;
}

static enum http_pull stream_pull(void *user, struct buf *out, bool idle, bool draining) {
    struct event_stream *stream = user;
    struct store_event *events = NULL;
    struct store_job job;
    struct error error = {0};
    size_t count = 0;
    bool has_more = false, fine = true, over;

    /* The row is read first: if it is terminal, every event of it is in the list that is read after. */
    if (draining || store_job_find(stream->store, stream->job_id, &job, &error) != STATUS_OK) {
        return HTTP_PULL_END;
    }
    if (store_event_list(stream->store, stream->job_id, stream->after, EVENTS_AT_ONCE, &events, &count, &has_more,
                         &error) != STATUS_OK) {
        store_job_deinit(&job);
        return HTTP_PULL_END;
    }
    for (size_t i = 0; i < count && fine; i++) {
        fine = append_event(out, events[i].sequence, events[i].type, api_event_json(&events[i]));
        stream->after = events[i].sequence;
    }
    store_events_free(events, count);
    over = !has_more && job_state_is_terminal(job.state);
    if (over && fine) {
        fine = append_event(out, 0, "done", api_job_json(&job));
    } else if (count == 0 && idle) {
        fine = buf_append_text(out, ": ping\n\n");
    }
    store_job_deinit(&job);
    return !fine || over ? HTTP_PULL_END : out->length > 0 ? HTTP_PULL_MORE : HTTP_PULL_WAIT;
}

static void reply_stream(struct http_request *request, struct api *api, const char *id, uint64_t after) {
    struct event_stream *stream = mem_calloc(1, sizeof(*stream));
    struct error error = {0};

    if (stream == NULL) {
        error_no_memory(&error, "an event stream");
        http_reply_error(request, &error);
        return;
    }
    stream->store = api->config.store;
    stream->after = after;
    (void)snprintf(stream->job_id, sizeof(stream->job_id), "%s", id);
    http_reply_stream(request, "text/event-stream", &(struct http_stream){stream, stream_pull, mem_free, id, PING_S});
}

static void reply_page(struct http_request *request, struct api *api, const char *id, uint64_t after, size_t limit) {
    struct store_event *events = NULL;
    struct error error = {0};
    size_t count = 0;
    bool has_more = false;
    json_t *data;

    if (store_event_list(api->config.store, id, after, limit, &events, &count, &has_more, &error) != STATUS_OK) {
        http_reply_error(request, &error);
        return;
    }
    data = json_array();
    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(data, api_event_json(&events[i]));
    }
    store_events_free(events, count);
    data = json_array_size(data) == count ? data : (json_decref(data), NULL);
    http_reply_json(request, 200,
                    api_list_json(data, has_more, json_object_get(json_array_get(data, count - 1), "id")));
}

void api_events_get(struct http_request *request, void *context) {
    static const char *const known[] = {"limit", "after", NULL};
    struct api *api = context;
    const char *id = api_path_id(request, "job");
    const char *accept = http_request_header(request, "Accept");
    const char *last = http_request_header(request, "Last-Event-ID");
    bool stream = accept != NULL && strstr(accept, "text/event-stream") != NULL;
    uint64_t after = 0;
    struct api_page page;
    struct store_job job;
    struct error error = {0};

    if (id == NULL) {
        return;
    }
    if (http_request_check_query(request, known, &error) != STATUS_OK ||
        api_read_page(request, NULL, &page, &error) != STATUS_OK) {
        api_reply_malformed(request, &error);
        return;
    }
    last = stream && last != NULL ? last : page.after;
    if (last != NULL && !parse_u64(last, INT64_MAX, &after)) {
        error_set(&error, STATUS_INVALID, NULL, "failed to read the last event's id: got '%.40s', expected a number",
                  last);
        api_reply_malformed(request, &error);
    } else if (store_job_find(api->config.store, id, &job, &error) != STATUS_OK) {
        http_reply_error(request, &error);
    } else {
        store_job_deinit(&job);
        if (stream) {
            reply_stream(request, api, id, after);
        } else {
            reply_page(request, api, id, after, page.limit);
        }
    }
}
