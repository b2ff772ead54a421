/* Origins of channels: one pass over the nodes, each value a view (origins_view.h) made from those of what it reads. */
#include "server/graph/origins.h"

#include <string.h>

#include "common/mem.h"
#include "server/graph/flow.h"
#include "server/graph/origins_view.h"

struct origins {
    const struct network *network;
    struct view_pool pool;
    const struct view **of;         /* (values) */
    size_t *axis;                   /* (values): the channel axis */
    const struct view **channel_of; /* (values): `of` with digits in that axis alone */
};

static const struct shape *shape_of(const struct origins *origins, size_t value) {
    return &origins->network->values[value].shape;
}

/* Elements of one sample block (dim 0 is not counted, see network.h). */
static size_t elements_of(const struct shape *shape) {
    return shape->rank == 0 ? 1 : shape_count_from(shape, 1);
}

/* The list of channel `channel` of a value's view along `axis`. */
static size_t channel_list(const struct view *channels, const struct shape *shape, size_t axis, size_t channel,
                           const uint32_t **units) {
    return lists_get(channels->lists, view_block(channels, shape, axis, channel), units);
}

/* Along which axis the writers of `view` differ; a guess if they do not: the last one of tokens, else the first. */
static size_t natural_axis(const struct view *view, const struct shape *shape) {
    size_t axis = view_axis(view, shape);
    if (shape->rank < 2) {
        return 0;
    }
    return axis > 0 ? axis : shape->rank == 3 ? 2 : 1;
}

/* Axis `in_axis` of input 0 becomes axis `out_axis`, whose index c is index c / divide - offset (no writer outside of it);
 * other axes change as they like. */
static const struct view *follow_channels(struct origins *origins, const struct node *node, size_t in_axis,
                                          size_t out_axis, size_t divide, size_t offset) {
    const struct shape *in = shape_of(origins, node->inputs[0]), *out = shape_of(origins, node->output);
    const struct view *from = view_channels(&origins->pool, origins->of[node->inputs[0]], in, in_axis);
    struct lists *lists = from == NULL ? NULL : lists_new(&origins->pool, out->dim[out_axis]);
    for (size_t c = 0; lists != NULL && c < lists->blocks; c++) {
        const uint32_t *units = NULL;
        size_t source = c / divide, count = 0;
        if (source >= offset && source - offset < in->dim[in_axis]) {
            count = channel_list(from, in, in_axis, source - offset, &units);
        }
        if (!lists_push(lists, units, count)) {
            return NULL;
        }
    }
    return lists == NULL ? NULL : view_of_axis(&origins->pool, lists, out, out_axis);
}

/* The strides of the result for axes that all stay in place. */
static void strides_of(const struct shape *shape, size_t stride[SHAPE_RANK_MAX]) {
    for (size_t d = 0; d < shape->rank; d++) {
        stride[d] = shape_count_from(shape, d + 1);
    }
}

static const struct view *follow_transpose(struct origins *origins, const struct node *node) {
    const struct shape *in = shape_of(origins, node->inputs[0]), *out = shape_of(origins, node->output);
    size_t stride[SHAPE_RANK_MAX] = {0};
    for (size_t d = 0; d < out->rank; d++) {
        stride[node->attr.axes[d]] = shape_count_from(out, d + 1);
    }
    return view_restride(&origins->pool, origins->of[node->inputs[0]], in, stride);
}

static const struct view *follow_slice(struct origins *origins, const struct node *node) {
    const struct shape *in = shape_of(origins, node->inputs[0]), *out = shape_of(origins, node->output);
    const struct view *from = origins->of[node->inputs[0]];
    size_t stride[SHAPE_RANK_MAX] = {0};
    bool cut[SHAPE_RANK_MAX] = {false};
    for (size_t d = 1; d < in->rank; d++) {
        cut[d] = in->dim[d] != out->dim[d] || node->attr.slice_step[d] != 1;
    }
    if (view_varies(from, in, cut)) {
        return view_sliced(&origins->pool, from, in, out, node->attr.slice_start, node->attr.slice_step);
    }
    strides_of(out, stride);
    return view_restride(&origins->pool, from, in, stride);
}

/* Sums, means and maxima over axes that the writers do not differ along. A statistic over the channels (of a LayerNorm) says
 * of no channel where it comes from. */
