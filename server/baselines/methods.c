/* The table of methods and their parameters. */
#include "server/baselines/methods.h"

#include <string.h>

#include "common/buf.h"
#include "server/baselines/baseline.h"
#include "server/mitigate/method.h"

#define TABLE(name, ...)                                                                                               \
    static const struct parameter rows_##name[] = {__VA_ARGS__};                                                       \
    static const struct parameter_table parameters_##name = {rows_##name, sizeof rows_##name / sizeof rows_##name[0]}

#define BUDGET                                                                                                         \
    PARAMETER(max_accuracy_drop, PARAMETER_REAL, 0.02, 0.0, 1.0,                                                       \
              "Loss of accuracy on the locked samples from which the verdict is failed_budget.")
#define COMPACT                                                                                                        \
    PARAMETER(compact, PARAMETER_BOOLEAN, 0, 0, 1,                                                                     \
              "Remove pruned channels from the file, where that is exact: a smaller and faster model.")
#define DROP(initial)                                                                                                  \
    PARAMETER(accuracy_drop, PARAMETER_REAL, initial, 0.0, 1.0,                                                        \
              "Loss of accuracy on the score samples up to which units are pruned.")
#define EPOCHS(initial) PARAMETER(epochs, PARAMETER_INTEGER, initial, 0, 1000, "Passes of fine-tuning.")
#define RATE PARAMETER(learning_rate, PARAMETER_REAL, 0.01, 0.0, 10.0, "Learning rate of fine-tuning; falls to 0.")
#define MASK_STEPS(initial)                                                                                            \
    PARAMETER(mask_steps, PARAMETER_INTEGER, initial, 1, 100000, "Steps of training the mask, of 64 samples.")
#define MASK_RATE PARAMETER(mask_learning_rate, PARAMETER_REAL, 0.2, 0.0, 10.0, "Learning rate of the mask.")

TABLE(fp, BUDGET, DROP(0.04), EPOCHS(10), RATE, COMPACT);
TABLE(clp, BUDGET,
      PARAMETER(deviations, PARAMETER_REAL, 3.0, 0.0, 100.0,
                "Channels with a Lipschitz constant so many deviations above their layer's mean are pruned."),
      COMPACT);
TABLE(anp, BUDGET, DROP(0.02), MASK_STEPS(300), MASK_RATE,
      PARAMETER(perturbation, PARAMETER_REAL, 0.4, 0.0, 1.0, "Bound of the relative change of weights and biases."),
      PARAMETER(tradeoff, PARAMETER_REAL, 0.2, 0.0, 1.0, "Weight of the loss without a change."), COMPACT);
TABLE(rnp, BUDGET, DROP(0.02),
      PARAMETER(unlearn_epochs, PARAMETER_INTEGER, 20, 0, 1000, "Passes of unlearning at most."),
      PARAMETER(unlearn_accuracy, PARAMETER_REAL, 0.2, 0.0, 1.0, "Accuracy at which unlearning ends."),
      PARAMETER(unlearn_learning_rate, PARAMETER_REAL, 0.01, 0.0, 10.0, "Learning rate of unlearning."),
      MASK_STEPS(100), MASK_RATE, COMPACT);
TABLE(ft, BUDGET, EPOCHS(30), RATE);
TABLE(nc, BUDGET,
      PARAMETER(inversion_steps, PARAMETER_INTEGER, 60, 1, 10000, "Steps of trigger inversion for each class."),
      PARAMETER(anomaly_threshold, PARAMETER_REAL, 2.0, 0.5, 100.0, "Anomaly index from which a class is flagged."),
      PARAMETER(patched_share, PARAMETER_REAL, 0.2, 0.0, 1.0, "Share of the samples that carry a trigger."), EPOCHS(10),
      RATE);
