/* One chunk of samples through the network, forward and backward, in one thread. Nothing here allocates or decides: where
 * everything lies was planned, and what this run wants was marked by engine_run(). */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "server/nn/engine_private.h"

/* Arguments that forward and backward of a node have in common. */
static struct op_args make_args(const struct engine *engine, const struct engine_workspace *workspace, size_t index,
                                size_t n) {
    const struct node *node = &engine->network->nodes[index];
    const struct plan_node *step = &engine->plan->nodes[index];

    for (size_t k = 0; k < node->input_count; k++) {
        workspace->in[k] = node->inputs[k] == NETWORK_NONE ? NULL : workspace->read[node->inputs[k]];
    }
    return (struct op_args){
        .network = engine->network,
        .node = node,
        .n = n,
        .in = workspace->in,
        .out = workspace->write[node->output],
        .saved = step->saved == PLAN_NONE ? NULL : workspace->arena + engine->plan->buffers[step->saved].offset,
        .train = engine->run->train,
        .mask = engine->run->mask,
        .fill = engine->run->fill,
    };
}

static float *buffer_or_null(const struct engine *engine, const struct engine_workspace *workspace, size_t buffer) {
    return buffer == PLAN_NONE ? NULL : workspace->arena + engine->plan->buffers[buffer].offset;
}

static void load_input(const struct engine *engine, struct engine_workspace *workspace, size_t first, size_t n) {
    const struct engine_run *run = engine->run;
    size_t input = engine->network->input;

    if (run->input != NULL) {
        workspace->read[input] = run->input + first * shape_count(&engine->network->values[input].shape);
        return;
    }
    run->fill_input(run->user, first, n, workspace->write[input]);
    workspace->read[input] = workspace->write[input];
}

/* Where a chunk's part of each value of a state lies; with `save` it is written, else it is what readers of the value read.
 * Nobody writes there: a row that works in place writes over its own buffer in the arena. */
static void pass_cut(const struct engine *engine, struct engine_workspace *workspace, const struct engine_cut *cut,
                     size_t first, size_t n, bool save) {
    float *state = cut->state;

    for (size_t v = 0; v < engine->network->value_count; v++) {
        if (!engine_value_crosses(engine, v, cut->node)) {
            continue;
        }
        const size_t floats = shape_count(&engine->network->values[v].shape);
        if (save) {
            memcpy(state + first * floats, workspace->read[v], n * floats * sizeof *state);
        } else {
            workspace->read[v] = state + first * floats;
        }
        state += engine->run->count * floats;
    }
}

/* A Mask that changes nothing costs nothing: its readers read its input. In a forward plan this is safe only in place (else
 * the input may be gone before the output's last reader); in a backward plan the input is kept until the Mask's backward,
 * which is after all who read the output. */
static bool passes(const struct engine *engine, size_t index) {
    const struct plan_node *step = &engine->plan->nodes[index];
    return engine->pass[index] && (step->in_place || step->reached);
}

static void forward_node(struct engine *engine, struct engine_workspace *workspace, size_t index, size_t first,
                         size_t n) {
    const struct engine_run *run = engine->run;
    const struct node *node = &engine->network->nodes[index];
    const struct plan_node *step = &engine->plan->nodes[index];

    if (node->op == OP_MASK && run->tap != NULL) {
        run->tap(run->user, node->attr.mask_layer, first, n, workspace->read[node->inputs[0]]);
    }
    if (step->pure_alias || passes(engine, index)) {
        workspace->read[node->output] = workspace->read[node->inputs[0]];
        return;
    }
    struct op_args args = make_args(engine, workspace, index, n);
    args.scratch = buffer_or_null(engine, workspace, step->scratch);
    args.prepared = engine->prepared[2 * index].floats;
    if (!engine_dnnl_forward(engine, (size_t)(workspace - engine->workspaces), index, &args)) {
        step->op->forward(&args);
    }
    workspace->read[node->output] = args.out;
    if (node->op == OP_BATCH_NORM && run->train && run->batch_stats != NULL) {
        size_t channels = engine->network->values[node->output].shape.dim[1];
        run->batch_stats(run->user, index, first, n, args.saved, args.saved + channels);
    }
}

