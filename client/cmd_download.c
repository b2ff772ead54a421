/* onp download: the files of a finished job. */
#include <stdio.h>
#include <string.h>

#include "client/command.h"
#include "client/nearest.h"
#include "client/transfer.h"

static const char *const ARTIFACTS[] = {ARTIFACT_MODEL, ARTIFACT_REPORT,   ARTIFACT_MASK,
                                        ARTIFACT_TRACE, ARTIFACT_TRIGGERS, ARTIFACT_UNITS};
enum { ARTIFACT_COUNT = sizeof ARTIFACTS / sizeof ARTIFACTS[0] };

static enum status check_artifact(const char *name, struct error *error) {
    for (size_t i = 0; i < ARTIFACT_COUNT; i++) {
        if (strcmp(ARTIFACTS[i], name) == 0) {
            return STATUS_OK;
        }
    }
    return error_set(error, STATUS_INVALID, NULL, "failed to read artifact: got \"%.64s\", expected perhaps %s", name,
                     nearest_word(name, ARTIFACTS, ARTIFACT_COUNT));
}

int cmd_download(const struct command *command, int argc, char **argv) {
    struct command_options options = {.server = NULL};
    const char *out = NULL;
    const struct option table[] = {
        {"output", 'o', OPTION_STRING, &out, 0, "FILE", "where to (default: the artifact's name; -: standard output)"},
        COMMAND_OPTION_ROWS(options),
        COMMAND_OPTION_END,
    };
    struct command_words words;
    struct error error = {0};
    struct api_client *client = NULL;
    int exit_code = EXIT_USAGE;
    if (!command_parse(command, table, &options.help, argc, argv, 1, 2, &words, &exit_code)) {
        return exit_code;
    }
    const char *artifact = words.count > 1 ? words.items[1] : ARTIFACT_MODEL;
    if (command_check_job_id(words.items[0], &error) != STATUS_OK || check_artifact(artifact, &error) != STATUS_OK) {
        return command_usage(command, &error);
    }
    out = out != NULL ? out : artifact;
    if (options.json && strcmp(out, "-") == 0) {
        (void)error_set(&error, STATUS_INVALID, "--json",
                        "failed to read options: got --json with -o -, expected one use of standard output");
        return command_usage(command, &error);
    }
    struct api_download_info info = {.size = 0};
    struct progress_bar *bar = progress_bar_new(stderr, progress_mode_of(options.quiet));
    enum status status = command_connect(&options, &client, &error);
    if (status == STATUS_OK) {
        status = transfer_artifact(client, bar, words.items[0], artifact, out, &info, &error);
        progress_bar_end(bar, false);
    }
    if (status == STATUS_OK && options.json) {
        json_t *done = json_pack("{s:s, s:s, s:s, s:I}", "file", out, "artifact", artifact, "sha256", info.sha256,
                                 "size", (json_int_t)info.size);
        command_print_json(stdout, done, false);
        json_decref(done);
    } else if (status == STATUS_OK && strcmp(out, "-") != 0) {
        (void)printf("%s\n", out);
    }
    progress_bar_free(bar);
    api_client_free(client);
    return status == STATUS_OK ? EXIT_DONE : command_fail(&error);
}
