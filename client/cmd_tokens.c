/* onp tokens: who may use the server. A secret is printed once, alone on standard output, so that a script can take it. */
#include <stdio.h>
#include <string.h>

#include "client/command.h"
#include "client/nearest.h"
#include "client/terminal_text.h"
#include "common/id.h"

enum {
    DAYS_MAX = 3660,
    DAY_S = 24 * 3600,
    PAGE = 200,
    AFTER_SIZE = 64,
    SCOPES_SIZE = 64,

    CALL_TIMEOUT_S = 60
};

struct tokens {
    struct command_options options;
    const char *name;
    const char *scopes;
    uint64_t days;
    const struct command_words *words; /* the action, and ids */
    struct api_client *client;
};

static json_t *scopes_of(const char *list, struct error *error) {
    json_t *scopes = json_array();
    for (const char *at = list; scopes != NULL && *at != '\0';) {
        size_t length = strcspn(at, ",");
        char word[16] = "";
        if (length < sizeof word) {
            memcpy(word, at, length);
            word[length] = '\0';
        }
        if (token_scope_from_name(word) == SCOPE_COUNT) {
            (void)error_set(error, STATUS_INVALID, "--scopes",
                            "failed to read option --scopes: got \"%.64s\", expected of read, write, metrics, admin",
                            list);
            json_decref(scopes);
            return NULL;
        }
        (void)json_array_append_new(scopes, json_string(word));
        at += length + (at[length] == ',' ? 1 : 0);
    }
    return scopes;
}

static enum status create(struct tokens *tokens, struct error *error) {
    struct api_reply reply = {0};
    json_t *scopes = scopes_of(tokens->scopes, error);
    json_t *body = scopes != NULL ? json_pack("{s:s, s:o}", "name", tokens->name, "scopes", scopes) : NULL;
    if (body == NULL) {
        return error_set(error, STATUS_INVALID, "--name", "failed to read option --name: got text that is not UTF-8");
    }
    enum status status = STATUS_OK;
    if (tokens->days > 0 &&
        json_object_set_new(body, "expires_in_s", json_integer((json_int_t)tokens->days * DAY_S)) != 0) {
        status = error_no_memory(error, "a token");
    }
    if (status == STATUS_OK) {
        /* Without another try: the answer to one carries no secret. */
        api_client_set_patience(tokens->client, 0);
        status = api_client_call(tokens->client, "POST", PATH_TOKENS, body, NULL, CALL_TIMEOUT_S, &reply, error);
    }
    const char *secret = json_string_value(json_object_get(reply.body, "token"));
    const char *id = json_string_value(json_object_get(reply.body, "id"));
    if (status == STATUS_OK && (secret == NULL || id == NULL)) {
        status = error_set(error, STATUS_INVALID, PATH_TOKENS, "failed to make a token: got no secret, expected one");
    }
    if (status == STATUS_OK && tokens->options.json) {
        command_print_json(stdout, reply.body, true);
    } else if (status == STATUS_OK) {
        (void)fprintf(stderr, "token %s; its secret is shown only this once:\n", id);
        (void)printf("%s\n", secret);
    }
    json_decref(reply.body);
    json_decref(body);
    return status;
}

/* The titles, where `token` is NULL. */
static void print_row(const json_t *token) {
    static const struct {
        const char *name;
        size_t width;
    } cells[] = {{"id", 30}, {"created_at", 24}, {"expires_at", 24}, {"last_used_at", 24}, {"scopes", 20}, {"name", 1}};
    size_t column = 0;
    for (size_t i = 0; i < sizeof cells / sizeof cells[0]; i++) {
        char scopes[SCOPES_SIZE] = "";
        size_t j = 0;
        json_t *scope = NULL;
        const json_t *value = json_object_get(token, cells[i].name);
        json_array_foreach(value, j, scope) {
            size_t used = strlen(scopes);
            const char *word = json_string_value(scope);
            (void)snprintf(scopes + used, sizeof scopes - used, "%s%s", j > 0 ? "," : "", word != NULL ? word : "-");
        }
        const char *text = json_is_array(value) ? scopes : json_is_null(value) ? "never" : json_string_value(value);
        terminal_cell(stdout, token == NULL ? cells[i].name : text, cells[i].width, &column);
    }
    (void)printf("\n");
}