TABLE(random, BUDGET, DROP(0.02), COMPACT);
TABLE(evaluate, BUDGET);
TABLE(greedy,
      PARAMETER(max_accuracy_drop, PARAMETER_REAL, 0.02, 0.0, 1.0,
                "Largest loss of clean accuracy that is accepted, as a fraction."),
      PARAMETER(trigger_weight, PARAMETER_REAL, 1.0, 0.0, 100.0,
                "Weight of behaviour under the found triggers against behaviour on clean samples."),
      PARAMETER(anomaly_threshold, PARAMETER_REAL, 2.0, 0.5, 100.0, "Anomaly index from which a class is suspected."),
      COMPACT);

static const struct stage_row stages_rank[] = {
    {STAGE_LOAD, 0.02, stage_load},        {STAGE_BASELINE, 0.03, stage_baseline},
    {STAGE_SEARCH, 0.85, baseline_random}, {STAGE_EVALUATE, 0.08, baseline_evaluate},
    {STAGE_EXPORT, 0.02, stage_export},
};
static const struct stage_row stages_fp[] = {
    {STAGE_LOAD, 0.02, stage_load},
    {STAGE_BASELINE, 0.03, stage_baseline},
    {STAGE_SEARCH, 0.35, baseline_fine_pruning},
    {STAGE_REPAIR, 0.5, baseline_finetune},
    {STAGE_EVALUATE, 0.08, baseline_evaluate},
    {STAGE_EXPORT, 0.02, stage_export},
};
static const struct stage_row stages_clp[] = {
    {STAGE_LOAD, 0.1, stage_load},
    {STAGE_BASELINE, 0.3, stage_baseline},
    {STAGE_GRAPH, 0.2, stage_graph},
    {STAGE_SEARCH, 0.05, baseline_lipschitz},
    {STAGE_EVALUATE, 0.3, baseline_evaluate},
    {STAGE_EXPORT, 0.05, stage_export},
};
static const struct stage_row stages_anp[] = {
    {STAGE_LOAD, 0.02, stage_load},
    {STAGE_BASELINE, 0.03, stage_baseline},
    {STAGE_SEARCH, 0.85, baseline_adversarial},
    {STAGE_EVALUATE, 0.08, baseline_evaluate},
    {STAGE_EXPORT, 0.02, stage_export},
};
static const struct stage_row stages_rnp[] = {
    {STAGE_LOAD, 0.02, stage_load},
    {STAGE_BASELINE, 0.03, stage_baseline},
    {STAGE_SEARCH, 0.85, baseline_reconstructive},
    {STAGE_EVALUATE, 0.08, baseline_evaluate},
    {STAGE_EXPORT, 0.02, stage_export},
};
static const struct stage_row stages_ft[] = {
    {STAGE_LOAD, 0.02, stage_load},
    {STAGE_BASELINE, 0.03, stage_baseline},
    {STAGE_SEARCH, 0.0, baseline_none},
    {STAGE_REPAIR, 0.85, baseline_finetune},
    {STAGE_EVALUATE, 0.08, baseline_evaluate},
    {STAGE_EXPORT, 0.02, stage_export},
};
static const struct stage_row stages_nc[] = {
    {STAGE_LOAD, 0.02, stage_load},         {STAGE_BASELINE, 0.03, stage_baseline},
    {STAGE_SEARCH, 0.85, baseline_cleanse}, {STAGE_EVALUATE, 0.08, baseline_evaluate},
    {STAGE_EXPORT, 0.02, stage_export},
};
static const struct stage_row stages_evaluate[] = {
    {STAGE_LOAD, 0.1, stage_load},      {STAGE_BASELINE, 0.4, stage_baseline},
    {STAGE_SEARCH, 0.0, baseline_none}, {STAGE_EVALUATE, 0.45, baseline_evaluate},
    {STAGE_EXPORT, 0.05, stage_export},
};

/* "onp" with its search cut down to the prefixes of its rankings, and no repair but the means. */
static void settle_greedy(struct parameters *parameters) {
    parameters->iterations = 0;
    parameters->retune_steps = 0;
    parameters->random_baseline = false;
}

#define STAGES(name) .stages = stages_##name, .stage_count = sizeof stages_##name / sizeof stages_##name[0]

