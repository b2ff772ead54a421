/* Conv: 2-D convolution; the work is the backend's (backend.h). */
#include "server/nn/backend.h"
#include "server/nn/kernels.h"
#include "server/nn/op_rows.h"

static enum status conv_infer(const struct network *network, const struct node *node, struct shape *out,
                              struct error *error) {
    const struct window_attr *w = &node->attr.window;
    size_t size[2];
    enum status status = op_check_arity(network, node, 2, 3, error);

    if (status == STATUS_OK) {
        status = op_check_data(network, node, 0, 1, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    const struct shape *x = op_in_shape(network, node, 0);
    const struct shape *weight = op_in_shape(network, node, 1);
    char text[SHAPE_TEXT_SIZE];
    if (network->values[node->inputs[1]].kind != VALUE_CONSTANT) {
        return op_refuse(node, error, STATUS_UNSUPPORTED, "got a computed weight, expected a constant");
    }
    if (x->rank != 4) {
        return op_refuse(node, error, STATUS_UNSUPPORTED, "got an input of shape %s, expected [N, C, H, W]",
                         shape_text(x, text));
    }
    if (weight->rank != 4 || w->group < 1 || x->dim[1] % w->group != 0 || weight->dim[0] % w->group != 0 ||
        weight->dim[1] != x->dim[1] / w->group) {
        return op_refuse(node, error, STATUS_INVALID,
                         "got a weight of shape %s with group %zu, expected [M, C / group, kH, kW] for C = %zu",
                         shape_text(weight, text), w->group, x->dim[1]);
    }
    if (weight->dim[2] != w->kernel[0] || weight->dim[3] != w->kernel[1]) {
        return op_refuse(node, error, STATUS_INVALID, "got a weight of shape %s, expected a kernel of %zu x %zu",
                         shape_text(weight, text), w->kernel[0], w->kernel[1]);
    }
    if (op_has_input(node, 2)) {
        status = op_check_vector(network, node, 2, weight->dim[0], "bias", error);
    }
    if (status == STATUS_OK && w->ceil_mode) {
        status = op_refuse(node, error, STATUS_INVALID, "got ceil_mode, expected none");
    }
    if (status == STATUS_OK) {
        status = op_check_window(node, x, size, error);
    }
    if (status == STATUS_OK) {
        *out = (struct shape){.rank = 4, .dim = {x->dim[0], weight->dim[0], size[0], size[1]}};
    }
    return status;
}

static size_t conv_samples(const struct network *network, const struct node *node, size_t n) {
    return n * op_in_shape(network, node, 0)->dim[0];
}

static size_t conv_scratch_floats(const struct network *network, const struct node *node, size_t n, bool backward) {
    const struct conv_shape s = conv_shape_of(network, node);
    size_t floats = 0;

    for (enum conv_pass pass = CONV_FORWARD; pass <= (backward ? CONV_BACKWARD_WEIGHT : CONV_FORWARD); pass++) {
        const struct conv_backend *backend = backend_conv(&s, pass);
        size_t need = backend->scratch_floats(backend, &s, conv_samples(network, node, n), pass);
        floats = need > floats ? need : floats;
    }
    return floats;
}

static size_t conv_prepared_floats(const struct network *network, const struct node *node, bool backward) {
    const struct conv_shape s = conv_shape_of(network, node);
    const enum conv_pass pass = backward ? CONV_BACKWARD_DATA : CONV_FORWARD;
    const struct conv_backend *backend = backend_conv(&s, pass);

    return backend->prepared_floats != NULL ? backend->prepared_floats(backend, &s, pass) : 0;
}

static void conv_prepare(const struct network *network, const struct node *node, bool backward, float *prepared) {
    const struct conv_shape s = conv_shape_of(network, node);
    const enum conv_pass pass = backward ? CONV_BACKWARD_DATA : CONV_FORWARD;
    const struct conv_backend *backend = backend_conv(&s, pass);

    backend->prepare(backend, &s, pass, network->values[node->inputs[1]].data, prepared);
}

static void conv_forward(const struct op_args *args) {
    const struct conv_shape s = conv_shape_of(args->network, args->node);
    const float *bias = op_has_input(args->node, 2) ? args->in[2] : NULL;
    const struct conv_backend *backend = backend_conv(&s, CONV_FORWARD);

    backend->forward(backend, &s, conv_samples(args->network, args->node, args->n), args->in[0], args->in[1],
                     args->prepared, bias, args->out, args->scratch);
}

static void conv_backward(const struct op_args *args) {
    const struct conv_shape s = conv_shape_of(args->network, args->node);
    const size_t n = conv_samples(args->network, args->node, args->n);

    if (args->din[0] != NULL) {
        const struct conv_backend *backend = backend_conv(&s, CONV_BACKWARD_DATA);
        backend->backward_data(backend, &s, n, args->dout, args->in[1], args->prepared, args->din[0],
                               args->accumulate[0], args->scratch);
    }
    if (args->din[1] != NULL) {
        const struct conv_backend *backend = backend_conv(&s, CONV_BACKWARD_WEIGHT);
        backend->backward_weight(backend, &s, n, args->in[0], args->dout, args->din[1], args->scratch);
    }
    if (op_has_input(args->node, 2) && args->din[2] != NULL) {
        const size_t positions = s.out_height * s.out_width;
        for (size_t m = 0; m < n * s.out_channels; m++) {
            args->din[2][m % s.out_channels] += kernels()->sum(positions, args->dout + m * positions);
        }
    }
}

const struct op op_row_conv = {.name = "Conv",
                               .flags = OP_NEEDS_INPUT,
                               .infer = conv_infer,
                               .scratch_floats = conv_scratch_floats,
                               .prepared_floats = conv_prepared_floats,
                               .prepare = conv_prepare,
                               .forward = conv_forward,
                               .backward = conv_backward};
