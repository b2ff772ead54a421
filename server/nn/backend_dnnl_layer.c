/* A convolution's three passes, each for a whole chunk and for one sample, each as up to four operations: carry the input (and
 * the output's gradient) over, convolve, carry the result back. */
#include "server/nn/backend_dnnl_layer.h"

#include <string.h>

#include "common/mem.h"

enum { WHOLE, SINGLE, VARIANTS };
enum { IN, OTHER, RUN, OUT, PARTS };
enum { PASSES = CONV_BACKWARD_WEIGHT + 1, ALIGNMENT = 64 };

struct part {
    struct backend_dnnl_op *op;       /* NULL: nothing to do */
    struct backend_dnnl_call **calls; /* (threads) */
};

struct pass {
    struct part parts[VARIANTS][PARTS];
    struct backend_dnnl_op *pack[VARIANTS];
    struct backend_dnnl_call *packing[VARIANTS];
    void *weight[VARIANTS];
};

struct backend_dnnl_layer {
    struct backend_dnnl *dnnl;
    size_t n, threads, weight_floats, channels;
    size_t in_floats, out_floats; /* of one sample */
    struct pass passes[PASSES];
    float *bias;
    bool prepared;
    uint64_t version;             /* of what is packed, if prepared */
    size_t at[BACKEND_DNNL_ARGS]; /* bytes: where carried arguments lie in a thread's memory */
    size_t scratch_at, bytes;     /* of one thread's memory */
    size_t fixed_bytes;
    unsigned char **memory; /* (threads) */
};

