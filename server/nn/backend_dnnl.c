/* oneDNN 2: descriptors in, primitives out. */
#include "server/nn/backend_dnnl.h"

#include <dnnl.h>
#include <string.h>

#include "common/mem.h"

/* Of libgomp, whose loops oneDNN uses; not every compiler finds omp.h. Holds for the calling thread only. */
void omp_set_num_threads(int threads);

struct backend_dnnl {
    dnnl_engine_t engine;
};

struct backend_dnnl_op {
    dnnl_primitive_desc_t descriptor;
    dnnl_primitive_t primitive;
    size_t count;
    int argument[BACKEND_DNNL_ARGS_MAX]; /* oneDNN's name of each of ours; 0: none */
    size_t scratch_bytes;
};

struct backend_dnnl_call {
    const struct backend_dnnl_op *op;
    dnnl_stream_t stream;
    int count;
    dnnl_exec_arg_t args[BACKEND_DNNL_ARGS_MAX + 1];
    size_t pointer_of[BACKEND_DNNL_ARGS_MAX]; /* which of the caller's pointers an argument takes */
    void *last[BACKEND_DNNL_ARGS_MAX];        /* what it points to now */
    bool fixed[BACKEND_DNNL_ARGS_MAX];
    dnnl_memory_t scratch; /* the last of args; NULL without */
};

static enum status from_dnnl(dnnl_status_t status) {
    return status == dnnl_success ? STATUS_OK : status == dnnl_out_of_memory ? STATUS_NO_MEMORY : STATUS_UNSUPPORTED;
}

void backend_dnnl_enter(void) {
    omp_set_num_threads(1);
}

enum status backend_dnnl_new(struct backend_dnnl **out, struct error *error) {
    struct backend_dnnl *dnnl = mem_calloc(1, sizeof *dnnl);

    backend_dnnl_enter();
    if (dnnl == NULL || dnnl_engine_create(&dnnl->engine, dnnl_cpu, 0) != dnnl_success) {
        mem_free(dnnl);
        return error_no_memory(error, "oneDNN's engine");
    }
    *out = dnnl;
    return STATUS_OK;
}

void backend_dnnl_free(struct backend_dnnl *dnnl) {
    if (dnnl != NULL) {
        (void)dnnl_engine_destroy(dnnl->engine);
        mem_free(dnnl);
    }
}

enum backend_dnnl_bf16 backend_dnnl_bf16(void) {
    switch ((int)dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_avx512_core_amx:
        return BACKEND_DNNL_BF16_TILES;
    case dnnl_cpu_isa_avx512_core_bf16:
        return BACKEND_DNNL_BF16_VECTOR;
    default:
        return BACKEND_DNNL_BF16_NONE;
    }
}

static dnnl_data_type_t data_type(enum backend_dnnl_type type) {
    return type == BACKEND_DNNL_BF16 ? dnnl_bf16 : dnnl_f32;
}

static bool init_desc(dnnl_memory_desc_t *desc, size_t rank, const size_t *dim, dnnl_data_type_t type,
                      enum backend_dnnl_layout layout) {
    static const dnnl_format_tag_t plain[] = {dnnl_format_tag_undef, dnnl_a, dnnl_ab, dnnl_abc, dnnl_abcd, dnnl_abcde};
    dnnl_dims_t dims = {0};

    for (size_t d = 0; d < rank; d++) {
        dims[d] = (dnnl_dim_t)dim[d];
    }
    const dnnl_format_tag_t tag = layout == BACKEND_DNNL_ANY                 ? dnnl_format_tag_any
                                  : layout == BACKEND_DNNL_LAST && rank == 4 ? dnnl_acdb
                                                                             : plain[rank];
    return dnnl_memory_desc_init_by_tag(desc, (int)rank, dims, type, tag) == dnnl_success;
}

