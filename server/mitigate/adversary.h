/* The adversary: looks for a trigger again on a pruned network. If the suspected class can still be reached by one that is clearly
 * smaller than the other classes', the backdoor is not gone: the new trigger joins the bank. One of ordinary size must
 * not join, it would only burn accuracy. */
#ifndef ONP_SERVER_MITIGATE_ADVERSARY_H
#define ONP_SERVER_MITIGATE_ADVERSARY_H

#include <stdbool.h>

#include "common/error.h"
#include "server/mitigate/job.h"

/* Attack success that counts as removed. */
static const double ATTACK_REMOVED = 0.1;

/* Inverts each suspect (family, class) anew on the network masked by mask and fill (units each); thorough: at higher strengths, too, where
 * other classes are not reached. *found: how many small triggers joined the bank; if `join` is false none does, and those are
 * counted that also work on more than ATTACK_REMOVED of the images. The last trigger of each suspect is kept in job->after. */
enum status adversary_attack(struct job *job, const float *mask, const float *fill, bool join, bool thorough,
                             size_t *found, struct error *error);

#endif
