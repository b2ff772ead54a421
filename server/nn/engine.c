/* The engine: it owns the plan, one workspace a thread and the lanes in which gradients are summed; engine_run() marks what
 * the run wants, hands chunks (or lanes of chunks) to the pool, and adds the lanes at the end. */
#include "server/nn/engine.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/nn/engine_private.h"

enum {
    CHUNK_MAX = 16,
    CHUNK_BYTES = 40 << 20, /* live activations of a chunk; more samples use the weights of deep layers better */
    PREPARED_BYTES = 768 << 20,
    LANES_MIN = 2,
    LANES_MAX = 16,
    LANES_BYTES = 256 << 20 /* all lanes together, unless LANES_MIN need more */
};

static enum status choose_chunk(const struct network *network, size_t *chunk, struct error *error) {
    struct plan *plan = NULL;
    enum status status = plan_new(network, 1, false, NULL, &plan, error);
    if (status != STATUS_OK) {
        return status;
    }
    size_t bytes = plan->peak_floats * sizeof(float);
    size_t best = CHUNK_MAX;
    while (best > 1 && bytes > CHUNK_BYTES / best) {
        best /= 2;
    }
    *chunk = best;
    plan_free(plan);
    return STATUS_OK;
}

static enum status new_workspace(const struct plan *plan, struct engine_workspace *workspace, struct error *error) {
    const struct network *network = plan->network;

    workspace->arena = mem_aligned(plan->arena_floats, sizeof(float));
    workspace->read = mem_calloc(network->value_count, sizeof *workspace->read);
    workspace->write = mem_calloc(network->value_count, sizeof *workspace->write);
    workspace->grad = mem_calloc(network->value_count, sizeof *workspace->grad);
    workspace->in = mem_calloc(plan->max_inputs, sizeof *workspace->in);
    workspace->din = mem_calloc(plan->max_inputs, sizeof *workspace->din);
    if (workspace->arena == NULL || workspace->read == NULL || workspace->write == NULL || workspace->grad == NULL ||
        workspace->in == NULL || workspace->din == NULL) {
        return error_no_memory(error, "arena of a network");
    }
    for (size_t v = 0; v < network->value_count; v++) {
        if (plan->value_buffer[v] != PLAN_NONE) {
            workspace->write[v] = workspace->arena + plan->buffers[plan->value_buffer[v]].offset;
        }
        if (plan->grad_buffer[v] != PLAN_NONE) {
            workspace->grad[v] = workspace->arena + plan->buffers[plan->grad_buffer[v]].offset;
        }
        workspace->read[v] = network->values[v].data; /* NULL but for constants */
    }
    return STATUS_OK;
}

static void free_workspace(struct engine_workspace *workspace) {
    mem_free(workspace->din);
    mem_free(workspace->in);
    mem_free(workspace->grad);
    mem_free(workspace->write);
    mem_free(workspace->read);
    mem_free(workspace->arena);
}

/* Gives each wanted constant its place in a lane, and chooses how many lanes there are: by size alone, never by threads. */
static enum status place_lanes(struct engine *engine, const bool *wants_grad, struct error *error) {
    const struct network *network = engine->network;
    size_t floats = network->unit_count;

    for (size_t v = 0; v < network->value_count; v++) {
        engine->param_offset[v] = PLAN_NONE;
        if (wants_grad == NULL || !wants_grad[v]) {
            continue;
        }
        if (network->values[v].kind != VALUE_CONSTANT) {
            return error_set(error, STATUS_INVALID, "",
                             "failed to plan the gradient of value '%s': got a computed value, expected a constant",
                             network->values[v].name);
        }
        floats = (floats + 15) / 16 * 16;
        engine->param_offset[v] = floats;
        floats += shape_count(&network->values[v].shape);
    }
    engine->lane_floats = (floats + 15) / 16 * 16;
    engine->lane_count = LANES_MAX;
    while (engine->lane_count > LANES_MIN && engine->lane_floats * sizeof(float) > LANES_BYTES / engine->lane_count) {
        engine->lane_count /= 2;
    }
    return STATUS_OK;
}

/* Adds up what the engine will take and holds it against the limit, before anything large is allocated. */
static enum status check_bytes(struct engine *engine, size_t max_bytes, struct error *error) {
    size_t arenas = 0;
    size_t lanes = 0;

