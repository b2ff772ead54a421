/* How much work a job puts into a network that is dear to run. */
#ifndef ONP_SERVER_MITIGATE_AFFORDABLE_H
#define ONP_SERVER_MITIGATE_AFFORDABLE_H

#include <stdbool.h>
#include <stddef.h>

/* Of `usual` images, steps or iterations those that a network of so many multiply-adds an image affords: all of them up to 100
 * million, beyond that fewer in proportion, but never less than `least` (or `usual`, if that is less). Any thread. */
size_t affordable(double macs, size_t usual, size_t least);
/* From 200 million on: so dear that small gains are not worth their price. */
bool is_dear(double macs);

#endif
