/* Start order: loop, store, jobs, api, server, sockets, signals. A stop goes the other way round: listen no more, let
 * the workers finish or put back their jobs (in a thread of its own, as it takes seconds), answer what still waits,
 * close. */
#include "server/app.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/words.h"
#include "server/api/api.h"
#include "server/baselines/methods.h"
#include "server/http/http_server.h"
#include "server/mitigate/mitigate.h"
#include "server/onnx/onnx_model.h"
#include "server/store/store.h"

enum { SIGNALS = 2, LAST_ANSWERS_MS = 2000, LAST_ANSWERS_TICK_MS = 20 };

const struct job_methods app_methods = {
    .run = methods_run,
    .check_parameters = methods_check_parameters,
    .check_model = mitigate_check_model,
    .check_samples = mitigate_check_samples,
    .check_fit = mitigate_check_fit,
};

struct app {
    const struct settings *settings;
    uv_loop_t loop;
    struct store *store;
    struct jobs *jobs;
    struct api *api;
    struct http_server *server;
    uv_signal_t signals[SIGNALS];
    size_t signal_count;
    uv_timer_t last_answers;
    bool timer_ready;
    double stop_by;

    bool draining;
    uv_thread_t stopper;
    bool stopper_runs;
    struct http_post stopped; /* from the stopper thread to the loop */
};

static struct app *app_of_post(struct http_post *post) {
    return (struct app *)((char *)post - offsetof(struct app, stopped));
}

/* Writer thread of the store. */
static void on_job_changed(void *user, const char *job_id) {
    http_server_notify(user, job_id);
}

static void close_loop_handles(struct app *app) {
    for (size_t i = 0; i < app->signal_count; i++) {
        uv_close((uv_handle_t *)&app->signals[i], NULL);
    }
    app->signal_count = 0;
    if (app->timer_ready) {
        uv_close((uv_handle_t *)&app->last_answers, NULL);
        app->timer_ready = false;
    }
}

/* Answers that are on their way may still leave; then everything closes and the loop runs out of work. */
static void on_last_answers(uv_timer_t *timer) {
    struct app *app = timer->data;

    if (http_server_active(app->server) == 0 || clock_seconds() >= app->stop_by) {
        (void)uv_timer_stop(timer);
        http_server_close(app->server, NULL, NULL);
        close_loop_handles(app);
    }
}

/* Loop thread: the workers have ended. */
static void on_jobs_stopped(struct http_post *post) {
    struct app *app = app_of_post(post);

    (void)uv_thread_join(&app->stopper);
    app->stopper_runs = false;
    app->jobs = NULL;
    app->stop_by = clock_seconds() + LAST_ANSWERS_MS / 1000.0;
    (void)uv_timer_start(&app->last_answers, on_last_answers, 0, LAST_ANSWERS_TICK_MS);
}

static void stop_jobs(void *user) {
    struct app *app = user;

    jobs_stop(app->jobs, app->settings->drain_s);
    http_server_post(app->server, &app->stopped);
}

static void on_signal(uv_signal_t *handle, int number) {
    struct app *app = handle->data;

    if (app->draining) {
        log_event(LOG_WARN, "stop", "second signal %d: ending at once", number);
        _exit(EXIT_FAILED);
    }
    log_event(LOG_INFO, "drain", "signal %d: listening no more; running jobs have %.0f s", number,
              app->settings->drain_s);
    app->draining = true;
    api_drain(app->api);
    http_server_drain(app->server);
    app->stopped.run = on_jobs_stopped;
    app->stopper_runs = uv_thread_create(&app->stopper, stop_jobs, app) == 0;
    if (!app->stopper_runs) {
        log_event(LOG_ERROR, "stop", "failed to start the thread that drains: ending at once");
        _exit(EXIT_FAILED);
    }
}

static enum status start_signals(struct app *app, struct error *error) {
    static const int numbers[SIGNALS] = {SIGTERM, SIGINT};

    (void)signal(SIGPIPE, SIG_IGN);
    if (uv_timer_init(&app->loop, &app->last_answers) != 0) {
        return error_set(error, STATUS_INTERNAL, NULL, "failed to set up a timer");
    }
    app->timer_ready = true;
    app->last_answers.data = app;
    for (size_t i = 0; i < SIGNALS; i++) {
        if (uv_signal_init(&app->loop, &app->signals[i]) != 0) {
            return error_set(error, STATUS_INTERNAL, NULL, "failed to set up signals");
        }
        app->signals[i].data = app;
        app->signal_count++;
        if (uv_signal_start(&app->signals[i], on_signal, numbers[i]) != 0) {
            return error_set(error, STATUS_INTERNAL, NULL, "failed to set up signals");
        }
    }
    return STATUS_OK;
}

static enum status start_jobs(struct app *app, struct error *error) {
    const struct settings *settings = app->settings;
    struct jobs_options options;

    jobs_options_init(&options);
    options.workers = settings->workers;
    options.helpers = settings->helpers;
    options.threads = settings->threads;
    options.isolation = settings->isolation;
    options.sandbox = settings->sandbox;
    options.sandbox_uid = (uint32_t)settings->sandbox_uid;
    options.memory_limit = settings->job_memory;
    options.check_memory = settings->check_memory;
    options.file_limit = settings->job_file;
    options.queue_max = settings->queue_max;
    options.max_attempts = (unsigned)settings->max_attempts;
    options.cancel_grace_s = settings->cancel_grace_s;
    options.check_timeout_s = settings->check_timeout_s;
    return jobs_start(app->store, &app_methods, &options, &app->jobs, error);
}

