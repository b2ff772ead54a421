/* Where a server listens and with which certificate: what is taken, and each way to be refused. The loop is run by the test itself. */
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
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
    world->server = NULL;
}

static int teardown(void **state) {
    struct world *world = *state;

    if (world->server != NULL) {
        stop(world);
    }
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

/* One too many: its socket is closed and its file gone. */
static void listeners(void **state) {
    struct world *world = *state;
    struct error error = {0};
    struct stat info;
    uint16_t port = 0, six = 0;
    char path[108 - 1];
    enum status status;
    const int before = dup(0);

    (void)close(before);
    (void)snprintf(path, sizeof(path), "%s", scratch_path(&world->scratch, "socket"));
    assert_int_equal(http_server_listen_tcp(world->server, "127.0.0.1", 0, &port, &error), STATUS_OK);
    status = http_server_listen_tcp(world->server, "::1", 0, &six, &error);
    if (status == STATUS_OK) {
        assert_int_not_equal(six, 0);
    } else { /* a machine without IPv6 */
        assert_int_equal(status, STATUS_IO);
        error_clear(&error);
        assert_int_equal(http_server_listen_tcp(world->server, "127.0.0.1", 0, &six, &error), STATUS_OK);
    }
    const int used = dup(0);
    (void)close(used);
    assert_true(used > before);
    refused(http_server_listen_unix(world->server, path, &error), STATUS_LIMIT, &error, "more than 2 addresses");
    assert_int_equal(stat(path, &info), -1);
    assert_int_equal(errno, ENOENT);
    refused(http_server_listen_tcp(world->server, "127.0.0.1", 0, &port, &error), STATUS_LIMIT, &error,
            "more than 2 addresses");
    const int after = dup(0);
    (void)close(after);
    assert_int_equal(after, used);
}

static void note_closed(void *user) {
    *(bool *)user = true;
}

struct late {
    struct http_post post;
    int *runs;
};

static void count_run(struct http_post *post) {
    (*((struct late *)((char *)post - offsetof(struct late, post)))->runs)++;
}

/* More topics than are kept one by one wake all; posts that come after the end are run when the server is freed. */
static void late_posts(void **state) {
    struct world *world = *state;
    bool closed = false;
    int runs = 0;
    struct late late[4];

    for (size_t i = 0; i < 4; i++) {
        late[i] = (struct late){{NULL, count_run}, &runs};
    }
    for (int i = 0; i < 1000; i++) {
        char topic[32];
        (void)snprintf(topic, sizeof(topic), "topic %d", i);
        http_server_notify(world->server, topic);
    }
    http_server_post(world->server, &late[0].post);
    http_server_post(world->server, &late[1].post);
    assert_int_equal(uv_run(&world->loop, UV_RUN_ONCE), 1);
    assert_int_equal(runs, 2);
    http_server_close(world->server, note_closed, &closed);
    assert_int_equal(uv_run(&world->loop, UV_RUN_DEFAULT), 0);
    assert_true(closed);
    http_server_post(world->server, &late[2].post);
    http_server_post(world->server, &late[3].post);
    assert_int_equal(runs, 2);
    http_server_free(world->server);
    world->server = NULL;
    assert_int_equal(runs, 4);
}

static void write_datum(const char *path, const gnutls_datum_t *datum) {
    struct error error = {0};
    assert_int_equal(file_write_atomic(path, datum->data, datum->size, &error), STATUS_OK);
}

/* A fresh key and a certificate of its own, as PEM files. */
static void make_certificate(const char *certificate_path, const char *key_path) {
    static const unsigned char serial[] = {1};
    gnutls_x509_privkey_t key = NULL;
    gnutls_x509_crt_t certificate = NULL;
    gnutls_datum_t pem = {NULL, 0};

    assert_int_equal(gnutls_x509_privkey_init(&key), 0);
    assert_int_equal(
        gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0), 0);
    assert_int_equal(gnutls_x509_crt_init(&certificate), 0);
    assert_int_equal(gnutls_x509_crt_set_version(certificate, 3), 0);
    assert_int_equal(gnutls_x509_crt_set_serial(certificate, serial, sizeof(serial)), 0);
    assert_int_equal(gnutls_x509_crt_set_activation_time(certificate, time(NULL) - 10), 0);
    assert_int_equal(gnutls_x509_crt_set_expiration_time(certificate, time(NULL) + 1000), 0);
    assert_int_equal(gnutls_x509_crt_set_dn(certificate, "CN=localhost", NULL), 0);
    assert_int_equal(gnutls_x509_crt_set_key(certificate, key), 0);
    assert_int_equal(gnutls_x509_crt_sign2(certificate, certificate, key, GNUTLS_DIG_SHA256, 0), 0);
    assert_int_equal(gnutls_x509_crt_export2(certificate, GNUTLS_X509_FMT_PEM, &pem), 0);
    write_datum(certificate_path, &pem);
    gnutls_free(pem.data);
    assert_int_equal(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &pem), 0);
    write_datum(key_path, &pem);
    gnutls_free(pem.data);
    gnutls_x509_crt_deinit(certificate);
    gnutls_x509_privkey_deinit(key);
}

/* What is read again must hold together; until it does, the certificate before stays. */
static void certificates_change(void **state) {
    struct world *world = *state;
    struct error error = {0};
    uint16_t port = 0;
    char certificate[4096], key[4096], other[4096], other_key[4096];

    (void)snprintf(certificate, sizeof(certificate), "%s", scratch_path(&world->scratch, "cert.pem"));
    (void)snprintf(key, sizeof(key), "%s", scratch_path(&world->scratch, "key.pem"));
    (void)snprintf(other, sizeof(other), "%s", scratch_path(&world->scratch, "other.pem"));
    (void)snprintf(other_key, sizeof(other_key), "%s", scratch_path(&world->scratch, "other-key.pem"));
    make_certificate(certificate, key);
    make_certificate(other, other_key);
    refused(http_server_use_tls(world->server, certificate, other_key, &error), STATUS_INVALID, &error,
            "it is not that of the certificate");
    refused(http_server_use_tls(world->server, certificate, certificate, &error), STATUS_INVALID, &error, "TLS key");
    mem_fail_after(2);
    enum status status = http_server_use_tls(world->server, certificate, key, &error);
    mem_fail_after(0);
    refused(status, STATUS_NO_MEMORY, &error, "TLS certificate");
    assert_int_equal(http_server_use_tls(world->server, certificate, key, &error), STATUS_OK);
    refused(http_server_use_tls(world->server, certificate, key, &error), STATUS_UNSUPPORTED, &error, "TLS");
    assert_int_equal(http_server_listen_tcp(world->server, "127.0.0.1", 0, &port, &error), STATUS_OK);
    make_certificate(certificate, key);
    for (int i = 0; i < 3; i++) { /* through both places that are kept */
        assert_int_equal(http_server_reload_tls(world->server, &error), STATUS_OK);
    }
    assert_int_equal(rename(other_key, key), 0);
    refused(http_server_reload_tls(world->server, &error), STATUS_INVALID, &error, "it is not that of the certificate");
    assert_int_equal(unlink(key), 0);
    refused(http_server_reload_tls(world->server, &error), STATUS_NOT_FOUND, &error, "key.pem");
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
    const struct CMUnitTest tests[] = {CASE(addresses),  CASE(sockets),      CASE(listeners),
                                       CASE(late_posts), CASE(certificates), CASE(certificates_change),
                                       CASE(no_memory)};
    return cmocka_run_group_tests_name("http: listening", tests, NULL, NULL);
}