    if (!mem_multiply(engine->plan->arena_floats * sizeof(float), engine->threads, &arenas) ||
        !mem_multiply(engine->lane_count * sizeof(float), engine->lane_floats, &lanes) ||
        __builtin_add_overflow(arenas, lanes, &engine->bytes)) {
        engine->bytes = SIZE_MAX;
    }
    if (engine->bytes == SIZE_MAX || (max_bytes != 0 && engine->bytes > max_bytes)) {
        return error_set(error, STATUS_LIMIT, "",
                         "failed to plan network for chunks of %zu samples: got %zu bytes, expected at most %zu",
                         engine->plan->chunk, engine->bytes, max_bytes);
    }
    return STATUS_OK;
}

static enum status allocate(struct engine *engine, struct error *error) {
    engine->workspaces = mem_calloc(engine->threads, sizeof *engine->workspaces);
    if (engine->workspaces == NULL) {
        return error_no_memory(error, "arena of a network");
    }
    for (size_t i = 0; i < engine->threads; i++) {
        enum status status = new_workspace(engine->plan, &engine->workspaces[i], error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (engine->lane_count > 0) {
        engine->lanes = mem_aligned(engine->lane_count * engine->lane_floats, sizeof(float));
        if (engine->lanes == NULL) {
            return error_no_memory(error, "gradients of a network");
        }
    }
    return STATUS_OK;
}

static void find_readers(struct engine *engine) {
    const struct network *network = engine->network;

    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        for (size_t k = 0; k < node->input_count; k++) {
            if (node->inputs[k] != NETWORK_NONE) {
                engine->read_until[node->inputs[k]] = i + 1;
            }
        }
    }
    if (network->output != NETWORK_NONE) { /* else the planner refuses the network */
        engine->read_until[network->output] = network->node_count + 1;
    }
}

enum status engine_new(const struct network *network, struct pool *pool, const struct engine_options *options,
                       struct engine **out, struct error *error) {
    struct engine *engine = mem_calloc(1, sizeof *engine);
    size_t chunk = options->chunk;
    const bool *wants_grad = options->backward ? options->wants_grad : NULL;
    enum status status = STATUS_OK;

    if (engine == NULL) {
        return error_no_memory(error, "engine");
    }
    engine->network = network;
    engine->pool = pool;
    engine->threads = pool_threads(pool);
    engine->live = mem_calloc(network->value_count, sizeof *engine->live);
    engine->pass = mem_calloc(network->node_count, sizeof *engine->pass);
    engine->param_offset = mem_calloc(network->value_count, sizeof *engine->param_offset);
    engine->read_until = mem_calloc(network->value_count, sizeof *engine->read_until);
    if (engine->live == NULL || engine->pass == NULL || engine->param_offset == NULL || engine->read_until == NULL) {
        status = error_no_memory(error, "engine");
        goto fail;
    }
    find_readers(engine);
    if (chunk == 0 && (status = choose_chunk(network, &chunk, error)) != STATUS_OK) {
        goto fail;
    }
    status = plan_new(network, chunk, options->backward, wants_grad, &engine->plan, error);
    if (status != STATUS_OK) {
        goto fail;
    }
    if (options->backward && (status = place_lanes(engine, wants_grad, error)) != STATUS_OK) {
        goto fail;
    }
    status = check_bytes(engine, options->max_bytes, error);
    if (status == STATUS_OK) {
        status = allocate(engine, error);
    }
    if (status == STATUS_OK) {
        status = engine_dnnl_new(engine, options, error);
    }
    if (status == STATUS_OK) {
        const size_t limit = options->max_bytes, used = engine->bytes;
        const size_t rest = limit == 0 ? SIZE_MAX : limit > used ? limit - used : 0;
        status = engine_prepared_new(engine, rest < PREPARED_BYTES ? rest : PREPARED_BYTES, error);
    }
    if (status != STATUS_OK) {
        goto fail;
    }
    *out = engine;
    return STATUS_OK;

fail:
    engine_free(engine);
    return status;
}

void engine_free(struct engine *engine) {
    if (engine == NULL) {
        return;
    }
    for (size_t i = 0; engine->workspaces != NULL && i < engine->threads; i++) {
        free_workspace(&engine->workspaces[i]);
    }
    mem_free(engine->workspaces);
    engine_dnnl_free(engine);
    mem_free(engine->lanes);
    engine_prepared_free(engine);
    mem_free(engine->read_until);
    mem_free(engine->param_offset);
    mem_free(engine->pass);
    mem_free(engine->live);
    plan_free(engine->plan);
    mem_free(engine);
}

size_t engine_chunk(const struct engine *engine) {
    return engine->plan->chunk;
}

size_t engine_bytes(const struct engine *engine) {
    return engine->bytes;
}

const struct network *engine_network(const struct engine *engine) {
    return engine->network;
}

bool engine_value_crosses(const struct engine *engine, size_t value, size_t node) {
    const struct value *v = &engine->network->values[value];

    return v->kind != VALUE_CONSTANT && (v->kind == VALUE_INPUT || v->producer < node) &&
           engine->read_until[value] > node;
}

size_t engine_cut_floats(const struct engine *engine, size_t node) {
    size_t floats = 0;

    for (size_t v = 0; v < engine->network->value_count; v++) {
        floats += engine_value_crosses(engine, v, node) ? shape_count(&engine->network->values[v].shape) : 0;
    }
    return floats;
}

/* Whether the cuts of a run are in order and inside the network. */
static bool cuts_in_order(const struct engine *engine, const struct engine_run *run) {
    size_t next = run->start != NULL ? run->start->node + 1 : 0;

    if (run->start != NULL && run->start->node >= engine->network->node_count) {
        return false;
    }
    for (size_t i = 0; i < run->save_count; i++) {
        if (run->saves[i].node < next || run->saves[i].node >= engine->network->node_count) {
            return false;
        }
        next = run->saves[i].node + 1;
    }
    return true;
}

/* Refuses a run that asks for what the engine was not planned for, or that lacks what it needs. */
static enum status check_run(const struct engine *engine, const struct engine_run *run, struct error *error) {
    const char *problem = NULL;

