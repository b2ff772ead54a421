/* Uploads, blobs, models and samples: what is there is whole, what is not named goes, the same bytes are one row. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/file.h"
#include "common/mem.h"
#include "tests/unit/store/fixture.h"

static void an_upload_becomes_an_object(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store_object object;
    char path[STORE_PATH_SIZE];
    char *data = NULL;
    size_t length = 0;
    assert_ok(store_object_find(f->store, STORE_MODEL, f->model_id, &object, &error), &error);
    assert_string_equal(object.name, "net");
    assert_int_equal(object.blob.size, strlen("model bytes"));
    assert_int_equal(json_integer_value(json_object_get(object.info, "units")), 3);
    assert_true(object.created_ms > 0);
    assert_ok(store_blob_path(f->store, object.blob.sha256, path, &error), &error);
    assert_ok(file_read(path, 100, &data, &length, &error), &error);
    assert_string_equal(data, "model bytes");
    mem_free(data);

    struct store_object again;
    assert_ok(store_object_find_by_sha256(f->store, STORE_MODEL, object.blob.sha256, &again, &error), &error);
    assert_string_equal(again.id, object.id);
    store_object_deinit(&again);
    assert_int_equal(store_object_find_by_sha256(f->store, STORE_SAMPLES, object.blob.sha256, &again, &error),
                     STATUS_NOT_FOUND);
    store_object_deinit(&object);
    assert_int_equal(fixture_files(f, "tmp"), 0);
}

static void the_same_bytes_are_one_row(void **state) {
    struct fixture *f = *state;
    char id[ID_SIZE];
    fixture_object(f->store, STORE_MODEL, "another name", "model bytes", id);
    assert_string_equal(id, f->model_id);
    assert_int_equal(fixture_number(f, "SELECT count(*) FROM models"), 1);
    /* As samples they are another row but the same blob. */
    fixture_object(f->store, STORE_SAMPLES, "odd", "model bytes", id);
    assert_string_not_equal(id, f->model_id);
    assert_int_equal(fixture_number(f, "SELECT count(*) FROM blobs"), 2);
    assert_int_equal(fixture_files(f, "blobs"), 2);
}

static void an_upload_ends_at_its_limit(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store_upload *upload = NULL;
    struct store_blob blob;
    assert_ok(store_upload_begin(f->store, 4, &upload, &error), &error);
    assert_ok(store_upload_write(upload, "abcd", 4, &error), &error);
    assert_int_equal(store_upload_write(upload, "e", 1, &error), STATUS_LIMIT);
    struct error second = {0};
    assert_int_equal(store_upload_finish(upload, &blob, &second), STATUS_CONFLICT);
    store_upload_abort(upload);
    assert_int_equal(fixture_files(f, "tmp"), 0);
}

