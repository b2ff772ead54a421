/* Connection strengths of weight nodes, features of filters, and the edges between layers. */
#include "server/graph/connections.h"

#include <cblas.h>
#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "server/graph/flow.h"

enum { BETWEEN_MAX = 8 }; /* connections a unit keeps in each direction */

float connections_norm_scale(const struct network *network, size_t node, size_t channel) {
    const struct node *norm = &network->nodes[node];
    float gamma = network->values[norm->inputs[1]].data[channel];
    float variance = network->values[norm->inputs[4]].data[channel];
    return fabsf(gamma) / sqrtf(variance + norm->attr.epsilon);
}

static float output_scale(const struct connections *connections, size_t layer, size_t channel) {
    if (layer == NETWORK_NONE || connections->map->layers[layer].norm_node == NETWORK_NONE) {
        return 1;
    }
    return connections_norm_scale(connections->network, connections->map->layers[layer].norm_node, channel);
}

/* A value may be read along one axis by the first and along another by this node; then nothing is known of its channels. */
static size_t block_of(const struct connections *connections, const struct slices *slices, size_t channel) {
    return slices->known ? origins_block_of(connections->near, slices->input, channel) : channel;
}

size_t slices_writers(const struct origins *origins, const struct slices *slices, size_t block,
                      const uint32_t **units) {
    *units = NULL;
    return slices->known ? origins_block_units(origins, slices->input, block, units) : 0;
}

static void conv_strength(const struct connections *connections, struct slices *slices, const struct node *node) {
    const struct value *weight = &connections->network->values[node->inputs[1]];
    size_t in = weight->shape.dim[1], plane = weight->shape.dim[2] * weight->shape.dim[3];
    size_t group_outputs = slices->outputs / node->attr.window.group;
    for (size_t m = 0; m < slices->outputs; m++) {
        for (size_t c = 0; c < in; c++) {
            const float *kernel = weight->data + (m * in + c) * plane;
            float sum = 0;
            for (size_t i = 0; i < plane; i++) {
                sum += fabsf(kernel[i]);
            }
            size_t channel = m / group_outputs * in + c;
            size_t block = block_of(connections, slices, channel);
            slices->strength[block * slices->outputs + m] += sum;
        }
    }
}

static void gemm_strength(const struct connections *connections, struct slices *slices, const struct node *node) {
    const struct value *weight = &connections->network->values[node->inputs[1]];
    size_t outputs = slices->outputs, in = shape_count(&weight->shape) / outputs;
    float alpha = fabsf(node->attr.alpha);
    /* Neighbouring columns often share a block: sums run over them before they are written. */
    for (size_t k = 0; k < in;) {
        size_t block = block_of(connections, slices, k), end = k + 1;
        while (end < in && block_of(connections, slices, end) == block) {
            end++;
        }
        float *strength = slices->strength + block * outputs;
        for (size_t m = 0; node->attr.trans_b && m < outputs; m++) {
            float sum = 0;
            for (size_t i = k; i < end; i++) {
                sum += fabsf(weight->data[m * in + i]);
            }
            strength[m] += alpha * sum;
        }
        for (size_t i = k; !node->attr.trans_b && i < end; i++) {
            for (size_t m = 0; m < outputs; m++) {
                strength[m] += alpha * fabsf(weight->data[i * outputs + m]);
            }
        }
        k = end;
    }
}

static enum status fill_slices(const struct connections *connections, struct slices *slices, struct error *error) {
    const struct node *node = &connections->network->nodes[slices->node];
    size_t axis = flow_channel_axis(connections->network, node);
    slices->input = node->inputs[0];
    slices->known = origins_axis(connections->near, slices->input) == axis;
    slices->blocks = slices->known ? origins_blocks(connections->near, slices->input)
                                   : connections->network->values[slices->input].shape.dim[axis];
    slices->outputs = connections->network->values[node->output].shape.dim[axis];
    size_t count = 0;
    if (mem_multiply(slices->blocks, slices->outputs, &count)) {
        slices->strength = mem_calloc(count, sizeof *slices->strength);
    }
    if (slices->strength == NULL) {
        return error_no_memory(error, "connection strengths");
    }
    if (node->op == OP_CONV) {
        conv_strength(connections, slices, node);
    } else {
        gemm_strength(connections, slices, node);
    }
    for (size_t m = 0; m < slices->outputs; m++) {
        float scale = output_scale(connections, slices->layer, m);
        for (size_t b = 0; b < slices->blocks; b++) {
            slices->strength[b * slices->outputs + m] *= scale;
        }
    }
    return STATUS_OK;
}

