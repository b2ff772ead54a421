/* The network IR: values and nodes in topological order, each node with exactly one output value.
 *
 * Batch: the shape of a computed value is its shape at batch 1; at batch N it is N such blocks one after the other
 * (dim[0] times N). No op mixes samples along dim[0], so a network planned for one sample runs for any N. A file whose
 * batch is fixed at 1 therefore runs at any batch too.
 *
 * Constants (weights) are values with data, in the layout of the ONNX file. Integer inputs of ONNX operators (axes,
 * shapes, pads) never become values: lowering turns them into attributes.
 *
 * A network is built by one thread and not changed afterwards but for the data of its constants
 * (network_constant_data()), which nobody may touch while an engine runs it. */
#ifndef ONP_SERVER_NN_NETWORK_H
#define ONP_SERVER_NN_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "server/nn/tensor.h"

enum op_kind {
    OP_CONV,       /* x, weight (M, C/group, kH, kW) [, bias (M)] */
    OP_BATCH_NORM, /* x, scale (C), bias (C), mean (C), variance (C) */
    OP_GEMM,       /* x (N, K), weight [, bias]: y = alpha x op(W) + beta b */
    OP_RELU,
    OP_LEAKY_RELU,
    OP_CLIP,
    OP_SIGMOID,
    OP_TANH,
    OP_HARD_SIGMOID,
    OP_HARD_SWISH,
    OP_SOFTMAX,
    OP_ADD, /* the four with NumPy broadcasting; either side may be a constant */
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_MAX_POOL,
    OP_AVERAGE_POOL,
    OP_GLOBAL_AVERAGE_POOL, /* (N, C, H, W) -> (N, C, 1, 1) */
    OP_GLOBAL_MAX_POOL,
    OP_REDUCE_MEAN, /* over `axes`, never axis 0 */
    OP_CONCAT,
    OP_RESHAPE,   /* Flatten, Reshape, Squeeze, Unsqueeze: same data, other shape */
    OP_TRANSPOSE, /* perm[0] == 0 */
    OP_PAD,       /* constant padding */
    OP_IDENTITY,  /* Identity, Dropout at inference */
    OP_ELU,       /* the rows of op_unary.c: beta * (x < 0 ? alpha (e^x - 1) : x); Selu too */
    OP_SOFTPLUS,
    OP_MISH,
    OP_ERF,
    OP_SQRT,
    OP_EXP,
    OP_LOG,
    OP_NEG,
    OP_ABS,
    OP_RECIPROCAL,
    OP_LOG_SOFTMAX,
    OP_POW, /* broadcasting, as OP_ADD */
    OP_MIN,
    OP_MAX,
    OP_PRELU,      /* x, slope */
    OP_REDUCE_SUM, /* as OP_REDUCE_MEAN */
    OP_REDUCE_MAX,
    OP_SLICE,  /* a strided copy: Slice, Split, Expand; see slice_start */
    OP_MATMUL, /* (..., M, K), (..., K, P) with broadcasting of the leading axes; one may be a constant */
    OP_RESIZE, /* (N, C, H, W): rows and columns */
    OP_MASK,   /* ours: y = m x + (1 - m) fill, a channel; see mask_first */
    OP_KIND_COUNT
};

struct window_attr { /* Conv and pooling; index 0 is height, 1 is width */
    size_t kernel[2];
    size_t stride[2];
    size_t dilation[2];
    size_t pad_begin[2];
    size_t pad_end[2];
    size_t group;           /* Conv */
    bool ceil_mode;         /* pooling */
    bool count_include_pad; /* AveragePool */
};

enum resize_coordinates { RESIZE_HALF_PIXEL, RESIZE_HALF_PIXEL_TORCH, RESIZE_ALIGN_CORNERS, RESIZE_ASYMMETRIC };
enum resize_rounding { RESIZE_ROUND_PREFER_FLOOR, RESIZE_ROUND_PREFER_CEIL, RESIZE_FLOOR, RESIZE_CEIL };

struct resize_attr { /* as the ONNX operator has them; index 0 is height, 1 is width */
    bool linear;     /* else nearest */
    enum resize_coordinates coordinates;
    enum resize_rounding rounding; /* nearest */
    float scale[2];                /* output coordinate / input coordinate */
    size_t size[2];                /* of the output */
};

