/* A new ONNX file from a network of ours: the reverse of the lowering, at opset 13 (14 if there is a HardSwish, which
 * that opset brought), with an open batch. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/onnx/onnx_build.h"
#include "server/onnx/onnx_model.h"
#include "server/onnx/onnx_names.h"

enum { IR_VERSION = 7, OPSET = 13, OPSET_HARD_SWISH = 14, EXTRA_INPUTS_MAX = 4, PARTS_MAX = 3 };

struct exporter {
    const struct network *network;
    struct onnx_build build;
    char **names;            /* one a value */
    const struct node *node; /* being written */
    struct error *error;
};

struct export_row {
    const char *operator; /* NULL: cannot be exported */
    void (*write)(struct exporter *exporter, Onnx__NodeProto *node);
    /* Not NULL: writes the node as several, if it has to; false if one of `operator` does. */
    bool (*parts)(struct exporter *exporter);
};

/* An extra input of a node (bounds, a shape, pads) as an initializer of its own. */
static char *extra_input(struct exporter *exporter, Onnx__NodeProto *node, const char *what) {
    struct onnx_build *build = &exporter->build;
    size_t size = strlen(exporter->names[exporter->node->output]) + strlen(what) + 2;
    char *name = build_alloc(build, size, 1);
    if (name != NULL) {
        (void)snprintf(name, size, "%s:%s", exporter->names[exporter->node->output], what);
        node->input[node->n_input++] = name;
    }
    return name;
}

static void extra_float(struct exporter *exporter, Onnx__NodeProto *node, const char *what, float value) {
    char *name = extra_input(exporter, node, what);
    if (name != NULL) {
        build_floats_tensor(&exporter->build, name, &(struct shape){.rank = 0}, &value);
    }
}

static void extra_integers(struct exporter *exporter, Onnx__NodeProto *node, const char *what, const int64_t *values,
                           size_t count) {
    char *name = extra_input(exporter, node, what);
    if (name != NULL) {
        build_integers_tensor(&exporter->build, name, values, count);
    }
}

static void write_nothing(struct exporter *exporter, Onnx__NodeProto *node) {
    (void)exporter;
    (void)node;
}

static void write_window(struct exporter *exporter, Onnx__NodeProto *node) {
    const struct window_attr *window = &exporter->node->attr.window;
    const size_t pads[4] = {window->pad_begin[0], window->pad_begin[1], window->pad_end[0], window->pad_end[1]};
    build_ints(&exporter->build, node, "kernel_shape", window->kernel, 2);
    build_ints(&exporter->build, node, "strides", window->stride, 2);
    build_ints(&exporter->build, node, "pads", pads, 4);
}

static void write_conv(struct exporter *exporter, Onnx__NodeProto *node) {
    const struct window_attr *window = &exporter->node->attr.window;
    write_window(exporter, node);
    build_ints(&exporter->build, node, "dilations", window->dilation, 2);
    build_int(&exporter->build, node, "group", (int64_t)window->group);
}

static void write_max_pool(struct exporter *exporter, Onnx__NodeProto *node) {
    const struct window_attr *window = &exporter->node->attr.window;
    write_window(exporter, node);
    build_ints(&exporter->build, node, "dilations", window->dilation, 2);
    build_int(&exporter->build, node, "ceil_mode", window->ceil_mode);
}

static void write_average_pool(struct exporter *exporter, Onnx__NodeProto *node) {
    write_window(exporter, node);
    build_int(&exporter->build, node, "ceil_mode", exporter->node->attr.window.ceil_mode);
    build_int(&exporter->build, node, "count_include_pad", exporter->node->attr.window.count_include_pad);
}

static void write_batch_norm(struct exporter *exporter, Onnx__NodeProto *node) {
    build_float(&exporter->build, node, "epsilon", exporter->node->attr.epsilon);
    build_float(&exporter->build, node, "momentum", exporter->node->attr.momentum);
}

