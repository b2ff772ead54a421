/* onp compare: several methods on one model, their figures side by side. Files are uploaded once; the jobs run one after the
 * other on the server that was named, else on a private onpd. A method that fails is a row that says why, and the others go on. */
#include <stdio.h>
#include <string.h>

#include "client/command.h"
#include "client/interrupt.h"
#include "client/job_calls.h"
#include "client/local_server.h"
#include "client/report_fields.h"
#include "client/report_format.h"
#include "client/settings.h"
#include "client/transfer.h"

enum { METHODS_MAX = 32, NAME_SIZE = 32, CELL_SIZE = 24 };

struct compare {
    struct command_options options;
    const char *model, *samples, *probe, *seed, *methods;
    struct option_list settings; /* method.key=value */
    uint64_t threads;

    char names[METHODS_MAX][NAME_SIZE];
    size_t count;
    json_t *parameters; /* {method: {key: value}} */
    char model_id[ID_SIZE], samples_id[ID_SIZE], probe_id[ID_SIZE];
    struct local_server *server; /* or NULL */
    struct api_client *client;
    struct progress_bar *bar;
    json_t *rows; /* [{"method", "report"} or {"method", "error"}] */
    bool any_failed;
};

static enum status add_name(struct compare *compare, const char *name, size_t length, struct error *error) {
    if (length == 0 || length >= NAME_SIZE || compare->count == METHODS_MAX) {
        return error_set(error, STATUS_INVALID, "--methods",
                         "failed to read methods: got \"%.*s\", expected at most %d names joined by commas",
                         (int)(length < NAME_SIZE ? length : NAME_SIZE), name, METHODS_MAX);
    }
    memcpy(compare->names[compare->count], name, length);
    compare->names[compare->count++][length] = '\0';
    return STATUS_OK;
}

static enum status read_names(struct compare *compare, struct error *error) {
    enum status status = STATUS_OK;
    for (const char *at = compare->methods; at != NULL && status == STATUS_OK;) {
        const size_t length = strcspn(at, ",");
        status = add_name(compare, at, length, error);
        at = at[length] == ',' ? at + length + 1 : NULL;
    }
    return status;
}

/* Every method the server has, in its order. */
static enum status ask_names(struct compare *compare, struct error *error) {
    json_t *capabilities = NULL, *method = NULL;
    size_t i = 0;
    enum status status = api_client_get(compare->client, PATH_CAPABILITIES, &capabilities, error);
    if (status == STATUS_OK) {
        json_array_foreach(json_object_get(capabilities, "methods"), i, method) {
            const char *name = json_string_value(json_object_get(method, "name"));
            if (name != NULL && status == STATUS_OK) {
                status = add_name(compare, name, strlen(name), error);
            }
        }
    }
    json_decref(capabilities);
    return status;
}

