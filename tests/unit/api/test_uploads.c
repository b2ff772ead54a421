/* Resumable uploads: offsets, checksums, breaks, restarts, completion. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "server/api/upload_checksum.h"
#include "server/store/store_resumable.h"
#include "tests/support/cm.h"
#include "tests/support/patience.h"
#include "tests/unit/api/world.h"

#define TUS "Tus-Resumable: 1.0.0\r\n"
#define PIECE TUS "Content-Type: application/offset+octet-stream\r\n"
#define META "Upload-Metadata: kind bW9kZWw=,filename YSBuYW1l\r\n" /* model, "a name" */

/* Begins an upload of `length` bytes; its path. */
static const char *begin(struct world *world, size_t length, const char *fields) {
    static char path[128];
    char text[256];
    const char *answer;
    int code = 0;

    (void)snprintf(text, sizeof(text), TUS "Upload-Length: %zu\r\n%s", length, fields);
    json_decref(ask_with(world, "POST", "/v1/uploads", text, NULL, &code, &answer));
    assert_int_equal(code, 201);
    assert_non_null(strstr(field_of(answer, "Upload-Expires"), " GMT"));
    (void)snprintf(path, sizeof(path), "%s", field_of(answer, "Location"));
    return path;
}

static int send_piece(struct world *world, const char *path, size_t offset, const char *fields, const char *bytes,
                      const char **answer) {
    char text[512];
    int code = 0;

    (void)snprintf(text, sizeof(text), PIECE "Upload-Offset: %zu\r\n%s", offset, fields);
    json_decref(ask_with(world, "PATCH", path, text, bytes, &code, answer));
    return code;
}

static long offset_of(struct world *world, const char *path) {
    const char *answer;
    int code = 0;

    json_decref(ask_with(world, "HEAD", path, TUS, NULL, &code, &answer));
    assert_int_equal(code, 200);
    assert_string_equal(field_of(answer, "Cache-Control"), "no-store");
    return strtol(field_of(answer, "Upload-Offset"), NULL, 10);
}

static int complete(struct world *world, const char *path, const char *body, char id[ID_SIZE]) {
    char text[160];
    int code = 0;
    json_t *json;

    (void)snprintf(text, sizeof(text), "%s/complete", path);
    json = ask(world, "POST", text, body, &code);
    (void)snprintf(id, ID_SIZE, "%s", code < 300 ? text_of(json, "id") : "");
    if (code < 300) {
        assert_string_equal(text_of(json, "name"), "a name");
    }
    json_decref(json);
    return code;
}

static void test_life(void **state) {
    struct world *world = *state;
    char id[ID_SIZE], again[ID_SIZE], direct[ID_SIZE];
    const char *answer, *path = begin(world, 10, META);

    assert_int_equal(offset_of(world, path), 0);
    assert_int_equal(complete(world, path, NULL, id), 409); /* nothing there yet */
    assert_int_equal(send_piece(world, path, 0, "", "good ", &answer), 204);
    assert_string_equal(field_of(answer, "Upload-Offset"), "5");
    assert_string_equal(field_of(answer, "Tus-Resumable"), "1.0.0");
    assert_int_equal(send_piece(world, path, 0, "", "good ", &answer), 409); /* another offset */
    assert_int_equal(send_piece(world, path, 5, "", "bytes!", &answer), 413);
    assert_int_equal(offset_of(world, path), 5);
    assert_int_equal(send_piece(world, path, 5, "", "bytes", &answer), 204);
    assert_int_equal(offset_of(world, path), 10);
    assert_int_equal(complete(world, path, NULL, id), 201);
    assert_memory_equal(id, "mdl_", 4);
    assert_int_equal(complete(world, path, NULL, again), 200); /* the answer got lost */
    assert_string_equal(id, again);
    upload(world, "/v1/models", "good bytes", 200, direct); /* the same bytes, sent directly */
    assert_string_equal(id, direct);
    assert_int_equal(send_piece(world, path, 10, "", "", &answer), 409);
}

static void test_same_checks_as_direct(void **state) {
    struct world *world = *state;
    char id[ID_SIZE];
    const char *path = begin(world, 3, ""), *answer;

    assert_int_equal(send_piece(world, path, 0, "", "bad", &answer), 204);
    assert_int_equal(complete(world, path, NULL, id), 422); /* what is it? */
    assert_int_equal(complete(world, path, "{\"kind\": \"magic\"}", id), 422);
    assert_int_equal(complete(world, path, "{\"kind\": \"samples\", \"name\": \"a name\"}", id), 422);
    assert_int_equal(code_of(world, "GET", "/v1/samples", NULL, NULL), 200);
}

