/* onp watch: follows a job to its end. Leaving does not touch the job. */
#include <stdio.h>

#include "client/command.h"
#include "client/interrupt.h"
#include "client/job_calls.h"

static void print_change(void *user, const json_t *job) {
    (void)user;
    command_print_json(stdout, job, false);
}

int cmd_watch(const struct command *command, int argc, char **argv) {
    struct command_options options = {.server = NULL};
    const struct option table[] = {COMMAND_OPTION_ROWS(options), COMMAND_OPTION_END};
    struct command_words words;
    struct error error = {0};
    struct api_client *client = NULL;
    json_t *job = NULL;
    int exit_code = EXIT_USAGE;
    if (!command_parse(command, table, &options.help, argc, argv, 1, 1, &words, &exit_code)) {
        return exit_code;
    }
    if (command_check_job_id(words.items[0], &error) != STATUS_OK) {
        return command_usage(command, &error);
    }
    /* With --json each change is a line on standard output, which is the progress. */
    struct progress_bar *bar = progress_bar_new(stderr, progress_mode_of(options.quiet || options.json));
    struct job_follow follow = {.bar = bar, .interrupts = interrupt_count() + 1};
    follow.changed = options.json ? print_change : NULL;
    enum status status = command_connect(&options, &client, &error);
    if (status == STATUS_OK) {
        status = job_calls_follow(client, words.items[0], &follow, &job, &error);
        progress_bar_end(bar, true);
    }
    if (status == STATUS_OK) {
        status = job_calls_outcome(job, &error);
    }
    if (status == STATUS_OK && !options.json) {
        (void)printf("%s %s (onp result %s)\n", words.items[0], job_state_name(job_calls_state(job)), words.items[0]);
    }
    json_decref(job);
    progress_bar_free(bar);
    api_client_free(client);
    return status == STATUS_OK ? EXIT_DONE : command_fail(&error);
}
