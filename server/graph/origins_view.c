/* Views as digits and lists: splitting, moving and uniting them. */
#include "server/graph/origins_view.h"

#include <string.h>

#include "common/mem.h"

enum { WORK_MAX = 1 << 23 }; /* lists united at most for one view; beyond it all writers are one list */

void view_pool_free(struct view_pool *pool) {
    while (pool->views != NULL) {
        struct view *view = pool->views;
        pool->views = view->next;
        mem_free(view);
    }
    while (pool->lists != NULL) {
        struct lists *lists = pool->lists;
        pool->lists = lists->next;
        mem_free(lists->start);
        mem_free(lists->unit);
        mem_free(lists);
    }
}

void writers_add(struct writers *writers, const uint32_t *units, size_t count) {
    uint32_t merged[2 * ORIGINS_WRITERS_MAX];
    size_t a = 0, b = 0, n = 0;
    while (a < writers->count || b < count) {
        if (b == count || (a < writers->count && writers->unit[a] < units[b])) {
            merged[n++] = writers->unit[a++];
        } else {
            if (a < writers->count && writers->unit[a] == units[b]) {
                a++;
            }
            merged[n++] = units[b++];
        }
    }
    size_t drop = n > ORIGINS_WRITERS_MAX ? n - ORIGINS_WRITERS_MAX : 0;
    memcpy(writers->unit, merged + drop, (n - drop) * sizeof *merged);
    writers->count = n - drop;
}

struct lists *lists_new(struct view_pool *pool, size_t blocks) {
    struct lists *lists = mem_calloc(1, sizeof *lists);
    if (lists == NULL) {
        return NULL;
    }
    lists->start = mem_calloc(blocks + 1, sizeof *lists->start);
    if (lists->start == NULL) {
        mem_free(lists);
        return NULL;
    }
    lists->blocks = blocks;
    lists->next = pool->lists;
    pool->lists = lists;
    return lists;
}

bool lists_push(struct lists *lists, const uint32_t *units, size_t count) {
    size_t first = lists->start[lists->filled], need = first + count;
    if (need > lists->capacity) {
        size_t capacity = lists->capacity * 2 > need ? lists->capacity * 2 : need + lists->blocks;
        uint32_t *unit = mem_realloc(lists->unit, capacity, sizeof *unit);
        if (unit == NULL) {
            return false;
        }
        lists->unit = unit;
        lists->capacity = capacity;
    }
    if (count > 0) {
        memcpy(lists->unit + first, units, count * sizeof *units);
    }
    lists->start[++lists->filled] = need;
    return true;
}

size_t lists_get(const struct lists *lists, size_t block, const uint32_t **units) {
    if (lists->unit == NULL) { /* no block has a writer */
        *units = NULL;
        return 0;
    }
    *units = lists->unit + lists->start[block];
    return lists->start[block + 1] - lists->start[block];
}

struct view *view_new(struct view_pool *pool, const struct lists *lists) {
    struct view *view = lists == NULL ? NULL : mem_calloc(1, sizeof *view);
    if (view != NULL) {
        view->lists = lists;
        view->next = pool->views;
        pool->views = view;
    }
    return view;
}

const struct view *view_of_axis(struct view_pool *pool, const struct lists *lists, const struct shape *shape,
                                size_t axis) {
    struct view *view = view_new(pool, lists);
    if (view != NULL && lists->blocks > 1) {
        view->digit[view->count++] = (struct digit){shape_count_from(shape, axis + 1), lists->blocks, 1};
    }
    return view;
}

const struct view *view_nothing(struct view_pool *pool) {
    struct lists *lists = lists_new(pool, 1);
    return lists != NULL && lists_push(lists, NULL, 0) ? view_new(pool, lists) : NULL;
}

const struct view *view_merged(struct view_pool *pool, const struct view *from) {
    struct writers writers = {.count = 0};
    for (size_t i = 0; i < from->lists->blocks; i++) {
        const uint32_t *units;
        size_t count = lists_get(from->lists, i, &units);
        writers_add(&writers, units, count);
    }
    struct lists *lists = lists_new(pool, 1);
    return lists != NULL && lists_push(lists, writers.unit, writers.count) ? view_new(pool, lists) : NULL;
}

