/* Forward runs of one engine over the same samples with many masks: what masks have in common at the front of the network is
 * computed once. States at a few cuts (engine.h) are kept with the mask they were made under; a run starts from the deepest
 * state whose mask it shares. Results are those of engine_run() bit for bit. One thread at a time. */
#ifndef ONP_SERVER_NN_PREFIX_CACHE_H
#define ONP_SERVER_NN_PREFIX_CACHE_H

#include <stddef.h>

#include "common/error.h"
#include "server/nn/engine.h"

struct prefix_cache;

/* `engine` (over a network with masks) is borrowed and must outlive the cache. `count`: samples of every run. Kept states take at
 * most max_bytes; with less than one state's bytes (0, say) every run is a full one. */
enum status prefix_cache_new(struct engine *engine, size_t count, size_t max_bytes, struct prefix_cache **out,
                             struct error *error);
void prefix_cache_free(struct prefix_cache *cache); /* accepts NULL */

/* As engine_run(), for a forward run with a mask over the cache's samples, the same ones in all runs of a
 * cache; when constants of the network have changed, all states are dropped. start, saves and save_count are the cache's. Lack of memory for a state is no error. */
enum status prefix_cache_run(struct prefix_cache *cache, const struct engine_run *run, struct error *error);

struct prefix_cache_stats {
    size_t runs, saved; /* runs; states saved */
    double work;        /* multiply-adds of all runs as a share of what full runs would have taken; 0 without runs */
    size_t bytes;       /* of states, now */
};
struct prefix_cache_stats prefix_cache_stats(const struct prefix_cache *cache);

#endif