static bool tensor_desc(const struct backend_dnnl_tensor *tensor, dnnl_memory_desc_t *desc) {
    return init_desc(desc, tensor->rank, tensor->dim, data_type(tensor->type), tensor->layout);
}

static bool find_activation(enum op_kind op, dnnl_alg_kind_t *algorithm) {
    static const struct {
        enum op_kind op;
        dnnl_alg_kind_t algorithm;
    } rows[] = {{OP_RELU, dnnl_eltwise_relu}, {OP_LEAKY_RELU, dnnl_eltwise_relu},
                {OP_CLIP, dnnl_eltwise_clip}, {OP_SIGMOID, dnnl_eltwise_logistic},
                {OP_TANH, dnnl_eltwise_tanh}, {OP_HARD_SWISH, dnnl_eltwise_hardswish}};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].op == op) {
            *algorithm = rows[i].algorithm;
            return true;
        }
    }
    return false;
}

bool backend_dnnl_has_activation(enum op_kind op) {
    dnnl_alg_kind_t algorithm;
    return find_activation(op, &algorithm);
}

/* What follows the operation itself, in order: y scale + shift, y + other, f(y). */
struct follow {
    const dnnl_memory_desc_t *shift; /* NULL: none */
    const dnnl_memory_desc_t *other; /* NULL: none */
    const struct backend_dnnl_activation *activation;
    bool accumulate; /* adds to what is there */
};

static dnnl_status_t append_follow(dnnl_post_ops_t ops, const struct follow *follow, int *shift_at, int *other_at) {
    dnnl_status_t status = dnnl_success;
    dnnl_alg_kind_t algorithm;
    int at = 0;

    if (follow->shift != NULL) {
        status = dnnl_post_ops_append_binary(ops, dnnl_binary_add, follow->shift);
        *shift_at = at++;
    }
    if (status == dnnl_success && follow->other != NULL) {
        status = dnnl_post_ops_append_binary(ops, dnnl_binary_add, follow->other);
        *other_at = at++;
    }
    if (status == dnnl_success && follow->accumulate) {
        status = dnnl_post_ops_append_sum(ops, 1.0f);
    }
    if (status == dnnl_success && follow->activation != NULL && find_activation(follow->activation->op, &algorithm)) {
        status =
            dnnl_post_ops_append_eltwise(ops, 1.0f, algorithm, follow->activation->alpha, follow->activation->beta);
    }
    return status;
}

/* Attributes: scratch memory is ours, and what follows. The arguments of what follows get their names. */
static dnnl_status_t make_attributes(const struct follow *follow, int *argument, dnnl_primitive_attr_t *out) {
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_post_ops_t ops = NULL;
    int shift_at = -1, other_at = -1;
    dnnl_status_t status = dnnl_primitive_attr_create(&attributes);

    if (status == dnnl_success) {
        status = dnnl_primitive_attr_set_scratchpad_mode(attributes, dnnl_scratchpad_mode_user);
    }
    if (status == dnnl_success) {
        status = dnnl_post_ops_create(&ops);
    }
    if (status == dnnl_success) {
        status = append_follow(ops, follow, &shift_at, &other_at);
    }
    if (status == dnnl_success) {
        status = dnnl_primitive_attr_set_post_ops(attributes, ops);
    }
    if (ops != NULL) {
        (void)dnnl_post_ops_destroy(ops);
    }
    if (status != dnnl_success && attributes != NULL) {
        (void)dnnl_primitive_attr_destroy(attributes);
        return status;
    }
    if (shift_at >= 0) {
        argument[BACKEND_DNNL_BIAS] = DNNL_ARG_ATTR_MULTIPLE_POST_OP(shift_at) | DNNL_ARG_SRC_1;
    }
    if (other_at >= 0) {
        argument[BACKEND_DNNL_OTHER] = DNNL_ARG_ATTR_MULTIPLE_POST_OP(other_at) | DNNL_ARG_SRC_1;
    }
    *out = attributes;
    return status;
}

