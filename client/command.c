/* The shared half of the commands. Results go to standard output, everything else to standard error, so that a pipe
 * carries results only. */
#include "client/command.h"

#include <stdlib.h>
#include <string.h>

#include "common/id.h"
#include "common/text_wrap.h"

static void print_help(const struct command *command, const struct option *table) {
    size_t width = text_terminal_width(stdout);
    (void)printf("usage: onp ");
    text_wrap(stdout, command->usage, 11, 4, width);
    (void)printf("\n\n");
    text_wrap(stdout, command->summary, 0, 0, width);
    (void)printf("\n\noptions:\n");
    options_print_help(stdout, table);
    (void)printf("\nexamples:\n%s", command->examples);
    (void)printf("\n");
    text_wrap(stdout, "exit status: " COMMAND_EXIT_STATUS, 0, 4, width);
    (void)printf("\n");
}

bool command_parse(const struct command *command, const struct option *table, const bool *help, int argc, char **argv,
                   size_t least, size_t most, struct command_words *words, int *exit_code) {
    struct error error = {0};
    most = most < COMMAND_WORDS_MAX ? most : COMMAND_WORDS_MAX;
    words->count = 0;
    enum status status = options_parse(table, argc, argv, words->items, most, &words->count, &error);
    if (*help) {
        print_help(command, table);
        *exit_code = EXIT_DONE;
        return false;
    }
    if (status == STATUS_OK && words->count < least) {
        status = error_set(&error, STATUS_INVALID, NULL, "failed to read arguments: got %zu words, expected %s%zu",
                           words->count, least < most ? "at least " : "", least);
    }
    if (status != STATUS_OK) {
        *exit_code = command_usage(command, &error);
        return false;
    }
    return true;
}

int command_fail(const struct error *error) {
    bool has_place = error->where[0] != '\0' && strstr(error->message, error->where) == NULL;
    char line[ERROR_MESSAGE_MAX + ERROR_WHERE_MAX + 16];
    (void)snprintf(line, sizeof line, "onp: %s%s%s%s", error->message, has_place ? " (at " : "",
                   has_place ? error->where : "", has_place ? ")" : "");
    text_wrap(stderr, line, 0, 5, text_terminal_width(stderr));
    (void)fputc('\n', stderr);
    return error->status == STATUS_UNAVAILABLE ? EXIT_UNREACHED : EXIT_FAILED;
}

int command_usage(const struct command *command, const struct error *error) {
    (void)command_fail(error);
    (void)fputs("usage: onp ", stderr);
    text_wrap(stderr, command->usage, 11, 11, text_terminal_width(stderr));
    (void)fprintf(stderr, "\n       onp %s --help\n", command->name);
    return EXIT_USAGE;
}

bool command_has_server(const struct command_options *options) {
    const char *server = options->server != NULL ? options->server : getenv("ONP_SERVER");
    return server != NULL && server[0] != '\0';
}

const char *command_server(const struct command_options *options) {
    const char *server = options->server != NULL ? options->server : getenv("ONP_SERVER");
    return server != NULL && server[0] != '\0' ? server : COMMAND_SERVER_DEFAULT;
}

enum status command_connect(const struct command_options *options, struct api_client **out, struct error *error) {
    const char *token = options->token != NULL ? options->token : getenv("ONP_TOKEN");
    return api_client_new(command_server(options), token, out, error);
}

bool command_get(const struct command_options *options, const char *path, json_t **out, int *exit_code) {
    struct error error = {0};
    struct api_client *client = NULL;
    enum status status = command_connect(options, &client, &error);
    if (status == STATUS_OK) {
        status = api_client_get(client, path, out, &error);
    }
    api_client_free(client);
    if (status != STATUS_OK) {
        *exit_code = command_fail(&error);
    }
    return status == STATUS_OK;
}

void command_print_json(FILE *file, const json_t *value, bool indented) {
    (void)json_dumpf(value, file,
                     (indented ? JSON_INDENT(2) : JSON_COMPACT) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    (void)fputc('\n', file);
    (void)fflush(file);
}

bool command_word_is_id(const char *word, const char *prefix) {
    return id_is_valid(word, prefix);
}

enum status command_check_job_id(const char *word, struct error *error) {
    if (id_is_valid(word, "job")) {
        return STATUS_OK;
    }
    return error_set(error, STATUS_INVALID, NULL,
                     "failed to read job id: got \"%.64s\", expected job_ and 26 letters and digits", word);
}
