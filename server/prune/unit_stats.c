/* Unit statistics. Each chunk of the engine has rows of its own for sums, added up in chunk order afterwards, so that the
 * result does not depend on which thread ran which chunk. */
#include "server/prune/unit_stats.h"

#include <math.h>

#include "common/mem.h"

struct collector {
    const struct unit_map *map;
    size_t chunk;
    double *sums;                 /* (chunks, 2, units): of x and of x * x; doubles keep the variance honest */
    const struct engine_run *run; /* the caller's */
};

/* Sum and sum of squares of one plane, clamped. Four partial sums let the compiler keep them in registers. */
static void plane_sums(const float *x, size_t count, float low, float high, double *sum, double *square) {
    double s[4] = {0}, q[4] = {0};
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        for (size_t k = 0; k < 4; k++) {
            float v = x[i + k] < low ? low : x[i + k];
            v = v > high ? high : v;
            s[k] += (double)v;
            q[k] += (double)v * (double)v;
        }
    }
    for (; i < count; i++) {
        float v = x[i] < low ? low : x[i];
        v = v > high ? high : v;
        s[0] += (double)v;
        q[0] += (double)v * (double)v;
    }
    *sum += (s[0] + s[1]) + (s[2] + s[3]);
    *square += (q[0] + q[1]) + (q[2] + q[3]);
}

/* The engine's tap: x (n, outer, C, inner) of one layer, before masking; outer * inner positions. One thread at a time for one chunk. */
static void collect(void *user, size_t mask_layer, size_t first, size_t n, const float *x) {
    const struct collector *collector = user;
    const struct unit_layer *layer = &collector->map->layers[mask_layer];
    double *row = collector->sums + first / collector->chunk * 2 * collector->map->unit_count;
    double *sum = row + layer->first, *square = sum + collector->map->unit_count;
    size_t inner = layer->inner, outer = n * (layer->positions / inner);
    for (size_t i = 0; i < outer; i++) {
        for (size_t c = 0; c < layer->count; c++) {
            plane_sums(x + (i * layer->count + c) * inner, inner, layer->low, layer->high, &sum[c], &square[c]);
        }
    }
}

static void fill_input(void *user, size_t first, size_t n, float *x) {
    const struct collector *collector = user;
    collector->run->fill_input(collector->run->user, first, n, x);
}

static void take_loss(void *user, size_t first, size_t n, const float *logits, float *dlogits) {
    const struct collector *collector = user;
    collector->run->loss(collector->run->user, first, n, logits, dlogits);
}

static void finish(const struct collector *collector, size_t chunks, size_t count, struct unit_stats *stats) {
    const struct unit_map *map = collector->map;
    for (size_t u = 0; u < map->unit_count; u++) {
        double sum = 0, square = 0;
        for (size_t k = 0; k < chunks; k++) {
            sum += collector->sums[(2 * k) * map->unit_count + u];
            square += collector->sums[(2 * k + 1) * map->unit_count + u];
        }
        double n = (double)count * (double)map->layers[map->layer_of[u]].positions;
        double mean = sum / n, variance = square / n - mean * mean;
        stats->mean[u] = (float)mean;
        stats->deviation[u] = variance > 0 ? (float)sqrt(variance) : 0.0F;
    }
}

enum status unit_stats_collect(struct engine *engine, const struct unit_map *map, const struct engine_run *run,
                               struct unit_stats **out, struct error *error) {
    enum status status = STATUS_OK;
    struct unit_stats *stats = NULL;
    struct collector collector = {.map = map, .chunk = engine_chunk(engine), .run = run};
    const size_t count = run->count, chunks = (count + collector.chunk - 1) / collector.chunk;
    if (count == 0) {
        return error_set(error, STATUS_INVALID, NULL,
                         "failed to collect unit statistics: got no samples, expected at least one");
    }
    collector.sums = mem_calloc(chunks * 2, map->unit_count * sizeof *collector.sums);
    stats = mem_calloc(1, sizeof *stats);
    if (collector.sums == NULL || stats == NULL) {
        status = error_no_memory(error, "unit statistics");
        goto done;
    }
    stats->mean = mem_calloc(map->unit_count, sizeof *stats->mean);
    stats->deviation = mem_calloc(map->unit_count, sizeof *stats->deviation);
    if (stats->mean == NULL || stats->deviation == NULL) {
        status = error_no_memory(error, "unit statistics");
        goto done;
    }
    struct engine_run tapped = *run;
    tapped.user = &collector;
    tapped.tap = collect;
    tapped.fill_input = run->fill_input != NULL ? fill_input : NULL;
    tapped.loss = run->loss != NULL ? take_loss : NULL;
    status = engine_run(engine, &tapped, error);
    if (status != STATUS_OK) {
        goto done;
    }
    finish(&collector, chunks, count, stats);
    *out = stats;
    stats = NULL;
done:
    unit_stats_free(stats);
    mem_free(collector.sums);
    return status;
}

void unit_stats_free(struct unit_stats *stats) {
    if (stats == NULL) {
        return;
    }
    mem_free(stats->mean);
    mem_free(stats->deviation);
    mem_free(stats);
}