/* oneDNN's word for the implementation. */
static const char *name_of(const struct backend_dnnl_op *op) {
    const char *name = NULL;

    (void)dnnl_primitive_desc_query(op->descriptor, dnnl_query_impl_info_str, 0, (void *)&name);
    return name != NULL ? name : "";
}

static const dnnl_memory_desc_t *argument_desc(const struct backend_dnnl_op *op, size_t argument) {
    return dnnl_primitive_desc_query_md(op->descriptor, dnnl_query_exec_arg_md, op->argument[argument]);
}

/* Takes the descriptor. `argument` as in struct backend_dnnl_op. */
static enum status finish(dnnl_primitive_desc_t descriptor, const int *argument, size_t count,
                          struct backend_dnnl_op **out) {
    struct backend_dnnl_op *op = mem_calloc(1, sizeof *op);

    if (op == NULL) {
        (void)dnnl_primitive_desc_destroy(descriptor);
        return STATUS_NO_MEMORY;
    }
    op->descriptor = descriptor;
    op->count = count;
    memcpy(op->argument, argument, count * sizeof *argument);
    enum status status = strncmp(name_of(op), "ref", 3) == 0 || strstr(name_of(op), ":ref") != NULL
                             ? STATUS_UNSUPPORTED
                             : from_dnnl(dnnl_primitive_create(&op->primitive, descriptor));
    if (status != STATUS_OK) {
        backend_dnnl_op_free(op);
        return status;
    }
    op->scratch_bytes =
        dnnl_memory_desc_get_size(dnnl_primitive_desc_query_md(descriptor, dnnl_query_scratchpad_md, 0));
    *out = op;
    return STATUS_OK;
}

/* An operation from oneDNN's descriptor of it; hint: of the forward operation, for gradients. */
static enum status make(struct backend_dnnl *dnnl, const void *descriptor, const struct follow *follow,
                        dnnl_primitive_desc_t hint, int *argument, struct backend_dnnl_op **out) {
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t made = NULL;
    dnnl_status_t status = make_attributes(follow, argument, &attributes);

    if (status == dnnl_success) {
        status = dnnl_primitive_desc_create(&made, descriptor, attributes, dnnl->engine, hint);
        (void)dnnl_primitive_attr_destroy(attributes);
    }
    return status == dnnl_success ? finish(made, argument, BACKEND_DNNL_ARGS, out) : from_dnnl(status);
}

void backend_dnnl_op_free(struct backend_dnnl_op *op) {
    if (op != NULL) {
        if (op->primitive != NULL) {
            (void)dnnl_primitive_destroy(op->primitive);
        }
        (void)dnnl_primitive_desc_destroy(op->descriptor);
        mem_free(op);
    }
}

struct conv_descs {
    dnnl_memory_desc_t x, weight, bias, y;
    dnnl_dims_t stride, dilation, begin, end;
};

static bool conv_descs(const struct backend_dnnl_conv *conv, struct conv_descs *d) {
    const struct conv_shape *s = conv->shape;
    const struct window_attr *w = &s->window;
    const dnnl_data_type_t type = data_type(conv->type);
    const size_t x[] = {conv->n, s->channels, s->height, s->width};
    const size_t y[] = {conv->n, s->out_channels, s->out_height, s->out_width};
    const size_t weight[] = {w->group, s->out_channels / w->group, s->channels / w->group, w->kernel[0], w->kernel[1]};
    const bool groups = w->group > 1;

    for (size_t i = 0; i < 2; i++) {
        const size_t in = i == 0 ? s->height : s->width, out = i == 0 ? s->out_height : s->out_width;
        d->stride[i] = (dnnl_dim_t)w->stride[i];
        d->dilation[i] = (dnnl_dim_t)w->dilation[i] - 1;
        d->begin[i] = (dnnl_dim_t)w->pad_begin[i];
        /* What the windows really reach: rows that no window covers are no padding to oneDNN, which may be negative. */
        d->end[i] = (dnnl_dim_t)((out - 1) * w->stride[i] + (w->kernel[i] - 1) * w->dilation[i] + 1) -
                    (dnnl_dim_t)(in + w->pad_begin[i]);
    }
    return init_desc(&d->x, 4, x, type, conv->layout) && init_desc(&d->y, 4, y, type, conv->layout) &&
           init_desc(&d->weight, groups ? 5 : 4, groups ? weight : weight + 1, type, BACKEND_DNNL_ANY) &&
           init_desc(&d->bias, 1, &s->out_channels, dnnl_f32, BACKEND_DNNL_PLAIN);
}

