/* Edges inside a layer: units whose connection-strength vectors point the same way.
 *
 * A unit's vector is its incoming part (strength from each input block) and its outgoing part (strength to each channel of every
 * layer that reads it), each scaled to length 1, so that neither drowns the other; the cosine of two vectors is then the mean of the
 * cosines of the parts. The threshold of a layer is where the mean degree is about 8. Cosines come from a Gram matrix in blocks of
 * rows, made twice: once for their histogram, once for the edges above the threshold. */
#include <cblas.h>
#include <math.h>
#include <string.h>

#include "common/mem.h"
#include "server/graph/connections.h"

enum {
    MEAN_DEGREE = 8,
    DEGREE_MAX = 64,     /* a clique of equal vectors (dead filters) must not cost its square */
    OUTGOING_MAX = 8192, /* dims of the outgoing part: the nearest readers first */
    GRAM_ROWS = 256,
    BINS = 1 << 16
};

struct similarity {
    const struct connections *connections;
    float *vectors; /* (count, dims) of the layer at hand */
    size_t dims;
    float *gram;       /* (GRAM_ROWS, count) */
    size_t *histogram; /* (BINS) of cosines in [0, 1] */
    struct edge_list *edges;
    size_t edge_count, edge_capacity;
    uint32_t near_id[DEGREE_MAX];
    float near_weight[DEGREE_MAX];
};

/* Does `slices` read any unit of the layer, directly or through a BatchNorm that stands alone? */
static bool reads_layer(const struct connections *connections, const struct slices *slices,
                        const struct unit_layer *layer) {
    for (size_t b = 0; b < slices->blocks; b++) {
        const uint32_t *units;
        size_t count = slices_writers(connections->through, slices, b, &units);
        for (size_t i = 0; i < count; i++) {
            if (units[i] >= layer->first && units[i] < layer->first + layer->count) {
                return true;
            }
        }
    }
    return false;
}

static void add_outgoing(const struct similarity *similarity, const struct slices *slices,
                         const struct unit_layer *layer, size_t offset, size_t width) {
    for (size_t b = 0; b < slices->blocks; b++) {
        const uint32_t *units;
        size_t count = slices_writers(similarity->connections->through, slices, b, &units);
        const float *strength = slices->strength + b * slices->outputs;
        for (size_t i = 0; i < count; i++) {
            if (units[i] < layer->first || units[i] >= layer->first + layer->count) {
                continue;
            }
            float *row = similarity->vectors + (units[i] - layer->first) * similarity->dims + offset;
            for (size_t m = 0; m < width; m++) {
                row[m] += strength[m];
            }
        }
    }
}

/* Scales row[0 .. width) to length 1 (0 stays 0); returns the length it had. */
static float normalise(float *row, size_t width) {
    float norm = width == 0 ? 0 : cblas_snrm2((int)width, row, 1);
    if (norm > 0) {
        cblas_sscal((int)width, 1 / norm, row, 1);
    }
    return norm;
}

static enum status make_vectors(struct similarity *similarity, size_t index, float *features, struct error *error) {
    const struct connections *connections = similarity->connections;
    const struct unit_layer *layer = &connections->map->layers[index];
    size_t own = connections->slices_of[index], out = 0, values = 0;
    size_t in = own == NETWORK_NONE ? 0 : connections->slices[own].blocks;
    for (size_t s = 0; s < connections->slices_count && out < OUTGOING_MAX; s++) {
        if (reads_layer(connections, &connections->slices[s], layer)) {
            out += connections->slices[s].outputs;
        }
    }
    out = out < OUTGOING_MAX ? out : OUTGOING_MAX;
    similarity->dims = in + out;
    mem_free(similarity->vectors);
    similarity->vectors = NULL;
    if (mem_multiply(layer->count, similarity->dims, &values)) {
        similarity->vectors = mem_calloc(values, sizeof *similarity->vectors);
    }
    if (similarity->vectors == NULL) {
        return error_no_memory(error, "connection vectors");
    }
    for (size_t b = 0; b < in; b++) {
        const struct slices *incoming = &connections->slices[own];
        for (size_t c = 0; c < layer->count; c++) {
            similarity->vectors[c * similarity->dims + b] = incoming->strength[b * incoming->outputs + c];
        }
    }
    size_t offset = in;
    for (size_t s = 0; s < connections->slices_count && offset < in + out; s++) {
        const struct slices *slices = &connections->slices[s];
        if (reads_layer(connections, slices, layer)) {
            size_t left = in + out - offset, width = slices->outputs < left ? slices->outputs : left;
            add_outgoing(similarity, slices, layer, offset, width);
            offset += width;
        }
    }
    for (size_t c = 0; c < layer->count; c++) {
        float *row = similarity->vectors + c * similarity->dims;
        (void)normalise(row, in);
        features[(layer->first + c) * WEIGHT_FEATURE_COUNT + WEIGHT_FEATURE_OUT] = normalise(row + in, out);
        (void)normalise(row, similarity->dims);
    }
    return STATUS_OK;
}

