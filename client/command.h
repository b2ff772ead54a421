/* What all commands of `onp` share: options, help, messages, exit codes, the connection. */
#ifndef ONP_CLIENT_COMMAND_H
#define ONP_CLIENT_COMMAND_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "client/api_client.h"
#include "client/progress_bar.h"
#include "common/error.h"
#include "common/options.h"
#include "common/words.h"

/* The row of a command in main.c's table. */
struct command {
    const char *name;
    const char *usage;    /* what follows "onp": "upload FILE..." */
    const char *summary;  /* one line */
    const char *examples; /* whole lines */
    int (*run)(const struct command *command, int argc, char **argv);
};

/* Options that every command has. */
struct command_options {
    const char *server; /* NULL: ONP_SERVER, then the default address */
    const char *token;  /* NULL: ONP_TOKEN */
    bool json;
    bool quiet;
    bool help;
};
#define COMMAND_OPTION_ROWS(o)                                                                                         \
    {"server",                                                                                                         \
     's',                                                                                                              \
     OPTION_STRING,                                                                                                    \
     &(o).server,                                                                                                      \
     0,                                                                                                                \
     "URL",                                                                                                            \
     "http(s)://host:port or unix:/path (default: ONP_SERVER, "                                                        \
     "else " COMMAND_SERVER_DEFAULT ")"},                                                                              \
        {"token", 0, OPTION_STRING, &(o).token, 0, "TOKEN", "bearer token (default: ONP_TOKEN)"},                      \
        {"json", 'j', OPTION_FLAG, &(o).json, 0, NULL, "answer in JSON on standard output"},                           \
        {"quiet", 'q', OPTION_FLAG, &(o).quiet, 0, NULL, "no progress"}, COMMAND_HELP_ROW(o)
#define COMMAND_HELP_ROW(o)                                                                                            \
    { "help", 'h', OPTION_FLAG, &(o).help, 0, NULL, "this text" }
#define COMMAND_OPTION_END                                                                                             \
    { NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL }
#define COMMAND_EXIT_STATUS "0 done, 1 failed, 2 wrong usage, 3 gate not met, 4 server not reached"
#define COMMAND_SERVER_DEFAULT "http://127.0.0.1:8080"

enum { COMMAND_WORDS_MAX = 32 };
struct command_words {
    const char *items[COMMAND_WORDS_MAX];
    size_t count;
};

/* Reads the options and between `least` and `most` words. true: go on; false: help was printed or the words are wrong (said
 * on stderr), and *exit_code is what to leave with. `help` is the target of the table's help row. */
bool command_parse(const struct command *command, const struct option *table, const bool *help, int argc, char **argv,
                   size_t least, size_t most, struct command_words *words, int *exit_code);

/* Prints the error on stderr; returns the exit code it stands for. */
int command_fail(const struct error *error);
/* As command_fail() for words of the command line: always EXIT_USAGE. */
int command_usage(const struct command *command, const struct error *error);

/* Was a server named, by option or ONP_SERVER? */
bool command_has_server(const struct command_options *options);
/* The server of the options, of ONP_SERVER, or the default; borrowed. */
const char *command_server(const struct command_options *options);
enum status command_connect(const struct command_options *options, struct api_client **out, struct error *error);
/* Connects and GETs one document. Prints what went wrong; *exit_code then. */
bool command_get(const struct command_options *options, const char *path, json_t **out, int *exit_code);

/* One JSON document and a line break. */
void command_print_json(FILE *file, const json_t *value, bool indented);
/* Whether `word` is an id of this kind: "mdl", "smp", "job". */
bool command_word_is_id(const char *word, const char *prefix);
/* STATUS_INVALID if `word` is no job id. */
enum status command_check_job_id(const char *word, struct error *error);

int cmd_run(const struct command *command, int argc, char **argv);
int cmd_serve(const struct command *command, int argc, char **argv);
int cmd_upload(const struct command *command, int argc, char **argv);
int cmd_submit(const struct command *command, int argc, char **argv);
int cmd_status(const struct command *command, int argc, char **argv);
int cmd_watch(const struct command *command, int argc, char **argv);
int cmd_wait(const struct command *command, int argc, char **argv);
int cmd_cancel(const struct command *command, int argc, char **argv);
int cmd_result(const struct command *command, int argc, char **argv);
int cmd_download(const struct command *command, int argc, char **argv);
int cmd_list(const struct command *command, int argc, char **argv);
int cmd_report(const struct command *command, int argc, char **argv);
int cmd_compare(const struct command *command, int argc, char **argv);
int cmd_tokens(const struct command *command, int argc, char **argv);
int cmd_capabilities(const struct command *command, int argc, char **argv);
int cmd_version(const struct command *command, int argc, char **argv);

#endif
