/* Time: monotonic for durations, wall clock for records. */
#ifndef ONP_COMMON_CLOCK_H
#define ONP_COMMON_CLOCK_H

#include <stdint.h>

/* Seconds since an arbitrary start; never goes back. */
double clock_seconds(void);
/* Milliseconds since the Unix epoch. */
int64_t clock_wall_ms(void);
enum { CLOCK_RFC3339_SIZE = 32 };
/* "2026-01-31T23:59:59.123Z" */
void clock_rfc3339(int64_t wall_ms, char out[CLOCK_RFC3339_SIZE]);

#endif
