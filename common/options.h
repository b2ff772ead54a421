/* Command-line options by table: --name value, --name=value, flags, positional words. Unknown options are errors
 * that name the nearest known one. The same table prints the help text. */
#ifndef ONP_COMMON_OPTIONS_H
#define ONP_COMMON_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/error.h"

enum option_kind { OPTION_FLAG, OPTION_STRING, OPTION_U64, OPTION_DOUBLE, OPTION_BYTES, OPTION_LIST };

enum { OPTION_LIST_MAX = 32 };
struct option_list {
    const char *items[OPTION_LIST_MAX];
    size_t count;
};

struct option {
    const char *name; /* without the dashes; NULL ends the table */
    char letter;      /* short form, 0 if none */
    enum option_kind kind;
    void *target;           /* bool, const char *, uint64_t, double, uint64_t, struct option_list */
    uint64_t max;           /* for U64 and BYTES */
    const char *value_name; /* "FILE"; NULL for flags */
    const char *help;
};

/* Parses argv[1..]; positional words go to words[0..*word_count). Strings are borrowed from argv. "--" ends options. */
enum status options_parse(const struct option *table, int argc, char **argv, const char **words, size_t words_max,
                          size_t *word_count, struct error *error);
void options_print_help(FILE *file, const struct option *table);

#endif