static size_t round_up(size_t bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static enum status make_parts(struct backend_dnnl_layer *layer, const struct conv_shape *shape, enum conv_pass pass,
                              size_t v, bool accumulate) {
    struct pass *made = &layer->passes[pass];
    struct part *parts = made->parts[v];
    const struct backend_dnnl_conv conv = {.shape = shape,
                                           .n = v == WHOLE ? layer->n : 1,
                                           .pass = pass,
                                           .type = BACKEND_DNNL_F32,
                                           .layout = BACKEND_DNNL_ANY,
                                           .bias = pass == CONV_FORWARD,
                                           .activation = {.op = OP_KIND_COUNT}};
    const bool add = pass == CONV_BACKWARD_WEIGHT || (pass == CONV_BACKWARD_DATA && accumulate);
    enum status status = backend_dnnl_conv_new(layer->dnnl, &conv, &parts[RUN].op);

    if (status == STATUS_OK) {
        status = backend_dnnl_pack_new(layer->dnnl, parts[RUN].op, BACKEND_DNNL_INPUT, &parts[IN].op);
    }
    if (status == STATUS_OK && pass == CONV_BACKWARD_WEIGHT) {
        status = backend_dnnl_pack_new(layer->dnnl, parts[RUN].op, BACKEND_DNNL_OTHER, &parts[OTHER].op);
    }
    if (status == STATUS_OK) {
        status = backend_dnnl_unpack_new(layer->dnnl, parts[RUN].op, BACKEND_DNNL_OUTPUT, add, &parts[OUT].op);
    }
    if (status == STATUS_OK && pass != CONV_BACKWARD_WEIGHT) {
        status = backend_dnnl_pack_new(layer->dnnl, parts[RUN].op, BACKEND_DNNL_WEIGHT, &made->pack[v]);
        made->weight[v] =
            status == STATUS_OK ? mem_aligned(backend_dnnl_bytes(parts[RUN].op, BACKEND_DNNL_WEIGHT), 1) : NULL;
        status = status == STATUS_OK && made->weight[v] == NULL ? STATUS_NO_MEMORY : status;
        layer->fixed_bytes += backend_dnnl_bytes(parts[RUN].op, BACKEND_DNNL_WEIGHT);
    }
    return status;
}

/* One thread's memory: each argument that any pass carries has its place, then scratch. */
static void place(struct backend_dnnl_layer *layer) {
    static const size_t carried[] = {BACKEND_DNNL_INPUT, BACKEND_DNNL_OTHER, BACKEND_DNNL_OUTPUT};
    size_t scratch = 0;

    for (size_t a = 0; a < sizeof carried / sizeof carried[0]; a++) {
        size_t most = 0;
        for (size_t p = 0; p < PASSES; p++) {
            const struct backend_dnnl_op *op = layer->passes[p].parts[WHOLE][RUN].op;
            const size_t bytes = op != NULL ? backend_dnnl_bytes(op, carried[a]) : 0;
            most = bytes > most ? bytes : most;
        }
        layer->at[carried[a]] = layer->bytes;
        layer->bytes += round_up(most);
    }
    for (size_t i = 0; i < PASSES * VARIANTS * PARTS; i++) {
        const struct backend_dnnl_op *op =
            layer->passes[i / (VARIANTS * PARTS)].parts[i / PARTS % VARIANTS][i % PARTS].op;
        const size_t bytes = op != NULL ? backend_dnnl_scratch_bytes(op) : 0;
        scratch = bytes > scratch ? bytes : scratch;
    }
    for (size_t i = 0; i < PASSES * VARIANTS; i++) {
        const struct backend_dnnl_op *op = layer->passes[i / VARIANTS].pack[i % VARIANTS];
        const size_t bytes = op != NULL ? backend_dnnl_scratch_bytes(op) : 0;
        scratch = bytes > scratch ? bytes : scratch;
    }
    layer->scratch_at = layer->bytes;
    layer->bytes += scratch;
}

static enum status bind(struct backend_dnnl_layer *layer, struct pass *pass, size_t v) {
    void *fixed[BACKEND_DNNL_ARGS_MAX] = {NULL};
    enum status status = STATUS_OK;

    for (size_t i = 0; i < PARTS && status == STATUS_OK; i++) {
        struct part *part = &pass->parts[v][i];
        if (part->op == NULL) {
            continue;
        }
        fixed[BACKEND_DNNL_WEIGHT] = i == RUN ? pass->weight[v] : NULL;
        fixed[BACKEND_DNNL_BIAS] = i == RUN ? layer->bias : NULL;
        part->calls = mem_calloc(layer->threads, sizeof(struct backend_dnnl_call *));
        status = part->calls == NULL ? STATUS_NO_MEMORY : STATUS_OK;
        for (size_t t = 0; t < layer->threads && status == STATUS_OK; t++) {
            status = backend_dnnl_call_new(layer->dnnl, part->op, fixed, &part->calls[t]);
        }
    }
    if (status == STATUS_OK && pass->pack[v] != NULL) {
        status = backend_dnnl_call_new(layer->dnnl, pass->pack[v], NULL, &pass->packing[v]);
    }
    return status;
}

static enum status allocate(struct backend_dnnl_layer *layer) {
    enum status status = STATUS_OK;

    layer->bias = mem_aligned(layer->channels, sizeof *layer->bias);
    layer->memory = mem_calloc(layer->threads, sizeof *layer->memory);
    if (layer->bias == NULL || layer->memory == NULL) {
        return STATUS_NO_MEMORY;
    }
    for (size_t t = 0; t < layer->threads && status == STATUS_OK; t++) {
        layer->memory[t] = mem_aligned(layer->bytes, 1);
        status = layer->memory[t] == NULL ? STATUS_NO_MEMORY : STATUS_OK;
    }
    for (size_t i = 0; i < PASSES * VARIANTS && status == STATUS_OK; i++) {
        status = bind(layer, &layer->passes[i / VARIANTS], i % VARIANTS);
    }
    return status;
}

enum status backend_dnnl_layer_new(struct backend_dnnl *dnnl, const struct conv_shape *shape, size_t n, size_t threads,
                                   bool backward, bool accumulate, struct backend_dnnl_layer **out) {
    struct backend_dnnl_layer *layer = mem_calloc(1, sizeof *layer);
    enum status status = STATUS_OK;

    if (layer == NULL) {
        return STATUS_NO_MEMORY;
    }
    layer->dnnl = dnnl;
    layer->n = n;
    layer->threads = threads;
    layer->channels = shape->out_channels;
    layer->in_floats = shape->channels * shape->height * shape->width;
    layer->out_floats = shape->out_channels * shape->out_height * shape->out_width;
    layer->weight_floats = shape->out_channels * (shape->channels / shape->window.group) * shape->window.kernel[0] *
                           shape->window.kernel[1];
    for (size_t i = 0; i < (backward ? PASSES : 1) * VARIANTS && status == STATUS_OK; i++) {
        status = make_parts(layer, shape, (enum conv_pass)(i / VARIANTS), i % VARIANTS, accumulate);
    }
    if (status == STATUS_OK) {
        place(layer);
        status = allocate(layer);
    }
    if (status != STATUS_OK) {
        backend_dnnl_layer_free(layer);
        return status;
    }
    *out = layer;
    return STATUS_OK;
}

void backend_dnnl_layer_free(struct backend_dnnl_layer *layer) {
    if (layer == NULL) {
        return;
    }
    for (size_t i = 0; i < PASSES * VARIANTS; i++) {
        struct pass *pass = &layer->passes[i / VARIANTS];
        for (size_t k = 0; k < PARTS; k++) {
            struct part *part = &pass->parts[i % VARIANTS][k];
            for (size_t t = 0; part->calls != NULL && t < layer->threads; t++) {
                backend_dnnl_call_free(part->calls[t]);
            }
            mem_free(part->calls);
            backend_dnnl_op_free(part->op);
        }
        backend_dnnl_call_free(pass->packing[i % VARIANTS]);
        backend_dnnl_op_free(pass->pack[i % VARIANTS]);
        mem_free(pass->weight[i % VARIANTS]);
    }
    for (size_t t = 0; layer->memory != NULL && t < layer->threads; t++) {
        mem_free(layer->memory[t]);
    }
    mem_free(layer->memory);
    mem_free(layer->bias);
    mem_free(layer);
}

size_t backend_dnnl_layer_bytes(const struct backend_dnnl_layer *layer) {
    return layer->fixed_bytes + layer->threads * layer->bytes;
}

/* oneDNN's arguments know no const. */
static void *writable(const float *pointer) {
    union {
        const void *in;
        void *out;
    } same = {.in = pointer};

    return same.out;
}

bool backend_dnnl_layer_prepare(struct backend_dnnl_layer *layer, size_t thread, uint64_t version, const float *weight,
                                const float *bias) {
    bool ok = true;

    if (layer->prepared && layer->version == version) {
        return true;
    }
    backend_dnnl_enter();
    if (bias != NULL) {
        memcpy(layer->bias, bias, layer->channels * sizeof *bias);
    } else {
        memset(layer->bias, 0, layer->channels * sizeof *layer->bias);
    }
    for (size_t i = 0; i < PASSES * VARIANTS && ok; i++) {
        struct pass *pass = &layer->passes[i / VARIANTS];
        void *pointers[BACKEND_DNNL_ARGS] = {writable(weight), pass->weight[i % VARIANTS]};
        if (pass->packing[i % VARIANTS] != NULL) {
            ok = backend_dnnl_run(pass->packing[i % VARIANTS], pointers, layer->memory[thread] + layer->scratch_at);
        } else if (pass->weight[i % VARIANTS] != NULL) {
            memcpy(pass->weight[i % VARIANTS], weight, layer->weight_floats * sizeof *weight);
        }
    }
    layer->prepared = ok;
    layer->version = version;
    return ok;
}

/* One pass over what op[RUN] is made for. plain: (BACKEND_DNNL_ARGS) where the plain tensors are. */
static bool run_once(struct backend_dnnl_layer *layer, struct part *parts, size_t thread, void *const *plain) {
    unsigned char *memory = layer->memory[thread];
    void *scratch = memory + layer->scratch_at;
    void *carried[BACKEND_DNNL_ARGS] = {NULL};
    bool ok = true;

    for (size_t a = 0; a < BACKEND_DNNL_ARGS; a++) {
        const size_t part = a == BACKEND_DNNL_INPUT ? IN : a == BACKEND_DNNL_OTHER ? OTHER : OUT;
        const bool carries =
            (a == BACKEND_DNNL_INPUT || a == BACKEND_DNNL_OTHER || a == BACKEND_DNNL_OUTPUT) && parts[part].op != NULL;
        carried[a] = carries ? memory + layer->at[a] : plain[a];
        if (carries && part != OUT && ok) {
            void *pointers[BACKEND_DNNL_ARGS] = {plain[a], carried[a]};
            ok = backend_dnnl_run(parts[part].calls[thread], pointers, scratch);
        }
    }
    ok = ok && backend_dnnl_run(parts[RUN].calls[thread], carried, scratch);
    if (ok && parts[OUT].op != NULL) {
        void *pointers[BACKEND_DNNL_ARGS] = {carried[BACKEND_DNNL_OUTPUT], plain[BACKEND_DNNL_OUTPUT]};
        ok = backend_dnnl_run(parts[OUT].calls[thread], pointers, scratch);
    }
    return ok;
}

/* steps: floats of one sample of each argument. */
static bool run(struct backend_dnnl_layer *layer, enum conv_pass pass, size_t thread, size_t n, void **plain,
                const size_t *steps) {
    bool ok = true;

    backend_dnnl_enter();
    if (n == layer->n) {
        return run_once(layer, layer->passes[pass].parts[WHOLE], thread, plain);
    }
    for (size_t i = 0; i < n && ok; i++) {
        ok = run_once(layer, layer->passes[pass].parts[SINGLE], thread, plain);
        for (size_t a = 0; a < BACKEND_DNNL_ARGS; a++) {
            plain[a] = plain[a] != NULL ? (float *)plain[a] + steps[a] : NULL;
        }
    }
    return ok;
}

bool backend_dnnl_layer_forward(struct backend_dnnl_layer *layer, size_t thread, size_t n, const float *x, float *y) {
    void *plain[BACKEND_DNNL_ARGS] = {[BACKEND_DNNL_INPUT] = writable(x), [BACKEND_DNNL_OUTPUT] = y};
    const size_t steps[BACKEND_DNNL_ARGS] = {
        [BACKEND_DNNL_INPUT] = layer->in_floats, [BACKEND_DNNL_OUTPUT] = layer->out_floats};

    return run(layer, CONV_FORWARD, thread, n, plain, steps);
}

bool backend_dnnl_layer_data(struct backend_dnnl_layer *layer, size_t thread, size_t n, const float *dy, float *dx) {
    void *plain[BACKEND_DNNL_ARGS] = {[BACKEND_DNNL_INPUT] = writable(dy), [BACKEND_DNNL_OUTPUT] = dx};
    const size_t steps[BACKEND_DNNL_ARGS] = {
        [BACKEND_DNNL_INPUT] = layer->out_floats, [BACKEND_DNNL_OUTPUT] = layer->in_floats};

    return run(layer, CONV_BACKWARD_DATA, thread, n, plain, steps);
}

bool backend_dnnl_layer_weight(struct backend_dnnl_layer *layer, size_t thread, size_t n, const float *x,
                               const float *dy, float *dweight) {
    void *plain[BACKEND_DNNL_ARGS] = {
        [BACKEND_DNNL_INPUT] = writable(x), [BACKEND_DNNL_OUTPUT] = dweight, [BACKEND_DNNL_OTHER] = writable(dy)};
    const size_t steps[BACKEND_DNNL_ARGS] = {
        [BACKEND_DNNL_INPUT] = layer->in_floats, [BACKEND_DNNL_OTHER] = layer->out_floats};

    return run(layer, CONV_BACKWARD_WEIGHT, thread, n, plain, steps);
}
