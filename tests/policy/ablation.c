/* What each part of the search is worth: one job, whose search, repair, evaluation and export run once a variant. What does not depend
 * on the variant (exposure, graph) runs once, and its inversions are kept in a journal for the next time.
 *
 *   ablation MODEL_FOLDER --out DIR --cache DIR [--seed N] [--variants "full no-graph ..."]
 *
 * Writes DIR/VARIANT/{model.onnx, report.json, ...} and a JSON line a variant to standard output. tests/policy/ablation.sh has the files
 * judged and makes a table. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/file.h"
#include "common/json_read.h"
#include "common/mem.h"
#include "common/options.h"
#include "server/mitigate/job.h"
#include "server/mitigate/method.h"
#include "server/mitigate/mitigate_score.h"
#include "server/mitigate/rankings.h"
#include "server/mitigate/report.h"

static const struct variant {
    const char *name, *parameters;
} variants[] = {
    {"full", "{}"},
    {"untrained", "{\"policy\": \"none\"}"},
    {"no-graph", "{\"policy\": \"none\", \"message_passing\": false, \"random_baseline\": false}"},
    {"no-warm-start", "{\"warm_start\": false, \"random_baseline\": false}"},
    {"no-adversary", "{\"adversary_rounds\": 0, \"random_baseline\": false}"},
    {"no-agent", "{\"iterations\": 0}"},
};

/* What the variants stage needs and a job has no place for: set once before the job runs. */
static struct plan { const char *out, *chosen; /* chosen: names, separated by spaces; NULL: all */ } plan;

static bool is_chosen(const char *name) {
    const size_t length = strlen(name);
    const char *at = plan.chosen;
    while (at != NULL && (at = strstr(at, name)) != NULL) {
        const bool starts = at == plan.chosen || at[-1] == ' ', ends = at[length] == '\0' || at[length] == ' ';
        if (starts && ends) {
            return true;
        }
        at += length;
    }
    return plan.chosen == NULL;
}

/* The job as it was after stage 4. */
static void reset(struct job *job, size_t bank_count) {
    struct exposure *exposure = job->exposure;
    while (exposure->bank_count > bank_count) {
        trigger_free(exposure->bank[--exposure->bank_count]);
    }
    for (size_t i = 0; job->after != NULL && i < TRIGGER_FAMILY_COUNT * exposure->columns; i++) {
        trigger_free(job->after[i]);
    }
    mem_free(job->after);
    score_free(job->score);
    unit_effects_free(job->effects0);
    mem_free(job->best);
    mem_free(job->features);
    mem_free(job->mask);
    mem_free(job->fill);
    mem_free(job->logits1);
    json_decref(job->report);
    json_array_clear(job->curve);
    json_array_clear(job->trials);
    job->after = NULL;
    job->score = NULL;
    job->effects0 = NULL;
    job->best = NULL;
    job->features = job->mask = job->fill = job->logits1 = NULL;
    job->report = NULL;
    job->best_reward = job->mean_reward = (double)NAN;
    job->evaluations = job->random_evaluations = 0;
}

static enum status run_variant(struct job *job, const struct variant *variant, struct error *error) {
    static const struct stage_row rows[] = {{STAGE_SEARCH, 0, stage_search},
                                            {STAGE_REPAIR, 0, stage_repair},
                                            {STAGE_EVALUATE, 0, stage_evaluate},
                                            {STAGE_EXPORT, 0, stage_export}};
    const struct mitigate_request *request = job->request;
    struct mitigate_request own = *request;
    char out[PATH_MAX];
    json_t *parameters = NULL;
    const double start = clock_seconds();
    enum status status = file_join(out, sizeof out, plan.out, variant->name, error);
    status = status == STATUS_OK ? file_make_dir(out, error) : status;
    status = status == STATUS_OK ? json_read_text(variant->parameters, strlen(variant->parameters), &parameters, error)
                                 : status;
    status = status == STATUS_OK ? parameters_read(&parameters_onp, parameters, &job->parameters, error) : status;
    json_decref(parameters);
    own.out_dir = out;
    job->request = &own;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0] && status == STATUS_OK; i++) {
        job->stage = rows[i].stage;
        status = rows[i].run(job, error);
    }
    job->request = request;
    if (status != STATUS_OK) {
        return status;
    }
    json_t *line =
        json_pack("{s:s, s:I, s:O, s:O, s:O, s:O, s:f}", "variant", variant->name, "seed", (json_int_t)request->seed,
                  "verdict", json_object_get(job->report, "verdict"), "search", json_object_get(job->report, "search"),
                  "pruned", json_object_get(job->report, "pruned_units"), "accuracy",
                  json_object_get(job->report, "accuracy"), "seconds", clock_seconds() - start);
    if (line == NULL || json_dumpf(line, stdout, JSON_COMPACT) != 0 || putchar('\n') == EOF || fflush(stdout) != 0) {
        status = error_set(error, STATUS_IO, NULL, "failed to write a line: got an error, expected none");
    }
    json_decref(line);
    return status;
}

