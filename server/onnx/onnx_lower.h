/* Lowering: ONNX nodes, in order, to the network IR. One table row an operator, one function a row, one file a family.
 *
 * A name of the graph is bound to a value of the network (it depends on the input) or to a constant. Constants become
 * values of the network only when a node reads them as floats; integers (axes, shapes, pads) never do. Nodes over
 * constants alone are folded here. */
#ifndef ONP_SERVER_ONNX_ONNX_LOWER_H
#define ONP_SERVER_ONNX_ONNX_LOWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/error.h"
#include "onnx.pb-c.h"
#include "server/nn/network.h"
#include "server/onnx/onnx_model.h"
#include "server/onnx/onnx_tensor.h"
#include "server/onnx/onnx_validate.h"

/* Where the file has the batch of a value; ours always has it first, alone. All zeros: as ours. */
struct lower_layout {
    size_t axis; /* of the file; LOWER_HIDDEN: none has it, because the file fixes it at 1 */
    bool lead,
        trail; /* it is merged there as lead x batch x trail; ours has these two as axes, in this order, after those
                         that the file has before the batch */
};
#define LOWER_HIDDEN ((size_t)-1)

struct lower_binding {
    struct onnx_constant *constant; /* NULL: none */
    size_t value;                   /* NETWORK_NONE: none. With neither, the name has no value that we can give */
    struct lower_layout layout;     /* of the value */
};

/* A computed value as the file sees it. */
struct lower_view {
    size_t value;
    struct lower_layout layout;
    struct shape shape; /* in the file's order; the batch's axis as lead x trail */
};

/* What the network has otherwise than the file, at its two ends. */
struct lower_ends {
    bool channels_last; /* the file's input is (N, H, W, C); ours is (N, C, H, W) */
    bool probabilities; /* the file ends with a Softmax; our output is what that reads */
};

struct lower {
    const struct onnx_graph *graph;
    int64_t opset;
    const struct onnx_limits *limits;
    struct arena *arena; /* constants and other memory of the lowering */
    struct network *network;
    struct lower_binding *bindings; /* one a name of the graph */
    struct lower_ends ends;
    size_t final_softmax; /* index of the node; NETWORK_NONE */
    size_t parameters;    /* floats of constants so far */
    struct error *error;

    /* The node that is being lowered. */
    const Onnx__NodeProto *node;
    size_t index;
    const char *name;
    char where[ERROR_WHERE_MAX];
};

/* A row of the operator table. */
struct lower_row {
    const char *operator;
    int64_t since, until;             /* opsets */
    const char *const attributes[10]; /* all that it may have; others are refused. NULL-terminated */
    enum status (*lower)(struct lower *lower);
};
extern const struct lower_row onnx_lower_table[];
extern const size_t onnx_lower_table_count;

/* Lowers the whole graph into `network`, which is empty. `arena` must live until this returns. */
enum status onnx_lower(const struct onnx_graph *graph, int64_t opset, const struct onnx_limits *limits,
                       struct arena *arena, struct network *network, struct lower_ends *ends, struct error *error);

/* onnx_lower_ends.c. */
/* Everything that reads the pixels, but for shifting and scaling, is a Transpose from (N, H, W, C) to (N, C, H, W). */
bool lower_is_channels_last(const struct onnx_graph *graph, struct arena *arena);
/* Index of the Softmax that the output comes from, with nothing but shape between; NETWORK_NONE if there is none. */
size_t lower_final_softmax(const struct onnx_graph *graph);

/* onnx_lower.c: what the functions of the rows use. */

