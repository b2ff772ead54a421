/* Stage 5: which units to prune. Greedy warm start, the adversary, PPO with the adversary every few iterations, a random
 * search of the same length for comparison. */
#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "server/agent/policy_file.h"
#include "server/agent/ppo.h"
#include "server/mitigate/adversary.h"
#include "server/mitigate/affordable.h"
#include "server/mitigate/features.h"
#include "server/mitigate/hints.h"
#include "server/mitigate/job.h"
#include "server/mitigate/mitigate_env.h"
#include "server/mitigate/mitigate_score.h"
#include "server/mitigate/warm_start.h"

/* Share of the reward that PPO must gain within the iterations of its patience. A network that is dear to run has less patience and wants
 * more for it. */
static const double SETTLED_GAIN = 0.02, DEAR_GAIN = 0.05;
enum { DEAR_PATIENCE = 5 };
static const struct policy_shape policy_size = {.feature_count = 0, .width = 32, .layers = 2};

static void curve_point(struct job *job, size_t evaluations, double best, double mean) {
    json_array_append_new(job->curve,
                          json_pack("{s:i, s:f, s:f}", "evaluations", (int)evaluations, "best", best, "mean", mean));
}

/* The adversary against a mask of bits. */
static enum status attack_bits(struct job *job, const uint8_t *bits, bool thorough, size_t *found,
                               struct error *error) {
    float *mask = mem_alloc(job->units->unit_count, sizeof *mask);
    if (mask == NULL) {
        return error_no_memory(error, "a mask");
    }
    job_mask_from_bits(job->units->unit_count, bits, mask);
    const enum status status = adversary_attack(job, mask, job->stats0->mean, true, thorough, found, error);
    mem_free(mask);
    return status;
}

/* Greedy, then the adversary; as long as it finds small triggers, greedy goes on against them too. */
static enum status greedy_rounds(struct job *job, struct error *error) {
    struct score_parts parts;
    if (!job->parameters.warm_start) {
        return STATUS_OK; /* an experiment: the search begins with nothing pruned */
    }
    enum status status = warm_start(job, WARM_ROUNDS, job->best, &parts, error);
    for (uint64_t round = 0; round < job->parameters.adversary_rounds && status == STATUS_OK; round++) {
        size_t found = 0;
        job_progress(job, 20 + 5 * (size_t)round, 100, "adversary");
        /* What is dear to run is looked at with stronger triggers once, when it is repaired. */
        status = attack_bits(job, job->best, !is_dear(job->macs), &found, error);
        if (status != STATUS_OK || found == 0) {
            break;
        }
        status = score_refresh(job->score, error);
        if (status == STATUS_OK) {
            status = warm_start(job, WARM_ROUNDS, job->best, &parts, error);
        }
    }
    if (status == STATUS_OK) {
        job->reward_greedy = job->best_reward = parts.reward;
        curve_point(job, score_evaluations(job->score), parts.reward, parts.reward);
    }
    return status;
}

struct ppo_watch {
    struct job *job;
    uint64_t joined; /* triggers the adversary added during PPO */
};

static enum status after_iteration(void *user, const struct ppo_progress *progress, const uint8_t *best, bool *changed,
                                   struct error *error) {
    struct ppo_watch *watch = user;
    struct job *job = watch->job;
    const struct parameters *p = &job->parameters;
    job->best_reward = progress->reward_best;
    job->mean_reward = progress->reward_mean;
    curve_point(job, score_evaluations(job->score), progress->reward_best, progress->reward_mean);
    job_progress(job, 35 + 35 * progress->iteration / progress->iterations, 100, "policy search");
    if (progress->iteration % p->adversary_every != 0 || watch->joined >= p->adversary_rounds) {
        return STATUS_OK;
    }
    size_t found = 0;
    enum status status = attack_bits(job, best, false, &found, error);
    if (status == STATUS_OK && found > 0) {
        watch->joined += found;
        *changed = true;
        status = score_refresh(job->score, error);
    }
    return status;
}

/* The policy that the search starts from. */
static enum status start_policy(struct job *job, struct policy **policy, struct error *error) {
    if (job->parameters.policy == POLICY_BUILTIN) {
        return policy_load_builtin(features_names, policy, error);
    }
    struct policy_shape shape = policy_size;
    struct rng rng = rng_stream(&job->rng, STREAM_POLICY);
    shape.feature_count = job->feature_count;
    return policy_new(&shape, &rng, policy, error);
}

