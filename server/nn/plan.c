/* The planner. It goes over the nodes once in forward and once in backward order and gives each value a buffer with the
 * steps during which it must stay intact; plan_place() then gives the buffers their offsets.
 *
 * Values share a buffer where that is free: the output of a Reshape is its input; a row with OP_MAY_ALIAS writes over its
 * first input when nobody reads that any more (in a backward plan: not even backward). Gradients do the same the other way
 * round. (The input's buffer may be written over as well: when the caller gives the input, the engine reads it where it is,
 * and the buffer is other memory.) */
#include "server/nn/plan.h"

#include <stdio.h>

#include "common/mem.h"

/* Working state of one planning. */
struct planner {
    struct plan *plan;
    const struct network *network;
    size_t *last_read;    /* one a value: the last step at which it is read */
    bool *needs_gradient; /* one a value: it, or something behind it, may want a gradient */
    bool *leads;          /* one a value: the logits depend on it */
    size_t buffer_capacity;
};

static size_t steps_forward(const struct planner *planner) {
    return planner->network->node_count;
}

static size_t step_backward(const struct planner *planner, size_t node) {
    return 2 * planner->network->node_count - node;
}

/* The step at which the gradient of a value is used up: backward of its producer, or input_grad. */
static size_t gradient_end(const struct planner *planner, size_t value) {
    size_t producer = planner->network->values[value].producer;
    return producer == NETWORK_NONE ? step_backward(planner, 0) + 1 : step_backward(planner, producer);
}

static bool is_constant(const struct planner *planner, size_t value) {
    return planner->network->values[value].kind == VALUE_CONSTANT;
}

static enum status add_buffer(struct planner *planner, size_t floats, size_t first, size_t last, bool scratch,
                              size_t *index, struct error *error) {
    struct plan *plan = planner->plan;
    if (plan->buffer_count == planner->buffer_capacity) {
        size_t capacity = planner->buffer_capacity == 0 ? 128 : planner->buffer_capacity * 2;
        struct plan_buffer *grown = mem_realloc(plan->buffers, capacity, sizeof *grown);
        if (grown == NULL) {
            return error_no_memory(error, "plan of a network");
        }
        plan->buffers = grown;
        planner->buffer_capacity = capacity;
    }
    plan->buffers[plan->buffer_count] =
        (struct plan_buffer){.floats = floats, .first = first, .last = last, .scratch = scratch};
    *index = plan->buffer_count++;
    return STATUS_OK;
}

/* A buffer for `chunk` samples of a value. */
static enum status add_value_buffer(struct planner *planner, size_t value, size_t first, size_t last, size_t *index,
                                    struct error *error) {
    size_t floats = 0;
    if (!mem_multiply(planner->plan->chunk, shape_count(&planner->network->values[value].shape), &floats)) {
        return error_set(error, STATUS_LIMIT, "", "failed to plan value '%s': got a chunk of %zu samples, too many",
                         planner->network->values[value].name, planner->plan->chunk);
    }
    return add_buffer(planner, floats, first, last, false, index, error);
}

static void extend(struct plan_buffer *buffer, size_t step) {
    buffer->last = step > buffer->last ? step : buffer->last;
}

static void note_read(struct planner *planner, size_t value, size_t step) {
    if (value != NETWORK_NONE && step > planner->last_read[value]) {
        planner->last_read[value] = step;
    }
}

/* Which values may want a gradient, and which nodes therefore run backward. */
static void find_reached(struct planner *planner, const bool *wants_grad) {
    const struct network *network = planner->network;
    struct plan *plan = planner->plan;

    for (size_t v = 0; v < network->value_count; v++) {
        planner->needs_gradient[v] = v == network->input || (wants_grad != NULL && wants_grad[v]);
    }
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        bool needs = node->op == OP_MASK;
        for (size_t k = 0; k < node->input_count && !needs; k++) {
            needs = node->inputs[k] != NETWORK_NONE && planner->needs_gradient[node->inputs[k]];
        }
        planner->needs_gradient[node->output] = needs;
    }
    planner->leads[network->output] = true;
    for (size_t i = network->node_count; i-- > 0;) {
        const struct node *node = &network->nodes[i];
        if (!planner->leads[node->output]) {
            continue;
        }
        plan->nodes[i].reached = plan->backward && planner->needs_gradient[node->output];
        for (size_t k = 0; k < node->input_count; k++) {
            if (node->inputs[k] != NETWORK_NONE) {
                planner->leads[node->inputs[k]] = true;
            }
        }
    }
}

