/* Making a program: groups that oneDNN has operations for, where values live, memory, and the calls of each thread. */
#include "server/nn/backend_dnnl_build.h"

#include "common/mem.h"

static size_t element_bytes(const struct backend_dnnl_program *p) {
    return p->type == BACKEND_DNNL_BF16 ? 2 : 4;
}

static struct backend_dnnl_tensor tensor_of(const struct backend_dnnl_program *p, size_t value, size_t n, bool fast) {
    const struct shape *shape = &p->network->values[value].shape;
    struct backend_dnnl_tensor tensor = {.rank = backend_dnnl_is_image(&p->network->values[value]) ? 4 : 2,
                                         .dim = {n, shape_count(shape)},
                                         .type = fast ? p->type : BACKEND_DNNL_F32,
                                         .layout = fast ? BACKEND_DNNL_LAST : BACKEND_DNNL_PLAIN};
    for (size_t d = 1; d < tensor.rank && tensor.rank == 4; d++) {
        tensor.dim[d] = shape->dim[d];
    }
    return tensor;
}

static bool plain_is_fast(const struct backend_dnnl_program *p, size_t value) {
    const struct shape *shape = &p->network->values[value].shape;

    return p->type == BACKEND_DNNL_F32 && (!backend_dnnl_is_image(&p->network->values[value]) || shape->dim[1] == 1 ||
                                           shape->dim[2] * shape->dim[3] == 1);
}

static enum status new_conv(struct backend_dnnl_program *p, const struct backend_dnnl_group *group, size_t n,
                            struct backend_dnnl_op **out) {
    const struct node *node = &p->network->nodes[group->nodes[0]];
    const struct conv_shape shape = conv_shape_of(p->network, node);
    const struct backend_dnnl_conv conv = {.shape = &shape,
                                           .n = n,
                                           .pass = CONV_FORWARD,
                                           .type = p->type,
                                           .layout = BACKEND_DNNL_LAST,
                                           .bias = true,
                                           .other = group->other != NETWORK_NONE,
                                           .activation = group->activation};
    return backend_dnnl_conv_new(p->dnnl, &conv, out);
}

static enum status new_pool(struct backend_dnnl_program *p, const struct backend_dnnl_group *group, size_t n,
                            struct backend_dnnl_op **out) {
    const struct node *node = &p->network->nodes[group->nodes[0]];
    const struct backend_dnnl_tensor x = tensor_of(p, group->input, n, true), y = tensor_of(p, group->output, n, true);
    const struct window_attr whole = {.kernel = {x.dim[2], x.dim[3]}, .stride = {1, 1}, .dilation = {1, 1}};

    return node->op == OP_GLOBAL_AVERAGE_POOL
               ? backend_dnnl_pool_new(p->dnnl, OP_AVERAGE_POOL, &whole, &x, &y, out)
               : backend_dnnl_pool_new(p->dnnl, node->op, &node->attr.window, &x, &y, out);
}

static enum status new_concat(struct backend_dnnl_program *p, const struct backend_dnnl_group *group, size_t n,
                              struct backend_dnnl_op **out) {
    const struct node *node = &p->network->nodes[group->nodes[0]];
    struct backend_dnnl_tensor in[BACKEND_DNNL_ARGS_MAX];

    if (node->input_count + 1 > BACKEND_DNNL_ARGS_MAX) {
        return STATUS_UNSUPPORTED;
    }
    for (size_t k = 0; k < node->input_count; k++) {
        in[k] = tensor_of(p, node->inputs[k], n, true);
    }
    return backend_dnnl_concat_new(p->dnnl, in, node->input_count, out);
}

static enum status new_op(struct backend_dnnl_program *p, const struct backend_dnnl_group *group, size_t n,
                          struct backend_dnnl_op **out) {
    const struct backend_dnnl_tensor x = tensor_of(p, group->input, n, true);

    switch (group->kind) {
    case GROUP_CONV:
        return new_conv(p, group, n, out);
    case GROUP_INNER:
        return backend_dnnl_inner_new(p->dnnl,
                                      &(struct backend_dnnl_inner){.n = n,
                                                                   .k = x.dim[1],
                                                                   .m = tensor_of(p, group->output, n, true).dim[1],
                                                                   .type = p->type,
                                                                   .out_type = BACKEND_DNNL_F32,
                                                                   .activation = group->activation},
                                      out);
    case GROUP_AFFINE:
        return backend_dnnl_affine_new(p->dnnl, &x, &group->activation, out);
    case GROUP_ADD:
        return backend_dnnl_add_new(p->dnnl, &x, &group->activation, out);
    case GROUP_ACTIVATION:
        return backend_dnnl_activation_new(p->dnnl, &x, &group->activation, out);
    case GROUP_POOL:
        return new_pool(p, group, n, out);
    case GROUP_CONCAT:
        return new_concat(p, group, n, out);
    default:
        return STATUS_UNSUPPORTED;
    }
}

