/* The stage table and the run of one job over it. */
#include "server/mitigate/mitigate.h"

#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/mem.h"
#include "server/mitigate/checkpoint.h"
#include "server/mitigate/job.h"
#include "server/mitigate/method.h"
#include "server/mitigate/mitigate_score.h"
#include "server/mitigate/rankings.h"
#include "server/mitigate/report.h"
#include "server/nn/backend.h"
#include "server/nn/kernels.h"

static const struct stage_row stages_onp[] = {
    {STAGE_LOAD, 0.01, stage_load},         {STAGE_BASELINE, 0.02, stage_baseline}, {STAGE_EXPOSE, 0.37, stage_expose},
    {STAGE_GRAPH, 0.01, stage_graph},       {STAGE_SEARCH, 0.41, stage_search},     {STAGE_REPAIR, 0.14, stage_repair},
    {STAGE_EVALUATE, 0.03, stage_evaluate}, {STAGE_EXPORT, 0.01, stage_export},
};

const struct method method_onp = {
    .name = "onp",
    .summary =
        "Optimized Neuron Pruning: triggers are inverted from clean samples, then a graph-network policy searches "
        "with PPO which neurons to prune.",
    .parameters = &parameters_onp,
    .stages = stages_onp,
    .stage_count = sizeof stages_onp / sizeof stages_onp[0],
};

static const double REPORT_INTERVAL = 0.2;                  /* seconds between two progress calls within a stage */
static const uint64_t CHECKPOINT_MAX = (uint64_t)512 << 20; /* bytes; beyond, a job goes on unrecorded */
static const double ETA_FROM = 0.03;                        /* share of the job from which its pace says something */

const atomic_bool *job_cancel(const struct job *job) {
    return job->hooks == NULL ? NULL : job->hooks->cancel;
}

void job_progress(struct job *job, size_t step, size_t total, const char *message) {
    if (job->hooks == NULL || job->hooks->progress == NULL) {
        return;
    }
    const double now = clock_seconds();
    if (step > 0 && step < total && now - job->last_report < REPORT_INTERVAL) {
        return;
    }
    job->last_report = now;
    double before = 0.0, share = 0.0;
    for (size_t i = 0; i < job->method->stage_count; i++) {
        const struct stage_row *row = &job->method->stages[i];
        before += row->stage < job->stage ? row->share : 0.0;
        share += row->stage == job->stage ? row->share : 0.0;
    }
    const double within = total > 0 ? (double)step / (double)total : 0.0;
    job->fraction = fmax(job->fraction, before + share * fmin(1.0, within));
    const double elapsed = now - job->started;
    const struct mitigate_progress progress = {
        .stage = job->stage,
        .step = step,
        .total = total,
        .fraction = job->fraction,
        .eta_s = job->fraction >= ETA_FROM ? elapsed * (1.0 - job->fraction) / job->fraction : -1.0,
        .best_reward = job->best_reward,
        .evaluations = job->score == NULL ? 0 : score_evaluations(job->score),
        .mean_reward = job->mean_reward,
        .greedy_reward = isnan(job->best_reward) ? (double)NAN : job->reward_greedy,
        .message = message == NULL ? "" : message,
    };
    job->hooks->progress(job->hooks->user, &progress);
}

void job_trace(struct job *job, json_t *event) {
    if (event != NULL) {
        json_object_set_new(event, "seconds", json_real(round((clock_seconds() - job->started) * 1e3) / 1e3));
        json_object_set_new(event, "stage", json_string(job_stage_name(job->stage)));
        json_array_append_new(job->trace, event);
    }
}

struct invert_data job_invert_data(const struct job *job, const float *mask, const float *fill) {
    return (struct invert_data){.engine = job->backward,
                                .range = &job->range,
                                .images = job->build_images,
                                .labels = job->build_labels,
                                .predicted = job->build_predicted,
                                .count = job->split->build_count,
                                .classes = job->info.classes,
                                .mask = mask,
                                .fill = fill,
                                .units = job->units->unit_count,
                                .cancel = job_cancel(job),
                                .memo = job->checkpoint != NULL ? &job->memo : NULL};
}

enum status job_key(const struct job *job, const void *what, size_t size, const float *mask, const float *fill,
                    char key[DIGEST_HEX_SIZE], struct error *error) {
    const size_t bytes = job->units->unit_count * sizeof *mask;
    struct digest *digest = digest_new();
    if (digest == NULL) {
        return error_no_memory(error, "a key");
    }
    digest_update(digest, what, size);
    digest_update(digest, mask, bytes);
    digest_update(digest, fill, bytes);
    digest_finish(digest, key);
    digest_free(digest);
    return STATUS_OK;
}

void job_mask_from_bits(size_t units, const uint8_t *prune, float *mask) {
    for (size_t u = 0; u < units; u++) {
        mask[u] = prune[u] != 0 ? 0.0F : 1.0F;
    }
}

static bool recall_inversion(void *user, const char key[DIGEST_HEX_SIZE], void *state, size_t size) {
    return checkpoint_recall(user, CHECKPOINT_INVERSION, key, state, size);
}

static void keep_inversion(void *user, const char key[DIGEST_HEX_SIZE], const void *state, size_t size) {
    checkpoint_keep(user, CHECKPOINT_INVERSION, key, state, size);
}

