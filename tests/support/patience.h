/* How long tests wait for what must come. Naps are counted, not the clock, so that a machine that stands still for a while takes
 * nothing of it; ONP_TEST_PATIENCE, a factor, stretches it where programs are slow (the Makefile sets it for sanitizer builds). */
#ifndef ONP_TESTS_SUPPORT_PATIENCE_H
#define ONP_TESTS_SUPPORT_PATIENCE_H

#include <stdbool.h>

/* Starts as zero. */
struct patience {
    unsigned long naps;
};

/* Sleeps a few milliseconds; false, at once, when a minute was slept away in all. For
 * while (!came() && patience_nap(&patience)) {}. */
bool patience_nap(struct patience *patience);
/* Waits until there is something to read from the socket, or its end; false when the patience is over. */
bool patience_read(struct patience *patience, int fd);
/* So many seconds, stretched. */
double patience_s(double seconds);

#endif
