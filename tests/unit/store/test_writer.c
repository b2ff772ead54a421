/* The writer under several threads, killed in the middle, opened twice, and its migrations. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/mem.h"
#include "tests/unit/store/fixture.h"

enum { THREADS = 6, JOBS_EACH = 25, KILLS = 5 };

/* --- threads --- */

struct crowd {
    struct fixture *fixture;
    atomic_uint claimed[THREADS * JOBS_EACH];
    atomic_uint failures;
    atomic_uint next;
    atomic_uint told;
};

static void *insert_many(void *user) {
    struct crowd *crowd = user;
    for (int i = 0; i < JOBS_EACH; i++) {
        struct error error = {0};
        struct store_job job;
        struct store_job_request request = fixture_request(crowd->fixture);
        request.seed = atomic_fetch_add(&crowd->next, 1);
        if (store_job_insert(crowd->fixture->store, &request, 0, &job, &error) != STATUS_OK) {
            atomic_fetch_add(&crowd->failures, 1);
            continue;
        }
        struct store_job read;
        if (store_job_find(crowd->fixture->store, job.id, &read, &error) != STATUS_OK || read.seed != request.seed) {
            atomic_fetch_add(&crowd->failures, 1);
        } else {
            store_job_deinit(&read);
        }
        store_job_deinit(&job);
    }
    return NULL;
}

static void *claim_all(void *user) {
    struct crowd *crowd = user;
    enum status status;
    do {
        struct error error = {0};
        struct store_job job;
        status = store_job_claim(crowd->fixture->store, 60000, &job, &error);
        if (status == STATUS_OK) {
            atomic_fetch_add(&crowd->claimed[job.seed], 1);
            store_job_deinit(&job);
        }
    } while (status == STATUS_OK);
    if (status != STATUS_NOT_FOUND) {
        atomic_fetch_add(&crowd->failures, 1);
    }
    return NULL;
}

static void count_change(void *user, const char *job_id) {
    struct crowd *crowd = user;
    if (strncmp(job_id, "job_", 4) == 0) {
        atomic_fetch_add(&crowd->told, 1);
    }
}

static void run_threads(struct crowd *crowd, void *(*run)(void *)) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, run, crowd), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

static void many_threads_each_job_claimed_once(void **state) {
    struct fixture *f = *state;
    static struct crowd crowd;
    crowd.fixture = f;
    store_set_listener(f->store, count_change, &crowd);
    run_threads(&crowd, insert_many);
    run_threads(&crowd, claim_all);
    store_set_listener(f->store, NULL, NULL);
    assert_int_equal(atomic_load(&crowd.failures), 0);
    for (int i = 0; i < THREADS * JOBS_EACH; i++) {
        assert_int_equal(atomic_load(&crowd.claimed[i]), 1);
    }
    assert_in_range(atomic_load(&crowd.told), THREADS * JOBS_EACH, 2 * THREADS * JOBS_EACH);
}

/* --- kill -9 --- */

/* In the process to be killed: makes jobs and objects and tells each id once the store has said that it is there. */
static void write_forever(const struct fixture *f, int pipe) {
    struct error error = {0};
    struct store *store = NULL;
    if (store_open(scratch_path(&f->scratch, "data"), NULL, &store, &error) != STATUS_OK) {
        _exit(1);
    }
    for (unsigned i = 0;; i++) {
        struct store_job job;
        struct store_job_request request = fixture_request(f);
        struct store_progress progress = {.stage = STAGE_LOAD, .step = i};
        char id[ID_SIZE];
        char text[64];
        (void)snprintf(text, sizeof text, "bytes %d %u", (int)getpid(), i);
        fixture_object(store, STORE_MODEL, text, text, id);
        if (write(pipe, id, ID_SIZE) != ID_SIZE || store_job_insert(store, &request, 0, &job, &error) != STATUS_OK ||
            write(pipe, job.id, ID_SIZE) != ID_SIZE) {
            _exit(2);
        }
        store_job_deinit(&job);
        if (store_job_claim(store, 60000, &job, &error) != STATUS_OK ||
            store_job_progress(store, job.id, job.attempt, 60000, &progress, &error) != STATUS_OK) {
            _exit(3);
        }
        store_job_deinit(&job);
    }
}

static void expect_all(struct fixture *f, int pipe, size_t *seen) {
    char id[ID_SIZE];
    struct error error = {0};
    while (read(pipe, id, ID_SIZE) == ID_SIZE) {
        if (strncmp(id, "job_", 4) == 0) {
            struct store_job job;
            assert_ok(store_job_find(f->store, id, &job, &error), &error);
            store_job_deinit(&job);
        } else {
            struct store_object object;
            char path[STORE_PATH_SIZE];
            char digest[DIGEST_HEX_SIZE];
            assert_ok(store_object_find(f->store, STORE_MODEL, id, &object, &error), &error);
            assert_ok(store_blob_path(f->store, object.blob.sha256, path, &error), &error);
            assert_ok(digest_file(path, digest, &error), &error);
            assert_string_equal(digest, object.blob.sha256);
            store_object_deinit(&object);
        }
        (*seen)++;
    }
}

