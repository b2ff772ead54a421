/* onp result: what a finished job found. */
#include <stdio.h>

#include "client/command.h"
#include "client/gate.h"
#include "client/job_calls.h"
#include "client/report_view.h"

int cmd_result(const struct command *command, int argc, char **argv) {
    struct command_options options = {.server = NULL};
    struct option_list fail_on = {.count = 0};
    const struct option table[] = {
        {"fail-on", 0, OPTION_LIST, &fail_on, 0, "GATE", "exit with 3 if this holds, such as 'asr_after>0.05'"},
        COMMAND_OPTION_ROWS(options),
        COMMAND_OPTION_END,
    };
    struct command_words words;
    struct gates gates;
    struct error error = {0};
    struct api_client *client = NULL;
    json_t *report = NULL;
    int exit_code = EXIT_USAGE;
    if (!command_parse(command, table, &options.help, argc, argv, 1, 1, &words, &exit_code)) {
        return exit_code;
    }
    if (command_check_job_id(words.items[0], &error) != STATUS_OK ||
        gates_parse(&fail_on, &gates, &error) != STATUS_OK) {
        return command_usage(command, &error);
    }
    enum status status = command_connect(&options, &client, &error);
    if (status == STATUS_OK) {
        status = job_calls_result(client, words.items[0], &report, &error);
    }
    if (status != STATUS_OK) {
        exit_code = command_fail(&error);
    } else {
        if (options.json) {
            command_print_json(stdout, report, true);
        } else {
            struct progress_style style = progress_style_of(stdout);
            report_view_summary(stdout, report, &style);
        }
        exit_code = gates_check(&gates, report, stderr) ? EXIT_DONE : EXIT_GATE;
    }
    json_decref(report);
    api_client_free(client);
    return exit_code;
}
