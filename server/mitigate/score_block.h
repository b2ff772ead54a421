/* Private to mitigate/: some of the samples, clean and with each trigger of the bank, and how far a masked network is from what is
 * wanted of each of them. */
#ifndef ONP_SERVER_MITIGATE_SCORE_BLOCK_H
#define ONP_SERVER_MITIGATE_SCORE_BLOCK_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "server/mitigate/job.h"
#include "server/nn/prefix_cache.h"

struct score_block {
    const struct job *job;
    size_t clean, triggered; /* images of both kinds, clean ones first */
    float *images;           /* (clean + triggered, C, H, W) */
    float *p0;               /* (clean + triggered, K): what is wanted of each image */
    float *logits;           /* like p0, of the last run */
    float *kl;               /* (clean + triggered) KL(p0 || p) of the last run, nats */
    struct prefix_cache *prefixes;
};

/* Which part of a pass over the samples: of the build and score samples, clean, those in [clean_first, clean_end); of the `each` score
 * samples of every trigger those in [each_first, each_end); all in an order that visits the classes evenly. */
struct score_range {
    size_t clean_first, clean_end;
    size_t each, each_first, each_end;
};

/* With the job's bank as it is now. On an error the block is to be freed as well. */
enum status score_block_make(const struct job *job, const struct score_range *range, size_t prefix_bytes,
                             struct score_block *block, struct error *error);
void score_block_free(struct score_block *block);

/* Fills block->kl for a network masked by mask and fill (units). rank: in the engine's fast precision, where it has one. */
enum status score_block_run(struct score_block *block, const float *mask, const float *fill, bool rank,
                            struct error *error);

#endif
