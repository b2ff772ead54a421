/* Builds the report, one function a section. A section that cannot be allocated makes the whole fail. */
#include "server/mitigate/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "common/json_read.h"
#include "server/expose/bank.h"
#include "server/mitigate/method.h"
#include "server/mitigate/mitigate_score.h"
#include "server/nn/backend.h"

static json_t *accuracy_section(const struct job *job) {
    const size_t count = job->samples->count;
    const size_t hits = metrics_hits(count, job->info.classes, job->logits1, job->samples->labels);
    const struct interval interval = metrics_wilson(hits, count);
    const struct locked_figures *locked = &job->locked;
    const struct interval locked_interval = metrics_wilson(locked->hits_after, locked->count);
    const double n = locked->count > 0 ? (double)locked->count : 1.0;
    return json_pack("{s:f, s:f, s:[f,f], s:f, s:f, s:[f,f], s:f}", "before", job->accuracy0, "after",
                     (double)hits / (double)count, "interval_after", interval.low, interval.high, "locked_before",
                     (double)locked->hits_before / n, "locked_after", (double)locked->hits_after / n,
                     "locked_interval_after", locked_interval.low, locked_interval.high, "locked_drop_at_least",
                     locked->drop_low);
}

/* How the locked samples obey the bank's triggers; null with an empty bank. */
static json_t *bank_section(const struct job *job) {
    const struct locked_figures *locked = &job->locked;
    if (locked->triggered == 0) {
        return json_null();
    }
    const struct interval interval = metrics_wilson(locked->obeyed, locked->triggered);
    const double n = (double)locked->triggered;
    return json_pack("{s:i, s:i, s:f, s:[f,f]}", "triggers", (int)job->exposure->bank_count, "images",
                     (int)locked->triggered, "success_after", (double)locked->obeyed / n, "interval_after",
                     interval.low, interval.high);
}

/* The family in which class t stands out most. */
static enum trigger_family strongest_family(const struct job *job, size_t t) {
    enum trigger_family best = TRIGGER_PATCH;
    for (size_t f = 0; f < TRIGGER_FAMILY_COUNT; f++) {
        const struct exposure_cell *cell = exposure_cell(job->exposure, (enum trigger_family)f, t);
        const struct exposure_cell *so_far = exposure_cell(job->exposure, best, t);
        if ((cell->suspect && !so_far->suspect) ||
            (cell->suspect == so_far->suspect && cell->anomaly > so_far->anomaly)) {
            best = (enum trigger_family)f;
        }
    }
    return best;
}

static json_t *size_after(const struct job *job, enum trigger_family family, size_t t) {
    const struct trigger *after = job->after == NULL ? NULL : job->after[(size_t)family * job->exposure->columns + t];
    return after == NULL ? json_null() : json_real_or_null(after->size);
}

/* The anomaly index of the new size among the sizes the other classes had. */
static json_t *anomaly_after(const struct job *job, enum trigger_family family, size_t t) {
    const struct trigger *after = job->after == NULL ? NULL : job->after[(size_t)family * job->exposure->columns + t];
    const struct exposure_cell *cell = exposure_cell(job->exposure, family, t);
    const double median = job->exposure->median[family];
    if (after == NULL || cell->anomaly == 0.0) {
        return json_null();
    }
    const double spread = (median - cell->size) / cell->anomaly;
    const double reference = job->exposure->reference[family][bank_level(after)]; /* the other classes, as strong */
    return json_real_or_null((reference - after->size) / spread);
}

static json_t *family_sizes(const struct job *job, size_t t) {
    json_t *object = json_object();
    for (size_t f = 0; f < TRIGGER_FAMILY_COUNT; f++) {
        const struct exposure_cell *cell = exposure_cell(job->exposure, (enum trigger_family)f, t);
        json_object_set_new(
            object, trigger_family_name((enum trigger_family)f),
            json_pack("{s:f, s:f, s:f}", "size", cell->size, "anomaly", cell->anomaly, "success", cell->success));
    }
    return object;
}

/* The smallest trigger that permutes the classes, of any family; null if none was found. */
static json_t *all_to_all_section(const struct job *job) {
    const size_t column = job->info.classes;
    const struct exposure_cell *best = NULL;
    for (size_t f = 0; f < TRIGGER_FAMILY_COUNT; f++) {
        const struct exposure_cell *cell = exposure_cell(job->exposure, (enum trigger_family)f, column);
        if (cell->trigger != NULL && (best == NULL || (cell->suspect && !best->suspect) ||
                                      (cell->suspect == best->suspect && cell->anomaly > best->anomaly))) {
            best = cell;
        }
    }
    if (best == NULL) {
        return json_null();
    }
    json_t *map = json_array();
    for (size_t y = 0; y < column; y++) {
        const int32_t goal = trigger_goal(best->trigger, (int32_t)y);
        json_array_append_new(map, goal == TRIGGER_AWAY ? json_null() : json_integer(goal));
    }
    const enum trigger_family family = best->trigger->family;
    return json_pack("{s:b, s:s, s:f, s:f, s:o, s:o}", "suspect", best->suspect, "family", trigger_family_name(family),
                     "size_before", best->size, "success", best->success, "size_after", size_after(job, family, column),
                     "map", map);
}

