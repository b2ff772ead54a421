/* Pipes: what comes out is what went in, whoever is slower; errors of the file are told; the receiver hears of room. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/mem.h"
#include "server/store/store_pipe.h"
#include "tests/support/cm.h"
#include "tests/support/patience.h"
#include "tests/support/scratch.h"

enum { TOTAL = 11 * STORE_PIPE_CHUNK + 12345, PIECE_MAX = STORE_PIPE_CHUNK };

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

static unsigned char *make_bytes(size_t length) {
    unsigned char *bytes = mem_alloc(length, 1);
    uint32_t x = 1;
    assert_non_null(bytes);
    for (size_t i = 0; i < length; i++) {
        x = x * 1664525U + 1013904223U;
        bytes[i] = (unsigned char)(x >> 24);
    }
    return bytes;
}

static void count_room(void *user) {
    (void)atomic_fetch_add((atomic_int *)user, 1);
}

static void wait_for_room(atomic_int *rooms, int before) {
    struct patience patience = {0};
    while (atomic_load(rooms) == before) {
        assert_true(patience_nap(&patience));
    }
}

static void bytes_arrive_in_order_and_are_hashed(void **state) {
    (void)state;
    unsigned char *bytes = make_bytes(TOTAL);
    char expected[DIGEST_HEX_SIZE], got[DIGEST_HEX_SIZE], *text = NULL;
    size_t length = 0;
    struct error error = {0};
    atomic_int rooms = 0;
    struct digest *digest = digest_new();
    int fd = open(scratch_path(&scratch, "whole"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "head", 4), 4); /* a pipe may begin in the middle of a file */
    struct store_pipe *pipe = store_pipe_open(fd, digest, count_room, &rooms);
    assert_non_null(pipe);
    for (size_t at = 0, piece = 1; at < TOTAL; piece = piece * 7 % PIECE_MAX + 1) {
        const int before = atomic_load(&rooms);
        const size_t part = piece < TOTAL - at ? piece : TOTAL - at;
        if (store_pipe_is_full(pipe)) {
            wait_for_room(&rooms, before);
        }
        store_pipe_put(pipe, bytes + at, part);
        at += part;
    }
    assert_false(store_pipe_has_failed(pipe));
    assert_true(store_pipe_close(pipe, false));
    digest_finish(digest, got);
    digest_bytes(bytes, TOTAL, expected);
    assert_string_equal(got, expected);
    assert_int_equal(close(fd), 0);
    assert_int_equal(file_read(scratch_path(&scratch, "whole"), TOTAL + 4, &text, &length, &error), STATUS_OK);
    assert_int_equal(length, TOTAL + 4);
    assert_memory_equal(text + 4, bytes, TOTAL);
    digest_free(digest);
    mem_free(text);
    mem_free(bytes);
}

static void a_receiver_that_does_not_ask_waits(void **state) {
    (void)state;
    unsigned char *bytes = make_bytes(TOTAL);
    struct stat info;
    struct digest *digest = digest_new();
    int fd = open(scratch_path(&scratch, "unasked"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct store_pipe *pipe = store_pipe_open(fd, digest, NULL, NULL);
    assert_non_null(pipe);
    store_pipe_put(pipe, bytes, TOTAL);
    store_pipe_put(pipe, bytes, 0);
    assert_true(store_pipe_close(pipe, false));
    assert_int_equal(fstat(fd, &info), 0);
    assert_int_equal(info.st_size, TOTAL);
    (void)close(fd);
    digest_free(digest);
    mem_free(bytes);
}

static void dropping_ends_at_once_and_whole_chunks_end_well(void **state) {
    (void)state;
    unsigned char *bytes = make_bytes(2 * STORE_PIPE_CHUNK);
    struct stat info;
    for (int drop = 0; drop < 2; drop++) {
        struct digest *digest = digest_new();
        int fd = open(scratch_path(&scratch, "dropped"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        struct store_pipe *pipe = store_pipe_open(fd, digest, NULL, NULL);
        assert_non_null(pipe);
        store_pipe_put(pipe, bytes, (size_t)2 * STORE_PIPE_CHUNK);
        assert_true(store_pipe_close(pipe, drop == 1));
        assert_int_equal(fstat(fd, &info), 0);
        assert_true(drop == 1 ? info.st_size <= 2 * STORE_PIPE_CHUNK : info.st_size == 2 * STORE_PIPE_CHUNK);
        (void)close(fd);
        digest_free(digest);
    }
    mem_free(bytes);
}

static void a_full_disk_is_told(void **state) {
    (void)state;
    unsigned char *bytes = make_bytes(TOTAL);
    struct rlimit old, limit;
    struct digest *digest = digest_new();
    void (*before)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = old;
    limit.rlim_cur = STORE_PIPE_CHUNK + 100;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int fd = open(scratch_path(&scratch, "limited"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct store_pipe *pipe = store_pipe_open(fd, digest, NULL, NULL);
    assert_non_null(pipe);
    store_pipe_put(pipe, bytes, TOTAL); /* must not wait for ever */
    assert_true(store_pipe_has_failed(pipe));
    assert_int_equal(errno, EFBIG);
    assert_false(store_pipe_close(pipe, false));
    assert_int_equal(errno, EFBIG);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    (void)signal(SIGXFSZ, before);
    (void)close(fd);
    digest_free(digest);
    mem_free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_arrive_in_order_and_are_hashed),
        cmocka_unit_test(a_receiver_that_does_not_ask_waits),
        cmocka_unit_test(dropping_ends_at_once_and_whole_chunks_end_well),
        cmocka_unit_test(a_full_disk_is_told),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
