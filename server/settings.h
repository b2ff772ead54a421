/* The settings of onpd: one table for flags, environment (ONP_*) and configuration file. */
#ifndef ONP_SERVER_SETTINGS_H
#define ONP_SERVER_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"
#include "common/log.h"
#include "server/jobs/jobs.h"

enum { SETTINGS_TOKEN_MAX = 512, SETTINGS_ADDRESS_SIZE = 64 };

struct settings {
    bool help, version, check, print_config;
    const char *config_path;
    const char *listen;                  /* "ADDRESS:PORT", or NULL: the default, unless there is a UNIX socket */
    char address[SETTINGS_ADDRESS_SIZE]; /* of `listen`; "" : no TCP */
    uint16_t port;
    const char *unix_path; /* or NULL */
    const char *data_dir;
    const char *ready_file; /* or NULL */
    bool print_port, insecure;
    const char *token_file;
    const char *tls_cert, *tls_key;     /* both or none */
    char token[SETTINGS_TOKEN_MAX + 1]; /* "" : none */
    const char *log_level_word, *isolation_word, *sandbox_word, *backend_word;
    enum log_level log_level;
    enum job_isolation isolation;
    enum job_sandbox_mode sandbox;
    uint64_t workers, threads, helpers, queue_max, max_attempts, connections;
    uint64_t max_upload, min_free, job_memory, check_memory, job_file, sandbox_uid;
    double drain_s, cancel_grace_s, check_timeout_s;
    double retain_succeeded, retain_failed, retain_unused; /* days; 0: for ever */
    uint64_t jobs_max, quota_bytes;
    double rate, rate_burst;
    void *storage; /* of texts from the environment and the file */
};

/* Defaults, then the configuration file (--config or ONP_CONFIG), the environment, the flags; later ones win. Unknown
 * names and values out of range are errors. The struct must not be copied or moved afterwards. argv must stay. */
enum status settings_load(struct settings *settings, int argc, char **argv, struct error *error);
/* Reads token_file (or ONP_TOKEN) again; on an error the token stays. */
enum status settings_read_token(struct settings *settings, struct error *error);
void settings_deinit(struct settings *settings);
void settings_print_help(FILE *file);
/* As a configuration file, without the token. */
void settings_print(FILE *file, const struct settings *settings);
/* Can only this machine reach the TCP address? True without TCP. */
bool settings_is_local(const struct settings *settings);

#endif
