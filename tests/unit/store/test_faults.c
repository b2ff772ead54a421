/* A disk that fails: the Nth call that could fail does, for every N, over an upload that becomes an object and over files written at
 * once. Nothing may be half there afterwards: what was acknowledged is whole after a reopening, what was not is gone, and the
 * store goes on working. The calls are replaced at link time (-Wl,--wrap, see the Makefile); those of SQLite are its own, whose answer
 * to faults is its authors' to test, so the database is only made busy here. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/mem.h"
#include "server/store/store_resumable.h"
#include "tests/unit/store/fixture.h"

enum kind { FAULT_NONE, FAULT_ERROR, FAULT_FULL, FAULT_READONLY, FAULT_SHORT, FAULT_KINDS };

static _Atomic int fault_kind;       /* enum kind */
static _Atomic long fault_countdown; /* the call at which it strikes, once; counts below zero afterwards */

/* Whether this call is the one. */
static bool strikes(void) {
    return atomic_load(&fault_kind) != FAULT_NONE && atomic_fetch_sub(&fault_countdown, 1) == 1;
}

static int refuse(void) {
    static const int CODES[FAULT_KINDS] = {[FAULT_ERROR] = EIO, [FAULT_FULL] = ENOSPC, [FAULT_READONLY] = EROFS};
    const int code = CODES[atomic_load(&fault_kind)];
    errno = code != 0 ? code : ENOSPC;
    return -1;
}

ssize_t __real_write(int fd, const void *data, size_t length);
ssize_t __wrap_write(int fd, const void *data, size_t length);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_link(const char *from, const char *to);
int __wrap_link(const char *from, const char *to);
int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __real_fchmod(int fd, mode_t mode);
int __wrap_fchmod(int fd, mode_t mode);
int __real_mkdir(const char *path, mode_t mode);
int __wrap_mkdir(const char *path, mode_t mode);

ssize_t __wrap_write(int fd, const void *data, size_t length) {
    if (strikes()) {
        if (atomic_load(&fault_kind) != FAULT_SHORT) {
            return refuse();
        }
        length = length > 1 ? length / 2 : length; /* allowed by POSIX at any time */
    }
    return __real_write(fd, data, length);
}

int __wrap_fsync(int fd) {
    return strikes() ? refuse() : __real_fsync(fd);
}

int __wrap_fdatasync(int fd) {
    return strikes() ? refuse() : __real_fdatasync(fd);
}

int __wrap_link(const char *from, const char *to) {
    return strikes() ? refuse() : __real_link(from, to);
}

int __wrap_rename(const char *from, const char *to) {
    return strikes() ? refuse() : __real_rename(from, to);
}

int __wrap_fchmod(int fd, mode_t mode) {
    return strikes() ? refuse() : __real_fchmod(fd, mode);
}

int __wrap_mkdir(const char *path, mode_t mode) {
    return strikes() ? refuse() : __real_mkdir(path, mode);
}

static void arm(enum kind kind, long at) {
    atomic_store(&fault_countdown, at);
    atomic_store(&fault_kind, (int)kind);
}

/* Stops the faults; true if one struck. */
static bool disarm(void) {
    atomic_store(&fault_kind, FAULT_NONE);
    return atomic_load(&fault_countdown) <= 0;
}

/* Uploads `text` in two pieces; what the client would be told. */
static enum status upload(struct store *store, const char *text, char id[ID_SIZE]) {
    struct error error = {0};
    struct store_upload *upload = NULL;
    struct store_object object;
    bool existed = false;
    size_t half = strlen(text) / 2;
    enum status status = store_upload_begin(store, 1024, &upload, &error);
    if (status == STATUS_OK) {
        status = store_upload_write(upload, text, half, &error);
    }
    if (status == STATUS_OK) {
        status = store_upload_write(upload, text + half, strlen(text) - half, &error);
    }
    if (status == STATUS_OK) {
        status = store_object_insert(store, STORE_MODEL, upload, "", NULL, &object, &existed, &error);
    }
    if (status == STATUS_OK) {
        memcpy(id, object.id, ID_SIZE);
        store_object_deinit(&object);
    } else {
        assert_true(error.message[0] != '\0');
    }
    store_upload_abort(upload);
    return status;
}

/* The bytes of an object, which must be there. */
static void assert_holds(struct store *store, const char *id, const char *text) {
    struct error error = {0};
    struct store_object object;
    char path[STORE_PATH_SIZE];
    char *bytes = NULL;
    size_t length = 0;
    assert_ok(store_object_find(store, STORE_MODEL, id, &object, &error), &error);
    assert_ok(store_blob_path(store, object.blob.sha256, path, &error), &error);
    assert_ok(file_read(path, 4096, &bytes, &length, &error), &error);
    assert_int_equal(length, strlen(text));
    assert_memory_equal(bytes, text, length);
    mem_free(bytes);
    store_object_deinit(&object);
}

