/* Settings. File and environment are turned into the words that would say the same as flags and put before the real
 * flags, so one table and one parser know all names, kinds and limits, and the last word wins. */
#include "server/settings.h"

#include <arpa/inet.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/arena.h"
#include "common/file.h"
#include "common/json_read.h"
#include "common/mem.h"
#include "common/options.h"
#include "common/parse.h"

enum { TABLE_MAX = 48, WORDS_MAX = 256, STORAGE_MAX = 1 << 20, CONFIG_FILE_MAX = 64 << 10 };

#define DEFAULT_LISTEN "127.0.0.1:8080"

static void set_defaults(struct settings *settings) {
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page = sysconf(_SC_PAGESIZE);
    struct jobs_options jobs;

    jobs_options_init(&jobs);
    memset(settings, 0, sizeof(*settings));
    settings->data_dir = "onp-data";
    settings->log_level_word = "info";
    settings->isolation_word = "process";
    settings->backend_word = "auto";
    settings->sandbox_word = "auto";
    settings->sandbox_uid = jobs.sandbox_uid;
    settings->check_memory = (uint64_t)8 << 30;
    settings->job_memory = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : 0;
    settings->job_file = (uint64_t)8 << 30;
    settings->workers = 1;
    settings->helpers = 2;
    settings->queue_max = 1000;
    settings->max_attempts = 3;
    settings->connections = 1024;
    settings->max_upload = (uint64_t)2 << 30;
    settings->min_free = (uint64_t)256 << 20;
    settings->drain_s = 10;
    settings->cancel_grace_s = 5;
    settings->check_timeout_s = 60;
    settings->rate_burst = 200;
}

