/* A store in a scratch folder with a model and samples in it, and ways to look at the folder and the database from the outside. */
#include "tests/unit/store/fixture.h"

#include <dirent.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"

void assert_ok(enum status status, const struct error *error) {
    if (status != STATUS_OK) {
        print_error("%s: %s: %s\n", status_name(status), error->where, error->message);
    }
    assert_int_equal(status, STATUS_OK);
}

void fixture_object(struct store *store, enum store_kind kind, const char *name, const char *text, char id[ID_SIZE]) {
    struct error error = {0};
    struct store_upload *upload = NULL;
    struct store_object object;
    bool existed = false;
    json_t *info = json_pack("{s:i}", "units", 3);
    assert_ok(store_upload_begin(store, 1024, &upload, &error), &error);
    assert_ok(store_upload_write(upload, text, strlen(text), &error), &error);
    assert_ok(store_object_insert(store, kind, upload, name, info, &object, &existed, &error), &error);
    store_upload_abort(upload);
    memcpy(id, object.id, ID_SIZE);
    store_object_deinit(&object);
    json_decref(info);
}

int fixture_setup(void **state) {
    struct fixture *fixture = mem_calloc(1, sizeof(*fixture));
    struct error error = {0};
    assert_non_null(fixture);
    log_set_level(LOG_ERROR);
    scratch_make(&fixture->scratch);
    assert_ok(store_open(scratch_path(&fixture->scratch, "data"), NULL, &fixture->store, &error), &error);
    fixture_object(fixture->store, STORE_MODEL, "net", "model bytes", fixture->model_id);
    fixture_object(fixture->store, STORE_SAMPLES, "clean", "samples bytes", fixture->samples_id);
    *state = fixture;
    return 0;
}

int fixture_teardown(void **state) {
    struct fixture *fixture = *state;
    store_close(fixture->store);
    scratch_remove(&fixture->scratch);
    mem_free(fixture);
    return 0;
}

void fixture_reopen(struct fixture *fixture) {
    struct error error = {0};
    store_close(fixture->store);
    fixture->store = NULL;
    assert_ok(store_open(scratch_path(&fixture->scratch, "data"), NULL, &fixture->store, &error), &error);
}

struct store_job_request fixture_request(const struct fixture *fixture) {
    return (struct store_job_request){
        .model_id = fixture->model_id, .samples_id = fixture->samples_id, .method = "onp", .seed = 7};
}

void fixture_job(struct fixture *fixture, int priority, char id[ID_SIZE]) {
    struct error error = {0};
    struct store_job job;
    struct store_job_request request = fixture_request(fixture);
    request.priority = priority;
    assert_ok(store_job_insert(fixture->store, &request, 0, &job, &error), &error);
    memcpy(id, job.id, ID_SIZE);
    store_job_deinit(&job);
}

enum job_state fixture_state(struct fixture *fixture, const char *id) {
    struct error error = {0};
    struct store_job job;
    assert_ok(store_job_find(fixture->store, id, &job, &error), &error);
    enum job_state state = job.state;
    store_job_deinit(&job);
    return state;
}

void fixture_text(const struct fixture *fixture, const char *sql, char *out, size_t size) {
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    assert_int_equal(sqlite3_open_v2(scratch_path(&fixture->scratch, "data/onp.db"), &db, SQLITE_OPEN_READWRITE, NULL),
                     SQLITE_OK);
    assert_int_equal(sqlite3_db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &statement, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(statement), SQLITE_ROW);
    const unsigned char *text = sqlite3_column_text(statement, 0);
    (void)snprintf(out, size, "%s", text != NULL ? (const char *)text : "");
    sqlite3_finalize(statement);
    sqlite3_close(db);
}

int64_t fixture_number(const struct fixture *fixture, const char *sql) {
    char text[64];
    fixture_text(fixture, sql, text, sizeof text);
    return strtoll(text, NULL, 10);
}

static size_t count_in(const char *path) {
    size_t count = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        count += entry->d_type == DT_REG ? 1 : 0;
    }
    closedir(dir);
    return count;
}

size_t fixture_files(const struct fixture *fixture, const char *folder) {
    char path[STORE_PATH_SIZE];
    char below[STORE_PATH_SIZE + 300];
    (void)snprintf(path, sizeof path, "%s/data/%.100s", fixture->scratch.path, folder);
    size_t count = count_in(path);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_type == DT_DIR && entry->d_name[0] != '.') {
            (void)snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
            count += count_in(below);
        }
    }
    closedir(dir);
    return count;
}
