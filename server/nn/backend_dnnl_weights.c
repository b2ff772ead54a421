/* Folding BatchNorms and masks into weights, and packing these, when they have changed: found by a hash of all that goes in, so
 * that nobody has to say so. */
#include <string.h>

#include "server/nn/backend_dnnl_build.h"

/* FNV-1a over words, in four lanes so that it keeps up with memory. */
static uint64_t hash_floats(uint64_t seed, const float *data, size_t count) {
    const uint64_t prime = 0x9E3779B97F4A7C15U;
    uint64_t lane[4] = {seed, seed ^ 1, seed ^ 2, seed ^ 3};
    uint32_t word;

    for (size_t i = 0; i < count; i++) {
        memcpy(&word, &data[i], sizeof word);
        lane[i % 4] = (lane[i % 4] ^ word) * prime;
        lane[i % 4] ^= lane[i % 4] >> 29;
    }
    return ((lane[0] * prime ^ lane[1]) * prime ^ lane[2]) * prime ^ lane[3];
}

/* Weights times the scale of their output channel, as (channels, row). */
static void fold_weights(const struct network *network, const struct dnnl_unit *unit, const float *scale) {
    const struct node *node = &network->nodes[unit->group.nodes[0]];
    const float *weight = network->values[node->inputs[1]].data;
    const bool product = unit->group.kind == GROUP_INNER;
    const bool across = product && !node->attr.trans_b; /* stored as (row, channels) */

    for (size_t c = 0; c < unit->channels; c++) {
        const float factor = product ? node->attr.alpha * scale[c] : scale[c];
        for (size_t i = 0; i < unit->row; i++) {
            unit->fold[c * unit->row + i] =
                factor * (across ? weight[i * unit->channels + c] : weight[c * unit->row + i]);
        }
    }
}

/* bias scale + shift. */
static void fold_bias(const struct network *network, const struct dnnl_unit *unit, const float *scale, float *shift) {
    const struct node *node = &network->nodes[unit->group.nodes[0]];

    if (node->input_count < 3 || node->inputs[2] == NETWORK_NONE) {
        return;
    }
    const struct value *bias = &network->values[node->inputs[2]];
    const bool shared = shape_count(&bias->shape) == 1;
    const float factor = unit->group.kind == GROUP_INNER ? node->attr.beta : 1.0f;
    for (size_t c = 0; c < unit->channels; c++) {
        shift[c] += factor * bias->data[shared ? 0 : c] * scale[c];
    }
}

static void pack(struct backend_dnnl_program *p, struct dnnl_unit *unit, size_t thread) {
    static void *const none[BACKEND_DNNL_ARGS] = {NULL};

    for (size_t v = 0; v < VARIANTS; v++) {
        if (unit->step.packing[v] == NULL) {
            memcpy(unit->step.weight[v], unit->fold, unit->channels * unit->row * sizeof(float));
        } else if (!backend_dnnl_run(unit->step.packing[v], none, p->arenas[thread] + p->arena_bytes)) {
            atomic_store(&p->failed, true);
        }
    }
}

static void prepare_unit(void *user, size_t index, size_t thread) {
    struct backend_dnnl_program *p = user;
    struct dnnl_unit *unit = &p->units[index];
    const struct node *node = &p->network->nodes[unit->group.nodes[0]];

    if (unit->fold == NULL) {
        return;
    }
    float *scale = unit->fold + unit->channels * unit->row, *shift = unit->vector[1];
    backend_dnnl_enter();
    backend_dnnl_fold(p->network, &unit->group, p->mask, p->fill, unit->channels, scale, shift);
    uint64_t version = hash_floats(hash_floats(1, scale, unit->channels), shift, unit->channels);
    for (size_t k = 1; k < node->input_count && unit->row > 0; k++) {
        if (node->inputs[k] != NETWORK_NONE) {
            const struct value *constant = &p->network->values[node->inputs[k]];
            version = hash_floats(version, constant->data, shape_count(&constant->shape));
        }
    }
    if (unit->row == 0) {
        memcpy(unit->vector[0], scale, unit->channels * sizeof *scale);
        return;
    }
    fold_bias(p->network, unit, scale, shift);
    if (version != unit->version) {
        fold_weights(p->network, unit, scale);
        pack(p, unit, thread);
        unit->version = version;
    }
}

void backend_dnnl_program_prepare(struct backend_dnnl_program *p, struct pool *pool, const float *mask,
                                  const float *fill) {
    atomic_store(&p->failed, false);
    p->mask = mask;
    p->fill = fill;
    pool_run(pool, p->unit_count, prepare_unit, p);
}