/* "failed to lower <op>: <text>" at the current node. */
enum status lower_refuse(struct lower *lower, enum status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
bool lower_has_input(const struct lower *lower, size_t slot);
/* The binding of an input that is there. */
const struct lower_binding *lower_binding(const struct lower *lower, size_t slot);
/* The constant at `slot`, or NULL if the slot is empty or computed. */
const struct onnx_constant *lower_constant(const struct lower *lower, size_t slot);
/* All inputs are there and are constants (and there is one). */
bool lower_all_constant(const struct lower *lower);
/* A computed value of the network. */
enum status lower_value(struct lower *lower, size_t slot, size_t *value);
/* A constant of float32 as a value of the network. */
enum status lower_weight(struct lower *lower, size_t slot, size_t *value);
/* The integers (rank 0 or 1) of a constant input. */
enum status lower_integers(struct lower *lower, size_t slot, const struct onnx_constant **integers);
/* One float of a constant input, or `fallback` if the slot is empty. */
enum status lower_scalar(struct lower *lower, size_t slot, float fallback, float *value);
const struct shape *lower_shape(const struct lower *lower, size_t value);
/* Refuses any number of inputs but min to max. */
enum status lower_arity(struct lower *lower, size_t min, size_t max);
/* Appends a node to the network and binds the first output to its value. Every computed value must keep the batch as its
 * first dimension. */
enum status lower_emit(struct lower *lower, enum op_kind op, const size_t *inputs, size_t count,
                       const struct op_attr *attr);
/* The same without the binding, for operators that become several nodes; *output is the value. */
enum status lower_step(struct lower *lower, enum op_kind op, const size_t *inputs, size_t count,
                       const struct op_attr *attr, size_t *output);
/* Output `slot` of the node is `value`, which the file sees as `layout` says; nothing if the node has no such output. */
enum status lower_bind_output(struct lower *lower, size_t slot, size_t value, const struct lower_layout *layout);
/* A constant of ours that is no tensor of the file. */
enum status lower_new_constant(struct lower *lower, const struct shape *shape, const float *data, size_t *value);
/* The float32 constant at `slot`, `count` floats, as a value of shape (1, count, 1, ...) and rank `rank`. */
enum status lower_channel_constant(struct lower *lower, size_t slot, size_t count, size_t rank, size_t *value);
/* x in another shape (at batch 1). */
enum status lower_reshaped(struct lower *lower, size_t x, const struct shape *shape, size_t *output);
/* Binds the first output to a constant (an alias: `constant` may have other names) or to a value. */
enum status lower_bind_constant(struct lower *lower, struct onnx_constant *constant);
enum status lower_bind_value(struct lower *lower, size_t value);
/* Maps an axis in [-rank, rank) to [0, rank). */
enum status lower_axis(struct lower *lower, int64_t axis, size_t rank, size_t *out);
/* The same of each axis of a list, in which none may stand twice: `chosen` notes those there were. */
enum status lower_axis_once(struct lower *lower, int64_t axis, size_t rank, bool chosen[SHAPE_RANK_MAX], size_t *out);
/* As lower_axis(), of an index into an axis of `size`. */
enum status lower_index(struct lower *lower, int64_t index, size_t size, size_t *out);

/* onnx_lower_layout.c: operators that need no batch in the first place. */

/* A computed value as the file sees it. */
enum status lower_view(struct lower *lower, size_t slot, struct lower_view *view);
/* The batch is the file's first axis, and nothing else is. */
bool lower_is_plain(const struct lower_layout *layout);
/* The axis of ours that axis `axis` of the file is; 0 for the batch's. */
size_t lower_our_axis(const struct lower_layout *layout, size_t axis);
bool lower_is_batch_of_1(const struct lower *lower);
/* The value of a view with the batch first; refuses if the file has it elsewhere. */
enum status lower_plain_value(struct lower *lower, const struct lower_view *view, size_t *value);
/* Inputs first .. first + count, computed or constant, as values[] for an op that works element by element with
 * broadcasting, or by axes: all in one layout, that of *like. */
enum status lower_aligned(struct lower *lower, size_t first, size_t count, size_t *values, struct lower_view *like);
/* lower_emit() of a node whose output the file sees as `layout` says. */
enum status lower_emit_in(struct lower *lower, enum op_kind op, const size_t *inputs, size_t count,
                          const struct op_attr *attr, const struct lower_layout *layout);
/* Reshape in the file's terms: a size, 0 for a copy, -1 for what is left, a multiple of the batch. Binds the first output. */
enum status lower_reshape_to(struct lower *lower, const struct lower_view *from, const int64_t *targets, size_t count,
                             bool allow_zero);

/* onnx_attr.c: attributes of the current node; an absent one leaves or gives the fallback. */
enum { LOWER_TEXT_MAX = 32 };
const Onnx__AttributeProto *lower_attr(const struct lower *lower, const char *name);
enum status lower_attr_int(struct lower *lower, const char *name, int64_t fallback, int64_t *out);
enum status lower_attr_bool(struct lower *lower, const char *name, bool fallback, bool *out);
enum status lower_attr_float(struct lower *lower, const char *name, float fallback, float *out);
/* *out is borrowed from the file; NULL and 0 if it is absent. */
enum status lower_attr_ints(struct lower *lower, const char *name, const int64_t **out, size_t *count);
/* The `perm` of a Transpose: a permutation of the axes, reversed if it is absent. */
enum status lower_permutation(struct lower *lower, size_t rank, size_t perm[SHAPE_RANK_MAX]);
enum status lower_attr_text(struct lower *lower, const char *name, const char *fallback, char out[LOWER_TEXT_MAX]);

/* onnx_fold.c: constants from constants. */
/* A new constant, bound to the first output; *data is to be filled. float32, or integers of `type`. */
enum status fold_floats(struct lower *lower, const struct shape *shape, float **data);
enum status fold_integers(struct lower *lower, int32_t type, const struct shape *shape, int64_t **data);
/* The same data under another shape of the same count. */
enum status fold_reshape(struct lower *lower, const struct onnx_constant *constant, const struct shape *shape);

/* Output index i of an axis is input index start + i step. */
struct fold_walk {
    struct shape shape; /* of the result; the rank is that of the constant */
    size_t start[SHAPE_RANK_MAX];
    ptrdiff_t step[SHAPE_RANK_MAX];
};
enum status fold_strided(struct lower *lower, const struct onnx_constant *constant, const struct fold_walk *walk);
enum status fold_gather(struct lower *lower, const struct onnx_constant *from, const struct onnx_constant *indices,
                        size_t axis);
/* Functions of one number over float32. */
enum status fold_unary(struct lower *lower, float (*function)(float));

/* Rows, by family. */
enum status lower_constant_node(struct lower *lower);
enum status lower_identity(struct lower *lower);
enum status lower_dropout(struct lower *lower);
enum status lower_cast(struct lower *lower);
enum status lower_shape_of(struct lower *lower);
enum status lower_gather(struct lower *lower);
enum status lower_slice(struct lower *lower);

enum status lower_conv(struct lower *lower);
enum status lower_batch_norm(struct lower *lower);
enum status lower_max_pool(struct lower *lower);
enum status lower_average_pool(struct lower *lower);
enum status lower_global_average_pool(struct lower *lower);
enum status lower_global_max_pool(struct lower *lower);

enum status lower_gemm(struct lower *lower);
enum status lower_matmul(struct lower *lower);

enum status lower_relu(struct lower *lower);
enum status lower_leaky_relu(struct lower *lower);
enum status lower_clip(struct lower *lower);
enum status lower_sigmoid(struct lower *lower);
enum status lower_tanh(struct lower *lower);
enum status lower_hard_sigmoid(struct lower *lower);
enum status lower_hard_swish(struct lower *lower);
enum status lower_softmax(struct lower *lower);
enum status lower_add(struct lower *lower);
enum status lower_sub(struct lower *lower);
enum status lower_mul(struct lower *lower);
enum status lower_div(struct lower *lower);
enum status lower_reduce_mean(struct lower *lower);

enum status lower_concat(struct lower *lower);
enum status lower_flatten(struct lower *lower);
enum status lower_reshape(struct lower *lower);
enum status lower_squeeze(struct lower *lower);
enum status lower_unsqueeze(struct lower *lower);
enum status lower_transpose(struct lower *lower);
enum status lower_pad(struct lower *lower);

enum status lower_abs(struct lower *lower);
enum status lower_constant_of_shape(struct lower *lower);
enum status lower_ceil(struct lower *lower);
enum status lower_depth_to_space(struct lower *lower);
enum status lower_elu(struct lower *lower);
enum status lower_erf(struct lower *lower);
enum status lower_exp(struct lower *lower);
enum status lower_expand(struct lower *lower);
enum status lower_floor(struct lower *lower);
enum status lower_group_norm(struct lower *lower);
enum status lower_instance_norm(struct lower *lower);
enum status lower_lrn(struct lower *lower);
enum status lower_layer_norm(struct lower *lower);
enum status lower_log(struct lower *lower);
enum status lower_log_softmax(struct lower *lower);
enum status lower_max(struct lower *lower);
enum status lower_min(struct lower *lower);
enum status lower_mish(struct lower *lower);
enum status lower_neg(struct lower *lower);
enum status lower_prelu(struct lower *lower);
enum status lower_pow(struct lower *lower);
enum status lower_reciprocal(struct lower *lower);
enum status lower_reduce_max(struct lower *lower);
enum status lower_reduce_sum(struct lower *lower);
enum status lower_resize(struct lower *lower);
enum status lower_selu(struct lower *lower);
enum status lower_softplus(struct lower *lower);
enum status lower_space_to_depth(struct lower *lower);
enum status lower_split(struct lower *lower);
enum status lower_sqrt(struct lower *lower);
enum status lower_sum(struct lower *lower);
enum status lower_where(struct lower *lower);
enum status lower_mod(struct lower *lower);
enum status lower_not(struct lower *lower);
enum status lower_range(struct lower *lower);
enum status lower_scatter_nd(struct lower *lower);
enum status lower_compare(struct lower *lower);
enum status lower_logic(struct lower *lower);

/* The fold of Add, Sub, Mul, Div, Pow, Min, Max. */
enum status fold_arithmetic(struct lower *lower, enum op_kind op);
/* Index into an operand of shape `in` that is broadcast to `out`, for element i of the result. */
size_t fold_source_index(const struct shape *out, const struct shape *in, size_t i);
enum status fold_concat(struct lower *lower);
enum status fold_transpose(struct lower *lower);

#endif