/* gram (rows, count - from): cosines of rows first .. first + rows with all units from `from` on. */
static void make_gram(const struct similarity *similarity, size_t count, size_t first, size_t rows, size_t from) {
    size_t d = similarity->dims;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)(count - from), (int)d, 1,
                similarity->vectors + first * d, (int)d, similarity->vectors + from * d, (int)d, 0, similarity->gram,
                (int)(count - from));
}

static size_t bin_of(float cosine) {
    float scaled = cosine * (float)(BINS - 1);
    return scaled <= 0 ? 0 : scaled >= (float)(BINS - 1) ? BINS - 1 : (size_t)scaled;
}

/* The lowest bin that is still above the threshold. Bin 0 never is: no similarity, no edge. */
static size_t find_threshold(struct similarity *similarity, size_t count) {
    memset(similarity->histogram, 0, BINS * sizeof *similarity->histogram);
    for (size_t first = 0; first < count; first += GRAM_ROWS) {
        size_t rows = count - first < GRAM_ROWS ? count - first : GRAM_ROWS;
        make_gram(similarity, count, first, rows, first);
        for (size_t r = 0; r < rows; r++) {
            const float *row = similarity->gram + r * (count - first);
            for (size_t c = r + 1; c < count - first; c++) {
                similarity->histogram[bin_of(row[c])]++;
            }
        }
    }
    size_t wanted = count * MEAN_DEGREE / 2, bin = BINS - 1, have = similarity->histogram[bin];
    while (have < wanted && bin > 1) {
        have += similarity->histogram[--bin];
    }
    return bin;
}

static bool append_edges(struct similarity *similarity, const struct strongest *list) {
    struct edge_list *edges = similarity->edges;
    if (similarity->edge_count + list->count > similarity->edge_capacity) {
        size_t capacity = similarity->edge_capacity * 2 + DEGREE_MAX * 16;
        uint32_t *source = mem_realloc(edges->source, capacity, sizeof *source);
        edges->source = source != NULL ? source : edges->source;
        float *weight = source == NULL ? NULL : mem_realloc(edges->weight, capacity, sizeof *weight);
        edges->weight = weight != NULL ? weight : edges->weight;
        if (source == NULL || weight == NULL) {
            return false;
        }
        similarity->edge_capacity = capacity;
    }
    for (size_t i = 0; i < list->count; i++) {
        edges->source[similarity->edge_count] = list->id[i];
        edges->weight[similarity->edge_count] = list->weight[i] < 1 ? list->weight[i] : 1; /* rounding */
        similarity->edge_count++;
    }
    return true;
}

static enum status layer_edges(struct similarity *similarity, const struct unit_layer *layer, struct error *error) {
    size_t count = layer->count, threshold = find_threshold(similarity, count);
    for (size_t first = 0; first < count; first += GRAM_ROWS) {
        size_t rows = count - first < GRAM_ROWS ? count - first : GRAM_ROWS;
        make_gram(similarity, count, first, rows, 0);
        for (size_t r = 0; r < rows; r++) {
            struct strongest list = {DEGREE_MAX, 0, similarity->near_id, similarity->near_weight};
            const float *row = similarity->gram + r * count;
            for (size_t c = 0; c < count; c++) {
                if (c != first + r && bin_of(row[c]) >= threshold) {
                    strongest_offer(&list, (uint32_t)(layer->first + c), row[c]);
                }
            }
            if (!append_edges(similarity, &list)) {
                return error_no_memory(error, "edges");
            }
            similarity->edges->start[layer->first + first + r + 1] = similarity->edge_count;
        }
    }
    return STATUS_OK;
}

enum status similarity_edges(const struct connections *connections, float *features, struct edge_list *edges,
                             struct error *error) {
    const struct unit_map *map = connections->map;
    struct similarity similarity = {.connections = connections, .edges = edges};
    enum status status = STATUS_OK;
    size_t widest = 0;
    for (size_t l = 0; l < map->layer_count; l++) {
        widest = map->layers[l].count > widest ? map->layers[l].count : widest;
    }
    edges->start = mem_calloc(map->unit_count + 1, sizeof *edges->start);
    similarity.histogram = mem_alloc(BINS, sizeof *similarity.histogram);
    similarity.gram = mem_alloc(widest, GRAM_ROWS * sizeof *similarity.gram);
    if (edges->start == NULL || similarity.histogram == NULL || similarity.gram == NULL) {
        status = error_no_memory(error, "similarities");
    }
    for (size_t l = 0; status == STATUS_OK && l < map->layer_count; l++) {
        status = make_vectors(&similarity, l, features, error);
        if (status == STATUS_OK) {
            status = layer_edges(&similarity, &map->layers[l], error);
        }
    }
    mem_free(similarity.vectors);
    mem_free(similarity.gram);
    mem_free(similarity.histogram);
    return status;
}
