/* PPO over masks.
 *
 * One evaluation is an episode of one step: draw a mask, get its reward. With a thousand actions and some hundred evaluations a joint
 * advantage on every bit is noise, so three things are arranged around the update:
 *
 * 1. Where to look. Masks are drawn around a base, the best mask so far. Action a is flipped with log-odds
 *        f_a = (1 - 2 b_a) l_a + e_a - tau_b
 *    (b the base, l the policy's logit of pruning, e the evidence of the credit model about this very flip). The taus are set so that
 *    the expected number of flips is `expected_flips`, half of them un-pruning: pruned units are few, and with one tau for all they
 *    would hardly ever be asked about, though a greedy mask's errors are mostly among them. So the policy decides which bits are tried: those where it disagrees
 *    with the base most. It was cloned from the warm mask through features and graph, which cannot repeat the mask's accidents, so its
 *    disagreements are the mask's likely errors, in both directions. tau and e are fixed while an update lasts: the draw is an
 *    ordinary Bernoulli policy of l, and the ratios of PPO are exact.
 * 2. Whom to credit. A linear model of the reward over all evaluations (credit.h) is the control variate: E[R grad log pi] =
 *    sum_a G_a grad p_a + E[(R - model) grad log pi]. The advantage of bit x_a in mask x is G_a (x_a - p_a) + w (R - V - sum_c G_c (x_c -
 *    p_c)): its own credit, plus what the model does not explain, shared by all bits of that mask, with V from the value head.
 * 3. What to keep. The update clones the base, too (self-imitation; Oh et al. 2018): each bit that proved its worth
 *    teaches the network what such neurons look like, and the draw goes on to their like.
 *
 * Besides the drawn masks, an iteration has a few proposals, the masks that the credit model likes best. They are no part of the
 * update, only of the model. No mask is evaluated twice under one scoring. */
#include "server/agent/ppo.h"

#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "server/agent/credit.h"
#include "server/nn/optim.h"

const struct ppo_options ppo_default_options = {
    .iterations = 20,
    .masks_per_iteration = 14,
    .epochs = 4,
    .clip = 0.2F,
    .learning_rate = 1e-2F,
    .entropy = 1e-3F,
    .value_weight = 0.5F,
    .clone_steps = 150,
    .imitation = 0.3F,
    .clone_confidence = 0.9F,
    .expected_flips = 3,
};

struct ppo_options ppo_trained_options(void) {
    struct ppo_options options = ppo_default_options;
    options.learning_rate = 1e-3F;
    options.clone_steps = 0;
    options.imitation = 0;
    return options;
}

enum {
    PROPOSALS_MAX = 3, /* masks of the credit model an iteration */
    REDRAWS = 20       /* of a mask that was evaluated before */
};
static const double flips_up = 1.2, flips_down = 0.85;
static const double evidence_weight = 2;      /* log-odds of flipping a unit of the credit model's scale */
static const double unexplained_weight = 0.3; /* w above */

struct search {
    struct policy *policy;
    const struct rl_env *env;
    const struct ppo_options *options;
    const struct ppo_hooks *hooks;
    struct rng *rng;
    struct error *error;
    size_t actions;

    struct credit *credit;
    struct adam *adam;
    const uint8_t *warm;
    uint8_t *base; /* the best mask so far */
    double base_reward, warm_reward,
        spread; /* spread: what a typical difference of rewards is, to scale the value head by */
    size_t evaluations;

    float *logits, *dlogits, *belief; /* (actions); belief: the policy's logit of flipping the base's bit */
    float value;                      /* of the last forward, in units of spread above the warm reward */
    double *gain, *own, scale;        /* (actions) of the credit model around the base */
    double flips;                     /* expected number of flips of a drawn mask, adapted */
    double *shift;  /* (actions): what is added to the policy's logit of pruning when masks are drawn */
    double *old;    /* (actions): probability of pruning when they were drawn */
    double *effect; /* (actions): G, change of the reward by pruning instead of keeping */

