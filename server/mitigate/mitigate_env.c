/* rl_env over the score of a job. Units tied by a shortcut are separate actions: a tied group can only be removed as a whole from a
 * compacted file, but a mask need not, and backdoor channels of one summand are rarely so in the others. */
#include "server/mitigate/mitigate_env.h"

#include "common/mem.h"
#include "server/mitigate/mitigate_score.h"

static enum status evaluate(void *user, const uint8_t *masks, size_t count, double *rewards, struct error *error) {
    struct job *job = user;
    const size_t units = job->units->unit_count;
    enum status status = STATUS_OK;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        struct score_parts parts;
        status = score_mask(job->score, masks + i * units, &parts, error);
        if (status == STATUS_OK) {
            rewards[i] = parts.reward;
        }
    }
    return status;
}

enum status mitigate_env_init(struct mitigate_env *env, struct job *job, struct error *error) {
    const size_t units = job->units->unit_count;
    const bool bare = !job->parameters.message_passing;
    size_t *action_of = mem_alloc(units, sizeof *action_of);
    size_t *no_edges = bare ? mem_calloc(units + 1, sizeof *no_edges) : NULL;
    if (action_of == NULL || (bare && no_edges == NULL)) {
        mem_free(action_of);
        mem_free(no_edges);
        return error_no_memory(error, "the agent's actions");
    }
    for (size_t u = 0; u < units; u++) {
        action_of[u] = u;
    }
    *env = (struct mitigate_env){
        .env = {.user = job,
                .features = job->features,
                .feature_count = job->feature_count,
                .action_count = units,
                .action_of = action_of,
                .evaluate = evaluate},
        .job = job,
        .action_of = action_of,
        .bare = {.node_count = units},
        .no_edges = no_edges,
    };
    for (size_t r = 0; bare && r < RELATION_COUNT; r++) {
        env->bare.edges[r].start = no_edges;
    }
    env->env.graph = bare ? &env->bare : job->graph;
    return STATUS_OK;
}

void mitigate_env_deinit(struct mitigate_env *env) {
    mem_free(env->action_of);
    mem_free(env->no_edges);
    env->action_of = env->no_edges = NULL;
}
