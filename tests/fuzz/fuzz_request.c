/* Whole requests, as bytes on a connection, to a server with the real routes over a real store: what libmicrohttpd parses, our checks of
 * its framing, resumable uploads, idempotency keys, digests, conditions, bodies. Only what jobs and checks compute is made up. The bytes
 * \1 to \4 stand for the ids of a resumable upload, a model, samples and a job that are there.
 *
 * An answer of 5xx other than "not now", or none that is HTTP, is a finding. */
#include <linux/sockios.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/file.h"
#include "common/log.h"
#include "server/api/api.h"
#include "tests/fuzz/fuzz.h"

/* A server lives for so many requests: what they leave behind must not become more and more. */
enum {
    LIFETIME = 500,
    IDS = 4,
    ANSWER_MAX = 1 << 16,
    REQUEST_MAX = 1 << 20,
    NAP_MS = 10,        /* most answers come within; a request that is cut off gets none */
    PATIENCE_NAPS = 15, /* while bytes lie unread */
    READ_NAPS = 2,      /* once all are read */
    OWN_PATIENCE_NAPS = 6000
};

struct world {
    char folder[64], socket[80];
    struct store *store;
    struct jobs *jobs;
    struct api *api;
    struct http_server *server;
    uv_loop_t loop;
    uv_thread_t thread;
    struct http_post drain, stop;
    uv_sem_t drained;
    char ids[IDS][ID_SIZE];
    unsigned served;
    char answer[ANSWER_MAX + 1];
};

static void must(bool fine, const char *what) {
    if (!fine) {
        (void)fprintf(stderr, "fuzz_request: %s\n", what);
        abort();
    }
}

/* --- what is made up --- */

static enum status check_file(const char *path, json_t **info, struct error *error) {
    (void)path;
    *info = json_object();
    return *info != NULL ? STATUS_OK : error_no_memory(error, "a description");
}

static enum status check_parameters(const char *method, const json_t *parameters, struct error *error) {
    (void)method;
    (void)parameters;
    (void)error;
    return STATUS_OK;
}

static enum status check_fit(const json_t *model, const json_t *samples, const json_t *probe, struct error *error) {
    (void)model;
    (void)samples;
    (void)probe;
    (void)error;
    return STATUS_OK;
}

static enum status describe_graph(const char *path, long layer, json_t **graph, struct error *error) {
    (void)layer;
    return check_file(path, graph, error);
}

static enum status run(const struct mitigate_request *request, const struct mitigate_hooks *hooks, json_t **report,
                       struct error *error) {
    static const char *const names[] = {ARTIFACT_MODEL, ARTIFACT_REPORT, ARTIFACT_MASK, ARTIFACT_TRACE};
    char path[4096];
    (void)hooks;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", request->out_dir, names[i]);
        if (file_write_atomic(path, "{}", 2, error) != STATUS_OK) {
            return error->status;
        }
    }
    return check_file("", report, error);
}

static json_t *describe_methods(void) {
    return json_pack("[{s:s}]", "name", "onp");
}

static const struct job_methods METHODS = {.run = run,
                                           .check_parameters = check_parameters,
                                           .check_model = check_file,
                                           .check_samples = check_file,
                                           .describe_graph = describe_graph,
                                           .check_fit = check_fit};
static const char *const OPERATORS[] = {"Conv", NULL};

/* --- requests --- */

/* Whether the other side has read all that was sent. */
static bool all_is_read(int fd) {
    int unread = 0;
    return ioctl(fd, SIOCOUTQ, &unread) == 0 && unread == 0;
}

/* What is answered until the server closes, or nothing comes for so many naps, or for as many as say so once it has read everything;
 * NUL-terminated in world->answer. */
