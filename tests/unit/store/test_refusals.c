/* What the store refuses: arguments out of their range, tables that are full, pieces that do not fit, copies that do not hold together,
 * folders and databases that are not a store's. Each refusal has its status and its words, and leaves the store as it was. */
#include <math.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/mem.h"
#include "server/store/store_idempotency.h"
#include "server/store/store_resumable.h"
#include "server/store/store_tokens.h"
#include "server/store/store_upkeep.h"
#include "tests/unit/store/fixture.h"

static void refused(enum status got, enum status expected, struct error *error, const char *words) {
    if (got != expected || strstr(error->message, words) == NULL) {
        fail_msg("got %s, '%s'; expected %s, '%s'", status_name(got), error->message, status_name(expected), words);
    }
    error_clear(error);
}

/* By a connection of its own, as a person with a tool has it. */
static void run_sql(const struct fixture *f, const char *sql) {
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(scratch_path(&f->scratch, "data/onp.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void lists_have_limits(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store_event *events = NULL;
    struct store_job *jobs = NULL;
    struct store_object *objects = NULL;
    size_t count = 0;
    bool more = false;
    char label[400], id[ID_SIZE];
    const struct store_job_filter filter = {.state = JOB_STATE_COUNT, .label = label};
    static const size_t LIMITS[] = {0, STORE_LIST_MAX + 1};
    fixture_job(f, 0, id);
    for (size_t i = 0; i < sizeof LIMITS / sizeof LIMITS[0]; i++) {
        refused(store_event_list(f->store, id, 0, LIMITS[i], &events, &count, &more, &error), STATUS_INVALID, &error,
                "expected 1 to 200");
        refused(store_job_list(f->store, NULL, NULL, LIMITS[i], &jobs, &count, &more, &error), STATUS_INVALID, &error,
                "expected 1 to 200");
        refused(store_object_list(f->store, STORE_MODEL, NULL, LIMITS[i], &objects, &count, &more, &error),
                STATUS_INVALID, &error, "expected 1 to 200");
    }
    memset(label, 'k', sizeof label - 1);
    label[sizeof label - 1] = '\0';
    refused(store_job_list(f->store, &filter, NULL, 1, &jobs, &count, &more, &error), STATUS_INVALID, &error,
            "the key of the label is too long");
}

static void requests_are_checked(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store_job job;
    struct store_job_request request = fixture_request(f);
    const double deadlines[] = {-1, NAN, INFINITY};
    const char *const labels[] = {"[]", "{\"a=b\": \"c\"}", "{\"\": \"c\"}", "{\"a\": 1}"};
    request.method = "a method whose name is longer than any";
    refused(store_job_insert(f->store, &request, 0, &job, &error), STATUS_INVALID, &error, "a name of 38 bytes");
    request = fixture_request(f);
    for (size_t i = 0; i < 3; i++) {
        request.deadline_s = deadlines[i];
        refused(store_job_insert(f->store, &request, 0, &job, &error), STATUS_INVALID, &error, "the deadline");
    }
    request.deadline_s = 0;
    for (size_t i = 0; i < sizeof labels / sizeof labels[0]; i++) {
        json_t *json = json_loads(labels[i], 0, NULL);
        assert_non_null(json);
        request.labels = json;
        refused(store_job_insert(f->store, &request, 0, &job, &error), STATUS_INVALID, &error, "label");
        json_decref(json);
    }
    json_t *many = json_object();
    for (int i = 0; i <= STORE_LABELS_MAX; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%d", i);
        assert_int_equal(json_object_set_new(many, key, json_string("")), 0);
    }
    request.labels = many;
    refused(store_job_insert(f->store, &request, 0, &job, &error), STATUS_INVALID, &error, "at most 32 members");
    json_decref(many);
    assert_int_equal(fixture_number(f, "SELECT count(*) FROM jobs"), 0);
}

static void uploads_end_once(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store_upload *upload = NULL;
    struct store_object object;
    struct store_blob blob;
    bool existed = false;
    assert_ok(store_upload_begin(f->store, 100, &upload, &error), &error);
    assert_ok(store_upload_write(upload, "abc", 3, &error), &error);
    refused(store_object_insert(f->store, STORE_MODEL, upload, "\xc3(", NULL, &object, &existed, &error),
            STATUS_INVALID, &error, "the name is not UTF-8");
    assert_ok(store_upload_finish(upload, &blob, &error), &error);
    refused(store_upload_write(upload, "d", 1, &error), STATUS_CONFLICT, &error, "has failed or is finished");
    store_upload_abort(upload);
    assert_int_equal(fixture_number(f, "SELECT count(*) FROM models"), 1);
}

static void count_room(void *user, const char *topic) {
    (void)topic;
    (void)atomic_fetch_add((atomic_int *)user, 1);
}

/* Large ones are written by a thread each, up to some; those beyond by whom they come to. All hold what was sent. */
static void large_uploads_are_whole(void **state) {
    enum { UPLOADS = 6, PIECES = 12 };
    struct fixture *f = *state;
    struct error error = {0};
    struct store_upload *uploads[UPLOADS] = {NULL};
    struct store_blob blob, same;
    atomic_int rooms = 0;
    unsigned char *piece = mem_alloc(STORE_UPLOAD_PIECE, 1);
    assert_non_null(piece);
    store_set_listener(f->store, count_room, &rooms);
    for (size_t i = 0; i < UPLOADS; i++) {
        assert_ok(store_upload_begin(f->store, UINT64_MAX, &uploads[i], &error), &error);
    }
    for (int k = 0; k < PIECES; k++) {
        memset(piece, 'a' + k, STORE_UPLOAD_PIECE);
        for (size_t i = 0; i < UPLOADS; i++) {
            struct patience patience = {0};
            while (store_upload_full(uploads[i]) != NULL) {
                assert_true(patience_nap(&patience));
            }
            assert_ok(store_upload_write(uploads[i], piece, STORE_UPLOAD_PIECE, &error), &error);
        }
    }
    assert_ok(store_upload_finish(uploads[0], &same, &error), &error);
    assert_int_equal(same.size, (uint64_t)PIECES * STORE_UPLOAD_PIECE);
    for (size_t i = 1; i < UPLOADS - 1; i++) {
        assert_ok(store_upload_finish(uploads[i], &blob, &error), &error);
        assert_string_equal(blob.sha256, same.sha256);
        assert_int_equal(blob.size, same.size);
    }
    for (size_t i = 0; i < UPLOADS; i++) { /* the last one in the middle */
        store_upload_abort(uploads[i]);
    }
    store_set_listener(f->store, NULL, NULL);
    mem_free(piece);
    assert_int_equal(fixture_files(f, "tmp"), 0);
}

static void answers_have_a_size(void **state) {
    enum { LENGTH = 1 << 20 };
    struct fixture *f = *state;
    struct error error = {0};
    const struct store_idempotency_key key = {"tok", "key"};
    enum store_idempotency found = STORE_IDEMPOTENCY_OTHER;
    struct store_answer answer = {.code = 201, .body = mem_alloc(LENGTH + 1, 1)};
    assert_non_null(answer.body);
    memset(answer.body, 'x', LENGTH);
    answer.body[LENGTH] = '\0';
    struct store_answer before;
    assert_ok(store_idempotency_begin(f->store, &key, "print", 1000000, &found, &before, &error), &error);
    assert_int_equal(found, STORE_IDEMPOTENCY_NEW);
    refused(store_idempotency_finish(f->store, &key, &answer, &error), STATUS_LIMIT, &error, "got 1048576 bytes");
    assert_ok(store_idempotency_finish(f->store, &key, NULL, &error), &error);
    mem_free(answer.body);
}

static void tables_have_an_end(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store_token token, *tokens = NULL;
    struct store_resumable upload;
    char secret[SECRET_SIZE], metadata[STORE_METADATA_SIZE + 1];
    size_t count = 0;
    run_sql(f, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) INSERT INTO tokens"
               " (id, name, sha256, scopes, created_ms, expires_ms)"
               " SELECT printf('tok_%026d', i), '', printf('%064x', i), 8 + 7, i, 0 FROM n");
    refused(store_token_create(f->store, "more", 1U << SCOPE_ADMIN, 0, secret, &token, &error), STATUS_LIMIT, &error,
            "got 10000, the most there may be");
    assert_ok(store_token_list(f->store, &tokens, &count, &error), &error);
    assert_int_equal(count, 10000);
    mem_free(tokens);

    run_sql(f, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) INSERT INTO uploads"
               " (id, length, metadata, created_ms, expires_ms) SELECT printf('upl_%026d', i), 1, '', 1, 1 FROM n");
    refused(store_resumable_create(f->store, 1, "", 1000, &upload, &error), STATUS_LIMIT, &error,
            "got 1000, the most there may be");
    while (fixture_number(f, "SELECT count(*) FROM uploads") > 0) {
        assert_ok(store_resumable_purge(f->store, 2, &error), &error);
    }
    memset(metadata, 'm', sizeof metadata - 1);
    metadata[sizeof metadata - 1] = '\0';
    refused(store_resumable_create(f->store, 1, metadata, 1000, &upload, &error), STATUS_LIMIT, &error,
            "at most 1023 bytes of metadata");
    refused(store_resumable_create(f->store, UINT64_MAX, "", 1000, &upload, &error), STATUS_LIMIT, &error, "metadata");
    assert_int_equal(fixture_number(f, "SELECT count(*) FROM uploads"), 0);
}

