/* The warm start of the search: greedy prefixes of several rankings of the units, each ranking also continued from the best mask
 * so far with its effects measured anew. What it finds is the report's "greedy", and what PPO starts from. */
#ifndef ONP_SERVER_MITIGATE_WARM_START_H
#define ONP_SERVER_MITIGATE_WARM_START_H

#include <stdint.h>

#include "common/error.h"
#include "server/mitigate/job.h"
#include "server/mitigate/mitigate_score.h"

/* best (units) holds the mask to start from and gets the best one found (never worse in reward) in at most so many rounds of all
 * rankings; *parts its score. */
enum { WARM_ROUNDS = 6 };
enum status warm_start(struct job *job, size_t rounds, uint8_t *best, struct score_parts *parts, struct error *error);

/* Random search with `evaluations` evaluations: each mask is the best so far with a few bits flipped, pruned bits and others alike.
 * best (units) holds the mask to start from and gets the best one found; *reward its reward. What PPO is compared with. */
enum status random_search(struct job *job, uint8_t *best, size_t evaluations, double *reward, struct error *error);

#endif