/* The table over one struct; rows that start an action and not a setting are marked by their place at the end. */
static void fill_table(struct settings *s, struct option table[TABLE_MAX]) {
    const uint64_t any = INT64_MAX;
    const struct option rows[] = {
        {"listen", 'l', OPTION_STRING, &s->listen, 0, "ADDR:PORT",
         "TCP address; port 0 takes a free one (default " DEFAULT_LISTEN ", none with --unix)"},
        {"unix", 'u', OPTION_STRING, &s->unix_path, 0, "PATH", "UNIX socket, for this user only"},
        {"data", 'd', OPTION_STRING, &s->data_dir, 0, "DIR", "folder of database and files (default onp-data)"},
        {"workers", 'w', OPTION_U64, &s->workers, 256, "N", "jobs at once (default 1)"},
        {"threads", 't', OPTION_U64, &s->threads, 1024, "N", "threads of one job (default 0: cores / workers)"},
        {"helpers", 0, OPTION_U64, &s->helpers, 64, "N", "threads for checks of uploads and disk waits (default 2)"},
        {"backend", 0, OPTION_STRING, &s->backend_word, 0, "NAME",
         "what computes: auto (default), blas (the reference) or dnnl"},
        {"isolation", 0, OPTION_STRING, &s->isolation_word, 0, "KIND", "process (default) or thread"},
        {"sandbox", 0, OPTION_STRING, &s->sandbox_word, 0, "MODE",
         "walls around jobs and checks: auto (default; what the kernel has), require or off"},
        {"sandbox-uid", 0, OPTION_U64, &s->sandbox_uid, UINT32_MAX - 1, "UID",
         "user of jobs and checks if onpd runs as root (default 65534; 0: root)"},
        {"queue-max", 0, OPTION_U64, &s->queue_max, any, "N", "jobs that may wait (default 1000; 0: no limit)"},
        {"max-attempts", 0, OPTION_U64, &s->max_attempts, 1000, "N",
         "losses (of a child, of the server) after which a job fails (default 3)"},
        {"connections", 0, OPTION_U64, &s->connections, 65536, "N", "open connections (default 1024)"},
        {"max-upload", 0, OPTION_BYTES, &s->max_upload, any, "BYTES", "largest upload (default 2G)"},
        {"min-free", 0, OPTION_BYTES, &s->min_free, any, "BYTES", "not ready with less disk space (default 256M)"},
        {"job-memory", 0, OPTION_BYTES, &s->job_memory, any, "BYTES",
         "address space of a job (default: the machine's memory; 0: no limit)"},
        {"check-memory", 0, OPTION_BYTES, &s->check_memory, any, "BYTES", "the same for a check (default 8G)"},
        {"job-file", 0, OPTION_BYTES, &s->job_file, any, "BYTES",
         "largest file a job may write (default 8G; 0: no limit)"},
        {"drain", 0, OPTION_DOUBLE, &s->drain_s, 0, "SECONDS", "time for running jobs at a stop (default 10)"},
        {"cancel-grace", 0, OPTION_DOUBLE, &s->cancel_grace_s, 0, "SECONDS",
         "from SIGTERM to SIGKILL of a job (default 5)"},
        {"check-timeout", 0, OPTION_DOUBLE, &s->check_timeout_s, 0, "SECONDS",
         "for one check of an upload (default 60)"},
        {"retain-succeeded", 0, OPTION_DOUBLE, &s->retain_succeeded, 0, "DAYS",
         "until a succeeded job is deleted (default 0: never)"},
        {"retain-failed", 0, OPTION_DOUBLE, &s->retain_failed, 0, "DAYS",
         "until a failed or cancelled job is deleted (default 0: never)"},
        {"retain-unused", 0, OPTION_DOUBLE, &s->retain_unused, 0, "DAYS",
         "until a model or samples that no job names are deleted (default 0: never)"},
        {"jobs-max", 0, OPTION_U64, &s->jobs_max, any, "N",
         "queued and running jobs of one token, or of all without one (default 0: no limit)"},
        {"quota-bytes", 0, OPTION_BYTES, &s->quota_bytes, any, "BYTES", "of all that is stored (default 0: no limit)"},
        {"rate", 0, OPTION_DOUBLE, &s->rate, 0, "N",
         "requests a second of one token, or address without one (default 0: no limit)"},
        {"rate-burst", 0, OPTION_DOUBLE, &s->rate_burst, 0, "N", "how many of them at once (default 200)"},
        {"token-file", 0, OPTION_STRING, &s->token_file, 0, "FILE",
         "take the bearer token in FILE (also ONP_TOKEN); see also: onpd token"},
        {"tls-cert", 0, OPTION_STRING, &s->tls_cert, 0, "FILE", "speak TLS on TCP with this certificate chain (PEM)"},
        {"tls-key", 0, OPTION_STRING, &s->tls_key, 0, "FILE", "its private key (PEM)"},
        {"insecure", 0, OPTION_FLAG, &s->insecure, 0, NULL, "allow an address that other machines reach, without TLS"},
        {"log-level", 0, OPTION_STRING, &s->log_level_word, 0, "LEVEL", "error, warn, info (default) or debug"},
        {"ready-file", 0, OPTION_STRING, &s->ready_file, 0, "FILE", "write the address here once it is listening"},
        {"print-port", 0, OPTION_FLAG, &s->print_port, 0, NULL, "print the TCP port once it is listening"},
        {"config", 'c', OPTION_STRING, &s->config_path, 0, "FILE",
         "JSON object of these names with _ for - (also ONP_CONFIG)"},
        {"print-config", 0, OPTION_FLAG, &s->print_config, 0, NULL,
         "print the settings as a configuration file, and end"},
        {"check", 0, OPTION_FLAG, &s->check, 0, NULL, "check the settings, and end"},
        {"version", 'V', OPTION_FLAG, &s->version, 0, NULL, "print the version, and end"},
        {"help", 'h', OPTION_FLAG, &s->help, 0, NULL, "print this, and end"},
        {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL},
    };
    _Static_assert(sizeof(rows) / sizeof(rows[0]) <= TABLE_MAX, "the table must fit");
    memcpy(table, rows, sizeof(rows));
}

/* Rows before "config" may stand in a file or the environment; the rest are for the command line. */
static bool is_setting(const struct option *table, const struct option *row) {
    for (const struct option *option = table; strcmp(option->name, "config") != 0; option++) {
        if (option == row) {
            return true;
        }
    }
    return false;
}

struct words {
    struct arena *arena;
    char *items[WORDS_MAX];
    int count;
};

static enum status add_word(struct words *words, const char *name, const char *value, struct error *error) {
    size_t size = strlen(name) + strlen(value) + 4;
    char *word = arena_alloc(words->arena, 1, size);