static void pieces_are_checked(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store_resumable row, found;
    struct store_upload *upload = NULL;
    struct store_piece *piece = NULL;
    assert_ok(store_resumable_create(f->store, 4, "", 1000000, &row, &error), &error);
    refused(store_resumable_open(f->store, &row, &upload, &error), STATUS_CONFLICT, &error, "got 0 of 4 bytes");
    assert_ok(store_piece_begin(f->store, &row, &piece, &error), &error);
    assert_ok(store_piece_write(piece, "abc", 3, &error), &error);
    refused(store_piece_write(piece, "de", 2, &error), STATUS_LIMIT, &error, "more than 4 bytes");
    refused(store_piece_write(piece, "d", 1, &error), STATUS_LIMIT, &error, "more than 4 bytes"); /* it has failed */
    assert_int_equal(store_piece_offset(piece), 3);
    store_piece_undo(piece);
    assert_int_equal(store_piece_offset(piece), 0);
    store_piece_hold(piece);
    store_piece_free(piece);
    assert_ok(store_resumable_delete(f->store, row.id, &error), &error);
    refused(store_piece_commit(piece, 3, 1000, &error), STATUS_NOT_FOUND, &error, "it was deleted");
    store_piece_free(piece);
    refused(store_resumable_delete(f->store, row.id, &error), STATUS_NOT_FOUND, &error, "there is none");
    refused(store_resumable_find(f->store, row.id, &found, &error), STATUS_NOT_FOUND, &error, "there is none");
    /* A folder where the file would be. */
    assert_ok(store_resumable_create(f->store, 4, "", 1000000, &row, &error), &error);
    char path[STORE_PATH_SIZE];
    (void)snprintf(path, sizeof path, "%s/data/uploads/%s", f->scratch.path, row.id);
    assert_int_equal(mkdir(path, 0700), 0);
    refused(store_piece_begin(f->store, &row, &piece, &error), STATUS_IO, &error, "failed to store a piece");
    assert_int_equal(rmdir(path), 0);
}