static enum status conv_forward(struct backend_dnnl *dnnl, const struct backend_dnnl_conv *conv, struct conv_descs *d,
                                struct backend_dnnl_op **out) {
    int argument[BACKEND_DNNL_ARGS] = {DNNL_ARG_SRC, DNNL_ARG_DST, DNNL_ARG_WEIGHTS, conv->bias ? DNNL_ARG_BIAS : 0, 0};
    dnnl_convolution_desc_t desc;
    const dnnl_status_t status = dnnl_dilated_convolution_forward_desc_init(
        &desc, dnnl_forward_inference, dnnl_convolution_direct, &d->x, &d->weight, conv->bias ? &d->bias : NULL, &d->y,
        d->stride, d->dilation, d->begin, d->end);
    const struct follow follow = {.other = conv->other ? &d->y : NULL, .activation = &conv->activation};

    return status == dnnl_success ? make(dnnl, &desc, &follow, NULL, argument, out) : from_dnnl(status);
}

static enum status conv_backward(struct backend_dnnl *dnnl, const struct backend_dnnl_conv *conv, struct conv_descs *d,
                                 dnnl_primitive_desc_t hint, struct backend_dnnl_op **out) {
    const bool by_data = conv->pass == CONV_BACKWARD_DATA;
    const struct follow follow = {.activation = NULL};
    int argument[BACKEND_DNNL_ARGS] = {DNNL_ARG_DIFF_DST, DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, 0, 0};
    int by_weight[BACKEND_DNNL_ARGS] = {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, 0, 0, DNNL_ARG_DIFF_DST};
    dnnl_convolution_desc_t desc;
    const dnnl_status_t status =
        by_data ? dnnl_dilated_convolution_backward_data_desc_init(&desc, dnnl_convolution_direct, &d->x, &d->weight,
                                                                   &d->y, d->stride, d->dilation, d->begin, d->end)
                : dnnl_dilated_convolution_backward_weights_desc_init(&desc, dnnl_convolution_direct, &d->x, &d->weight,
                                                                      NULL, &d->y, d->stride, d->dilation, d->begin,
                                                                      d->end);

    return status == dnnl_success ? make(dnnl, &desc, &follow, hint, by_data ? argument : by_weight, out)
                                  : from_dnnl(status);
}

enum status backend_dnnl_conv_new(struct backend_dnnl *dnnl, const struct backend_dnnl_conv *conv,
                                  struct backend_dnnl_op **out) {
    struct conv_descs descs;
    struct backend_dnnl_conv plain = *conv;
    struct backend_dnnl_op *forward = NULL;

    if (!conv_descs(conv, &descs)) {
        return STATUS_UNSUPPORTED;
    }
    if (conv->pass == CONV_FORWARD) {
        return conv_forward(dnnl, conv, &descs, out);
    }
    plain.bias = plain.other = false;
    plain.activation = (struct backend_dnnl_activation){.op = OP_KIND_COUNT};
    enum status status = conv_forward(dnnl, &plain, &descs, &forward);
    if (status == STATUS_OK) {
        status = conv_backward(dnnl, conv, &descs, forward->descriptor, out);
        backend_dnnl_op_free(forward);
    }
    return status;
}

