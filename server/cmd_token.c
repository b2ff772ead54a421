/* Tokens from the command line. The secret is all that goes to stdout, so that it can be caught by a script. */
#include "server/cmd_token.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "common/mem.h"
#include "common/options.h"
#include "common/words.h"
#include "server/store/store_tokens.h"

enum { WORDS_MAX = 2, DAYS_MAX = 3660, MS_A_DAY = 24 * 3600 * 1000 };

struct token_options {
    bool help;
    const char *data_dir, *name, *scopes;
    uint64_t days;
};

enum { ROWS = 6 };

static void fill_table(struct token_options *options, struct option table[ROWS]) {
    const struct option rows[ROWS] = {
        {"data", 'd', OPTION_STRING, &options->data_dir, 0, "DIR", "folder of the server (ONP_DATA, default onp-data)"},
        {"name", 'n', OPTION_STRING, &options->name, 0, "NAME", "what the token is for"},
        {"scopes", 's', OPTION_STRING, &options->scopes, 0, "LIST",
         "of read, write, metrics, admin, with commas (default read,write)"},
        {"days", 0, OPTION_U64, &options->days, DAYS_MAX, "N", "until it expires (default 0: never)"},
        {"help", 'h', OPTION_FLAG, &options->help, 0, NULL, "print this, and end"},
        {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL},
    };
    memcpy(table, rows, sizeof(rows));
}

static enum status read_scopes(const char *list, unsigned *scopes, struct error *error) {
    char word[16];

    *scopes = 0;
    while (*list != '\0') {
        size_t length = strcspn(list, ",");
        enum token_scope scope;
        (void)snprintf(word, sizeof(word), "%.*s", (int)(length < sizeof(word) ? length : sizeof(word) - 1), list);
        scope = token_scope_from_name(word);
        if (scope == SCOPE_COUNT) {
            return error_set(error, STATUS_INVALID, "--scopes",
                             "failed to read option --scopes: got '%s', expected read, write, metrics or admin", word);
        }
        *scopes |= 1U << scope;
        list += length + (list[length] == ',' ? 1 : 0);
    }
    return STATUS_OK;
}

static enum status create(struct store *store, const struct token_options *options, struct error *error) {
    struct store_token token;
    char secret[SECRET_SIZE];
    unsigned scopes = 0;
    int64_t expires_ms = options->days > 0 ? clock_wall_ms() + (int64_t)options->days * MS_A_DAY : 0;
    enum status status = read_scopes(options->scopes, &scopes, error);

    if (status == STATUS_OK) {
        status = store_token_create(store, options->name, scopes, expires_ms, secret, &token, error);
    }
    if (status == STATUS_OK) {
        (void)fprintf(stderr, "token %s; its secret is shown only this once:\n", token.id);
        (void)printf("%s\n", secret);
    }
    return status;
}

static void print_time(int64_t wall_ms) {
    char text[CLOCK_RFC3339_SIZE] = "never";

    if (wall_ms != 0) {
        clock_rfc3339(wall_ms, text);
    }
    (void)printf("  %-24s", text);
}

static enum status list(struct store *store, struct error *error) {
    struct store_token *tokens = NULL;
    size_t count = 0;
    enum status status = store_token_list(store, &tokens, &count, error);

    if (status == STATUS_OK && count > 0) {
        (void)printf("%-30s  %-24s  %-24s  %-24s  %-24s  NAME\n", "ID", "CREATED", "EXPIRES", "LAST USED", "SCOPES");
    }
    for (size_t i = 0; i < count; i++) {
        char words[40] = "";
        for (unsigned scope = 0; scope < SCOPE_COUNT; scope++) {
            if ((tokens[i].scopes & 1U << scope) != 0) {
                size_t used = strlen(words);
                (void)snprintf(words + used, sizeof(words) - used, "%s%s", used > 0 ? "," : "",
                               token_scope_name((enum token_scope)scope));
            }
        }
        (void)printf("%-30s", tokens[i].id);
        print_time(tokens[i].created_ms);
        print_time(tokens[i].expires_ms);
        print_time(tokens[i].used_ms);
        (void)printf("  %-24s  %s\n", words, tokens[i].name);
    }
    mem_free(tokens);
    return status;
}

static enum status carry_out(const char *action, const char *id, const struct token_options *options,
                             struct error *error) {
    struct store *store = NULL;
    enum status status = store_open(options->data_dir, NULL, &store, error);

    if (status == STATUS_OK && strcmp(action, "create") == 0) {
        status = create(store, options, error);
    } else if (status == STATUS_OK && strcmp(action, "list") == 0) {
        status = list(store, error);
    } else if (status == STATUS_OK) {
        status = store_token_revoke(store, id, error);
    }
    store_close(store);
    return status;
}

static int print_help(FILE *file, const struct option *table, int code) {
    (void)fprintf(file,
                  "usage: onpd token create [OPTION]...\n       onpd token list [OPTION]...\n       onpd token "
                  "revoke ID [OPTION]...\n\nBearer tokens of a data folder whose server is not running; a "
                  "running server makes them at %s.\n\n",
                  PATH_TOKENS);
    options_print_help(file, table);
    return code;
}

int cmd_token(int argc, char **argv) {
    const char *from_environment = getenv("ONP_DATA");
    struct token_options options = {
        .data_dir = from_environment != NULL ? from_environment : "onp-data", .name = "", .scopes = "read,write"};
    struct option table[ROWS];
    const char *words[WORDS_MAX] = {NULL, NULL};
    size_t count = 0;
    struct error error = {0};
    bool known;

    fill_table(&options, table);
    log_set_level(LOG_WARN);
    if (options_parse(table, argc, argv, words, WORDS_MAX, &count, &error) != STATUS_OK) {
        (void)fprintf(stderr, "onpd token: %s\n", error.message);
        return EXIT_USAGE;
    }
    if (options.help) {
        return print_help(stdout, table, EXIT_DONE);
    }
    known = (count == 1 && (strcmp(words[0], "create") == 0 || strcmp(words[0], "list") == 0)) ||
            (count == 2 && strcmp(words[0], "revoke") == 0);
    if (!known) {
        return print_help(stderr, table, EXIT_USAGE);
    }
    if (carry_out(words[0], words[1], &options, &error) != STATUS_OK) {
        (void)fprintf(stderr, "onpd token: %s\n", error.message);
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}
