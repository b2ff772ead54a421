/* States at cuts, found by the masks before the cut.
 *
 * Cuts lie before Mask nodes, about evenly spread over the work. A state is saved when the masks before its cut are met for
 * the second time within the last few runs, since most masks of a search are met once; the longest unused states make room. */
#include "server/nn/prefix_cache.h"

#include <string.h>

#include "common/mem.h"

enum {
    CUTS_MAX = 16,
    ENTRIES_MAX = 64,
    HISTORY = 12, /* runs whose masks are remembered */
};
/* All cuts once must fit this share of the memory. */
static const double SET_SHARE = 0.9;

struct cut {
    size_t node; /* a Mask */
    size_t site; /* its number among the Mask nodes */
    size_t bytes;
    double work; /* multiply-adds before it, as a share of all */
};

/* The mask and the fill of one run, (units) each. */
struct key {
    float *mask, *fill;
};

struct entry {
    size_t cut;
    float *state; /* NULL: free */
    struct key key;
    size_t used; /* number of the run that used it last */
};

struct prefix_cache {
    struct engine *engine;
    const struct network *network;
    size_t count, max_bytes, bytes;
    size_t *sites; /* Mask nodes in order */
    size_t site_count;
    struct cut cuts[CUTS_MAX];
    size_t cut_count;
    struct entry entries[ENTRIES_MAX];
    struct key history[HISTORY];
    uint64_t version; /* hash of all constants */
    size_t met;       /* runs since then: how far the history goes back */
    size_t runs, saved;
    double work; /* sum over runs */
};

static bool key_new(struct key *key, size_t units) {
    key->mask = mem_alloc(units, sizeof *key->mask);
    key->fill = mem_alloc(units, sizeof *key->fill);
    return key->mask != NULL && key->fill != NULL;
}

static void key_free(struct key *key) {
    mem_free(key->mask);
    mem_free(key->fill);
    *key = (struct key){NULL, NULL};
}

static void key_set(const struct prefix_cache *cache, struct key *key, const struct engine_run *run) {
    memcpy(key->mask, run->mask, cache->network->unit_count * sizeof *key->mask);
    memcpy(key->fill, run->fill, cache->network->unit_count * sizeof *key->fill);
}

/* How many Mask nodes, from the front, do the same under the key as in this run. */
static size_t common_sites(const struct prefix_cache *cache, const struct key *key, const struct engine_run *run) {
    for (size_t s = 0; s < cache->site_count; s++) {
        const struct node *node = &cache->network->nodes[cache->sites[s]];
        const size_t first = node->attr.mask_first;
        const size_t units = cache->network->values[node->output].shape.dim[node->attr.axis];
        if (memcmp(key->mask + first, run->mask + first, units * sizeof *key->mask) != 0 ||
            memcmp(key->fill + first, run->fill + first, units * sizeof *key->fill) != 0) {
            return s;
        }
    }
    return cache->site_count;
}

/* Bytes of the states of all samples; SIZE_MAX if they overflow. */
static size_t state_bytes(const struct prefix_cache *cache, size_t node) {
    size_t bytes = 0;

    return mem_multiply(engine_cut_floats(cache->engine, node) * sizeof(float), cache->count, &bytes) ? bytes
                                                                                                      : SIZE_MAX;
}

/* Cuts at least `step` of the work apart; returns the bytes of all their states. */
static double choose_cuts(struct prefix_cache *cache, double step) {
    const double all = network_macs(cache->network);
    double before = 0.0, last = 0.0, bytes = 0.0;
    size_t node = 0;

    cache->cut_count = 0;
    for (size_t s = 0; s < cache->site_count && cache->cut_count < CUTS_MAX && all > 0.0; s++) {
        for (; node < cache->sites[s]; node++) {
            before += network_node_macs(cache->network, node) / all;
        }
        const size_t need = state_bytes(cache, node);
        if (before < last + step || need > cache->max_bytes) {
            continue;
        }
        cache->cuts[cache->cut_count++] = (struct cut){.node = node, .site = s, .bytes = need, .work = before};
        bytes += (double)need;
        last = before;
    }
    return bytes;
}

enum status prefix_cache_new(struct engine *engine, size_t count, size_t max_bytes, struct prefix_cache **out,
                             struct error *error) {
    struct prefix_cache *cache = mem_calloc(1, sizeof *cache);
    bool ok = cache != NULL;

    if (ok) {
        cache->engine = engine;
        cache->network = engine_network(engine);
        cache->count = count;
        cache->max_bytes = max_bytes;
        cache->sites = mem_alloc(cache->network->node_count, sizeof *cache->sites);
        ok = cache->sites != NULL;
    }
    for (size_t i = 0; i < HISTORY && ok; i++) {
        ok = key_new(&cache->history[i], cache->network->unit_count);
    }
    for (size_t i = 0; i < ENTRIES_MAX && ok; i++) {
        ok = key_new(&cache->entries[i].key, cache->network->unit_count);
    }
    if (!ok) {
        prefix_cache_free(cache);
        return error_no_memory(error, "the cache of prefixes");
    }
    for (size_t i = 0; i < cache->network->node_count; i++) {
        if (cache->network->nodes[i].op == OP_MASK) {
            cache->sites[cache->site_count++] = i;
        }
    }
    for (double step = 1.0 / CUTS_MAX;
         choose_cuts(cache, step) > SET_SHARE * (double)max_bytes && cache->cut_count > 1;) {
        step *= 1.5;
    }
    *out = cache;
    return STATUS_OK;
}

