/* The report of a job (api.md), as a JSON object. */
#ifndef ONP_SERVER_MITIGATE_REPORT_H
#define ONP_SERVER_MITIGATE_REPORT_H

#include <jansson.h>

#include "common/error.h"
#include "server/mitigate/job.h"

/* After stage 7's figures are there. probe_logits (probe, K) of the repaired network, NULL without a probe. "seconds" is filled by
 * report_seconds() at the very end. */
enum status report_new(const struct job *job, const float *probe_logits, json_t **report, struct error *error);
void report_seconds(const struct job *job, json_t *report, double total);
/* "pruned": [{layer, channels}], new reference or NULL; also the content of mask.json. */
json_t *report_pruned(const struct job *job);
size_t report_pruned_units(const struct job *job);

#endif
