/* /metrics: Prometheus text format. */
#include "common/clock.h"
#include "server/api/api_internal.h"

enum { METRICS_MAX = 1 << 20 };

static const char *const class_names[5] = {"1xx", "2xx", "3xx", "4xx", "5xx"};

/* The path template of a row, so that ids do not become label values; one more for what matched nothing. */
static const char *template_of(size_t row) {
    return row < api_route_count ? api_routes[row].path : "none";
}

static const char *method_of(size_t row) {
    return row < api_route_count ? api_routes[row].method : "any";
}

static void put_requests(struct buf *out, const struct http_server *server) {
    (void)buf_append_text(out, "# HELP onpd_http_requests_total Answers by route and class of status.\n"
                               "# TYPE onpd_http_requests_total counter\n");
    for (size_t row = 0; row <= api_route_count; row++) {
        const struct http_route_stats *stats = http_server_stats(server, row);
        for (size_t class = 0; class < 5; class ++) {
            if (stats->by_class[class] > 0) {
                (void)buf_printf(out, "onpd_http_requests_total{method=\"%s\",route=\"%s\",status=\"%s\"} %llu\n",
                                 method_of(row), template_of(row), class_names[class],
                                 (unsigned long long)stats->by_class[class]);
            }
        }
    }
}

static void put_latency(struct buf *out, const struct http_server *server) {
    (void)buf_append_text(out, "# HELP onpd_http_request_seconds From the request line to the end of the answer.\n"
                               "# TYPE onpd_http_request_seconds histogram\n");
    for (size_t row = 0; row <= api_route_count; row++) {
        const struct http_route_stats *stats = http_server_stats(server, row);
        uint64_t sum = 0;
        for (size_t i = 0; i < HTTP_LATENCY_BUCKETS; i++) {
            sum += stats->latency[i];
        }
        if (sum == 0) {
            continue;
        }
        sum = 0;
        for (size_t i = 0; i < HTTP_LATENCY_BUCKETS; i++) {
            sum += stats->latency[i];
            (void)buf_printf(out, "onpd_http_request_seconds_bucket{method=\"%s\",route=\"%s\",le=\"", method_of(row),
                             template_of(row));
            if (i + 1 < HTTP_LATENCY_BUCKETS) {
                (void)buf_printf(out, "%g\"} %llu\n", http_latency_bounds[i], (unsigned long long)sum);
            } else {
                (void)buf_printf(out, "+Inf\"} %llu\n", (unsigned long long)sum);
            }
        }
        (void)buf_printf(out, "onpd_http_request_seconds_sum{method=\"%s\",route=\"%s\"} %.6f\n", method_of(row),
                         template_of(row), stats->seconds);
        (void)buf_printf(out, "onpd_http_request_seconds_count{method=\"%s\",route=\"%s\"} %llu\n", method_of(row),
                         template_of(row), (unsigned long long)sum);
    }
}

static void put_number(struct buf *out, const char *type, const char *name, const char *help, double value) {
    (void)buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.15g\n", name, help, name, type, name, value);
}

static void put_jobs(struct buf *out, struct api *api) {
    uint64_t counts[JOB_STATE_COUNT];
    struct error ignored = {0};

    if (store_job_counts(api->config.store, counts, &ignored) != STATUS_OK) {
        return; /* a scrape without them says more than none */
    }
    (void)buf_append_text(out, "# HELP onpd_jobs Jobs by state.\n# TYPE onpd_jobs gauge\n");
    for (int state = 0; state < JOB_STATE_COUNT; state++) {
        (void)buf_printf(out, "onpd_jobs{state=\"%s\"} %llu\n", job_state_name((enum job_state)state),
                         (unsigned long long)counts[state]);
    }
}

static void put_sandbox(struct buf *out, struct api *api) {
    struct jobs_sandbox sandbox;

    jobs_sandbox(api->config.jobs, &sandbox);
    (void)buf_printf(out,
                     "# HELP onpd_sandbox_wall Walls around children that are up.\n# TYPE onpd_sandbox_wall gauge\n"
                     "onpd_sandbox_wall{wall=\"landlock\"} %d\nonpd_sandbox_wall{wall=\"system_calls\"} %d\n"
                     "onpd_sandbox_wall{wall=\"own_user\"} %d\nonpd_sandbox_wall{wall=\"memory\"} %d\n",
                     sandbox.landlock > 0, sandbox.calls, sandbox.user, sandbox.address_space);
    put_number(out, "counter", "onpd_sandbox_breaches_total", "Children ended for a forbidden system call.",
               (double)sandbox.breaches);
    put_number(out, "counter", "onpd_children_babbled_total", "Children ended for what they said.",
               (double)sandbox.babblers);
    put_number(out, "counter", "onpd_children_lost_total", "Children that ended without a word.", (double)sandbox.lost);
}

void api_metrics_get(struct http_request *request, void *context) {
    struct api *api = context;
    const struct http_server *server = http_request_server(request);
    struct error error = {0};
    struct buf out;

    buf_init(&out, METRICS_MAX);
    (void)buf_printf(&out, "# HELP onpd_info Version.\n# TYPE onpd_info gauge\nonpd_info{version=\"%s\"} 1\n",
                     ONP_VERSION);
    put_number(&out, "gauge", "onpd_start_time_seconds", "Start, seconds of the Unix epoch.",
               (double)api->started_ms / 1000.0);
    put_number(&out, "gauge", "onpd_http_connections", "Open connections.", (double)http_server_connections(server));
    put_number(&out, "gauge", "onpd_http_requests_active", "Requests in progress.", (double)http_server_active(server));
    put_number(&out, "counter", "onpd_http_received_bytes_total", "Bytes of request bodies.",
               (double)http_server_received(server));
    put_jobs(&out, api);
    api_metrics_put_work(&out, api);
    if (!api->draining) {
        put_number(&out, "gauge", "onpd_workers", "Jobs that can run at once.", (double)jobs_workers(api->config.jobs));
        put_number(&out, "gauge", "onpd_workers_busy", "Workers with a job.", (double)jobs_running(api->config.jobs));
        put_sandbox(&out, api);
    }
    put_requests(&out, server);
    put_latency(&out, server);
    if (out.failed) {
        error_no_memory(&error, "the metrics");
        http_reply_error(request, &error);
    } else {
        http_reply_text(request, "text/plain; version=0.0.4; charset=utf-8", out.data, out.length);
    }
    buf_deinit(&out);
}