/* After the first stage, which knows what the job's results depend on. */
static enum status open_checkpoint(struct job *job, struct error *error) {
    struct rlimit limit;
    char path[PATH_MAX];
    uint64_t max_bytes = CHECKPOINT_MAX;
    json_t *depends =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:I, s:s, s:o}", "version", ONP_VERSION, "kernels", kernels()->name,
                  "model", job->model_sha256, "samples", job->samples_sha256, "method", job->request->method, "seed",
                  (json_int_t)job->request->seed, "backend", backend_description(), "parameters",
                  parameters_write(job->method->parameters, &job->parameters));
    char *binding = depends != NULL ? json_dumps(depends, JSON_SORT_KEYS | JSON_COMPACT) : NULL;
    json_decref(depends);
    if (binding == NULL) {
        return error_no_memory(error, "a checkpoint");
    }
    /* A limit on files would end the process when the file reaches it. */
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY && limit.rlim_cur < max_bytes) {
        max_bytes = limit.rlim_cur;
    }
    enum status status = file_join(path, sizeof path, job->request->out_dir, MITIGATE_CHECKPOINT, error);
    if (status == STATUS_OK) {
        status = checkpoint_open(path, binding, max_bytes, &job->checkpoint, error);
    }
    free(binding); /* of jansson */
    job->memo = (struct invert_memo){job->checkpoint, recall_inversion, keep_inversion};
    return status;
}

static void job_deinit(struct job *job) {
    checkpoint_close(job->checkpoint);
    score_free(job->score);
    unit_effects_free(job->effects0);
    for (size_t i = 0; job->after != NULL && i < TRIGGER_FAMILY_COUNT * job->exposure->columns; i++) {
        trigger_free(job->after[i]);
    }
    mem_free(job->after);
    mem_free(job->logits1);
    mem_free(job->mask);
    mem_free(job->fill);
    mem_free(job->best);
    mem_free(job->features);
    neuron_graph_free(job->graph);
    exposure_free(job->exposure);
    unit_stats_free(job->stats0);
    snapshot_free(job->original);
    mem_free(job->probe_logits0);
    mem_free(job->p0);
    mem_free(job->logits0);
    mem_free(job->build_labels);
    mem_free(job->build_predicted);
    mem_free(job->build_images);
    mem_free(job->build_and_score);
    mem_free(job->images);
    split_free(job->split);
    samples_free(job->probe);
    samples_free(job->samples);
    engine_free(job->backward);
    engine_free(job->forward);
    pool_free(job->pool);
    network_free(job->masked);
    units_free(job->units);
    onnx_model_free(job->model);
    json_decref(job->curve);
    json_decref(job->trials);
    json_decref(job->trace);
    json_decref(job->details);
    json_decref(job->report);
}

static bool cancelled(const struct job *job) {
    const atomic_bool *cancel = job_cancel(job);
    return cancel != NULL && atomic_load(cancel);
}

static enum status run_stages(struct job *job, struct error *error) {
    for (size_t i = 0; i < job->method->stage_count; i++) {
        const struct stage_row *row = &job->method->stages[i];
        const double start = clock_seconds();
        job->stage = row->stage;
        if (cancelled(job)) {
            return error_set(error, STATUS_CANCELLED, job_stage_name(job->stage), "cancelled");
        }
        job_progress(job, 0, 0, "");
        if (job->stage == STAGE_EXPORT && job->checkpoint != NULL) {
            job_trace(job, json_pack("{s:s, s:I, s:I}", "event", "checkpoint", "recalled",
                                     (json_int_t)checkpoint_recalled(job->checkpoint), "computed",
                                     (json_int_t)checkpoint_kept(job->checkpoint)));
        }
        enum status status = row->run(job, error);
        if (status == STATUS_OK && job->stage == STAGE_LOAD && job->request->checkpoint) {
            status = open_checkpoint(job, error);
        }
        if (status != STATUS_OK) {
            return status;
        }
        checkpoint_sync(job->checkpoint);
        job->stage_seconds[row->stage] = clock_seconds() - start;
    }
    job_progress(job, 1, 1, "");
    return STATUS_OK;
}

enum status method_run(const struct method *method, const struct mitigate_request *request,
                       const struct mitigate_hooks *hooks, json_t **report, struct error *error) {
    struct job job = {.method = method,
                      .request = request,
                      .hooks = hooks,
                      .best_reward = (double)NAN,
                      .mean_reward = (double)NAN,
                      .started = clock_seconds()};
    enum status status = parameters_read(method->parameters, request->parameters, &job.parameters, error);
    if (status != STATUS_OK) {
        return status;
    }
    if (method->settle != NULL) {
        method->settle(&job.parameters);
    }
    rng_seed(&job.rng, request->seed);
    job.trace = json_array();
    job.curve = json_array();
    job.trials = json_array();
    if (job.trace == NULL || job.curve == NULL || job.trials == NULL) {
        status = error_no_memory(error, "a job's trace");
    } else {
        status = run_stages(&job, error);
    }
    if (status == STATUS_OK) {
        *report = json_incref(job.report);
    }
    job_deinit(&job);
    return status;
}

enum status method_check_parameters(const struct method *method, const json_t *parameters, struct error *error) {
    struct parameters ignored;
    return parameters_read(method->parameters, parameters, &ignored, error);
}

json_t *method_describe(const struct method *method) {
    return json_pack("{s:s, s:s, s:o}", "name", method->name, "summary", method->summary, "parameters",
                     parameters_schema(method->parameters));
}
