/* The journal of a job: what is recalled, and what ends the recall. */
#include "tests/support/cm.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/mem.h"
#include "server/mitigate/checkpoint.h"
#include "tests/support/scratch.h"

enum { RECORDS = 5, SIZE = 40 };
static const uint64_t plenty = 1 << 20;

struct world {
    struct scratch scratch;
    char path[PATH_MAX];
};

static void key_of(int i, char key[DIGEST_HEX_SIZE]) {
    digest_bytes(&i, sizeof i, key);
}

static struct checkpoint *open_it(const struct world *w, const char *binding, uint64_t max_bytes) {
    struct error error = {0};
    struct checkpoint *c = NULL;
    assert_int_equal(checkpoint_open(w->path, binding, max_bytes, &c, &error), STATUS_OK);
    return c;
}

static void keep(struct checkpoint *c, int i) {
    char key[DIGEST_HEX_SIZE], bytes[SIZE];
    key_of(i, key);
    memset(bytes, i, sizeof bytes);
    checkpoint_keep(c, CHECKPOINT_SCORE, key, bytes, sizeof bytes);
}

static bool recall(struct checkpoint *c, int i) {
    char key[DIGEST_HEX_SIZE], bytes[SIZE], expected[SIZE];
    key_of(i, key);
    memset(bytes, 0x55, sizeof bytes);
    const bool found = checkpoint_recall(c, CHECKPOINT_SCORE, key, bytes, sizeof bytes);
    memset(expected, found ? i : 0x55, sizeof expected);
    assert_memory_equal(bytes, expected, sizeof bytes);
    return found;
}

static void make(struct world *w) {
    scratch_make(&w->scratch);
    (void)snprintf(w->path, sizeof w->path, "%s", scratch_path(&w->scratch, "checkpoint"));
    struct checkpoint *c = open_it(w, "job", plenty);
    for (int i = 0; i < RECORDS; i++) {
        assert_false(recall(c, i));
        keep(c, i);
    }
    assert_int_equal(checkpoint_kept(c), RECORDS);
    checkpoint_sync(c);
    checkpoint_close(c);
}

/* How many records in a row are still recalled; then the rest is written anew, and all must be there. */
static int recalled_then_mended(const struct world *w) {
    int count = 0;
    struct checkpoint *c = open_it(w, "job", plenty);
    for (int i = 0; i < RECORDS; i++) {
        if (recall(c, i)) {
            assert_int_equal(count, i); /* never again after the first that was missing */
            count++;
        } else {
            keep(c, i);
        }
    }
    checkpoint_close(c);
    c = open_it(w, "job", plenty);
    for (int i = 0; i < RECORDS; i++) {
        assert_true(recall(c, i));
    }
    assert_int_equal(checkpoint_recalled(c), RECORDS);
    checkpoint_close(c);
    return count;
}

static void test_all_is_recalled_in_order(void **state) {
    (void)state;
    struct world w;
    make(&w);
    assert_int_equal(recalled_then_mended(&w), RECORDS);
    scratch_remove(&w.scratch);
}

static void test_a_torn_file_is_recalled_up_to_the_tear(void **state) {
    (void)state;
    struct world w;
    struct stat info;
    make(&w);
    assert_int_equal(stat(w.path, &info), 0);
    const off_t record = (info.st_size - 72) / RECORDS;
    for (off_t cut = 1; cut < info.st_size; cut += 13) {
        assert_int_equal(truncate(w.path, info.st_size - cut), 0);
        const off_t left = info.st_size - cut - 72;
        assert_int_equal(recalled_then_mended(&w), left < 0 ? 0 : left / record);
        assert_int_equal(stat(w.path, &info), 0);
    }
    scratch_remove(&w.scratch);
}

static void test_every_flipped_byte_is_noticed(void **state) {
    (void)state;
    struct world w;
    struct stat info;
    make(&w);
    assert_int_equal(stat(w.path, &info), 0);
    const off_t record = (info.st_size - 72) / RECORDS;
    for (off_t at = 0; at < info.st_size; at += 7) {
        unsigned char byte;
        const int fd = open(w.path, O_RDWR);
        assert_true(fd >= 0);
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        assert_int_equal(close(fd), 0);
        assert_int_equal(recalled_then_mended(&w), at < 72 ? 0 : (at - 72) / record);
    }
    scratch_remove(&w.scratch);
}

static void test_another_job_recalls_nothing(void **state) {
    (void)state;
    struct world w;
    make(&w);
    struct checkpoint *c = open_it(&w, "another job", plenty);
    assert_false(recall(c, 0));
    checkpoint_close(c);
    assert_int_equal(recalled_then_mended(&w), 0);
    scratch_remove(&w.scratch);
}

static void test_another_question_ends_the_recall(void **state) {
    (void)state;
    struct world w;
    char key[DIGEST_HEX_SIZE], bytes[SIZE + 1];
    make(&w);
    struct checkpoint *c = open_it(&w, "job", plenty);
    assert_true(recall(c, 0));
    key_of(1, key);
    assert_false(checkpoint_recall(c, CHECKPOINT_RETUNE, key, bytes, SIZE));
    assert_false(recall(c, 1)); /* what followed is gone */
    checkpoint_close(c);
    assert_int_equal(recalled_then_mended(&w), 1);
    c = open_it(&w, "job", plenty);
    key_of(0, key);
    assert_false(checkpoint_recall(c, CHECKPOINT_SCORE, key, bytes, SIZE + 1));
    checkpoint_close(c);
    scratch_remove(&w.scratch);
}

static void test_the_limit_ends_the_recording(void **state) {
    (void)state;
    struct world w;
    struct stat info;
    scratch_make(&w.scratch);
    (void)snprintf(w.path, sizeof w.path, "%s", scratch_path(&w.scratch, "checkpoint"));
    struct checkpoint *c = open_it(&w, "job", 500);
    for (int i = 0; i < RECORDS; i++) {
        keep(c, i);
    }
    assert_int_equal(checkpoint_kept(c), 2);
    checkpoint_close(c);
    assert_int_equal(stat(w.path, &info), 0);
    assert_true(info.st_size <= 500);
    assert_int_equal(recalled_then_mended(&w), 2);
    scratch_remove(&w.scratch);
}

static void test_what_is_no_file_is_refused(void **state) {
    (void)state;
    struct scratch scratch;
    struct error error = {0};
    struct checkpoint *c = NULL;
    scratch_make(&scratch);
    assert_int_equal(symlink("/etc/passwd", scratch_path(&scratch, "link")), 0);
    assert_int_equal(checkpoint_open(scratch_path(&scratch, "link"), "job", plenty, &c, &error), STATUS_IO);
    error_clear(&error);
    assert_int_equal(checkpoint_open(scratch.path, "job", plenty, &c, &error), STATUS_IO);
    assert_null(c);
    char key[DIGEST_HEX_SIZE];
    key_of(0, key);
    assert_false(checkpoint_recall(NULL, CHECKPOINT_SCORE, key, NULL, 0));
    checkpoint_keep(NULL, CHECKPOINT_SCORE, key, NULL, 0);
    checkpoint_sync(NULL);
    checkpoint_close(NULL);
    scratch_remove(&scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_is_recalled_in_order),
        cmocka_unit_test(test_a_torn_file_is_recalled_up_to_the_tear),
        cmocka_unit_test(test_every_flipped_byte_is_noticed),
        cmocka_unit_test(test_another_job_recalls_nothing),
        cmocka_unit_test(test_another_question_ends_the_recall),
        cmocka_unit_test(test_the_limit_ends_the_recording),
        cmocka_unit_test(test_what_is_no_file_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