static const struct view *follow_reduce(struct origins *origins, const struct node *node) {
    const struct shape *in = shape_of(origins, node->inputs[0]), *out = shape_of(origins, node->output);
    const struct view *from = origins->of[node->inputs[0]];
    size_t stride[SHAPE_RANK_MAX] = {0};
    bool drop[SHAPE_RANK_MAX] = {false};
    for (size_t i = 0; i < node->attr.axes_count; i++) {
        drop[node->attr.axes[i]] = true;
    }
    for (size_t d = 0, at = 0; d < in->rank; d++) {
        stride[d] = drop[d] ? VIEW_DROP : shape_count_from(out, at + 1);
        at += !drop[d] || node->attr.keep_dims;
    }
    return view_varies(from, in, drop) ? view_nothing(&origins->pool) : view_restride(&origins->pool, from, in, stride);
}

/* What is multiplied from the left weighs the rows of the right side: columns come from columns. */
static const struct view *follow_product(struct origins *origins, const struct node *node) {
    const struct shape *out = shape_of(origins, node->output);
    bool left = flow_has_constant(origins->network, node, 1);
    const struct shape *in = shape_of(origins, node->inputs[left ? 0 : 1]);
    size_t stride[SHAPE_RANK_MAX] = {0}, missing = out->rank - in->rank;
    for (size_t d = 0; d < in->rank; d++) {
        stride[d] = shape_count_from(out, d + missing + 1);
    }
    stride[in->rank - (left ? 1 : 2)] = VIEW_DROP;
    return view_restride(&origins->pool, origins->of[node->inputs[left ? 0 : 1]], in, stride);
}

/* Adds the writers of each index of axis `axis` of input `value` to all[first ...]. */
static bool add_writers(struct origins *origins, size_t value, size_t axis, struct writers *all) {
    const struct shape *shape = shape_of(origins, value);
    const struct view *channels = view_channels(&origins->pool, origins->of[value], shape, axis);
    for (size_t c = 0; channels != NULL && c < shape->dim[axis]; c++) {
        const uint32_t *units;
        size_t count = channel_list(channels, shape, axis, c, &units);
        writers_add(&all[c], units, count);
    }
    return channels != NULL;
}

/* all (out->dim[axis]) becomes a view. */
static const struct view *view_of_writers(struct origins *origins, const struct shape *out, size_t axis,
                                          const struct writers *all) {
    struct lists *lists = lists_new(&origins->pool, out->dim[axis]);
    for (size_t c = 0; lists != NULL && c < out->dim[axis]; c++) {
        if (!lists_push(lists, all[c].unit, all[c].count)) {
            return NULL;
        }
    }
    return lists == NULL ? NULL : view_of_axis(&origins->pool, lists, out, axis);
}

/* The axis of the result along which the writers of an input differ. */
static size_t axis_of_inputs(const struct origins *origins, const struct node *node) {
    const struct shape *out = shape_of(origins, node->output);
    size_t fallback = natural_axis(origins->of[node->inputs[0]], out);
    for (size_t i = 0; i < node->input_count; i++) {
        const struct shape *in = shape_of(origins, node->inputs[i]);
        size_t axis = view_axis(origins->of[node->inputs[i]], in);
        if (axis > 0) {
            return axis + out->rank - in->rank;
        }
    }
    return fallback;
}

static const struct view *follow_concat(struct origins *origins, const struct node *node) {
    const struct shape *out = shape_of(origins, node->output);
    size_t axis = axis_of_inputs(origins, node), at = 0;
    struct writers *all = mem_calloc(out->dim[axis], sizeof *all);
    bool ok = all != NULL;
    for (size_t i = 0; ok && i < node->input_count; i++) {
        ok = add_writers(origins, node->inputs[i], axis, all + at);
        at += axis == node->attr.axis ? shape_of(origins, node->inputs[i])->dim[axis] : 0;
    }
    const struct view *view = ok ? view_of_writers(origins, out, axis, all) : NULL;
    mem_free(all);
    return view;
}

/* Channel c of the output has the writers of channel c of each operand. One that is the same for all channels (a statistic, or
 * a gate over positions) says nothing of a single one. */
static const struct view *follow_arithmetic(struct origins *origins, const struct node *node) {
    const struct shape *out = shape_of(origins, node->output);
    size_t axis = axis_of_inputs(origins, node);
    struct writers *all = mem_calloc(out->dim[axis], sizeof *all);
    bool ok = all != NULL;
    for (size_t i = 0; ok && i < 2; i++) {
        const struct shape *in = shape_of(origins, node->inputs[i]);
        size_t missing = out->rank - in->rank;
        if (axis > missing && in->dim[axis - missing] == out->dim[axis]) {
            ok = add_writers(origins, node->inputs[i], axis - missing, all);
        }
    }
    const struct view *view = ok ? view_of_writers(origins, out, axis, all) : NULL;
    mem_free(all);
    return view;
}