    if (run->count > 0 && run->input == NULL && run->fill_input == NULL && run->start == NULL) {
        problem = "no input";
    } else if ((run->loss != NULL || run->train) && !engine->plan->backward) {
        problem = "a loss or training on an engine that is planned for forward only";
    } else if (run->loss == NULL && (run->input_grad != NULL || run->mask_grad != NULL || run->param_grad != NULL)) {
        problem = "a gradient wanted without a loss";
    } else if (run->fill == NULL && (run->mask != NULL || run->mask_grad != NULL)) {
        problem = "a mask without its fill";
    } else if ((run->start != NULL || run->save_count > 0) && (run->loss != NULL || run->train || run->tap != NULL)) {
        problem = "a cut in a run with loss, training or tap";
    } else if (!cuts_in_order(engine, run)) {
        problem = "cuts that are out of order or outside the network";
    }
    if (problem != NULL) {
        return error_set(error, STATUS_INVALID, "", "failed to run network: got %s", problem);
    }
    for (size_t v = 0; run->param_grad != NULL && v < engine->network->value_count; v++) {
        if (run->param_grad[v] != NULL && engine->param_offset[v] == PLAN_NONE) {
            return error_set(
                error, STATUS_INVALID, "",
                "failed to run network: got a wanted gradient of value '%s', expected one that was planned",
                engine->network->values[v].name);
        }
    }
    return STATUS_OK;
}

/* Marks which values this run wants the gradient of. A value is live if it, or anything it was computed from, is wanted. */
static void mark_live(struct engine *engine, const struct engine_run *run) {
    const struct network *network = engine->network;
    bool sums = run->mask_grad != NULL;

    for (size_t v = 0; v < network->value_count; v++) {
        engine->live[v] = run->loss != NULL && run->param_grad != NULL && run->param_grad[v] != NULL;
        sums = sums || engine->live[v];
    }
    engine->live[network->input] = run->input_grad != NULL;
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        bool live = node->op == OP_MASK && run->mask_grad != NULL;
        for (size_t k = 0; k < node->input_count && !live; k++) {
            live = node->inputs[k] != NETWORK_NONE && engine->live[node->inputs[k]];
        }
        engine->live[node->output] = live;
    }
    engine->used_lanes = !sums                                      ? 0
                         : engine->chunk_count < engine->lane_count ? engine->chunk_count
                                                                    : engine->lane_count;
}

/* Marks the Mask nodes of which no channel differs from 1. */
static void mark_pass(struct engine *engine, const struct engine_run *run) {
    for (size_t i = 0; i < engine->network->node_count; i++) {
        const struct node *node = &engine->network->nodes[i];
        if (node->op != OP_MASK) {
            continue;
        }
        size_t channels = engine->network->values[node->output].shape.dim[node->attr.axis];
        engine->pass[i] = true;
        for (size_t c = 0; run->mask != NULL && c < channels && engine->pass[i]; c++) {
            engine->pass[i] = run->mask[node->attr.mask_first + c] == 1.0f;
        }
    }
}

