/* The split of the clean samples: 60 % build, 20 % score, 20 % locked, stratified by class, fixed by the seed. */
#ifndef ONP_SERVER_DATA_SPLIT_H
#define ONP_SERVER_DATA_SPLIT_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/rng.h"

struct split {
    size_t *build, *score, *locked; /* sample indices, shuffled */
    size_t build_count, score_count, locked_count;
};

/* Each part gets its share of each class as nearly as whole samples allow; every part gets at least one sample
 * (STATUS_INVALID if there are fewer than 5 samples). */
enum status split_new(const int32_t *labels, size_t count, size_t classes, const struct rng *rng, struct split **out,
                      struct error *error);
void split_free(struct split *split);

#endif
