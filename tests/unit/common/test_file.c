/* Files: limits, atomic replacement, folders, trees, and no memory. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/mem.h"
#include "tests/support/cm.h"
#include "tests/support/scratch.h"

static struct scratch scratch;

static int setup(void **state) {
    (void)state;
    scratch_make(&scratch);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    scratch_remove(&scratch);
    return 0;
}

static void write_file(const char *name, const char *text) {
    struct error error = {0};
    assert_int_equal(file_write_atomic(scratch_path(&scratch, name), text, strlen(text), &error), STATUS_OK);
}

static void expect_content(const char *name, const char *text) {
    char *data = NULL;
    size_t length = 0;
    struct error error = {0};
    assert_int_equal(file_read(scratch_path(&scratch, name), 1 << 20, &data, &length, &error), STATUS_OK);
    assert_int_equal(length, strlen(text));
    assert_string_equal(data, text);
    mem_free(data);
}

static size_t count_entries(const char *path) {
    size_t count = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        count += entry->d_name[0] != '.';
    }
    (void)closedir(dir);
    return count;
}

static void writes_replace_as_a_whole(void **state) {
    (void)state;
    write_file("a", "first content");
    expect_content("a", "first content");
    write_file("a", "x");
    expect_content("a", "x");
    write_file("a", "");
    expect_content("a", "");
    assert_int_equal(count_entries(scratch.path), 1); /* no temporary file is left */
    struct error error = {0};
    assert_int_equal(file_write_atomic(scratch_path(&scratch, "none/a"), "x", 1, &error), STATUS_IO);
    assert_int_equal(mkdir(scratch_path(&scratch, "folder"), 0700), 0);
    error_clear(&error);
    assert_int_equal(file_write_atomic(scratch_path(&scratch, "folder"), "x", 1, &error), STATUS_IO);
    assert_int_equal(count_entries(scratch.path), 2); /* also after a failed rename */
}

