/* The reward of a mask (method.md, stage 5): R(m) = - KL(p0(x) || p_m(x)) - lambda mean_w KL(p0(x) || p_m(w(x))), w over the
 * trigger bank, x over the score samples, without a trigger also over the build samples: pruned, the network must behave on
 * triggered input as the original does on clean input.
 * Also keeps the front of the masks seen: those that no other beats in both reward and clean KL, so that a mask inside an
 * accuracy budget can be had later. */
#ifndef ONP_SERVER_MITIGATE_MITIGATE_SCORE_H
#define ONP_SERVER_MITIGATE_MITIGATE_SCORE_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/mitigate/job.h"

struct score_parts {
    double clean_kl, trigger_kl; /* means a sample, nats; trigger_kl is 0 with an empty bank */
    double reward;
};

/* Over the job's samples but the locked ones, and its exposure's bank as it is now. */
enum status score_new(struct job *job, struct score **out, struct error *error);
void score_free(struct score *score);
/* After the bank has changed: the triggered images are made anew, the front is scored again. Costs evaluations. */
enum status score_refresh(struct score *score, struct error *error);

/* One evaluation: bits (units), 1 = pruned. A mask that another one on the front clearly beats on a first part of the images (in bf16, where
 * this machine ranks in it) gets an estimate below that one's reward; every other one, and so the best, is scored on all in f32. */
enum status score_mask(struct score *score, const uint8_t *bits, struct score_parts *parts, struct error *error);
/* One evaluation, of the first part of the images alone: what the mask would score, judged by how it compares there with the best known. */
enum status score_glance(struct score *score, const uint8_t *bits, struct score_parts *parts, struct error *error);
/* As score_mask() for a network that is also retuned: mask and fill (units). No evaluation of the search, no entry of the front. */
enum status score_repaired(struct score *score, const float *mask, const float *fill, struct score_parts *parts,
                           struct error *error);
size_t score_evaluations(const struct score *score);
/* Between the two, masks are compared only with each other, as if none had been scored before: what another search found must neither
 * cut short nor flatter the one that it is compared with. At the end the fronts are joined. */
void score_rival_begin(struct score *score);
void score_rival_end(struct score *score);

struct score_entry {
    struct score_parts parts;
    uint8_t *bits; /* (units) */
};
/* The front, best reward first; borrowed until the next evaluation. */
size_t score_front(const struct score *score, const struct score_entry **entries);

#endif
