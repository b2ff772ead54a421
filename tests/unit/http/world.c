/* A route for each thing the server can do: JSON, uploads, files, long-polls, holds, streams. */
#include "tests/unit/http/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/mem.h"
#include "tests/support/cm.h"
#include "tests/support/patience.h"

static void get_hello(struct http_request *request, void *context) {
    (void)context;
    http_reply_json(request, 200, json_pack("{s:s, s:s?}", "hello", "world", "q", http_request_query(request, "q")));
}

static void post_echo(struct http_request *request, void *context) {
    struct error error = {0};
    json_t *json = NULL;

    (void)context;
    if (http_request_json(request, &json, &error) != STATUS_OK) {
        http_reply_problem(request, 400, &error);
        return;
    }
    http_reply_json(request, 200, json_pack("{s:o}", "got", json));
}

struct counter {
    struct world *world;
    size_t bytes;
    bool waits;
};

static enum status count_bytes(void *user, const void *data, size_t length, struct error *error) {
    struct counter *counter = user;

    counter->bytes += length;
    if (memchr(data, '!', length) != NULL) {
        return error_set(error, STATUS_UNAVAILABLE, NULL, "failed to take '!'");
    }
    return STATUS_OK;
}

static void close_counter(void *user) {
    struct counter *counter = user;

    atomic_fetch_add(&counter->world->closed, 1);
    mem_free(counter);
}

/* ?wait: there is no room before the first version of the document. */
static const char *counter_full(void *user) {
    struct counter *counter = user;
    if (!counter->waits || atomic_load(&counter->world->version) > 0) {
        return NULL;
    }
    atomic_fetch_add(&counter->world->sleepers, 1);
    return "room";
}

static void begin_upload(struct http_request *request, void *context) {
    struct counter *counter = mem_calloc(1, sizeof(*counter));

    assert_non_null(counter);
    counter->world = context;
    counter->waits = http_request_query(request, "wait") != NULL;
    http_request_set_sink(request, &(struct http_sink){counter, count_bytes, counter_full, close_counter});
}

static void post_upload(struct http_request *request, void *context) {
    struct counter *counter = http_request_take_sink(request);

    (void)context;
    http_reply_header(request, "Location", "/upload/1");
    http_reply_json(request, 201, json_pack("{s:I}", "bytes", (json_int_t)counter->bytes));
    mem_free(counter);
}

static void get_file(struct http_request *request, void *context) {
    const struct world *world = context;
    http_reply_file(request, world->file, "application/octet-stream", "abc", "digits.bin");
}

static void get_gone(struct http_request *request, void *context) {
    const struct world *world = context;
    http_reply_file(request, scratch_path(&world->scratch, "gone.bin"), "application/octet-stream", "abc", "gone.bin");
}

static void get_who(struct http_request *request, void *context) {
    char address[HTTP_ADDRESS_SIZE];

    (void)context;
    http_request_address(request, address);
    http_reply_json(request, 200, json_pack("{s:s, s:i}", "address", address, "peer", (int)http_request_peer(request)));
}

static void get_doc(struct http_request *request, void *context) {
    struct world *world = context;
    const char *wait = http_request_query(request, "wait");

    http_reply_json_or_wait(request, json_pack("{s:i}", "version", atomic_load(&world->version)), "doc",
                            wait != NULL ? strtod(wait, NULL) : 0.0);
    if (wait != NULL) {
        atomic_fetch_add(&world->sleepers, 1);
    }
}

static void released(struct http_post *post) {
    struct world *world = (struct world *)((char *)post - offsetof(struct world, post));
    struct http_request *request = http_hold_release(world->hold);

    world->hold = NULL;
    if (request != NULL) {
        http_reply_json(request, 202, json_pack("{s:b}", "held", 1));
    }
}

static void *help(void *user) {
    struct world *world = user;

    (void)usleep(50000);
    http_server_post(world->live.server, &world->post);
    return NULL;
}

static void get_held(struct http_request *request, void *context) {
    struct world *world = context;

    world->hold = http_request_hold(request);
    assert_non_null(world->hold);
    atomic_fetch_add(&world->sleepers, 1);
    world->post.run = released;
    if (world->release_held) {
        assert_int_equal(pthread_create(&world->helper, NULL, help, world), 0);
    }
}

static void get_silent(struct http_request *request, void *context) {
    (void)request;
    (void)context;
}