static enum status find_slices(struct connections *connections, struct error *error) {
    const struct network *network = connections->network;
    const struct unit_map *map = connections->map;
    size_t next = 0; /* layers are in the order of their nodes, but for those without weights */
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        while (next < map->layer_count &&
               (map->layers[next].weight_node == NETWORK_NONE || map->layers[next].weight_node < i)) {
            next++;
        }
        bool makes_units = next < map->layer_count && map->layers[next].weight_node == i;
        if ((node->op != OP_CONV && node->op != OP_GEMM) || !flow_has_constant(network, node, 1) ||
            (flow_is_depthwise(network, node) && !makes_units) || network->values[node->output].shape.rank < 2) {
            continue;
        }
        struct slices *slices = &connections->slices[connections->slices_count];
        slices->node = i;
        slices->layer = makes_units ? next : NETWORK_NONE;
        if (makes_units) {
            connections->slices_of[next] = connections->slices_count;
        }
        connections->slices_count++;
        enum status status = fill_slices(connections, slices, error);
        if (status != STATUS_OK) {
            return status;
        }
    }
    return STATUS_OK;
}

enum status connections_new(const struct network *network, const struct unit_map *map, struct connections **out,
                            struct error *error) {
    enum status status = STATUS_OK;
    struct connections *connections = mem_calloc(1, sizeof *connections);
    if (connections == NULL) {
        status = error_no_memory(error, "connections");
        goto fail;
    }
    connections->network = network;
    connections->map = map;
    connections->slices = mem_calloc(network->node_count, sizeof *connections->slices);
    connections->slices_of = mem_calloc(map->layer_count, sizeof *connections->slices_of);
    if (connections->slices == NULL || connections->slices_of == NULL) {
        status = error_no_memory(error, "connections");
        goto fail;
    }
    for (size_t l = 0; l < map->layer_count; l++) {
        connections->slices_of[l] = NETWORK_NONE;
    }
    status = origins_new(network, map->layers, map->layer_count, false, &connections->near, error);
    if (status != STATUS_OK) {
        goto fail;
    }
    status = origins_new(network, map->layers, map->layer_count, true, &connections->through, error);
    if (status != STATUS_OK) {
        goto fail;
    }
    status = find_slices(connections, error);
    if (status != STATUS_OK) {
        goto fail;
    }
    *out = connections;
    return STATUS_OK;
fail:
    connections_free(connections);
    return status;
}

void connections_free(struct connections *connections) {
    if (connections == NULL) {
        return;
    }
    for (size_t i = 0; connections->slices != NULL && i < connections->slices_count; i++) {
        mem_free(connections->slices[i].strength);
    }
    mem_free(connections->slices);
    mem_free(connections->slices_of);
    origins_free(connections->near);
    origins_free(connections->through);
    mem_free(connections);
}

/* Largest singular value of a (rows, columns), by power iteration on the smaller of A^T A and A A^T. work: 3 * max(rows, columns)
 * floats, and n * n more where n = min(rows, columns) is at most SMALL. */
enum { SMALL = 64, POWER_STEPS = 60 };

static float largest_singular_value(const float *a, size_t rows, size_t columns, float *work) {
    size_t n = rows < columns ? rows : columns, longest = rows < columns ? columns : rows;
    if (n == 1) {
        return cblas_snrm2((int)longest, a, 1);
    }
    float *x = work, *y = work + longest, *z = work + 2 * longest, *gram = work + 3 * longest;
    enum CBLAS_TRANSPOSE down = columns <= rows ? CblasNoTrans : CblasTrans; /* maps x (n) to the longer side */
    enum CBLAS_TRANSPOSE up = columns <= rows ? CblasTrans : CblasNoTrans;
    if (n <= SMALL) {
        cblas_sgemm(CblasRowMajor, up, down, (int)n, (int)n, (int)longest, 1, a, (int)columns, a, (int)columns, 0, gram,
                    (int)n);
    }
    /* A start that is not orthogonal to the first singular vector but by accident: not constant, all signs alike. */
    for (size_t i = 0; i < n; i++) {
        x[i] = 1.0F + 0.37F * sinf((float)(i + 1));
    }
    float value = 0;
    for (size_t step = 0; step < POWER_STEPS; step++) {
        float norm = cblas_snrm2((int)n, x, 1);
        if (!(norm > 0)) {
            return 0;
        }
        cblas_sscal((int)n, 1 / norm, x, 1);
        if (n <= SMALL) {
            cblas_sgemv(CblasRowMajor, CblasNoTrans, (int)n, (int)n, 1, gram, (int)n, x, 1, 0, z, 1);
        } else {
            cblas_sgemv(CblasRowMajor, down, (int)rows, (int)columns, 1, a, (int)columns, x, 1, 0, y, 1);
            cblas_sgemv(CblasRowMajor, up, (int)rows, (int)columns, 1, a, (int)columns, y, 1, 0, z, 1);
        }
        float next = cblas_snrm2((int)n, z, 1); /* of A^T A x with |x| = 1: tends to the square of the value */
        memcpy(x, z, n * sizeof *x);
        if (fabsf(next - value) <= 1e-6F * next) {
            value = next;
            break;
        }
        value = next;
    }
    return sqrtf(value);
}

