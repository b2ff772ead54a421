/* What a method of repair is: a row with its parameters and the stages a job of it goes through. "onp" is one, the methods to compare
 * with (server/baselines) are others; they share the stages that load, evaluate and export. */
#ifndef ONP_SERVER_MITIGATE_METHOD_H
#define ONP_SERVER_MITIGATE_METHOD_H

#include <jansson.h>
#include <stddef.h>

#include "common/error.h"
#include "server/mitigate/mitigate.h"
#include "server/mitigate/parameters.h"

struct job; /* job.h */

struct stage_row {
    enum job_stage stage;
    double share; /* of a typical job's time, for the progress bar; the rows of a method add up to 1 */
    enum status (*run)(struct job *job, struct error *error);
};

struct method {
    const char *name, *summary;
    const struct parameter_table *parameters;
    void (*settle)(struct parameters *parameters); /* sets what the table leaves open; NULL: nothing */
    const struct stage_row *stages;                /* in the order of enum job_stage; what is missing is not run */
    size_t stage_count;
};
extern const struct method method_onp;

/* Runs the job. On success *report is report.json as an object (new reference). */
enum status method_run(const struct method *method, const struct mitigate_request *request,
                       const struct mitigate_hooks *hooks, json_t **report, struct error *error);
/* STATUS_INVALID with the JSON pointer if the parameters are wrong; NULL is fine. */
enum status method_check_parameters(const struct method *method, const json_t *parameters, struct error *error);
/* {"name", "summary", "parameters"}, a new reference or NULL. */
json_t *method_describe(const struct method *method);

#endif
