/* Command-line options by table. getopt_long() keeps its state in globals, prints on its own and abbreviates silently;
 * here a wrong word is an error record that names the nearest option. */
#include "common/options.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

#include "common/parse.h"
#include "common/text_wrap.h"

enum { NAME_MAX_LENGTH = 40, FAR = NAME_MAX_LENGTH + 1 };

static size_t min3(size_t a, size_t b, size_t c) {
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

/* Levenshtein distance with one row; FAR for names too long to be worth comparing. */
static size_t distance(const char *a, size_t a_length, const char *b) {
    size_t row[NAME_MAX_LENGTH + 1];
    size_t b_length = strlen(b);
    if (a_length > NAME_MAX_LENGTH || b_length > NAME_MAX_LENGTH) {
        return FAR;
    }
    for (size_t j = 0; j <= b_length; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a_length; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t above = row[j];
            row[j] = min3(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[b_length];
}

static enum status unknown_option(const struct option *table, const char *word, const char *name, size_t length,
                                  struct error *error) {
    const char *nearest = NULL;
    size_t best = FAR;
    for (const struct option *option = table; option->name != NULL; option++) {
        size_t far = distance(name, length, option->name);
        if (far < best) {
            best = far;
            nearest = option->name;
        }
    }
    if (nearest == NULL) {
        return error_set(error, STATUS_INVALID, word, "failed to read options: got unknown %s, expected none", word);
    }
    return error_set(error, STATUS_INVALID, word, "failed to read options: got unknown %s, expected perhaps --%s", word,
                     nearest);
}

static const struct option *find_long(const struct option *table, const char *name, size_t length) {
    for (const struct option *option = table; option->name != NULL; option++) {
        if (strlen(option->name) == length && strncmp(option->name, name, length) == 0) {
            return option;
        }
    }
    return NULL;
}

static const struct option *find_letter(const struct option *table, char letter) {
    for (const struct option *option = table; option->name != NULL; option++) {
        if (option->letter != '\0' && option->letter == letter) {
            return option;
        }
    }
    return NULL;
}

static enum status bad_value(const struct option *option, const char *value, const char *expected,
                             struct error *error) {
    char where[ERROR_WHERE_MAX];
    (void)snprintf(where, sizeof where, "--%s", option->name);
    return error_set(error, STATUS_INVALID, where, "failed to read option --%s: got \"%.64s\", expected %s",
                     option->name, value, expected);
}

static enum status append_to_list(const struct option *option, const char *value, struct error *error) {
    struct option_list *list = option->target;
    if (list->count == OPTION_LIST_MAX) {
        char expected[64];
        (void)snprintf(expected, sizeof expected, "at most %d of them", OPTION_LIST_MAX);
        return bad_value(option, value, expected, error);
    }
    list->items[list->count++] = value;
    return STATUS_OK;
}

/* Stores `value` where the option's table row says. */
static enum status store_value(const struct option *option, const char *value, struct error *error) {
    char expected[64];
    switch (option->kind) {
    case OPTION_FLAG:
        return parse_bool(value, option->target) ? STATUS_OK : bad_value(option, value, "true or false", error);
    case OPTION_STRING:
        *(const char **)option->target = value;
        return STATUS_OK;
    case OPTION_U64:
        (void)snprintf(expected, sizeof expected, "an integer from 0 to %llu", (unsigned long long)option->max);
        return parse_u64(value, option->max, option->target) ? STATUS_OK : bad_value(option, value, expected, error);
    case OPTION_DOUBLE:
        return parse_double(value, -DBL_MAX, DBL_MAX, option->target) ? STATUS_OK
                                                                      : bad_value(option, value, "a number", error);
    case OPTION_BYTES:
        (void)snprintf(expected, sizeof expected, "a size such as 64k or 2G, at most %llu",
                       (unsigned long long)option->max);
        return parse_bytes(value, option->max, option->target) ? STATUS_OK : bad_value(option, value, expected, error);
    case OPTION_LIST:
        return append_to_list(option, value, error);
    }
    return error_set(error, STATUS_INTERNAL, NULL, "failed to read option --%s: got kind %d", option->name,
                     (int)option->kind);
}

/* Handles the option at argv[*at]; moves *at on if the value is the next word. */
static enum status parse_one(const struct option *table, int argc, char **argv, int *at, struct error *error) {
    const char *word = argv[*at];
    const char *value = NULL;
    const struct option *option = NULL;
    if (word[1] == '-') {
        const char *name = word + 2;
        const char *equals = strchr(name, '=');
        size_t length = equals != NULL ? (size_t)(equals - name) : strlen(name);
        option = find_long(table, name, length);
        if (option == NULL) {
            return unknown_option(table, word, name, length, error);
        }
        value = equals != NULL ? equals + 1 : NULL;
    } else {
        option = word[2] == '\0' ? find_letter(table, word[1]) : NULL;
        if (option == NULL) {
            return unknown_option(table, word, word + 1, strlen(word + 1), error);
        }
    }
    if (value == NULL && option->kind == OPTION_FLAG) {
        *(bool *)option->target = true;
        return STATUS_OK;
    }
    if (value == NULL) {
        if (*at + 1 >= argc) {
            return error_set(error, STATUS_INVALID, word, "failed to read option --%s: got nothing, expected %s",
                             option->name, option->value_name != NULL ? option->value_name : "a value");
        }
        *at += 1;
        value = argv[*at];
    }
    return store_value(option, value, error);
}

enum status options_parse(const struct option *table, int argc, char **argv, const char **words, size_t words_max,
                          size_t *word_count, struct error *error) {
    size_t count = 0;
    bool options_ended = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (!options_ended && strcmp(word, "--") == 0) {
            options_ended = true;
        } else if (!options_ended && word[0] == '-' && word[1] != '\0') {
            enum status status = parse_one(table, argc, argv, &i, error);
            if (status != STATUS_OK) {
                return status;
            }
        } else if (count == words_max) {
            return error_set(error, STATUS_INVALID, word,
                             "failed to read arguments: got one more word \"%.64s\", expected at most %zu", word,
                             words_max);
        } else {
            words[count++] = word;
        }
    }
    *word_count = count;
    return STATUS_OK;
}

void options_print_help(FILE *file, const struct option *table) {
    enum { COLUMN = 28, NARROW = 72, NARROW_COLUMN = 6 };
    size_t terminal = text_terminal_width(file);
    for (const struct option *option = table; option->name != NULL; option++) {
        char left[96];
        char letter[8] = "    ";
        if (option->letter != '\0') {
            (void)snprintf(letter, sizeof letter, "-%c, ", option->letter);
        }
        bool takes_value = option->kind != OPTION_FLAG && option->value_name != NULL;
        int width = snprintf(left, sizeof left, "  %s--%s%s%s", letter, option->name, takes_value ? " " : "",
                             takes_value ? option->value_name : "");
        int column = terminal > 0 && terminal < NARROW ? NARROW_COLUMN : COLUMN;
        if (width > column) {
            (void)fprintf(file, "%s\n%*s  ", left, column, "");
        } else {
            (void)fprintf(file, "%-*s  ", column, left);
        }
        text_wrap(file, option->help, (size_t)column + 2, (size_t)column + 2, terminal);
        (void)fputc('\n', file);
    }
}