static enum status filter_features(const struct connections *connections, const struct slices *slices, float *features,
                                   struct error *error) {
    const struct node *node = &connections->network->nodes[slices->node];
    const struct value *weight = &connections->network->values[node->inputs[1]];
    size_t rest = shape_count(&weight->shape) / slices->outputs;
    size_t rows = node->op == OP_CONV ? weight->shape.dim[1] : rest, columns = rest / rows;
    size_t longest = rows > columns ? rows : columns;
    float *work = mem_alloc(3 * longest + (size_t)SMALL * SMALL + rest, sizeof *work);
    if (work == NULL) {
        return error_no_memory(error, "filter features");
    }
    float *gathered = work + 3 * longest + (size_t)SMALL * SMALL;
    for (size_t m = 0; m < slices->outputs; m++) {
        float sum = 0, square = 0;
        for (size_t b = 0; b < slices->blocks; b++) {
            float s = slices->strength[b * slices->outputs + m];
            sum += s;
            square += s * s;
        }
        const float *filter = weight->data + m * rest;
        if (node->op == OP_GEMM && !node->attr.trans_b) {
            cblas_scopy((int)rest, weight->data + m, (int)slices->outputs, gathered, 1);
            filter = gathered;
        }
        float value = largest_singular_value(filter, rows, columns, work);
        value *= node->op == OP_GEMM ? fabsf(node->attr.alpha) : 1;
        float *row = features + m * WEIGHT_FEATURE_COUNT;
        row[WEIGHT_FEATURE_L1] = sum;
        row[WEIGHT_FEATURE_IN] = sqrtf(square);
        row[WEIGHT_FEATURE_LIPSCHITZ] = value * output_scale(connections, slices->layer, m);
    }
    mem_free(work);
    return STATUS_OK;
}

enum status connections_features(const struct connections *connections, float *features, struct error *error) {
    const struct unit_map *map = connections->map;
    enum status status = STATUS_OK;
    for (size_t l = 0; status == STATUS_OK && l < map->layer_count; l++) {
        const struct unit_layer *layer = &map->layers[l];
        float *rows = features + layer->first * WEIGHT_FEATURE_COUNT;
        if (connections->slices_of[l] != NETWORK_NONE) {
            status = filter_features(connections, &connections->slices[connections->slices_of[l]], rows, error);
            continue;
        }
        for (size_t c = 0; c < layer->count; c++) {
            float *row = rows + c * WEIGHT_FEATURE_COUNT;
            float scale = connections_norm_scale(connections->network, layer->norm_node, c);
            row[WEIGHT_FEATURE_L1] = row[WEIGHT_FEATURE_IN] = row[WEIGHT_FEATURE_LIPSCHITZ] = scale;
        }
    }
    return status;
}

void strongest_offer(struct strongest *list, uint32_t id, float weight) {
    if (list->count == list->capacity && !(weight > list->weight[list->count - 1])) {
        return;
    }
    size_t at = 0, known = list->count;
    for (size_t i = 0; i < list->count; i++) {
        known = list->id[i] == id ? i : known;
    }
    if (known < list->count) {
        if (!(weight > list->weight[known])) {
            return;
        }
        at = known;
    } else {
        at = list->count < list->capacity ? list->count++ : list->count - 1;
    }
    while (at > 0 && weight > list->weight[at - 1]) {
        list->id[at] = list->id[at - 1];
        list->weight[at] = list->weight[at - 1];
        at--;
    }
    list->id[at] = id;
    list->weight[at] = weight;
}

/* The lists of all units of one relation, in one block of memory each. */
struct table {
    struct strongest *lists; /* (units) */
    uint32_t *id;
    float *weight;
};

static void table_deinit(struct table *table) {
    mem_free(table->lists);
    mem_free(table->id);
    mem_free(table->weight);
}