/* Events 1..3 as the world's version reaches them; the third is the last. */
struct events {
    struct world *world;
    int sent;
};

static enum http_pull pull_event(void *user, struct buf *out, bool idle, bool draining) {
    struct events *events = user;

    if (draining || events->sent == 3) {
        return HTTP_PULL_END;
    }
    if (atomic_load(&events->world->version) > events->sent) {
        events->sent++;
        (void)buf_printf(out, "id: %d\n\n", events->sent);
        return events->sent == 3 ? HTTP_PULL_END : HTTP_PULL_MORE;
    }
    if (idle) {
        (void)buf_append_text(out, ": ping\n\n");
        atomic_fetch_add(&events->world->pings, 1);
        return HTTP_PULL_MORE;
    }
    return HTTP_PULL_WAIT;
}

static void get_stream(struct http_request *request, void *context) {
    struct events *events = mem_calloc(1, sizeof(*events));

    assert_non_null(events);
    events->world = context;
    http_reply_stream(request, "text/event-stream", &(struct http_stream){events, pull_event, mem_free, "doc", 0.1});
}

static const struct http_route routes[WORLD_ROUTES] = {
    {"GET", "/hello", HTTP_SCOPE_READ, HTTP_BODY_NONE, NULL, get_hello},
    {"POST", "/echo", HTTP_SCOPE_WRITE, HTTP_BODY_JSON, NULL, post_echo},
    {"POST", "/upload", HTTP_SCOPE_WRITE, HTTP_BODY_STREAM, begin_upload, post_upload},
    {"GET", "/file", HTTP_SCOPE_READ, HTTP_BODY_NONE, NULL, get_file},
    {"GET", "/gone", HTTP_SCOPE_READ, HTTP_BODY_NONE, NULL, get_gone},
    {"GET", "/who", HTTP_SCOPE_READ, HTTP_BODY_NONE, NULL, get_who},
    {"GET", "/doc", HTTP_SCOPE_READ, HTTP_BODY_NONE, NULL, get_doc},
    {"GET", "/held", HTTP_SCOPE_READ, HTTP_BODY_NONE, NULL, get_held},
    {"GET", "/silent", HTTP_SCOPE_READ, HTTP_BODY_NONE, NULL, get_silent},
    {"GET", "/stream", HTTP_SCOPE_READ, HTTP_BODY_NONE, NULL, get_stream},
    {"GET", "/admin", HTTP_SCOPE_ADMIN, HTTP_BODY_NONE, NULL, get_hello},
};

static enum status guard(struct http_request *request, const struct http_route *route, void *context, unsigned *code,
                         struct error *error) {
    (void)request;
    (void)context;
    if (route->scope == HTTP_SCOPE_ADMIN) {
        *code = 401;
        return error_set(error, STATUS_INVALID, NULL, "failed to admit: not the admin");
    }
    return STATUS_OK;
}

static int set_up(void **state, bool hasty) {
    static struct world world;
    struct http_config config;
    char digits[WORLD_FILE_SIZE];
    struct error error = {0};

    memset(&world, 0, sizeof(world));
    world.release_held = true;
    scratch_make(&world.scratch);
    (void)snprintf(world.file, sizeof(world.file), "%s", scratch_path(&world.scratch, "digits.bin"));
    for (size_t i = 0; i < sizeof(digits); i++) {
        digits[i] = (char)('0' + i % 10);
    }
    assert_int_equal(file_write_atomic(world.file, digits, sizeof(digits), &error), STATUS_OK);
    http_config_init(&config);
    config.routes = routes;
    config.route_count = WORLD_ROUTES;
    config.context = &world;
    config.guard = guard;
    config.max_upload = WORLD_MAX_UPLOAD;
    if (hasty) {
        config.slow_window_s = 0.6;
        config.slow_window_bytes = 1000;
        config.idle_timeout_s = 5;
    }
    live_start(&world.live, &config);
    *state = &world;
    return 0;
}

int world_setup(void **state) {
    return set_up(state, false);
}

int world_setup_hasty(void **state) {
    return set_up(state, true);
}

void world_await(atomic_int *number, int least) {
    struct patience patience = {0};

    while (atomic_load(number) < least && patience_nap(&patience)) {
    }
    assert_true(atomic_load(number) >= least);
}

int world_teardown(void **state) {
    struct world *world = *state;

    live_stop(&world->live);
    scratch_remove(&world->scratch);
    return 0;
}