static json_t *exposure_section(const struct job *job) {
    if (job->exposure == NULL) {
        return json_null();
    }
    json_t *classes = json_array(), *suspects = json_array();
    for (size_t t = 0; t < job->info.classes; t++) {
        const enum trigger_family family = strongest_family(job, t);
        const struct exposure_cell *cell = exposure_cell(job->exposure, family, t);
        json_array_append_new(classes,
                              json_pack("{s:i, s:s, s:f, s:f, s:o, s:o, s:o}", "class", (int)t, "family",
                                        trigger_family_name(family), "size_before", cell->size, "anomaly_before",
                                        cell->anomaly, "size_after", size_after(job, family, t), "anomaly_after",
                                        anomaly_after(job, family, t), "families", family_sizes(job, t)));
        if (cell->suspect) {
            json_array_append_new(suspects, json_integer((json_int_t)t));
        }
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:O, s:b}", "classes", classes, "suspects", suspects, "all_to_all",
                     all_to_all_section(job), "bank", bank_section(job), "trials", job->trials, "hardened",
                     job->exposure->hardening && report_pruned_units(job) > 0);
}

static json_t *probe_section(const struct job *job, const float *probe_logits) {
    if (probe_logits == NULL) {
        return json_null();
    }
    const struct samples *probe = job->probe;
    const struct probe_figures before =
        metrics_probe(probe->count, job->info.classes, job->probe_logits0, probe->labels, probe->targets);
    const struct probe_figures after =
        metrics_probe(probe->count, job->info.classes, probe_logits, probe->labels, probe->targets);
    const size_t hits = metrics_hits(job->samples->count, job->info.classes, job->logits1, job->samples->labels);
    const double accuracy1 = (double)hits / (double)job->samples->count;
    return json_pack("{s:i, s:f, s:f, s:f, s:f, s:f}", "count", (int)after.count, "asr_before", before.asr, "asr_after",
                     after.asr, "recovery_before", before.recovery, "recovery_after", after.recovery, "der",
                     metrics_der(job->accuracy0, accuracy1, before.asr, after.asr));
}

size_t report_pruned_units(const struct job *job) {
    size_t count = 0;
    for (size_t u = 0; u < job->units->unit_count; u++) {
        count += job->best[u];
    }
    return count;
}

json_t *report_pruned(const struct job *job) {
    json_t *layers = json_array();
    for (size_t l = 0; l < job->units->layer_count; l++) {
        const struct unit_layer *layer = &job->units->layers[l];
        json_t *channels = json_array();
        for (size_t c = 0; c < layer->count; c++) {
            if (job->best[layer->first + c] != 0) {
                json_array_append_new(channels, json_integer((json_int_t)c));
            }
        }
        if (json_array_size(channels) == 0) {
            json_decref(channels);
            continue;
        }
        json_array_append_new(
            layers, json_pack("{s:s, s:o}", "layer", units_layer_name(job->network, layer), "channels", channels));
    }
    return layers;
}

static json_t *search_section(const struct job *job) {
    if (job->score == NULL) {
        return json_null();
    }
    json_t *reward = json_pack("{s:f, s:f, s:o, s:o, s:f}", "none", job->reward_none, "greedy", job->reward_greedy,
                               "random", json_real_or_null(job->reward_random), "ppo",
                               json_real_or_null(job->reward_ppo), "best", job->reward_best);
    return json_pack("{s:i, s:i, s:o, s:O}", "evaluations", (int)job->evaluations, "random_evaluations",
                     (int)job->random_evaluations, "reward", reward, "curve", job->curve);
}

static json_t *sizes_section(const struct job *job) {
    const struct split *split = job->split;
    return json_pack("{s:s, s:i, s:i, s:{s:i, s:i, s:i}}", "sha256", job->samples_sha256, "count",
                     (int)job->samples->count, "classes", (int)job->info.classes, "split", "build",
                     (int)split->build_count, "score", (int)split->score_count, "locked", (int)split->locked_count);
}

/* "model name" of the first processor in /proc/cpuinfo; "" where there is none. */
static void cpu_name(char *out, size_t size) {
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");
    out[0] = '\0';
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            snprintf(out, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
}

static json_t *provenance_section(const struct job *job) {
    char cpu[128];
    cpu_name(cpu, sizeof cpu);
    struct rusage usage = {0};
    (void)getrusage(RUSAGE_SELF, &usage); /* ru_maxrss is in kB on Linux */
    return json_pack("{s:s, s:s, s:i, s:s, s:I, s:o}", "version", ONP_VERSION, "backend", backend_description(),
                     "threads", (int)pool_threads(job->pool), "cpu", cpu, "peak_memory_bytes",
                     (json_int_t)usage.ru_maxrss * 1024, "parameters",
                     parameters_write(job->method->parameters, &job->parameters));
}

enum status report_new(const struct job *job, const float *probe_logits, json_t **report, struct error *error) {
    json_t *object = json_pack(
        "{s:i, s:s, s:I, s:s, s:{s:s, s:I, s:i}, s:o, s:o, s:o, s:o, s:o, s:i, s:o, s:o, s:o, s:o}", "schema", 1,
        "method", job->request->method, "seed", (json_int_t)job->request->seed, "verdict", verdict_name(job->verdict),
        "model", "sha256", job->model_sha256, "parameters", (json_int_t)job->info.parameters, "units",
        (int)job->units->unit_count, "samples", sizes_section(job), "accuracy", accuracy_section(job), "exposure",
        exposure_section(job), "probe", probe_section(job, probe_logits), "pruned", report_pruned(job), "pruned_units",
        (int)report_pruned_units(job), "search", search_section(job), "details",
        job->details == NULL ? json_null() : json_incref(job->details), "compact", json_null(), "provenance",
        provenance_section(job));
    if (object == NULL) {
        return error_no_memory(error, "the report");
    }
    *report = object;
    return STATUS_OK;
}

void report_seconds(const struct job *job, json_t *report, double total) {
    json_t *seconds = json_object();
    for (size_t s = 0; s < STAGE_COUNT; s++) {
        json_object_set_new(seconds, job_stage_name((enum job_stage)s), json_real(job->stage_seconds[s]));
    }
    json_object_set_new(seconds, "total", json_real(total));
    json_object_set_new(report, "seconds", seconds);
}