    uint8_t *masks;  /* (masks_per_iteration, actions): proposals first, then drawn ones */
    double *rewards; /* (masks_per_iteration) */
    double *rest;    /* (masks_per_iteration): w (R - V - ...) */
    size_t mask_count, proposal_count;
};

static double sigmoid(double x) {
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

static bool cancelled(const struct search *search) {
    return search->hooks != NULL && search->hooks->cancel != NULL && atomic_load(search->hooks->cancel);
}

static enum status evaluate(struct search *search, const uint8_t *masks, size_t count, double *rewards) {
    enum status status = search->env->evaluate(search->env->user, masks, count, rewards, search->error);
    if (status != STATUS_OK) {
        return status;
    }
    search->evaluations += count;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(rewards[i])) {
            return error_set(search->error, STATUS_NUMERIC, NULL,
                             "failed to score a mask: got a reward of %g, expected a finite number", rewards[i]);
        }
        status = credit_add(search->credit, masks + i * search->actions, rewards[i], search->error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

static void take_base(struct search *search, const uint8_t *mask, double reward) {
    memcpy(search->base, mask, search->actions);
    search->base_reward = reward;
}

/* The gradient of the balanced cross-entropy to the base's bits, times `weight`: pruned bits, few as they are, weigh as much in sum as
 * kept ones. A target is `confidence`, not 1. */
static void imitate(const struct search *search, float weight) {
    size_t pruned = 0;
    for (size_t a = 0; a < search->actions; a++) {
        pruned += search->base[a] != 0;
    }
    if (pruned == 0 || pruned == search->actions) {
        return;
    }
    float confidence = search->options->clone_confidence;
    float each[2] = {weight * 0.5F / (float)(search->actions - pruned), weight * 0.5F / (float)pruned};
    for (size_t a = 0; a < search->actions; a++) {
        bool bit = search->base[a] != 0;
        float target = bit ? confidence : 1 - confidence;
        search->dlogits[a] += each[bit] * ((float)sigmoid((double)search->logits[a]) - target);
    }
}

static enum status forward(struct search *search) {
    enum status status = policy_forward(search->policy, search->env, search->logits, &search->value, search->error);
    for (size_t a = 0; status == STATUS_OK && a < search->actions; a++) {
        search->belief[a] = search->base[a] != 0 ? -search->logits[a] : search->logits[a];
        if (!isfinite(search->logits[a])) {
            return error_set(search->error, STATUS_NUMERIC, NULL,
                             "failed to run the policy: got a logit of %g, expected a finite number",
                             (double)search->logits[a]);
        }
    }
    return status;
}

static void step(struct search *search, float dvalue) {
    size_t count = policy_parameter_count(search->policy);
    float *gradient = policy_gradient(search->policy);
    memset(gradient, 0, count * sizeof *gradient);
    policy_backward(search->policy, search->env, search->dlogits, dvalue);
    /* One bad batch must not throw the policy away: the norm of a gradient is at most 1. */
    double square = 0;
    for (size_t i = 0; i < count; i++) {
        square += (double)gradient[i] * (double)gradient[i];
    }
    for (size_t i = 0; square > 1 && i < count; i++) {
        gradient[i] /= (float)sqrt(square);
    }
    adam_step(search->adam, policy_parameters(search->policy), gradient);
}

static enum status clone_warm(struct search *search) {
    for (size_t i = 0; i < search->options->clone_steps; i++) {
        if (cancelled(search)) {
            return STATUS_CANCELLED;
        }
        enum status status = forward(search);
        if (status != STATUS_OK) {
            return status;
        }
        memset(search->dlogits, 0, search->actions * sizeof *search->dlogits);
        imitate(search, 1);
        step(search, 0);
    }
    return STATUS_OK;
}

/* Log-odds of flipping action a, without tau. Bounded, so that no bit is ever certain. */
static double flip_odds(const struct search *search, size_t a) {
    double evidence = search->scale > 0 ? search->own[a] / search->scale : 0;
    double odds = (double)search->belief[a] + evidence_weight * fmax(-4, fmin(4, evidence));
    return fmax(-12, fmin(12, odds));
}

/* The tau at which `wanted` flips are expected among the actions whose bit in the base is `bit`, by bisection. */
static double tau_of(const struct search *search, bool bit, double wanted) {
    double low = -40, high = 40;
    for (size_t i = 0; i < 50; i++) {
        double tau = (low + high) / 2, flips = 0;
        for (size_t a = 0; a < search->actions; a++) {
            flips += (search->base[a] != 0) == bit ? sigmoid(flip_odds(search, a) - tau) : 0;
        }
        *(flips > wanted ? &low : &high) = tau;
    }
    return (low + high) / 2;
}

/* Sets shift and old for a draw of `wanted` flips, half of them of pruned bits and half of kept ones (as far as there are so many). */
static void prepare_draw(struct search *search, double wanted) {
    double count[2] = {0, 0}, tau[2];
    for (size_t a = 0; a < search->actions; a++) {
        count[search->base[a] != 0]++;
    }
    for (int bit = 0; bit < 2; bit++) {
        const double others = 0.5 * count[!bit];
        tau[bit] = tau_of(search, bit, fmin(fmax(wanted / 2, wanted - others), 0.5 * count[bit]));
    }
    for (size_t a = 0; a < search->actions; a++) {
        double flip = flip_odds(search, a) - tau[search->base[a] != 0]; /* log-odds */
        double prune = search->base[a] != 0 ? -flip : flip;
        search->shift[a] = prune - (double)search->logits[a];
        search->old[a] = sigmoid(prune);
    }
}

static bool is_new(const struct search *search, const uint8_t *mask) {
    for (size_t i = 0; i < search->mask_count; i++) {
        if (memcmp(search->masks + i * search->actions, mask, search->actions) == 0) {
            return false;
        }
    }
    return !credit_find(search->credit, mask, NULL);
}

static uint8_t *next_mask(struct search *search) {
    return search->masks + search->mask_count * search->actions;
}

/* The `limit` flips of the highest gain above 0; with only_own, those that an evaluation of their own speaks for. */
static void propose(struct search *search, size_t limit, bool only_own) {
    if (2 * search->mask_count >= search->options->masks_per_iteration) {
        return; /* half of a batch at least is the policy's own */
    }
    uint8_t *mask = next_mask(search);
    memcpy(mask, search->base, search->actions);
    for (size_t n = 0; n < limit; n++) {
        size_t best = search->actions;
        for (size_t a = 0; a < search->actions; a++) {
            bool open = mask[a] == search->base[a] && search->gain[a] > 0 && (!only_own || search->own[a] > 0);
            best = open && (best == search->actions || search->gain[a] > search->gain[best]) ? a : best;
        }
        if (best == search->actions) {
            break;
        }
        mask[best] = !mask[best];
    }
    search->mask_count += is_new(search, mask);
}

/* Fills the batch up. When the policy has nothing new to say, all that it wants to try being tried, more flips are asked for; the
 * masks drawn before that are then no draws of the final distribution and count as proposals. */
static void draw(struct search *search) {
    double wanted = search->flips;
    prepare_draw(search, wanted);
    while (search->mask_count < search->options->masks_per_iteration) {
        uint8_t *mask = next_mask(search);
        bool fresh = false;
        for (size_t tries = 0; !fresh && tries < REDRAWS; tries++) {
            for (size_t a = 0; a < search->actions; a++) {
                mask[a] = rng_uniform_double(search->rng) < search->old[a];
            }
            fresh = is_new(search, mask);
        }
        if (fresh) {
            search->mask_count++;
            continue;
        }
        if (wanted >= 0.25 * (double)search->actions) {
            return; /* a world so small that all of it is known */
        }
        wanted *= 2;
        search->proposal_count = search->mask_count;
        prepare_draw(search, wanted);
    }
}

static enum status fit(struct search *search) {
    enum status status = credit_fit(search->credit, search->base, search->belief, search->gain, search->own,
                                    &search->scale, search->error);
    for (size_t a = 0; a < search->actions; a++) {
        search->effect[a] = search->base[a] != 0 ? -search->gain[a] : search->gain[a];
    }
    return status;
}

/* Advantages, normalised over the batch by the root mean square over bits that were flipped against the old base. Returns the scale;
 * the advantage itself is made where it is used: G_a (x_a - p_a) + rest_i. */
static double advantages(struct search *search, const uint8_t *old_base) {
    size_t first = search->proposal_count, n = search->mask_count - first;
    double mean = 0, square = 0;
    size_t flips = 0;
    for (size_t i = first; i < search->mask_count; i++) {
        const uint8_t *mask = search->masks + i * search->actions;
        double expected = search->warm_reward + search->spread * (double)search->value;
        for (size_t a = 0; a < search->actions; a++) {
            expected += search->effect[a] * (mask[a] - search->old[a]);
        }
        search->rest[i] = unexplained_weight * (search->rewards[i] - expected);
        mean += search->rest[i] / (double)n;
    }
    for (size_t i = first; i < search->mask_count; i++) {
        const uint8_t *mask = search->masks + i * search->actions;
        search->rest[i] -= mean;
        for (size_t a = 0; a < search->actions; a++) {
            if (mask[a] != old_base[a]) {
                double advantage = search->effect[a] * (mask[a] - search->old[a]) + search->rest[i];
                square += advantage * advantage;
                flips++;
            }
        }
    }
    double scale = flips > 0 ? sqrt(square / (double)flips) : 0;
    return scale > 0 ? 1 / scale : 0;
}

/* The gradient of the clipped surrogate (eq. 7), a ratio an action, and of the entropy bonus. */
static void surrogate(struct search *search, double scale) {
    size_t first = search->proposal_count, n = search->mask_count - first;
    double clip = (double)search->options->clip, entropy = (double)search->options->entropy;
    for (size_t a = 0; a < search->actions; a++) {
        double odds = (double)search->logits[a] + search->shift[a], p = sigmoid(odds), old = search->old[a];
        double ratios[2] = {(1 - p) / fmax(1 - old, 1e-12), p / fmax(old, 1e-12)};
        double sum = 0;
        for (size_t i = first; i < search->mask_count; i++) {
            uint8_t bit = search->masks[i * search->actions + a];
            double advantage = scale * (search->effect[a] * (bit - old) + search->rest[i]);
            bool clipped = advantage > 0 ? ratios[bit] > 1 + clip : ratios[bit] < 1 - clip;
            sum += clipped ? 0 : ratios[bit] * advantage * (bit - p);
        }
        search->dlogits[a] = (float)(entropy * odds * p * (1 - p) - sum / (double)n);
    }
}

static enum status update(struct search *search, const uint8_t *old_base) {
    size_t n = search->mask_count - search->proposal_count;
    double scale = n == 0 ? 0 : advantages(search, old_base), target = 0;
    for (size_t i = search->proposal_count; i < search->mask_count; i++) {
        target += (search->rewards[i] - search->warm_reward) / search->spread / (double)n;
    }
    for (size_t epoch = 0; epoch < search->options->epochs; epoch++) {
        enum status status = forward(search);
        if (status != STATUS_OK) {
            return status;
        }
        memset(search->dlogits, 0, search->actions * sizeof *search->dlogits);
        if (n > 0) {
            surrogate(search, scale);
        }
        imitate(search, search->options->imitation);
        step(search, n > 0 ? search->options->value_weight * (search->value - (float)target) : 0);
    }
    return STATUS_OK;
}

/* Draws, evaluates, learns. */
static enum status iterate(struct search *search, struct ppo_progress *progress, uint8_t *old_base) {
    enum status status = forward(search);
    if (status == STATUS_OK) {
        status = fit(search);
    }
    if (status != STATUS_OK) {
        return status;
    }
    search->mask_count = 0;
    propose(search, search->actions, true);
    propose(search, (size_t)fmax(1, 2 * search->flips), true);
    propose(search, (size_t)fmax(1, 2 * search->flips), false);
    search->proposal_count = search->mask_count;
    draw(search);
    status = evaluate(search, search->masks, search->mask_count, search->rewards);
    if (status != STATUS_OK) {
        return status;
    }
    memcpy(old_base, search->base, search->actions);
    double mean = 0, square = 0;
    bool improved = false;
    for (size_t i = 0; i < search->mask_count; i++) {
        double difference = search->rewards[i] - search->warm_reward;
        mean += search->rewards[i] / (double)search->mask_count;
        square += difference * difference / (double)search->mask_count;
        if (search->rewards[i] > search->base_reward) {
            improved = improved || i >= search->proposal_count;
            take_base(search, search->masks + i * search->actions, search->rewards[i]);
        }
    }
    /* Many flips a mask while draws succeed, few when errors are rare: about as many as keep a draw likely to be better. */
    search->flips *= improved ? flips_up : flips_down;
    search->flips = fmax(1, fmin(search->flips, 4 * search->options->expected_flips));
    search->spread = fmax(search->spread, fmax(sqrt(square), 1e-12));
    for (size_t a = 0; a < search->actions; a++) {
        search->belief[a] = search->base[a] != 0 ? -search->logits[a] : search->logits[a];
    }
    status = fit(search);
    if (status == STATUS_OK) {
        status = update(search, old_base);
    }
    progress->reward_mean = search->mask_count > 0 ? mean : search->base_reward;
    return status;
}

/* Scores warm and best mask under a new scoring; everything learnt about rewards is forgotten, the policy is kept. */
static enum status start_scoring(struct search *search) {
    credit_reset(search->credit);
    search->spread = 0;
    memcpy(search->masks, search->warm, search->actions);
    memcpy(search->masks + search->actions, search->base, search->actions);
    size_t count = memcmp(search->warm, search->base, search->actions) == 0 ? 1 : 2;
    double rewards[2] = {0};
    enum status status = evaluate(search, search->masks, count, rewards);
    if (status != STATUS_OK) {
        return status;
    }
    search->warm_reward = rewards[0];
    bool base_wins = count == 2 && rewards[1] >= rewards[0];
    take_base(search, base_wins ? search->base : search->warm, base_wins ? rewards[1] : rewards[0]);
    return STATUS_OK;
}

/* The last reward that was a gain, and when. */
struct gain {
    double reward;
    size_t iteration;
};

/* Was the last gain too many iterations ago? */
static bool has_settled(const struct search *search, size_t iteration, struct gain *gain) {
    const struct ppo_options *o = search->options;
    if (search->base_reward >= gain->reward + o->min_gain * fabs(gain->reward)) {
        *gain = (struct gain){search->base_reward, iteration};
    }
    return o->patience > 0 && iteration - gain->iteration >= o->patience;
}

static enum status tell(struct search *search, struct ppo_progress *progress, bool *changed) {
    const struct ppo_hooks *hooks = search->hooks;
    progress->evaluations = search->evaluations;
    progress->reward_best = search->base_reward;
    return hooks == NULL || hooks->after_iteration == NULL
               ? STATUS_OK
               : hooks->after_iteration(hooks->user, progress, search->base, changed, search->error);
}

static enum status run(struct search *search) {
    uint8_t *old_base = mem_alloc(search->actions, 1);
    if (old_base == NULL) {
        return error_no_memory(search->error, "search");
    }
    memcpy(search->base, search->warm, search->actions);
    enum status status = start_scoring(search);
    if (status == STATUS_OK) {
        status = clone_warm(search);
    }
    struct ppo_progress progress = {.iterations = search->options->iterations};
    struct gain gain = {search->base_reward, 0};
    for (size_t i = 0; status == STATUS_OK && i < search->options->iterations; i++) {
        if (cancelled(search)) {
            status = STATUS_CANCELLED;
            break;
        }
        progress.iteration = i + 1;
        status = iterate(search, &progress, old_base);
        const bool settled = status == STATUS_OK && has_settled(search, progress.iteration, &gain);
        bool changed = false;
        progress.iterations = settled ? progress.iteration : search->options->iterations;
        if (status == STATUS_OK) {
            status = tell(search, &progress, &changed);
        }
        if (status == STATUS_OK && changed) {
            status = start_scoring(search);
            gain = (struct gain){search->base_reward, progress.iteration};
        } else if (settled) {
            break;
        }
    }
    mem_free(old_base);
    return status;
}

static enum status search_init(struct search *search) {
    size_t n = search->actions, batch = search->options->masks_per_iteration;
    struct adam_options adam = {.learning_rate = search->options->learning_rate,
                                .beta1 = 0.9F,
                                .beta2 = 0.99F,
                                .epsilon = 1e-8F,
                                .weight_decay = 1e-3F};
    search->base = mem_alloc(n, 1);
    search->logits = mem_calloc(n, sizeof *search->logits);
    search->dlogits = mem_calloc(n, sizeof *search->dlogits);
    search->belief = mem_calloc(n, sizeof *search->belief);
    search->gain = mem_calloc(n, sizeof *search->gain);
    search->own = mem_calloc(n, sizeof *search->own);
    search->shift = mem_calloc(n, sizeof *search->shift);
    search->old = mem_calloc(n, sizeof *search->old);
    search->effect = mem_calloc(n, sizeof *search->effect);
    search->masks = mem_calloc(batch < 2 ? 2 : batch, n);
    search->rewards = mem_calloc(batch, sizeof *search->rewards);
    search->rest = mem_calloc(batch, sizeof *search->rest);
    if (search->base == NULL || search->logits == NULL || search->dlogits == NULL || search->belief == NULL ||
        search->gain == NULL || search->own == NULL || search->shift == NULL || search->old == NULL ||
        search->effect == NULL || search->masks == NULL || search->rewards == NULL || search->rest == NULL) {
        return error_no_memory(search->error, "search");
    }
    enum status status = credit_new(n, &search->credit, search->error);
    if (status == STATUS_OK) {
        status = adam_new(policy_parameter_count(search->policy), &adam, &search->adam, search->error);
    }
    return status;
}

static void search_deinit(struct search *search) {
    mem_free(search->base);
    mem_free(search->logits);
    mem_free(search->dlogits);
    mem_free(search->belief);
    mem_free(search->gain);
    mem_free(search->own);
    mem_free(search->shift);
    mem_free(search->old);
    mem_free(search->effect);
    mem_free(search->masks);
    mem_free(search->rewards);
    mem_free(search->rest);
    credit_free(search->credit);
    adam_free(search->adam);
}

enum status ppo_search(struct policy *policy, const struct rl_env *env, const uint8_t *warm,
                       const struct ppo_options *options, const struct ppo_hooks *hooks, struct rng *rng,
                       struct ppo_result *result, struct error *error) {
    if (env->action_count == 0 || options->masks_per_iteration == 0) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to search: got %zu actions and %zu masks an iteration, expected at least one each",
                         env->action_count, options->masks_per_iteration);
    }
    struct search search = {.policy = policy,
                            .env = env,
                            .options = options,
                            .hooks = hooks,
                            .rng = rng,
                            .error = error,
                            .actions = env->action_count,
                            .flips = fmax(1, options->expected_flips)};
    uint8_t *clean = mem_alloc(env->action_count, 1); /* the warm mask as zeros and ones */
    enum status status = clean == NULL ? error_no_memory(error, "search") : search_init(&search);
    if (status == STATUS_OK) {
        for (size_t a = 0; a < env->action_count; a++) {
            clean[a] = warm[a] != 0;
        }
        search.warm = clean;
        status = run(&search);
    }
    if (status == STATUS_CANCELLED) {
        (void)error_set(error, status, NULL, "failed to finish the search: got a request to stop, expected none");
    }
    if (status == STATUS_OK) {
        *result = (struct ppo_result){search.base, search.base_reward, search.warm_reward, search.evaluations};
        search.base = NULL;
    }
    mem_free(clean);
    search_deinit(&search);
    return status;
}