    if (word == NULL) {
        return error_no_memory(error, "a setting");
    }
    if (words->count == WORDS_MAX) {
        return error_set(error, STATUS_LIMIT, NULL, "failed to read settings: got more than %d", WORDS_MAX);
    }
    (void)snprintf(word, size, "--%s=%s", name, value);
    words->items[words->count++] = word;
    return STATUS_OK;
}

/* "queue-max" to "queue_max", or with a prefix to "ONP_QUEUE_MAX". */
static void setting_name(const char *option, const char *prefix, bool upper, char out[64]) {
    size_t length;

    (void)snprintf(out, 64, "%s%s", prefix, option);
    length = strlen(out);
    for (size_t i = strlen(prefix); i < length; i++) {
        if (out[i] == '-') {
            out[i] = '_';
        } else if (upper && out[i] >= 'a' && out[i] <= 'z') {
            out[i] = (char)(out[i] - 'a' + 'A');
        }
    }
}

static const struct option *find_setting(const struct option *table, const char *key) {
    char name[64];

    for (const struct option *option = table; strcmp(option->name, "config") != 0; option++) {
        setting_name(option->name, "", false, name);
        if (strcmp(name, key) == 0) {
            return option;
        }
    }
    return NULL;
}

static enum status add_member(struct words *words, const struct option *table, const char *key, const json_t *value,
                              struct error *error) {
    const struct option *option = find_setting(table, key);
    char where[80], number[64];

    (void)snprintf(where, sizeof(where), "/%.70s", key);
    if (option == NULL) {
        return error_set(error, STATUS_INVALID, where, "failed to read the configuration: got unknown setting '%.70s'",
                         key);
    }
    if (json_is_null(value)) {
        return STATUS_OK; /* the default */
    }
    if (json_is_string(value)) {
        return add_word(words, option->name, json_string_value(value), error);
    }
    if (json_is_boolean(value) && option->kind == OPTION_FLAG) {
        return add_word(words, option->name, json_is_true(value) ? "true" : "false", error);
    }
    if (json_is_integer(value)) {
        (void)snprintf(number, sizeof(number), "%lld", (long long)json_integer_value(value));
        return add_word(words, option->name, number, error);
    }
    if (json_is_real(value)) {
        (void)snprintf(number, sizeof(number), "%.17g", json_real_value(value));
        return add_word(words, option->name, number, error);
    }
    return error_set(error, STATUS_INVALID, where, "failed to read the configuration: got another type for '%.70s'",
                     key);
}

static enum status add_file(struct words *words, const struct option *table, const char *path, struct error *error) {
    char *text = NULL;
    size_t length = 0;
    json_t *json = NULL;
    const char *key;
    json_t *value;
    enum status status = file_read(path, CONFIG_FILE_MAX, &text, &length, error);

    if (status == STATUS_OK) {
        status = json_read_text(text, length, &json, error);
    }
    if (status == STATUS_OK && !json_is_object(json)) {
        status = error_set(error, STATUS_INVALID, NULL, "failed to read the configuration: expected a JSON object");
    }
    if (status == STATUS_OK) {
        json_object_foreach(json, key, value) {
            status = status == STATUS_OK ? add_member(words, table, key, value, error) : status;
        }
    }
    json_decref(json);
    mem_free(text);
    return status;
}

static enum status add_environment(struct words *words, const struct option *table, struct error *error) {
    enum status status = STATUS_OK;

    for (const struct option *option = table; option->name != NULL && status == STATUS_OK; option++) {
        char name[64];
        const char *value;
        setting_name(option->name, "ONP_", true, name);
        value = is_setting(table, option) ? getenv(name) : NULL;
        if (value != NULL && value[0] != '\0') {
            status = add_word(words, option->name, value, error);
        }
    }
    return status;
}

/* "127.0.0.1:8080", "[::1]:8080". */
static enum status split_address(struct settings *settings, const char *text, struct error *error) {
    const char *colon = strrchr(text, ':');
    size_t length = colon == NULL ? 0 : (size_t)(colon - text);
    uint64_t port = 0;

