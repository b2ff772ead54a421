/* The interface over a real store, real workers and real sockets; only what a job computes is made up here, so that jobs
 * end at once and as the test wants. */
#include "tests/unit/api/world.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/file.h"
#include "common/mem.h"
#include "tests/support/cm.h"
#include "tests/support/patience.h"

static struct world the_world;

/* Files that start with "good" are fine; "good slow" takes as long as the test wants. */
static enum status check_file(const char *path, json_t **info, struct error *error) {
    char *text = NULL;
    size_t length = 0;
    enum status status = file_read(path, 1 << 20, &text, &length, error);

    if (status == STATUS_OK && strncmp(text, "good", 4) != 0) {
        status = error_set(error, STATUS_UNSUPPORTED, "node 'loop1'", "failed to read operator Loop: got control flow");
    }
    if (status == STATUS_OK && strncmp(text, "good slow", 9) == 0) {
        atomic_fetch_add(&the_world.checks_held, 1);
        while (atomic_load(&the_world.hold_checks)) {
            (void)usleep(5000);
        }
    }
    if (status == STATUS_OK) {
        *info = json_pack("{s:I}", "length", (json_int_t)length);
    }
    mem_free(text);
    return status;
}

static enum status check_parameters(const char *method, const json_t *parameters, struct error *error) {
    if (strcmp(method, "onp") != 0) {
        return error_set(error, STATUS_INVALID, "/method", "failed to find method %s", method);
    }
    if (json_object_get(parameters, "wrong") != NULL) {
        return error_set(error, STATUS_INVALID, "/parameters/wrong", "failed to read parameters: got 'wrong'");
    }
    return STATUS_OK;
}

static enum status check_fit(const json_t *model, const json_t *samples, const json_t *probe, struct error *error) {
    (void)model;
    (void)probe;
    if (json_integer_value(json_object_get(samples, "length")) > 100) {
        return error_set(error, STATUS_INVALID, "/samples_id", "failed to fit the samples: got too many");
    }
    return STATUS_OK;
}

static bool asks_for(const json_t *parameters, const char *name) {
    return json_is_true(json_object_get(parameters, name));
}

static enum status write_artifact(const char *dir, const char *name, const char *text, struct error *error) {
    char path[4096];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return file_write_atomic(path, text, strlen(text), error);
}

/* Succeeds, or as the parameters say: {"fail": true}, {"hang": true} until cancelled. */
static enum status run(const struct mitigate_request *request, const struct mitigate_hooks *hooks, json_t **report,
                       struct error *error) {
    struct mitigate_progress progress = {.stage = STAGE_SEARCH,
                                         .step = 1,
                                         .total = 2,
                                         .fraction = 0.5,
                                         .eta_s = 1.0,
                                         .best_reward = 0.25,
                                         .message = "half"};
    char text[64];

    hooks->progress(hooks->user, &progress);
    while (asks_for(request->parameters, "hang")) {
        if (atomic_load(hooks->cancel)) {
            return error_set(error, STATUS_CANCELLED, NULL, "failed to run: got a request to stop");
        }
        (void)usleep(5000);
    }
    if (asks_for(request->parameters, "fail")) {
        return error_set(error, STATUS_NUMERIC, "node 'conv1'", "failed to run the network: got NaN");
    }
    (void)snprintf(text, sizeof(text), "{\"verdict\": \"removed\", \"seed\": %llu}", (unsigned long long)request->seed);
    if (write_artifact(request->out_dir, ARTIFACT_MODEL, "repaired model bytes", error) != STATUS_OK ||
        write_artifact(request->out_dir, ARTIFACT_REPORT, text, error) != STATUS_OK ||
        write_artifact(request->out_dir, ARTIFACT_MASK, "{}", error) != STATUS_OK ||
        write_artifact(request->out_dir, ARTIFACT_TRACE, "{}\n", error) != STATUS_OK) {
        return error->status;
    }
    *report = json_loads(text, 0, NULL);
    return STATUS_OK;
}

static json_t *describe(void) {
    return json_pack("[{s:s}]", "name", "onp");
}

static atomic_int described;

int world_described(void) {
    return atomic_load(&described);
}

static enum status describe_graph(const char *path, long layer, json_t **graph, struct error *error) {
    (void)path;
    atomic_fetch_add(&described, 1);
    if (layer > 1) {
        return error_set(error, STATUS_NOT_FOUND, "layer", "failed to find layer %ld", layer);
    }
    *graph = json_pack("{s:I, s:[]}", "asked", (json_int_t)layer, "layers");
    return STATUS_OK;
}

static const struct job_methods methods = {.run = run,
                                           .check_parameters = check_parameters,
                                           .check_model = check_file,
                                           .check_samples = check_file,
                                           .describe_graph = describe_graph,
                                           .check_fit = check_fit};
static const char *const operators[] = {"Conv", "Relu", NULL};

static void notify(void *user, const char *job_id) {
    http_server_notify(user, job_id);
}

