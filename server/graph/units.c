/* Prunable units from the data flow.
 *
 * One pass over the nodes in topological order decides which values have units; a walk back from the output first marks the layer
 * that makes the logits. Then the origins of the channels that meet in an Add tie units into groups. */
#include "server/graph/units.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/mem.h"
#include "server/graph/flow.h"
#include "server/graph/origins.h"

/* What is known of a value while the nodes are gone through. */
struct trace {
    size_t depth;   /* weight layers on the longest path to it */
    bool has_units; /* units of some layer come before it with no weight layer between */
    bool covered;   /* its channels are those of one unit layer: a BatchNorm that alone reads it adds no new units */
};

struct finder {
    const struct network *network;
    struct flow *flow;
    bool *in_head;        /* (nodes): between the layer that makes the logits and the output, that layer included */
    bool *absorbed;       /* (nodes): Add or BatchNorm that belongs to a weight layer's units */
    struct trace *traces; /* (values) */
    struct unit_map *map;
    size_t capacity; /* of map->layers */
};

/* Everything from which the output is reached without a weight layer in between makes logits, not features. */
static void mark_head(struct finder *finder) {
    const struct network *network = finder->network;
    for (size_t i = network->node_count; i-- > 0;) {
        const struct node *node = &network->nodes[i];
        bool head = node->output == network->output;
        for (size_t r = finder->flow->start[node->output]; !head && r < finder->flow->start[node->output + 1]; r++) {
            const struct node *reader = &network->nodes[finder->flow->reader[r]];
            bool weights = reader->op == OP_GEMM || (reader->op == OP_CONV && !flow_is_depthwise(network, reader));
            head = finder->in_head[finder->flow->reader[r]] && !weights;
        }
        finder->in_head[i] = head;
    }
}

static enum status add_layer(struct finder *finder, const struct unit_layer *layer, struct error *error) {
    struct unit_map *map = finder->map;
    if (map->layer_count == finder->capacity) {
        size_t capacity = finder->capacity * 2 + 16;
        struct unit_layer *layers = mem_realloc(map->layers, capacity, sizeof *layers);
        if (layers == NULL) {
            return error_no_memory(error, "unit layers");
        }
        map->layers = layers;
        finder->capacity = capacity;
    }
    map->layers[map->layer_count] = *layer;
    map->layers[map->layer_count].first = map->unit_count;
    map->layer_count++;
    map->unit_count += layer->count;
    return STATUS_OK;
}

static void set_range(const struct finder *finder, struct unit_layer *layer) {
    layer->low = -INFINITY;
    layer->high = INFINITY;
    size_t reader = flow_only_reader(finder->network, finder->flow, layer->value);
    if (reader == NETWORK_NONE) {
        return;
    }
    const struct node *node = &finder->network->nodes[reader];
    if (node->op == OP_RELU) {
        layer->low = 0;
    } else if (node->op == OP_CLIP) {
        layer->low = node->attr.low;
        layer->high = node->attr.high;
    }
}

/* Units on `value`, if its shape allows: channels along an axis behind the batch. */
static enum status add_units(struct finder *finder, size_t value, size_t weight_node, size_t norm_node,
                             struct error *error) {
    const struct network *network = finder->network;
    const struct shape *shape = &network->values[value].shape;
    size_t axis = weight_node != NETWORK_NONE ? flow_channel_axis(network, &network->nodes[weight_node]) : 1;
    size_t count = shape->rank <= axis ? 0 : shape->dim[axis];
    if (count == 0 || shape_count(shape) == 0 || shape->dim[0] != 1) {
        return STATUS_OK;
    }
    struct unit_layer layer = {.value = value,
                               .axis = axis,
                               .weight_node = weight_node,
                               .norm_node = norm_node,
                               .count = count,
                               .depth = finder->traces[value].depth,
                               .positions = shape_count(shape) / count,
                               .inner = shape_count_from(shape, axis + 1)};
    set_range(finder, &layer);
    finder->traces[value].has_units = finder->traces[value].covered = true;
    return add_layer(finder, &layer, error);
}

/* A unit can only be made constant through its bias: weights and bias must be constants with a factor that is not zero. */
static bool can_fold(const struct network *network, const struct node *node) {
    if (!flow_has_constant(network, node, 1)) {
        return false;
    }
    if (node->input_count > 2 && node->inputs[2] != NETWORK_NONE && !flow_has_constant(network, node, 2)) {
        return false;
    }
    return node->op != OP_GEMM || (node->attr.beta > 0 || node->attr.beta < 0);
}

