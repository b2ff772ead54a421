/* The two ends of a graph. At the input: a file whose pixels have their channels last, as those of TensorFlow and Keras do, says
 * so by the Transpose that comes first; our input has them in front all the same. At the output: a Softmax turns logits, which
 * losses are computed from, into probabilities. */
#include <string.h>

#include "server/onnx/onnx_lower.h"
#include "server/onnx/onnx_parse.h"

static bool is_one_of(const char *operator, const char * const * list) {
    for (; *list != NULL; list++) {
        if (strcmp(operator, * list) == 0) {
            return true;
        }
    }
    return false;
}

static bool to_channels_first(const Onnx__NodeProto *node) {
    static const int64_t PERM[4] = {0, 3, 1, 2};
    if (strcmp(onnx_text(node->op_type), "Transpose") != 0 || node->n_attribute != 1 ||
        node->attribute[0]->n_ints != 4) {
        return false;
    }
    return memcmp(node->attribute[0]->ints, PERM, sizeof PERM) == 0;
}

bool lower_is_channels_last(const struct onnx_graph *graph, struct arena *arena) {
    static const char *const KEEPS[] = {"Add", "Cast", "Clip", "Div", "Identity", "Mul", "Pad", "Sub", NULL};
    size_t index = 0, found = 0, names = onnx_names_count(graph->names);
    bool *pixels = arena_alloc(arena, names, sizeof *pixels); /* the input, or it scaled */
    if (pixels == NULL || graph->input_shape.rank != 4 || !onnx_names_find(graph->names, graph->input, &index)) {
        return false;
    }
    memset(pixels, 0, names * sizeof *pixels);
    pixels[index] = true;
    for (size_t i = 0; i < graph->proto->n_node; i++) {
        const Onnx__NodeProto *node = graph->proto->node[i];
        bool reads = false;
        for (size_t k = 0; k < node->n_input; k++) {
            const char *name = onnx_text(node->input[k]);
            reads = reads || (name[0] != '\0' && onnx_names_find(graph->names, name, &index) && pixels[index]);
        }
        if (!reads || strcmp(onnx_text(node->op_type), "Shape") == 0) {
            continue;
        }
        if (to_channels_first(node)) {
            found++;
        } else if (is_one_of(onnx_text(node->op_type), KEEPS)) {
            pixels[onnx_names_find(graph->names, onnx_text(node->output[0]), &index) ? index : 0] = true;
        } else {
            return false;
        }
    }
    return found > 0;
}

static size_t count_readers(const struct onnx_graph *graph, const char *name) {
    size_t readers = strcmp(graph->output, name) == 0;
    for (size_t i = 0; i < graph->proto->n_node; i++) {
        for (size_t k = 0; k < graph->proto->node[i]->n_input; k++) {
            readers += strcmp(onnx_text(graph->proto->node[i]->input[k]), name) == 0;
        }
    }
    return readers;
}

size_t lower_final_softmax(const struct onnx_graph *graph) {
    static const char *const KEEPS[] = {"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", NULL};
    const char *name = graph->output;
    for (size_t i = graph->proto->n_node; i-- > 0;) {
        const Onnx__NodeProto *node = graph->proto->node[i];
        if (strcmp(onnx_text(node->output[0]), name) != 0) {
            continue;
        }
        if (count_readers(graph, name) != 1) {
            return NETWORK_NONE;
        }
        if (strcmp(onnx_text(node->op_type), "Softmax") == 0) {
            return i;
        }
        if (!is_one_of(onnx_text(node->op_type), KEEPS) || node->n_input == 0) {
            return NETWORK_NONE;
        }
        name = onnx_text(node->input[0]);
    }
    return NETWORK_NONE;
}