static void a_reader_keeps_the_old_content(void **state) {
    (void)state;
    char text[8] = "";
    write_file("b", "old");
    int fd = open(scratch_path(&scratch, "b"), O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    write_file("b", "newer");
    assert_int_equal(read(fd, text, sizeof text), 3);
    assert_memory_equal(text, "old", 3);
    (void)close(fd);
    expect_content("b", "newer");
}

static void reads_respect_the_limit(void **state) {
    (void)state;
    char *data = NULL;
    size_t length = 7;
    struct error error = {0};
    write_file("c", "12345");
    assert_int_equal(file_read(scratch_path(&scratch, "c"), 5, &data, &length, &error), STATUS_OK);
    assert_int_equal(length, 5);
    mem_free(data);
    data = NULL;
    length = 7;
    assert_int_equal(file_read(scratch_path(&scratch, "c"), 4, &data, &length, &error), STATUS_LIMIT);
    error_clear(&error);
    assert_int_equal(file_read("/proc/self/status", 10, &data, &length, &error), STATUS_LIMIT); /* says it has size 0 */
    assert_null(data);
    assert_int_equal(length, 7);
    error_clear(&error);
    assert_int_equal(file_read("/proc/self/status", 1 << 20, &data, &length, &error), STATUS_OK);
    assert_in_range(length, 100, 1 << 20);
    assert_int_equal(strlen(data), length);
    mem_free(data);
}

static void only_regular_files_are_read(void **state) {
    (void)state;
    char *data = NULL;
    size_t length = 0;
    struct error error = {0};
    assert_int_equal(file_read(scratch_path(&scratch, "nothing"), 10, &data, &length, &error), STATUS_NOT_FOUND);
    error_clear(&error);
    assert_int_equal(file_read(scratch.path, 10, &data, &length, &error), STATUS_INVALID);
    error_clear(&error);
    assert_int_equal(mkfifo(scratch_path(&scratch, "fifo"), 0600), 0);
    assert_int_equal(file_read(scratch_path(&scratch, "fifo"), 10, &data, &length, &error), STATUS_INVALID);
    error_clear(&error);
    assert_int_equal(file_read("/dev/zero", 10, &data, &length, &error), STATUS_INVALID);
    assert_null(data);
}

static void copies_are_equal(void **state) {
    (void)state;
    enum { SIZE = 300001 };
    char *content = mem_alloc(SIZE, 1);
    char *data = NULL;
    size_t length = 0;
    struct error error = {0};
    for (size_t i = 0; i < SIZE; i++) {
        content[i] = (char)(i * 31 % 251);
    }
    assert_int_equal(file_write_atomic(scratch_path(&scratch, "d"), content, SIZE, &error), STATUS_OK);
    assert_int_equal(file_copy(scratch_path(&scratch, "d"), scratch_path(&scratch, "e"), &error), STATUS_OK);
    assert_int_equal(file_read(scratch_path(&scratch, "e"), SIZE, &data, &length, &error), STATUS_OK);
    assert_int_equal(length, SIZE);
    assert_memory_equal(data, content, SIZE);
    mem_free(data);
    mem_free(content);
    assert_int_equal(file_copy(scratch_path(&scratch, "none"), scratch_path(&scratch, "e"), &error), STATUS_NOT_FOUND);
}

static void folders_are_made_with_parents(void **state) {
    (void)state;
    struct stat info;
    struct error error = {0};
    const char *deep = scratch_path(&scratch, "p/q//r/");
    assert_int_equal(file_make_dir(deep, &error), STATUS_OK);
    assert_int_equal(stat(scratch_path(&scratch, "p/q/r"), &info), 0);
    assert_true(S_ISDIR(info.st_mode));
    assert_int_equal(file_make_dir(deep, &error), STATUS_OK);
    assert_int_equal(file_sync_dir(deep, &error), STATUS_OK);
    write_file("plain", "x");
    assert_int_equal(file_make_dir(scratch_path(&scratch, "plain"), &error), STATUS_CONFLICT);
    error_clear(&error);
    assert_int_equal(file_make_dir(scratch_path(&scratch, "plain/below"), &error), STATUS_IO);
    error_clear(&error);
    assert_int_equal(file_make_dir("", &error), STATUS_INVALID);
    error_clear(&error);
    assert_int_equal(file_sync_dir(scratch_path(&scratch, "none"), &error), STATUS_IO);
}

static void trees_are_removed_but_links_not_followed(void **state) {
    (void)state;
    struct error error = {0};
    struct stat info;
    assert_int_equal(file_make_dir(scratch_path(&scratch, "tree/a/b"), &error), STATUS_OK);
    assert_int_equal(file_make_dir(scratch_path(&scratch, "tree/c"), &error), STATUS_OK);
    assert_int_equal(file_make_dir(scratch_path(&scratch, "kept"), &error), STATUS_OK);
    write_file("tree/x", "1");
    write_file("tree/a/y", "2");
    write_file("tree/a/b/z", "3");
    write_file("kept/file", "4");
    assert_int_equal(symlink(scratch_path(&scratch, "kept"), scratch_path(&scratch, "tree/a/link")), 0);
    assert_int_equal(symlink("no-such", scratch_path(&scratch, "tree/dangling")), 0);
    assert_int_equal(file_remove_tree(scratch_path(&scratch, "tree"), &error), STATUS_OK);
    assert_int_equal(lstat(scratch_path(&scratch, "tree"), &info), -1);
    expect_content("kept/file", "4");
    /* A link in the place of the tree itself goes, its target stays. */
    assert_int_equal(symlink(scratch_path(&scratch, "kept"), scratch_path(&scratch, "tree")), 0);
    assert_int_equal(file_remove_tree(scratch_path(&scratch, "tree"), &error), STATUS_OK);
    expect_content("kept/file", "4");
    assert_int_equal(file_remove_tree(scratch_path(&scratch, "tree"), &error), STATUS_OK); /* a missing one is fine */
    assert_int_equal(file_remove_tree(scratch_path(&scratch, "kept/file"), &error), STATUS_OK);
    assert_int_equal(error.status, STATUS_OK);
}

static void the_depth_of_trees_is_bounded(void **state) {
    (void)state;
    struct error error = {0};
    char path[PATH_MAX];
    char top[PATH_MAX];
    (void)snprintf(top, sizeof top, "%s/deep", scratch.path);
    size_t at = (size_t)snprintf(path, sizeof path, "%s", top);
    for (int i = 0; i < 40; i++) {
        at += (size_t)snprintf(path + at, sizeof path - at, "/d");
    }
    assert_int_equal(file_make_dir(path, &error), STATUS_OK);
    assert_int_equal(file_remove_tree(top, &error), STATUS_LIMIT);
    (void)snprintf(path, sizeof path, "%s/d/d/d/d/d/d/d/d/d/d/d/d", top);
    error_clear(&error);
    assert_int_equal(file_remove_tree(path, &error), STATUS_OK);
    assert_int_equal(file_remove_tree(top, &error), STATUS_OK);
}

static void paths_are_joined(void **state) {
    (void)state;
    struct error error = {0};
    char out[8];
    assert_int_equal(file_join(out, sizeof out, "abc", "def", &error), STATUS_OK);
    assert_string_equal(out, "abc/def");
    assert_int_equal(file_join(out, sizeof out, "/", "x", &error), STATUS_OK);
    assert_string_equal(out, "/x");
    assert_int_equal(file_join(out, sizeof out, "abc", "defg", &error), STATUS_LIMIT);
}

static void write_all_reports_errno(void **state) {
    (void)state;
    errno = 0;
    assert_false(file_write_all(-1, "x", 1));
    assert_int_equal(errno, EBADF);
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_false(file_write_all(fd, "x", 1));
    assert_int_equal(errno, ENOSPC);
    (void)close(fd);
}

/* Each entry point, with each of its allocations failing in turn: an error, nothing leaked, nothing half done. */
static enum status run_entry(int which, struct error *error) {
    char *data = NULL;
    size_t length = 0;
    enum status status = STATUS_INTERNAL;
    switch (which) {
    case 0:
        status = file_read("/proc/self/maps", 1 << 20, &data, &length, error); /* grows more than once */
        mem_free(data);
        return status;
    case 1:
        return file_write_atomic(scratch_path(&scratch, "n"), "abc", 3, error);
    case 2:
        return file_copy(scratch_path(&scratch, "n"), scratch_path(&scratch, "m"), error);
    case 3:
        return file_make_dir(scratch_path(&scratch, "nt/a"), error);
    default:
        return file_remove_tree(scratch_path(&scratch, "nt"), error);
    }
}

static void each_allocation_may_fail(void **state) {
    (void)state;
    for (int which = 0; which < 5; which++) {
        enum status status = STATUS_NO_MEMORY;
        for (uint64_t n = 1; status != STATUS_OK; n++) {
            struct error error = {0};
            assert_true(n < 100);
            mem_fail_after(n);
            status = run_entry(which, &error);
            mem_fail_after(0);
            assert_true(status == STATUS_OK || status == STATUS_NO_MEMORY);
            assert_int_equal(error.status, status);
        }
    }
    expect_content("m", "abc");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_replace_as_a_whole),
        cmocka_unit_test(a_reader_keeps_the_old_content),
        cmocka_unit_test(reads_respect_the_limit),
        cmocka_unit_test(only_regular_files_are_read),
        cmocka_unit_test(copies_are_equal),
        cmocka_unit_test(folders_are_made_with_parents),
        cmocka_unit_test(trees_are_removed_but_links_not_followed),
        cmocka_unit_test(the_depth_of_trees_is_bounded),
        cmocka_unit_test(paths_are_joined),
        cmocka_unit_test(write_all_reports_errno),
        cmocka_unit_test(each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
