/* What oneDNN runs in an engine: programs for forward passes, and single convolutions for engines with a backward pass, whose
 * activations stay plain. */
#include "common/mem.h"
#include "server/nn/backend.h"
#include "server/nn/engine_private.h"

/* The convolutions of an engine with a backward pass; those that oneDNN lacks stay with their row. */
static enum status new_layers(struct engine *engine, struct error *error) {
    const struct network *network = engine->network;
    enum status status = backend_dnnl_new(&engine->dnnl, error);

    if (status != STATUS_OK) {
        return status;
    }
    engine->layers = mem_calloc(network->node_count, sizeof(struct backend_dnnl_layer *));
    if (engine->layers == NULL) {
        return error_no_memory(error, "convolutions of a network");
    }
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        const struct plan_node *step = &engine->plan->nodes[i];
        if (node->op != OP_CONV || network->values[node->inputs[0]].shape.dim[0] != 1) {
            continue;
        }
        const struct conv_shape shape = conv_shape_of(network, node);
        status = backend_dnnl_layer_new(engine->dnnl, &shape, engine->plan->chunk, engine->threads, step->reached,
                                        engine->plan->accumulate[step->first_input], &engine->layers[i]);
        if (status == STATUS_NO_MEMORY) {
            return error_no_memory(error, "convolutions of a network");
        }
        engine->bytes += status == STATUS_OK ? backend_dnnl_layer_bytes(engine->layers[i]) : 0;
    }
    return STATUS_OK;
}

enum status engine_dnnl_new(struct engine *engine, const struct engine_options *options, struct error *error) {
    const size_t chunk = engine->plan->chunk;
    const bool asked = backend_choice() == BACKEND_DNNL;
    enum status status = STATUS_OK;

    atomic_init(&engine->dnnl_failed, false);
    if (backend_runs_dnnl(engine->network)) {
        status = backend_dnnl_program_new(engine->network, chunk, engine->threads, BACKEND_DNNL_F32, &engine->program,
                                          error);
    }
    if (status == STATUS_OK && options->rank && backend_ranks_in_bf16()) {
        status = backend_dnnl_program_new(engine->network, chunk, engine->threads, BACKEND_DNNL_BF16,
                                          &engine->rank_program, error);
    }
    if (status == STATUS_OK && asked && options->backward) {
        status = new_layers(engine, error);
    }
    engine->bytes += engine->program != NULL ? backend_dnnl_program_bytes(engine->program) : 0;
    engine->bytes += engine->rank_program != NULL ? backend_dnnl_program_bytes(engine->rank_program) : 0;
    if (status == STATUS_OK && options->max_bytes != 0 && engine->bytes > options->max_bytes) {
        status =
            error_set(error, STATUS_LIMIT, "", "failed to plan network for oneDNN: got %zu bytes, expected at most %zu",
                      engine->bytes, options->max_bytes);
    }
    return status;
}

void engine_dnnl_free(struct engine *engine) {
    for (size_t i = 0; engine->layers != NULL && i < engine->network->node_count; i++) {
        backend_dnnl_layer_free(engine->layers[i]);
    }
    mem_free(engine->layers);
    backend_dnnl_program_free(engine->rank_program);
    backend_dnnl_program_free(engine->program);
    backend_dnnl_free(engine->dnnl);
}

static void prepare_layer(void *user, size_t index, size_t thread) {
    struct engine *engine = user;
    const struct node *node = &engine->network->nodes[index];

    if (engine->layers[index] != NULL) {
        const bool bias = node->input_count > 2 && node->inputs[2] != NETWORK_NONE;
        const uint64_t version = network_constant_hash(engine->network, node->inputs[1]) * 31 ^
                                 (bias ? network_constant_hash(engine->network, node->inputs[2]) : 0);
        if (!backend_dnnl_layer_prepare(engine->layers[index], thread, version,
                                        engine->network->values[node->inputs[1]].data,
                                        bias ? engine->network->values[node->inputs[2]].data : NULL)) {
            atomic_store(&engine->dnnl_failed, true);
        }
    }
}

void engine_dnnl_start(struct engine *engine) {
    const struct engine_run *run = engine->run;
    const bool plain = run->loss != NULL || run->train || run->tap != NULL || run->start != NULL || run->saves != NULL;

    atomic_store(&engine->dnnl_failed, false);
    engine->active = plain ? NULL : run->rank && engine->rank_program != NULL ? engine->rank_program : engine->program;
    if (engine->active != NULL) {
        backend_dnnl_program_prepare(engine->active, engine->pool, run->mask, run->fill);
    } else if (engine->layers != NULL) {
        pool_run(engine->pool, engine->network->node_count, prepare_layer, engine);
    }
}

bool engine_dnnl_failed(const struct engine *engine) {
    return atomic_load(&engine->dnnl_failed) || (engine->active != NULL && backend_dnnl_program_failed(engine->active));
}

static void note(struct engine *engine, bool ok) {
    if (!ok) {
        atomic_store(&engine->dnnl_failed, true);
    }
}

bool engine_dnnl_forward(struct engine *engine, size_t thread, size_t node, const struct op_args *args) {
    struct backend_dnnl_layer *layer = engine->layers != NULL ? engine->layers[node] : NULL;

    if (layer != NULL) {
        note(engine, backend_dnnl_layer_forward(layer, thread, args->n, args->in[0], args->out));
    }
    return layer != NULL;
}

void engine_dnnl_backward(struct engine *engine, size_t thread, size_t node, const struct op_args *args, float **din) {
    struct backend_dnnl_layer *layer = engine->layers != NULL ? engine->layers[node] : NULL;

    if (layer == NULL) {
        return;
    }
    if (din[0] != NULL) {
        note(engine, backend_dnnl_layer_data(layer, thread, args->n, args->dout, din[0]));
    }
    if (din[1] != NULL) {
        note(engine, backend_dnnl_layer_weight(layer, thread, args->n, args->in[0], args->dout, din[1]));
    }
    din[0] = din[1] = NULL;
}