static enum status list(struct tokens *tokens, struct error *error) {
    enum status status = STATUS_OK;
    char after[AFTER_SIZE] = "";
    bool has_more = true;
    bool has_head = tokens->options.json;
    while (status == STATUS_OK && has_more) {
        char path[API_PATH_SIZE];
        json_t *page = NULL;
        size_t i = 0;
        json_t *item = NULL;
        (void)snprintf(path, sizeof path, PATH_TOKENS "?limit=%d%s%s", PAGE, after[0] != '\0' ? "&after=" : "", after);
        status = api_client_get(tokens->client, path, &page, error);
        if (status == STATUS_OK && !has_head) {
            print_row(NULL);
            has_head = true;
        }
        json_array_foreach(json_object_get(page, "data"), i, item) {
            if (tokens->options.json) {
                command_print_json(stdout, item, false);
            } else {
                print_row(item);
            }
        }
        const char *next = json_string_value(json_object_get(page, "next_after"));
        has_more = json_is_true(json_object_get(page, "has_more")) && next != NULL && id_is_valid(next, "tok");
        (void)snprintf(after, sizeof after, "%s", has_more ? next : "");
        json_decref(page);
    }
    return status;
}

static enum status revoke(struct tokens *tokens, struct error *error) {
    enum status status = STATUS_OK;
    for (size_t i = 1; i < tokens->words->count && status == STATUS_OK; i++) {
        struct api_reply reply = {0};
        char path[API_PATH_SIZE];
        const char *id = tokens->words->items[i];
        status = api_path(path, PATH_TOKENS, id, "", error);
        if (status == STATUS_OK) {
            status = api_client_call(tokens->client, "DELETE", path, NULL, NULL, CALL_TIMEOUT_S, &reply, error);
        }
        if (status == STATUS_OK && tokens->options.json) {
            (void)printf("{\"id\":\"%s\",\"revoked\":true}\n", id);
        } else if (status == STATUS_OK) {
            (void)printf("%s revoked\n", id);
        }
        json_decref(reply.body);
    }
    return status;
}

static const struct action {
    const char *name;
    bool takes_ids;
    enum status (*run)(struct tokens *tokens, struct error *error);
} ACTIONS[] = {{"list", false, list}, {"create", false, create}, {"revoke", true, revoke}};
enum { ACTION_COUNT = sizeof ACTIONS / sizeof ACTIONS[0] };

/* The action that the words ask for; NULL with the reason. */
static const struct action *find_action(const struct command_words *words, struct error *error) {
    const char *names[ACTION_COUNT];
    const char *name = words->count > 0 ? words->items[0] : "list";
    const struct action *action = NULL;
    for (size_t i = 0; i < ACTION_COUNT; i++) {
        names[i] = ACTIONS[i].name;
        action = strcmp(name, names[i]) == 0 ? &ACTIONS[i] : action;
    }
    if (action == NULL) {
        (void)error_set(error, STATUS_INVALID, NULL, "failed to read action: got \"%.32s\", expected perhaps %s", name,
                        nearest_word(name, names, ACTION_COUNT));
    } else if (action->takes_ids != (words->count > 1)) {
        (void)error_set(error, STATUS_INVALID, NULL, "failed to %s tokens: got %s, expected %s", name,
                        action->takes_ids ? "no id" : "one more word", action->takes_ids ? "ids of tokens" : "none");
        action = NULL;
    }
    for (size_t i = 1; i < words->count && action != NULL; i++) {
        if (!id_is_valid(words->items[i], "tok")) {
            (void)error_set(error, STATUS_INVALID, NULL,
                            "failed to read token id: got \"%.64s\", expected tok_ and 26 letters and digits",
                            words->items[i]);
            action = NULL;
        }
    }
    return action;
}

int cmd_tokens(const struct command *command, int argc, char **argv) {
    struct tokens tokens = {.name = "", .scopes = "read,write"};
    const struct option table[] = {
        {"name", 0, OPTION_STRING, &tokens.name, 0, "NAME", "create: what the token is for"},
        {"scopes", 0, OPTION_STRING, &tokens.scopes, 0, "LIST",
         "create: of read, write, metrics, admin, with commas (default read,write)"},
        {"days", 0, OPTION_U64, &tokens.days, DAYS_MAX, "N", "create: until it expires (default: never)"},
        COMMAND_OPTION_ROWS(tokens.options),
        COMMAND_OPTION_END,
    };
    struct command_words words;
    struct error error = {0};
    int exit_code = EXIT_USAGE;
    if (!command_parse(command, table, &tokens.options.help, argc, argv, 0, COMMAND_WORDS_MAX, &words, &exit_code)) {
        return exit_code;
    }
    const struct action *action = find_action(&words, &error);
    if (action == NULL) {
        return command_usage(command, &error);
    }
    tokens.words = &words;
    enum status status = command_connect(&tokens.options, &tokens.client, &error);
    if (status == STATUS_OK) {
        status = action->run(&tokens, &error);
    }
    api_client_free(tokens.client);
    return status == STATUS_OK ? EXIT_DONE : command_fail(&error);
}
