/* Settings from flags, environment and file; their order; what is refused. */
#include <stdlib.h>
#include <string.h>

#include "common/file.h"
#include "server/settings.h"
#include "tests/support/cm.h"
#include "tests/support/scratch.h"

enum { WORDS = 8 };

static const char *const variables[] = {"ONP_LISTEN",     "ONP_DATA",   "ONP_WORKERS",   "ONP_TOKEN",
                                        "ONP_CONFIG",     "ONP_UNIX",   "ONP_LOG_LEVEL", "ONP_QUEUE_MAX",
                                        "ONP_TOKEN_FILE", "ONP_THREADS"};

static int setup(void **state) {
    static struct scratch scratch;

    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        (void)unsetenv(variables[i]);
    }
    scratch_make(&scratch);
    *state = &scratch;
    return 0;
}

static int teardown(void **state) {
    for (size_t i = 0; i < sizeof(variables) / sizeof(variables[0]); i++) {
        (void)unsetenv(variables[i]);
    }
    scratch_remove(*state);
    return 0;
}

/* Loads with up to three words; the error record is the caller's. */
static enum status load(struct settings *settings, const char *a, const char *b, const char *c, struct error *error) {
    char *argv[WORDS] = {(char *)(uintptr_t) "onpd", (char *)(uintptr_t)a, (char *)(uintptr_t)b, (char *)(uintptr_t)c};
    int argc = 1 + (a != NULL) + (b != NULL) + (c != NULL);

    error_clear(error);
    return settings_load(settings, argc, argv, error);
}

static void write_file(const char *path, const char *text) {
    struct error error = {0};
    assert_int_equal(file_write_atomic(path, text, strlen(text), &error), STATUS_OK);
}

static void test_defaults(void **state) {
    struct settings settings;
    struct error error;

    (void)state;
    assert_int_equal(load(&settings, NULL, NULL, NULL, &error), STATUS_OK);
    assert_string_equal(settings.address, "127.0.0.1");
    assert_int_equal(settings.port, 8080);
    assert_string_equal(settings.data_dir, "onp-data");
    assert_int_equal(settings.isolation, JOB_ISOLATION_PROCESS);
    assert_int_equal(settings.log_level, LOG_INFO);
    assert_string_equal(settings.token, "");
    assert_true(settings_is_local(&settings));
    settings_deinit(&settings);
}

static void test_unix_alone_means_no_tcp(void **state) {
    struct settings settings;
    struct error error;

    (void)state;
    assert_int_equal(load(&settings, "--unix", "/tmp/s", NULL, &error), STATUS_OK);
    assert_string_equal(settings.address, "");
    assert_true(settings_is_local(&settings));
    settings_deinit(&settings);
    assert_int_equal(load(&settings, "--unix=/tmp/s", "--listen=[::1]:0", NULL, &error), STATUS_OK);
    assert_string_equal(settings.address, "::1");
    assert_int_equal(settings.port, 0);
    settings_deinit(&settings);
}

static void test_order(void **state) {
    const char *path = scratch_path(*state, "onpd.json");
    struct settings settings;
    struct error error;

    write_file(
        path,
        "{\"data\": \"file\", \"workers\": 2, \"threads\": 2, \"queue_max\": 5, \"print_port\": true, \"unix\": null}");
    assert_int_equal(setenv("ONP_WORKERS", "3", 1), 0);
    assert_int_equal(setenv("ONP_THREADS", "3", 1), 0);
    assert_int_equal(load(&settings, "--config", path, "--threads=4", &error), STATUS_OK);
    assert_string_equal(settings.data_dir, "file");
    assert_int_equal(settings.queue_max, 5);
    assert_int_equal(settings.workers, 3);
    assert_int_equal(settings.threads, 4);
    assert_true(settings.print_port);
    settings_deinit(&settings);
    assert_int_equal(setenv("ONP_CONFIG", path, 1), 0);
    assert_int_equal(load(&settings, NULL, NULL, NULL, &error), STATUS_OK);
    assert_int_equal(settings.threads, 3);
    settings_deinit(&settings);
}