static void write_piece(struct store *store, struct store_resumable *row, const char *text, size_t counted) {
    struct error error = {0};
    struct store_piece *piece = NULL;
    assert_ok(store_resumable_create(store, 100, "", 1000000, row, &error), &error);
    assert_ok(store_piece_begin(store, row, &piece, &error), &error);
    assert_ok(store_piece_write(piece, text, strlen(text), &error), &error);
    assert_ok(store_piece_commit(piece, counted, 1000000, &error), &error);
    store_piece_free(piece);
}

/* At a start: what a row does not count is cut off, what it counts and is not there loses the row, files without a row go. */
static void a_start_puts_uploads_in_order(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store_resumable longer, shorter, lost, found;
    struct stat info;
    char path[STORE_PATH_SIZE], stray[STORE_PATH_SIZE];
    write_piece(f->store, &longer, "abcdef", 4);
    write_piece(f->store, &shorter, "abcdef", 6);
    write_piece(f->store, &lost, "abcdef", 6);
    (void)snprintf(path, sizeof path, "%s/data/uploads/%s", f->scratch.path, shorter.id);
    assert_int_equal(truncate(path, 2), 0);
    (void)snprintf(path, sizeof path, "%s/data/uploads/%s", f->scratch.path, lost.id);
    assert_int_equal(unlink(path), 0);
    (void)snprintf(stray, sizeof stray, "%s/data/uploads/upl_00000000000000000000000000", f->scratch.path);
    assert_ok(file_write_atomic(stray, "x", 1, &error), &error);
    fixture_reopen(f);
    (void)snprintf(path, sizeof path, "%s/data/uploads/%s", f->scratch.path, longer.id);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, 4);
    assert_int_equal(access(stray, F_OK), -1);
    assert_ok(store_resumable_find(f->store, longer.id, &found, &error), &error);
    assert_int_equal(found.taken, 4);
    refused(store_resumable_find(f->store, shorter.id, &found, &error), STATUS_NOT_FOUND, &error, "there is none");
    refused(store_resumable_find(f->store, lost.id, &found, &error), STATUS_NOT_FOUND, &error, "there is none");
    assert_int_equal(fixture_files(f, "uploads"), 1);
}