static void test_protocol(void **state) {
    struct world *world = *state;
    const char *path, *answer;
    int code = 0;

    json_decref(ask_with(world, "OPTIONS", "/v1/uploads", "", NULL, &code, &answer));
    assert_int_equal(code, 204);
    assert_string_equal(field_of(answer, "Tus-Version"), "1.0.0");
    assert_string_equal(field_of(answer, "Tus-Extension"), "creation,expiration,checksum,termination");
    assert_string_equal(field_of(answer, "Tus-Max-Size"), "1048576");
    json_decref(ask_with(world, "POST", "/v1/uploads", "Upload-Length: 1\r\n", NULL, &code, NULL));
    assert_int_equal(code, 412);
    json_decref(ask_with(world, "POST", "/v1/uploads", TUS, NULL, &code, NULL));
    assert_int_equal(code, 400);
    json_decref(ask_with(world, "POST", "/v1/uploads", TUS "Upload-Length: 1048577\r\n", NULL, &code, NULL));
    assert_int_equal(code, 413);
    json_decref(ask_with(world, "POST", "/v1/uploads", TUS "Upload-Length: 1\r\nUpload-Metadata: name %\r\n", NULL,
                         &code, NULL));
    assert_int_equal(code, 400);
    path = begin(world, 4, META);
    json_decref(ask_with(world, "PATCH", path, TUS "Upload-Offset: 0\r\n", "abcd", &code, NULL));
    assert_int_equal(code, 415);
    json_decref(ask_with(world, "POST", path, PIECE "X-HTTP-Method-Override: PATCH\r\nUpload-Offset: 0\r\n", "abcd",
                         &code, NULL));
    assert_int_equal(code, 204);
    json_decref(ask_with(world, "DELETE", path, TUS, NULL, &code, NULL));
    assert_int_equal(code, 204);
    json_decref(ask_with(world, "HEAD", path, TUS, NULL, &code, NULL));
    assert_int_equal(code, 404);
}

static void test_checksums(void **state) {
    struct world *world = *state;
    const char *answer, *path = begin(world, 6, META);

    /* printf abc | openssl dgst -sha1 -binary | base64 */
    assert_int_equal(
        send_piece(world, path, 0, "Upload-Checksum: sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=\r\n", "abd", &answer), 460);
    assert_int_equal(offset_of(world, path), 0);
    assert_int_equal(
        send_piece(world, path, 0, "Upload-Checksum: sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=\r\n", "abc", &answer), 204);
    assert_int_equal(send_piece(world, path, 3,
                                "Upload-Checksum: sha256 ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=\r\n", "abc",
                                &answer),
                     204);
    assert_int_equal(send_piece(world, path, 6, "Upload-Checksum: md5 abc\r\n", "", &answer), 400);
}

/* A connection that breaks in a piece: what came is kept, or with a checksum nothing of it. */
static void test_breaks(void **state) {
    struct world *world = *state;
    struct patience patience = {0};
    char text[512], path[2][128];

    for (int with = 0; with < 2; with++) {
        int fd = live_connect(&world->live), length;
        char go_on[64] = "";
        (void)snprintf(path[with], sizeof(path[0]), "%s", begin(world, 100, META));
        length = snprintf(text, sizeof(text),
                          "PATCH %s HTTP/1.1\r\n" HEAD PIECE "Upload-Offset: 0\r\n%sExpect: 100-continue\r\n"
                          "Content-Length: 100\r\n\r\n",
                          path[with], with ? "Upload-Checksum: sha1 qZk+NkcGgWq6PiVxeFDCbJzQ2J0=\r\n" : "");
        assert_int_equal(send(fd, text, (size_t)length, 0), length);
        assert_true(recv(fd, go_on, sizeof(go_on) - 1, 0) > 0); /* the piece has begun */
        assert_int_equal(strncmp(go_on, "HTTP/1.1 100 ", 13), 0);
        assert_int_equal(send(fd, "seven b", 7, 0), 7);
        assert_int_equal(send_piece(world, path[with], 0, "", "x", NULL), 409); /* one piece at a time */
        (void)close(fd);
    }
    while (offset_of(world, path[0]) != 7 && patience_nap(&patience)) {
    }
    assert_int_equal(offset_of(world, path[0]), 7);
    assert_int_equal(offset_of(world, path[1]), 0);
    while (send_piece(world, path[1], 0, "", "x", NULL) == 409 && patience_nap(&patience)) {
    }
    assert_int_equal(offset_of(world, path[1]), 1);
}

