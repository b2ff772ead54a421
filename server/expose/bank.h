/* The trigger bank: what the suspects' backdoors look like, at the strength at which they work. Repair is measured against it. */
#ifndef ONP_SERVER_EXPOSE_BANK_H
#define ONP_SERVER_EXPOSE_BANK_H

#include <stdbool.h>

#include "common/error.h"
#include "common/rng.h"
#include "server/expose/expose.h"

/* For each suspect cell: its trigger, and, as long as it does not reach its target surely, stronger ones (the bound doubled), each as
 * long as the class still stands out at that strength against a few control classes; then restarts at the last strength.
 * Sets scale and reference of the suspect cells. */
enum status bank_build(const struct invert_data *data, const struct expose_options *options, const struct rng *rng,
                       struct exposure *exposure, struct error *error);
/* Takes the trigger into the bank (also on failure it is no longer the caller's). */
enum status exposure_add(struct exposure *exposure, struct trigger *trigger, struct error *error);
/* Is a trigger that was found later for a suspect, at its scale, still clearly smaller than the other classes'? */
bool exposure_is_small(const struct exposure *exposure, const struct expose_options *options,
                       const struct trigger *trigger);

#endif
