/* A copy of a network with Mask nodes put in: each site's value is followed by a Mask, and all who read the value read the
 * masked one. The weights are not copied: copy and original point to the same data. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"
#include "server/nn/network.h"
#include "server/nn/network_build.h"

/* Everything the copy needs while it is made. */
struct masker {
    const struct network *from;
    struct network *to;
    const struct mask_site *sites;
    size_t *site_of;    /* one a value of `from`: index of its site, NETWORK_NONE without */
    size_t *unit_first; /* one a site */
    size_t *map;        /* one a value of `from`: what its readers read in `to` */
};

static enum status check_site(const struct network *network, const size_t *site_of, const struct mask_site *site,
                              size_t index, struct error *error) {
    char where[ERROR_WHERE_MAX];

    (void)snprintf(where, sizeof where, "mask site %zu", index);
    if (site->value >= network->value_count || network->values[site->value].kind == VALUE_CONSTANT) {
        return error_set(error, STATUS_INVALID, where,
                         "failed to mask value %zu: got a constant or nothing, expected a computed value", site->value);
    }
    if (site->axis == 0 || site->axis >= network->values[site->value].shape.rank) {
        return error_set(error, STATUS_INVALID, where, "failed to mask value '%s': got axis %zu, expected 1 to %zu",
                         network->values[site->value].name, site->axis, network->values[site->value].shape.rank - 1);
    }
    if (site_of[site->value] != NETWORK_NONE) {
        return error_set(error, STATUS_CONFLICT, where,
                         "failed to mask value '%s': got a second site on it, expected one",
                         network->values[site->value].name);
    }
    return STATUS_OK;
}

/* Follows value `old` of the original, which is `mapped` in the copy, by its Mask if it has one. */
static enum status add_mask(struct masker *masker, size_t old, size_t mapped, struct error *error) {
    const char *of = masker->from->values[old].name;
    size_t site = masker->site_of[old];

    masker->map[old] = mapped;
    if (site == NETWORK_NONE) {
        return STATUS_OK;
    }
    size_t size = strlen(of) + sizeof ".mask";
    char *name = mem_alloc(size, 1);
    if (name == NULL) {
        return error_no_memory(error, "masked network");
    }
    (void)snprintf(name, size, "%s.mask", of);
    struct op_attr attr = {
        .axis = masker->sites[site].axis, .mask_layer = site, .mask_first = masker->unit_first[site]};
    enum status status =
        network_add_node(masker->to, OP_MASK, name, &mapped, 1, &attr, NETWORK_NONE, &masker->map[old], error);
    mem_free(name);
    return status;
}

static enum status copy_node(struct masker *masker, size_t index, size_t *inputs, struct error *error) {
    struct node node = masker->from->nodes[index];
    const struct value *output = &masker->from->values[node.output];
    size_t mapped = NETWORK_NONE;

    for (size_t i = 0; i < node.input_count; i++) {
        inputs[i] = node.inputs[i] == NETWORK_NONE ? NETWORK_NONE : masker->map[node.inputs[i]];
    }
    size_t old = node.output;
    node.inputs = inputs;
    enum status status = network_append_node(masker->to, &node, &output->shape, output->name, &mapped, error);
    return status == STATUS_OK ? add_mask(masker, old, mapped, error) : status;
}

static enum status copy_all(struct masker *masker, size_t *inputs, struct error *error) {
    const struct network *from = masker->from;
    enum status status = STATUS_OK;

    for (size_t i = 0; i < from->value_count && status == STATUS_OK; i++) {
        if (from->values[i].kind == VALUE_COMPUTED) {
            continue;
        }
        size_t mapped = NETWORK_NONE;
        status = network_append_value(masker->to, &from->values[i], &mapped, error);
        masker->map[i] = mapped;
        if (i == from->input) {
            masker->to->input = mapped;
        }
    }
    /* Only now may the input be masked: Mask nodes after all sources keep the values of a copy in a plain order. */
    if (status == STATUS_OK && from->input != NETWORK_NONE) {
        status = add_mask(masker, from->input, masker->to->input, error);
    }
    for (size_t i = 0; i < from->node_count && status == STATUS_OK; i++) {
        status = copy_node(masker, i, inputs, error);
    }
    if (status == STATUS_OK && from->output != NETWORK_NONE) {
        status = network_set_output(masker->to, masker->map[from->output], error);
    }
    return status;
}

/* Gives each site its value and its first unit. */
static enum status place_sites(struct masker *masker, size_t site_count, struct error *error) {
    size_t units = 0;

    for (size_t i = 0; i < masker->from->value_count; i++) {
        masker->site_of[i] = NETWORK_NONE;
    }
    for (size_t i = 0; i < site_count; i++) {
        const struct mask_site *site = &masker->sites[i];
        enum status status = check_site(masker->from, masker->site_of, site, i, error);
        if (status != STATUS_OK) {
            return status;
        }
        masker->site_of[site->value] = i;
        masker->unit_first[i] = units;
        units += masker->from->values[site->value].shape.dim[site->axis];
    }
    return STATUS_OK;
}

enum status network_with_masks(const struct network *network, const struct mask_site *sites, size_t site_count,
                               struct network **out, struct error *error) {
    struct masker masker = {.from = network, .sites = sites};
    size_t inputs_max = 1;
    size_t *inputs = NULL;
    enum status status = STATUS_NO_MEMORY;

    for (size_t i = 0; i < network->node_count; i++) {
        inputs_max = network->nodes[i].input_count > inputs_max ? network->nodes[i].input_count : inputs_max;
    }
    masker.to = network_new();
    masker.site_of = mem_calloc(network->value_count, sizeof *masker.site_of);
    masker.unit_first = mem_calloc(site_count, sizeof *masker.unit_first);
    masker.map = mem_calloc(network->value_count, sizeof *masker.map);
    inputs = mem_calloc(inputs_max, sizeof *inputs);
    if (masker.to == NULL || masker.site_of == NULL || masker.unit_first == NULL || masker.map == NULL ||
        inputs == NULL) {
        status = error_no_memory(error, "masked network");
        goto done;
    }
    status = place_sites(&masker, site_count, error);
    if (status == STATUS_OK) {
        status = copy_all(&masker, inputs, error);
    }
    if (status == STATUS_OK) {
        *out = masker.to;
        masker.to = NULL;
    }

done:
    mem_free(inputs);
    mem_free(masker.map);
    mem_free(masker.unit_first);
    mem_free(masker.site_of);
    network_free(masker.to);
    return status;
}
