/* The graph of neurons: puts together the edges inside layers (similarity.c) and between them (connections.c), and makes the
 * feature matrix that the policy reads. */
#include "server/graph/neuron_graph.h"

#include <math.h>

#include "common/mem.h"
#include "server/graph/connections.h"

enum status neuron_graph_new(const struct network *network, const struct unit_map *map, struct neuron_graph **out,
                             struct error *error) {
    struct connections *connections = NULL;
    enum status status = STATUS_OK;
    struct neuron_graph *graph = mem_calloc(1, sizeof *graph);
    if (graph == NULL) {
        status = error_no_memory(error, "neuron graph");
        goto done;
    }
    graph->node_count = map->unit_count;
    graph->weight_features = mem_calloc(map->unit_count, WEIGHT_FEATURE_COUNT * sizeof *graph->weight_features);
    if (graph->weight_features == NULL) {
        status = error_no_memory(error, "neuron graph");
        goto done;
    }
    status = connections_new(network, map, &connections, error);
    if (status != STATUS_OK) {
        goto done;
    }
    status = connections_features(connections, graph->weight_features, error);
    if (status != STATUS_OK) {
        goto done;
    }
    status = connections_edges(connections, graph->weight_features, graph->edges, error);
    if (status != STATUS_OK) {
        goto done;
    }
    status = similarity_edges(connections, graph->weight_features, &graph->edges[RELATION_SIMILAR], error);
    if (status != STATUS_OK) {
        goto done;
    }
    *out = graph;
    graph = NULL;
done:
    connections_free(connections);
    neuron_graph_free(graph);
    return status;
}

void neuron_graph_free(struct neuron_graph *graph) {
    if (graph == NULL) {
        return;
    }
    for (size_t r = 0; r < RELATION_COUNT; r++) {
        mem_free(graph->edges[r].start);
        mem_free(graph->edges[r].source);
        mem_free(graph->edges[r].weight);
    }
    mem_free(graph->weight_features);
    mem_free(graph);
}

/* One column of one layer, standardised in place. What is not finite counts as 0, the layer's mean. */
static void standardise(float *features, size_t stride, size_t count) {
    double sum = 0, square = 0;
    size_t finite = 0;
    for (size_t i = 0; i < count; i++) {
        double x = (double)features[i * stride];
        if (isfinite(x)) {
            sum += x;
            finite++;
        }
    }
    double mean = finite > 0 ? sum / (double)finite : 0;
    for (size_t i = 0; i < count; i++) {
        double x = (double)features[i * stride] - mean;
        square += isfinite(x) ? x * x : 0;
    }
    double deviation = finite > 0 ? sqrt(square / (double)finite) : 0;
    /* A column that differs only by rounding is constant. */
    double scale = deviation > 1e-6 * fabs(mean) && deviation > 1e-30 ? 1 / deviation : 0;
    for (size_t i = 0; i < count; i++) {
        double x = ((double)features[i * stride] - mean) * scale;
        features[i * stride] = !isfinite(x) ? 0.0F : (float)fmax(-5, fmin(5, x));
    }
}

enum status neuron_graph_features(const struct neuron_graph *graph, const struct unit_map *map,
                                  const float *const *columns, size_t column_count, float **features,
                                  size_t *feature_count, struct error *error) {
    size_t width = WEIGHT_FEATURE_COUNT + column_count + 2, depth = 1;
    float *out = mem_alloc(graph->node_count, width * sizeof *out);
    if (out == NULL) {
        return error_no_memory(error, "node features");
    }
    for (size_t l = 0; l < map->layer_count; l++) {
        depth = map->layers[l].depth > depth ? map->layers[l].depth : depth;
    }
    for (size_t u = 0; u < graph->node_count; u++) {
        const struct unit_layer *layer = &map->layers[map->layer_of[u]];
        float *row = out + u * width;
        for (size_t k = 0; k < WEIGHT_FEATURE_COUNT; k++) {
            row[k] = log1pf(graph->weight_features[u * WEIGHT_FEATURE_COUNT + k]);
        }
        for (size_t k = 0; k < column_count; k++) {
            row[WEIGHT_FEATURE_COUNT + k] = columns[k][u];
        }
        row[width - 2] = (float)layer->depth / (float)depth;
        row[width - 1] = log2f((float)layer->count) / 10;
    }
    for (size_t l = 0; l < map->layer_count; l++) {
        for (size_t k = 0; k + 2 < width; k++) {
            standardise(out + map->layers[l].first * width + k, width, map->layers[l].count);
        }
    }
    *features = out;
    *feature_count = width;
    return STATUS_OK;
}
