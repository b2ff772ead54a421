/* Which action earned what: every mask evaluated so far under the current scoring, and a linear model of the reward fitted to
 * them, which gives each single flip its own credit although masks are scored only as wholes. Private to server/agent.
 *
 * Model, for masks x around a base mask b whose reward is known, with F(x) the set of actions in which x differs from b:
 *
 *     R(x) - R(b) = sum over a in F(x) of g_a  +  noise,     g_a = u_k + v * belief_a + d_a,   noise ~ N(0, s n |F(x)|)
 *
 * u_k is the mean effect of a flip of its kind (prune or keep again), v says how much the policy's own belief predicts effects,
 * d_a ~ N(0, s) is the action's own effect. Its posterior is a ridge regression in the dual: with E evaluations it costs E^3, whatever
 * the number of actions. The noise grows with the distance, because what is not linear does. The ratio n is the one of a small grid
 * under which the rewards are likeliest (empirical Bayes). */
#ifndef ONP_SERVER_AGENT_CREDIT_H
#define ONP_SERVER_AGENT_CREDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct credit;

enum status credit_new(size_t actions, struct credit **out, struct error *error);
void credit_free(struct credit *credit);
/* Forgets all masks: the scoring has changed. */
void credit_reset(struct credit *credit);
size_t credit_count(const struct credit *credit);

/* Was this mask (actions) evaluated? Then *reward (may be NULL) is what it got. */
bool credit_find(const struct credit *credit, const uint8_t *mask, double *reward);
/* Remembers an evaluation; the mask is copied. A mask that is known keeps its first reward. */
enum status credit_add(struct credit *credit, const uint8_t *mask, double reward, struct error *error);

/* Fits the model around `base` (which must have been added). belief (actions): what the policy thinks of flipping each action, any
 * scale. gain (actions): expected change of the reward if that action of `base` is flipped. own (actions): the part d_a of it that
 * evaluations of that very action have shown; 0 if it was never flipped. *scale: sqrt(s), what effects are measured against; 0 if
 * there is nothing to fit yet. */
enum status credit_fit(struct credit *credit, const uint8_t *base, const float *belief, double *gain, double *own,
                       double *scale, struct error *error);

#endif
