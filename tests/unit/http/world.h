/* What the handlers of the test server work on, and the server itself. */
#ifndef ONP_TESTS_UNIT_HTTP_WORLD_H
#define ONP_TESTS_UNIT_HTTP_WORLD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "tests/support/live.h"
#include "tests/support/scratch.h"

#define CLOSE "Host: localhost\r\nConnection: close\r\n"

enum { WORLD_MAX_UPLOAD = 3 << 20, WORLD_FILE_SIZE = 1000, WORLD_ROUTES = 11 };

struct world {
    struct live live;
    struct scratch scratch;
    char file[4096];
    atomic_int version; /* of the document at /doc, and of the stream's next event */
    atomic_int closed;  /* sinks closed without being taken */
    pthread_t helper;
    struct http_post post;
    struct http_hold *hold;
    bool release_held;   /* false: the helper never answers */
    atomic_int sleepers; /* requests that have come to wait for a change, room or a release */
    atomic_int pings;    /* of streams without news */
};

/* Starts the server and its world; *state is the world. For cmocka. */
int world_setup(void **state);
/* With little patience for slow and idle clients. */
int world_setup_hasty(void **state);
/* Waits until the number is at least `least`; fails the test if that does not come. */
void world_await(atomic_int *number, int least);
/* Stops it; not for tests that have stopped the server themselves. */
int world_teardown(void **state);

#endif