    if (length > 2 && text[0] == '[' && text[length - 1] == ']') {
        text++;
        length -= 2;
    }
    if (length == 0 || length >= sizeof(settings->address) || !parse_u64(colon + 1, UINT16_MAX, &port)) {
        return error_set(error, STATUS_INVALID, "--listen",
                         "failed to read option --listen: got '%.80s', expected ADDRESS:PORT", text);
    }
    memcpy(settings->address, text, length);
    settings->address[length] = '\0';
    settings->port = (uint16_t)port;
    return STATUS_OK;
}

enum status settings_read_token(struct settings *settings, struct error *error) {
    const char *from_environment = getenv("ONP_TOKEN");
    char *text = NULL;
    size_t length = 0;
    enum status status = STATUS_OK;

    if (settings->token_file != NULL) {
        status = file_read(settings->token_file, SETTINGS_TOKEN_MAX, &text, &length, error);
        if (status != STATUS_OK) {
            return status;
        }
        text[strcspn(text, "\r\n")] = '\0';
        if (text[0] == '\0') {
            status = error_set(error, STATUS_INVALID, "--token-file", "failed to read the token: got an empty line");
        }
        (void)snprintf(settings->token, sizeof(settings->token), "%s", text);
        mem_free(text);
    } else if (from_environment != NULL) {
        if (strlen(from_environment) > SETTINGS_TOKEN_MAX) {
            return error_set(error, STATUS_INVALID, "ONP_TOKEN", "failed to read the token: expected at most %d bytes",
                             SETTINGS_TOKEN_MAX);
        }
        (void)snprintf(settings->token, sizeof(settings->token), "%s", from_environment);
    }
    return status;
}

static enum status choose(const char *option, const char *word, const char *const *words, int *index,
                          struct error *error) {
    for (int i = 0; words[i] != NULL; i++) {
        if (strcmp(words[i], word) == 0) {
            *index = i;
            return STATUS_OK;
        }
    }
    return error_set(error, STATUS_INVALID, option,
                     "failed to read option %s: got '%.40s', expected one of those in --help", option, word);
}

/* What the table's kinds and limits cannot say. */
static enum status finish(struct settings *s, struct error *error) {
    static const char *const levels[] = {"error", "warn", "info", "debug", NULL};
    static const char *const isolations[] = {"process", "thread", NULL};
    static const char *const sandboxes[] = {"auto", "require", "off", NULL};
    static const char *const backends[] = {"auto", "blas", "dnnl", NULL};
    int level = 0, isolation = 0, sandbox = 0, backend = 0;
    enum status status = choose("--log-level", s->log_level_word, levels, &level, error);

    if (status == STATUS_OK) {
        status = choose("--isolation", s->isolation_word, isolations, &isolation, error);
    }
    if (status == STATUS_OK) {
        status = choose("--sandbox", s->sandbox_word, sandboxes, &sandbox, error);
    }
    if (status == STATUS_OK) {
        status = choose("--backend", s->backend_word, backends, &backend, error);
    }
    if (status == STATUS_OK && (s->workers == 0 || s->helpers == 0 || s->connections == 0 || s->max_upload == 0)) {
        status = error_set(error, STATUS_INVALID, NULL,
                           "failed to read settings: workers, helpers, connections and max-upload must be at least 1");
    }
    if (status == STATUS_OK && (s->drain_s < 0 || s->cancel_grace_s < 0 || s->check_timeout_s <= 0)) {
        status = error_set(error, STATUS_INVALID, NULL, "failed to read settings: got negative seconds");
    }
    if (status == STATUS_OK && (s->rate < 0 || s->rate_burst < 1)) {
        status = error_set(error, STATUS_INVALID, "--rate",
                           "failed to read settings: rate must be at least 0 and rate-burst at least 1");
    }
    s->log_level = (enum log_level)level;
    s->isolation = isolation == 0 ? JOB_ISOLATION_PROCESS : JOB_ISOLATION_THREAD;
    s->sandbox = (enum job_sandbox_mode)sandbox;
    if (status == STATUS_OK && (s->listen != NULL || s->unix_path == NULL)) {
        status = split_address(s, s->listen != NULL ? s->listen : DEFAULT_LISTEN, error);
    }
    if (status == STATUS_OK) {
        status = settings_read_token(s, error);
    }
    if (status == STATUS_OK && (s->tls_cert == NULL) != (s->tls_key == NULL)) {
        status = error_set(error, STATUS_INVALID, s->tls_cert == NULL ? "--tls-cert" : "--tls-key",
                           "failed to read settings: tls-cert and tls-key belong together");
    }
    if (status == STATUS_OK && (s->retain_succeeded < 0 || s->retain_failed < 0 || s->retain_unused < 0)) {
        status = error_set(error, STATUS_INVALID, NULL, "failed to read settings: got negative days");
    }
    if (status == STATUS_OK && !settings_is_local(s) && !s->insecure && s->tls_cert == NULL) {
        status = error_set(error, STATUS_INVALID, "--listen",
                           "failed to listen on %s: other machines reach it and there is no TLS; give --tls-cert and "
                           "--tls-key, put a proxy with TLS in front of 127.0.0.1, or say --insecure",
                           s->address);
    }
    return status;
}

