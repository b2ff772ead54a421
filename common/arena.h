/* A region allocator: many small objects of one life, freed together. Grows by blocks up to a stated
 * maximum, so that a hostile input cannot take more than its limit. Not thread-safe. */
#ifndef ONP_COMMON_ARENA_H
#define ONP_COMMON_ARENA_H

#include <stddef.h>

struct arena;

/* max_bytes: the most the arena will ever take from the heap (0: no limit). NULL: no memory. */
struct arena *arena_new(size_t max_bytes);
/* Frees everything allocated from it; accepts NULL. */
void arena_free(struct arena *arena);
/* Cleared memory, 16-byte aligned; NULL when out of memory, over the limit or on overflow. */
void *arena_alloc(struct arena *arena, size_t count, size_t size);
char *arena_strdup(struct arena *arena, const char *text);
/* Copies `length` bytes and ends them with a NUL. */
char *arena_strndup(struct arena *arena, const char *text, size_t length);
size_t arena_used(const struct arena *arena);

#endif