static bool is_compared(const struct compare *compare, const char *name) {
    for (size_t i = 0; i < compare->count; i++) {
        if (strcmp(compare->names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* Each setting must say whose it is: methods have parameters of their own. */
static enum status check_settings(const struct compare *compare, struct error *error) {
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach(compare->parameters, key, value) {
        if (!json_is_object(value) || !is_compared(compare, key)) {
            return error_set(error, STATUS_INVALID, "--set",
                             "failed to read option --set: got \"%.64s\", expected METHOD.KEY=VALUE of a method that "
                             "is compared",
                             key);
        }
    }
    return STATUS_OK;
}

static enum status start(struct compare *compare, struct error *error) {
    enum status status =
        local_server_connect(&compare->options, compare->threads, &compare->server, &compare->client, error);
    if (status == STATUS_OK && compare->count == 0) {
        status = ask_names(compare, error);
    }
    if (status == STATUS_OK) {
        status = check_settings(compare, error);
    }
    compare->bar = progress_bar_new(stderr, progress_mode_of(compare->options.quiet));
    if (status == STATUS_OK) {
        status =
            transfer_object_id(compare->client, compare->bar, TRANSFER_MODEL, compare->model, compare->model_id, error);
    }
    if (status == STATUS_OK) {
        status = transfer_object_id(compare->client, compare->bar, TRANSFER_SAMPLES, compare->samples,
                                    compare->samples_id, error);
    }
    if (status == STATUS_OK && compare->probe != NULL) {
        status = transfer_object_id(compare->client, compare->bar, TRANSFER_SAMPLES, compare->probe, compare->probe_id,
                                    error);
    }
    progress_bar_end(compare->bar, false);
    return status;
}

/* One job from its submission to its report (new reference). */
static enum status run_method(struct compare *compare, const char *name, json_t **report, struct error *error) {
    const struct job_words words = {.model = compare->model_id,
                                    .samples = compare->samples_id,
                                    .probe = compare->probe != NULL ? compare->probe_id : NULL,
                                    .method = name,
                                    .seed = compare->seed};
    json_t *body = NULL, *parameters = json_object_get(compare->parameters, name);
    char job_id[ID_SIZE];
    enum status status = job_calls_prepare(&words, &body, error);
    if (status == STATUS_OK && parameters != NULL && json_object_set(body, "parameters", parameters) != 0) {
        status = error_no_memory(error, "a job");
    }
    if (status == STATUS_OK) {
        status = job_calls_submit(compare->client, compare->bar, &words, body, job_id, error);
    }
    json_decref(body);
    if (status == STATUS_OK) {
        status = job_calls_see_through(compare->client, job_id, compare->bar, error);
    }
    return status == STATUS_OK ? job_calls_result(compare->client, job_id, report, error) : status;
}

static void print_head(void) {
    (void)printf("%-10s %9s %9s %10s %10s %10s %7s %9s  %s\n", "method", "accuracy", "after", "attack", "after",
                 "recovery", "pruned", "seconds", "verdict");
}

static void print_row(const char *name, const json_t *report, const struct error *error) {
    static const char *const shares[] = {"locked_before", "locked_after", "asr_before", "asr_after", "recovery_after"};
    char cells[sizeof shares / sizeof shares[0]][REPORT_CELL_SIZE];
    double pruned = 0.0, seconds = 0.0;
    if (report == NULL) {
        (void)printf("%-10s failed: %s\n", name, error->message);
        return;
    }
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        report_format_percent(cells[i], report, shares[i]);
    }
    const char *verdict = report_word(report, "verdict");
    (void)report_number(report, "pruned_units", &pruned);
    (void)report_number(report, "seconds", &seconds);
    (void)printf("%-10s %9s %9s %10s %10s %10s %7.0f %9.1f  %s\n", name, cells[0], cells[1], cells[2], cells[3],
                 cells[4], pruned, seconds, verdict != NULL ? verdict : "-");
}

/* All methods in turn; a row is printed when it is known. */
static void run_methods(struct compare *compare) {
    if (!compare->options.json) {
        print_head();
    }
    for (size_t i = 0; i < compare->count && interrupt_count() == 0; i++) {
        struct error error = {0};
        json_t *report = NULL;
        const char *name = compare->names[i];
        if (run_method(compare, name, &report, &error) != STATUS_OK) {
            compare->any_failed = true;
            json_array_append_new(compare->rows, json_pack("{s:s, s:s}", "method", name, "error", error.message));
        } else {
            json_array_append_new(compare->rows, json_pack("{s:s, s:O}", "method", name, "report", report));
        }
        if (!compare->options.json) {
            print_row(name, report, &error);
            (void)fflush(stdout);
        }
        json_decref(report);
    }
}

static int compare_all(struct compare *compare) {
    struct error error = {0};
    int exit_code = EXIT_DONE;
    const enum status status = start(compare, &error);
    compare->rows = json_array();
    if (status != STATUS_OK) {
        exit_code = command_fail(&error);
    } else {
        run_methods(compare);
        if (compare->options.json) {
            command_print_json(stdout, compare->rows, true);
        } else {
            (void)printf("\naccuracy: on the locked fifth of the samples, which no method sees before the end\n");
        }
        exit_code = compare->any_failed || interrupt_count() > 0 ? EXIT_FAILED : EXIT_DONE;
    }
    json_decref(compare->rows);
    progress_bar_free(compare->bar);
    api_client_free(compare->client);
    local_server_stop(compare->server);
    return exit_code;
}

int cmd_compare(const struct command *command, int argc, char **argv) {
    struct compare compare = {0};
    const struct option table[] = {
        {"samples", 0, OPTION_STRING, &compare.samples, 0, "FILE", "clean samples: npz, or a zip of images; or an id"},
        {"probe", 0, OPTION_STRING, &compare.probe, 0, "FILE", "triggered samples, for the figures alone; or an id"},
        {"methods", 0, OPTION_STRING, &compare.methods, 0, "A,B,...", "which, in this order (default: all there are)"},
        {"set", 0, OPTION_LIST, &compare.settings, 0, "METHOD.KEY=VALUE", "a parameter of a method; may be repeated"},
        {"seed", 0, OPTION_STRING, &compare.seed, 0, "N", "seed of all randomness, the same for all"},
        {"threads", 't', OPTION_U64, &compare.threads, 1024, "N", "threads of the private onpd (default: one a core)"},
        COMMAND_OPTION_ROWS(compare.options),
        COMMAND_OPTION_END,
    };
    struct command_words words;
    struct error error = {0};
    int exit_code = EXIT_USAGE;
    if (!command_parse(command, table, &compare.options.help, argc, argv, 1, 1, &words, &exit_code)) {
        return exit_code;
    }
    compare.model = words.items[0];
    enum status status = STATUS_OK;
    if (compare.samples == NULL) {
        status = error_set(&error, STATUS_INVALID, "--samples",
                           "failed to read options: got no --samples, expected clean samples (an npz)");
    } else if (compare.threads > 0 && command_has_server(&compare.options)) {
        status = error_set(&error, STATUS_INVALID, "--threads",
                           "failed to read options: got --threads with a server, expected one or the other");
    }
    if (status == STATUS_OK) {
        status = read_names(&compare, &error);
    }
    if (status == STATUS_OK) {
        status = settings_from_list(&compare.settings, &compare.parameters, &error);
    }
    if (status == STATUS_OK && compare.count > 0) {
        status = check_settings(&compare, &error);
    }
    exit_code = status != STATUS_OK ? command_usage(command, &error) : compare_all(&compare);
    json_decref(compare.parameters);
    return exit_code;
}