static void run_chunk(struct engine *engine, size_t chunk, float *lane, size_t thread) {
    struct engine_workspace *workspace = &engine->workspaces[thread];
    const struct engine_run *run = engine->run;
    size_t first = chunk * engine->chunk_length;
    size_t n = run->count - first < engine->chunk_length ? run->count - first : engine->chunk_length;

    if (run->cancel != NULL && atomic_load_explicit(run->cancel, memory_order_relaxed)) {
        atomic_store(&engine->cancelled, true);
    }
    /* Chunks before the first bad sample still run, so that the sample named does not depend on the threads. */
    if (atomic_load(&engine->cancelled) || first > atomic_load(&engine->first_bad)) {
        return;
    }
    if (engine_forward_chunk(engine, workspace, first, n) && run->loss != NULL) {
        engine_backward_chunk(engine, workspace, lane, first, n);
    }
}

static void chunk_task(void *user, size_t index, size_t thread) {
    run_chunk(user, index, NULL, thread);
}

static void lane_task(void *user, size_t index, size_t thread) {
    struct engine *engine = user;
    float *lane = engine->lanes + index * engine->lane_floats;

    /* Units come first in a lane: a run that wants mask_grad alone need not clear the rest. */
    size_t floats = engine->run->param_grad == NULL ? engine->network->unit_count : engine->lane_floats;
    memset(lane, 0, floats * sizeof *lane);
    for (size_t chunk = index; chunk < engine->chunk_count; chunk += engine->lane_count) {
        run_chunk(engine, chunk, lane, thread);
    }
}

static void add_lanes(const struct engine *engine, size_t offset, size_t count, float *out) {
    memset(out, 0, count * sizeof *out);
    for (size_t lane = 0; lane < engine->used_lanes; lane++) {
        const float *from = engine->lanes + lane * engine->lane_floats + offset;
        for (size_t i = 0; i < count; i++) {
            out[i] += from[i];
        }
    }
}

/* The sum of the gradient of constant `index`, if it is wanted. */
static void reduce_task(void *user, size_t index, size_t thread) {
    const struct engine *engine = user;
    const struct engine_run *run = engine->run;

    (void)thread;
    if (run->param_grad[index] != NULL) {
        size_t count = shape_count(&engine->network->values[index].shape);
        add_lanes(engine, engine->param_offset[index], count, run->param_grad[index]);
    }
}

/* Whole chunks; but where nobody sums by chunk (and no program of oneDNN is compiled for whole ones) an even number of chunks of about the
 * same length, so that no thread waits for the last one. The length must not depend on the threads: a matrix product may
 * round otherwise for another number of rows. */
static void cut_into_chunks(struct engine *engine, const struct engine_run *run) {
    const size_t most = engine->plan->chunk;
    const bool by_chunk = run->loss != NULL || run->train || run->tap != NULL || engine->active != NULL;
    const size_t chunks = 2 * ((run->count + 2 * most - 1) / (2 * most));

    engine->chunk_length = by_chunk || run->count == 0 ? most : (run->count + chunks - 1) / chunks;
    engine->chunk_count = (run->count + engine->chunk_length - 1) / engine->chunk_length;
}

enum status engine_run(struct engine *engine, const struct engine_run *run, struct error *error) {
    char where[ERROR_WHERE_MAX];
    enum status status = check_run(engine, run, error);
    if (status != STATUS_OK) {
        return status;
    }
    engine->run = run;
    atomic_store(&engine->cancelled, false);
    atomic_store(&engine->first_bad, SIZE_MAX);
    engine_dnnl_start(engine);
    cut_into_chunks(engine, run);
    mark_live(engine, run);
    mark_pass(engine, run);
    engine_prepare(engine);
    if (engine->used_lanes > 0) {
        pool_run(engine->pool, engine->used_lanes, lane_task, engine);
    } else {
        pool_run(engine->pool, engine->chunk_count, chunk_task, engine);
    }
    engine->run = NULL;
    if (atomic_load(&engine->cancelled)) {
        return error_set(error, STATUS_CANCELLED, "", "failed to run network: got a request to stop");
    }
    if (engine_dnnl_failed(engine)) {
        return error_no_memory(error, "an operation of oneDNN");
    }
    size_t bad = atomic_load(&engine->first_bad);
    if (bad != SIZE_MAX) {
        (void)snprintf(where, sizeof where, "sample %zu", bad);
        return error_set(error, STATUS_NUMERIC, where, "failed to run network: got logits of NaN or infinity");
    }
    engine->run = run;
    if (run->mask_grad != NULL) {
        add_lanes(engine, 0, engine->network->unit_count, run->mask_grad);
    }
    if (run->param_grad != NULL) {
        pool_run(engine->pool, engine->network->value_count, reduce_task, engine);
    }
    engine->run = NULL;
    return STATUS_OK;
}
