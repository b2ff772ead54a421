/* Parameters of the methods: one table a method gives defaults, checks, JSON Schema and documentation. All tables fill one struct,
 * so that what methods share (budget, search, fine-tuning) reads it without knowing which method runs. */
#ifndef ONP_SERVER_MITIGATE_PARAMETERS_H
#define ONP_SERVER_MITIGATE_PARAMETERS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct parameters {
    double max_accuracy_drop;
    double trigger_weight;
    double anomaly_threshold;
    uint64_t expose_steps;
    uint64_t expose_rungs;
    uint64_t expose_batch;
    uint64_t restarts;
    uint64_t iterations;
    uint64_t masks_per_iteration;
    uint64_t patience;
    uint64_t adversary_every;
    uint64_t adversary_rounds;
    uint64_t retune_steps;
    uint64_t finetune_steps;
    bool random_baseline;
    bool harden;
    bool compact;
    uint64_t policy; /* enum policy_start */

    /* For experiments: what the ablation leaves out. */
    bool message_passing;
    bool warm_start;

    /* Of the methods to compare with (server/baselines). */
    double accuracy_drop; /* on the score samples, where a threshold or a number of units is chosen by it */
    double deviations;    /* clp */
    double perturbation;  /* anp: bound of the relative change of weights and biases */
    double tradeoff;      /* anp: weight of the natural loss */
    double mask_learning_rate;
    double unlearn_accuracy; /* rnp */
    double unlearn_learning_rate;
    uint64_t unlearn_epochs;
    uint64_t mask_steps; /* anp, rnp */
    uint64_t epochs;     /* of fine-tuning */
    double learning_rate;
    double patched_share;     /* nc */
    uint64_t inversion_steps; /* nc */
};

/* Where the policy's weights come from at the start of a job. */
enum policy_start { POLICY_BUILTIN, POLICY_NONE };

/* A word is kept as its index in the list of words. */
enum parameter_kind { PARAMETER_REAL, PARAMETER_INTEGER, PARAMETER_BOOLEAN, PARAMETER_WORD };

struct parameter {
    const char *name;
    enum parameter_kind kind;
    size_t offset; /* in struct parameters */
    double initial, low, high;
    const char *help;
    const char *const *words; /* of a PARAMETER_WORD, ended by NULL */
};
#define PARAMETER(field, kind, initial, low, high, help)                                                               \
    { #field, kind, offsetof(struct parameters, field), initial, low, high, help, NULL }
#define PARAMETER_OF_WORDS(field, initial, words, help)                                                                \
    { #field, PARAMETER_WORD, offsetof(struct parameters, field), initial, 0.0, 0.0, help, words }

struct parameter_table {
    const struct parameter *rows;
    size_t count;
};
extern const struct parameter_table parameters_onp;

/* Reads `object` (NULL: all defaults) into `out`; what the table has not is as "onp" has it by default. Errors carry the JSON pointer
 * below /parameters. */
enum status parameters_read(const struct parameter_table *table, const json_t *object, struct parameters *out,
                            struct error *error);
/* The parameters of the table as a JSON object (for provenance); new reference or NULL. */
json_t *parameters_write(const struct parameter_table *table, const struct parameters *parameters);
/* JSON Schema (2020-12) of the object, with defaults; new reference or NULL. */
json_t *parameters_schema(const struct parameter_table *table);

#endif
