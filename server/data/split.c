/* A stratified split, class by class. Of each class every part gets the whole samples of its share (3, 1 and 1 of five);
 * what is left over, at most two a class, goes to the parts that are furthest behind over all classes so far. So each
 * class is within one sample of its shares, and so is the whole even if all classes are small. */
#include "server/data/split.h"

#include <limits.h>
#include <stdbool.h>

#include "common/mem.h"

enum { PARTS = 3, SHARES = 5, SAMPLES_MIN = 5, STREAM = 0x73706c69 };
static const size_t SHARE[PARTS] = {3, 1, 1}; /* of SHARES: build, score, locked */

/* How many samples of a class of `size` each part takes; given: over the classes so far, updated. */
static void share_out(size_t size, size_t total, size_t given[PARTS], size_t quota[PARTS]) {
    size_t left = size;
    bool open[PARTS] = {false};
    for (size_t p = 0; p < PARTS; p++) {
        quota[p] = size * SHARE[p] / SHARES;
        open[p] = size * SHARE[p] % SHARES != 0;
        given[p] += quota[p];
        left -= quota[p];
    }
    while (left > 0) {
        size_t best = 0;
        long long most = LLONG_MIN;
        for (size_t p = 0; p < PARTS; p++) {
            long long behind = (long long)(total * SHARE[p]) - (long long)(given[p] * SHARES);
            if (open[p] && behind > most) {
                best = p;
                most = behind;
            }
        }
        open[best] = false;
        quota[best]++;
        given[best]++;
        left--;
    }
}

/* Sorts the shuffled `order` by class (counting sort, stable): starts[c] is where class c begins. */
static void group(const int32_t *labels, const size_t *order, size_t count, size_t classes, size_t *starts,
                  size_t *sorted) {
    for (size_t i = 0; i < count; i++) {
        starts[(size_t)labels[i] + 1]++;
    }
    for (size_t c = 0; c < classes; c++) {
        starts[c + 1] += starts[c];
    }
    for (size_t i = 0; i < count; i++) {
        sorted[starts[labels[order[i]]]++] = order[i];
    }
    for (size_t c = classes; c > 0; c--) { /* each start has moved to the next class's */
        starts[c] = starts[c - 1];
    }
    starts[0] = 0;
}

static void deal(struct split *split, const size_t *starts, const size_t *sorted, size_t classes) {
    size_t *parts[PARTS] = {split->build, split->score, split->locked};
    size_t given[PARTS] = {0}, filled[PARTS] = {0};
    for (size_t c = 0; c < classes; c++) {
        size_t quota[PARTS], at = starts[c];
        share_out(starts[c + 1] - starts[c], starts[c + 1], given, quota);
        for (size_t p = 0; p < PARTS; p++) {
            for (size_t i = 0; i < quota[p]; i++) {
                parts[p][filled[p]++] = sorted[at++];
            }
        }
    }
    split->build_count = filled[0];
    split->score_count = filled[1];
    split->locked_count = filled[2];
}

enum status split_new(const int32_t *labels, size_t count, size_t classes, const struct rng *rng, struct split **out,
                      struct error *error) {
    struct rng stream = rng_stream(rng, STREAM);
    struct split *split = NULL;
    size_t *starts = NULL, *order = NULL, *sorted = NULL;
    enum status status = STATUS_OK;
    if (count < SAMPLES_MIN) {
        return error_set(error, STATUS_INVALID, "y.npy", "failed to split samples: got %zu, expected at least %d",
                         count, SAMPLES_MIN);
    }
    for (size_t i = 0; i < count; i++) {
        if (labels[i] < 0 || (size_t)labels[i] >= classes) {
            return error_set(error, STATUS_INVALID, "y.npy",
                             "failed to split samples: got class %d of sample %zu, expected 0 to %zu", labels[i], i,
                             classes - 1);
        }
    }
    split = mem_calloc(1, sizeof *split);
    starts = mem_calloc(classes + 1, sizeof *starts);
    order = mem_alloc(count, sizeof *order);
    sorted = mem_alloc(count, sizeof *sorted);
    if (split != NULL) {
        split->build = mem_alloc(count, sizeof *split->build);
        split->score = mem_alloc(count, sizeof *split->score);
        split->locked = mem_alloc(count, sizeof *split->locked);
    }
    if (split == NULL || starts == NULL || order == NULL || sorted == NULL || split->build == NULL ||
        split->score == NULL || split->locked == NULL) {
        status = error_no_memory(error, "a split");
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        order[i] = i;
    }
    rng_shuffle(&stream, order, count);
    group(labels, order, count, classes, starts, sorted);
    deal(split, starts, sorted, classes);
    rng_shuffle(&stream, split->build, split->build_count);
    rng_shuffle(&stream, split->score, split->score_count);
    rng_shuffle(&stream, split->locked, split->locked_count);
    *out = split;
    split = NULL;

done:
    mem_free(starts);
    mem_free(order);
    mem_free(sorted);
    split_free(split);
    return status;
}

void split_free(struct split *split) {
    if (split == NULL) {
        return;
    }
    mem_free(split->build);
    mem_free(split->score);
    mem_free(split->locked);
    mem_free(split);
}
