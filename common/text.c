/* Bounded text without printf(), which is slow where a library has registered conversions of its own (libquadmath, which OpenBLAS
 * brings along, does), and is the largest part of what a short answer costs. */
#include "common/text.h"

#include <string.h>

enum { DIGITS_MAX = 20 }; /* of UINT64_MAX */

static void add_bytes(struct text *text, const char *bytes, size_t length) {
    size_t room = (size_t)(text->end - text->at);
    if (length > room) {
        length = room;
    }
    memcpy(text->at, bytes, length);
    text->at += length;
    *text->at = '\0';
}

void text_begin(struct text *text, char *buffer, size_t size) {
    text->at = buffer;
    text->end = buffer + size - 1;
    *text->at = '\0';
}

void text_add(struct text *text, const char *more) {
    add_bytes(text, more, strlen(more));
}

void text_add_u64(struct text *text, uint64_t value) {
    char digits[DIGITS_MAX];
    size_t from = DIGITS_MAX;
    do {
        digits[--from] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    add_bytes(text, digits + from, DIGITS_MAX - from);
}

void text_add_tenths(struct text *text, uint64_t value) {
    const char part[2] = {'.', (char)('0' + value % 10)};
    text_add_u64(text, value / 10);
    add_bytes(text, part, sizeof part);
}
