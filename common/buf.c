/* A growing byte buffer. The maximum is part of its type, because every buffer that grows by what a peer sends must
 * have one; the content is always followed by a NUL that the length does not count. */
#include "common/buf.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "common/mem.h"

enum { FIRST_CAPACITY = 64 };

void buf_init(struct buf *buf, size_t max) {
    *buf = (struct buf){.max = max < PTRDIFF_MAX ? max : PTRDIFF_MAX - 1};
}

void buf_deinit(struct buf *buf) {
    mem_free(buf->data);
    buf->data = NULL;
    buf->length = 0;
    buf->capacity = 0;
}

void buf_reset(struct buf *buf) {
    buf->length = 0;
    buf->failed = false;
    if (buf->data != NULL) {
        buf->data[0] = '\0';
    }
}

static bool fail(struct buf *buf) {
    buf_deinit(buf);
    buf->failed = true;
    return false;
}

/* Makes room for `extra` more bytes and the NUL. */
static bool reserve(struct buf *buf, size_t extra) {
    if (buf->failed || extra > buf->max - buf->length) {
        return fail(buf);
    }
    size_t need = buf->length + extra + 1;
    if (buf->data != NULL && need <= buf->capacity) {
        return true;
    }
    size_t capacity = buf->capacity == 0 ? FIRST_CAPACITY : buf->capacity;
    while (capacity < need) {
        capacity *= 2; /* need is below PTRDIFF_MAX, so this cannot overflow */
    }
    if (capacity > buf->max + 1) {
        capacity = buf->max + 1;
    }
    char *data = mem_realloc(buf->data, capacity, 1);
    if (data == NULL) {
        return fail(buf);
    }
    buf->data = data;
    buf->capacity = capacity;
    return true;
}

bool buf_append(struct buf *buf, const void *data, size_t length) {
    if (!reserve(buf, length)) {
        return false;
    }
    if (length > 0) {
        memcpy(buf->data + buf->length, data, length);
    }
    buf->length += length;
    buf->data[buf->length] = '\0';
    return true;
}

bool buf_append_text(struct buf *buf, const char *text) {
    return buf_append(buf, text, strlen(text));
}

bool buf_printf(struct buf *buf, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0) {
        return fail(buf);
    }
    if (!reserve(buf, (size_t)length)) {
        return false;
    }
    va_start(args, format);
    (void)vsnprintf(buf->data + buf->length, (size_t)length + 1, format, args);
    va_end(args);
    buf->length += (size_t)length;
    return true;
}

char *buf_take(struct buf *buf) {
    if (buf->failed || (buf->data == NULL && !reserve(buf, 0))) {
        return NULL;
    }
    char *data = buf->data;
    data[buf->length] = '\0';
    buf->data = NULL;
    buf->length = 0;
    buf->capacity = 0;
    return data;
}
