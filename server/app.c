/* Start order: loop, store, jobs, api, server, sockets, signals. A stop goes the other way round: listen no more, let
 * the workers finish or put back their jobs (in a thread of its own, as it takes seconds), answer what still waits,
 * close. */
#include "server/app.h"

#include <math.h>
#include <signal.h>
#include <stdatomic.h>
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
#include "server/store/store_upkeep.h"
#include "server/systemd.h"

enum {
    SIGNALS = 3,
    LAST_ANSWERS_MS = 2000,
    LAST_ANSWERS_TICK_MS = 20,
    UPKEEP_TICK_MS = 1000,
    MS_A_DAY = 24 * 3600 * 1000
};
static const double RETAIN_EVERY_S = 20.0;

const struct job_methods app_methods = {
    .run = methods_run,
    .check_parameters = methods_check_parameters,
    .check_model = mitigate_check_model,
    .check_samples = mitigate_check_samples,
    .describe_graph = mitigate_describe_graph,
    .check_fit = mitigate_check_fit,
};

struct app {
    struct settings *settings;
    uv_loop_t loop;
    struct store *store;
    struct jobs *jobs;
    struct api *api;
    struct http_server *server;
    uv_signal_t signals[SIGNALS];
    size_t signal_count;
    uv_timer_t last_answers, upkeep;
    bool timer_ready, upkeep_ready;
    double watchdog_s, watchdog_at, retain_at;
    atomic_bool retaining;
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
    if (app->upkeep_ready) {
        uv_close((uv_handle_t *)&app->upkeep, NULL);
        app->upkeep_ready = false;
    }
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

/* Tokens and certificate are read again; what cannot be read stays as it is. */
static void reload(struct app *app) {
    struct error errors[3] = {0};
    enum status status = settings_read_token(app->settings, &errors[0]);

    systemd_notify("RELOADING=1");
    if (status == STATUS_OK) {
        api_set_token(app->api, app->settings->token[0] != '\0' ? app->settings->token : NULL);
    }
    (void)api_reload_tokens(app->api, &errors[1]);
    if (app->settings->tls_cert != NULL) {
        (void)http_server_reload_tls(app->server, &errors[2]);
    }
    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        if (errors[i].status != STATUS_OK) {
            log_event(LOG_ERROR, "reload_failed", "%s", errors[i].message);
        }
    }
    log_event(LOG_INFO, "reloaded", "tokens%s are read again",
              app->settings->tls_cert != NULL ? " and certificate" : "");
    systemd_notify("READY=1");
}

static void on_signal(uv_signal_t *handle, int number) {
    struct app *app = handle->data;

    if (number == SIGHUP) {
        if (!app->draining) {
            reload(app);
        }
        return;
    }

    if (app->draining) {
        log_event(LOG_WARN, "stop", "second signal %d: ending at once", number);
        _exit(EXIT_FAILED);
    }
    log_event(LOG_INFO, "drain", "signal %d: listening no more; running jobs have %.0f s", number,
              app->settings->drain_s);
    app->draining = true;
    systemd_notify("STOPPING=1");
    api_drain(app->api);
    http_server_drain(app->server);
    app->stopped.run = on_jobs_stopped;
    app->stopper_runs = uv_thread_create(&app->stopper, stop_jobs, app) == 0;
    if (!app->stopper_runs) {
        log_event(LOG_ERROR, "stop", "failed to start the thread that drains: ending at once");
        _exit(EXIT_FAILED);
    }
}

/* --- what is due by itself --- */

static int64_t days_ago(double days) {
    return days > 0 ? clock_wall_ms() - (int64_t)(days * MS_A_DAY) : 0;
}

