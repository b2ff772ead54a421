/* The error record: what failed, where, and why, in one bounded struct that never allocates, so that running out of
 * memory can itself be reported. Text from untrusted names ends up here, hence the cleaning of every byte. */
#include "common/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Macros for the static analyzer (see the header). */
#undef error_set
#undef error_no_memory
#undef error_io

static const char *const STATUS_NAMES[STATUS_COUNT] = {
    [STATUS_OK] = "ok",
    [STATUS_NO_MEMORY] = "no_memory",
    [STATUS_IO] = "io",
    [STATUS_INVALID] = "invalid",
    [STATUS_UNSUPPORTED] = "unsupported",
    [STATUS_LIMIT] = "limit",
    [STATUS_NOT_FOUND] = "not_found",
    [STATUS_CONFLICT] = "conflict",
    [STATUS_CANCELLED] = "cancelled",
    [STATUS_NUMERIC] = "numeric",
    [STATUS_UNAVAILABLE] = "unavailable",
    [STATUS_INTERNAL] = "internal",
};

static void make_printable(char *text) {
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte < 0x20 || byte > 0x7e) {
            *text = '?';
        }
    }
}

/* vsnprintf() may refuse a format in an odd locale; the record must still be a string. */
static void format_into(char *out, size_t size, const char *format, va_list args) {
    if (vsnprintf(out, size, format, args) < 0) {
        out[0] = '\0';
    }
}

void error_clear(struct error *error) {
    if (error != NULL) {
        error->status = STATUS_OK;
        error->where[0] = '\0';
        error->message[0] = '\0';
    }
}

static bool is_empty(const struct error *error) {
    return error != NULL && error->status == STATUS_OK;
}

static void record(struct error *error, enum status status, const char *where) {
    error->status = status;
    (void)snprintf(error->where, sizeof error->where, "%s", where != NULL ? where : "");
    make_printable(error->where);
    make_printable(error->message);
}

enum status error_set(struct error *error, enum status status, const char *where, const char *format, ...) {
    if (is_empty(error)) {
        va_list args;
        va_start(args, format);
        format_into(error->message, sizeof error->message, format, args);
        va_end(args);
        record(error, status, where);
    }
    return status;
}

enum status error_no_memory(struct error *error, const char *what) {
    return error_set(error, STATUS_NO_MEMORY, NULL, "failed to allocate %s", what != NULL ? what : "memory");
}

enum status error_io(struct error *error, const char *where, const char *format, ...) {
    int saved = errno;
    if (is_empty(error)) {
        va_list args;
        va_start(args, format);
        format_into(error->message, sizeof error->message, format, args);
        va_end(args);
        size_t length = strlen(error->message);
        char reason[128] = "";
        /* The GNU strerror_r() returns the text, which need not be in the buffer; it is safe in any thread. */
        const char *text = strerror_r(saved, reason, sizeof reason);
        (void)snprintf(error->message + length, sizeof error->message - length, ": %s", text);
        record(error, STATUS_IO, where);
    }
    errno = saved;
    return STATUS_IO;
}

const char *status_name(enum status status) {
    if ((int)status < 0 || status >= STATUS_COUNT) {
        return STATUS_NAMES[STATUS_INTERNAL];
    }
    return STATUS_NAMES[status];
}

enum status status_from_name(const char *name) {
    if (name != NULL) {
        for (int i = 0; i < STATUS_COUNT; i++) {
            if (strcmp(name, STATUS_NAMES[i]) == 0) {
                return (enum status)i;
            }
        }
    }
    return STATUS_INTERNAL;
}