enum status backend_dnnl_inner_new(struct backend_dnnl *dnnl, const struct backend_dnnl_inner *inner,
                                   struct backend_dnnl_op **out) {
    const size_t x[] = {inner->n, inner->k}, weight[] = {inner->m, inner->k}, y[] = {inner->n, inner->m};
    int argument[BACKEND_DNNL_ARGS] = {DNNL_ARG_SRC, DNNL_ARG_DST, DNNL_ARG_WEIGHTS, DNNL_ARG_BIAS, 0};
    const struct follow follow = {.activation = &inner->activation};
    const dnnl_data_type_t type = data_type(inner->type);
    dnnl_memory_desc_t x_desc, weight_desc, bias_desc, y_desc;
    dnnl_inner_product_desc_t desc;

    if (!init_desc(&x_desc, 2, x, type, BACKEND_DNNL_PLAIN) ||
        !init_desc(&weight_desc, 2, weight, type, BACKEND_DNNL_ANY) ||
        !init_desc(&bias_desc, 1, &inner->m, dnnl_f32, BACKEND_DNNL_PLAIN) ||
        !init_desc(&y_desc, 2, y, data_type(inner->out_type), BACKEND_DNNL_PLAIN)) {
        return STATUS_UNSUPPORTED;
    }
    const dnnl_status_t status =
        dnnl_inner_product_forward_desc_init(&desc, dnnl_forward_inference, &x_desc, &weight_desc, &bias_desc, &y_desc);
    return status == dnnl_success ? make(dnnl, &desc, &follow, NULL, argument, out) : from_dnnl(status);
}

enum status backend_dnnl_pool_new(struct backend_dnnl *dnnl, enum op_kind op, const struct window_attr *w,
                                  const struct backend_dnnl_tensor *in, const struct backend_dnnl_tensor *out,
                                  struct backend_dnnl_op **made) {
    int argument[BACKEND_DNNL_ARGS] = {DNNL_ARG_SRC, DNNL_ARG_DST, 0, 0, 0};
    const struct follow follow = {.activation = NULL};
    const dnnl_alg_kind_t algorithm = op == OP_MAX_POOL      ? dnnl_pooling_max
                                      : w->count_include_pad ? dnnl_pooling_avg_include_padding
                                                             : dnnl_pooling_avg_exclude_padding;
    dnnl_dims_t kernel = {0}, stride = {0}, dilation = {0}, begin = {0}, end = {0};
    dnnl_memory_desc_t x, y;
    dnnl_pooling_v2_desc_t desc;

    for (size_t i = 0; i < 2; i++) {
        kernel[i] = (dnnl_dim_t)w->kernel[i];
        stride[i] = (dnnl_dim_t)w->stride[i];
        dilation[i] = (dnnl_dim_t)w->dilation[i] - 1;
        begin[i] = (dnnl_dim_t)w->pad_begin[i];
        end[i] = (dnnl_dim_t)((out->dim[2 + i] - 1) * w->stride[i] + (w->kernel[i] - 1) * w->dilation[i] + 1) -
                 (dnnl_dim_t)(in->dim[2 + i] + w->pad_begin[i]);
        /* Beyond the padding of the operator a mean would count what is not there. */
        if (op != OP_MAX_POOL && end[i] > (dnnl_dim_t)w->pad_end[i]) {
            return STATUS_UNSUPPORTED;
        }
    }
    if (!tensor_desc(in, &x) || !tensor_desc(out, &y)) {
        return STATUS_UNSUPPORTED;
    }
    const dnnl_status_t status = dnnl_pooling_v2_forward_desc_init(&desc, dnnl_forward_inference, algorithm, &x, &y,
                                                                   stride, kernel, dilation, begin, end);
    return status == dnnl_success ? make(dnnl, &desc, &follow, NULL, argument, made) : from_dnnl(status);
}

