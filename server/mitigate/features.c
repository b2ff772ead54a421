/* The policy's features: weights, clean behaviour, behaviour under the triggers, what a flip is expected to bring, and the mask. */
#include "server/mitigate/features.h"

#include <math.h>
#include <stdlib.h>

#include "common/mem.h"
#include "server/mitigate/rankings.h"

const char features_names[] =
    "layer:l1 layer:in layer:out layer:lipschitz layer:mean layer:deviation layer:taylor_clean "
    "layer:taylor_trigger layer:change layer:pruned depth width pruned first second gain";

enum { GLOBAL = 4 }; /* columns that compare units of all layers */

static int by_value(const void *a, const void *b) {
    const float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

/* The network's scale of effects: the second-order effect that half of the units exceed. */
static float scale_of(const float *second, float *work, size_t units) {
    for (size_t u = 0; u < units; u++) {
        work[u] = second[u];
    }
    qsort(work, units, sizeof *work, by_value);
    return fmaxf(work[units / 2], 1e-9F);
}

/* Compressed, since effects differ by orders of magnitude; at most 5, as the standardised ones. */
static float compress(float x) {
    return fmaxf(-5.0F, fminf(5.0F, 0.5F * asinhf(x)));
}

/* to (units, from_count + GLOBAL): the columns of `from`, then the global ones. */
static void widen(const struct job *job, const uint8_t *bits, const float *from, size_t from_count, const float *first,
                  const float *second, float scale, float *to) {
    for (size_t u = 0; u < job->units->unit_count; u++) {
        float *row = to + u * (from_count + GLOBAL);
        for (size_t k = 0; k < from_count; k++) {
            row[k] = from[u * from_count + k];
        }
        row[from_count] = bits[u] != 0 ? 1.0F : 0.0F;
        row[from_count + 1] = compress(first[u] / scale);
        row[from_count + 2] = compress(second[u] / scale);
        row[from_count + 3] = compress((first[u] - second[u]) / scale);
    }
}

static enum status measure(struct job *job, const uint8_t *bits, const float *mask, float *work, struct error *error) {
    const size_t units = job->units->unit_count;
    const struct unit_effects *effects = job->effects0;
    float *first = work, *second = work + units, *pruned = work + 2 * units, *narrow = NULL;
    const float *const columns[] = {job->stats0->mean,       job->stats0->deviation, effects->taylor_clean,
                                    effects->taylor_trigger, effects->change,        pruned};
    size_t count = 0;
    enum status status = unit_gains(job, mask, first, second, error);
    if (status != STATUS_OK) {
        return status;
    }
    const float scale = scale_of(second, pruned, units);
    for (size_t u = 0; u < units; u++) {
        pruned[u] = (float)bits[u];
    }
    status = neuron_graph_features(job->graph, job->units, columns, sizeof columns / sizeof columns[0], &narrow, &count,
                                   error);
    if (status != STATUS_OK) {
        return status;
    }
    float *wide = mem_alloc(units, (count + GLOBAL) * sizeof *wide);
    if (wide == NULL) {
        mem_free(narrow);
        return error_no_memory(error, "the features");
    }
    widen(job, bits, narrow, count, first, second, scale, wide);
    mem_free(narrow);
    mem_free(job->features);
    job->features = wide;
    job->feature_count = count + GLOBAL;
    return STATUS_OK;
}

enum status features_measure(struct job *job, const uint8_t *bits, struct error *error) {
    const size_t units = job->units->unit_count;
    float *mask = mem_alloc(units, sizeof *mask), *work = mem_alloc(3 * units, sizeof *work);
    enum status status = STATUS_OK;
    if (mask == NULL || work == NULL) {
        status = error_no_memory(error, "the features");
    } else {
        job_mask_from_bits(units, bits, mask);
        status = job->effects0 != NULL ? STATUS_OK : unit_effects_new(job, NULL, &job->effects0, error);
    }
    if (status == STATUS_OK) {
        status = measure(job, bits, mask, work, error);
    }
    mem_free(mask);
    mem_free(work);
    return status;
}
