/* Origins of channels.
 *
 * The elements of a value at batch 1 are cut into equal blocks of `inner` consecutive elements, and each block has a list of the
 * units that write it (a "view"). After a Conv a block is a channel plane. Flatten and Reshape keep the elements in
 * order, so they keep the view as it is; a Transpose permutes blocks. That is how positions of a flattened plane find their channel. */
#include "server/graph/origins.h"

#include <string.h>

#include "common/mem.h"
#include "server/graph/flow.h"

struct view {
    size_t blocks, inner;
    size_t *start;     /* (blocks + 1) */
    uint32_t *unit;    /* lists, each ascending */
    size_t capacity;   /* of unit */
    size_t filled;     /* blocks written so far */
    struct view *next; /* all views of an origins, for freeing */
};

struct origins {
    const struct network *network;
    size_t value_count;
    struct view *views;
    const struct view **of; /* (values) */
    const struct view *
        *channel_of; /* (values): a view whose blocks are no finer than a channel; made when first read */
};

static struct view *view_new(struct origins *origins, size_t blocks, size_t inner) {
    struct view *view = mem_calloc(1, sizeof *view);
    if (view == NULL) {
        return NULL;
    }
    view->start = mem_calloc(blocks + 1, sizeof *view->start);
    if (view->start == NULL) {
        mem_free(view);
        return NULL;
    }
    view->blocks = blocks;
    view->inner = inner;
    view->next = origins->views;
    origins->views = view;
    return view;
}

static bool view_reserve(struct view *view, size_t more) {
    size_t need = view->start[view->filled] + more;
    if (need <= view->capacity) {
        return true;
    }
    size_t capacity = view->capacity * 2 > need ? view->capacity * 2 : need + view->blocks;
    uint32_t *unit = mem_realloc(view->unit, capacity, sizeof *unit);
    if (unit == NULL) {
        return false;
    }
    view->unit = unit;
    view->capacity = capacity;
    return true;
}

/* The next block gets the list of `count` units. */
static bool view_push(struct view *view, const uint32_t *units, size_t count) {
    if (!view_reserve(view, count)) {
        return false;
    }
    if (count > 0) {
        memcpy(view->unit + view->start[view->filled], units, count * sizeof *units);
    }
    view->start[view->filled + 1] = view->start[view->filled] + count;
    view->filled++;
    return true;
}

static size_t view_list(const struct view *view, size_t block, const uint32_t **units) {
    if (view->unit == NULL) { /* no block of the view has a writer */
        *units = NULL;
        return 0;
    }
    *units = view->unit + view->start[block];
    return view->start[block + 1] - view->start[block];
}

/* A short ascending list that unions are made in. Twice the limit, so that one more list always fits before it is cut. */
struct writers {
    uint32_t unit[2 * ORIGINS_WRITERS_MAX];
    size_t count;
};

static void writers_add(struct writers *writers, const uint32_t *units, size_t count) {
    uint32_t merged[2 * ORIGINS_WRITERS_MAX];
    size_t a = 0, b = 0, n = 0;
    while (a < writers->count || b < count) {
        if (b == count || (a < writers->count && writers->unit[a] < units[b])) {
            merged[n++] = writers->unit[a++];
        } else {
            if (a < writers->count && writers->unit[a] == units[b]) {
                a++;
            }
            merged[n++] = units[b++];
        }
    }
    size_t drop = n > ORIGINS_WRITERS_MAX ? n - ORIGINS_WRITERS_MAX : 0;
    memcpy(writers->unit, merged + drop, (n - drop) * sizeof *merged);
    writers->count = n - drop;
}

static void writers_add_blocks(struct writers *writers, const struct view *view, size_t first, size_t end) {
    for (size_t i = first; i < end; i++) {
        const uint32_t *units;
        size_t count = view_list(view, i, &units);
        writers_add(writers, units, count);
    }
}

static const struct shape *shape_of(const struct origins *origins, size_t value) {
    return &origins->network->values[value].shape;
}

/* Elements of one sample block (dim 0 is not counted, see network.h). */
static size_t elements_of(const struct shape *shape) {
    return shape->rank == 0 ? 1 : shape_count_from(shape, 1);
}

static size_t channels_of(const struct shape *shape) {
    return shape->rank < 2 ? 1 : shape->dim[1];
}

/* One block with every writer of the value: what is left to say when an op mixes channels. */
static const struct view *view_merged(struct origins *origins, const struct view *from, size_t elements) {
    struct writers writers = {.count = 0};
    writers_add_blocks(&writers, from, 0, from->blocks);
    struct view *view = view_new(origins, 1, elements);
    return view != NULL && view_push(view, writers.unit, writers.count) ? view : NULL;
}