/* Cuts digits that lie on both sides of `boundary`; false if one cannot be cut there. */
static bool split_at(struct view *view, size_t boundary) {
    for (size_t k = 0; k < view->count; k++) {
        struct digit *digit = &view->digit[k];
        size_t end = digit->stride * digit->extent;
        if (digit->stride >= boundary || end <= boundary) {
            continue;
        }
        if (boundary % digit->stride != 0 || end % boundary != 0 || view->count == VIEW_DIGITS_MAX) {
            return false;
        }
        size_t low = boundary / digit->stride;
        view->digit[view->count++] = (struct digit){boundary, end / boundary, digit->weight * low};
        digit->extent = low;
    }
    return true;
}

/* A copy of `from` in `view` with digits cut at all axes of the shape. */
static bool split_at_axes(const struct view *from, const struct shape *shape, struct view *view) {
    *view = *from;
    for (size_t axis = 1; axis < shape->rank; axis++) {
        if (!split_at(view, shape_count_from(shape, axis))) {
            return false;
        }
    }
    return true;
}

/* The axis that a digit (cut at axes) lies in. */
static size_t axis_of(const struct shape *shape, const struct digit *digit) {
    size_t axis = shape->rank;
    while (axis > 1 && shape_count_from(shape, axis - 1) <= digit->stride) {
        axis--;
    }
    return axis - 1;
}

size_t view_axis(const struct view *view, const struct shape *shape) {
    const struct digit *least = NULL;
    for (size_t k = 0; k < view->count; k++) {
        least = least == NULL || view->digit[k].stride < least->stride ? &view->digit[k] : least;
    }
    return least != NULL && shape->rank > 1 ? axis_of(shape, least) : 0;
}

/* Lists of a view with the digits `kept`, each list the union over all values of `united`. */
static const struct view *unite(struct view_pool *pool, const struct view *from, const struct view *kept,
                                const struct view *united) {
    size_t blocks = 1, others = 1;
    for (size_t k = 0; k < kept->count; k++) {
        blocks *= kept->digit[k].extent;
    }
    for (size_t k = 0; k < united->count; k++) {
        others *= united->digit[k].extent;
    }
    if (others > WORK_MAX || blocks > WORK_MAX / others) {
        return view_merged(pool, from);
    }
    struct lists *lists = lists_new(pool, blocks);
    for (size_t i = 0; lists != NULL && i < blocks; i++) {
        struct writers writers = {.count = 0};
        size_t base = 0, rest = i;
        for (size_t k = 0; k < kept->count; k++) {
            base += rest % kept->digit[k].extent * kept->digit[k].weight;
            rest /= kept->digit[k].extent;
        }
        for (size_t j = 0; j < others; j++) {
            const uint32_t *units;
            size_t block = base;
            rest = j;
            for (size_t k = 0; k < united->count; k++) {
                block += rest % united->digit[k].extent * united->digit[k].weight;
                rest /= united->digit[k].extent;
            }
            size_t count = lists_get(from->lists, block, &units);
            writers_add(&writers, units, count);
        }
        if (!lists_push(lists, writers.unit, writers.count)) {
            return NULL;
        }
    }
    struct view *view = view_new(pool, lists);
    size_t weight = 1;
    for (size_t k = 0; view != NULL && k < kept->count; k++) {
        view->digit[view->count++] = (struct digit){kept->digit[k].stride, kept->digit[k].extent, weight};
        weight *= kept->digit[k].extent;
    }
    return view;
}

const struct view *view_restride(struct view_pool *pool, const struct view *from, const struct shape *shape,
                                 const size_t *stride) {
    struct view cut, kept = {.count = 0}, united = {.count = 0};
    if (!split_at_axes(from, shape, &cut)) {
        return view_merged(pool, from);
    }
    for (size_t k = 0; k < cut.count; k++) {
        struct digit digit = cut.digit[k];
        size_t axis = axis_of(shape, &digit);
        if (stride[axis] == VIEW_DROP) {
            united.digit[united.count++] = digit;
            continue;
        }
        digit.stride = digit.stride / shape_count_from(shape, axis + 1) * stride[axis];
        kept.digit[kept.count++] = digit;
    }
    if (united.count > 0) {
        return unite(pool, from, &kept, &united);
    }
    struct view *view = view_new(pool, from->lists);
    if (view != NULL) {
        view->count = kept.count;
        memcpy(view->digit, kept.digit, sizeof kept.digit);
    }
    return view;
}