void backend_dnnl_free_step(const struct backend_dnnl_program *p, struct dnnl_step *step) {
    for (size_t i = 0; step->calls != NULL && i < p->threads * VARIANTS; i++) {
        backend_dnnl_call_free(step->calls[i]);
    }
    mem_free(step->calls);
    for (size_t v = 0; v < VARIANTS; v++) {
        backend_dnnl_call_free(step->packing[v]);
        backend_dnnl_op_free(step->pack[v]);
        backend_dnnl_op_free(step->op[v]);
        mem_free(step->weight[v]);
    }
    *step = (struct dnnl_step){.calls = NULL};
}

static enum status new_group_step(struct backend_dnnl_program *p, const struct backend_dnnl_group *group,
                                  struct dnnl_step *step) {
    enum status status = new_op(p, group, p->chunk, &step->op[WHOLE]);

    if (status == STATUS_OK) {
        status = new_op(p, group, 1, &step->op[SINGLE]);
    }
    for (size_t v = 0; v < VARIANTS && status == STATUS_OK; v++) {
        if (group->kind == GROUP_CONV || group->kind == GROUP_INNER) {
            status = backend_dnnl_pack_new(p->dnnl, step->op[v], BACKEND_DNNL_WEIGHT, &step->pack[v]);
        }
    }
    if (status != STATUS_OK) {
        backend_dnnl_free_step(p, step);
    }
    return status;
}

/* Are the inputs made by operations already? A convolution or product is worth carrying them over, the rest is not. */
static bool inputs_suit(const struct backend_dnnl_program *p, const struct backend_dnnl_group *group) {
    const struct node *node = &p->network->nodes[group->nodes[0]];

    if (group->kind == GROUP_CONV || group->kind == GROUP_INNER) {
        return true;
    }
    for (size_t k = 0; k < node->input_count; k++) {
        const size_t v = node->inputs[k];
        if (v != NETWORK_NONE && p->network->values[v].kind != VALUE_CONSTANT &&
            (!p->places[v].fast || plain_is_fast(p, v))) {
            return false;
        }
    }
    return true;
}

/* Nodes behind the head make the group run later than the head would. Values that live in the engine's memory may be gone by
 * then, or lie where the group writes, so such a head stays alone. */
static bool may_follow(const struct backend_dnnl_program *p, const struct backend_dnnl_group *group) {
    return group->node_count == 1 ||
           (!plain_is_fast(p, group->input) && (group->kind == GROUP_INNER || !plain_is_fast(p, group->output)));
}

/* Forms the largest group at `head` that oneDNN has an operation for. */
static enum status try_head(struct backend_dnnl_program *p, size_t head) {
    struct dnnl_unit unit = {.row = 0};
    enum status status = STATUS_UNSUPPORTED;

    backend_dnnl_form(p->network, p->consumer, p->used, head, GROUP_NODES_MAX, &unit.group);
    for (size_t followers = unit.group.node_count; followers-- > 0 && status == STATUS_UNSUPPORTED;) {
        backend_dnnl_form(p->network, p->consumer, p->used, head, followers, &unit.group);
        if (unit.group.kind == GROUP_NONE || !inputs_suit(p, &unit.group)) {
            return STATUS_OK;
        }
        status = may_follow(p, &unit.group) ? new_group_step(p, &unit.group, &unit.step) : STATUS_UNSUPPORTED;
    }
    if (status != STATUS_OK) {
        return status == STATUS_UNSUPPORTED ? STATUS_OK : status;
    }
    for (size_t i = 0; i < unit.group.node_count; i++) {
        p->used[unit.group.nodes[i]] = true;
    }
    p->unit_at[unit.group.nodes[unit.group.node_count - 1]] = p->unit_count;
    p->places[unit.group.output].fast = unit.group.kind != GROUP_INNER;
    p->units[p->unit_count++] = unit;
    return STATUS_OK;
}