static enum status start_api(struct app *app, struct error *error) {
    const struct settings *settings = app->settings;
    const struct api_config config = {
        .store = app->store,
        .jobs = app->jobs,
        .describe_methods = methods_describe,
        .operators = onnx_operators,
        .opset_min = ONNX_OPSET_MIN,
        .opset_max = ONNX_OPSET_MAX,
        .token = settings->token[0] != '\0' ? settings->token : NULL,
        .check_host = settings_is_local(settings),
        .rate = settings->rate,
        .rate_burst = settings->rate_burst,
        .max_upload = settings->max_upload,
        .min_free = settings->min_free,
        .wait_max_s = 120,
    };
    return api_new(&config, &app->api, error);
}

static enum status start_server(struct app *app, struct error *error) {
    struct http_config config;

    http_config_init(&config);
    config.routes = api_routes;
    config.route_count = api_route_count;
    config.context = app->api;
    config.guard = api_guard;
    config.tick = api_tick;
    config.max_upload = app->settings->max_upload;
    config.connection_limit = (unsigned)app->settings->connections;
    return http_server_new(&app->loop, &config, &app->server, error);
}

/* Tells scripts where we are. */
static enum status announce(const struct app *app, uint16_t port, struct error *error) {
    const struct settings *settings = app->settings;
    bool v6 = strchr(settings->address, ':') != NULL;
    char url[320];
    size_t length;

    if (settings->address[0] != '\0') {
        (void)snprintf(url, sizeof(url), "http://%s%s%s:%u\n", v6 ? "[" : "", settings->address, v6 ? "]" : "",
                       (unsigned)port);
    } else {
        (void)snprintf(url, sizeof(url), "unix:%s\n", settings->unix_path);
    }
    length = strlen(url);
    log_event(LOG_INFO, "listening", "onpd %s at %.*s, data in %s", ONP_VERSION, (int)length - 1, url,
              settings->data_dir);
    if (api_is_open(app->api)) {
        log_event(settings_is_local(settings) ? LOG_INFO : LOG_WARN, "open_access",
                  "there is no token: whoever reaches this address may do everything");
    }
    if (settings->print_port) {
        (void)printf("%u\n", (unsigned)port);
        (void)fflush(stdout);
    }
    return settings->ready_file != NULL ? file_write_atomic(settings->ready_file, url, length, error) : STATUS_OK;
}

static enum status start_listening(struct app *app, struct error *error) {
    const struct settings *settings = app->settings;
    uint16_t port = 0;
    enum status status = STATUS_OK;

    if (!settings_is_local(settings) && !settings->insecure && api_is_open(app->api)) {
        return error_set(error, STATUS_INVALID, "--listen",
                         "failed to listen on %s: other machines reach it and there is no token; make one with onpd "
                         "token create, or say --insecure",
                         settings->address);
    }
    if (settings->address[0] != '\0') {
        status = http_server_listen_tcp(app->server, settings->address, settings->port, &port, error);
    }
    if (status == STATUS_OK && settings->unix_path != NULL) {
        status = http_server_listen_unix(app->server, settings->unix_path, error);
    }
    return status == STATUS_OK ? announce(app, port, error) : status;
}

enum status app_start(const struct settings *settings, struct app **app, struct error *error) {
    struct app *made = mem_calloc(1, sizeof(*made));
    enum status status;

    if (made == NULL) {
        return error_no_memory(error, "the daemon");
    }
    made->settings = settings;
    if (uv_loop_init(&made->loop) != 0) {
        mem_free(made);
        return error_set(error, STATUS_INTERNAL, NULL, "failed to set up the loop");
    }
    status = store_open(settings->data_dir, NULL, &made->store, error);
    if (status == STATUS_OK) {
        status = start_jobs(made, error);
    }
    if (status == STATUS_OK) {
        status = start_api(made, error);
    }
    if (status == STATUS_OK) {
        status = start_server(made, error);
    }
    if (status == STATUS_OK) {
        store_set_listener(made->store, on_job_changed, made->server);
        status = start_signals(made, error);
    }
    if (status == STATUS_OK) {
        status = start_listening(made, error);
    }
    if (status != STATUS_OK) {
        app_free(made);
        return status;
    }
    *app = made;
    return STATUS_OK;
}

void app_run(struct app *app) {
    (void)uv_run(&app->loop, UV_RUN_DEFAULT);
    log_event(LOG_INFO, "stopped", "onpd has stopped");
}

void app_free(struct app *app) {
    if (app == NULL) {
        return;
    }
    /* After app_run() most of this is done; after a failed start nothing is. */
    if (app->store != NULL) {
        store_set_listener(app->store, NULL, NULL);
    }
    jobs_stop(app->jobs, 0);
    if (app->server != NULL) {
        http_server_close(app->server, NULL, NULL);
    }
    close_loop_handles(app);
    (void)uv_run(&app->loop, UV_RUN_DEFAULT);
    http_server_free(app->server);
    api_free(app->api);
    store_close(app->store);
    (void)uv_loop_close(&app->loop);
    mem_free(app);
}