static enum status visit_weights(struct finder *finder, size_t index, struct error *error) {
    const struct network *network = finder->network;
    const struct node *node = &network->nodes[index];
    struct trace *input = &finder->traces[node->inputs[0]], *output = &finder->traces[node->output];
    output->depth = input->depth + 1;
    if (flow_is_depthwise(network, node) && input->has_units) {
        /* It filters each channel by itself: pruning the unit before it prunes it too. */
        output->has_units = output->covered = true;
        return STATUS_OK;
    }
    if (finder->in_head[index] || !can_fold(network, node)) {
        return STATUS_OK;
    }
    struct flow_chain chain;
    flow_chain_of(network, finder->flow, index, &chain);
    if (chain.bias_node != NETWORK_NONE) {
        finder->absorbed[chain.bias_node] = true;
    }
    if (chain.norm_node != NETWORK_NONE) {
        finder->absorbed[chain.norm_node] = true;
    }
    finder->traces[chain.value].depth = output->depth;
    return add_units(finder, chain.value, index, chain.norm_node, error);
}

static enum status visit_other(struct finder *finder, size_t index, struct error *error) {
    const struct network *network = finder->network;
    const struct node *node = &network->nodes[index];
    struct trace *output = &finder->traces[node->output];
    size_t input = 0;
    bool pointwise = flow_is_pointwise(network, node, &input);
    for (size_t i = 0; i < node->input_count; i++) {
        if (node->inputs[i] != NETWORK_NONE) {
            const struct trace *trace = &finder->traces[node->inputs[i]];
            output->depth = trace->depth > output->depth ? trace->depth : output->depth;
            output->has_units = output->has_units || trace->has_units;
        }
    }
    bool alone = pointwise && flow_only_reader(network, finder->flow, node->inputs[input]) == index;
    output->covered = alone && finder->traces[node->inputs[input]].covered;
    bool stands_alone = node->op == OP_BATCH_NORM && !output->covered && output->depth > 0 && !finder->in_head[index] &&
                        flow_has_constant(network, node, 1) && flow_has_constant(network, node, 2);
    return stands_alone ? add_units(finder, node->output, NETWORK_NONE, index, error) : STATUS_OK;
}

static enum status find_layers(struct finder *finder, struct error *error) {
    const struct network *network = finder->network;
    enum status status = STATUS_OK;
    mark_head(finder);
    for (size_t i = 0; status == STATUS_OK && i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        if (finder->absorbed[i]) {
            continue;
        }
        status = node->op == OP_CONV || node->op == OP_GEMM ? visit_weights(finder, i, error)
                                                            : visit_other(finder, i, error);
    }
    if (status == STATUS_OK && (finder->map->unit_count == 0 || finder->map->unit_count > UINT32_MAX)) {
        status = error_set(error, STATUS_UNSUPPORTED, NULL,
                           "failed to find prunable units in the network: got %zu, expected at least one hidden Conv, "
                           "Gemm or BatchNormalization channel",
                           finder->map->unit_count);
    }
    return status;
}

static size_t group_root(size_t *parent, size_t unit) {
    while (parent[unit] != unit) {
        parent[unit] = parent[parent[unit]];
        unit = parent[unit];
    }
    return unit;
}

/* The smaller root wins, so that a group's root is its first unit. */
static void group_join(size_t *parent, size_t a, size_t b) {
    a = group_root(parent, a);
    b = group_root(parent, b);
    if (a < b) {
        parent[b] = a;
    } else {
        parent[a] = b;
    }
}

static void join_units(void *user, uint32_t a, uint32_t b) {
    group_join(user, a, b);
}

static void join_summands(const struct network *network, const struct origins *origins, const struct node *node,
                          size_t *parent) {
    const struct shape *a = &network->values[node->inputs[0]].shape, *b = &network->values[node->inputs[1]].shape;
    size_t axis = origins_axis(origins, node->inputs[0]);
    if (!shape_equal(a, b) || axis == 0 || axis != origins_axis(origins, node->inputs[1])) {
        return;
    }
    for (size_t c = 0; c < a->dim[axis]; c++) {
        const uint32_t *left, *right;
        size_t left_count = origins_get(origins, node->inputs[0], c, &left);
        size_t right_count = origins_get(origins, node->inputs[1], c, &right);
        if (left_count > 0 && right_count > 0) {
            group_join(parent, left[0], right[0]);
        }
    }
}

/* Computed weights that a Softmax made (with a Dropout or the like in between) times values. */
static bool is_attention(const struct network *network, const struct node *node) {
    size_t value = node->inputs[0], input = 0;
    while (network->values[value].kind == VALUE_COMPUTED) {
        const struct node *producer = &network->nodes[network->values[value].producer];
        if (producer->op == OP_SOFTMAX) {
            return !flow_has_constant(network, node, 1);
        }
        if (producer->op != OP_RESHAPE && !flow_is_pointwise(network, producer, &input)) {
            return false;
        }
        value = producer->inputs[producer->op == OP_RESHAPE ? 0 : input];
    }
    return false;
}

