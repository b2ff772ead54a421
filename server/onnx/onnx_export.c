/* A new ONNX file from a network of ours: the reverse of the lowering, at opset 13 (14 if there is a HardSwish, which
 * that opset brought), with an open batch. */
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/onnx/onnx_build.h"
#include "server/onnx/onnx_model.h"
#include "server/onnx/onnx_names.h"

enum { IR_VERSION = 7, OPSET = 13, OPSET_HARD_SWISH = 14, EXTRA_INPUTS_MAX = 2 };

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

static const struct export_row ROWS[OP_KIND_COUNT] = {
    [OP_CONV] = {"Conv", write_conv},
    [OP_BATCH_NORM] = {"BatchNormalization", write_batch_norm},
    [OP_GEMM] = {"Gemm", write_gemm},
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

/* A Gemm over more than rows and columns is a MatMul in ONNX, which has neither bias nor factors. */
static bool is_matmul(const struct exporter *exporter, const struct node *node) {
    return node->op == OP_GEMM && exporter->network->values[node->inputs[0]].shape.rank > 2;
}

static enum status write_node(struct exporter *exporter, size_t index) {
    const struct node *node = &exporter->network->nodes[index];
    struct onnx_build *build = &exporter->build;
    const struct export_row *row = &ROWS[node->op];
    const char *operator= row->operator;
    bool plain = node->input_count == 2 && !node->attr.trans_b && node->attr.alpha == 1.0F;
    bool matmul = is_matmul(exporter, node);
    if (operator== NULL ||(matmul && !plain)) {
        char where[ERROR_WHERE_MAX];
        (void)snprintf(where, sizeof where, "node '%.140s'", node->name);
        return error_set(exporter->error, STATUS_UNSUPPORTED, where,
                         "failed to export node '%s': got %s, expected an operator of ONNX", node->name,
                         op_kind_name(node->op));
    }
    Onnx__NodeProto *proto =
        build_node(build, matmul ? "MatMul" : operator, node->name, node->input_count + EXTRA_INPUTS_MAX);
    if (proto == NULL) {
        return error_no_memory(exporter->error, "a node of an exported model");
    }
    for (size_t i = 0; i < node->input_count; i++) {
        proto->input[i] = node->inputs[i] == NETWORK_NONE ? build_text(build, "") : exporter->names[node->inputs[i]];
    }
    proto->n_input = node->input_count;
    proto->output[0] = exporter->names[node->output];
    proto->n_output = 1;
    exporter->node = node;
    if (!matmul) {
        row->write(exporter, proto);
    }
    build->graph->node[build->graph->n_node++] = proto;
    return STATUS_OK;
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
    graph->node = build_alloc(build, network->node_count, sizeof(void *));
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
