/* A region allocator over a list of blocks. Blocks double from 4 kB to 1 MB, so that small inputs stay small; an
 * object larger than that gets a block of its own size. The limit counts whole blocks: it bounds what is taken
 * from the heap, not what the callers asked for. */
#include "common/arena.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/mem.h"

enum { ALIGNMENT = 16, FIRST_BLOCK = 4096, LARGEST_STEP = 1 << 20 };

struct block {
    struct block *next;
    size_t size; /* bytes of `data` */
    size_t used;
    _Alignas(ALIGNMENT) unsigned char data[];
};

struct arena {
    struct block *blocks; /* newest first; only the newest is filled */
    size_t max_bytes;     /* 0: no limit */
    size_t taken;         /* bytes of all blocks with their heads, and of this struct */
    size_t used;          /* bytes handed out */
    size_t step;          /* size of the next block */
};

struct arena *arena_new(size_t max_bytes) {
    struct arena *arena = mem_calloc(1, sizeof *arena);
    if (arena != NULL) {
        arena->max_bytes = max_bytes;
        arena->taken = sizeof *arena;
        arena->step = FIRST_BLOCK;
    }
    return arena;
}

void arena_free(struct arena *arena) {
    if (arena == NULL) {
        return;
    }
    struct block *block = arena->blocks;
    while (block != NULL) {
        struct block *next = block->next;
        mem_free(block);
        block = next;
    }
    mem_free(arena);
}

/* Bytes that the next block may have after its head; 0 if nothing is left. */
static size_t room_left(const struct arena *arena) {
    size_t max = arena->max_bytes == 0 ? PTRDIFF_MAX : arena->max_bytes;
    size_t taken = arena->taken + sizeof(struct block);
    return taken < max ? max - taken : 0;
}

static bool add_block(struct arena *arena, size_t bytes) {
    size_t room = room_left(arena);
    size_t size = bytes > arena->step ? bytes : arena->step;
    if (size > room) {
        size = room; /* near the limit: what is left, if it is enough */
    }
    if (size < bytes) {
        return false;
    }
    struct block *block = mem_calloc(1, sizeof *block + size);
    if (block == NULL) {
        return false;
    }
    block->size = size;
    block->next = arena->blocks;
    arena->blocks = block;
    arena->taken += sizeof *block + size;
    if (arena->step < LARGEST_STEP) {
        arena->step *= 2;
    }
    return true;
}

void *arena_alloc(struct arena *arena, size_t count, size_t size) {
    size_t bytes = 0;
    if (!mem_multiply(count, size, &bytes) || bytes > PTRDIFF_MAX - ALIGNMENT) {
        return NULL;
    }
    bytes = bytes == 0 ? ALIGNMENT : (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    struct block *block = arena->blocks;
    if (block == NULL || block->size - block->used < bytes) {
        if (!add_block(arena, bytes)) {
            return NULL;
        }
        block = arena->blocks;
    }
    void *out = block->data + block->used;
    block->used += bytes;
    arena->used += bytes;
    return out;
}

char *arena_strdup(struct arena *arena, const char *text) {
    return arena_strndup(arena, text, strlen(text));
}

char *arena_strndup(struct arena *arena, const char *text, size_t length) {
    if (length == SIZE_MAX) {
        return NULL;
    }
    char *copy = arena_alloc(arena, length + 1, 1);
    if (copy != NULL && length > 0) {
        memcpy(copy, text, length);
    }
    return copy;
}

size_t arena_used(const struct arena *arena) {
    return arena->used;
}