/* A view of `value` in which each channel lies inside one block. */
static const struct view *channel_view(struct origins *origins, size_t value) {
    if (origins->channel_of[value] != NULL) {
        return origins->channel_of[value];
    }
    const struct view *from = origins->of[value];
    const struct shape *shape = shape_of(origins, value);
    size_t channels = channels_of(shape), inner = elements_of(shape) / channels;
    const struct view *result = NULL;
    if (from->inner % inner == 0) {
        result = from;
    } else if (inner % from->inner != 0) {
        result = view_merged(origins, from, elements_of(shape));
    } else {
        struct view *view = view_new(origins, channels, inner);
        size_t each = inner / from->inner;
        for (size_t c = 0; view != NULL && c < channels; c++) {
            struct writers writers = {.count = 0};
            writers_add_blocks(&writers, from, c * each, (c + 1) * each);
            if (!view_push(view, writers.unit, writers.count)) {
                return NULL;
            }
        }
        result = view;
    }
    origins->channel_of[value] = result;
    return result;
}

static size_t channel_list(const struct view *view, const struct shape *shape, size_t channel, const uint32_t **units) {
    size_t inner = elements_of(shape) / channels_of(shape);
    return view_list(view, channel * inner / view->inner, units);
}

/* Output channel `c` comes from channel map(c) = c / divide - offset of the input (no writer outside of it); the planes change size. */
static const struct view *follow_channels(struct origins *origins, const struct node *node, size_t divide,
                                          size_t offset) {
    const struct view *from = channel_view(origins, node->inputs[0]);
    const struct shape *in = shape_of(origins, node->inputs[0]), *shape = shape_of(origins, node->output);
    size_t channels = channels_of(shape);
    struct view *view = from == NULL ? NULL : view_new(origins, channels, elements_of(shape) / channels);
    for (size_t c = 0; view != NULL && c < channels; c++) {
        const uint32_t *units = NULL;
        size_t source = c / divide, count = 0;
        if (source >= offset && source - offset < channels_of(in)) {
            count = channel_list(from, in, source - offset, &units);
        }
        if (!view_push(view, units, count)) {
            return NULL;
        }
    }
    return view;
}

/* Output channel c is input channel start + c step; a part of the other axes keeps the channels. */
static const struct view *follow_slice(struct origins *origins, const struct node *node) {
    const struct view *from = channel_view(origins, node->inputs[0]);
    const struct shape *in = shape_of(origins, node->inputs[0]), *shape = shape_of(origins, node->output);
    size_t channels = channels_of(shape);
    struct view *view = from == NULL ? NULL : view_new(origins, channels, elements_of(shape) / channels);
    for (size_t c = 0; view != NULL && c < channels; c++) {
        const uint32_t *units = NULL;
        size_t source =
            shape->rank < 2 ? 0 : node->attr.slice_start[1] + (size_t)((ptrdiff_t)c * node->attr.slice_step[1]);
        size_t count = channel_list(from, in, source, &units);
        if (!view_push(view, units, count)) {
            return NULL;
        }
    }
    return view;
}

/* Every writer of either side. */
static const struct view *follow_product(struct origins *origins, const struct node *node) {
    struct writers writers = {.count = 0};
    for (size_t i = 0; i < 2; i++) {
        const struct view *from = origins->of[node->inputs[i]];
        writers_add_blocks(&writers, from, 0, from->blocks);
    }
    struct view *view = view_new(origins, 1, elements_of(shape_of(origins, node->output)));
    return view != NULL && view_push(view, writers.unit, writers.count) ? view : NULL;
}

static const struct view *follow_concat(struct origins *origins, const struct node *node) {
    const struct shape *shape = shape_of(origins, node->output);
    size_t channels = channels_of(shape);
    struct view *view = view_new(origins, channels, elements_of(shape) / channels);
    if (view == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < node->input_count; i++) {
        if (channel_view(origins, node->inputs[i]) == NULL) {
            return NULL;
        }
    }
    if (node->attr.axis == 1) {
        for (size_t i = 0; i < node->input_count; i++) {
            const struct shape *in = shape_of(origins, node->inputs[i]);
            for (size_t c = 0; c < channels_of(in); c++) {
                const uint32_t *units;
                size_t count = channel_list(origins->channel_of[node->inputs[i]], in, c, &units);
                if (!view_push(view, units, count)) {
                    return NULL;
                }
            }
        }
        return view;
    }
    for (size_t c = 0; c < channels; c++) {
        struct writers writers = {.count = 0};
        for (size_t i = 0; i < node->input_count; i++) {
            const uint32_t *units;
            size_t count =
                channel_list(origins->channel_of[node->inputs[i]], shape_of(origins, node->inputs[i]), c, &units);
            writers_add(&writers, units, count);
        }
        if (!view_push(view, writers.unit, writers.count)) {
            return NULL;
        }
    }
    return view;
}

