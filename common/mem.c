/* The one place of the tree that calls malloc(). Sizes are multiplied with a check, and tests can make the Nth
 * allocation fail: the two counters below are the only state, and atomic because any thread may allocate. */
#include "common/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

static _Atomic uint64_t allocation_count;
static _Atomic uint64_t fail_from; /* number of the first allocation that fails; 0: none */

/* Counts an allocation; false if a test wants it to fail. */
static bool may_allocate(void) {
    uint64_t number = atomic_fetch_add_explicit(&allocation_count, 1, memory_order_relaxed) + 1;
    uint64_t from = atomic_load_explicit(&fail_from, memory_order_relaxed);
    return from == 0 || number < from;
}

/* Bytes to ask for: at least one, so that a product of 0 gives a pointer that is not NULL. */
static bool size_of(size_t count, size_t size, size_t *bytes) {
    if (!mem_multiply(count, size, bytes) || *bytes > PTRDIFF_MAX) {
        return false;
    }
    if (*bytes == 0) {
        *bytes = 1;
    }
    return true;
}

void *mem_alloc(size_t count, size_t size) {
    size_t bytes = 0;
    if (!may_allocate() || !size_of(count, size, &bytes)) {
        return NULL;
    }
    return malloc(bytes);
}

void *mem_calloc(size_t count, size_t size) {
    size_t bytes = 0;
    if (!may_allocate() || !size_of(count, size, &bytes)) {
        return NULL;
    }
    return calloc(1, bytes);
}

void *mem_realloc(void *block, size_t count, size_t size) {
    size_t bytes = 0;
    if (!may_allocate() || !size_of(count, size, &bytes)) {
        return NULL;
    }
    return realloc(block, bytes);
}

void *mem_aligned(size_t count, size_t size) {
    size_t bytes = 0;
    if (!may_allocate() || !size_of(count, size, &bytes) || bytes > PTRDIFF_MAX - ALIGNMENT) {
        return NULL;
    }
    bytes = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; /* C11 wants a multiple of the alignment */
    void *block = aligned_alloc(ALIGNMENT, bytes);
    if (block != NULL) {
        memset(block, 0, bytes);
    }
    return block;
}

char *mem_strdup(const char *text) {
    return text == NULL ? NULL : mem_dup(text, strlen(text) + 1);
}

void *mem_dup(const void *data, size_t size) {
    void *copy = mem_alloc(size, 1);
    if (copy != NULL && size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

void mem_free(void *block) {
    free(block);
}

bool mem_multiply(size_t a, size_t b, size_t *product) {
    return !__builtin_mul_overflow(a, b, product);
}

void mem_fail_after(uint64_t n) {
    uint64_t from = n == 0 ? 0 : atomic_load(&allocation_count) + n;
    atomic_store(&fail_from, from);
}

uint64_t mem_allocation_count(void) {
    return atomic_load(&allocation_count);
}