static enum status policy_search(struct job *job, size_t *evaluations, struct error *error) {
    const size_t units = job->units->unit_count;
    struct mitigate_env env;
    struct policy *policy = NULL;
    struct ppo_result result = {0};
    struct ppo_watch watch = {job, 0};
    struct rng ppo_rng = rng_stream(&job->rng, STREAM_PPO);
    struct ppo_options options = job->parameters.policy == POLICY_BUILTIN ? ppo_trained_options() : ppo_default_options;
    options.iterations = job->parameters.iterations;
    options.masks_per_iteration = job->parameters.masks_per_iteration;
    options.patience = affordable(job->macs, job->parameters.patience, DEAR_PATIENCE);
    options.min_gain = is_dear(job->macs) ? DEAR_GAIN : SETTLED_GAIN;
    const struct ppo_hooks hooks = {.user = &watch, .after_iteration = after_iteration, .cancel = job_cancel(job)};
    enum status status = mitigate_env_init(&env, job, error);
    if (status != STATUS_OK) {
        return status;
    }
    status = start_policy(job, &policy, error);
    if (status == STATUS_OK) {
        status = ppo_search(policy, &env.env, job->best, &options, &hooks, &ppo_rng, &result, error);
    }
    if (status == STATUS_OK) {
        memcpy(job->best, result.best, units);
        job->reward_greedy = result.warm_reward; /* under the last scoring, so that the two can be compared */
        job->best_reward = result.best_reward;
        *evaluations = result.evaluations;
    }
    mem_free(result.best);
    policy_free(policy);
    mitigate_env_deinit(&env);
    return status;
}

static enum status search(struct job *job, struct error *error) {
    const size_t units = job->units->unit_count;
    uint8_t *greedy = NULL;
    size_t ppo_evaluations = 0;
    enum status status = greedy_rounds(job, error);
    if (status == STATUS_OK && (greedy = mem_dup(job->best, units)) == NULL) {
        status = error_no_memory(error, "the greedy mask");
    }
    if (status == STATUS_OK && job->parameters.iterations > 0 && !job->exposure->hardening) {
        status = features_measure(job, job->best, error);
        if (status == STATUS_OK) {
            status = policy_search(job, &ppo_evaluations, error);
        }
        job->reward_ppo = job->best_reward;
    }
    job->evaluations = score_evaluations(job->score);
    if (status == STATUS_OK && job->parameters.random_baseline && ppo_evaluations > 0) {
        status = random_search(job, greedy, ppo_evaluations, &job->reward_random, error);
        job->random_evaluations = ppo_evaluations;
        if (status == STATUS_OK &&
            job->reward_random > job->best_reward) { /* the comparison is paid for: take what it won */
            memcpy(job->best, greedy, units);
            job->best_reward = job->reward_random;
        }
    }
    mem_free(greedy);
    return status;
}

enum status stage_search(struct job *job, struct error *error) {
    const size_t units = job->units->unit_count;
    struct score_parts none;
    job->reward_random = job->reward_ppo = (double)NAN;
    job->best = mem_calloc(units, sizeof *job->best);
    if (job->best == NULL) {
        return error_no_memory(error, "the best mask");
    }
    enum status status = hints_try(job, error);
    if (status == STATUS_OK) {
        status = score_new(job, &job->score, error);
    }
    if (status == STATUS_OK) {
        status = score_mask(job->score, job->best, &none, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    job->reward_none = job->reward_greedy = job->reward_best = job->best_reward = none.reward;
    job->evaluations = score_evaluations(job->score);
    if (job->exposure->bank_count == 0) {
        return STATUS_OK; /* no suspect: pruning against ordinary triggers costs a clean model dear */
    }
    status = search(job, error);
    if (status == STATUS_OK) {
        struct score_parts parts;
        uint8_t *bits = mem_calloc(units, 1);
        if (bits == NULL) {
            return error_no_memory(error, "a mask");
        }
        status = score_mask(job->score, bits, &parts,
                            error); /* the bank has grown: nothing's reward under the last scoring */
        job->reward_none = parts.reward;
        mem_free(bits);
        job->reward_best = job->best_reward;
    }
    return status;
}