/* Units that meet in one channel of an Add (or Sub) of two computed values of one shape are tied: the shortcut carries both, so one
 * of them gone leaves the channel alive. The writers of each side that come from an earlier Add are tied already. So are the columns
 * of the values of one attention head: alone, one of them is no more than a number in a dot product. */
static enum status find_groups(const struct network *network, struct unit_map *map, struct error *error) {
    struct origins *origins = NULL;
    enum status status = origins_new(network, map->layers, map->layer_count, false, &origins, error);
    size_t *parent = mem_alloc(map->unit_count, sizeof *parent);
    if (status == STATUS_OK && parent == NULL) {
        status = error_no_memory(error, "unit groups");
    }
    for (size_t u = 0; status == STATUS_OK && u < map->unit_count; u++) {
        parent[u] = u;
    }
    for (size_t i = 0; status == STATUS_OK && i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        if (node->op == OP_MATMUL && is_attention(network, node)) {
            origins_heads(origins, node, join_units, parent);
        }
        if ((node->op == OP_ADD || node->op == OP_SUB) && !flow_has_constant(network, node, 0) &&
            !flow_has_constant(network, node, 1)) {
            join_summands(network, origins, node, parent);
        }
    }
    for (size_t u = 0; status == STATUS_OK && u < map->unit_count; u++) {
        size_t root = group_root(parent, u);
        map->group_of[u] = root == u ? map->group_count++ : map->group_of[root];
    }
    mem_free(parent);
    origins_free(origins);
    return status;
}

static enum status number_units(struct unit_map *map, struct error *error) {
    map->layer_of = mem_alloc(map->unit_count, sizeof *map->layer_of);
    map->group_of = mem_alloc(map->unit_count, sizeof *map->group_of);
    if (map->layer_of == NULL || map->group_of == NULL) {
        return error_no_memory(error, "units");
    }
    for (size_t l = 0; l < map->layer_count; l++) {
        for (size_t c = 0; c < map->layers[l].count; c++) {
            map->layer_of[map->layers[l].first + c] = l;
        }
    }
    return STATUS_OK;
}

enum status units_find(const struct network *network, struct unit_map **out, struct error *error) {
    enum status status = STATUS_OK;
    struct finder finder = {.network = network};
    finder.map = mem_calloc(1, sizeof *finder.map);
    finder.in_head = mem_calloc(network->node_count, sizeof *finder.in_head);
    finder.absorbed = mem_calloc(network->node_count, sizeof *finder.absorbed);
    finder.traces = mem_calloc(network->value_count, sizeof *finder.traces);
    if (finder.map == NULL || finder.in_head == NULL || finder.absorbed == NULL || finder.traces == NULL) {
        status = error_no_memory(error, "units");
        goto done;
    }
    status = flow_new(network, &finder.flow, error);
    if (status != STATUS_OK) {
        goto done;
    }
    status = find_layers(&finder, error);
    if (status != STATUS_OK) {
        goto done;
    }
    status = number_units(finder.map, error);
    if (status != STATUS_OK) {
        goto done;
    }
    status = find_groups(network, finder.map, error);
    if (status != STATUS_OK) {
        goto done;
    }
    *out = finder.map;
    finder.map = NULL;
done:
    units_free(finder.map);
    flow_free(finder.flow);
    mem_free(finder.in_head);
    mem_free(finder.absorbed);
    mem_free(finder.traces);
    return status;
}

void units_free(struct unit_map *map) {
    if (map == NULL) {
        return;
    }
    mem_free(map->layers);
    mem_free(map->layer_of);
    mem_free(map->group_of);
    mem_free(map);
}

enum status units_masked_network(const struct network *network, const struct unit_map *map, struct network **out,
                                 struct error *error) {
    struct mask_site *sites = mem_alloc(map->layer_count, sizeof *sites);
    if (sites == NULL) {
        return error_no_memory(error, "mask sites");
    }
    for (size_t l = 0; l < map->layer_count; l++) {
        sites[l] = (struct mask_site){.value = map->layers[l].value, .axis = map->layers[l].axis};
    }
    enum status status = network_with_masks(network, sites, map->layer_count, out, error);
    mem_free(sites);
    return status;
}

const char *units_layer_name(const struct network *network, const struct unit_layer *layer) {
    size_t node = layer->weight_node != NETWORK_NONE ? layer->weight_node : layer->norm_node;
    const char *name = network->nodes[node].name;
    return name != NULL ? name : "";
}