static void nothing_told_is_lost_by_kill_9(void **state) {
    struct fixture *f = *state;
    size_t seen = 0;
    for (unsigned i = 0; i < KILLS; i++) {
        int ends[2];
        int status = 0;
        store_close(f->store);
        f->store = NULL;
        assert_int_equal(pipe(ends), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            (void)close(ends[0]);
            write_forever(f, ends[1]);
            _exit(4);
        }
        (void)close(ends[1]);
        (void)usleep(100000 + 37000 * i);
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        struct error error = {0};
        assert_ok(store_open(scratch_path(&f->scratch, "data"), NULL, &f->store, &error), &error);
        char integrity[32];
        fixture_text(f, "PRAGMA integrity_check", integrity, sizeof integrity);
        assert_string_equal(integrity, "ok");
        assert_int_equal(fixture_number(f, "SELECT count(*) FROM pragma_foreign_key_check"), 0);
        expect_all(f, ends[0], &seen);
        (void)close(ends[0]);
        assert_int_equal(fixture_files(f, "blobs"), fixture_number(f, "SELECT count(*) FROM blobs"));
        assert_int_equal(fixture_files(f, "tmp"), 0);
    }
    assert_true(seen > 0);
}

static void a_folder_is_opened_once(void **state) {
    struct fixture *f = *state;
    struct error error = {0};
    struct store *second = NULL;
    assert_int_equal(store_open(scratch_path(&f->scratch, "data"), NULL, &second, &error), STATUS_CONFLICT);
    assert_null(second);
}

/* --- migrations --- */

#define MIGRATION(file, sql)                                                                                           \
    { .name = (file), .data = (const unsigned char *)(sql), .size = sizeof(sql) - 1 }
#define LAST                                                                                                           \
    { .name = NULL }

static enum status open_with(struct fixture *f, const struct embedded_file *migrations, struct error *error) {
    struct store *store = NULL;
    enum status status = store_open(scratch_path(&f->scratch, "data"), migrations, &store, error);
    store_close(store);
    return status;
}

static void migrations_are_applied_once_and_whole(void **state) {
    struct fixture *f = *state;
    static const char SECOND[] = "CREATE TABLE extra (a INTEGER) STRICT; INSERT INTO extra VALUES (1);";
    struct embedded_file two[3] = {{0}};
    two[0] = embedded_migrations[0];
    two[1] = (struct embedded_file)MIGRATION("0002_extra.sql", SECOND);
    struct embedded_file broken[4] = {two[0], two[1], MIGRATION("0003_bad.sql", "CREATE TABLE c (x); CREATE nonsense"),
                                      LAST};
    struct embedded_file gap[3] = {two[0], MIGRATION("0003_gap.sql", SECOND), LAST};
    struct error errors[4] = {0};
    int64_t version = fixture_number(f, "PRAGMA user_version");
    fixture_reopen(f);
    assert_int_equal(fixture_number(f, "PRAGMA user_version"), version);
    store_close(f->store);
    f->store = NULL;
    if (version == 1) {
        assert_int_equal(open_with(f, gap, &errors[0]), STATUS_INTERNAL);
        assert_int_equal(fixture_number(f, "PRAGMA user_version"), 1);
        for (int i = 0; i < 2; i++) {
            assert_ok(open_with(f, two, &errors[1]), &errors[1]);
            assert_int_equal(fixture_number(f, "PRAGMA user_version"), 2);
            assert_int_equal(fixture_number(f, "SELECT count(*) FROM extra"), 1);
        }
        assert_int_not_equal(open_with(f, broken, &errors[2]), STATUS_OK);
        assert_int_equal(fixture_number(f, "PRAGMA user_version"), 2);
        assert_int_equal(fixture_number(f, "SELECT count(*) FROM sqlite_schema WHERE name = 'c'"), 0);
    }
    /* The release that knows only the first schema refuses the newer one. */
    assert_int_equal(open_with(f, NULL, &errors[3]), version == 1 ? STATUS_UNSUPPORTED : STATUS_OK);
}

static void out_of_memory_is_an_error_not_a_crash(void **state) {
    struct fixture *f = *state;
    store_close(f->store);
    f->store = NULL;
    bool opened = false;
    for (uint64_t n = 1; n < 200 && !opened; n++) {
        struct error error = {0};
        struct store *store = NULL;
        mem_fail_after(n);
        enum status status = store_open(scratch_path(&f->scratch, "data"), NULL, &store, &error);
        mem_fail_after(0);
        opened = status == STATUS_OK;
        assert_true(opened || status == STATUS_NO_MEMORY);
        store_close(store);
    }
    assert_true(opened);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        CASE(many_threads_each_job_claimed_once),
        CASE(nothing_told_is_lost_by_kill_9),
        CASE(a_folder_is_opened_once),
        CASE(migrations_are_applied_once_and_whole),
        CASE(out_of_memory_is_an_error_not_a_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