static const struct view *follow_pad(struct origins *origins, const struct node *node) {
    const struct shape *in = shape_of(origins, node->inputs[0]);
    size_t axis = natural_axis(origins->of[node->inputs[0]], in);
    return axis == 0 ? origins->of[node->inputs[0]]
                     : follow_channels(origins, node, axis, axis, 1, node->attr.pad_begin[axis]);
}

static const struct view *follow_node(struct origins *origins, const struct node *node) {
    const struct shape *in = shape_of(origins, node->inputs[0]), *shape = shape_of(origins, node->output);
    const struct view *from = origins->of[node->inputs[0]];
    size_t input = 0;
    if (flow_is_pointwise(origins->network, node, &input)) {
        return origins->of[node->inputs[input]];
    }
    switch (node->op) {
    case OP_CONV:
        return flow_is_depthwise(origins->network, node)
                   ? follow_channels(origins, node, 1, 1, shape->dim[1] / in->dim[1], 0)
                   : view_nothing(&origins->pool);
    case OP_GEMM:
        return view_nothing(&origins->pool);
    case OP_SOFTMAX:
    case OP_LOG_SOFTMAX:
    case OP_RESHAPE:
        return elements_of(in) == elements_of(shape) ? from : view_merged(&origins->pool, from);
    case OP_MAX_POOL:
    case OP_AVERAGE_POOL:
    case OP_GLOBAL_AVERAGE_POOL:
    case OP_GLOBAL_MAX_POOL:
    case OP_RESIZE:
        return follow_channels(origins, node, 1, 1, 1, 0);
    case OP_SLICE:
        return follow_slice(origins, node);
    case OP_MATMUL:
        return follow_product(origins, node);
    case OP_REDUCE_MEAN:
    case OP_REDUCE_SUM:
    case OP_REDUCE_MAX:
        return follow_reduce(origins, node);
    case OP_PAD:
        return follow_pad(origins, node);
    case OP_CONCAT:
        return follow_concat(origins, node);
    case OP_TRANSPOSE:
        return follow_transpose(origins, node);
    case OP_ADD:
    case OP_SUB:
    case OP_MUL:
    case OP_DIV:
    case OP_POW:
    case OP_MIN:
    case OP_MAX:
    case OP_PRELU:
        return follow_arithmetic(origins, node);
    default:
        return view_merged(&origins->pool, from);
    }
}

/* The view of a unit layer's own value: channel c is written by unit first + c; with `before`, by what is before it as well. */
static const struct view *layer_view(struct origins *origins, const struct unit_layer *layer,
                                     const struct view *before) {
    const struct shape *shape = shape_of(origins, layer->value);
    struct lists *lists = lists_new(&origins->pool, layer->count);
    for (size_t c = 0; lists != NULL && c < layer->count; c++) {
        struct writers writers = {.unit = {(uint32_t)(layer->first + c)}, .count = 1};
        if (before != NULL) {
            const uint32_t *units;
            size_t count = channel_list(before, shape, layer->axis, c, &units);
            writers_add(&writers, units, count);
        }
        if (!lists_push(lists, writers.unit, writers.count)) {
            return NULL;
        }
    }
    return lists == NULL ? NULL : view_of_axis(&origins->pool, lists, shape, layer->axis);
}

static const struct unit_layer *layer_at(const struct unit_layer *layers, size_t layer_count, size_t value) {
    for (size_t i = 0; i < layer_count; i++) {
        if (layers[i].value == value) {
            return &layers[i];
        }
    }
    return NULL;
}

/* The view of a node's output. */
static const struct view *view_of_node(struct origins *origins, const struct node *node, const struct unit_layer *layer,
                                       bool through_norms) {
    if (layer == NULL) {
        return follow_node(origins, node);
    }
    const struct view *before = NULL;
    if (through_norms && layer->weight_node == NETWORK_NONE) {
        before =
            view_channels(&origins->pool, origins->of[node->inputs[0]], shape_of(origins, layer->value), layer->axis);
        if (before == NULL) {
            return NULL;
        }
    }
    return layer_view(origins, layer, before);
}

/* The axes that readers with weights take for channels; 0 for values without any. */
static void find_axes(struct origins *origins) {
    for (size_t i = origins->network->node_count; i-- > 0;) {
        const struct node *node = &origins->network->nodes[i];
        size_t rank = shape_of(origins, node->inputs[0])->rank;
        if (node->op == OP_CONV || node->op == OP_BATCH_NORM) {
            origins->axis[node->inputs[0]] = 1;
        } else if (node->op == OP_GEMM) {
            origins->axis[node->inputs[0]] = rank - 1;
        }
    }
}

