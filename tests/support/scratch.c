/* Scratch folders of tests. */
#include "tests/support/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/file.h"
#include "tests/support/cm.h"

void scratch_make(struct scratch *scratch) {
    const char *base = getenv("TMPDIR");
    int length = snprintf(scratch->path, sizeof scratch->path, "%s/onp-test-XXXXXX", base != NULL ? base : "/tmp");
    assert_in_range(length, 1, sizeof scratch->path - 1);
    assert_non_null(mkdtemp(scratch->path));
}

void scratch_remove(const struct scratch *scratch) {
    struct error error = {0};
    assert_int_equal(file_remove_tree(scratch->path, &error), STATUS_OK);
}

const char *scratch_path(const struct scratch *scratch, const char *name) {
    static _Thread_local char buffers[4][PATH_MAX];
    static _Thread_local unsigned turn;
    struct error error = {0};
    char *out = buffers[turn++ % 4];
    assert_int_equal(file_join(out, PATH_MAX, scratch->path, name, &error), STATUS_OK);
    return out;
}
