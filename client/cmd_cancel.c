/* onp cancel: asks for the end of jobs. Asking twice is fine. */
#include <stdio.h>

#include "client/command.h"
#include "client/job_calls.h"

int cmd_cancel(const struct command *command, int argc, char **argv) {
    struct command_options options = {.server = NULL};
    const struct option table[] = {COMMAND_OPTION_ROWS(options), COMMAND_OPTION_END};
    struct command_words words;
    struct error error = {0};
    struct api_client *client = NULL;
    int exit_code = EXIT_USAGE;
    if (!command_parse(command, table, &options.help, argc, argv, 1, COMMAND_WORDS_MAX, &words, &exit_code)) {
        return exit_code;
    }
    for (size_t i = 0; i < words.count; i++) {
        if (command_check_job_id(words.items[i], &error) != STATUS_OK) {
            return command_usage(command, &error);
        }
    }
    if (command_connect(&options, &client, &error) != STATUS_OK) {
        return command_fail(&error);
    }
    exit_code = EXIT_DONE;
    /* One that is already over must not keep the others running. */
    for (size_t i = 0; i < words.count; i++) {
        json_t *job = NULL;
        error_clear(&error);
        if (job_calls_cancel(client, words.items[i], &job, &error) != STATUS_OK) {
            exit_code = command_fail(&error);
        } else if (options.json && job != NULL) {
            command_print_json(stdout, job, false);
        } else {
            enum job_state state = job_calls_state(job);
            (void)printf("%s %s\n", words.items[i], state < JOB_STATE_COUNT ? job_state_name(state) : "cancelling");
        }
        json_decref(job);
    }
    api_client_free(client);
    return exit_code;
}
