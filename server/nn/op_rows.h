/* Private to the op_*.c files: the rows that op.c gathers into its table, and the checks that all `infer`s share. */
#ifndef ONP_SERVER_NN_OP_ROWS_H
#define ONP_SERVER_NN_OP_ROWS_H

#include "server/nn/op.h"

/* No kernel, stride, dilation or pad may be larger; keeps window arithmetic far from overflow. */
enum { OP_WINDOW_MAX = 1 << 20 };

extern const struct op op_row_conv;
extern const struct op op_row_batch_norm;
extern const struct op op_row_gemm;
extern const struct op op_row_relu;
extern const struct op op_row_leaky_relu;
extern const struct op op_row_clip;
extern const struct op op_row_sigmoid;
extern const struct op op_row_tanh;
extern const struct op op_row_hard_sigmoid;
extern const struct op op_row_hard_swish;
extern const struct op op_row_softmax;
extern const struct op op_row_add;
extern const struct op op_row_sub;
extern const struct op op_row_mul;
extern const struct op op_row_div;
extern const struct op op_row_max_pool;
extern const struct op op_row_average_pool;
extern const struct op op_row_global_average_pool;
extern const struct op op_row_global_max_pool;
extern const struct op op_row_reduce_mean;
extern const struct op op_row_concat;
extern const struct op op_row_reshape;
extern const struct op op_row_transpose;
extern const struct op op_row_pad;
extern const struct op op_row_identity;
extern const struct op op_row_elu;
extern const struct op op_row_softplus;
extern const struct op op_row_mish;
extern const struct op op_row_erf;
extern const struct op op_row_sqrt;
extern const struct op op_row_exp;
extern const struct op op_row_log;
extern const struct op op_row_neg;
extern const struct op op_row_abs;
extern const struct op op_row_reciprocal;
extern const struct op op_row_log_softmax;
extern const struct op op_row_pow;
extern const struct op op_row_min;
extern const struct op op_row_max;
extern const struct op op_row_prelu;
extern const struct op op_row_reduce_sum;
extern const struct op op_row_reduce_max;
extern const struct op op_row_slice;
extern const struct op op_row_matmul;
extern const struct op op_row_resize;
extern const struct op op_row_mask;

/* error_set() with the place "node '<name>'" and "failed to infer the shape of <op>: " before the text. */
enum status op_refuse(const struct node *node, struct error *error, enum status status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Shape at batch 1 of input `i`, which must be present. */
const struct shape *op_in_shape(const struct network *network, const struct node *node, size_t i);
bool op_has_input(const struct node *node, size_t i);

/* Between min and max inputs, the first min of them not omitted, all of them values of the network. */
enum status op_check_arity(const struct network *network, const struct node *node, size_t min, size_t max,
                           struct error *error);
/* Input `i` carries samples: no constant, and of rank min_rank to SHAPE_RANK_MAX. */
enum status op_check_data(const struct network *network, const struct node *node, size_t i, size_t min_rank,
                          struct error *error);
/* Input `i` is a constant of shape (count). `what` is its name in messages. */
enum status op_check_vector(const struct network *network, const struct node *node, size_t i, size_t count,
                            const char *what, struct error *error);
/* Kernel, strides, dilations and pads of a window over (N, C, H, W) are sane and the window fits into the padded input;
 * then the output's rows and columns. */
enum status op_check_window(const struct node *node, const struct shape *in, size_t out[2], struct error *error);
/* Unary rows that keep the shape and take one data input. */
enum status op_infer_same(const struct network *network, const struct node *node, struct shape *out,
                          struct error *error);

/* Floats of input `i` in this chunk: n samples, or once for a constant. */
size_t op_in_count(const struct op_args *args, size_t i);
/* Floats of the output in this chunk. */
size_t op_out_count(const struct op_args *args);
/* dst = src, or dst += src when accumulating; dst may be src when not accumulating. */
void op_give(size_t count, const float *src, float *dst, bool accumulate);

#endif