int world_setup_with(void **state, const struct api_config *extra) {
    struct world *const world = &the_world;
    struct jobs_options options;
    struct api_config api = *extra;
    struct http_config http;
    struct error error = {0};

    memset(world, 0, sizeof(*world));
    scratch_make(&world->scratch);
    assert_int_equal(store_open(scratch_path(&world->scratch, "data"), NULL, &world->store, &error), STATUS_OK);
    jobs_options_init(&options);
    options.isolation = JOB_ISOLATION_THREAD;
    options.queue_max = 2;
    assert_int_equal(jobs_start(world->store, &methods, &options, &world->jobs, &error), STATUS_OK);
    api.describe_methods = describe;
    api.operators = operators;
    api.opset_min = 9;
    api.opset_max = 18;
    api.store = world->store;
    api.jobs = world->jobs;
    api.max_upload = 1 << 20;
    api.wait_max_s = 10;
    api.check_host = true;
    assert_int_equal(api_new(&api, &world->api, &error), STATUS_OK);
    http_config_init(&http);
    http.routes = api_routes;
    http.route_count = api_route_count;
    http.context = world->api;
    http.guard = api_guard;
    http.tick = api_tick;
    http.max_upload = 1 << 20;
    live_start(&world->live, &http);
    store_set_listener(world->store, notify, world->live.server);
    *state = world;
    return 0;
}

int world_setup(void **state) {
    return world_setup_with(state, &(struct api_config){0});
}

struct drain {
    struct http_post post;
    struct api *api;
    uv_sem_t done;
};

/* Loop thread. */
static void on_drain(struct http_post *post) {
    struct drain *drain = (struct drain *)post; /* its first member */

    api_drain(drain->api);
    uv_sem_post(&drain->done);
}

int world_teardown(void **state) {
    struct world *world = *state;
    struct drain drain = {.post.run = on_drain, .api = world->api};

    atomic_store(&world->hold_checks, false); /* a failed test may have left it so */
    store_set_listener(world->store, NULL, NULL);
    assert_int_equal(uv_sem_init(&drain.done, 0), 0);
    http_server_post(world->live.server, &drain.post);
    uv_sem_wait(&drain.done);
    uv_sem_destroy(&drain.done);
    jobs_stop(world->jobs, 0);
    live_stop(&world->live);
    api_free(world->api);
    store_close(world->store);
    scratch_remove(&world->scratch);
    return 0;
}

json_t *ask_with(struct world *world, const char *method, const char *path, const char *fields, const char *body,
                 int *code, const char **answer) {
    static char text[1 << 17];
    const char *got;

    (void)snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\n" HEAD "%s%sContent-Length: %zu\r\n\r\n%s", method, path,
                   fields, body != NULL && body[0] == '{' ? "Content-Type: application/json\r\n" : "",
                   body != NULL ? strlen(body) : 0, body != NULL ? body : "");
    got = live_ask(&world->live, text);
    if (code != NULL) {
        *code = live_code(got);
    }
    if (answer != NULL) {
        *answer = got;
    }
    return json_loads(live_body(got), 0, NULL);
}

json_t *ask(struct world *world, const char *method, const char *path, const char *body, int *code) {
    return ask_with(world, method, path, "", body, code, NULL);
}

const char *field_of(const char *answer, const char *name) {
    static char values[4][512];
    static size_t turn;
    char *value = values[turn++ % 4];
    char start[80];
    const char *at;

    (void)snprintf(start, sizeof(start), "\r\n%s: ", name);
    at = strstr(answer, start);
    value[0] = '\0';
    if (at != NULL) {
        at += strlen(start);
        (void)snprintf(value, sizeof(values[0]), "%.*s", (int)strcspn(at, "\r"), at);
    }
    return value;
}

const char *text_of(const json_t *json, const char *name) {
    return json_string_value(json_object_get(json, name));
}

int code_of(struct world *world, const char *method, const char *path, const char *body, const char *pointer) {
    int code = 0;
    json_t *json = ask(world, method, path, body, &code);

    if (pointer != NULL) {
        assert_string_equal(text_of(json_array_get(json_object_get(json, "errors"), 0), "pointer"), pointer);
    }
    json_decref(json);
    return code;
}

void upload(struct world *world, const char *path, const char *bytes, int expected, char id[ID_SIZE]) {
    int code = 0;
    json_t *json = ask(world, "POST", path, bytes, &code);

    assert_int_equal(code, expected);
    (void)snprintf(id, ID_SIZE, "%s", text_of(json, "id"));
    json_decref(json);
}

int submit(struct world *world, struct ids *ids, const char *parameters) {
    char body[512];
    int code = 0;
    json_t *json;

    if (ids->model[0] == '\0') {
        upload(world, "/v1/models?name=m", "good model", 201, ids->model);
        upload(world, "/v1/samples", "good samples", 201, ids->samples);
    }
    (void)snprintf(body, sizeof(body), "{\"model_id\":\"%s\",\"samples_id\":\"%s\",\"seed\":7,\"parameters\":%s}",
                   ids->model, ids->samples, parameters);
    json = ask(world, "POST", "/v1/jobs", body, &code);
    if (code == 202) {
        (void)snprintf(ids->job, sizeof(ids->job), "%s", text_of(json, "id"));
    }
    json_decref(json);
    return code;
}

const char *job_path(const struct ids *ids, const char *rest) {
    static char path[128];

    (void)snprintf(path, sizeof(path), "/v1/jobs/%s%s", ids->job, rest);
    return path;
}

json_t *wait_for(struct world *world, const struct ids *ids, const char *state) {
    struct patience patience = {0};

    do {
        json_t *json = ask(world, "GET", job_path(ids, ""), NULL, NULL);
        if (strcmp(text_of(json, "state"), state) == 0) {
            return json;
        }
        json_decref(json);
    } while (patience_nap(&patience));
    fail_msg("job %s did not become %s", ids->job, state);
    return NULL;
}
