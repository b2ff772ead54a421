/* Proximal policy optimisation (Schulman et al. 2017, eq. 7) over masks, started from a warm mask that is cloned into the policy. */
#ifndef ONP_SERVER_AGENT_PPO_H
#define ONP_SERVER_AGENT_PPO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/rng.h"
#include "server/agent/policy.h"
#include "server/agent/rl_env.h"

struct ppo_options {
    size_t iterations;          /* 16 to 24 */
    size_t masks_per_iteration; /* 12 to 16 */
    size_t epochs;              /* 4 */
    float clip;                 /* 0.2 */
    float learning_rate;
    float entropy; /* weight of the entropy bonus */
    float value_weight;
    size_t clone_steps;     /* of behaviour cloning of the warm mask before the first iteration */
    float imitation;        /* weight of cloning the best mask in each update */
    float clone_confidence; /* probability the clone gives to the warm mask's bits, e.g. 0.9 for pruned */
    double
        expected_flips; /* the exploration: how many actions a sampled mask differs from the policy's mode by, about */
    size_t patience;    /* the search ends after so many iterations in which the best reward */
    double min_gain;    /* has come nearer to 0 by less than this share; patience 0: after all iterations */
};
extern const struct ppo_options ppo_default_options;
/* The defaults for a policy that was trained on other networks: it is not made to clone the warm mask, and learns slower. */
struct ppo_options ppo_trained_options(void);

struct ppo_progress {
    size_t iteration, iterations, evaluations;
    double reward_mean, reward_best; /* of this iteration; ever */
};

struct ppo_hooks {
    void *user;
    /* After each iteration. best (actions) is the best mask so far. Setting *changed tells that the env scores differently from now on (a new
     * trigger joined): the search then has the best and the warm mask scored again and starts its baselines anew. Returning an
     * error status ends the search with it. May be NULL. */
    enum status (*after_iteration)(void *user, const struct ppo_progress *progress, const uint8_t *best, bool *changed,
                                   struct error *error);
    const atomic_bool *cancel;
};

struct ppo_result {
    uint8_t *
        best; /* (actions); the best mask ever scored (under the env's last scoring), the warm one included; mem_free() */
    double best_reward, warm_reward;
    size_t evaluations;
};

enum status ppo_search(struct policy *policy, const struct rl_env *env, const uint8_t *warm,
                       const struct ppo_options *options, const struct ppo_hooks *hooks, struct rng *rng,
                       struct ppo_result *result, struct error *error);

#endif