struct op_attr {
    struct window_attr window;
    float alpha, beta;       /* Gemm, LeakyRelu (alpha), HardSigmoid */
    float low, high;         /* Clip */
    float epsilon, momentum; /* BatchNorm; momentum as ONNX: running = running * momentum + batch * (1 - momentum) */
    bool trans_a, trans_b;   /* Gemm; trans_a is refused */
    size_t axis;             /* Concat, Softmax, Mask (the channel axis, 1 for NCHW) */
    size_t axes[SHAPE_RANK_MAX];
    size_t axes_count; /* ReduceMean; also perm of Transpose */
    bool keep_dims;
    size_t pad_begin[SHAPE_RANK_MAX], pad_end[SHAPE_RANK_MAX]; /* Pad */
    float pad_value;
    struct shape shape;                   /* Reshape, Slice: the output shape at batch 1 */
    size_t slice_start[SHAPE_RANK_MAX];   /* Slice: output index i of an axis is input index start + i step */
    ptrdiff_t slice_step[SHAPE_RANK_MAX]; /* 0 repeats one element (Expand) */
    struct resize_attr resize;
    size_t mask_layer; /* Mask: index of its unit layer */
    size_t mask_first; /* Mask: its channel 0 is unit mask_first of the mask vector */
};

enum value_kind { VALUE_INPUT, VALUE_CONSTANT, VALUE_COMPUTED };

struct value {
    enum value_kind kind;
    const char *name;
    struct shape shape; /* at batch 1 */
    float *data;        /* constants only */
    size_t producer;    /* node index; NETWORK_NONE for inputs and constants */
    size_t use_count;   /* how many node inputs read it, plus one if it is the output */
};

struct node {
    enum op_kind op;
    const char *name;
    const size_t *inputs; /* value indices; NETWORK_NONE for an omitted optional input */
    size_t input_count;
    size_t output; /* value index */
    struct op_attr attr;
    size_t origin; /* index of the ONNX node it was lowered from; NETWORK_NONE if ours */
};

#define NETWORK_NONE ((size_t)-1)

struct network {
    struct value *values;
    size_t value_count;
    struct node *nodes; /* topological order */
    size_t node_count;
    size_t input;                  /* value index of the one input (1, C, H, W) */
    size_t output;                 /* value index of the logits (1, K) */
    size_t unit_count;             /* length of the mask vector: channels of all Mask nodes; 0 without any */
    struct network_memory *memory; /* private */
};

/* An empty network; NULL: no memory. */
struct network *network_new(void);
void network_free(struct network *network); /* accepts NULL */

/* The one input; shape at batch 1, dim[0] == 1. */
enum status network_add_input(struct network *network, const char *name, const struct shape *shape, size_t *value,
                              struct error *error);
/* Copies `data` (shape_count floats); with data NULL the constant is all zeros. */
enum status network_add_constant(struct network *network, const char *name, const struct shape *shape,
                                 const float *data, size_t *value, struct error *error);
/* Checks the node against the op table (arity, attributes, shapes), infers the output shape and appends it.
 * `origin` as in struct node. *output is the new value. Error place: "node '<name>'". */
enum status network_add_node(struct network *network, enum op_kind op, const char *name, const size_t *inputs,
                             size_t input_count, const struct op_attr *attr, size_t origin, size_t *output,
                             struct error *error);
/* Names the logits: a computed value of shape (1, K) with K >= 2 (error otherwise). */
enum status network_set_output(struct network *network, size_t value, struct error *error);

/* Where a mask goes: on this value, over this channel axis. */
struct mask_site {
    size_t value;
    size_t axis;
};
/* A copy of `network` in which each site's value is followed by a Mask node (mask_layer = index in `sites`, units numbered
 * in the order of `sites`) and all readers read the masked value. The data of constants is shared with `network`, which
 * must outlive the copy. Value and node indices of the copy differ. */
enum status network_with_masks(const struct network *network, const struct mask_site *sites, size_t site_count,
                               struct network **out, struct error *error);

/* The data of a constant, for reading and writing; NULL if the value is no constant. */
float *network_constant_data(const struct network *network, size_t value);
/* A hash of the data of a constant, as fast as memory is read, by which one who derives something from it sees that it changed. */
uint64_t network_constant_hash(const struct network *network, size_t value);
/* Floats in all constants. */
size_t network_parameter_count(const struct network *network);
/* Multiply-adds of Conv, Gemm and MatMul for one sample, of all nodes or of one; for cost estimates. */
double network_macs(const struct network *network);
double network_node_macs(const struct network *network, size_t index);
const char *op_kind_name(enum op_kind op); /* "Conv", ... */

#endif
