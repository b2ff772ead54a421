/* onp upload: files to ids. */
#include <stdio.h>

#include "client/command.h"
#include "client/transfer.h"

struct upload {
    struct command_options options;
    const char *kind;
    const char *name;
};

static enum status kind_of(const struct upload *upload, const char *file, enum transfer_kind *kind,
                           struct error *error) {
    *kind = upload->kind != NULL ? transfer_kind_from_name(upload->kind) : transfer_kind_of(file);
    if (*kind != TRANSFER_UNKNOWN) {
        return STATUS_OK;
    }
    if (upload->kind != NULL) {
        return error_set(error, STATUS_INVALID, "--kind",
                         "failed to read option --kind: got \"%.64s\", expected model or samples", upload->kind);
    }
    return error_set(error, STATUS_INVALID, NULL,
                     "failed to upload %.100s: got another ending, expected .onnx, .npz, .zip or --kind", file);
}

/* "mdl_...  model.onnx  11173962 parameters, 4800 units": what of it the server said. */
static void print_object(enum transfer_kind kind, const char *file, const json_t *object) {
    static const char *const model_members[] = {"parameters", "units", "classes", "opset"};
    static const char *const samples_members[] = {"count", "classes"};
    const char *const *members = kind == TRANSFER_MODEL ? model_members : samples_members;
    size_t count = kind == TRANSFER_MODEL ? 4 : 2;
    const char *id = json_string_value(json_object_get(object, "id"));
    const char *separator = "";
    const json_t *info = json_object_get(object, "info");
    (void)printf("%s  %s  ", id != NULL ? id : "-", file);
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(object, members[i]);
        value = value != NULL ? value : json_object_get(info, members[i]);
        if (json_is_integer(value)) {
            (void)printf("%s%s %lld", separator, members[i], (long long)json_integer_value(value));
            separator = ", ";
        }
    }
    (void)printf("\n");
    (void)fflush(stdout);
}

int cmd_upload(const struct command *command, int argc, char **argv) {
    struct upload upload = {.kind = NULL};
    const struct option table[] = {
        {"kind", 'k', OPTION_STRING, &upload.kind, 0, "KIND", "model or samples (default: from the file's ending)"},
        {"name", 0, OPTION_STRING, &upload.name, 0, "NAME", "name on the server (default: the file's)"},
        COMMAND_OPTION_ROWS(upload.options),
        COMMAND_OPTION_END,
    };
    struct command_words words;
    struct error error = {0};
    struct api_client *client = NULL;
    enum transfer_kind kind = TRANSFER_UNKNOWN;
    int exit_code = EXIT_USAGE;
    if (!command_parse(command, table, &upload.options.help, argc, argv, 1, COMMAND_WORDS_MAX, &words, &exit_code)) {
        return exit_code;
    }
    for (size_t i = 0; i < words.count; i++) {
        if (kind_of(&upload, words.items[i], &kind, &error) != STATUS_OK) {
            return command_usage(command, &error);
        }
    }
    struct progress_bar *bar = progress_bar_new(stderr, progress_mode_of(upload.options.quiet));
    enum status status = command_connect(&upload.options, &client, &error);
    for (size_t i = 0; i < words.count && status == STATUS_OK; i++) {
        json_t *object = NULL;
        (void)kind_of(&upload, words.items[i], &kind, &error);
        status = transfer_upload(client, bar, kind, words.items[i], upload.name, &object, &error);
        progress_bar_end(bar, false);
        if (status == STATUS_OK && upload.options.json) {
            command_print_json(stdout, object, false);
        } else if (status == STATUS_OK) {
            print_object(kind, words.items[i], object);
        }
        json_decref(object);
    }
    progress_bar_free(bar);
    api_client_free(client);
    return status == STATUS_OK ? EXIT_DONE : command_fail(&error);
}
