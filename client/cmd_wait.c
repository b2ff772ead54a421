/* onp wait: for pipelines. Waits, checks gates, and says by its exit status what to do. */
#include <stdio.h>

#include "client/command.h"
#include "client/gate.h"
#include "client/interrupt.h"
#include "client/job_calls.h"
#include "client/report_view.h"

struct wait {
    struct command_options options;
    struct option_list fail_on;
    double timeout_s;
    struct gates gates;
};

static enum status wait_for(const struct wait *wait, struct api_client *client, const char *job_id, json_t **report,
                            struct error *error) {
    struct progress_bar *bar = progress_bar_new(stderr, progress_mode_of(wait->options.quiet));
    struct job_follow follow = {.bar = bar, .interrupts = interrupt_count() + 1, .timeout_s = wait->timeout_s};
    json_t *job = NULL;
    enum status status = job_calls_follow(client, job_id, &follow, &job, error);
    progress_bar_end(bar, true);
    progress_bar_free(bar);
    if (status == STATUS_OK) {
        status = job_calls_outcome(job, error);
    }
    json_decref(job);
    return status == STATUS_OK ? job_calls_result(client, job_id, report, error) : status;
}

int cmd_wait(const struct command *command, int argc, char **argv) {
    struct wait wait = {.timeout_s = 0};
    const struct option table[] = {
        {"fail-on", 0, OPTION_LIST, &wait.fail_on, 0, "GATE", "exit with 3 if this holds, such as 'asr_after>0.05'"},
        {"timeout", 0, OPTION_DOUBLE, &wait.timeout_s, 0, "SECONDS", "give up after this time (default: never)"},
        COMMAND_OPTION_ROWS(wait.options),
        COMMAND_OPTION_END,
    };
    struct command_words words;
    struct error error = {0};
    struct api_client *client = NULL;
    json_t *report = NULL;
    int exit_code = EXIT_USAGE;
    if (!command_parse(command, table, &wait.options.help, argc, argv, 1, 1, &words, &exit_code)) {
        return exit_code;
    }
    if (command_check_job_id(words.items[0], &error) != STATUS_OK ||
        gates_parse(&wait.fail_on, &wait.gates, &error) != STATUS_OK) {
        return command_usage(command, &error);
    }
    enum status status = command_connect(&wait.options, &client, &error);
    if (status == STATUS_OK) {
        status = wait_for(&wait, client, words.items[0], &report, &error);
    }
    if (status != STATUS_OK) {
        exit_code = command_fail(&error);
    } else {
        if (wait.options.json) {
            command_print_json(stdout, report, true);
        } else {
            struct progress_style style = progress_style_of(stdout);
            report_view_summary(stdout, report, &style);
        }
        exit_code = gates_check(&wait.gates, report, stderr) ? EXIT_DONE : EXIT_GATE;
    }
    json_decref(report);
    api_client_free(client);
    return exit_code;
}
