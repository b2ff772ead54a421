/* Open addressing with linear probing over FNV-1a; at most half full, so a probe always ends. */
#include "server/onnx/onnx_names.h"

#include <stdint.h>
#include <string.h>

struct entry {
    const char *name; /* NULL: free */
    size_t index;
};

struct onnx_names {
    struct entry *entries;
    size_t slots; /* a power of two */
    size_t count;
    size_t max;
};

static uint64_t hash_of(const char *name) {
    uint64_t hash = UINT64_C(14695981039346656037);
    for (; *name != '\0'; name++) {
        hash = (hash ^ (unsigned char)*name) * UINT64_C(1099511628211);
    }
    return hash ^ (hash >> 29);
}

struct onnx_names *onnx_names_new(struct arena *arena, size_t max) {
    struct onnx_names *names = arena_alloc(arena, 1, sizeof *names);
    if (names == NULL || max > SIZE_MAX / 8) {
        return NULL;
    }
    names->max = max;
    names->slots = 16;
    while (names->slots < 2 * max) {
        names->slots *= 2;
    }
    names->entries = arena_alloc(arena, names->slots, sizeof *names->entries);
    return names->entries != NULL ? names : NULL;
}

static struct entry *probe(const struct onnx_names *names, const char *name) {
    size_t slot = (size_t)hash_of(name) & (names->slots - 1);
    while (names->entries[slot].name != NULL && strcmp(names->entries[slot].name, name) != 0) {
        slot = (slot + 1) & (names->slots - 1);
    }
    return &names->entries[slot];
}

bool onnx_names_add(struct onnx_names *names, const char *name, size_t *index) {
    struct entry *entry = probe(names, name);
    if (entry->name != NULL) {
        *index = entry->index;
        return false;
    }
    if (names->count == names->max) {
        return false;
    }
    entry->name = name;
    entry->index = names->count++;
    *index = entry->index;
    return true;
}

bool onnx_names_find(const struct onnx_names *names, const char *name, size_t *index) {
    const struct entry *entry = probe(names, name);
    if (entry->name == NULL) {
        return false;
    }
    *index = entry->index;
    return true;
}

size_t onnx_names_count(const struct onnx_names *names) {
    return names->count;
}
