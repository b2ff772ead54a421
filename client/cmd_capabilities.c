/* onp capabilities: what the server can do. Parameters are shown from the JSON Schema that the server sends. */
#include <stdio.h>
#include <string.h>

#include "client/command.h"
#include "common/text_wrap.h"

enum { DEFAULT_SIZE = 48, NARROW = 90 };

/* A default in one short word. */
static void format_default(char out[DEFAULT_SIZE], const json_t *value) {
    size_t length = value != NULL ? json_dumpb(value, out, DEFAULT_SIZE - 1,
                                               JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(12))
                                  : 0;
    if (length >= DEFAULT_SIZE) {
        (void)snprintf(out, DEFAULT_SIZE, "...");
        return;
    }
    out[length] = '\0';
}

/* One level of nested objects is shown as a.b, as --set takes it. */
static void print_properties(const json_t *schema, const char *prefix, int depth) {
    const char *name = NULL;
    json_t *property = NULL;
    json_object_foreach(json_object_get(schema, "properties"), name, property) {
        char full[96];
        char text[DEFAULT_SIZE];
        const char *type = json_string_value(json_object_get(property, "type"));
        const char *about = json_string_value(json_object_get(property, "description"));
        (void)snprintf(full, sizeof full, "%s%s%s", prefix, prefix[0] != '\0' ? "." : "", name);
        if (json_is_object(json_object_get(property, "properties")) && depth < 1) {
            print_properties(property, full, depth + 1);
            continue;
        }
        format_default(text, json_object_get(property, "default"));
        size_t width = text_terminal_width(stdout);
        bool is_narrow = width > 0 && width < NARROW;
        if (is_narrow) {
            (void)printf("    %s %s %s\n      ", full, type != NULL ? type : "", text);
        } else {
            (void)printf("    %-28s %-8s %-10s ", full, type != NULL ? type : "", text);
        }
        text_wrap(stdout, about != NULL ? about : "", is_narrow ? 6 : 53, is_narrow ? 6 : 53, width);
        (void)printf("\n");
    }
}

static void print_limits(json_t *limits) {
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach(limits, name, value) {
        char text[DEFAULT_SIZE];
        format_default(text, value);
        (void)printf("  %-28s %s\n", name, text);
    }
}

static void print_words(const char *title, const json_t *words) {
    size_t i = 0;
    size_t column = 2;
    size_t width = text_terminal_width(stdout);
    json_t *word = NULL;
    width = width > 0 && width < 100 ? width : 100;
    if (json_array_size(words) == 0) {
        return;
    }
    (void)printf("\n%s\n ", title);
    json_array_foreach(words, i, word) {
        const char *text = json_string_value(word);
        text = text != NULL ? text : json_string_value(json_object_get(word, "name"));
        if (text == NULL) {
            continue;
        }
        if (column + strlen(text) + 1 > width) {
            (void)printf("\n ");
            column = 2;
        }
        column += strlen(text) + 1;
        (void)printf(" %s", text);
    }
    (void)printf("\n");
}

static void print_capabilities(const json_t *capabilities) {
    size_t i = 0;
    json_t *method = NULL;
    text_wrap(stdout, "methods (name, then its parameters for --set: type, default, meaning)", 0, 2,
              text_terminal_width(stdout));
    (void)printf("\n");
    json_array_foreach(json_object_get(capabilities, "methods"), i, method) {
        const char *name = json_string_value(json_object_get(method, "name"));
        const char *summary = json_string_value(json_object_get(method, "summary"));
        (void)printf("  %s: ", name != NULL ? name : "-");
        text_wrap(stdout, summary != NULL ? summary : "", 4 + (name != NULL ? strlen(name) : 1), 4,
                  text_terminal_width(stdout));
        (void)printf("\n");
        print_properties(json_object_get(method, "parameters"), "", 0);
    }
    print_words("operators", json_object_get(capabilities, "operators"));
    if (json_is_object(json_object_get(capabilities, "limits"))) {
        (void)printf("\nlimits\n");
        print_limits(json_object_get(capabilities, "limits"));
    }
}

int cmd_capabilities(const struct command *command, int argc, char **argv) {
    struct command_options options = {.server = NULL};
    const struct option table[] = {COMMAND_OPTION_ROWS(options), COMMAND_OPTION_END};
    struct command_words words;
    json_t *capabilities = NULL;
    int exit_code = EXIT_USAGE;
    if (!command_parse(command, table, &options.help, argc, argv, 0, 0, &words, &exit_code)) {
        return exit_code;
    }
    if (!command_get(&options, PATH_CAPABILITIES, &capabilities, &exit_code)) {
        return exit_code;
    }
    if (options.json) {
        command_print_json(stdout, capabilities, true);
    } else {
        print_capabilities(capabilities);
    }
    json_decref(capabilities);
    return EXIT_DONE;
}