static const char *talk(struct world *world, const char *bytes, size_t length, int naps, int naps_once_read) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    size_t sent = 0, got = 0;
    int silent = 0;
    (void)snprintf(address.sun_path, sizeof address.sun_path, "%s", world->socket);
    must(fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0, "no connection");
    for (;;) {
        struct pollfd poller = {.fd = fd, .events = (short)(POLLIN | (sent < length ? POLLOUT : 0))};
        if (poll(&poller, 1, NAP_MS) <= 0) {
            silent++;
            if (silent >= naps || (silent >= naps_once_read && sent == length && all_is_read(fd))) {
                break;
            }
            continue;
        }
        silent = 0;
        if ((poller.revents & POLLOUT) != 0 && sent < length) {
            ssize_t n = send(fd, bytes + sent, length - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
            sent = n > 0 ? sent + (size_t)n : length;
            if (sent == length) {
                (void)shutdown(fd, SHUT_WR);
            }
        }
        if ((poller.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
            ssize_t n = recv(fd, world->answer + got, ANSWER_MAX - got, MSG_DONTWAIT);
            if (n <= 0 || got + (size_t)n == ANSWER_MAX) {
                break;
            }
            got += (size_t)n;
        }
    }
    (void)close(fd);
    world->answer[got] = '\0';
    return world->answer;
}

/* Sends a POST and keeps the id that is answered as world->ids[at]. */
static void make(struct world *world, size_t at, const char *path, const char *fields, const char *body) {
    char text[512];
    const char *id;
    (void)snprintf(text, sizeof text, "POST %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n%s", path,
                   fields, strlen(body), body);
    id = strstr(talk(world, text, strlen(text), OWN_PATIENCE_NAPS, OWN_PATIENCE_NAPS), "\"id\":\"");
    must(id != NULL && strcspn(id + 6, "\"") < ID_SIZE, world->answer);
    (void)snprintf(world->ids[at], ID_SIZE, "%.*s", (int)strcspn(id + 6, "\""), id + 6);
}

/* The things whose ids requests can name. */
static void make_things(struct world *world) {
    char body[160];
    make(world, 0, "/v1/uploads", "Tus-Resumable: 1.0.0\r\nUpload-Length: 10\r\nUpload-Metadata: kind bW9kZWw=\r\n",
         "");
    make(world, 1, "/v1/models", "", "model");
    make(world, 2, "/v1/samples", "", "samples");
    (void)snprintf(body, sizeof body, "{\"model_id\":\"%s\",\"samples_id\":\"%s\"}", world->ids[1], world->ids[2]);
    make(world, 3, "/v1/jobs", "Content-Type: application/json\r\n", body);
}

/* --- a server's life --- */

static void run_loop(void *user) {
    struct world *world = user;
    (void)uv_run(&world->loop, UV_RUN_DEFAULT);
}

static void on_drain(struct http_post *post) {
    struct world *world = (struct world *)(void *)((char *)post - offsetof(struct world, drain));
    api_drain(world->api);
    uv_sem_post(&world->drained);
}

static void on_stop(struct http_post *post) {
    struct world *world = (struct world *)(void *)((char *)post - offsetof(struct world, stop));
    http_server_close(world->server, NULL, NULL);
}

static void notify(void *user, const char *job_id) {
    http_server_notify(user, job_id);
}

static void start(struct world *world) {
    const char *base = getenv("TMPDIR");
    struct jobs_options options;
    struct http_config http;
    struct error error = {0};
    log_set_level(LOG_ERROR);
    memset(world, 0, sizeof *world);
    (void)snprintf(world->folder, sizeof world->folder, "%s/onp-fuzz-XXXXXX", base != NULL ? base : "/tmp");
    must(mkdtemp(world->folder) != NULL, "no folder");
    (void)snprintf(world->socket, sizeof world->socket, "%s/socket", world->folder);
    jobs_options_init(&options);
    options.isolation = JOB_ISOLATION_THREAD;
    options.queue_max = 100;
    must(store_open(world->folder, NULL, &world->store, &error) == STATUS_OK &&
             jobs_start(world->store, &METHODS, &options, &world->jobs, &error) == STATUS_OK,
         error.message);
    const struct api_config api = {.store = world->store,
                                   .jobs = world->jobs,
                                   .describe_methods = describe_methods,
                                   .operators = OPERATORS,
                                   .opset_min = 9,
                                   .opset_max = 18,
                                   .max_upload = 1 << 18,
                                   .wait_max_s = 1};
    must(api_new(&api, &world->api, &error) == STATUS_OK, error.message);
    http_config_init(&http);
    http.routes = api_routes;
    http.route_count = api_route_count;
    http.context = world->api;
    http.guard = api_guard;
    http.tick = api_tick;
    http.max_upload = api.max_upload;
    must(uv_loop_init(&world->loop) == 0 && http_server_new(&world->loop, &http, &world->server, &error) == STATUS_OK &&
             http_server_listen_unix(world->server, world->socket, &error) == STATUS_OK &&
             uv_thread_create(&world->thread, run_loop, world) == 0,
         error.message);
    store_set_listener(world->store, notify, world->server);
    make_things(world);
}

static void stop(struct world *world) {
    struct error error = {0};
    store_set_listener(world->store, NULL, NULL);
    must(uv_sem_init(&world->drained, 0) == 0, "no semaphore");
    world->drain.run = on_drain;
    http_server_post(world->server, &world->drain);
    uv_sem_wait(&world->drained);
    uv_sem_destroy(&world->drained);
    jobs_stop(world->jobs, 0);
    world->stop.run = on_stop;
    http_server_post(world->server, &world->stop);
    must(uv_thread_join(&world->thread) == 0, "no end of the loop");
    http_server_free(world->server);
    must(uv_loop_close(&world->loop) == 0, "open handles");
    api_free(world->api);
    store_close(world->store);
    must(file_remove_tree(world->folder, &error) == STATUS_OK, error.message);
    world->server = NULL;
}

static struct world *the_world(void) {
    static struct world world;
    return &world;
}

static void stop_at_exit(void) {
    if (the_world()->server != NULL) {
        stop(the_world());
    }
}

/* Nothing, an answer that blames the client, or one that asks for patience; 505 and 507 are words of HTTP for the former. */
static bool is_fine(const char *answer) {
    if (answer[0] == '\0') {
        return true;
    }
    return strlen(answer) > 12 && strncmp(answer, "HTTP/1.", 7) == 0 &&
           (answer[9] != '5' || strncmp(answer + 9, "503", 3) == 0 || strncmp(answer + 9, "505", 3) == 0 ||
            strncmp(answer + 9, "507", 3) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    static atomic_flag announced = ATOMIC_FLAG_INIT;
    struct world *world = the_world();
    struct buf request;
    const char *answer;
    if (world->server != NULL && world->served++ >= LIFETIME) {
        stop(world);
    }
    if (world->server == NULL) {
        start(world);
        if (!atomic_flag_test_and_set(&announced)) {
            must(atexit(stop_at_exit) == 0, "no memory");
        }
    }
    buf_init(&request, REQUEST_MAX);
    for (size_t i = 0; i < length; i++) {
        bool is_id = bytes[i] >= 1 && bytes[i] <= IDS;
        must(is_id ? buf_append_text(&request, world->ids[bytes[i] - 1]) : buf_append(&request, bytes + i, 1),
             "too long");
    }
    answer = talk(world, request.data != NULL ? request.data : "", request.length, PATIENCE_NAPS, READ_NAPS);
    must(is_fine(answer), answer);
    buf_deinit(&request);
    return 0;
}
