/* Dictionaries: families' ready-made triggers, tried forward only. A gradient that starts from nothing does not find a sinusoid, and
 * quantisation has no gradient at all; but all classes can be read off one pass of each entry. */
#ifndef ONP_SERVER_EXPOSE_DICTIONARY_H
#define ONP_SERVER_EXPOSE_DICTIONARY_H

#include "common/error.h"
#include "server/expose/invert.h"

struct dictionary_find {
    size_t entry;
    double loss, success; /* of the entry, on the samples of other classes */
};

/* finds[t] for each class: the entry with the least loss, on up to `samples` of the data's; of a family that is not fixed success is 0 where
 * no entry works on a few of them. The family must have a dictionary. */
enum status dictionary_probe(const struct invert_data *data, enum trigger_family family, size_t samples,
                             struct dictionary_find *finds, struct error *error);
/* Turns a trigger of a fixed family into the entry that serves its target best, and measures it. */
enum status dictionary_fit(const struct invert_data *data, struct trigger *trigger, struct error *error);

#endif
