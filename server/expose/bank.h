/* The trigger bank: what the suspects' backdoors look like, at the strength at which they work. Repair is measured against it. */
#ifndef ONP_SERVER_EXPOSE_BANK_H
#define ONP_SERVER_EXPOSE_BANK_H

#include <stdbool.h>

#include "common/error.h"
#include "common/rng.h"
#include "server/expose/expose.h"

/* For each suspect cell: its trigger, and, as long as it does not reach its target surely, stronger ones (the bound doubled), each as
 * long as the class still stands out at that strength against a few control classes; then restarts at the last strength.
 * Sets the level of the suspect cells. */
enum status bank_build(const struct invert_data *data, const struct expose_options *options, const struct rng *rng,
                       struct exposure *exposure, struct error *error);
/* Takes the trigger into the bank (also on failure it is no longer the caller's). */
enum status exposure_add(struct exposure *exposure, struct trigger *trigger, struct error *error);
void exposure_clear_bank(struct exposure *exposure);
double bank_scale(size_t level);                  /* of the bound */
size_t bank_level(const struct trigger *trigger); /* by its scale; 0 for one of no level's */
/* exposure->reference[family][level], measured if it has not been yet: data is of the network as it came, rng that of bank_build(). 0, so
 * that nothing is small against it, if classes without a backdoor are reached at this level as well. */
enum status bank_reference(const struct invert_data *data, const struct expose_options *options, const struct rng *rng,
                           struct exposure *exposure, enum trigger_family family, size_t level, double *reference,
                           struct error *error);
/* As far as it is known without measuring, else negative. Stronger triggers reach other classes at least as easily, so that nothing is small
 * at a level if what they need a level lower is little enough. */
double bank_known_reference(const struct exposure *exposure, enum trigger_family family, size_t level);
/* The size of the trigger after it was fitted further in the network as it came, as those were that it is compared with at level 0. */
enum status bank_fit_further(const struct invert_data *data, const struct expose_options *options,
                             const struct rng *rng, struct exposure *exposure, const struct trigger *trigger,
                             double *size, struct error *error);
/* Is a trigger that was found later for a suspect, at a level whose reference is known, clearly smaller than the other classes'? */
bool exposure_is_small(const struct exposure *exposure, const struct trigger *trigger);

#endif