enum status settings_load(struct settings *settings, int argc, char **argv, struct error *error) {
    struct option table[TABLE_MAX];
    struct words words = {.count = 1};
    const char *path, *unused[1];
    size_t unused_count = 0;
    enum status status;

    set_defaults(settings);
    fill_table(settings, table);
    /* A first pass for --config and --help; the second, over all words, sets everything again. */
    status = options_parse(table, argc, argv, unused, 0, &unused_count, error);
    if (status != STATUS_OK || settings->help || settings->version) {
        return status;
    }
    path = settings->config_path != NULL ? settings->config_path : getenv("ONP_CONFIG");
    words.arena = arena_new(STORAGE_MAX);
    settings->storage = words.arena;
    if (words.arena == NULL) {
        return error_no_memory(error, "the settings");
    }
    words.items[0] = argv[0];
    if (path != NULL) {
        status = add_file(&words, table, path, error);
    }
    if (status == STATUS_OK) {
        status = add_environment(&words, table, error);
    }
    for (int i = 1; i < argc && status == STATUS_OK; i++) {
        if (words.count == WORDS_MAX) {
            status = error_set(error, STATUS_LIMIT, NULL, "failed to read settings: got more than %d words", WORDS_MAX);
        } else {
            words.items[words.count++] = argv[i];
        }
    }
    if (status == STATUS_OK) {
        status = options_parse(table, words.count, words.items, unused, 0, &unused_count, error);
    }
    return status == STATUS_OK ? finish(settings, error) : status;
}

void settings_deinit(struct settings *settings) {
    arena_free(settings->storage);
    settings->storage = NULL;
}

void settings_print_help(FILE *file) {
    struct settings settings;
    struct option table[TABLE_MAX];

    set_defaults(&settings);
    fill_table(&settings, table);
    (void)fprintf(
        file, "usage: onpd [OPTION]...\n\nRemoves backdoors from image classifiers: an HTTP service. Each option may "
              "also come from the environment\n(ONP_DATA for --data) or from a configuration file.\n\n");
    options_print_help(file, table);
}

static json_t *value_json(const struct option *option) {
    switch (option->kind) {
    case OPTION_FLAG:
        return json_boolean(*(const bool *)option->target);
    case OPTION_STRING:
        return *(const char *const *)option->target != NULL ? json_string(*(const char *const *)option->target)
                                                            : json_null();
    case OPTION_U64:
    case OPTION_BYTES:
        return json_integer((json_int_t)(*(const uint64_t *)option->target));
    case OPTION_DOUBLE:
        return json_real(*(const double *)option->target);
    case OPTION_LIST:
        break;
    }
    return json_null();
}

void settings_print(FILE *file, const struct settings *settings) {
    struct settings copy = *settings;
    struct option table[TABLE_MAX];
    json_t *json = json_object();

    fill_table(&copy, table);
    for (const struct option *option = table; strcmp(option->name, "config") != 0; option++) {
        char name[64];
        setting_name(option->name, "", false, name);
        (void)json_object_set_new(json, name, value_json(option));
    }
    (void)json_dumpf(json, file, JSON_INDENT(4) | JSON_REAL_PRECISION(6));
    (void)fputc('\n', file);
    json_decref(json);
}

bool settings_is_local(const struct settings *settings) {
    struct in_addr v4;

    if (settings->address[0] == '\0' || strcmp(settings->address, "localhost") == 0 ||
        strcmp(settings->address, "::1") == 0) {
        return true;
    }
    return inet_pton(AF_INET, settings->address, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}