/* Add, Sub, Mul, Div: channel c of the output has the writers of channel c of each operand, by broadcasting. */
static const struct view *follow_arithmetic(struct origins *origins, const struct node *node) {
    const struct shape *shape = shape_of(origins, node->output);
    size_t channels = channels_of(shape);
    struct view *view = view_new(origins, channels, elements_of(shape) / channels);
    if (view == NULL || channel_view(origins, node->inputs[0]) == NULL ||
        channel_view(origins, node->inputs[1]) == NULL) {
        return NULL;
    }
    for (size_t c = 0; c < channels; c++) {
        struct writers writers = {.count = 0};
        for (size_t i = 0; i < 2; i++) {
            const struct shape *in = shape_of(origins, node->inputs[i]);
            const struct view *from = origins->channel_of[node->inputs[i]];
            if (in->rank == shape->rank && channels_of(in) == channels) {
                const uint32_t *units;
                size_t count = channel_list(from, in, c, &units);
                writers_add(&writers, units, count);
            } else {
                writers_add_blocks(&writers, from, 0, from->blocks);
            }
        }
        if (!view_push(view, writers.unit, writers.count)) {
            return NULL;
        }
    }
    return view;
}

/* Blocks keep their inside if they are made of whole trailing dims that stay in place; then a transpose only moves blocks. */
static const struct view *follow_transpose(struct origins *origins, const struct node *node) {
    const struct view *from = origins->of[node->inputs[0]];
    const struct shape *in = shape_of(origins, node->inputs[0]), *shape = shape_of(origins, node->output);
    size_t rank = shape->rank, kept = rank, block = 1;
    while (kept > 1 && node->attr.axes[kept - 1] == kept - 1 && from->inner % (block * shape->dim[kept - 1]) == 0) {
        block *= shape->dim[--kept];
    }
    size_t elements = elements_of(shape), stride[SHAPE_RANK_MAX] = {0}, index[SHAPE_RANK_MAX] = {0};
    for (size_t d = 1; d < kept; d++) {
        stride[d] = shape_count_from(in, node->attr.axes[d] + 1);
    }
    struct view *view = view_new(origins, elements / block, block);
    for (size_t b = 0; view != NULL && b < elements / block; b++) {
        size_t source = 0;
        for (size_t d = 1; d < kept; d++) {
            source += index[d] * stride[d];
        }
        const uint32_t *units;
        size_t count = view_list(from, source / from->inner, &units);
        if (!view_push(view, units, count)) {
            return NULL;
        }
        for (size_t d = kept; d-- > 1;) {
            if (++index[d] < shape->dim[d]) {
                break;
            }
            index[d] = 0;
        }
    }
    return view;
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
        if (flow_is_depthwise(origins->network, node)) {
            return follow_channels(origins, node, shape->dim[1] / in->dim[1], 0);
        }
        return view_new(origins, 1, elements_of(shape));
    case OP_GEMM:
        return view_new(origins, 1, elements_of(shape));
    case OP_SOFTMAX:
    case OP_LOG_SOFTMAX:
    case OP_RESHAPE:
        return elements_of(in) == elements_of(shape) ? from : view_merged(origins, from, elements_of(shape));
    case OP_MAX_POOL:
    case OP_AVERAGE_POOL:
    case OP_GLOBAL_AVERAGE_POOL:
    case OP_GLOBAL_MAX_POOL:
    case OP_RESIZE:
        return follow_channels(origins, node, 1, 0);
    case OP_SLICE:
        return follow_slice(origins, node);
    case OP_MATMUL:
        return follow_product(origins, node);
    case OP_REDUCE_MEAN:
    case OP_REDUCE_SUM:
    case OP_REDUCE_MAX:
        for (size_t i = 0; i < node->attr.axes_count; i++) {
            if (node->attr.axes[i] <= 1) {
                return view_merged(origins, from, elements_of(shape));
            }
        }
        return follow_channels(origins, node, 1, 0);
    case OP_PAD:
        return follow_channels(origins, node, 1, shape->rank < 2 ? 0 : node->attr.pad_begin[1]);
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
        return view_merged(origins, from, elements_of(shape));
    }
}

