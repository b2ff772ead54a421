/* A line of text put together in a fixed buffer without printf(), for what runs with every request. What does not fit is cut off. */
#ifndef ONP_COMMON_TEXT_H
#define ONP_COMMON_TEXT_H

#include <stddef.h>
#include <stdint.h>

struct text {
    char *at, *end; /* `end` is the last byte, kept for the NUL */
};

/* `buffer` is borrowed, holds "" now and a NUL-terminated text after every call; size at least 1. */
void text_begin(struct text *text, char *buffer, size_t size);
void text_add(struct text *text, const char *more);
void text_add_u64(struct text *text, uint64_t value);
/* With one digit after the point: value / 10. */
void text_add_tenths(struct text *text, uint64_t value);

#endif