static void an_upload_is_whole_or_not_there(void **state) {
    struct fixture *f = *state;
    const size_t before = (size_t)fixture_number(f, "SELECT count(*) FROM models");
    size_t kept = 0, refused = 0;
    for (enum kind kind = FAULT_ERROR; kind < FAULT_KINDS; kind++) {
        bool struck = true;
        for (long at = 1; struck; at++) {
            char text[64], id[ID_SIZE], again[ID_SIZE];
            (void)snprintf(text, sizeof text, "the bytes of kind %d at call %ld", (int)kind, at);
            arm(kind, at);
            enum status status = upload(f->store, text, id);
            struck = disarm();
            assert_true(at < 100);
            if (kind == FAULT_SHORT && status == STATUS_OK) {
                assert_holds(f->store, id, text);
            }
            if (status != STATUS_OK) {
                refused++;
                assert_true(status == STATUS_IO || status == STATUS_UNAVAILABLE);
                /* The disk is well again: the same bytes go through. */
                assert_int_equal(upload(f->store, text, again), STATUS_OK);
                memcpy(id, again, ID_SIZE);
            }
            kept++;
            assert_holds(f->store, id, text);
        }
    }
    assert_true(refused >= 8);
    fixture_reopen(f);
    assert_int_equal(fixture_number(f, "SELECT count(*) FROM models"), before + kept);
    assert_int_equal(fixture_files(f, "tmp"), 0);
    char integrity[32];
    fixture_text(f, "PRAGMA integrity_check", integrity, sizeof integrity);
    assert_string_equal(integrity, "ok");
}

/* One piece of four bytes, as far as the disk takes it. */
static enum status send_piece(struct store *store, const struct store_resumable *row) {
    struct error error = {0};
    struct store_piece *piece = NULL;
    enum status status = store_piece_begin(store, row, &piece, &error);
    if (status == STATUS_OK) {
        status = store_piece_write(piece, "abcd", 4, &error);
    }
    if (status == STATUS_OK) {
        status = store_piece_commit(piece, row->taken + 4, 1000000, &error);
    }
    assert_true(status == STATUS_OK || error.message[0] != '\0');
    store_piece_free(piece);
    return status;
}

/* What was refused does not count, and the same piece goes through when the disk is well again. */
static void a_piece_counts_or_does_not(void **state) {
    struct fixture *f = *state;
    size_t refused = 0;
    for (enum kind kind = FAULT_ERROR; kind < FAULT_KINDS; kind++) {
        bool struck = true;
        for (long at = 1; struck; at++) {
            struct error error = {0};
            struct store_resumable row;
            assert_true(at < 100);
            assert_ok(store_resumable_create(f->store, 8, "", 1000000, &row, &error), &error);
            for (uint64_t taken = 0; taken < 8; taken += 4) {
                arm(kind, at);
                enum status status = send_piece(f->store, &row);
                struck = disarm();
                assert_ok(store_resumable_find(f->store, row.id, &row, &error), &error);
                assert_int_equal(row.taken, status == STATUS_OK ? taken + 4 : taken);
                if (status != STATUS_OK) {
                    refused++;
                    assert_true(status == STATUS_IO || status == STATUS_UNAVAILABLE);
                    assert_int_equal(send_piece(f->store, &row), STATUS_OK);
                    assert_ok(store_resumable_find(f->store, row.id, &row, &error), &error);
                }
            }
            assert_int_equal(row.taken, 8);
            assert_ok(store_resumable_delete(f->store, row.id, &error), &error);
        }
    }
    assert_true(refused >= 8);
    assert_int_equal(fixture_files(f, "uploads"), 0);
}

static void a_file_is_replaced_whole_or_not_at_all(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    const char *path = scratch_path(&f->scratch, "file");
    char *bytes = NULL;
    size_t length = 0;
    assert_ok(file_write_atomic(path, "old", 3, &error), &error);
    for (enum kind kind = FAULT_ERROR; kind < FAULT_KINDS; kind++) {
        bool struck = true;
        for (long at = 1; struck; at++) {
            struct error why = {0};
            arm(kind, at);
            enum status status = file_write_atomic(path, "something new", 13, &why);
            struck = disarm();
            assert_true(at < 100);
            assert_ok(file_read(path, 100, &bytes, &length, &error), &error);
            bool is_new = length == 13 && memcmp(bytes, "something new", 13) == 0;
            bool is_old = length == 3 && memcmp(bytes, "old", 3) == 0;
            assert_true(is_new || (is_old && status != STATUS_OK));
            assert_true(status == STATUS_OK || why.message[0] != '\0');
            mem_free(bytes);
            assert_ok(file_write_atomic(path, "old", 3, &error), &error);
        }
    }
}

static void a_busy_database_is_waited_for(void **state) {
    struct fixture *f = *state;
    sqlite3 *other = NULL;
    char path[STORE_PATH_SIZE], id[ID_SIZE];
    struct error error = {0};
    assert_ok(file_join(path, sizeof path, store_data_dir(f->store), "onp.db", &error), &error);
    assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
    /* Somebody with a tool holds the lock: longer than the store waits, then lets go. */
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    enum status status = upload(f->store, "while it is busy", id);
    assert_true(status == STATUS_UNAVAILABLE || status == STATUS_IO);
    assert_int_equal(store_check_ready(f->store, 0, &error), STATUS_UNAVAILABLE);
    assert_string_equal(error.where, "database");
    error_clear(&error);
    assert_int_equal(sqlite3_exec(other, "COMMIT", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(other), SQLITE_OK);
    assert_ok(store_check_ready(f->store, 0, &error), &error); /* which tries a write */
    assert_int_equal(upload(f->store, "while it is busy", id), STATUS_OK);
    assert_holds(f->store, id, "while it is busy");
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(an_upload_is_whole_or_not_there),
        CASE(a_file_is_replaced_whole_or_not_at_all),
        CASE(a_piece_counts_or_does_not),
        CASE(a_busy_database_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