static void test_refused(void **state) {
    static const char *const words[] = {
        "--lisen=127.0.0.1:1",
        "--listen=127.0.0.1",
        "--listen=:80",
        "--listen=127.0.0.1:65536",
        "--listen=127.0.0.1:x",
        "--workers=0",
        "--workers=-1",
        "--workers=257",
        "--isolation=vm",
        "--log-level=loud",
        "--drain=-1",
        "--max-upload=0",
        "word",
        "--check-timeout=0",
    };

    (void)state;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        struct settings settings;
        struct error error;
        assert_int_equal(load(&settings, words[i], NULL, NULL, &error), STATUS_INVALID);
        assert_string_not_equal(error.message, "");
        settings_deinit(&settings);
    }
}

static void test_refused_files(void **state) {
    static const struct {
        const char *text, *where;
    } cases[] = {
        {"{\"wokers\": 1}", "/wokers"},
        {"{\"config\": \"x\"}", "/config"},
        {"{\"help\": true}", "/help"},
        {"{\"workers\": [1]}", "/workers"},
        {"{\"workers\": true}", "/workers"},
        {"{\"queue-max\": 1}", "/queue-max"},
        {"[]", ""},
        {"{", "line 1 column 1"},
    };
    const char *path = scratch_path(*state, "bad.json");

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct settings settings;
        struct error error;
        write_file(path, cases[i].text);
        assert_int_equal(load(&settings, "--config", path, NULL, &error), STATUS_INVALID);
        assert_string_equal(error.where, cases[i].where);
        settings_deinit(&settings);
    }
}

static void test_reachable_by_others(void **state) {
    struct settings settings;
    struct error error;

    (void)state;
    assert_int_equal(load(&settings, "--listen=0.0.0.0:80", NULL, NULL, &error), STATUS_INVALID);
    assert_non_null(strstr(error.message, "--insecure"));
    settings_deinit(&settings);
    assert_int_equal(load(&settings, "--listen=0.0.0.0:80", "--insecure", NULL, &error), STATUS_OK);
    assert_false(settings_is_local(&settings));
    settings_deinit(&settings);
    assert_int_equal(load(&settings, "--listen=127.9.9.9:80", NULL, NULL, &error), STATUS_OK);
    settings_deinit(&settings);
    assert_int_equal(load(&settings, "--listen=127.evil.example:80", NULL, NULL, &error), STATUS_INVALID);
    settings_deinit(&settings);
}

static void test_token(void **state) {
    const char *path = scratch_path(*state, "token");
    struct settings settings;
    struct error error;

    write_file(path, "secret-1\n");
    assert_int_equal(load(&settings, "--token-file", path, NULL, &error), STATUS_OK);
    assert_string_equal(settings.token, "secret-1");
    settings_deinit(&settings);
    assert_int_equal(setenv("ONP_TOKEN", "secret-2", 1), 0);
    assert_int_equal(load(&settings, NULL, NULL, NULL, &error), STATUS_OK);
    assert_string_equal(settings.token, "secret-2");
    settings_deinit(&settings);
    write_file(path, "\n");
    assert_int_equal(load(&settings, "--token-file", path, NULL, &error), STATUS_INVALID);
    settings_deinit(&settings);
}

/* What --print-config prints is a configuration file that says the same. */
static void test_print_and_read_again(void **state) {
    const char *path = scratch_path(*state, "printed.json");
    struct settings first, second;
    struct error error;
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    assert_int_equal(load(&first, "--listen=127.0.0.1:9", "--max-upload=5M", "--insecure", &error), STATUS_OK);
    settings_print(file, &first);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(load(&second, "--config", path, NULL, &error), STATUS_OK);
    assert_int_equal(second.port, 9);
    assert_int_equal(second.max_upload, 5 << 20);
    assert_true(second.insecure);
    settings_deinit(&first);
    settings_deinit(&second);
}

int main(void) {
#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_defaults),      CASE(test_unix_alone_means_no_tcp), CASE(test_order), CASE(test_refused),
        CASE(test_refused_files), CASE(test_reachable_by_others),     CASE(test_token), CASE(test_print_and_read_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
