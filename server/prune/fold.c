/* From a mask to weights.
 *
 * A channel's output becomes m x + (1 - m) fill. Where a BatchNorm makes it, its scale is multiplied by m and its bias mixed with the
 * fill; else the channel's weights are multiplied by m and the last bias mixed: that of the Add after a MatMul, or the Conv's or
 * Gemm's own. The weights of a pruned channel (m = 0) become zero in either case. */
#include "server/prune/fold.h"

#include <string.h>

#include "common/mem.h"
#include "server/graph/flow.h"

struct folder {
    const struct network *network;
    const struct unit_layer *layer;
    const float *mask; /* of this layer */
    const float *fill;
    struct fold *fold;
};

/* A new edit of a slot with `count` floats: a copy of the constant there if it has as many, a repeated one if it has a single
 * number, zeros if the slot is empty. */
static float *edit_slot(struct folder *folder, size_t node, size_t slot, size_t count, struct error *error) {
    const struct node *at = &folder->network->nodes[node];
    float *data = mem_calloc(count, sizeof *data);
    if (data == NULL) {
        (void)error_no_memory(error, "folded weights");
        return NULL;
    }
    if (slot < at->input_count && at->inputs[slot] != NETWORK_NONE) {
        const struct value *value = &folder->network->values[at->inputs[slot]];
        size_t have = shape_count(&value->shape);
        if (have == count) {
            memcpy(data, value->data, count * sizeof *data);
        } else {
            for (size_t i = 0; i < count; i++) {
                data[i] = value->data[i % have];
            }
        }
    }
    folder->fold->edits[folder->fold->count++] =
        (struct fold_edit){.node = node, .slot = slot, .count = count, .data = data};
    return data;
}

/* Rows of a Conv's (M, rest), rows or columns of a Gemm's: multiplied by m, or only those of pruned channels zeroed. */
static enum status scale_weights(struct folder *folder, bool pruned_only, struct error *error) {
    const struct node *node = &folder->network->nodes[folder->layer->weight_node];
    size_t count = shape_count(&folder->network->values[node->inputs[1]].shape), units = folder->layer->count;
    float *weight = edit_slot(folder, folder->layer->weight_node, 1, count, error);
    if (weight == NULL) {
        return STATUS_NO_MEMORY;
    }
    bool columns = node->op == OP_GEMM && !node->attr.trans_b;
    size_t rest = count / units;
    for (size_t c = 0; c < units; c++) {
        const float m = folder->mask[c];
        if (m == 1.0F || (pruned_only && m != 0.0F)) {
            continue;
        }
        for (size_t i = 0; i < rest; i++) {
            weight[columns ? i * units + c : c * rest + i] *= m;
        }
    }
    return STATUS_OK;
}

/* Slot of a per-channel constant: m times what it holds, and (1 - m) times `factor` times the fill. */
static enum status mix_channels(struct folder *folder, size_t node, size_t slot, float factor, bool pruned_only,
                                struct error *error) {
    float *data = edit_slot(folder, node, slot, folder->layer->count, error);
    if (data == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (size_t c = 0; c < folder->layer->count; c++) {
        const float m = folder->mask[c];
        if (m != 1.0F && !(pruned_only && m != 0.0F)) {
            data[c] = m * data[c] + (1.0F - m) * factor * folder->fill[c];
        }
    }
    return STATUS_OK;
}

static enum status fold_layer(struct folder *folder, const struct flow *flow, struct error *error) {
    const struct unit_layer *layer = folder->layer;
    struct flow_chain chain = {.bias_node = NETWORK_NONE};
    enum status status = STATUS_OK;
    if (layer->weight_node != NETWORK_NONE) {
        flow_chain_of(folder->network, flow, layer->weight_node, &chain);
        status = scale_weights(folder, layer->norm_node != NETWORK_NONE, error);
    }
    if (status == STATUS_OK && layer->norm_node != NETWORK_NONE) {
        if (layer->weight_node != NETWORK_NONE &&
            flow_has_constant(folder->network, &folder->network->nodes[layer->weight_node], 2)) {
            status = mix_channels(folder, layer->weight_node, 2, 0, true, error);
        }
        /* The normalisation subtracts a mean before it scales: only a zero scale makes its output the bias alone. */
        status = status == STATUS_OK ? mix_channels(folder, layer->norm_node, 1, 0, false, error) : status;
        return status == STATUS_OK ? mix_channels(folder, layer->norm_node, 2, 1, false, error) : status;
    }
    if (status == STATUS_OK && chain.bias_node != NETWORK_NONE) {
        return mix_channels(folder, chain.bias_node, chain.bias_slot, 1, false, error);
    }
    if (status == STATUS_OK) {
        const struct node *node = &folder->network->nodes[layer->weight_node];
        float factor = node->op == OP_GEMM ? 1.0F / node->attr.beta : 1.0F;
        status = mix_channels(folder, layer->weight_node, 2, factor, false, error);
    }
    return status;
}

enum status fold_mask(const struct network *network, const struct unit_map *map, const float *mask, const float *fill,
                      struct fold **out, struct error *error) {
    enum { EDITS_A_LAYER = 4 };
    struct flow *flow = NULL;
    struct fold *fold = mem_calloc(1, sizeof *fold);
    enum status status = fold == NULL ? error_no_memory(error, "folded weights") : flow_new(network, &flow, error);
    if (status != STATUS_OK) {
        goto done;
    }
    fold->edits = mem_calloc(map->layer_count * EDITS_A_LAYER, sizeof *fold->edits);
    if (fold->edits == NULL) {
        status = error_no_memory(error, "folded weights");
        goto done;
    }
    for (size_t l = 0; status == STATUS_OK && l < map->layer_count; l++) {
        const struct unit_layer *layer = &map->layers[l];
        struct folder folder = {network, layer, mask + layer->first, fill + layer->first, fold};
        bool any = false;
        for (size_t c = 0; c < layer->count; c++) {
            any = any || folder.mask[c] != 1.0F;
        }
        if (any) {
            status = fold_layer(&folder, flow, error);
        }
    }
    if (status != STATUS_OK) {
        goto done;
    }
    *out = fold;
    fold = NULL;
done:
    fold_free(fold);
    flow_free(flow);
    return status;
}

void fold_free(struct fold *fold) {
    if (fold == NULL) {
        return;
    }
    for (size_t i = 0; fold->edits != NULL && i < fold->count; i++) {
        mem_free(fold->edits[i].data);
    }
    mem_free(fold->edits);
    mem_free(fold);
}