static void find_last_reads(struct planner *planner) {
    const struct network *network = planner->network;
    struct plan *plan = planner->plan;

    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        bool needs_input = (plan->nodes[i].op->flags & OP_NEEDS_INPUT) != 0 || node->op == OP_MASK;
        note_read(planner, node->output, i);
        for (size_t k = 0; k < node->input_count; k++) {
            note_read(planner, node->inputs[k], i);
            if (plan->nodes[i].reached && needs_input) {
                note_read(planner, node->inputs[k], step_backward(planner, i));
            }
        }
        if (plan->nodes[i].reached && (plan->nodes[i].op->flags & OP_NEEDS_OUTPUT) != 0) {
            note_read(planner, node->output, step_backward(planner, i));
        }
    }
    note_read(planner, network->output, steps_forward(planner));
    if (plan->backward) {
        note_read(planner, network->input, step_backward(planner, 0) + 1);
    }
}

/* true if input 0 of the node is the same value, or the same memory, as another of its inputs. */
static bool first_input_repeats(const struct planner *planner, const struct node *node) {
    const size_t *buffer = planner->plan->value_buffer;
    for (size_t k = 1; k < node->input_count; k++) {
        if (node->inputs[k] == NETWORK_NONE) {
            continue;
        }
        if (node->inputs[k] == node->inputs[0] ||
            (buffer[node->inputs[k]] != PLAN_NONE && buffer[node->inputs[k]] == buffer[node->inputs[0]])) {
            return true;
        }
    }
    return false;
}

static bool same_count(const struct planner *planner, size_t a, size_t b) {
    return shape_count(&planner->network->values[a].shape) == shape_count(&planner->network->values[b].shape);
}

/* May the output of node `index` be written over its first input? */
static bool may_run_in_place(const struct planner *planner, size_t index) {
    const struct node *node = &planner->network->nodes[index];
    const struct plan *plan = planner->plan;
    size_t first = node->inputs[0];

    if ((plan->nodes[index].op->flags & OP_MAY_ALIAS) == 0 || first == NETWORK_NONE || is_constant(planner, first)) {
        return false;
    }
    return plan->buffers[plan->value_buffer[first]].last <= index && same_count(planner, first, node->output) &&
           !first_input_repeats(planner, node);
}

static enum status plan_forward_node(struct planner *planner, size_t index, struct error *error) {
    struct plan *plan = planner->plan;
    struct plan_node *step = &plan->nodes[index];
    const struct node *node = &planner->network->nodes[index];
    size_t end = planner->last_read[node->output];

