/* onp status: a job as it is now. */
#include <stdio.h>

#include "client/command.h"
#include "client/job_calls.h"

/* Members in the order people ask for them; what is missing or null is left out. */
static const char *const MEMBERS[] = {"state",    "method",  "seed",       "model_id",   "samples_id", "probe_id",
                                      "priority", "attempt", "created_at", "started_at", "finished_at"};

static void print_member(const char *name, const json_t *value) {
    if (json_is_string(value) && json_string_length(value) > 0) {
        (void)printf("  %-12s %s\n", name, json_string_value(value));
    } else if (json_is_integer(value)) {
        (void)printf("  %-12s %lld\n", name, (long long)json_integer_value(value));
    }
}

static void print_progress(const json_t *progress) {
    const char *stage = json_string_value(json_object_get(progress, "stage"));
    const json_t *fraction = json_object_get(progress, "fraction");
    const json_t *eta = json_object_get(progress, "eta_s");
    if (stage == NULL) {
        return;
    }
    (void)printf("  %-12s %s", "stage", stage);
    if (json_is_number(fraction)) {
        (void)printf(", %.0f %% of the job", json_number_value(fraction) * 100);
    }
    if (json_is_number(eta) && json_number_value(eta) >= 0) {
        char text[32];
        progress_format_seconds(json_number_value(eta), text, sizeof text);
        (void)printf(", %s left", text);
    }
    (void)printf("\n");
}

static void print_job(const char *id, const json_t *job) {
    struct error why = {0};
    (void)printf("%s\n", id);
    for (size_t i = 0; i < sizeof MEMBERS / sizeof MEMBERS[0]; i++) {
        print_member(MEMBERS[i], json_object_get(job, MEMBERS[i]));
    }
    print_progress(json_object_get(job, "progress"));
    if (job_calls_state(job) == JOB_FAILED) {
        (void)job_calls_outcome(job, &why);
        (void)printf("  %-12s %s%s%s%s\n", "reason", why.message, why.where[0] != '\0' ? " (at " : "", why.where,
                     why.where[0] != '\0' ? ")" : "");
    }
}

int cmd_status(const struct command *command, int argc, char **argv) {
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
    enum status status = command_connect(&options, &client, &error);
    if (status == STATUS_OK) {
        status = job_calls_get(client, words.items[0], &job, &error);
    }
    if (status == STATUS_OK && options.json) {
        command_print_json(stdout, job, true);
    } else if (status == STATUS_OK) {
        print_job(words.items[0], job);
    }
    json_decref(job);
    api_client_free(client);
    return status == STATUS_OK ? EXIT_DONE : command_fail(&error);
}