static void an_aborted_upload_leaves_nothing(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store_upload *upload = NULL;
    struct store_blob blob;
    assert_ok(store_upload_begin(f->store, 100, &upload, &error), &error);
    assert_ok(store_upload_write(upload, "abc", 3, &error), &error);
    assert_int_equal(store_upload_size(upload), 3);
    assert_int_equal(access(store_upload_path(upload), R_OK), 0);
    assert_ok(store_upload_finish(upload, &blob, &error), &error);
    /* SHA-256 of "abc", FIPS 180-2 appendix B.1. */
    assert_string_equal(blob.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_int_equal(blob.size, 3);
    store_upload_abort(upload);
    assert_int_equal(fixture_files(f, "tmp"), 0);
    assert_int_equal(fixture_files(f, "blobs"), 2);
}

static void a_name_that_is_too_long_is_refused(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store_upload *upload = NULL;
    struct store_object object;
    bool existed = false;
    char name[STORE_NAME_SIZE + 1];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    assert_ok(store_upload_begin(f->store, 100, &upload, &error), &error);
    assert_int_equal(store_object_insert(f->store, STORE_MODEL, upload, name, NULL, &object, &existed, &error),
                     STATUS_LIMIT);
    assert_string_equal(error.where, "/name");
    store_upload_abort(upload);
}

/* Runs in a process of its own, because the limit cannot be taken back. 0: all as expected. */
static int upload_with_a_small_disk(const struct fixture *f) {
    struct error error = {0};
    struct store *store = NULL;
    struct store_upload *upload = NULL;
    struct store_blob blob;
    char chunk[4096];
    memset(chunk, 'x', sizeof chunk);
    (void)signal(SIGXFSZ, SIG_IGN);
    if (store_open(scratch_path(&f->scratch, "small"), NULL, &store, &error) != STATUS_OK) {
        return 1;
    }
    struct rlimit limit = {.rlim_cur = 6000, .rlim_max = RLIM_INFINITY};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || store_upload_begin(store, 1 << 20, &upload, &error) != STATUS_OK ||
        store_upload_write(upload, chunk, sizeof chunk, &error) != STATUS_OK) {
        return 2;
    }
    if (store_upload_write(upload, chunk, sizeof chunk, &error) != STATUS_IO) {
        return 3;
    }
    struct error second = {0};
    if (store_upload_finish(upload, &blob, &second) != STATUS_CONFLICT) {
        return 4;
    }
    store_upload_abort(upload);
    /* The database cannot grow either; it must say so, and work again when there is room. */
    struct error third = {0};
    upload = NULL;
    struct store_object object = {0};
    bool existed = false;
    if (store_upload_begin(store, 1 << 20, &upload, &third) != STATUS_OK ||
        store_upload_write(upload, "abc", 3, &third) != STATUS_OK) {
        return 5;
    }
    if (store_object_insert(store, STORE_MODEL, upload, "n", NULL, &object, &existed, &third) == STATUS_OK) {
        return 6;
    }
    struct error fourth = {0};
    if (store_check_ready(store, 0, &fourth) != STATUS_UNAVAILABLE) {
        return 7;
    }
    limit.rlim_cur = RLIM_INFINITY;
    struct error fifth = {0};
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || store_check_ready(store, 0, &fifth) != STATUS_OK ||
        store_object_insert(store, STORE_MODEL, upload, "n", NULL, &object, &existed, &fifth) != STATUS_OK) {
        return 8;
    }
    store_object_deinit(&object);
    store_upload_abort(upload);
    store_close(store);
    return 0;
}