static void write_gemm(struct exporter *exporter, Onnx__NodeProto *node) {
    build_float(&exporter->build, node, "alpha", exporter->node->attr.alpha);
    build_float(&exporter->build, node, "beta", exporter->node->attr.beta);
    build_int(&exporter->build, node, "transB", exporter->node->attr.trans_b);
}

static void write_alpha(struct exporter *exporter, Onnx__NodeProto *node) {
    build_float(&exporter->build, node, "alpha", exporter->node->attr.alpha);
}

static void write_alpha_beta(struct exporter *exporter, Onnx__NodeProto *node) {
    build_float(&exporter->build, node, "alpha", exporter->node->attr.alpha);
    build_float(&exporter->build, node, "beta", exporter->node->attr.beta);
}

static void write_clip(struct exporter *exporter, Onnx__NodeProto *node) {
    extra_float(exporter, node, "min", exporter->node->attr.low);
    extra_float(exporter, node, "max", exporter->node->attr.high);
}

static void write_axis(struct exporter *exporter, Onnx__NodeProto *node) {
    build_int(&exporter->build, node, "axis", (int64_t)exporter->node->attr.axis);
}

static void write_reduce(struct exporter *exporter, Onnx__NodeProto *node) {
    build_ints(&exporter->build, node, "axes", exporter->node->attr.axes, exporter->node->attr.axes_count);
    build_int(&exporter->build, node, "keepdims", exporter->node->attr.keep_dims);
}

static void write_reshape(struct exporter *exporter, Onnx__NodeProto *node) {
    const struct shape *shape = &exporter->node->attr.shape;
    int64_t target[SHAPE_RANK_MAX];
    for (size_t i = 0; i < shape->rank; i++) {
        target[i] = i == 0 ? -1 : (int64_t)shape->dim[i]; /* what is left is the batch */
    }
    extra_integers(exporter, node, "shape", target, shape->rank);
}

static void write_transpose(struct exporter *exporter, Onnx__NodeProto *node) {
    build_ints(&exporter->build, node, "perm", exporter->node->attr.axes, exporter->node->attr.axes_count);
}

static void write_pad(struct exporter *exporter, Onnx__NodeProto *node) {
    const struct op_attr *attr = &exporter->node->attr;
    size_t rank = exporter->network->values[exporter->node->inputs[0]].shape.rank;
    int64_t pads[2 * SHAPE_RANK_MAX];
    for (size_t i = 0; i < rank; i++) {
        pads[i] = (int64_t)attr->pad_begin[i];
        pads[rank + i] = (int64_t)attr->pad_end[i];
    }
    extra_integers(exporter, node, "pads", pads, 2 * rank);
    extra_float(exporter, node, "value", attr->pad_value);
}

/* Slopes and factors of both, which ONNX has apart. */
static void write_elu(struct exporter *exporter, Onnx__NodeProto *node) {
    build_float(&exporter->build, node, "alpha", exporter->node->attr.alpha);
    build_float(&exporter->build, node, "gamma", exporter->node->attr.beta);
}

static void write_reduce_sum(struct exporter *exporter, Onnx__NodeProto *node) {
    const struct op_attr *attr = &exporter->node->attr;
    int64_t axes[SHAPE_RANK_MAX];
    for (size_t i = 0; i < attr->axes_count; i++) {
        axes[i] = (int64_t)attr->axes[i];
    }
    extra_integers(exporter, node, "axes", axes, attr->axes_count);
    build_int(&exporter->build, node, "keepdims", attr->keep_dims);
}

