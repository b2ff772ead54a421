/* Private to mitigate/: the front of the masks scored so far: those that no other beats in both reward and clean KL. */
#ifndef ONP_SERVER_MITIGATE_SCORE_FRONT_H
#define ONP_SERVER_MITIGATE_SCORE_FRONT_H

#include <stddef.h>
#include <stdint.h>

#include "server/mitigate/mitigate_score.h"

/* What is kept of an evaluation: how many blocks of images were run, its parts (an estimate, if these were not all), and the divergences
 * behind them: of each block but the last, clean images first, as the comparisons saw them. */
struct score_record {
    uint64_t blocks;
    struct score_parts parts;
    float kl[];
};

enum { SCORE_FRONT_MAX = 48 };

struct score_front {
    struct score_entry entries[SCORE_FRONT_MAX]; /* by falling reward */
    struct score_record *records[SCORE_FRONT_MAX];
    size_t count;
};

/* Copies bits (units) and a record of so many bytes, unless another mask dominates them; what they dominate goes, and the entry of least
 * reward if there are too many. An allocation failure only loses the entry. */
void score_front_insert(struct score_front *front, const uint8_t *bits, size_t units, const struct score_record *record,
                        size_t record_size);
void score_front_clear(struct score_front *front);

#endif
