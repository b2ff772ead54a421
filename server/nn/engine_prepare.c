/* Constants as the rows want them (packed, transformed), made once for many runs. Whether they still are what they were made of is
 * found by a hash at the start of each run, so that whoever trains the network need not say so. */
#include "common/mem.h"
#include "server/nn/engine_private.h"

enum { ALIGN_FLOATS = 16 }; /* a cache line */

static const struct op *row_of(const struct engine *engine, size_t node) {
    return engine->plan->nodes[node].op;
}

/* Item 2 i is the forward of node i, item 2 i + 1 its backward. */
static size_t item_floats(const struct engine *engine, size_t item) {
    const size_t node = item / 2;
    const bool backward = item % 2 == 1;

    if (row_of(engine, node)->prepare == NULL || (backward && !engine->plan->nodes[node].reached)) {
        return 0;
    }
    const size_t floats =
        row_of(engine, node)->prepared_floats(engine->network, &engine->network->nodes[node], backward);
    return (floats + ALIGN_FLOATS - 1) / ALIGN_FLOATS * ALIGN_FLOATS;
}

/* Whether this run calls the row with what the item prepares. */
static bool item_is_used(const struct engine *engine, size_t item) {
    const struct engine_run *run = engine->run;
    const size_t node = item / 2, x = engine->network->nodes[node].inputs[0];

    if (engine->prepared[item].floats == NULL) {
        return false;
    }
    return item % 2 == 0 ? (engine->active == NULL || !backend_dnnl_program_runs(engine->active, node)) &&
                               (run->start == NULL || run->start->node <= node)
                         : run->loss != NULL && x != NETWORK_NONE && engine->live[x];
}

static void prepare_item(void *user, size_t item, size_t thread) {
    struct engine *engine = user;
    const struct network *network = engine->network;
    const struct node *node = &network->nodes[item / 2];
    uint64_t version = 1;

    (void)thread;
    if (!item_is_used(engine, item)) {
        return;
    }
    for (size_t k = 0; k < node->input_count; k++) {
        if (node->inputs[k] != NETWORK_NONE && network->values[node->inputs[k]].kind == VALUE_CONSTANT) {
            version = version * 31 ^ network_constant_hash(network, node->inputs[k]);
        }
    }
    version |= 1; /* 0 stands for nothing made yet */
    if (engine->prepared[item].version != version) {
        row_of(engine, item / 2)->prepare(network, node, item % 2 == 1, engine->prepared[item].floats);
        engine->prepared[item].version = version;
    }
}

enum status engine_prepared_new(struct engine *engine, size_t max_bytes, struct error *error) {
    const size_t items = 2 * engine->network->node_count;
    size_t floats = ALIGN_FLOATS;

    engine->prepared = mem_calloc(items, sizeof *engine->prepared);
    if (engine->prepared == NULL) {
        return error_no_memory(error, "prepared weights");
    }
    for (size_t pass = 0; pass < 2; pass++) {
        const size_t most = max_bytes / sizeof(float);
        float *at = NULL;
        if (pass == 1) {
            /* Cleared memory of this size is not there until it is written. */
            engine->prepared_block = mem_calloc(floats, sizeof(float));
            if (engine->prepared_block == NULL) {
                return error_no_memory(error, "prepared weights");
            }
            const size_t skew = (uintptr_t)engine->prepared_block / sizeof(float) % ALIGN_FLOATS;
            at = engine->prepared_block + (ALIGN_FLOATS - skew) % ALIGN_FLOATS;
            engine->bytes += (floats - ALIGN_FLOATS) * sizeof(float);
        }
        floats = ALIGN_FLOATS;
        for (size_t i = 0; i < items; i++) {
            const size_t need = item_floats(engine, i);
            if (need == 0 || need > most || floats > most - need) {
                continue; /* each call makes its own */
            }
            engine->prepared[i].floats = at == NULL ? NULL : at + (floats - ALIGN_FLOATS);
            floats += need;
        }
    }
    return STATUS_OK;
}

void engine_prepared_free(struct engine *engine) {
    mem_free(engine->prepared_block);
    mem_free(engine->prepared);
}

void engine_prepare(struct engine *engine) {
    pool_run(engine->pool, 2 * engine->network->node_count, prepare_item, engine);
}
