/* Which classes are suspected, from the sizes of their triggers in each family. */
#ifndef ONP_SERVER_EXPOSE_SUSPECTS_H
#define ONP_SERVER_EXPOSE_SUSPECTS_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "server/expose/expose.h"

/* After a family's race: its median, the classes' anomaly indices, and those that stand out as suspects. `ended_early`: the sizes are those
 * of few steps, so that what a suspect's trigger is compared with has to be measured when it is asked for. */
enum status suspects_find(struct exposure *exposure, const struct expose_options *options, enum trigger_family family,
                          bool ended_early, struct error *error);
/* The anomaly index that makes a suspect of a class whose size is this share of the family's median. */
double suspects_index_needed(const struct expose_options *options, double share);
/* The least share of a family's median with which a class (or, the last column, all of them) is suspected; INFINITY if it is not. */
double suspects_least_share(const struct exposure *exposure, size_t column);
bool suspects_any(const struct exposure *exposure);
/* Has a family shown a backdoor so plainly that the others need only be looked at for one as plain? */
bool suspects_are_plain(const struct exposure *exposure, const struct expose_options *options);
/* With no suspect in any family: those who stand out by their index although they are above the ratio. Beside a plain suspect they
 * are its weak reflections in other families, and pruning against those costs accuracy for nothing. */
void suspects_look_again(struct exposure *exposure, const struct expose_options *options);
/* Beside a plain suspect: those who are only its reflections in other families are no suspects any more. */
void suspects_drop_reflections(struct exposure *exposure, const struct expose_options *options);

#endif