/* The view of a unit layer's own value: channel c is written by unit first + c; with `before`, by what is before it as well. */
static const struct view *layer_view(struct origins *origins, const struct unit_layer *layer,
                                     const struct view *before) {
    const struct shape *shape = shape_of(origins, layer->value);
    struct view *view = view_new(origins, layer->count, elements_of(shape) / layer->count);
    for (size_t c = 0; view != NULL && c < layer->count; c++) {
        struct writers writers = {.unit = {(uint32_t)(layer->first + c)}, .count = 1};
        if (before != NULL) {
            const uint32_t *units;
            size_t count = channel_list(before, shape, c, &units);
            writers_add(&writers, units, count);
        }
        if (!view_push(view, writers.unit, writers.count)) {
            return NULL;
        }
    }
    return view;
}

static const struct unit_layer *layer_at(const struct unit_layer *layers, size_t layer_count, size_t value) {
    for (size_t i = 0; i < layer_count; i++) {
        if (layers[i].value == value) {
            return &layers[i];
        }
    }
    return NULL;
}

enum status origins_new(const struct network *network, const struct unit_layer *layers, size_t layer_count,
                        bool through_norms, struct origins **out, struct error *error) {
    enum status status = STATUS_OK;
    struct origins *origins = mem_calloc(1, sizeof *origins);
    if (origins == NULL) {
        status = error_no_memory(error, "origins");
        goto fail;
    }
    origins->network = network;
    origins->value_count = network->value_count;
    origins->of = mem_calloc(network->value_count, sizeof *origins->of);
    origins->channel_of = mem_calloc(network->value_count, sizeof *origins->channel_of);
    if (origins->of == NULL || origins->channel_of == NULL) {
        status = error_no_memory(error, "origins");
        goto fail;
    }
    for (size_t v = 0; v < network->value_count; v++) {
        if (network->values[v].kind != VALUE_COMPUTED) {
            size_t elements = elements_of(&network->values[v].shape);
            const struct view *view = view_new(origins, 1, elements > 0 ? elements : 1);
            /* A constant may broadcast from any shape: it has no writers whatever its blocks are. */
            origins->of[v] = origins->channel_of[v] = view;
            if (view == NULL) {
                status = error_no_memory(error, "origins");
                goto fail;
            }
        }
    }
    for (size_t i = 0; i < network->node_count; i++) {
        const struct node *node = &network->nodes[i];
        const struct unit_layer *layer = layer_at(layers, layer_count, node->output);
        const struct view *view = NULL;
        if (layer == NULL) {
            view = follow_node(origins, node);
        } else if (through_norms && layer->weight_node == NETWORK_NONE) {
            const struct view *before = channel_view(origins, node->inputs[0]);
            view = before == NULL ? NULL : layer_view(origins, layer, before);
        } else {
            view = layer_view(origins, layer, NULL);
        }
        origins->of[node->output] = view;
        if (view == NULL || channel_view(origins, node->output) == NULL) {
            status = error_no_memory(error, "origins");
            goto fail;
        }
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
    while (origins->views != NULL) {
        struct view *view = origins->views;
        origins->views = view->next;
        mem_free(view->start);
        mem_free(view->unit);
        mem_free(view);
    }
    mem_free(origins->of);
    mem_free(origins->channel_of);
    mem_free(origins);
}

size_t origins_get(const struct origins *origins, size_t value, size_t channel, const uint32_t **units) {
    const struct view *view = origins->channel_of[value];
    const struct shape *shape = shape_of(origins, value);
    if (view->blocks == 1) {
        return view_list(view, 0, units);
    }
    return channel_list(view, shape, channel, units);
}

size_t origins_blocks(const struct origins *origins, size_t value) {
    const struct view *view = origins->channel_of[value];
    return view->blocks == 1 ? channels_of(shape_of(origins, value)) : view->blocks;
}

size_t origins_block_of(const struct origins *origins, size_t value, size_t channel) {
    const struct view *view = origins->channel_of[value];
    const struct shape *shape = shape_of(origins, value);
    return view->blocks == 1 ? channel : channel * (elements_of(shape) / channels_of(shape)) / view->inner;
}

size_t origins_block_units(const struct origins *origins, size_t value, size_t block, const uint32_t **units) {
    const struct view *view = origins->channel_of[value];
    return view_list(view, view->blocks == 1 ? 0 : block, units);
}
