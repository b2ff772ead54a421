/* Downloads against canned answers: whole, broken off, from the part of an earlier process, wrong. */
#include "client/api_download.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file.h"
#include "common/mem.h"
#include "tests/support/cm.h"
#include "tests/unit/client/exchange.h"

#define REST_HEAD "HTTP/1.1 206 X\r\nConnection: close\r\n"

static const struct api_download_info ABC = {"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", 3};
#define ABC_ETAG "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\""

struct names {
    char file[PATH_MAX + 16];
    char part[PATH_MAX + 16];
};

static void name_files(const struct exchange *exchange, struct names *names) {
    (void)snprintf(names->file, sizeof names->file, "%s/out", exchange->scratch.path);
    (void)snprintf(names->part, sizeof names->part, "%s/out.part", exchange->scratch.path);
}

static void expect_file(const char *path, const char *text) {
    struct error error = {0};
    char *found = NULL;
    size_t length = 0;
    assert_int_equal(file_read(path, 100, &found, &length, &error), STATUS_OK);
    assert_string_equal(found, text);
    mem_free(found);
}

static void test_whole(void **state) {
    static const char *const answers[] = {OK_HEAD "Content-Length: 3\r\n\r\nabc"};
    struct exchange exchange;
    struct error error = {0};
    struct names names;
    (void)state;
    exchange_begin(&exchange, answers, 1);
    name_files(&exchange, &names);
    assert_int_equal(api_download_file(exchange.client, "/a", &ABC, names.file, &error), STATUS_OK);
    expect_file(names.file, "abc");
    assert_int_not_equal(access(names.part, F_OK), 0);
    canned_server_join(exchange.server);
    assert_null(strstr(canned_server_request(exchange.server, 0), "Range"));
    exchange_end(&exchange);
}

/* It goes on in the same process; then where an earlier one stopped. */
static void test_goes_on(void **state) {
    static const char *const answers[] = {OK_HEAD "Content-Length: 3\r\n\r\na", "",
                                          REST_HEAD "Content-Length: 2\r\n\r\nbc",
                                          REST_HEAD "Content-Length: 1\r\n\r\nc"};
    struct exchange exchange;
    struct error error = {0};
    struct names names;
    (void)state;
    exchange_begin(&exchange, answers, 4);
    name_files(&exchange, &names);
    assert_int_equal(api_download_file(exchange.client, "/a", &ABC, names.file, &error), STATUS_OK);
    expect_file(names.file, "abc");
    assert_int_equal(file_write_atomic(names.part, "ab", 2, &error), STATUS_OK);
    assert_int_equal(api_download_file(exchange.client, "/a", &ABC, names.file, &error), STATUS_OK);
    expect_file(names.file, "abc");
    /* A part that is whole needs no request. */
    assert_int_equal(file_write_atomic(names.part, "abc", 3, &error), STATUS_OK);
    assert_int_equal(api_download_file(exchange.client, "/a", &ABC, names.file, &error), STATUS_OK);
    canned_server_join(exchange.server);
    for (size_t i = 1; i < 4; i++) {
        const char *request = canned_server_request(exchange.server, i);
        assert_non_null(strstr(request, i < 3 ? "\r\nRange: bytes=1-\r\n" : "\r\nRange: bytes=2-\r\n"));
        assert_non_null(strstr(request, "\r\nIf-Range: " ABC_ETAG "\r\n"));
    }
    exchange_end(&exchange);
}

/* The server gives all of it instead of the rest; a part was of something else; a part is too long. */
static void test_starts_over(void **state) {
    static const char *const answers[] = {
        OK_HEAD "Content-Length: 3\r\n\r\nabc", REST_HEAD "Content-Length: 1\r\n\r\nc",
        OK_HEAD "Content-Length: 3\r\n\r\nabc", OK_HEAD "Content-Length: 3\r\n\r\nabc"};
    struct exchange exchange;
    struct error error = {0};
    struct names names;
    (void)state;
    exchange_begin(&exchange, answers, 4);
    name_files(&exchange, &names);
    static const char *const parts[] = {"xy", "xy", "too long"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(file_write_atomic(names.part, parts[i], strlen(parts[i]), &error), STATUS_OK);
        assert_int_equal(api_download_file(exchange.client, "/a", &ABC, names.file, &error), STATUS_OK);
        expect_file(names.file, "abc");
        assert_int_not_equal(access(names.part, F_OK), 0);
    }
    canned_server_join(exchange.server);
    exchange_end(&exchange);
}

/* Wrong bytes, and a refusal, leave the old file as it was. */
static void test_refused(void **state) {
    static const char *const answers[] = {OK_HEAD "Content-Length: 3\r\n\r\nxyz", OK_HEAD "Content-Length: 2\r\n\r\nab",
                                          "HTTP/1.1 404 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"};
    struct exchange exchange;
    struct error error = {0};
    struct names names;
    (void)state;
    exchange_begin(&exchange, answers, 3);
    name_files(&exchange, &names);
    assert_int_equal(file_write_atomic(names.file, "old", 3, &error), STATUS_OK);
    assert_int_equal(api_download_file(exchange.client, "/a", &ABC, names.file, &error), STATUS_IO);
    assert_non_null(strstr(error.message, "SHA-256"));
    assert_int_not_equal(access(names.part, F_OK), 0);
    error_clear(&error);
    assert_int_equal(api_download_file(exchange.client, "/a", &ABC, names.file, &error), STATUS_IO);
    assert_non_null(strstr(error.message, "got 2 bytes, expected 3"));
    assert_int_equal(unlink(names.part), 0);
    error_clear(&error);
    assert_int_equal(api_download_file(exchange.client, "/a", &ABC, names.file, &error), STATUS_NOT_FOUND);
    assert_int_not_equal(access(names.part, F_OK), 0);
    expect_file(names.file, "old");
    canned_server_join(exchange.server);
    exchange_end(&exchange);
}

/* Two at once do not mix; a link in place of the part is not followed; a device stays one. */
static void test_places(void **state) {
    static const char *const answers[] = {OK_HEAD "Content-Length: 3\r\n\r\nabc"};
    struct exchange exchange;
    struct error error = {0};
    struct names names;
    struct stat info;
    (void)state;
    exchange_begin(&exchange, answers, 1);
    name_files(&exchange, &names);
    int fd = open(names.part, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(api_download_file(exchange.client, "/a", &ABC, names.file, &error), STATUS_CONFLICT);
    assert_int_equal(close(fd), 0);
    error_clear(&error);
    assert_int_equal(unlink(names.part), 0);
    assert_int_equal(symlink("/dev/null", names.part), 0);
    assert_int_equal(api_download_file(exchange.client, "/a", &ABC, names.file, &error), STATUS_IO);
    error_clear(&error);
    assert_int_equal(symlink("/dev/null", names.file), 0);
    assert_int_equal(api_download_file(exchange.client, "/a", &ABC, names.file, &error), STATUS_OK);
    assert_int_equal(lstat(names.file, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    canned_server_join(exchange.server);
    exchange_end(&exchange);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),   cmocka_unit_test(test_goes_on), cmocka_unit_test(test_starts_over),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