static enum status table_init(struct table *table, size_t units, struct error *error) {
    table->lists = mem_calloc(units, sizeof *table->lists);
    table->id = mem_calloc(units, BETWEEN_MAX * sizeof *table->id);
    table->weight = mem_calloc(units, BETWEEN_MAX * sizeof *table->weight);
    if (table->lists == NULL || table->id == NULL || table->weight == NULL) {
        return error_no_memory(error, "edges");
    }
    for (size_t u = 0; u < units; u++) {
        table->lists[u] =
            (struct strongest){BETWEEN_MAX, 0, table->id + u * BETWEEN_MAX, table->weight + u * BETWEEN_MAX};
    }
    return STATUS_OK;
}

/* Compressed by receiver; weights relative to the receiver's strongest. */
static enum status table_compress(const struct table *table, size_t units, struct edge_list *edges,
                                  struct error *error) {
    size_t total = 0;
    for (size_t u = 0; u < units; u++) {
        total += table->lists[u].count;
    }
    edges->start = mem_calloc(units + 1, sizeof *edges->start);
    edges->source = mem_alloc(total, sizeof *edges->source);
    edges->weight = mem_alloc(total, sizeof *edges->weight);
    if (edges->start == NULL || edges->source == NULL || edges->weight == NULL) {
        return error_no_memory(error, "edges");
    }
    size_t at = 0;
    for (size_t u = 0; u < units; u++) {
        const struct strongest *list = &table->lists[u];
        for (size_t i = 0; i < list->count; i++) {
            float weight = list->weight[i] / list->weight[0];
            edges->source[at] = list->id[i];
            edges->weight[at] = weight > 0 ? weight : 1e-30F;
            at++;
        }
        edges->start[u + 1] = at;
    }
    return STATUS_OK;
}

/* Offers the connections from all writers of one block to units first .. first + count, of strength[0 .. count). A block's strength is
 * shared among its writers (a residual stream has several) by how much each can write: its Lipschitz constant. */
static void offer_block(const float *features, const uint32_t *writers, size_t writer_count, const float *strength,
                        size_t first, size_t count, struct table *forward, struct table *backward) {
    float total = 0;
    for (size_t w = 0; w < writer_count; w++) {
        total += features[writers[w] * WEIGHT_FEATURE_COUNT + WEIGHT_FEATURE_LIPSCHITZ];
    }
    for (size_t w = 0; w < writer_count; w++) {
        float own = features[writers[w] * WEIGHT_FEATURE_COUNT + WEIGHT_FEATURE_LIPSCHITZ];
        float share = total > 0 ? own / total : 1.0F / (float)writer_count;
        for (size_t m = 0; m < count; m++) {
            float weight = share * strength[m];
            if (weight > 0) {
                strongest_offer(&forward->lists[first + m], writers[w], weight);
                strongest_offer(&backward->lists[writers[w]], (uint32_t)(first + m), weight);
            }
        }
    }
}

enum status connections_edges(const struct connections *connections, const float *features,
                              struct edge_list edges[RELATION_COUNT], struct error *error) {
    const struct unit_map *map = connections->map;
    struct table forward = {0}, backward = {0};
    enum status status = table_init(&forward, map->unit_count, error);
    if (status == STATUS_OK) {
        status = table_init(&backward, map->unit_count, error);
    }
    for (size_t l = 0; status == STATUS_OK && l < map->layer_count; l++) {
        const struct unit_layer *layer = &map->layers[l];
        const uint32_t *writers;
        if (connections->slices_of[l] != NETWORK_NONE) {
            const struct slices *slices = &connections->slices[connections->slices_of[l]];
            for (size_t b = 0; b < slices->blocks; b++) {
                size_t count = slices_writers(connections->near, slices, b, &writers);
                offer_block(features, writers, count, slices->strength + b * slices->outputs, layer->first,
                            slices->outputs, &forward, &backward);
            }
            continue;
        }
        size_t input = connections->network->nodes[layer->norm_node].inputs[0];
        for (size_t c = 0; c < layer->count; c++) {
            size_t count = origins_get(connections->near, input, c, &writers);
            float scale = connections_norm_scale(connections->network, layer->norm_node, c);
            offer_block(features, writers, count, &scale, layer->first + c, 1, &forward, &backward);
        }
    }
    if (status == STATUS_OK) {
        status = table_compress(&forward, map->unit_count, &edges[RELATION_FORWARD], error);
    }
    if (status == STATUS_OK) {
        status = table_compress(&backward, map->unit_count, &edges[RELATION_BACKWARD], error);
    }
    table_deinit(&forward);
    table_deinit(&backward);
    return status;
}
