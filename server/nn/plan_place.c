/* Offsets of buffers in one arena: greedy by size (Pisarchyk and Lee, "Efficient memory management for deep neural net
 * inference", 2020). The largest buffer is placed first; each next one goes into the smallest gap that fits between the
 * buffers that live at the same time, or behind them. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/mem.h"
#include "server/nn/plan.h"

enum { ALIGN_FLOATS = 16 }; /* 64 bytes: a cache line, one AVX-512 register */

struct item {
    size_t floats; /* rounded up to the alignment */
    size_t index;
};

static int compare_items(const void *a, const void *b) {
    const struct item *left = a;
    const struct item *right = b;
    if (left->floats != right->floats) {
        return left->floats > right->floats ? -1 : 1;
    }
    return left->index < right->index ? -1 : left->index > right->index;
}

static bool live_together(const struct plan_buffer *a, const struct plan_buffer *b) {
    return a->first <= b->last && b->first <= a->last;
}

/* placed[0..count): item numbers in order of their offsets. Returns the offset for item `which`. */
static size_t find_offset(const struct plan_buffer *buffers, const struct item *items, const size_t *placed,
                          size_t count, size_t which) {
    const struct plan_buffer *buffer = &buffers[items[which].index];
    size_t end = 0; /* of all overlapping buffers so far */
    size_t best = SIZE_MAX;
    size_t best_gap = SIZE_MAX;

    for (size_t i = 0; i < count; i++) {
        const struct plan_buffer *other = &buffers[items[placed[i]].index];
        if (!live_together(buffer, other)) {
            continue;
        }
        if (other->offset > end) {
            size_t gap = other->offset - end;
            if (gap >= items[which].floats && gap < best_gap) {
                best = end;
                best_gap = gap;
            }
        }
        size_t other_end = other->offset + items[placed[i]].floats;
        end = other_end > end ? other_end : end;
    }
    return best == SIZE_MAX ? end : best;
}

static void insert_by_offset(const struct plan_buffer *buffers, const struct item *items, size_t *placed, size_t count,
                             size_t which) {
    size_t at = count;
    while (at > 0 && buffers[items[placed[at - 1]].index].offset > buffers[items[which].index].offset) {
        at--;
    }
    memmove(&placed[at + 1], &placed[at], (count - at) * sizeof *placed);
    placed[at] = which;
}

enum status plan_place(struct plan_buffer *buffers, size_t count, size_t *arena_floats, struct error *error) {
    struct item *items = mem_alloc(count, sizeof *items);
    size_t *placed = mem_alloc(count, sizeof *placed);
    enum status status = STATUS_OK;
    size_t sum = 0;
    size_t top = 0;

    if (items == NULL || placed == NULL) {
        status = error_no_memory(error, "plan of a network");
        goto done;
    }
    for (size_t i = 0; i < count; i++) {
        /* The sum of all is far above any offset: if it does not overflow, nothing below does. */
        if (__builtin_add_overflow(buffers[i].floats, (size_t)ALIGN_FLOATS - 1, &items[i].floats) ||
            __builtin_add_overflow(sum, items[i].floats, &sum) || sum > SIZE_MAX / sizeof(float)) {
            status = error_set(error, STATUS_LIMIT, "", "failed to plan network: got more bytes than memory can have");
            goto done;
        }
        items[i].floats -= items[i].floats % ALIGN_FLOATS;
        items[i].index = i;
    }
    qsort(items, count, sizeof *items, compare_items);
    for (size_t i = 0; i < count; i++) {
        struct plan_buffer *buffer = &buffers[items[i].index];
        buffer->offset = find_offset(buffers, items, placed, i, i);
        insert_by_offset(buffers, items, placed, i, i);
        top = buffer->offset + items[i].floats > top ? buffer->offset + items[i].floats : top;
    }
    *arena_floats = top;

done:
    mem_free(placed);
    mem_free(items);
    return status;
}