static void overwrite(const char *path, const char *text, size_t at) {
    assert_int_equal(chmod(path, 0600), 0);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static void copies_hold_together(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store_backup_figures figures;
    struct store_object object;
    char blob[STORE_PATH_SIZE], copy[STORE_PATH_SIZE], other[STORE_PATH_SIZE];
    (void)snprintf(copy, sizeof copy, "%s", scratch_path(&f->scratch, "copy"));
    (void)snprintf(other, sizeof other, "%s", scratch_path(&f->scratch, "other"));
    assert_ok(store_object_find(f->store, STORE_MODEL, f->model_id, &object, &error), &error);
    assert_ok(store_blob_path(f->store, object.blob.sha256, blob, &error), &error);
    store_object_deinit(&object);

    refused(store_backup(other, copy, &figures, &error), STATUS_IO, &error, "failed to read the database");
    overwrite(blob, "MODEL", 0);
    refused(store_backup(store_data_dir(f->store), copy, &figures, &error), STATUS_INVALID, &error,
            "its bytes have another hash");
    overwrite(blob, "model", 0);
    assert_int_equal(rename(blob, other), 0);
    refused(store_backup(store_data_dir(f->store), copy, &figures, &error), STATUS_NOT_FOUND, &error,
            "it is not there");
    assert_int_equal(rename(other, blob), 0);
    assert_ok(store_backup(store_data_dir(f->store), copy, &figures, &error), &error);
    assert_int_equal(figures.blobs, 2);
    refused(store_restore(copy, store_data_dir(f->store), &figures, &error), STATUS_CONFLICT, &error,
            "holds a store already");
    assert_ok(store_restore(copy, other, &figures, &error), &error);
    assert_int_equal(figures.copied, 2);

    /* A database that is none, and one with a page that is not. */
    char database[STORE_PATH_SIZE + 16];
    (void)snprintf(database, sizeof database, "%s/onp.db", copy);
    overwrite(database, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 4096 + 8);
    assert_int_not_equal(store_restore(copy, scratch_path(&f->scratch, "third"), &figures, &error), STATUS_OK);
    assert_true(error.message[0] != '\0');
    error_clear(&error);
    overwrite(database, "this is not a database", 0);
    assert_int_not_equal(store_restore(copy, scratch_path(&f->scratch, "fourth"), &figures, &error), STATUS_OK);
    assert_true(error.message[0] != '\0');
}

/* A tool, or a disk, has changed what is in a row: it is told, not used. */
static void rows_that_are_broken(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store_job job, *jobs = NULL;
    size_t count = 0;
    bool more = false;
    char id[ID_SIZE];
    fixture_job(f, 0, id);
    run_sql(f, "UPDATE jobs SET parameters = '{'");
    refused(store_job_find(f->store, id, &job, &error), STATUS_INTERNAL, &error,
            "failed to read a column of the database");
    refused(store_job_list(f->store, NULL, NULL, 10, &jobs, &count, &more, &error), STATUS_INTERNAL, &error,
            "failed to read a column of the database");
    refused(store_job_claim(f->store, 1000, &job, &error), STATUS_INTERNAL, &error,
            "failed to read a column of the database");
    run_sql(f, "UPDATE jobs SET parameters = '{}'");
    assert_ok(store_job_find(f->store, id, &job, &error), &error);
    assert_int_equal(job.state, JOB_QUEUED);
    store_job_deinit(&job);
}

static void open_refused(const struct fixture *f, const char *folder, const struct embedded_file *migrations,
                         enum status expected, const char *words) {
    struct error error = {0};
    struct store *store = NULL;
    refused(store_open(scratch_path(&f->scratch, folder), migrations, &store, &error), expected, &error, words);
    assert_null(store);
}

static void folders_that_are_no_store(void **state) {
    struct fixture *f = *state;
    static const struct embedded_file NAMES[][2] = {
        {{"1_x.sql", (const unsigned char *)"", 0}, {NULL, NULL, 0}},
        {{"0002_x.sql", (const unsigned char *)"", 0}, {NULL, NULL, 0}},
        {{"0001-x.sql", (const unsigned char *)"", 0}, {NULL, NULL, 0}},
    };
    struct error error = {0};
    assert_ok(file_write_atomic(scratch_path(&f->scratch, "file"), "x", 1, &error), &error);
    assert_int_equal(mkdir(scratch_path(&f->scratch, "locked"), 0700), 0);
    assert_int_equal(mkdir(scratch_path(&f->scratch, "locked/lock"), 0700), 0);
    open_refused(f, "locked", NULL, STATUS_IO, "failed to open the lock file");
    assert_int_equal(mkdir(scratch_path(&f->scratch, "folder"), 0700), 0);
    assert_int_equal(mkdir(scratch_path(&f->scratch, "folder/onp.db"), 0700), 0);
    open_refused(f, "folder", NULL, STATUS_IO, "open the database");
    open_refused(f, "file", NULL, STATUS_CONFLICT, "got a file of that name");
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        open_refused(f, "named", NAMES[i], STATUS_INTERNAL, "expected 0001_<what>.sql");
    }
    run_sql(f, "PRAGMA user_version = 999");
    store_close(f->store);
    f->store = NULL;
    open_refused(f, "data", NULL, STATUS_UNSUPPORTED, "got schema 999 of a newer release");
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(lists_have_limits),       CASE(requests_are_checked),          CASE(uploads_end_once),
        CASE(large_uploads_are_whole), CASE(answers_have_a_size),           CASE(tables_have_an_end),
        CASE(pieces_are_checked),      CASE(a_start_puts_uploads_in_order), CASE(copies_hold_together),
        CASE(rows_that_are_broken),    CASE(folders_that_are_no_store),
    };
    return cmocka_run_group_tests_name("store: refusals", tests, NULL, NULL);
}
