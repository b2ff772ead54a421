/* All-to-all backdoors: the trigger sends each class to another one (y to y + 1, say), so that no single target stands out. */
#ifndef ONP_SERVER_EXPOSE_ALL_TO_ALL_H
#define ONP_SERVER_EXPOSE_ALL_TO_ALL_H

#include "common/error.h"
#include "common/rng.h"
#include "server/expose/expose.h"

/* Looks for one trigger of the family that makes every class leave its label, reads off where each class goes, and, if they go to
 * many different classes, fits the trigger to exactly that. Fills the family's last cell: suspect if what it found is
 * small beside the triggers to single classes and works. After the classes' cells of the family are filled. */
enum status all_to_all_expose(const struct invert_data *data, const struct expose_options *options,
                              enum trigger_family family, const struct rng *rng, struct exposure *exposure,
                              struct error *error);

/* What a trigger does to the classes: counts (classes, classes) are the samples of class y that it sends to k. map (classes) gets the class
 * that most of each class's samples went to, other than their own; TRIGGER_AWAY where none left. Is it worth following: do many classes
 * go to many different ones, and the samples of each to the same? Any thread. */
bool all_to_all_read(size_t classes, const size_t *counts, int32_t *map);

#endif