/* Who needs which form of each value. */
static void find_needs(struct backend_dnnl_program *p) {
    const struct network *network = p->network;

    p->places[network->output].needs_plain = true;
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        for (size_t k = 0; k < node->input_count && !p->used[i]; k++) {
            if (node->inputs[k] != NETWORK_NONE) {
                p->places[node->inputs[k]].needs_plain = true;
            }
        }
    }
    for (size_t u = 0; u < p->unit_count; u++) {
        const struct backend_dnnl_group *group = &p->units[u].group;
        const struct node *node = &network->nodes[group->nodes[0]];
        p->places[group->input].needs_fast = true;
        if (group->other != NETWORK_NONE) {
            p->places[group->other].needs_fast = true;
        }
        for (size_t k = 0; k < node->input_count && group->kind == GROUP_CONCAT; k++) {
            p->places[node->inputs[k]].needs_fast = true;
        }
    }
    for (size_t v = 0; v < network->value_count; v++) {
        p->places[v].same = plain_is_fast(p, v);
    }
}

/* The last node at which the fast form of a value is read, at least `last`. */
static size_t last_read(const struct backend_dnnl_program *p, size_t value, size_t last) {
    for (size_t i = 0; i < p->network->node_count; i++) {
        if (p->unit_at[i] == PLAN_NONE) {
            continue;
        }
        const struct backend_dnnl_group *group = &p->units[p->unit_at[i]].group;
        const struct node *node = &p->network->nodes[group->nodes[0]];
        bool reads = group->input == value || group->other == value;
        for (size_t k = 0; k < node->input_count && group->kind == GROUP_CONCAT; k++) {
            reads = reads || node->inputs[k] == value;
        }
        last = reads && i > last ? i : last;
    }
    return last;
}

/* Buffers of the fast forms, and the operations that carry values from one form to the other. */
static enum status place_values(struct backend_dnnl_program *p, struct error *error) {
    const struct network *network = p->network;
    enum status status = STATUS_OK;

    p->buffers = mem_calloc(network->value_count, sizeof *p->buffers);
    if (p->buffers == NULL) {
        return error_no_memory(error, "program of a network");
    }
    for (size_t v = 0; v < network->value_count && status == STATUS_OK; v++) {
        struct dnnl_place *place = &p->places[v];
        const size_t producer = network->values[v].producer, first = producer == NETWORK_NONE ? 0 : producer;
        place->buffer = PLAN_NONE;
        if (place->same || (!place->fast && !place->needs_fast)) {
            continue;
        }
        const size_t bytes = p->chunk * shape_count(&network->values[v].shape) * element_bytes(p);
        place->buffer = p->buffer_count;
        p->buffers[p->buffer_count++] =
            (struct plan_buffer){.floats = (bytes + 3) / 4, .first = first, .last = last_read(p, v, first)};
        if (place->fast ? place->needs_plain : place->needs_fast) {
            for (size_t i = 0; i < VARIANTS && status == STATUS_OK; i++) {
                const size_t n = i == WHOLE ? p->chunk : 1;
                const struct backend_dnnl_tensor from = tensor_of(p, v, n, place->fast),
                                                 to = tensor_of(p, v, n, !place->fast);
                status = backend_dnnl_reorder_new(p->dnnl, &from, &to, &place->carry.op[i]);
            }
        }
    }
    if (status != STATUS_OK) {
        return status == STATUS_NO_MEMORY ? error_no_memory(error, "program of a network") : status;
    }
    size_t floats = 0;
    status = plan_place(p->buffers, p->buffer_count, &floats, error);
    p->arena_bytes = floats * 4;
    return status;
}

/* Weights, folds and vectors of a unit. */
static bool allocate_unit(struct backend_dnnl_program *p, struct dnnl_unit *unit) {
    const struct backend_dnnl_group *group = &unit->group;
    const struct node *node = &p->network->nodes[group->nodes[0]];
    const bool weights = group->kind == GROUP_CONV || group->kind == GROUP_INNER;

    if (!weights && group->kind != GROUP_AFFINE) {
        return true;
    }
    unit->channels = p->network->values[group->output].shape.dim[1];
    unit->row = weights ? shape_count(&p->network->values[node->inputs[1]].shape) / unit->channels : 0;
    unit->fold = mem_aligned(unit->channels * (unit->row + 1), sizeof *unit->fold);
    unit->vector[0] = mem_aligned(unit->channels, sizeof *unit->vector[0]);
    unit->vector[1] = mem_aligned(unit->channels, sizeof *unit->vector[1]);
    bool ok = unit->fold != NULL && unit->vector[0] != NULL && unit->vector[1] != NULL;
    for (size_t v = 0; v < VARIANTS && ok && weights; v++) {
        const size_t bytes = backend_dnnl_bytes(unit->step.op[v], BACKEND_DNNL_WEIGHT);
        unit->step.weight[v] = mem_aligned(bytes, 1);
        ok = unit->step.weight[v] != NULL;
        p->weight_bytes += bytes;
    }
    p->weight_bytes += unit->channels * (unit->row + 3) * sizeof(float);
    return ok;
}

