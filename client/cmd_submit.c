/* onp submit: queues a job; with --watch it stays until the end. */
#include <stdio.h>

#include "client/command.h"
#include "client/interrupt.h"
#include "client/job_calls.h"

struct submit {
    struct command_options options;
    struct job_words words;
    bool watch;
};

static enum status watch_job(const struct submit *submit, struct api_client *client, struct progress_bar *bar,
                             const char *job_id, struct error *error) {
    struct job_follow follow = {.bar = bar, .interrupts = interrupt_count() + 1};
    json_t *job = NULL;
    enum status status = job_calls_follow(client, job_id, &follow, &job, error);
    progress_bar_end(bar, true);
    if (status == STATUS_OK) {
        status = job_calls_outcome(job, error);
    }
    if (job != NULL && submit->options.json) {
        command_print_json(stdout, job, false);
    }
    json_decref(job);
    return status;
}

static int submit_job(const struct submit *submit, json_t *body) {
    struct error error = {0};
    struct api_client *client = NULL;
    char job_id[ID_SIZE];
    struct progress_bar *bar = progress_bar_new(stderr, progress_mode_of(submit->options.quiet));
    enum status status = command_connect(&submit->options, &client, &error);
    if (status == STATUS_OK) {
        status = job_calls_submit(client, bar, &submit->words, body, job_id, &error);
        progress_bar_end(bar, false);
    }
    if (status == STATUS_OK && !submit->options.json) {
        (void)printf("%s\n", job_id);
        (void)fflush(stdout);
    }
    if (status == STATUS_OK && submit->watch) {
        status = watch_job(submit, client, bar, job_id, &error);
    } else if (status == STATUS_OK && submit->options.json) {
        json_t *job = NULL;
        status = job_calls_get(client, job_id, &job, &error);
        if (status == STATUS_OK) {
            command_print_json(stdout, job, false);
        }
        json_decref(job);
    }
    progress_bar_free(bar);
    api_client_free(client);
    return status == STATUS_OK ? EXIT_DONE : command_fail(&error);
}

int cmd_submit(const struct command *command, int argc, char **argv) {
    struct submit submit = {.words = {.method = "onp"}};
    const struct option table[] = {
        {"samples", 0, OPTION_STRING, &submit.words.samples, 0, "ID|FILE", "clean samples"},
        {"probe", 0, OPTION_STRING, &submit.words.probe, 0, "ID|FILE", "triggered samples, for the report alone"},
        {"method", 0, OPTION_STRING, &submit.words.method, 0, "NAME", "onp (default) or another of onp capabilities"},
        {"set", 0, OPTION_LIST, &submit.words.settings, 0, "KEY=VALUE", "a parameter of the method; may be repeated"},
        {"seed", 0, OPTION_STRING, &submit.words.seed, 0, "N", "seed of all randomness"},
        {"label", 'l', OPTION_LIST, &submit.words.labels, 0, "KEY=VALUE", "a label of the job; may be repeated"},
        {"priority", 0, OPTION_STRING, &submit.words.priority, 0, "N", "higher runs first"},
        {"deadline", 0, OPTION_DOUBLE, &submit.words.deadline_s, 0, "SECONDS", "it must be done by then"},
        {"key", 0, OPTION_STRING, &submit.words.key, 0, "KEY",
         "Idempotency-Key: a second submission with it gives the job of the first"},
        {"watch", 'w', OPTION_FLAG, &submit.watch, 0, NULL, "follow the job to its end"},
        COMMAND_OPTION_ROWS(submit.options),
        COMMAND_OPTION_END,
    };
    struct command_words words;
    struct error error = {0};
    json_t *body = NULL;
    int exit_code = EXIT_USAGE;
    if (!command_parse(command, table, &submit.options.help, argc, argv, 1, 1, &words, &exit_code)) {
        return exit_code;
    }
    submit.words.model = words.items[0];
    if (submit.words.samples == NULL) {
        (void)error_set(&error, STATUS_INVALID, "--samples",
                        "failed to read options: got no --samples, expected clean samples (an id or a file)");
        return command_usage(command, &error);
    }
    if (job_calls_prepare(&submit.words, &body, &error) != STATUS_OK) {
        return command_usage(command, &error);
    }
    exit_code = submit_job(&submit, body);
    json_decref(body);
    return exit_code;
}