    step->pure_alias = node->op == OP_RESHAPE || node->op == OP_IDENTITY;
    step->in_place = !step->pure_alias && may_run_in_place(planner, index);
    if (step->pure_alias || step->in_place) {
        size_t buffer = plan->value_buffer[node->inputs[0]];
        plan->value_buffer[node->output] = buffer;
        extend(&plan->buffers[buffer], end);
    } else {
        enum status status =
            add_value_buffer(planner, node->output, index, end, &plan->value_buffer[node->output], error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    if (step->pure_alias) {
        return STATUS_OK;
    }
    size_t scratch =
        step->op->scratch_floats == NULL ? 0 : step->op->scratch_floats(planner->network, node, plan->chunk, false);
    return scratch == 0 ? STATUS_OK : add_buffer(planner, scratch, index, index, true, &step->scratch, error);
}

/* Saved floats are kept even for nodes that backward does not reach: training statistics come from them. */
static enum status plan_saved(struct planner *planner, size_t index, struct error *error) {
    struct plan_node *step = &planner->plan->nodes[index];
    const struct node *node = &planner->network->nodes[index];

    if (step->op->saved_floats == NULL) {
        return STATUS_OK;
    }
    step->saved_floats = step->op->saved_floats(planner->network, node, planner->plan->chunk);
    if (step->saved_floats == 0) {
        return STATUS_OK;
    }
    size_t last = step->reached ? step_backward(planner, index) : index;
    return add_buffer(planner, step->saved_floats, index, last, false, &step->saved, error);
}

/* The buffer for the gradient of input k of a node, which is written for the first time here. */
static enum status start_gradient(struct planner *planner, size_t index, size_t k, struct error *error) {
    struct plan *plan = planner->plan;
    struct plan_node *step = &plan->nodes[index];
    const struct node *node = &planner->network->nodes[index];
    size_t value = node->inputs[k];
    size_t end = gradient_end(planner, value);
    bool may_alias = step->pure_alias || (step->op->flags & OP_MAY_ALIAS) != 0;

    if (k == 0 && may_alias && same_count(planner, value, node->output) && !first_input_repeats(planner, node)) {
        step->grad_alias = true;
        plan->grad_buffer[value] = plan->grad_buffer[node->output];
        extend(&plan->buffers[plan->grad_buffer[value]], end);
        return STATUS_OK;
    }
    return add_value_buffer(planner, value, step_backward(planner, index), end, &plan->grad_buffer[value], error);
}

static enum status plan_backward_node(struct planner *planner, size_t index, struct error *error) {
    struct plan *plan = planner->plan;
    struct plan_node *step = &plan->nodes[index];
    const struct node *node = &planner->network->nodes[index];
    enum status status = STATUS_OK;

    for (size_t k = 0; k < node->input_count && status == STATUS_OK; k++) {
        size_t value = node->inputs[k];
        if (value == NETWORK_NONE || !planner->needs_gradient[value]) {
            continue;
        }
        if (is_constant(planner, value) || plan->grad_buffer[value] != PLAN_NONE) {
            plan->accumulate[step->first_input + k] = true;
        } else {
            status = start_gradient(planner, index, k, error);
        }
    }
    size_t scratch =
        step->op->scratch_floats == NULL ? 0 : step->op->scratch_floats(planner->network, node, plan->chunk, true);
    if (status == STATUS_OK && scratch > 0) {
        size_t at = step_backward(planner, index);
        status = add_buffer(planner, scratch, at, at, true, &step->scratch_backward, error);
    }
    return status;
}

static enum status plan_all(struct planner *planner, struct error *error) {
    const struct network *network = planner->network;
    struct plan *plan = planner->plan;
    enum status status = add_value_buffer(planner, network->input, 0, planner->last_read[network->input],
                                          &plan->value_buffer[network->input], error);

    for (size_t i = 0; i < network->node_count && status == STATUS_OK; i++) {
        status = plan_forward_node(planner, i, error);
        if (status == STATUS_OK && plan->backward) {
            status = plan_saved(planner, i, error);
        }
    }
    if (status == STATUS_OK && plan->backward) {
        status = add_value_buffer(planner, network->output, steps_forward(planner),
                                  gradient_end(planner, network->output), &plan->grad_buffer[network->output], error);
    }
    for (size_t i = network->node_count; i-- > 0 && status == STATUS_OK;) {
        if (plan->nodes[i].reached) {
            status = plan_backward_node(planner, i, error);
        }
    }
    return status;
}

/* Sweeps over the steps and keeps the largest sum of activations alive. */
static enum status find_peak(struct plan *plan, struct error *error) {
    size_t steps = 2 * plan->network->node_count + 3;
    size_t *begins = mem_calloc(steps, sizeof *begins);
    size_t *ends = mem_calloc(steps, sizeof *ends);
    enum status status = STATUS_OK;

    if (begins == NULL || ends == NULL) {
        status = error_no_memory(error, "plan of a network");
        goto done;
    }
    for (size_t i = 0; i < plan->buffer_count; i++) {
        if (!plan->buffers[i].scratch) {
            begins[plan->buffers[i].first] += plan->buffers[i].floats;
            ends[plan->buffers[i].last] += plan->buffers[i].floats;
        }
    }
    size_t live = 0;
    for (size_t i = 0; i < steps; i++) {
        live += begins[i];
        plan->peak_floats = live > plan->peak_floats ? live : plan->peak_floats;
        live -= ends[i];
    }

done:
    mem_free(ends);
    mem_free(begins);
    return status;
}

/* Allocates the tables of a plan and looks up the rows. */
static enum status start_plan(struct plan *plan, struct error *error) {
    const struct network *network = plan->network;
    size_t inputs = 0;

    plan->nodes = mem_calloc(network->node_count, sizeof *plan->nodes);
    plan->value_buffer = mem_calloc(network->value_count, sizeof *plan->value_buffer);
    plan->grad_buffer = mem_calloc(network->value_count, sizeof *plan->grad_buffer);
    if (plan->nodes == NULL || plan->value_buffer == NULL || plan->grad_buffer == NULL) {
        return error_no_memory(error, "plan of a network");
    }
    for (size_t v = 0; v < network->value_count; v++) {
        plan->value_buffer[v] = PLAN_NONE;
        plan->grad_buffer[v] = PLAN_NONE;
    }
    plan->max_inputs = 1;
    for (size_t i = 0; i < network->node_count; i++) {
        plan->nodes[i] = (struct plan_node){.op = op_find(network->nodes[i].op),
                                            .scratch = PLAN_NONE,
                                            .scratch_backward = PLAN_NONE,
                                            .saved = PLAN_NONE,
                                            .first_input = inputs};
        size_t count = network->nodes[i].input_count;
        inputs += count;
        plan->max_inputs = count > plan->max_inputs ? count : plan->max_inputs;
    }
    plan->accumulate = mem_calloc(inputs, sizeof *plan->accumulate);
    return plan->accumulate == NULL ? error_no_memory(error, "plan of a network") : STATUS_OK;
}

enum status plan_new(const struct network *network, size_t chunk, bool backward, const bool *wants_grad,
                     struct plan **out, struct error *error) {
    struct planner planner = {.network = network};
    enum status status = STATUS_OK;

    if (network->input == NETWORK_NONE || network->output == NETWORK_NONE) {
        return error_set(error, STATUS_INVALID, "", "failed to plan network: got no %s, expected one",
                         network->input == NETWORK_NONE ? "input" : "output");
    }
    planner.plan = mem_calloc(1, sizeof *planner.plan);
    planner.last_read = mem_calloc(network->value_count, sizeof *planner.last_read);
    planner.needs_gradient = mem_calloc(network->value_count, sizeof *planner.needs_gradient);
    planner.leads = mem_calloc(network->value_count, sizeof *planner.leads);
    if (planner.plan == NULL || planner.last_read == NULL || planner.needs_gradient == NULL || planner.leads == NULL) {
        status = error_no_memory(error, "plan of a network");
        goto done;
    }
    planner.plan->network = network;
    planner.plan->chunk = chunk;
    planner.plan->backward = backward;
    status = start_plan(planner.plan, error);
    if (status != STATUS_OK) {
        goto done;
    }
    find_reached(&planner, wants_grad);
    find_last_reads(&planner);
    status = plan_all(&planner, error);
    if (status == STATUS_OK) {
        status = plan_place(planner.plan->buffers, planner.plan->buffer_count, &planner.plan->arena_floats, error);
    }
    if (status == STATUS_OK) {
        status = find_peak(planner.plan, error);
    }
    if (status == STATUS_OK) {
        *out = planner.plan;
        planner.plan = NULL;
    }

done:
    mem_free(planner.leads);
    mem_free(planner.needs_gradient);
    mem_free(planner.last_read);
    plan_free(planner.plan);
    return status;
}

void plan_free(struct plan *plan) {
    if (plan == NULL) {
        return;
    }
    mem_free(plan->buffers);
    mem_free(plan->accumulate);
    mem_free(plan->grad_buffer);
    mem_free(plan->value_buffer);
    mem_free(plan->nodes);
    mem_free(plan);
}