static int setup_small(void **state) {
    return world_setup_with(state, &(struct api_config){.quota_bytes = 30});
}

static void test_quota(void **state) {
    struct world *world = *state;
    char id[ID_SIZE];
    const char *path, *answer;
    int code = 0;

    upload(world, "/v1/models", "good model", 201, id); /* 10 bytes */
    path = begin(world, 12, META);                      /* announced bytes count */
    json_decref(ask_with(world, "POST", "/v1/uploads", TUS "Upload-Length: 9\r\n", NULL, &code, NULL));
    assert_int_equal(code, 413);
    assert_int_equal(code_of(world, "POST", "/v1/models", "good as gold", NULL), 413);
    assert_int_equal(send_piece(world, path, 0, "", "good, better", &answer), 204);
    assert_int_equal(complete(world, path, NULL, id), 201); /* but not twice */
    assert_int_equal(code_of(world, "POST", "/v1/models", "good 123", NULL), 201);
}

static void test_restart(void **state) {
    struct scratch scratch;
    struct store *store = NULL;
    struct store_resumable kept, lost, old, found;
    struct store_piece *piece = NULL;
    struct error error = {0};

    (void)state;
    scratch_make(&scratch);
    assert_int_equal(store_open(scratch_path(&scratch, "data"), NULL, &store, &error), STATUS_OK);
    assert_int_equal(store_resumable_create(store, 100, "", 1000000, &kept, &error), STATUS_OK);
    assert_int_equal(store_resumable_create(store, 100, "", 1000000, &lost, &error), STATUS_OK);
    assert_int_equal(store_resumable_create(store, 100, "", -1, &old, &error), STATUS_OK);
    assert_int_equal(store_piece_begin(store, &kept, &piece, &error), STATUS_OK);
    assert_int_equal(store_piece_write(piece, "counted", 7, &error), STATUS_OK);
    assert_int_equal(store_piece_commit(piece, 7, 1000000, &error), STATUS_OK);
    assert_int_equal(store_piece_write(piece, "not counted", 11, &error), STATUS_OK); /* killed here */
    store_piece_free(piece);
    assert_int_equal(store_resumable_purge(store, clock_wall_ms(), &error), STATUS_OK);
    store_close(store);

    assert_int_equal(store_open(scratch_path(&scratch, "data"), NULL, &store, &error), STATUS_OK);
    assert_int_equal(store_resumable_find(store, kept.id, &found, &error), STATUS_OK);
    assert_int_equal(found.taken, 7);
    assert_int_equal(store_piece_begin(store, &found, &piece, &error), STATUS_OK);
    assert_int_equal(store_piece_offset(piece), 7);
    store_piece_free(piece);
    assert_int_equal(store_resumable_find(store, lost.id, &found, &error),
                     STATUS_OK); /* nothing was sent: nothing is lost */
    assert_int_equal(store_resumable_find(store, old.id, &found, &error), STATUS_NOT_FOUND);
    store_close(store);
    scratch_remove(&scratch);
}

static void test_metadata(void **state) {
    struct error error = {0};
    char out[16];

    (void)state;
    assert_int_equal(upload_metadata_get("a YQ==,b,cd Y2Q=", "cd", out, sizeof(out), &error), STATUS_OK);
    assert_string_equal(out, "cd");
    assert_int_equal(upload_metadata_get("a YQ==,b,cd Y2Q=", "b", out, sizeof(out), &error), STATUS_OK);
    assert_string_equal(out, "");
    assert_int_equal(upload_metadata_get("a YQ==,b,cd Y2Q=", "c", out, sizeof(out), &error), STATUS_OK);
    assert_string_equal(out, "");
    assert_int_equal(upload_metadata_get("a YQ", "a", out, sizeof(out), &error), STATUS_INVALID);
    error_clear(&error);
    assert_int_equal(upload_metadata_get("a AGE=", "a", out, sizeof(out), &error), STATUS_INVALID); /* a NUL */
    error_clear(&error);
    assert_int_equal(upload_metadata_get("a YWFhYWFhYWFhYWFhYWFhYWFh", "a", out, sizeof(out), &error), STATUS_INVALID);
}

int main(void) {
#define LIVE(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        LIVE(test_life),
        LIVE(test_same_checks_as_direct),
        LIVE(test_protocol),
        LIVE(test_checksums),
        LIVE(test_breaks),
        cmocka_unit_test_setup_teardown(test_quota, setup_small, world_teardown),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_metadata),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
