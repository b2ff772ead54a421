/* A growing byte buffer with a stated maximum (as curl's dynbuf). A failed append frees the content and
 * leaves the buffer failed: every later append fails too, so callers may check once at the end. */
#ifndef ONP_COMMON_BUF_H
#define ONP_COMMON_BUF_H

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

struct buf {
    char *data; /* NUL-terminated when not NULL */
    size_t length;
    size_t capacity;
    size_t max;
    bool failed;
};

void buf_init(struct buf *buf, size_t max);
void buf_deinit(struct buf *buf);
void buf_reset(struct buf *buf); /* length 0, keeps the memory, clears `failed` */
bool buf_append(struct buf *buf, const void *data, size_t length);
bool buf_append_text(struct buf *buf, const char *text);
bool buf_printf(struct buf *buf, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Hands the NUL-terminated content to the caller (mem_free()) and empties the buffer; NULL if failed. */
char *buf_take(struct buf *buf);

#endif
