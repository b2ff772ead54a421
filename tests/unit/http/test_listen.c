/* Where a server listens and with which certificate: what is taken, and each way to be refused. The loop is run by the test itself. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/file.h"
#include "common/log.h"
#include "common/mem.h"
#include "server/http/http_server.h"
#include "tests/support/cm.h"
#include "tests/support/scratch.h"

struct world {
    struct scratch scratch;
    uv_loop_t loop;
    struct http_server *server;
};

static const struct http_route routes[] = {{0}};

static void config_of(struct http_config *config) {
    http_config_init(config);
    config->routes = routes;
    config->route_count = 0;
}

static int setup(void **state) {
    static struct world world;
    struct http_config config;
    struct error error = {0};

    memset(&world, 0, sizeof(world));
    log_set_level(LOG_ERROR);
    scratch_make(&world.scratch);
    config_of(&config);
    assert_int_equal(uv_loop_init(&world.loop), 0);
    assert_int_equal(http_server_new(&world.loop, &config, &world.server, &error), STATUS_OK);
    *state = &world;
    return 0;
}

static void stop(struct world *world) {
    http_server_close(world->server, NULL, NULL);
    assert_int_equal(uv_run(&world->loop, UV_RUN_DEFAULT), 0);
    http_server_free(world->server);
}

static int teardown(void **state) {
    struct world *world = *state;

    stop(world);
    assert_int_equal(uv_loop_close(&world->loop), 0);
    scratch_remove(&world->scratch);
    return 0;
}

static void refused(enum status got, enum status expected, struct error *error, const char *words) {
    assert_int_equal(got, expected);
    assert_int_equal(error->status, expected);
    assert_non_null(strstr(error->message, words));
    error_clear(error);
}

static void addresses(void **state) {
    static const char *const bad[] = {"", "example.org", "127.0.0.1.1", "::g", "999.1.1.1"};
    struct world *world = *state;
    struct error error = {0};
    uint16_t first = 0, second = 0;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        refused(http_server_listen_tcp(world->server, bad[i], 0, &first, &error), STATUS_INVALID, &error, bad[i]);
        assert_int_equal(first, 0);
    }
    assert_int_equal(http_server_listen_tcp(world->server, "localhost", 0, &first, &error), STATUS_OK);
    assert_int_not_equal(first, 0);
    refused(http_server_listen_tcp(world->server, "127.0.0.1", first, &second, &error), STATUS_IO, &error, "127.0.0.1");
    assert_int_equal(second, 0);
}

static void sockets(void **state) {
    struct world *world = *state;
    struct error error = {0};
    struct stat info;
    char path[108 - 1], long_path[200];
    struct sockaddr_un stale = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    /* Left from a crash: bound, and nobody answers. */
    (void)snprintf(path, sizeof(path), "%s", scratch_path(&world->scratch, "socket"));
    (void)snprintf(stale.sun_path, sizeof(stale.sun_path), "%s", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&stale, sizeof(stale)), 0);
    (void)close(fd);
    assert_int_equal(http_server_listen_unix(world->server, path, &error), STATUS_OK);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    refused(http_server_listen_unix(world->server, path, &error), STATUS_CONFLICT, &error, "in use");
    (void)snprintf(path, sizeof(path), "%s", scratch_path(&world->scratch, "file"));
    assert_int_equal(file_write_atomic(path, "x", 1, &error), STATUS_OK);
    refused(http_server_listen_unix(world->server, path, &error), STATUS_CONFLICT, &error, "in use");
    (void)snprintf(path, sizeof(path), "%s", scratch_path(&world->scratch, "nowhere/socket"));
    refused(http_server_listen_unix(world->server, path, &error), STATUS_IO, &error, "nowhere");
    memset(long_path, 'a', sizeof(long_path));
    long_path[sizeof(long_path) - 1] = '\0';
    refused(http_server_listen_unix(world->server, long_path, &error), STATUS_LIMIT, &error, "over");
}

static void certificates(void **state) {
    struct world *world = *state;
    struct error error = {0};
    char good[108], text[128];

    (void)snprintf(good, sizeof(good), "%s", scratch_path(&world->scratch, "pem"));
    (void)snprintf(text, sizeof(text), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    refused(http_server_reload_tls(world->server, &error), STATUS_CONFLICT, &error, "there is none");
    refused(http_server_use_tls(world->server, good, good, &error), STATUS_NOT_FOUND, &error, "pem");
    assert_int_equal(file_write_atomic(good, "", 0, &error), STATUS_OK);
    refused(http_server_use_tls(world->server, good, good, &error), STATUS_INVALID, &error, "certificate");
    assert_int_equal(file_write_atomic(good, text, strlen(text), &error), STATUS_OK);
    refused(http_server_use_tls(world->server, good, good, &error), STATUS_INVALID, &error, "certificate");
    refused(http_server_reload_tls(world->server, &error), STATUS_CONFLICT, &error, "there is none");
}

static void no_memory(void **state) {
    struct world *world = *state;
    struct http_server *server = NULL;
    struct http_config config;

    config_of(&config);
    for (uint64_t n = 1; n <= 2; n++) {
        struct error error = {0};
        enum status status;
        mem_fail_after(n);
        status = http_server_new(&world->loop, &config, &server, &error);
        mem_fail_after(0);
        refused(status, STATUS_NO_MEMORY, &error, "HTTP server");
        assert_null(server);
    }
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {CASE(addresses), CASE(sockets), CASE(certificates), CASE(no_memory)};
    return cmocka_run_group_tests_name("http: listening", tests, NULL, NULL);
}
