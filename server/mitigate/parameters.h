/* Parameters of the method "onp": one table gives defaults, checks, JSON Schema and documentation. */
#ifndef ONP_SERVER_MITIGATE_PARAMETERS_H
#define ONP_SERVER_MITIGATE_PARAMETERS_H

#include <jansson.h>
#include <stdbool.h>
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
    uint64_t adversary_every;
    uint64_t adversary_rounds;
    uint64_t retune_steps;
    bool random_baseline;
};

/* Reads `object` (NULL: all defaults) into `out`. Errors carry the JSON pointer below /parameters. */
enum status parameters_read(const json_t *object, struct parameters *out, struct error *error);
/* The parameters as a JSON object (for provenance); new reference or NULL. */
json_t *parameters_write(const struct parameters *parameters);
/* JSON Schema (2020-12) of the object, with defaults; new reference or NULL. */
json_t *parameters_schema(void);

#endif