/* Axes that repeat one element (step 0) are cut to it; write_slice_parts() repeats it. */
static void write_slice(struct exporter *exporter, Onnx__NodeProto *node) {
    const struct op_attr *attr = &exporter->node->attr;
    int64_t starts[SHAPE_RANK_MAX], ends[SHAPE_RANK_MAX], axes[SHAPE_RANK_MAX], steps[SHAPE_RANK_MAX];
    size_t count = attr->shape.rank - 1;
    for (size_t i = 0; i < count; i++) {
        int64_t step = attr->slice_step[i + 1] != 0 ? (int64_t)attr->slice_step[i + 1] : 1;
        size_t length = attr->slice_step[i + 1] != 0 ? attr->shape.dim[i + 1] : 1;
        starts[i] = (int64_t)attr->slice_start[i + 1];
        ends[i] = starts[i] + (int64_t)(length - 1) * step + (step > 0 ? 1 : -1);
        ends[i] = ends[i] < 0 ? -INT32_MAX : ends[i]; /* before the first: a plain -1 would be the last */
        axes[i] = (int64_t)i + 1;
        steps[i] = step;
    }
    extra_integers(exporter, node, "starts", starts, count);
    extra_integers(exporter, node, "ends", ends, count);
    extra_integers(exporter, node, "axes", axes, count);
    extra_integers(exporter, node, "steps", steps, count);
}

