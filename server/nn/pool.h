/* A fixed set of worker threads for one compute job: run f(index) for index in [0, count), spread over the threads, the
 * caller's own included. OpenBLAS is held at one thread; parallelism is here, over chunks of samples. */
#ifndef ONP_SERVER_NN_POOL_H
#define ONP_SERVER_NN_POOL_H

#include <stddef.h>

#include "common/error.h"

struct pool;
/* threads: 0 = one a core of this process's affinity. Also sets OpenBLAS to one thread. */
enum status pool_new(size_t threads, struct pool **out, struct error *error);
void pool_free(struct pool *pool);
size_t pool_threads(const struct pool *pool);
/* Returns when all calls are done. `thread` is in [0, pool_threads), for per-thread workspaces. Which thread takes which
 * index is not fixed: results must not depend on it. Not re-entrant. */
void pool_run(struct pool *pool, size_t count, void (*task)(void *user, size_t index, size_t thread), void *user);

#endif