/* Index of the first sample with a logit that is not finite, n if there is none. */
static size_t find_bad(const float *logits, size_t n, size_t classes) {
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < classes; k++) {
            if (!isfinite(logits[i * classes + k])) {
                return i;
            }
        }
    }
    return n;
}

bool engine_forward_chunk(struct engine *engine, struct engine_workspace *workspace, size_t first, size_t n) {
    const struct engine_run *run = engine->run;
    size_t output = engine->network->output;
    size_t classes = engine->network->values[output].shape.dim[1];

    const size_t thread = (size_t)(workspace - engine->workspaces);
    size_t start = 0, saved = 0;

    if (run->start != NULL) {
        start = run->start->node;
        pass_cut(engine, workspace, run->start, first, n, false);
    } else {
        load_input(engine, workspace, first, n);
        if (engine->active != NULL) {
            backend_dnnl_program_take(engine->active, thread, engine->network->input, n, workspace->read);
        }
    }
    for (size_t i = start; i < engine->network->node_count; i++) {
        if (saved < run->save_count && run->saves[saved].node == i) {
            pass_cut(engine, workspace, &run->saves[saved++], first, n, true);
        }
        if (engine->active != NULL &&
            backend_dnnl_program_step(engine->active, thread, i, n, workspace->read, workspace->write)) {
            continue;
        }
        forward_node(engine, workspace, i, first, n);
        if (engine->active != NULL) {
            backend_dnnl_program_take(engine->active, thread, engine->network->nodes[i].output, n, workspace->read);
        }
    }
    const float *logits = workspace->read[output];
    if (run->logits != NULL) {
        memcpy(run->logits + first * classes, logits, n * classes * sizeof *logits);
    }
    size_t bad = find_bad(logits, n, classes);
    if (bad == n) {
        return true;
    }
    size_t seen = atomic_load(&engine->first_bad);
    while (first + bad < seen && !atomic_compare_exchange_weak(&engine->first_bad, &seen, first + bad)) {
        /* `seen` was reloaded: another thread found a sample, maybe an earlier one. */
    }
    return false;
}

static void backward_node(struct engine *engine, struct engine_workspace *workspace, float *lane, size_t index,
                          size_t n) {
    const struct node *node = &engine->network->nodes[index];
    const struct plan_node *step = &engine->plan->nodes[index];
    float *mask_grad = node->op == OP_MASK && engine->run->mask_grad != NULL ? lane : NULL;

    if (step->grad_alias && (step->pure_alias || (passes(engine, index) && mask_grad == NULL))) {
        return; /* din[0] is dout already */
    }
    struct op_args args = make_args(engine, workspace, index, n);
    for (size_t k = 0; k < node->input_count; k++) {
        size_t value = node->inputs[k];
        workspace->din[k] = NULL;
        if (value == NETWORK_NONE || !engine->live[value]) {
            continue;
        }
        bool constant = engine->network->values[value].kind == VALUE_CONSTANT;
        workspace->din[k] = constant ? lane + engine->param_offset[value] : workspace->grad[value];
    }
    args.scratch = buffer_or_null(engine, workspace, step->scratch_backward);
    args.prepared = engine->prepared[2 * index + 1].floats;
    args.mask_grad = mask_grad;
    args.dout = workspace->grad[node->output];
    args.din = workspace->din;
    args.accumulate = engine->plan->accumulate + step->first_input;
    engine_dnnl_backward(engine, (size_t)(workspace - engine->workspaces), index, &args, workspace->din);
    step->op->backward(&args);
}

void engine_backward_chunk(struct engine *engine, struct engine_workspace *workspace, float *lane, size_t first,
                           size_t n) {
    const struct engine_run *run = engine->run;
    const struct network *network = engine->network;

    run->loss(run->user, first, n, workspace->read[network->output], workspace->grad[network->output]);
    for (size_t i = network->node_count; i-- > 0;) {
        if (engine->plan->nodes[i].reached && engine->live[network->nodes[i].output]) {
            backward_node(engine, workspace, lane, i, n);
        }
    }
    if (run->input_grad != NULL) {
        run->input_grad(run->user, first, n, workspace->read[network->input], workspace->grad[network->input]);
    }
}