static void write_resize(struct exporter *exporter, Onnx__NodeProto *node) {
    static const char *const COORDINATES[] = {"half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"};
    static const char *const ROUNDING[] = {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"};
    const struct resize_attr *attr = &exporter->node->attr.resize;
    const struct shape *in = &exporter->network->values[exporter->node->inputs[0]].shape;
    float scales[4] = {1, 1, attr->scale[0], attr->scale[1]};
    for (size_t d = 0; d < 2; d++) { /* sizes would fix the batch; so the scales must give them, to the last bit */
        while (floorf((float)in->dim[2 + d] * scales[2 + d]) < (float)attr->size[d]) {
            scales[2 + d] = nextafterf(scales[2 + d], INFINITY);
        }
    }
    node->input[node->n_input++] = build_text(&exporter->build, "");
    char *name = extra_input(exporter, node, "scales");
    if (name != NULL) {
        build_floats_tensor(&exporter->build, name, &(struct shape){.rank = 1, .dim = {4}}, scales);
    }
    build_string(&exporter->build, node, "mode", attr->linear ? "linear" : "nearest");
    build_string(&exporter->build, node, "coordinate_transformation_mode", COORDINATES[attr->coordinates]);
    build_string(&exporter->build, node, "nearest_mode", ROUNDING[attr->rounding]);
}

/* Several nodes for one. The name of a value in between. */
static char *between(struct exporter *exporter, const char *what) {
    const char *base = exporter->names[exporter->node->output];
    size_t size = strlen(base) + strlen(what) + 2;
    char *name = build_alloc(&exporter->build, size, 1);
    if (name != NULL) {
        (void)snprintf(name, size, "%s:%s", base, what);
    }
    return name;
}

/* A node of the first inputs, with room for more; NULL after a failed allocation. */
static Onnx__NodeProto *add_part(struct exporter *exporter, const char *operator, char * const * inputs, size_t count,
                                 char *output) {
    struct onnx_build *build = &exporter->build;
    Onnx__NodeProto *proto = build_node(build, operator, output != NULL ? output : "", count + EXTRA_INPUTS_MAX);
    if (proto == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        proto->input[i] = inputs[i];
    }
    proto->n_input = count;
    proto->output[0] = output;
    proto->n_output = 1;
    build->graph->node[build->graph->n_node++] = proto;
    return proto;
}

static void add_reshape(struct exporter *exporter, char *from, char *to, const char *what, const struct shape *shape) {
    Onnx__NodeProto *proto = add_part(exporter, "Reshape", &from, 1, to);
    int64_t target[SHAPE_RANK_MAX];
    for (size_t i = 0; i < shape->rank; i++) {
        target[i] = i == 0 ? -1 : (int64_t)shape->dim[i];
    }
    if (proto != NULL) {
        extra_integers(exporter, proto, what, target, shape->rank);
    }
}

/* ONNX's Gemm has rows and columns only: what has more axes is a MatMul, or a Gemm between two Reshapes. */
static bool write_gemm_parts(struct exporter *exporter) {
    const struct node *node = exporter->node;
    const struct shape *in = &exporter->network->values[node->inputs[0]].shape;
    const struct shape *out = &exporter->network->values[node->output].shape;
    bool bias = node->input_count > 2 && node->inputs[2] != NETWORK_NONE;
    bool plain = !bias && !node->attr.trans_b && node->attr.alpha >= 1.0F && node->attr.alpha <= 1.0F;
    char *inputs[3] = {exporter->names[node->inputs[0]], exporter->names[node->inputs[1]],
                       bias ? exporter->names[node->inputs[2]] : NULL};
    if (in->rank == 2) {
        return false;
    }
    if (plain) {
        (void)add_part(exporter, "MatMul", inputs, 2, exporter->names[node->output]);
        return true;
    }
    char *rows = between(exporter, "rows"), *product = between(exporter, "product");
    add_reshape(exporter, inputs[0], rows, "rows_shape", &(struct shape){.rank = 2, .dim = {1, in->dim[in->rank - 1]}});
    inputs[0] = rows;
    Onnx__NodeProto *proto = add_part(exporter, "Gemm", inputs, bias ? 3 : 2, product);
    write_gemm(exporter, proto);
    add_reshape(exporter, product, exporter->names[node->output], "shape", out);
    return true;
}

/* Mish came with opset 18. */
static bool write_mish_parts(struct exporter *exporter) {
    char *x = exporter->names[exporter->node->inputs[0]];
    char *soft = between(exporter, "softplus"), *bent = between(exporter, "tanh");
    (void)add_part(exporter, "Softplus", &x, 1, soft);
    (void)add_part(exporter, "Tanh", &soft, 1, bent);
    (void)add_part(exporter, "Mul", (char *[]){x, bent}, 2, exporter->names[exporter->node->output]);
    return true;
}

static bool write_slice_parts(struct exporter *exporter) {
    const struct node *node = exporter->node;
    int64_t target[SHAPE_RANK_MAX];
    bool repeats = false;
    for (size_t i = 0; i < node->attr.shape.rank; i++) {
        bool repeated = node->attr.slice_step[i] == 0;
        target[i] = repeated ? (int64_t)node->attr.shape.dim[i] : 1;
        repeats = repeats || repeated;
    }
    if (!repeats) {
        return false;
    }
    char *part = between(exporter, "part");
    Onnx__NodeProto *slice = add_part(exporter, "Slice", &exporter->names[node->inputs[0]], 1, part);
    if (slice != NULL) {
        write_slice(exporter, slice);
    }
    Onnx__NodeProto *expand = add_part(exporter, "Expand", &part, 1, exporter->names[node->output]);
    if (expand != NULL) {
        extra_integers(exporter, expand, "shape", target, node->attr.shape.rank);
    }
    return true;
}

static const struct export_row ROWS[OP_KIND_COUNT] = {
    [OP_CONV] = {"Conv", write_conv},
    [OP_BATCH_NORM] = {"BatchNormalization", write_batch_norm},
    [OP_GEMM] = {"Gemm", write_gemm, write_gemm_parts},
    [OP_RELU] = {"Relu", write_nothing},
    [OP_LEAKY_RELU] = {"LeakyRelu", write_alpha},
    [OP_CLIP] = {"Clip", write_clip},
    [OP_SIGMOID] = {"Sigmoid", write_nothing},
    [OP_TANH] = {"Tanh", write_nothing},
    [OP_HARD_SIGMOID] = {"HardSigmoid", write_alpha_beta},
    [OP_HARD_SWISH] = {"HardSwish", write_nothing},
    [OP_SOFTMAX] = {"Softmax", write_axis},
    [OP_ADD] = {"Add", write_nothing},
    [OP_SUB] = {"Sub", write_nothing},
    [OP_MUL] = {"Mul", write_nothing},
    [OP_DIV] = {"Div", write_nothing},
    [OP_MAX_POOL] = {"MaxPool", write_max_pool},
    [OP_AVERAGE_POOL] = {"AveragePool", write_average_pool},
    [OP_GLOBAL_AVERAGE_POOL] = {"GlobalAveragePool", write_nothing},
    [OP_GLOBAL_MAX_POOL] = {"GlobalMaxPool", write_nothing},
    [OP_REDUCE_MEAN] = {"ReduceMean", write_reduce},
    [OP_CONCAT] = {"Concat", write_axis},
    [OP_RESHAPE] = {"Reshape", write_reshape},
    [OP_TRANSPOSE] = {"Transpose", write_transpose},
    [OP_PAD] = {"Pad", write_pad},
    [OP_IDENTITY] = {"Identity", write_nothing},
    [OP_ELU] = {"Selu", write_elu},
    [OP_SOFTPLUS] = {"Softplus", write_nothing},
    [OP_MISH] = {"Mish", write_nothing, write_mish_parts},
    [OP_ERF] = {"Erf", write_nothing},
    [OP_SQRT] = {"Sqrt", write_nothing},
    [OP_EXP] = {"Exp", write_nothing},
    [OP_LOG] = {"Log", write_nothing},
    [OP_NEG] = {"Neg", write_nothing},
    [OP_ABS] = {"Abs", write_nothing},
    [OP_RECIPROCAL] = {"Reciprocal", write_nothing},
    [OP_LOG_SOFTMAX] = {"LogSoftmax", write_axis},
    [OP_POW] = {"Pow", write_nothing},
    [OP_MIN] = {"Min", write_nothing},
    [OP_MAX] = {"Max", write_nothing},
    [OP_PRELU] = {"PRelu", write_nothing},
    [OP_REDUCE_SUM] = {"ReduceSum", write_reduce_sum},
    [OP_REDUCE_MAX] = {"ReduceMax", write_reduce},
    [OP_SLICE] = {"Slice", write_slice, write_slice_parts},
    [OP_MATMUL] = {"MatMul", write_nothing},
    [OP_RESIZE] = {"Resize", write_resize},
};

/* Names of values must be unique in ONNX; in our networks they need not be. ':' is kept for extra inputs. */
static enum status name_values(struct exporter *exporter) {
    const struct network *network = exporter->network;
    struct onnx_build *build = &exporter->build;
    struct onnx_names *seen = onnx_names_new(build->arena, network->value_count);
    exporter->names = build_alloc(build, network->value_count, sizeof *exporter->names);
    if (seen == NULL || exporter->names == NULL) {
        return error_no_memory(exporter->error, "the names of an exported model");
    }
    for (size_t i = 0; i < network->value_count; i++) {
        const char *base =
            network->values[i].name != NULL && network->values[i].name[0] != '\0' ? network->values[i].name : "value";
        size_t size = strlen(base) + 32, index = 0;
        char *name = build_alloc(build, size, 1);
        for (size_t k = 0; name != NULL; k++) {
            (void)snprintf(name, size, k == 0 ? "%s" : "%s.%zu", base, k);
            if (onnx_names_add(seen, name, &index)) {
                break;
            }
        }
        if (name == NULL) {
            return error_no_memory(exporter->error, "the names of an exported model");
        }
        exporter->names[i] = name;
    }
    return STATUS_OK;
}

static enum status write_node(struct exporter *exporter, size_t index) {
    const struct node *node = &exporter->network->nodes[index];
    struct onnx_build *build = &exporter->build;
    const struct export_row *row = &ROWS[node->op];
    if (row->operator== NULL) {
        char where[ERROR_WHERE_MAX];
        (void)snprintf(where, sizeof where, "node '%.140s'", node->name);
        return error_set(exporter->error, STATUS_UNSUPPORTED, where,
                         "failed to export node '%s': got %s, expected an operator of ONNX", node->name,
                         op_kind_name(node->op));
    }
    exporter->node = node;
    if (row->parts == NULL || !row->parts(exporter)) {
        Onnx__NodeProto *proto = build_node(build, row->operator, node->name, node->input_count + EXTRA_INPUTS_MAX);
        if (proto == NULL) {
            return error_no_memory(exporter->error, "a node of an exported model");
        }
        for (size_t i = 0; i < node->input_count; i++) {
            proto->input[i] =
                node->inputs[i] == NETWORK_NONE ? build_text(build, "") : exporter->names[node->inputs[i]];
        }
        proto->n_input = node->input_count;
        proto->output[0] = exporter->names[node->output];
        proto->n_output = 1;
        row->write(exporter, proto);
        build->graph->node[build->graph->n_node++] = proto;
    }
    return build->failed ? error_no_memory(exporter->error, "a node of an exported model") : STATUS_OK;
}

static bool has_hard_swish(const struct network *network) {
    for (size_t i = 0; i < network->node_count; i++) {
        if (network->nodes[i].op == OP_HARD_SWISH) {
            return true;
        }
    }
    return false;
}

static enum status write_graph(struct exporter *exporter) {
    const struct network *network = exporter->network;
    struct onnx_build *build = &exporter->build;
    Onnx__GraphProto *graph = build->graph;
    build->initializer_max = network->value_count + EXTRA_INPUTS_MAX * network->node_count;
    graph->initializer = build_alloc(build, build->initializer_max, sizeof(void *));
    graph->node = build_alloc(build, PARTS_MAX * network->node_count, sizeof(void *));
    graph->input = build_alloc(build, 1, sizeof(void *));
    graph->output = build_alloc(build, 1, sizeof(void *));
    graph->name = build_text(build, "onp");
    if (build->failed) {
        return error_no_memory(exporter->error, "the graph of an exported model");
    }
    for (size_t i = 0; i < network->value_count; i++) {
        const struct value *value = &network->values[i];
        if (value->kind == VALUE_CONSTANT) {
            build_floats_tensor(build, exporter->names[i], &value->shape, value->data);
        }
    }
    for (size_t i = 0; i < network->node_count; i++) {
        enum status status = write_node(exporter, i);
        if (status != STATUS_OK) {
            return status;
        }
    }
    graph->input[graph->n_input++] =
        build_value_info(build, exporter->names[network->input], &network->values[network->input].shape);
    graph->output[graph->n_output++] =
        build_value_info(build, exporter->names[network->output], &network->values[network->output].shape);
    return build->failed ? error_no_memory(exporter->error, "the graph of an exported model") : STATUS_OK;
}

static enum status pack(struct exporter *exporter, Onnx__ModelProto *model, uint8_t **bytes, size_t *length) {
    size_t size = onnx__model_proto__get_packed_size(model);
    uint8_t *packed = mem_alloc(size, 1);
    if (packed == NULL) {
        return error_no_memory(exporter->error, "an exported model");
    }
    *length = onnx__model_proto__pack(model, packed);
    *bytes = packed;
    return STATUS_OK;
}

enum status onnx_export(const struct network *network, const char *producer, uint8_t **bytes, size_t *length,
                        struct error *error) {
    Onnx__ModelProto model = ONNX__MODEL_PROTO__INIT;
    Onnx__GraphProto graph = ONNX__GRAPH_PROTO__INIT;
    Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT;
    Onnx__OperatorSetIdProto *imports[1] = {&opset};
    struct exporter exporter = {.network = network, .build = {.graph = &graph}, .error = error};
    enum status status = STATUS_OK;
    if (network->input == NETWORK_NONE || network->output == NETWORK_NONE) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to export network: got no input or no output, expected both");
    }
    exporter.build.arena = arena_new(0);
    if (exporter.build.arena == NULL) {
        return error_no_memory(error, "an exported model");
    }
    status = name_values(&exporter);
    if (status == STATUS_OK) {
        status = write_graph(&exporter);
    }
    opset.domain = build_text(&exporter.build, "");
    opset.has_version = 1;
    opset.version = has_hard_swish(network) ? OPSET_HARD_SWISH : OPSET;
    model.has_ir_version = 1;
    model.ir_version = IR_VERSION;
    model.producer_name = build_text(&exporter.build, producer);
    model.opset_import = imports;
    model.n_opset_import = 1;
    model.graph = &graph;
    if (status == STATUS_OK && exporter.build.failed) {
        status = error_no_memory(error, "an exported model");
    }
    if (status == STATUS_OK) {
        status = pack(&exporter, &model, bytes, length);
    }
    arena_free(exporter.build.arena);
    return status;
}
