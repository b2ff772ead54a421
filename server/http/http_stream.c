/* Answers without an end known in advance (server-sent events): libmicrohttpd asks for bytes, and when there are none the
 * connection sleeps until its topic is notified or a heartbeat is due. */
#include <string.h>

#include "common/clock.h"
#include "common/mem.h"
#include "server/http/http_internal.h"

enum { STREAM_BUFFER_MAX = 1 << 20 };

/* Belongs to the response, which may outlive the request by a moment; it is not read then. */
struct stream_state {
    struct http_request *request;
    struct http_stream stream;
    struct buf out;
    size_t sent; /* of `out` */
    bool ended;
};

static void stream_free(void *user) {
    struct stream_state *state = user;

    state->stream.close(state->stream.user);
    buf_deinit(&state->out);
    mem_free(state);
}

static void stream_sleep(struct stream_state *state) {
    struct http_request *request = state->request;

    request->wake_at = clock_seconds() + state->stream.idle_s;
    request->timed_out = false;
    request->suspended = true;
    MHD_suspend_connection(request->connection);
}

static ssize_t stream_read(void *user, uint64_t position, char *data, size_t max) {
    struct stream_state *state = user;
    struct http_request *request = state->request;
    size_t left = state->out.length - state->sent;

    (void)position;
    if (left == 0 && !state->ended) {
        enum http_pull pulled;
        buf_reset(&state->out);
        state->sent = 0;
        pulled = state->stream.pull(state->stream.user, &state->out, request->timed_out, request->server->draining);
        request->timed_out = false;
        state->ended = pulled == HTTP_PULL_END || state->out.failed || request->server->closing;
        left = state->out.failed ? 0 : state->out.length;
        if (left == 0 && !state->ended) {
            stream_sleep(state);
            return 0;
        }
    }
    if (left == 0) {
        return MHD_CONTENT_READER_END_OF_STREAM;
    }
    if (left > max) {
        left = max;
    }
    memcpy(data, state->out.data + state->sent, left);
    state->sent += left;
    request->reply_bytes += left;
    return (ssize_t)left;
}

void http_reply_stream(struct http_request *request, const char *content_type, const struct http_stream *stream) {
    enum { BLOCK_SIZE = 16384 };
    struct stream_state *state = mem_calloc(1, sizeof(*state));
    struct MHD_Response *response = NULL;
    size_t length = strlen(stream->topic);

    if (state == NULL) {
        stream->close(stream->user);
    } else {
        state->request = request;
        state->stream = *stream;
        buf_init(&state->out, STREAM_BUFFER_MAX);
        if (length < sizeof(request->topic)) {
            memcpy(request->topic, stream->topic, length + 1);
        }
        state->stream.topic = request->topic;
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_SIZE, stream_read, state, stream_free);
        if (response == NULL) {
            stream_free(state);
        }
    }
    http_reply_response(request, 200, response, content_type);
}