static void a_full_disk_is_told_and_survived(void **state) {
    struct fixture *f = *state;
    int status = 0;
    /* Without threads of its own must be the process that forks. */
    store_close(f->store);
    f->store = NULL;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        _exit(upload_with_a_small_disk(f));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void too_little_space_is_not_ready(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    assert_ok(store_check_ready(f->store, 0, &error), &error);
    assert_int_equal(store_check_ready(f->store, UINT64_MAX, &error), STATUS_UNAVAILABLE);
}

static void lists_are_pages_newest_first(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    char ids[5][ID_SIZE];
    char text[16];
    struct store_object *page = NULL;
    size_t count = 0;
    bool more = false;
    for (int i = 0; i < 5; i++) {
        (void)snprintf(text, sizeof text, "bytes %d", i);
        fixture_object(f->store, STORE_MODEL, text, text, ids[i]);
    }
    assert_ok(store_object_list(f->store, STORE_MODEL, NULL, 2, &page, &count, &more, &error), &error);
    assert_int_equal(count, 2);
    assert_true(more);
    assert_string_equal(page[0].id, ids[4]);
    assert_string_equal(page[1].id, ids[3]);
    store_objects_free(page, count);
    assert_ok(store_object_list(f->store, STORE_MODEL, ids[3], 4, &page, &count, &more, &error), &error);
    assert_int_equal(count, 4);
    assert_false(more);
    assert_string_equal(page[0].id, ids[2]);
    assert_string_equal(page[3].id, f->model_id);
    store_objects_free(page, count);
    assert_int_equal(store_object_list(f->store, STORE_MODEL, NULL, 0, &page, &count, &more, &error), STATUS_INVALID);
}

static void deleting_spares_what_is_in_use(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    char job[ID_SIZE];
    struct error conflict = {0};
    struct error absent = {0};
    fixture_job(f, 0, job);
    assert_int_equal(store_object_delete(f->store, STORE_MODEL, f->model_id, &conflict), STATUS_CONFLICT);
    error_clear(&conflict);
    assert_int_equal(store_object_delete(f->store, STORE_SAMPLES, f->samples_id, &conflict), STATUS_CONFLICT);
    assert_ok(store_job_request_cancel(f->store, job, NULL, &error), &error);
    assert_ok(store_object_delete(f->store, STORE_MODEL, f->model_id, &error), &error);
    assert_int_equal(store_object_delete(f->store, STORE_MODEL, f->model_id, &absent), STATUS_NOT_FOUND);
}

static void blobs_that_no_row_names_are_collected(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    size_t removed = 9;
    assert_ok(store_collect_blobs(f->store, &removed, &error), &error);
    assert_int_equal(removed, 0);
    assert_ok(store_object_delete(f->store, STORE_MODEL, f->model_id, &error), &error);
    assert_int_equal(fixture_files(f, "blobs"), 2);
    assert_ok(store_collect_blobs(f->store, &removed, &error), &error);
    assert_int_equal(removed, 1);
    assert_int_equal(fixture_files(f, "blobs"), 1);
    assert_int_equal(fixture_number(f, "SELECT count(*) FROM blobs"), 1);
    /* The same bytes again are a new blob. */
    fixture_object(f->store, STORE_MODEL, "net", "model bytes", f->model_id);
    assert_int_equal(fixture_files(f, "blobs"), 2);
}

static void a_start_removes_what_was_left_behind(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    char stray[STORE_PATH_SIZE];
    struct store_upload *upload = NULL;
    char left[STORE_PATH_SIZE];
    static const char NAME[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_ok(store_upload_begin(f->store, 100, &upload, &error), &error);
    (void)snprintf(left, sizeof left, "%s.left", store_upload_path(upload));
    store_upload_abort(upload);
    assert_ok(file_write_atomic(left, "part", 4, &error), &error);
    assert_ok(store_blob_path(f->store, NAME, stray, &error), &error);
    (void)mkdir(scratch_path(&f->scratch, "data/blobs/ba"), 0700);
    assert_ok(file_write_atomic(stray, "abc", 3, &error), &error);
    assert_int_equal(fixture_files(f, "blobs"), 3);
    fixture_reopen(f);
    assert_int_equal(fixture_files(f, "blobs"), 2);
    assert_int_equal(fixture_files(f, "tmp"), 0);
    struct store_object object;
    assert_ok(store_object_find(f->store, STORE_MODEL, f->model_id, &object, &error), &error);
    store_object_deinit(&object);
}

static void a_blob_is_named_by_a_digest_only(void **state) {
    struct fixture *f = *state;
    char path[STORE_PATH_SIZE];
    static const char *const BAD[] = {"", "../../etc/passwd",
                                      "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD"};
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        struct error error = {0};
        assert_int_equal(store_blob_path(f->store, BAD[i], path, &error), STATUS_INVALID);
    }
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(an_upload_becomes_an_object),          CASE(the_same_bytes_are_one_row),
        CASE(an_upload_ends_at_its_limit),          CASE(an_aborted_upload_leaves_nothing),
        CASE(a_name_that_is_too_long_is_refused),   CASE(a_full_disk_is_told_and_survived),
        CASE(too_little_space_is_not_ready),        CASE(lists_are_pages_newest_first),
        CASE(deleting_spares_what_is_in_use),       CASE(blobs_that_no_row_names_are_collected),
        CASE(a_start_removes_what_was_left_behind), CASE(a_blob_is_named_by_a_digest_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
