/* Training of the network's own weights inside a job: fine-tuning on the clean build samples and triggered copies of them, and its
 * opposite, unlearning. The weights change in place; job->original keeps what came, for the export and to go back to. */
#ifndef ONP_SERVER_MITIGATE_FINETUNE_H
#define ONP_SERVER_MITIGATE_FINETUNE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/expose/trigger.h"
#include "server/mitigate/job.h"

struct finetune_options {
    size_t steps; /* 0: nothing is done */
    size_t batch;
    double learning_rate; /* falls in a straight line to 0 */
    double weight_decay;  /* on weights of Conv and Gemm */
    double
        distil; /* loss = (1 - distil) CE(label) + distil KL(p0(x) || p), x the clean image, also for its triggered copy */
    double triggered; /* share of a batch's images that carry a trigger, with their right labels */
    bool ascend;      /* the loss is raised instead: unlearning. No fall of the rate, no augmentation */
    double
        stop_below; /* ends after a pass over the samples in which this share of the clean images at most was right */
    bool batch_statistics;                 /* BatchNorm as in training; else its statistics stay */
    uint64_t stream;                       /* of the job's generator, so that two trainings of a job differ */
    const struct trigger *const *triggers; /* (trigger_count), drawn from at random; needed if `triggered` is not 0 */
    size_t trigger_count;
    const float *mask, *fill; /* (units) as in engine_run; pruned units stay pruned */
    const char *message;      /* for the progress */
};

/* Progress is told as steps of the running stage. */
enum status finetune_run(struct job *job, const struct finetune_options *options, struct error *error);

/* The option of "onp": after the repair, job->parameters.finetune_steps on clean samples and the bank's triggers under job->mask.
 * Kept if the score samples show a smaller loss of the reward's form and no lower accuracy, else undone. */
enum status finetune_repaired(struct job *job, struct error *error);

#endif
