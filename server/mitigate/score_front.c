#include "server/mitigate/score_front.h"

#include <string.h>

#include "common/mem.h"

static void entry_free(struct score_front *front, size_t i) {
    mem_free(front->entries[i].bits);
    mem_free(front->records[i]);
}

static bool dominates(const struct score_parts *a, const struct score_parts *b) {
    return a->reward >= b->reward && a->clean_kl <= b->clean_kl;
}

void score_front_insert(struct score_front *front, const uint8_t *bits, size_t units, const struct score_record *record,
                        size_t record_size) {
    const struct score_parts *parts = &record->parts;
    for (size_t i = 0; i < front->count; i++) {
        if (dominates(&front->entries[i].parts, parts)) {
            return;
        }
    }
    uint8_t *bits_copy = mem_dup(bits, units);
    struct score_record *record_copy = mem_dup(record, record_size);
    if (bits_copy == NULL || record_copy == NULL) {
        mem_free(bits_copy);
        mem_free(record_copy);
        return;
    }
    size_t kept = 0, at = 0;
    for (size_t i = 0; i < front->count; i++) {
        if (dominates(parts, &front->entries[i].parts)) {
            entry_free(front, i);
        } else {
            front->records[kept] = front->records[i];
            front->entries[kept++] = front->entries[i];
        }
    }
    front->count = kept;
    if (kept == SCORE_FRONT_MAX) {
        entry_free(front, --kept);
    }
    while (at < kept && front->entries[at].parts.reward >= parts->reward) {
        at++;
    }
    memmove(&front->entries[at + 1], &front->entries[at], (kept - at) * sizeof front->entries[0]);
    memmove(&front->records[at + 1], &front->records[at], (kept - at) * sizeof front->records[0]);
    front->entries[at] = (struct score_entry){*parts, bits_copy};
    front->records[at] = record_copy;
    front->count = kept + 1;
}

void score_front_clear(struct score_front *front) {
    for (size_t i = 0; i < front->count; i++) {
        entry_free(front, i);
    }
    front->count = 0;
}