static const struct method compared[] = {
    {.name = "fp",
     .summary = "Fine-Pruning (Liu et al. 2018): the channels of the last convolution that are least active on clean "
                "samples are pruned until accuracy falls, then the network is fine-tuned.",
     .parameters = &parameters_fp,
     STAGES(fp)},
    {.name = "clp",
     .summary =
         "Channel Lipschitz Pruning (Zheng et al. 2022): channels whose Lipschitz constant is an outlier of their "
         "layer are pruned; no data are used.",
     .parameters = &parameters_clp,
     STAGES(clp)},
    {.name = "anp",
     .summary =
         "Adversarial Neuron Pruning (Wu and Wang 2021): a mask is trained against perturbations of the neurons, "
         "and the neurons that it closes are pruned.",
     .parameters = &parameters_anp,
     STAGES(anp)},
    {.name = "rnp",
     .summary =
         "Reconstructive Neuron Pruning (Li et al. 2023): clean samples are unlearned, then recovered by a mask; "
         "filters not needed for that are pruned.",
     .parameters = &parameters_rnp,
     STAGES(rnp)},
    {.name = "ft", .summary = "Fine-tuning of all weights on clean samples.", .parameters = &parameters_ft, STAGES(ft)},
    {.name = "nc",
     .summary =
         "Neural Cleanse (Wang et al. 2019): patches are inverted for each class, and those that are suspiciously "
         "small are unlearned by fine-tuning.",
     .parameters = &parameters_nc,
     STAGES(nc)},
    {.name = "random",
     .summary = "Units are pruned in random order until accuracy falls: what pruning alone is worth.",
     .parameters = &parameters_random,
     STAGES(rank)},
    {.name = "evaluate",
     .summary = "The model is left as it is; only its figures are reported.",
     .parameters = &parameters_evaluate,
     STAGES(evaluate)},
};
enum { COMPARED = sizeof compared / sizeof compared[0] };

static const char GREEDY[] = "greedy";

/* The row of a name. "greedy" is "onp" but for its name and what is settled, so it is written into *own. */
static const struct method *find(const char *name, struct method *own) {
    if (strcmp(name, method_onp.name) == 0) {
        return &method_onp;
    }
    if (strcmp(name, GREEDY) == 0) {
        *own = method_onp;
        own->name = GREEDY;
        own->summary = "The greedy start of onp alone: prefixes of its rankings, without agent and retuning.";
        own->parameters = &parameters_greedy;
        own->settle = settle_greedy;
        return own;
    }
    for (size_t i = 0; i < COMPARED; i++) {
        if (strcmp(name, compared[i].name) == 0) {
            return &compared[i];
        }
    }
    return NULL;
}

static enum status unknown(const char *name, struct error *error) {
    struct buf names;
    buf_init(&names, 512);
    buf_append_text(&names, method_onp.name);
    for (size_t i = 0; i < COMPARED; i++) {
        buf_append_text(&names, ", ");
        buf_append_text(&names, compared[i].name);
    }
    buf_append_text(&names, " or ");
    buf_append_text(&names, GREEDY);
    const enum status status =
        error_set(error, STATUS_INVALID, "/method", "failed to find method: got '%s', expected %s", name,
                  names.failed ? "one of the capabilities" : names.data);
    buf_deinit(&names);
    return status;
}

enum status methods_run(const struct mitigate_request *request, const struct mitigate_hooks *hooks, json_t **report,
                        struct error *error) {
    struct method own;
    const struct method *method = find(request->method, &own);
    return method == NULL ? unknown(request->method, error) : method_run(method, request, hooks, report, error);
}

enum status methods_check_parameters(const char *method, const json_t *parameters, struct error *error) {
    struct method own;
    const struct method *row = find(method, &own);
    return row == NULL ? unknown(method, error) : method_check_parameters(row, parameters, error);
}

json_t *methods_describe(void) {
    struct method greedy;
    json_t *list = json_array();
    json_array_append_new(list, method_describe(&method_onp));
    for (size_t i = 0; i < COMPARED; i++) {
        json_array_append_new(list, method_describe(&compared[i]));
    }
    json_array_append_new(list, method_describe(find(GREEDY, &greedy)));
    return list;
}