static void need_scratch(struct backend_dnnl_program *p, const struct backend_dnnl_op *op) {
    const size_t bytes = backend_dnnl_scratch_bytes(op);

    p->scratch_bytes = bytes > p->scratch_bytes ? bytes : p->scratch_bytes;
}

static enum status bind_packing(struct backend_dnnl_program *p, struct dnnl_unit *unit) {
    enum status status = STATUS_OK;

    for (size_t v = 0; v < VARIANTS && status == STATUS_OK; v++) {
        if (unit->step.pack[v] != NULL) {
            void *const fixed[BACKEND_DNNL_ARGS_MAX] = {unit->fold, unit->step.weight[v]};
            need_scratch(p, unit->step.pack[v]);
            status = backend_dnnl_call_new(p->dnnl, unit->step.pack[v], fixed, &unit->step.packing[v]);
        }
    }
    return status;
}

static enum status bind_step(struct backend_dnnl_program *p, struct dnnl_step *step, float *const *vector) {
    enum status status = STATUS_OK;

    if (step->op[WHOLE] == NULL) {
        return STATUS_OK;
    }
    step->calls = mem_calloc(p->threads * VARIANTS, sizeof(struct backend_dnnl_call *));
    if (step->calls == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (size_t i = 0; i < p->threads * VARIANTS && status == STATUS_OK; i++) {
        const size_t v = i % VARIANTS;
        void *fixed[BACKEND_DNNL_ARGS_MAX] = {NULL};
        if (vector != NULL) {
            fixed[BACKEND_DNNL_WEIGHT] = step->weight[v] != NULL ? step->weight[v] : (void *)vector[0];
            fixed[BACKEND_DNNL_BIAS] = vector[1];
        }
        status = backend_dnnl_call_new(p->dnnl, step->op[v], fixed, &step->calls[i]);
        need_scratch(p, step->op[v]);
    }
    return status;
}

static enum status allocate(struct backend_dnnl_program *p, struct error *error) {
    enum status status = STATUS_OK;

    for (size_t u = 0; u < p->unit_count && status == STATUS_OK; u++) {
        struct dnnl_unit *unit = &p->units[u];
        status = allocate_unit(p, unit) ? bind_packing(p, unit) : STATUS_NO_MEMORY;
        if (status == STATUS_OK) {
            status = bind_step(p, &unit->step, unit->vector[0] != NULL ? unit->vector : NULL);
        }
    }
    for (size_t v = 0; v < p->network->value_count && status == STATUS_OK; v++) {
        status = bind_step(p, &p->places[v].carry, NULL);
    }
    p->arenas = mem_calloc(p->threads, sizeof *p->arenas);
    if (p->arenas == NULL) {
        status = STATUS_NO_MEMORY;
    }
    for (size_t t = 0; t < p->threads && status == STATUS_OK; t++) {
        p->arenas[t] = mem_aligned(p->arena_bytes + p->scratch_bytes, 1);
        status = p->arenas[t] == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    }
    return status == STATUS_OK ? STATUS_OK : error_no_memory(error, "program of a network");
}

enum status backend_dnnl_build(struct backend_dnnl_program *p, struct error *error) {
    const struct network *network = p->network;

    p->units = mem_calloc(network->node_count, sizeof *p->units);
    p->unit_at = mem_alloc(network->node_count, sizeof *p->unit_at);
    p->used = mem_calloc(network->node_count, sizeof *p->used);
    p->consumer = mem_alloc(network->value_count, sizeof *p->consumer);
    p->places = mem_calloc(network->value_count, sizeof *p->places);
    if (p->units == NULL || p->unit_at == NULL || p->used == NULL || p->consumer == NULL || p->places == NULL) {
        return error_no_memory(error, "program of a network");
    }
    enum status status = backend_dnnl_new(&p->dnnl, error);
    for (size_t i = 0; i < network->node_count; i++) {
        p->unit_at[i] = PLAN_NONE;
    }
    backend_dnnl_find_consumers(network, p->consumer);
    for (size_t i = 0; i < network->node_count && status == STATUS_OK; i++) {
        status = p->used[i] ? STATUS_OK : try_head(p, i);
    }
    if (status == STATUS_NO_MEMORY) {
        return error_no_memory(error, "program of a network");
    }
    if (status == STATUS_OK) {
        find_needs(p);
        status = place_values(p, error);
    }
    return status == STATUS_OK ? allocate(p, error) : status;
}