/* Helper thread. */
static void retain(void *user) {
    struct app *app = user;
    const struct settings *s = app->settings;
    const struct store_retention retention = {.succeeded_before_ms = days_ago(s->retain_succeeded),
                                              .failed_before_ms = days_ago(s->retain_failed),
                                              .unused_before_ms = days_ago(s->retain_unused)};
    struct error error = {0};
    size_t deleted = 0;

    if (store_retain(app->store, &retention, &deleted, &error) != STATUS_OK) {
        log_event(LOG_WARN, "retention_failed", "%s", error.message);
    } else if (deleted > 0) {
        log_event(LOG_INFO, "retention", "%zu jobs and files are past their time", deleted);
        (void)store_collect_blobs(app->store, NULL, NULL);
    }
    atomic_store(&app->retaining, false);
}

/* Often enough that nothing stays much longer than it should. */
static double retain_every_s(const struct settings *s) {
    const double days[] = {s->retain_succeeded, s->retain_failed, s->retain_unused};
    double every = RETAIN_EVERY_S;

    for (size_t i = 0; i < sizeof(days) / sizeof(days[0]); i++) {
        every = days[i] > 0 ? fmin(every, days[i] * MS_A_DAY / 1000.0) : every;
    }
    return every;
}

static void on_upkeep(uv_timer_t *timer) {
    struct app *app = timer->data;
    const struct settings *s = app->settings;
    const double now = clock_seconds();
    const bool retains = s->retain_succeeded > 0 || s->retain_failed > 0 || s->retain_unused > 0;

    if (app->watchdog_s > 0 && now >= app->watchdog_at) {
        app->watchdog_at = now + app->watchdog_s / 3;
        systemd_notify("WATCHDOG=1");
    }
    if (retains && !app->draining && now >= app->retain_at && !atomic_exchange(&app->retaining, true)) {
        app->retain_at = now + retain_every_s(s);
        if (jobs_run_later(app->jobs, retain, app, NULL) != STATUS_OK) {
            atomic_store(&app->retaining, false);
        }
    }
}

static enum status start_upkeep(struct app *app, struct error *error) {
    if (uv_timer_init(&app->loop, &app->upkeep) != 0) {
        return error_set(error, STATUS_INTERNAL, NULL, "failed to set up a timer");
    }
    app->upkeep_ready = true;
    app->upkeep.data = app;
    app->watchdog_s = systemd_watchdog_s();
    (void)uv_timer_start(&app->upkeep, on_upkeep, UPKEEP_TICK_MS, UPKEEP_TICK_MS);
    return STATUS_OK;
}

static enum status start_signals(struct app *app, struct error *error) {
    static const int numbers[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};

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

    /* The engine reads it wherever it runs: in children, which get it passed on, or in worker threads, which start below. */
    if (setenv("ONP_BACKEND", settings->backend_word, 1) != 0) {
        return error_no_memory(error, "the environment");
    }
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
        .quota_bytes = settings->quota_bytes,
        .jobs_max = settings->jobs_max,
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
        (void)snprintf(url, sizeof(url), "%s://%s%s%s:%u\n", settings->tls_cert != NULL ? "https" : "http",
                       v6 ? "[" : "", settings->address, v6 ? "]" : "", (unsigned)port);
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
    if (settings->address[0] != '\0' && settings->tls_cert != NULL) {
        status = http_server_use_tls(app->server, settings->tls_cert, settings->tls_key, error);
    }
    if (status == STATUS_OK && settings->address[0] != '\0') {
        status = http_server_listen_tcp(app->server, settings->address, settings->port, &port, error);
    }
    if (status == STATUS_OK && settings->unix_path != NULL) {
        status = http_server_listen_unix(app->server, settings->unix_path, error);
    }
    return status == STATUS_OK ? announce(app, port, error) : status;
}

enum status app_start(struct settings *settings, struct app **app, struct error *error) {
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
        status = start_upkeep(made, error);
    }
    if (status == STATUS_OK) {
        status = start_listening(made, error);
    }
    if (status == STATUS_OK) {
        systemd_notify("READY=1");
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
