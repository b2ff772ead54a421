/* onp report: a report in full, from a file or from a finished job. */
#include <stdio.h>
#include <string.h>

#include "client/command.h"
#include "client/job_calls.h"
#include "client/report_html.h"
#include "client/report_view.h"
#include "common/file.h"
#include "common/json_read.h"
#include "common/mem.h"

enum { REPORT_MAX = 64 << 20, PAGE_MAX = 256 << 20 };

static enum status read_file(const char *path, json_t **report, struct error *error) {
    char *text = NULL;
    size_t length = 0;
    enum status status = file_read(path, REPORT_MAX, &text, &length, error);
    if (status == STATUS_OK) {
        status = json_read_text(text, length, report, error);
    }
    mem_free(text);
    if (status == STATUS_OK && !json_is_object(*report)) {
        json_decref(*report);
        *report = NULL;
        status =
            error_set(error, STATUS_INVALID, path, "failed to read report %.200s: got no object, expected one", path);
    }
    return status;
}

static enum status fetch(const struct command_options *options, const char *job_id, json_t **report,
                         struct error *error) {
    struct api_client *client = NULL;
    enum status status = command_connect(options, &client, error);
    if (status == STATUS_OK) {
        status = job_calls_result(client, job_id, report, error);
    }
    api_client_free(client);
    return status;
}

/* The page, as a file or on standard output. */
static enum status write_page(const char *path, const json_t *report, struct error *error) {
    struct buf page;
    enum status status = STATUS_OK;
    buf_init(&page, PAGE_MAX);
    report_html_write(&page, report);
    if (page.failed) {
        status = error_no_memory(error, "the page of a report");
    } else if (strcmp(path, "-") == 0) {
        (void)fwrite(page.data, 1, page.length, stdout);
    } else {
        status = file_write_atomic(path, page.data, page.length, error);
    }
    buf_deinit(&page);
    return status;
}

int cmd_report(const struct command *command, int argc, char **argv) {
    struct command_options options = {.server = NULL};
    const char *page = NULL;
    const struct option table[] = {
        {"html", 0, OPTION_STRING, &page, 0, "FILE",
         "write it as one page that needs nothing else (-: standard output)"},
        COMMAND_OPTION_ROWS(options),
        COMMAND_OPTION_END,
    };
    struct command_words words;
    struct error error = {0};
    json_t *report = NULL;
    int exit_code = EXIT_USAGE;
    if (!command_parse(command, table, &options.help, argc, argv, 1, 1, &words, &exit_code)) {
        return exit_code;
    }
    if (options.json && page != NULL && strcmp(page, "-") == 0) {
        (void)error_set(&error, STATUS_INVALID, "--json",
                        "failed to read options: got --json with --html -, expected one use of standard output");
        return command_usage(command, &error);
    }
    enum status status = command_word_is_id(words.items[0], "job") ? fetch(&options, words.items[0], &report, &error)
                                                                   : read_file(words.items[0], &report, &error);
    if (status == STATUS_OK && page != NULL) {
        status = write_page(page, report, &error);
    }
    if (status != STATUS_OK) {
        json_decref(report);
        return command_fail(&error);
    }
    if (options.json) {
        command_print_json(stdout, report, true);
    } else if (page == NULL) {
        struct progress_style style = progress_style_of(stdout);
        report_view_full(stdout, report, &style);
    }
    json_decref(report);
    return EXIT_DONE;
}
