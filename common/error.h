/* One status enum and one error record for the whole tree.
 *
 * A function that can fail returns `enum status` and, where the caller wants to know more, fills a
 * `struct error` passed by the caller. The first error wins: a later error_set() on a record that
 * already holds one changes nothing, so the place closest to the cause is what the user reads.
 *
 * Grammar of a message: failed to <do> <object> <id>: got <x>, expected <y>. */
#ifndef ONP_COMMON_ERROR_H
#define ONP_COMMON_ERROR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

enum status {
    STATUS_OK = 0,
    STATUS_NO_MEMORY,   /* an allocation failed or a memory limit was reached */
    STATUS_IO,          /* the operating system refused a read, write, open, rename ... */
    STATUS_INVALID,     /* the input is wrong: malformed, inconsistent, out of range */
    STATUS_UNSUPPORTED, /* the input is well formed but uses something we do not have */
    STATUS_LIMIT,       /* the input is larger than a stated limit */
    STATUS_NOT_FOUND,   /* no such object */
    STATUS_CONFLICT,    /* the object is in a state that forbids this */
    STATUS_CANCELLED,   /* the caller asked to stop, and we stopped */
    STATUS_NUMERIC,     /* a computation gave NaN or infinity */
    STATUS_UNAVAILABLE, /* not now: draining, disk low, busy, peer not reached */
    STATUS_INTERNAL,    /* a bug of ours */
    STATUS_COUNT
};

enum { ERROR_WHERE_MAX = 160, ERROR_MESSAGE_MAX = 512 };

struct error {
    enum status status;          /* STATUS_OK while empty */
    char where[ERROR_WHERE_MAX]; /* place: "byte 1234", "node '/conv1/Conv'", "/parameters/seed"; may be "" */
    char message[ERROR_MESSAGE_MAX];
};

/* Empties the record. Call before first use (or initialise with {0}). */
void error_clear(struct error *error);

/* Records status, place and message unless an error is already recorded; `error` and `where` may be NULL.
 * Non-printable bytes from untrusted names are replaced by '?'. Returns `status`, so that
 * `return error_set(...)` is one line. */
enum status error_set(struct error *error, enum status status, const char *where, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* As error_set() with "failed to allocate <what>" and STATUS_NO_MEMORY. */
enum status error_no_memory(struct error *error, const char *what);

/* As error_set() with STATUS_IO; appends ": <strerror(errno)>" to the message. */
enum status error_io(struct error *error, const char *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The lower-case word of a status ("invalid", "no_memory"); never NULL. Used in logs and problem types. */
const char *status_name(enum status status);

/* The reverse of status_name(); STATUS_INTERNAL for an unknown word. */
enum status status_from_name(const char *name);

/* Static analysis sees one file at a time and would assume that these may return STATUS_OK. */
#ifdef __clang_analyzer__
#define error_set(error, status, ...) (error_set(error, status, __VA_ARGS__), (status))
#define error_no_memory(error, what) (error_no_memory(error, what), STATUS_NO_MEMORY)
#define error_io(...) (error_io(__VA_ARGS__), STATUS_IO)
#endif

#endif
