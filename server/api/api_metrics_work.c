/* The part of /metrics about what the server does with its jobs and its disk. */
#include "common/buf.h"
#include "server/api/api_internal.h"
#include "server/store/store_upkeep.h"

static void put(struct buf *out, const char *type, const char *name, const char *help, double value) {
    (void)buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %.15g\n", name, help, name, type, name, value);
}

static void put_store(struct buf *out, const struct store_figures *figures) {
    put(out, "counter", "onpd_database_commits_total", "Transactions that were committed.", (double)figures->commits);
    put(out, "counter", "onpd_database_failures_total", "Transactions that were refused, as by a full disk.",
        (double)figures->failed_commits);
    put(out, "gauge", "onpd_models", "Models that are stored.", (double)figures->models);
    put(out, "gauge", "onpd_samples", "Sample sets that are stored.", (double)figures->samples);
    put(out, "gauge", "onpd_queue_age_seconds", "How long the oldest queued job has waited.", figures->queue_age_s);
    put(out, "gauge", "onpd_disk_free_bytes", "Free space on the disk of the data folder.", (double)figures->disk_free);
    put(out, "gauge", "onpd_disk_bytes", "Size of that disk.", (double)figures->disk_total);
}

static void put_stages(struct buf *out, struct api *api) {
    struct jobs_stages stages;
    jobs_stages(api->config.jobs, &stages);
    (void)buf_append_text(out, "# HELP onpd_job_stage_seconds_total Time that succeeded jobs spent in each stage.\n"
                               "# TYPE onpd_job_stage_seconds_total counter\n");
    for (size_t i = 0; i < STAGE_COUNT; i++) {
        (void)buf_printf(out, "onpd_job_stage_seconds_total{stage=\"%s\"} %.6f\n", job_stage_name((enum job_stage)i),
                         stages.seconds[i]);
    }
    put(out, "counter", "onpd_jobs_timed_total", "Succeeded jobs that these seconds are of.", (double)stages.jobs);
}

void api_metrics_put_work(struct buf *out, struct api *api) {
    struct store_figures figures;
    if (store_figures(api->config.store, &figures, NULL) == STATUS_OK) {
        put_store(out, &figures); /* a scrape without them says more than none */
    }
    if (!api->draining) {
        put_stages(out, api);
    }
}
