/* onp version. */
#include <stdio.h>

#include "client/command.h"

int cmd_version(const struct command *command, int argc, char **argv) {
    struct command_options options = {.json = false};
    const struct option table[] = {
        {"json", 'j', OPTION_FLAG, &options.json, 0, NULL, "answer in JSON"},
        COMMAND_HELP_ROW(options),
        COMMAND_OPTION_END,
    };
    struct command_words words;
    int exit_code = EXIT_USAGE;
    if (!command_parse(command, table, &options.help, argc, argv, 0, 0, &words, &exit_code)) {
        return exit_code;
    }
    if (options.json) {
        (void)printf("{\"version\":\"%s\"}\n", ONP_VERSION);
    } else {
        (void)printf("onp %s\n", ONP_VERSION);
    }
    return EXIT_DONE;
}
