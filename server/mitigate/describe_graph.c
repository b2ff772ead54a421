/* The graph of neurons for pictures: the layers of a model, and of one layer its units and the edges that end in it. */
#include "server/graph/neuron_graph.h"
#include "server/mitigate/describe.h"
#include "server/mitigate/mitigate.h"

static json_t *layers_json(const struct network *network, const struct unit_map *units) {
    json_t *layers = json_array();
    for (size_t l = 0; l < units->layer_count; l++) {
        const struct unit_layer *layer = &units->layers[l];
        json_array_append_new(layers,
                              json_pack("{s:I, s:s, s:I, s:I, s:I}", "layer", (json_int_t)l, "name",
                                        units_layer_name(network, layer), "first", (json_int_t)layer->first, "channels",
                                        (json_int_t)layer->count, "depth", (json_int_t)layer->depth));
    }
    return layers;
}

static json_t *units_json(const struct neuron_graph *graph, const struct unit_map *units,
                          const struct unit_layer *layer) {
    json_t *list = json_array();
    for (size_t u = layer->first; u < layer->first + layer->count; u++) {
        const float *f = &graph->weight_features[u * WEIGHT_FEATURE_COUNT];
        json_t *features =
            json_pack("{s:f, s:f, s:f, s:f}", "l1", (double)f[WEIGHT_FEATURE_L1], "in", (double)f[WEIGHT_FEATURE_IN],
                      "out", (double)f[WEIGHT_FEATURE_OUT], "lipschitz", (double)f[WEIGHT_FEATURE_LIPSCHITZ]);
        json_array_append_new(list, json_pack("{s:I, s:I, s:I, s:o?}", "unit", (json_int_t)u, "channel",
                                              (json_int_t)(u - layer->first), "group", (json_int_t)units->group_of[u],
                                              "features", features));
    }
    return list;
}

/* Edges whose receiving unit is of this layer. */
static json_t *edges_json(const struct neuron_graph *graph, const struct unit_layer *layer) {
    static const char *const names[RELATION_COUNT] = {"similar", "forward", "backward"};
    json_t *edges = json_array();
    for (size_t r = 0; r < RELATION_COUNT; r++) {
        if (r == RELATION_BACKWARD) {
            continue; /* the same edges as forward, seen from the other end */
        }
        for (size_t u = layer->first; u < layer->first + layer->count; u++) {
            for (size_t e = graph->edges[r].start[u]; e < graph->edges[r].start[u + 1]; e++) {
                json_array_append_new(edges, json_pack("{s:s, s:I, s:I, s:f}", "relation", names[r], "from",
                                                       (json_int_t)graph->edges[r].source[e], "to", (json_int_t)u,
                                                       "weight", (double)graph->edges[r].weight[e]));
            }
        }
    }
    return edges;
}

enum status mitigate_describe_graph(const char *path, long layer, json_t **graph, struct error *error) {
    struct onnx_model *model = NULL;
    struct unit_map *units = NULL;
    struct neuron_graph *neurons = NULL;
    json_t *object = NULL;
    enum status status = describe_load(path, &model, &units, error);
    if (status != STATUS_OK) {
        return status;
    }
    const struct network *network = onnx_model_network(model);
    if (layer >= 0 && (size_t)layer >= units->layer_count) {
        status = error_set(error, STATUS_NOT_FOUND, "layer", "failed to find layer %ld: got a model of %zu layers",
                           layer, units->layer_count);
        goto done;
    }
    object = json_pack("{s:o, s:I}", "layers", layers_json(network, units), "units", (json_int_t)units->unit_count);
    if (layer >= 0) {
        status = neuron_graph_new(network, units, &neurons, error);
        if (status != STATUS_OK) {
            goto done;
        }
        const struct unit_layer *of = &units->layers[layer];
        json_t *detail = json_pack("{s:I, s:o, s:o}", "layer", (json_int_t)layer, "nodes",
                                   units_json(neurons, units, of), "edges", edges_json(neurons, of));
        if (detail == NULL || json_object_update(object, detail) != 0) {
            json_decref(object);
            object = NULL;
        }
        json_decref(detail);
    }
    if (object == NULL) {
        /* A name that is not UTF-8 was refused when the model was uploaded. */
        status = error_no_memory(error, "the description of the graph");
        goto done;
    }
    *graph = object;
    object = NULL;
done:
    json_decref(object);
    neuron_graph_free(neurons);
    units_free(units);
    onnx_model_free(model);
    return status;
}