bool view_varies(const struct view *from, const struct shape *shape, const bool *drop) {
    struct view cut;
    if (!split_at_axes(from, shape, &cut)) {
        return true;
    }
    for (size_t k = 0; k < cut.count; k++) {
        if (drop[axis_of(shape, &cut.digit[k])]) {
            return true;
        }
    }
    return false;
}

const struct view *view_channels(struct view_pool *pool, const struct view *from, const struct shape *shape,
                                 size_t axis) {
    size_t low = shape_count_from(shape, axis + 1), high = shape_count_from(shape, axis);
    bool inside = true;
    for (size_t k = 0; k < from->count; k++) {
        inside = inside && from->digit[k].stride >= low && from->digit[k].stride * from->digit[k].extent <= high;
    }
    if (inside) {
        return from;
    }
    struct view cut = *from, kept = {.count = 0}, united = {.count = 0};
    if (!split_at(&cut, low) || !split_at(&cut, high)) {
        return view_merged(pool, from);
    }
    for (size_t k = 0; k < cut.count; k++) {
        bool in = cut.digit[k].stride >= low && cut.digit[k].stride < high;
        struct view *side = in ? &kept : &united;
        side->digit[side->count++] = cut.digit[k];
    }
    return unite(pool, from, &kept, &united);
}

size_t view_block(const struct view *view, const struct shape *shape, size_t axis, size_t channel) {
    size_t index = channel * shape_count_from(shape, axis + 1), block = 0;
    for (size_t k = 0; k < view->count; k++) {
        block += index / view->digit[k].stride % view->digit[k].extent * view->digit[k].weight;
    }
    return block;
}

const struct view *view_sliced(struct view_pool *pool, const struct view *from, const struct shape *shape,
                               const struct shape *out, const size_t *start, const ptrdiff_t *step) {
    struct view cut;
    struct digit wanted[SHAPE_RANK_MAX]; /* one an axis that has digits; extent 0 for others */
    size_t blocks = 1;
    memset(wanted, 0, sizeof wanted);
    if (!split_at_axes(from, shape, &cut)) {
        return view_merged(pool, from);
    }
    for (size_t k = 0; k < cut.count; k++) {
        size_t axis = axis_of(shape, &cut.digit[k]);
        if (wanted[axis].extent == 0) {
            wanted[axis] = (struct digit){shape_count_from(out, axis + 1), out->dim[axis], 0};
            blocks *= out->dim[axis];
        }
        if (blocks > WORK_MAX) {
            return view_merged(pool, from);
        }
    }
    struct lists *lists = lists_new(pool, blocks);
    for (size_t i = 0; lists != NULL && i < blocks; i++) {
        const uint32_t *units;
        size_t index = 0, rest = i;
        for (size_t axis = 0; axis < shape->rank; axis++) {
            if (wanted[axis].extent == 0) {
                continue;
            }
            size_t at = start[axis] + (size_t)((ptrdiff_t)(rest % wanted[axis].extent) * step[axis]);
            rest /= wanted[axis].extent;
            index += at * shape_count_from(shape, axis + 1);
        }
        size_t block = 0;
        for (size_t k = 0; k < cut.count; k++) {
            block += index / cut.digit[k].stride % cut.digit[k].extent * cut.digit[k].weight;
        }
        size_t count = lists_get(from->lists, block, &units);
        if (!lists_push(lists, units, count)) {
            return NULL;
        }
    }
    struct view *view = view_new(pool, lists);
    size_t weight = 1;
    for (size_t axis = 0; view != NULL && axis < shape->rank; axis++) {
        if (wanted[axis].extent > 1) {
            view->digit[view->count++] = (struct digit){wanted[axis].stride, wanted[axis].extent, weight};
        }
        weight *= wanted[axis].extent > 0 ? wanted[axis].extent : 1;
    }
    return view;
}