enum status backend_dnnl_add_new(struct backend_dnnl *dnnl, const struct backend_dnnl_tensor *x,
                                 const struct backend_dnnl_activation *activation, struct backend_dnnl_op **out) {
    int argument[BACKEND_DNNL_ARGS] = {DNNL_ARG_SRC_0, DNNL_ARG_DST, 0, 0, DNNL_ARG_SRC_1};
    const struct follow follow = {.activation = activation};
    dnnl_memory_desc_t desc;
    dnnl_binary_desc_t binary;

    if (!tensor_desc(x, &desc)) {
        return STATUS_UNSUPPORTED;
    }
    const dnnl_status_t status = dnnl_binary_desc_init(&binary, dnnl_binary_add, &desc, &desc, &desc);
    return status == dnnl_success ? make(dnnl, &binary, &follow, NULL, argument, out) : from_dnnl(status);
}

enum status backend_dnnl_affine_new(struct backend_dnnl *dnnl, const struct backend_dnnl_tensor *x,
                                    const struct backend_dnnl_activation *activation, struct backend_dnnl_op **out) {
    int argument[BACKEND_DNNL_ARGS] = {DNNL_ARG_SRC_0, DNNL_ARG_DST, DNNL_ARG_SRC_1, 0, 0};
    const size_t channel[] = {1, x->dim[1], 1, 1};
    dnnl_memory_desc_t desc, vector;
    dnnl_binary_desc_t binary;

    if (!tensor_desc(x, &desc) || !init_desc(&vector, x->rank, channel, dnnl_f32, x->layout)) {
        return STATUS_UNSUPPORTED;
    }
    const struct follow follow = {.shift = &vector, .activation = activation};
    const dnnl_status_t status = dnnl_binary_desc_init(&binary, dnnl_binary_mul, &desc, &vector, &desc);
    return status == dnnl_success ? make(dnnl, &binary, &follow, NULL, argument, out) : from_dnnl(status);
}

enum status backend_dnnl_activation_new(struct backend_dnnl *dnnl, const struct backend_dnnl_tensor *x,
                                        const struct backend_dnnl_activation *activation,
                                        struct backend_dnnl_op **out) {
    int argument[BACKEND_DNNL_ARGS] = {DNNL_ARG_SRC, DNNL_ARG_DST, 0, 0, 0};
    const struct follow follow = {.activation = NULL};
    dnnl_memory_desc_t desc;
    dnnl_eltwise_desc_t eltwise;
    dnnl_alg_kind_t algorithm;

    if (!find_activation(activation->op, &algorithm) || !tensor_desc(x, &desc)) {
        return STATUS_UNSUPPORTED;
    }
    const dnnl_status_t status = dnnl_eltwise_forward_desc_init(&eltwise, dnnl_forward_inference, algorithm, &desc,
                                                                activation->alpha, activation->beta);
    return status == dnnl_success ? make(dnnl, &eltwise, &follow, NULL, argument, out) : from_dnnl(status);
}

enum status backend_dnnl_concat_new(struct backend_dnnl *dnnl, const struct backend_dnnl_tensor *in, size_t count,
                                    struct backend_dnnl_op **out) {
    const struct follow follow = {.activation = NULL};
    int argument[BACKEND_DNNL_ARGS_MAX] = {DNNL_ARG_MULTIPLE_SRC, DNNL_ARG_DST};
    struct backend_dnnl_tensor whole = in[0];
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t made = NULL;
    dnnl_memory_desc_t to;

    if (count + 1 > BACKEND_DNNL_ARGS_MAX) {
        return STATUS_UNSUPPORTED;
    }
    dnnl_memory_desc_t *from = mem_alloc(count, sizeof *from);
    bool fits = from != NULL;
    for (size_t i = 0; i < count && fits; i++) {
        fits = tensor_desc(&in[i], &from[i]);
        if (i > 0) {
            whole.dim[1] += in[i].dim[1];
            argument[1 + i] = DNNL_ARG_MULTIPLE_SRC + (int)i;
        }
    }
    dnnl_status_t status = from == NULL                       ? dnnl_out_of_memory
                           : fits && tensor_desc(&whole, &to) ? make_attributes(&follow, argument, &attributes)
                                                              : dnnl_invalid_arguments;
    if (status == dnnl_success) {
        status = dnnl_concat_primitive_desc_create(&made, &to, (int)count, 1, from, attributes, dnnl->engine);
        (void)dnnl_primitive_attr_destroy(attributes);
    }
    mem_free(from);
    return status == dnnl_success ? finish(made, argument, count + 1, out) : from_dnnl(status);
}