void prefix_cache_free(struct prefix_cache *cache) {
    if (cache == NULL) {
        return;
    }
    for (size_t i = 0; i < ENTRIES_MAX; i++) {
        mem_free(cache->entries[i].state);
        key_free(&cache->entries[i].key);
    }
    for (size_t i = 0; i < HISTORY; i++) {
        key_free(&cache->history[i]);
    }
    mem_free(cache->sites);
    mem_free(cache);
}

static void drop(struct prefix_cache *cache, struct entry *entry) {
    cache->bytes -= cache->cuts[entry->cut].bytes;
    mem_free(entry->state);
    entry->state = NULL;
}

/* The entry with the deepest cut that this run shares; NULL without. */
static struct entry *find_start(struct prefix_cache *cache, const struct engine_run *run) {
    struct entry *best = NULL;

    for (size_t i = 0; i < ENTRIES_MAX; i++) {
        struct entry *entry = &cache->entries[i];
        if (entry->state != NULL && (best == NULL || entry->cut > best->cut) &&
            common_sites(cache, &entry->key, run) >= cache->cuts[entry->cut].site) {
            best = entry;
        }
    }
    return best;
}

/* A free entry with memory for a state at `cut`; entries used in this run stay. NULL if there is no room. */
static struct entry *make_room(struct prefix_cache *cache, size_t cut) {
    const size_t need = cache->cuts[cut].bytes;

    for (;;) {
        struct entry *empty = NULL, *oldest = NULL;
        for (size_t i = 0; i < ENTRIES_MAX; i++) {
            struct entry *entry = &cache->entries[i];
            if (entry->state == NULL) {
                empty = entry;
            } else if (entry->used != cache->runs && (oldest == NULL || entry->used < oldest->used)) {
                oldest = entry;
            }
        }
        if (empty != NULL && need <= cache->max_bytes - cache->bytes) {
            empty->state = mem_alloc(need, 1);
            if (empty->state == NULL) {
                return NULL;
            }
            empty->cut = cut;
            empty->used = cache->runs;
            cache->bytes += need;
            return empty;
        }
        if (oldest == NULL) {
            return NULL;
        }
        drop(cache, oldest);
    }
}

/* Entries for the cuts behind `start` up to which this run's masks were met before; returns how many. */
static size_t plan_saves(struct prefix_cache *cache, const struct engine_run *run, const struct entry *start,
                         struct engine_cut *saves, struct entry **entries) {
    const size_t remembered = cache->met < HISTORY ? cache->met : HISTORY;
    size_t met = 0, count = 0;

    for (size_t i = 0; i < remembered; i++) {
        const size_t common = common_sites(cache, &cache->history[i], run);
        met = common > met ? common : met;
    }
    for (size_t c = start != NULL ? start->cut + 1 : 0; c < cache->cut_count && cache->cuts[c].site <= met; c++) {
        struct entry *entry = make_room(cache, c);
        if (entry == NULL) {
            break;
        }
        key_set(cache, &entry->key, run);
        saves[count] = (struct engine_cut){.node = cache->cuts[c].node, .state = entry->state};
        entries[count++] = entry;
    }
    return count;
}

/* Forgets everything if the network is not what it was. */
static void check_constants(struct prefix_cache *cache) {
    uint64_t version = 0;

    for (size_t v = 0; v < cache->network->value_count; v++) {
        if (cache->network->values[v].kind == VALUE_CONSTANT) {
            version = version * 31 + network_constant_hash(cache->network, v);
        }
    }
    if (version == cache->version) {
        return;
    }
    cache->version = version;
    cache->met = 0;
    for (size_t i = 0; i < ENTRIES_MAX; i++) {
        if (cache->entries[i].state != NULL) {
            drop(cache, &cache->entries[i]);
        }
    }
}

enum status prefix_cache_run(struct prefix_cache *cache, const struct engine_run *run, struct error *error) {
    struct engine_run cut = *run;
    struct engine_cut from, saves[CUTS_MAX];
    struct entry *saved[CUTS_MAX] = {NULL};

    if (run->mask == NULL || run->fill == NULL || run->count != cache->count) {
        return error_set(error, STATUS_INVALID, "",
                         "failed to run network from its prefix: got %zu samples and %s mask, expected %zu and a mask",
                         run->count, run->mask == NULL ? "no" : "a", cache->count);
    }
    check_constants(cache);
    cache->runs++;
    struct entry *start = find_start(cache, run);
    if (start != NULL) {
        start->used = cache->runs;
        from = (struct engine_cut){.node = cache->cuts[start->cut].node, .state = start->state};
        cut.start = &from;
    }
    cut.save_count = plan_saves(cache, run, start, saves, saved);
    cut.saves = cache->cut_count > 0 ? saves : NULL; /* not NULL: by the rows, like all runs that start from a state */
    const enum status status = engine_run(cache->engine, &cut, error);
    if (status != STATUS_OK) {
        for (size_t i = 0; i < cut.save_count && saved[i] != NULL; i++) {
            drop(cache, saved[i]);
        }
        cache->runs--;
        return status;
    }
    key_set(cache, &cache->history[cache->met++ % HISTORY], run);
    cache->saved += cut.save_count;
    cache->work += 1.0 - (start != NULL ? cache->cuts[start->cut].work : 0.0);
    return STATUS_OK;
}

struct prefix_cache_stats prefix_cache_stats(const struct prefix_cache *cache) {
    return (struct prefix_cache_stats){.runs = cache->runs,
                                       .saved = cache->saved,
                                       .work = cache->runs > 0 ? cache->work / (double)cache->runs : 0.0,
                                       .bytes = cache->bytes};
}
