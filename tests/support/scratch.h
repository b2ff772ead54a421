/* A folder of its own for a test, below TMPDIR. */
#ifndef ONP_TESTS_SUPPORT_SCRATCH_H
#define ONP_TESTS_SUPPORT_SCRATCH_H

#include <limits.h>

struct scratch {
    char path[PATH_MAX];
};

/* Makes a fresh empty folder; fails the running test if that does not work. */
void scratch_make(struct scratch *scratch);
/* Removes it and all it holds. */
void scratch_remove(const struct scratch *scratch);
/* "folder/name" in one of four rotating buffers of the calling thread. */
const char *scratch_path(const struct scratch *scratch, const char *name);

#endif