static enum status stage_variants(struct job *job, struct error *error) {
    const size_t bank_count = job->exposure->bank_count;
    struct checkpoint *journal = job->checkpoint; /* for the exposure alone */
    enum status status = STATUS_OK;
    job->checkpoint = NULL;
    for (size_t i = 0; i < sizeof variants / sizeof variants[0] && status == STATUS_OK; i++) {
        if (is_chosen(variants[i].name)) {
            reset(job, bank_count);
            status = run_variant(job, &variants[i], error);
        }
    }
    job->checkpoint = journal;
    return status;
}

static const struct stage_row stages[] = {
    {STAGE_LOAD, 0.01, stage_load},   {STAGE_BASELINE, 0.01, stage_baseline}, {STAGE_EXPOSE, 0.2, stage_expose},
    {STAGE_GRAPH, 0.01, stage_graph}, {STAGE_SEARCH, 0.77, stage_variants},
};
static const struct method method_variants = {.name = "onp",
                                              .summary = "",
                                              .parameters = &parameters_onp,
                                              .stages = stages,
                                              .stage_count = sizeof stages / sizeof stages[0]};

static enum status run(const char *folder, const char *cache, uint64_t seed, struct error *error) {
    const struct mitigate_hooks hooks = {0};
    char model[PATH_MAX], samples[PATH_MAX];
    json_t *report = NULL;
    enum status status = file_join(model, sizeof model, folder, "model.onnx", error);
    status = status == STATUS_OK ? file_join(samples, sizeof samples, folder, "clean.npz", error) : status;
    status = status == STATUS_OK ? file_make_dir(cache, error) : status;
    const struct mitigate_request request = {.model_path = model,
                                             .samples_path = samples,
                                             .out_dir = cache,
                                             .method = "onp",
                                             .seed = seed,
                                             .checkpoint = true};
    status = status == STATUS_OK ? method_run(&method_variants, &request, &hooks, &report, error) : status;
    json_decref(report);
    return status;
}

int main(int argc, char **argv) {
    const char *cache = NULL, *folder = NULL;
    uint64_t seed = 1;
    size_t count = 0;
    struct error error = {0};
    const struct option table[] = {
        {"out", 'o', OPTION_STRING, &plan.out, 0, "DIR", "a folder a variant is made in it"},
        {"cache", 0, OPTION_STRING, &cache, 0, "DIR", "where the inversions of this model and seed are kept"},
        {"seed", 0, OPTION_U64, &seed, INT64_MAX, "N", "seed of all randomness (1)"},
        {"variants", 0, OPTION_STRING, &plan.chosen, 0, "NAMES", "only these"},
        {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL},
    };
    enum status status = options_parse(table, argc, argv, &folder, 1, &count, &error);
    if (status == STATUS_OK && (plan.out == NULL || cache == NULL || count != 1)) {
        status = error_set(&error, STATUS_INVALID, NULL,
                           "failed to start: got no folder, --out or --cache, expected all of them");
    }
    status = status == STATUS_OK ? run(folder, cache, seed, &error) : status;
    if (status != STATUS_OK) {
        fprintf(stderr, "ablation: %s%s%s\n", error.where, error.where[0] != '\0' ? ": " : "", error.message);
    }
    return status == STATUS_OK ? 0 : 1;
}
