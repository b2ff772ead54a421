/* The job as an environment for the agent (agent/rl_env.h): one action a unit, one evaluation a mask. */
#ifndef ONP_SERVER_MITIGATE_MITIGATE_ENV_H
#define ONP_SERVER_MITIGATE_MITIGATE_ENV_H

#include "common/error.h"
#include "server/agent/rl_env.h"
#include "server/mitigate/job.h"

struct mitigate_env {
    struct rl_env env;
    struct job *job;
    size_t *action_of;        /* (units) */
    struct neuron_graph bare; /* the graph without its edges, for experiments without message passing */
    size_t *no_edges;         /* (units + 1) zeros, or NULL */
};

/* Needs stages 1 to 4 and job->features. */
enum status mitigate_env_init(struct mitigate_env *env, struct job *job, struct error *error);
void mitigate_env_deinit(struct mitigate_env *env);

#endif