static enum status reorder(struct backend_dnnl *dnnl, const dnnl_memory_desc_t *from, const dnnl_memory_desc_t *to,
                           bool add, struct backend_dnnl_op **out) {
    int argument[BACKEND_DNNL_ARGS] = {DNNL_ARG_FROM, DNNL_ARG_TO, 0, 0, 0};
    const struct follow follow = {.accumulate = add};
    dnnl_primitive_attr_t attributes = NULL;
    dnnl_primitive_desc_t made = NULL;
    dnnl_status_t status = make_attributes(&follow, argument, &attributes);

    if (status == dnnl_success) {
        status = dnnl_reorder_primitive_desc_create(&made, from, dnnl->engine, to, dnnl->engine, attributes);
        (void)dnnl_primitive_attr_destroy(attributes);
    }
    return status == dnnl_success ? finish(made, argument, BACKEND_DNNL_ARGS, out) : from_dnnl(status);
}

enum status backend_dnnl_reorder_new(struct backend_dnnl *dnnl, const struct backend_dnnl_tensor *from,
                                     const struct backend_dnnl_tensor *to, struct backend_dnnl_op **out) {
    dnnl_memory_desc_t source, target;

    return tensor_desc(from, &source) && tensor_desc(to, &target) ? reorder(dnnl, &source, &target, false, out)
                                                                  : STATUS_UNSUPPORTED;
}

static bool plain_desc(const struct backend_dnnl_op *op, size_t argument, dnnl_memory_desc_t *plain) {
    const dnnl_memory_desc_t *desc = argument_desc(op, argument);
    size_t dim[DNNL_MAX_NDIMS] = {0};

    for (int d = 0; d < desc->ndims; d++) {
        dim[d] = (size_t)desc->dims[d];
    }
    return init_desc(plain, (size_t)desc->ndims, dim, dnnl_f32, BACKEND_DNNL_PLAIN);
}

/* Between plain f32 and what the operation has of an argument; nothing if that is plain f32 itself and nothing is added. */
static enum status carry(struct backend_dnnl *dnnl, const struct backend_dnnl_op *op, size_t argument, bool from_plain,
                         bool add, struct backend_dnnl_op **out) {
    const dnnl_memory_desc_t *own = argument_desc(op, argument);
    dnnl_memory_desc_t plain;

    if (!plain_desc(op, argument, &plain)) {
        return STATUS_UNSUPPORTED;
    }
    if (!add && dnnl_memory_desc_equal(&plain, own)) {
        *out = NULL;
        return STATUS_OK;
    }
    return from_plain ? reorder(dnnl, &plain, own, false, out) : reorder(dnnl, own, &plain, add, out);
}

enum status backend_dnnl_pack_new(struct backend_dnnl *dnnl, const struct backend_dnnl_op *op, size_t argument,
                                  struct backend_dnnl_op **out) {
    return carry(dnnl, op, argument, true, false, out);
}

enum status backend_dnnl_unpack_new(struct backend_dnnl *dnnl, const struct backend_dnnl_op *op, size_t argument,
                                    bool add, struct backend_dnnl_op **out) {
    return carry(dnnl, op, argument, false, add, out);
}