static bool set_view(struct origins *origins, size_t value, const struct view *view) {
    const struct shape *shape = shape_of(origins, value);
    if (view == NULL) {
        return false;
    }
    origins->of[value] = view;
    if (origins->axis[value] == 0) {
        origins->axis[value] = natural_axis(view, shape);
    }
    size_t axis = origins->axis[value];
    origins->channel_of[value] =
        axis == 0 ? view_merged(&origins->pool, view) : view_channels(&origins->pool, view, shape, axis);
    return origins->channel_of[value] != NULL;
}

enum status origins_new(const struct network *network, const struct unit_layer *layers, size_t layer_count,
                        bool through_norms, struct origins **out, struct error *error) {
    enum status status = STATUS_OK;
    struct origins *origins = mem_calloc(1, sizeof *origins);
    bool ok = origins != NULL;
    if (!ok) {
        status = error_no_memory(error, "origins");
        goto fail;
    }
    origins->network = network;
    origins->of = mem_calloc(network->value_count, sizeof *origins->of);
    origins->axis = mem_calloc(network->value_count, sizeof *origins->axis);
    origins->channel_of = mem_calloc(network->value_count, sizeof *origins->channel_of);
    ok = origins->of != NULL && origins->axis != NULL && origins->channel_of != NULL;
    if (ok) {
        find_axes(origins);
    }
    for (size_t v = 0; ok && v < network->value_count; v++) {
        if (network->values[v].kind != VALUE_COMPUTED) {
            ok = set_view(origins, v, view_nothing(&origins->pool));
        }
    }
    for (size_t i = 0; ok && i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        const struct unit_layer *layer = layer_at(layers, layer_count, node->output);
        ok = set_view(origins, node->output, view_of_node(origins, node, layer, through_norms));
    }
    if (!ok) {
        status = error_no_memory(error, "origins");
        goto fail;
    }
    *out = origins;
    return STATUS_OK;
fail:
    origins_free(origins);
    return status;
}

void origins_free(struct origins *origins) {
    if (origins == NULL) {
        return;
    }
    view_pool_free(&origins->pool);
    mem_free(origins->of);
    mem_free(origins->axis);
    mem_free(origins->channel_of);
    mem_free(origins);
}

size_t origins_axis(const struct origins *origins, size_t value) {
    return origins->axis[value];
}

size_t origins_get(const struct origins *origins, size_t value, size_t channel, const uint32_t **units) {
    const struct view *view = origins->channel_of[value];
    return channel_list(view, shape_of(origins, value), origins->axis[value], channel, units);
}

size_t origins_blocks(const struct origins *origins, size_t value) {
    const struct view *view = origins->channel_of[value];
    const struct shape *shape = shape_of(origins, value);
    if (view->lists->blocks > 1) {
        return view->lists->blocks;
    }
    return shape->rank < 2 ? 1 : shape->dim[origins->axis[value]];
}

size_t origins_block_of(const struct origins *origins, size_t value, size_t channel) {
    const struct view *view = origins->channel_of[value];
    return view->lists->blocks > 1 ? view_block(view, shape_of(origins, value), origins->axis[value], channel)
                                   : channel;
}

size_t origins_block_units(const struct origins *origins, size_t value, size_t block, const uint32_t **units) {
    const struct view *view = origins->channel_of[value];
    return lists_get(view->lists, view->lists->blocks > 1 ? block : 0, units);
}

void origins_heads(const struct origins *origins, const struct node *matmul,
                   void (*join)(void *user, uint32_t a, uint32_t b), void *user) {
    const struct shape *shape = shape_of(origins, matmul->inputs[1]);
    const struct view *view = origins->of[matmul->inputs[1]];
    size_t matrix = shape->rank < 2 ? 1 : shape_count_from(shape, shape->rank - 2), heads = 1, columns = 1;
    /* Digits in the leading axes number the heads, the others the columns of one. */
    for (size_t k = 0; k < view->count; k++) {
        const struct digit *digit = &view->digit[k];
        if (digit->stride < matrix && digit->stride * digit->extent > matrix) {
            return;
        }
        *(digit->stride >= matrix ? &heads : &columns) *= digit->extent;
    }
    for (size_t h = 0; h < heads; h++) {
        const uint32_t *first = NULL, *units;
        for (size_t c = 0; c < columns; c++) {
            size_t block = 0, head = h, column = c;
            for (size_t k = 0; k < view->count; k++) {
                size_t *rest = view->digit[k].stride >= matrix ? &head : &column;
                block += *rest % view->digit[k].extent * view->digit[k].weight;
                *rest /= view->digit[k].extent;
            }
            size_t count = lists_get(view->lists, block, &units);
            first = first == NULL && count > 0 ? units : first;
            for (size_t i = 0; i < count; i++) {
                join(user, first[0], units[i]);
            }
        }
    }
}
