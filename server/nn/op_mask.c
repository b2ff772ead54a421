/* Mask: y = m x + (1 - m) fill, a channel; the op that prunes units. A mask of 1 copies bit for bit and a mask of 0 gives
 * the fill exactly, so that a pruned network equals its folded form. */
#include <string.h>

#include "server/nn/kernels.h"
#include "server/nn/op_rows.h"

struct mask_view { /* x is (outer, channels, inner) */
    size_t outer, channels, inner;
};

static enum status mask_infer(const struct network *network, const struct node *node, struct shape *out,
                              struct error *error) {
    struct shape shape;
    enum status status = op_infer_same(network, node, &shape, error);

    if (status != STATUS_OK) {
        return status;
    }
    if (node->attr.axis < 1 || node->attr.axis >= shape.rank) {
        char text[SHAPE_TEXT_SIZE];
        return op_refuse(node, error, STATUS_INVALID,
                         "got axis %zu of shape %s, expected a channel axis after the batch", node->attr.axis,
                         shape_text(&shape, text));
    }
    if (node->attr.mask_first > SIZE_MAX - shape.dim[node->attr.axis]) {
        return op_refuse(node, error, STATUS_INVALID, "got first unit %zu, expected room for %zu units",
                         node->attr.mask_first, shape.dim[node->attr.axis]);
    }
    *out = shape;
    return STATUS_OK;
}

static struct mask_view mask_view(const struct op_args *args) {
    const struct shape *x = op_in_shape(args->network, args->node, 0);
    struct mask_view view = {.channels = x->dim[args->node->attr.axis]};

    view.inner = shape_count_from(x, args->node->attr.axis + 1);
    view.outer = op_out_count(args) / (view.channels * view.inner);
    return view;
}

static void mask_forward(const struct op_args *args) {
    const struct kernels *k = kernels();
    const struct mask_view v = mask_view(args);

    if (args->mask == NULL) {
        op_give(op_out_count(args), args->in[0], args->out, false);
        return;
    }
    for (size_t i = 0; i < v.outer * v.channels; i++) {
        const size_t unit = args->node->attr.mask_first + i % v.channels;
        const float m = args->mask[unit];
        const float *x = args->in[0] + i * v.inner;
        float *y = args->out + i * v.inner;

        if (m == 1.0f) {
            op_give(v.inner, x, y, false);
        } else if (m == 0.0f) {
            k->fill(v.inner, args->fill[unit], y);
        } else {
            k->affine(v.inner, m, (1.0f - m) * args->fill[unit], x, y);
        }
    }
}

static void mask_backward(const struct op_args *args) {
    const struct kernels *k = kernels();
    const struct mask_view v = mask_view(args);

    for (size_t i = 0; i < v.outer * v.channels; i++) {
        const size_t unit = args->node->attr.mask_first + i % v.channels;
        const float m = args->mask != NULL ? args->mask[unit] : 1.0f;
        const float *dy = args->dout + i * v.inner;

        if (args->mask_grad != NULL) { /* before dx, which may overwrite dy */
            args->mask_grad[unit] += k->dot(v.inner, dy, 0.0f, args->in[0] + i * v.inner, args->fill[unit]);
        }
        if (args->din[0] == NULL) {
            continue;
        }
        float *dx = args->din[0] + i * v.inner;
        if (m == 1.0f) {
            op_give(v.inner, dy, dx, args->accumulate[0]);
        } else if (args->accumulate[0]) {
            k->axpy(v.inner, m, dy, dx);
        } else if (m == 0.0f) {
            memset(dx, 0, v.inner * sizeof *dx);
        } else {
            k->affine(v.inner, m, 0.0f, dy, dx);
        }
    }
}

const struct op op_row_mask = {.name = "Mask",
                               .flags = OP_NEEDS_INPUT | OP_MAY_ALIAS,
                               .infer = mask_infer,
                               .forward = mask_forward,
                               .backward = mask_backward};
