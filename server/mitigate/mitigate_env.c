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
    size_t *action_of = mem_alloc(units, sizeof *action_of);
    if (action_of == NULL) {
        return error_no_memory(error, "the agent's actions");
    }
    for (size_t u = 0; u < units; u++) {
        action_of[u] = u;
    }
    *env = (struct mitigate_env){
        .env = {.user = job,
                .graph = job->graph,
                .features = job->features,
                .feature_count = job->feature_count,
                .action_count = units,
                .action_of = action_of,
                .evaluate = evaluate},
        .job = job,
        .action_of = action_of,
    };
    return STATUS_OK;
}

void mitigate_env_deinit(struct mitigate_env *env) {
    mem_free(env->action_of);
    env->action_of = NULL;
}
