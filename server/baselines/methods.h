/* All methods of repair by name: "onp", and the published ones that a user may want to compare it with on a model of their own. Each
 * was written from its paper alone; its thresholds come from clean samples. */
#ifndef ONP_SERVER_BASELINES_METHODS_H
#define ONP_SERVER_BASELINES_METHODS_H

#include <jansson.h>
#include <stddef.h>

#include "common/error.h"
#include "server/mitigate/mitigate.h"

/* Runs the job of request->method. On success *report is report.json as an object (new reference). */
enum status methods_run(const struct mitigate_request *request, const struct mitigate_hooks *hooks, json_t **report,
                        struct error *error);
/* STATUS_INVALID with the JSON pointer (below /parameters) if `parameters` of this method are wrong; NULL is fine.
 * Unknown method: place "/method". Cheap: called when a job is submitted. */
enum status methods_check_parameters(const char *method, const json_t *parameters, struct error *error);
/* [{"name": "onp", "summary": ..., "parameters": {JSON Schema with defaults}}, ...], new reference; for /v1/capabilities. */
json_t *methods_describe(void);

#endif
