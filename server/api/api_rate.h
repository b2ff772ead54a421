/* Token buckets: how many requests each client may make. A table of fixed size; memory does not grow with the number of clients. */
#ifndef ONP_SERVER_API_API_RATE_H
#define ONP_SERVER_API_API_RATE_H

#include <stddef.h>

struct api_rate;

/* Each client gains `rate` requests a second, up to `burst`. NULL without memory. */
struct api_rate *api_rate_new(double rate, double burst);
void api_rate_free(struct api_rate *rate); /* accepts NULL */
/* Takes one request of this client at time `now` (seconds, not going back). 0: it may go on; else the seconds until it may. When more
 * clients than fit come at once, the one that was seen longest ago starts anew with a full bucket. One thread. */
double api_rate_take(struct api_rate *rate, const char *client, double now);

#endif
