/* oneDNN behind a narrow interface: the one place that knows its API (version 2; version 3 differs in every call used).
 *
 * An operation is one oneDNN primitive for fixed shapes, made at plan time; a call binds it to one thread. Operations run in
 * the thread that calls them, on that thread alone: the engine spreads chunks over its own pool. Beyond oneDNN's own
 * bookkeeping of a call nothing is allocated while running. */
#ifndef ONP_SERVER_NN_BACKEND_DNNL_H
#define ONP_SERVER_NN_BACKEND_DNNL_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "server/nn/backend.h"

enum backend_dnnl_type { BACKEND_DNNL_F32, BACKEND_DNNL_BF16 };

/* PLAIN: as the network IR has it, (N, C, H, W). LAST: (N, H, W, C). ANY: what oneDNN likes best. The whole chunk's blocks of
 * one sample each lie one after the other in all layouts of activations that occur. */
enum backend_dnnl_layout { BACKEND_DNNL_PLAIN, BACKEND_DNNL_LAST, BACKEND_DNNL_ANY };

/* Activations and other data; rank 1, 2 or 4. */
struct backend_dnnl_tensor {
    size_t rank;
    size_t dim[4];
    enum backend_dnnl_type type;
    enum backend_dnnl_layout layout;
};

/* Arguments of an operation, in the order of the pointers of backend_dnnl_run(). */
enum {
    BACKEND_DNNL_INPUT, /* dy for the gradient by the data, x for that by the weight */
    BACKEND_DNNL_OUTPUT,
    BACKEND_DNNL_WEIGHT, /* affine: the scale (C) */
    BACKEND_DNNL_BIAS,   /* affine: the shift (C) */
    BACKEND_DNNL_OTHER,  /* what is added to the result before the activation; dy for the gradient by the weight */
    BACKEND_DNNL_ARGS,
    BACKEND_DNNL_ARGS_MAX = 64 /* concatenation: INPUT, OUTPUT, then the other inputs */
};

/* y = f(x) after an operation; op is OP_COUNT for none. */
struct backend_dnnl_activation {
    enum op_kind op; /* OP_RELU, OP_LEAKY_RELU, OP_CLIP, OP_SIGMOID, OP_TANH, OP_HARD_SWISH */
    float alpha;     /* slope of LeakyRelu, lower end of Clip */
    float beta;      /* upper end of Clip */
};
bool backend_dnnl_has_activation(enum op_kind op);

struct backend_dnnl; /* the library */
struct backend_dnnl_op;
struct backend_dnnl_call;

/* Also holds this thread to one thread in oneDNN's loops. */
enum status backend_dnnl_new(struct backend_dnnl **out, struct error *error);
void backend_dnnl_free(struct backend_dnnl *dnnl);
/* Whether this CPU multiplies bf16 in hardware: with AMX tiles, or in vectors (AVX512_BF16). */
enum backend_dnnl_bf16 { BACKEND_DNNL_BF16_NONE, BACKEND_DNNL_BF16_VECTOR, BACKEND_DNNL_BF16_TILES };
enum backend_dnnl_bf16 backend_dnnl_bf16(void);
/* To be called by each thread before it runs operations: its loops stay in it. */
void backend_dnnl_enter(void);

struct backend_dnnl_conv {
    const struct conv_shape *shape;
    size_t n;
    enum conv_pass pass;
    enum backend_dnnl_type type;     /* of activations and weights; bias and sums are f32 */
    enum backend_dnnl_layout layout; /* of activations */
    bool bias;
    bool other; /* a tensor like the output is added */
    struct backend_dnnl_activation activation;
};

/* All makers: STATUS_UNSUPPORTED (the error record stays empty) if oneDNN has no such operation for this machine but its
 * plain C++ one; STATUS_NO_MEMORY. */
enum status backend_dnnl_conv_new(struct backend_dnnl *dnnl, const struct backend_dnnl_conv *conv,
                                  struct backend_dnnl_op **out);
/* (n, k) by weight (m, k): (n, m). */
struct backend_dnnl_inner {
    size_t n, k, m;
    enum backend_dnnl_type type, out_type;
    struct backend_dnnl_activation activation;
};
enum status backend_dnnl_inner_new(struct backend_dnnl *dnnl, const struct backend_dnnl_inner *inner,
                                   struct backend_dnnl_op **out);
/* OP_MAX_POOL or OP_AVERAGE_POOL. */
enum status backend_dnnl_pool_new(struct backend_dnnl *dnnl, enum op_kind op, const struct window_attr *window,
                                  const struct backend_dnnl_tensor *in, const struct backend_dnnl_tensor *out,
                                  struct backend_dnnl_op **made);
/* y = f(x + other), all of one shape. */
enum status backend_dnnl_add_new(struct backend_dnnl *dnnl, const struct backend_dnnl_tensor *x,
                                 const struct backend_dnnl_activation *activation, struct backend_dnnl_op **out);
/* y = f(x scale + shift), a channel. */
enum status backend_dnnl_affine_new(struct backend_dnnl *dnnl, const struct backend_dnnl_tensor *x,
                                    const struct backend_dnnl_activation *activation, struct backend_dnnl_op **out);
enum status backend_dnnl_activation_new(struct backend_dnnl *dnnl, const struct backend_dnnl_tensor *x,
                                        const struct backend_dnnl_activation *activation, struct backend_dnnl_op **out);
/* Over axis 1; count >= 2 inputs. */
enum status backend_dnnl_concat_new(struct backend_dnnl *dnnl, const struct backend_dnnl_tensor *in, size_t count,
                                    struct backend_dnnl_op **out);
/* The same values in another type or layout. */
enum status backend_dnnl_reorder_new(struct backend_dnnl *dnnl, const struct backend_dnnl_tensor *from,
                                     const struct backend_dnnl_tensor *to, struct backend_dnnl_op **out);
/* From plain f32 to what `op` wants of an argument, or the other way: from what it gives to plain f32, which with `add` is
 * added to. STATUS_OK with *out NULL if it wants or gives plain f32 itself. */
enum status backend_dnnl_pack_new(struct backend_dnnl *dnnl, const struct backend_dnnl_op *op, size_t argument,
                                  struct backend_dnnl_op **out);
enum status backend_dnnl_unpack_new(struct backend_dnnl *dnnl, const struct backend_dnnl_op *op, size_t argument,
                                    bool add, struct backend_dnnl_op **out);
void backend_dnnl_op_free(struct backend_dnnl_op *op);
/* Bytes of an argument; 0 if the operation has no such argument. */
size_t backend_dnnl_bytes(const struct backend_dnnl_op *op, size_t argument);
size_t backend_dnnl_scratch_bytes(const struct backend_dnnl_op *op);

/* Borrows dnnl and op. `fixed`: BACKEND_DNNL_ARGS_MAX pointers (or NULL) to arguments that never move, NULL for the others. */
enum status backend_dnnl_call_new(struct backend_dnnl *dnnl, const struct backend_dnnl_op *op, void *const *fixed,
                                  struct backend_dnnl_call **out);
void backend_dnnl_call_free(struct backend_dnnl_call *call);
/* pointers: BACKEND_DNNL_ARGS of them, or as many as a concatenation has arguments; those of fixed ones are not read. All
 * memory is 64-byte aligned but for blocks of single samples. false: oneDNN failed, which it does only for want of memory. */
bool backend_dnnl_run(struct backend_dnnl_call *call, void *const *pointers, void *scratch);

/* c = alpha op(a) op(b) + beta c, as backend_gemm(). */
void backend_dnnl_gemm(const struct gemm_shape *shape, const float *a, const float *b, float *c);

#endif