size_t backend_dnnl_bytes(const struct backend_dnnl_op *op, size_t argument) {
    return argument < op->count && op->argument[argument] != 0 ? dnnl_memory_desc_get_size(argument_desc(op, argument))
                                                               : 0;
}

size_t backend_dnnl_scratch_bytes(const struct backend_dnnl_op *op) {
    return op->scratch_bytes;
}

enum status backend_dnnl_call_new(struct backend_dnnl *dnnl, const struct backend_dnnl_op *op, void *const *fixed,
                                  struct backend_dnnl_call **out) {
    struct backend_dnnl_call *call = mem_calloc(1, sizeof *call);

    if (call == NULL) {
        return STATUS_NO_MEMORY;
    }
    call->op = op;
    bool ok = dnnl_stream_create(&call->stream, dnnl->engine, dnnl_stream_default_flags) == dnnl_success;
    for (size_t i = 0; i < op->count && ok; i++) {
        if (op->argument[i] == 0) {
            continue;
        }
        const int at = call->count;
        call->args[at].arg = op->argument[i];
        call->pointer_of[at] = i;
        call->fixed[at] = fixed != NULL && fixed[i] != NULL;
        call->last[at] = call->fixed[at] ? fixed[i] : NULL;
        ok = dnnl_memory_create(&call->args[at].memory, argument_desc(op, i), dnnl->engine,
                                call->fixed[at] ? fixed[i] : DNNL_MEMORY_NONE) == dnnl_success;
        call->count += ok ? 1 : 0;
    }
    if (ok && op->scratch_bytes > 0) {
        const int at = call->count;
        call->args[at].arg = DNNL_ARG_SCRATCHPAD;
        ok = dnnl_memory_create(&call->args[at].memory,
                                dnnl_primitive_desc_query_md(op->descriptor, dnnl_query_scratchpad_md, 0), dnnl->engine,
                                DNNL_MEMORY_NONE) == dnnl_success;
        call->scratch = ok ? call->args[at].memory : NULL;
        call->count += ok ? 1 : 0;
    }
    if (!ok) {
        backend_dnnl_call_free(call);
        return STATUS_NO_MEMORY;
    }
    *out = call;
    return STATUS_OK;
}

void backend_dnnl_call_free(struct backend_dnnl_call *call) {
    if (call == NULL) {
        return;
    }
    for (int i = 0; i < call->count; i++) {
        (void)dnnl_memory_destroy(call->args[i].memory);
    }
    if (call->stream != NULL) {
        (void)dnnl_stream_destroy(call->stream);
    }
    mem_free(call);
}

bool backend_dnnl_run(struct backend_dnnl_call *call, void *const *pointers, void *scratch) {
    const int own = call->count - (call->scratch != NULL ? 1 : 0);

    for (int i = 0; i < own; i++) {
        void *pointer = call->fixed[i] ? call->last[i] : pointers[call->pointer_of[i]];
        if (pointer != call->last[i]) {
            if (dnnl_memory_set_data_handle(call->args[i].memory, pointer) != dnnl_success) {
                return false;
            }
            call->last[i] = pointer;
        }
    }
    if (call->scratch != NULL && dnnl_memory_set_data_handle(call->scratch, scratch) != dnnl_success) {
        return false;
    }
    return dnnl_primitive_execute(call->op->primitive, call->stream, call->count, call->args) == dnnl_success;
}

void backend_dnnl_gemm(const struct gemm_shape *s, const float *a, const float *b, float *c) {
    backend_dnnl_enter();
    /* It fails only for arguments that the rows of Gemm and MatMul refuse. */
    (void)dnnl_sgemm(s->trans_a ? 'T' : 'N', s->trans_b ? 'T' : 'N', (dnnl_dim_t)s->m, (dnnl_dim_t)s->n,
                     (dnnl_dim_t)s->k, s->alpha, a, (dnnl_dim_t)s->lda, b, (dnnl_dim_t)s->ldb, s->beta, c,
                     (dnnl_dim_t)s->ldc);
}
