/* Private to baselines/: what the published methods share, and their stages. They fill job->best, job->mask and job->fill as the search
 * and the repair of "onp" do, so that report and export are the same. */
#ifndef ONP_SERVER_BASELINES_BASELINE_H
#define ONP_SERVER_BASELINES_BASELINE_H

#include <stddef.h>

#include "common/error.h"
#include "server/mitigate/job.h"

/* Streams of STREAM_BASELINE and of fine-tuning: one a purpose. */
enum baseline_stream { BASELINE_ORDER = 1, BASELINE_PERTURB, BASELINE_INVERT, BASELINE_TUNE, BASELINE_UNLEARN };

/* Build samples drawn for one step of a mask's training, and the cross-entropy to their labels: the user of an engine_run. */
enum { BASELINE_BATCH = 64 };
struct baseline_batch {
    const struct job *job;
    size_t picked[BASELINE_BATCH];
    size_t count; /* BASELINE_BATCH, or all build samples if there are fewer */
};
void baseline_batch_draw(struct baseline_batch *batch, const struct job *job, struct rng *rng);
void baseline_batch_input(void *user, size_t first, size_t n, float *x);
void baseline_batch_loss(void *user, size_t first, size_t n, const float *logits, float *dlogits);

/* job->best all 0, job->mask all 1, job->fill all 0: what pruned units give in the papers, before a bias is thought of. */
enum status baseline_begin(struct job *job, struct error *error);
/* Accuracy over the score samples, as the weights are now; mask and fill (units) or NULL. */
enum status baseline_accuracy(struct job *job, const float *mask, const float *fill, double *accuracy,
                              struct error *error);
/* Marks unit `unit` as pruned: job->best and job->mask. */
void baseline_prune(struct job *job, size_t unit);
/* Prunes units in this order, a step (about a 64th of `count`) at a time, as long as the accuracy over the score samples is at most
 * job->parameters.accuracy_drop below what it is without any. `count` of the units at most; *pruned how many. */
enum status baseline_prune_prefix(struct job *job, const size_t *order, size_t count, size_t *pruned,
                                  struct error *error);
/* Sorts units (indices) by rising key[unit]; equal keys by index. */
enum status baseline_sort(size_t *units, size_t count, const double *key, struct error *error);
/* values (layers): the constant (of job->network) that holds the biases which make a layer's values: those of its BatchNorm, else of
 * its Conv or Gemm or of the Add after it; NETWORK_NONE if it has none. */
enum status baseline_biases(const struct job *job, size_t *values, struct error *error);
/* job->fill = those biases as they are now, 0 where there are none: a pruned neuron is one whose weights are 0 and whose bias stays. */
void baseline_fill_biases(struct job *job, const size_t *values);
/* Prunes the units with key (units) below a threshold: of 0.05, 0.1, ... 0.95 the last one before the accuracy over the score samples
 * falls by more than job->parameters.accuracy_drop. Adds "threshold" to job->details. */
enum status baseline_prune_below(struct job *job, const float *key, struct error *error);
/* Steps of fine-tuning in so many epochs over the build samples. */
size_t baseline_epoch_steps(const struct job *job, uint64_t epochs);
/* Adds a member to job->details; takes the reference. */
void baseline_detail(struct job *job, const char *name, json_t *value);

/* STAGE_SEARCH of each method. */
enum status baseline_none(struct job *job, struct error *error);
enum status baseline_fine_pruning(struct job *job, struct error *error);
enum status baseline_lipschitz(struct job *job, struct error *error);
enum status baseline_adversarial(struct job *job, struct error *error);
enum status baseline_reconstructive(struct job *job, struct error *error);
enum status baseline_random(struct job *job, struct error *error);
enum status baseline_cleanse(struct job *job, struct error *error); /* the unlearning is part of it */
/* STAGE_REPAIR of methods that fine-tune: job->parameters.epochs on the build samples under job->mask. */
enum status baseline_finetune(struct job *job, struct error *error);
/* STAGE_EVALUATE of all: figures, and the verdict, which these methods leave open but for a broken budget. */
enum status baseline_evaluate(struct job *job, struct error *error);

#endif
