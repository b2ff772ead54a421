/* Cases that are folders: tests/data/<kind>/<case>/ with the input and, for bad input, a file `error`: the word of the
 * expected status on the first line, a part of the expected message or place on the second. */
#ifndef ONP_TESTS_SUPPORT_CASES_H
#define ONP_TESTS_SUPPORT_CASES_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* Calls run(user, name, folder) for each folder in `root` (relative to the root of the tree), sorted by name, and returns
 * how many there were; fails the running test if there is none. */
size_t cases_each(const char *root, void (*run)(void *user, const char *name, const char *folder), void *user);
/* The whole file, NUL-terminated, the caller's (mem_free()); fails the test if it cannot be read. */
char *cases_read(const char *folder, const char *name, size_t *length);
/* 1 if `status` and `error` are what the case's file `error` says; else says on stderr what differs and returns 0. */
int cases_error_matches(const char *name, const char *folder, enum status status, const struct error *error);

#endif
