/* Checked allocation. All heap memory of the tree comes from here, so that sizes are multiplied with a
 * check and tests can make the Nth allocation fail. Nothing here aborts: NULL means no memory. */
#ifndef ONP_COMMON_MEM_H
#define ONP_COMMON_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* count * size bytes, not cleared; a product of 0 gives a valid pointer. Free with mem_free(). */
void *mem_alloc(size_t count, size_t size) __attribute__((malloc));
/* As mem_alloc(), cleared. */
void *mem_calloc(size_t count, size_t size) __attribute__((malloc));
/* As realloc() of count * size bytes; on failure the old block stays valid and NULL is returned. */
void *mem_realloc(void *block, size_t count, size_t size);
/* 64-byte aligned (cache line, AVX-512), cleared. Free with mem_free(). */
void *mem_aligned(size_t count, size_t size) __attribute__((malloc));
char *mem_strdup(const char *text);
void *mem_dup(const void *data, size_t size);
void mem_free(void *block);

/* true and *product = a * b, or false on overflow. */
bool mem_multiply(size_t a, size_t b, size_t *product);

/* Test hook: the Nth allocation from now (1-based) and all later ones fail; 0 switches it off.
 * Only for tests; thread-safe. */
void mem_fail_after(uint64_t n);
/* Allocations made since start; for tests that loop mem_fail_after over each of them. */
uint64_t mem_allocation_count(void);

#endif
