/* onp run: from a model file to a repaired model file. With --server (or ONP_SERVER) on that server, otherwise on a private
 * onpd that lives as long as this command. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/command.h"
#include "client/gate.h"
#include "client/job_calls.h"
#include "client/local_server.h"
#include "client/report_view.h"
#include "client/transfer.h"

enum { NAME_SIZE = 512 };

struct run {
    struct command_options options;
    struct job_words words;
    const char *out;    /* where the model goes */
    const char *report; /* or NULL */
    uint64_t threads;
    const char *backend;
    struct option_list fail_on;
    struct gates gates;
    char out_name[NAME_SIZE]; /* "model-repaired.onnx" when no -o is given */

    struct local_server *server; /* or NULL */
    struct api_client *client;
    struct progress_bar *bar;
    json_t *body;
    char job_id[ID_SIZE];
    json_t *result;
};

/* "dir/model.onnx" to "model-repaired.onnx" in the current folder: the folder of the model may not be ours to write in. */
static void name_output(struct run *run) {
    const char *slash = strrchr(run->words.model, '/');
    const char *base = slash != NULL ? slash + 1 : run->words.model;
    size_t length = strlen(base);
    if (length > 5 && strcmp(base + length - 5, ".onnx") == 0) {
        length -= 5;
    }
    (void)snprintf(run->out_name, sizeof run->out_name, "%.*s-repaired.onnx", (int)(length < 400 ? length : 400), base);
    run->out = run->out_name;
}

/* All that can be wrong with the words is found before anything is started or uploaded. */
static enum status check_words(struct run *run, struct error *error) {
    const char *const files[] = {run->words.model, run->words.samples, run->words.probe};
    if (run->words.samples == NULL) {
        return error_set(error, STATUS_INVALID, "--samples",
                         "failed to read options: got no --samples, expected clean samples (an npz)");
    }
    if ((run->threads > 0 || run->backend != NULL) && command_has_server(&run->options)) {
        const char *option = run->threads > 0 ? "--threads" : "--backend";
        return error_set(error, STATUS_INVALID, option,
                         "failed to read options: got %s with a server, expected one or the other", option);
    }
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        bool is_id = files[i] != NULL && command_word_is_id(files[i], i == 0 ? "mdl" : "smp");
        if (is_id && !command_has_server(&run->options)) {
            return error_set(error, STATUS_INVALID, NULL,
                             "failed to read %s: got an id without --server, expected a file", files[i]);
        }
        FILE *file = files[i] != NULL && !is_id ? fopen(files[i], "rb") : NULL;
        if (files[i] != NULL && !is_id && file == NULL) {
            return error_io(error, NULL, "failed to open file %.200s", files[i]);
        }
        if (file != NULL) {
            (void)fclose(file);
        }
    }
    if (run->out == NULL) {
        name_output(run);
    }
    if (strcmp(run->out, run->words.model) == 0) {
        return error_set(error, STATUS_INVALID, "-o",
                         "failed to read option -o: got the model itself, expected another file");
    }
    enum status status = gates_parse(&run->fail_on, &run->gates, error);
    return status == STATUS_OK ? job_calls_prepare(&run->words, &run->body, error) : status;
}

static enum status fetch(struct run *run, struct error *error) {
    enum status status = job_calls_result(run->client, run->job_id, &run->result, error);
    if (status == STATUS_OK) {
        status = transfer_artifact(run->client, run->bar, run->job_id, ARTIFACT_MODEL, run->out, NULL, error);
    }
    if (status == STATUS_OK && run->report != NULL) {
        status = transfer_artifact(run->client, run->bar, run->job_id, ARTIFACT_REPORT, run->report, NULL, error);
    }
    progress_bar_end(run->bar, false);
    return status;
}

static void print_result(const struct run *run) {
    if (run->options.json) {
        command_print_json(stdout, run->result, true);
        return;
    }
    struct progress_style style = progress_style_of(stdout);
    (void)printf("\n");
    report_view_summary(stdout, run->result, &style);
    (void)printf("\n  repaired model: %s\n", run->out);
    if (run->report != NULL) {
        (void)printf("  report:         %s   (onp report %s shows it)\n", run->report, run->report);
    }
}

static int run_job(struct run *run) {
    struct error error = {0};
    int exit_code = EXIT_DONE;
    enum status status = STATUS_OK;
    if (run->backend != NULL && setenv("ONP_BACKEND", run->backend, 1) != 0) { /* the private onpd inherits it */
        status = error_no_memory(&error, "the environment");
    }
    if (status == STATUS_OK) {
        status = local_server_connect(&run->options, run->threads, &run->server, &run->client, &error);
    }
    if (status == STATUS_OK) {
        run->bar = progress_bar_new(stderr, progress_mode_of(run->options.quiet));
        status = job_calls_submit(run->client, run->bar, &run->words, run->body, run->job_id, &error);
        progress_bar_end(run->bar, false);
    }
    if (status == STATUS_OK) {
        status = job_calls_see_through(run->client, run->job_id, run->bar, &error);
    }
    if (status == STATUS_OK) {
        status = fetch(run, &error);
    }
    if (status == STATUS_OK) {
        print_result(run);
        exit_code = gates_check(&run->gates, run->result, stderr) ? EXIT_DONE : EXIT_GATE;
    } else {
        progress_bar_end(run->bar, true);
        exit_code = command_fail(&error);
        /* What the server calls internal is explained in its log alone. */
        if (run->server != NULL && (status == STATUS_INTERNAL || status == STATUS_UNAVAILABLE)) {
            local_server_print_log(run->server, stderr);
            exit_code = EXIT_FAILED;
        }
    }
    json_decref(run->result);
    progress_bar_free(run->bar);
    api_client_free(run->client);
    local_server_stop(run->server);
    return exit_code;
}

int cmd_run(const struct command *command, int argc, char **argv) {
    struct run run = {.words = {.method = "onp"}};
    const struct option table[] = {
        {"samples", 0, OPTION_STRING, &run.words.samples, 0, "FILE",
         "clean samples: npz, or a zip of images; or an id"},
        {"probe", 0, OPTION_STRING, &run.words.probe, 0, "FILE", "triggered samples, for the report alone; or an id"},
        {"output", 'o', OPTION_STRING, &run.out, 0, "FILE", "the repaired model (default: MODEL-repaired.onnx)"},
        {"report", 'r', OPTION_STRING, &run.report, 0, "FILE", "write the report here"},
        {"method", 0, OPTION_STRING, &run.words.method, 0, "NAME", "onp (default) or another of onp capabilities"},
        {"set", 0, OPTION_LIST, &run.words.settings, 0, "KEY=VALUE", "a parameter of the method; may be repeated"},
        {"seed", 0, OPTION_STRING, &run.words.seed, 0, "N", "seed of all randomness"},
        {"backend", 0, OPTION_STRING, &run.backend, 0, "NAME",
         "what computes in the private onpd: auto (default), blas or dnnl"},
        {"threads", 't', OPTION_U64, &run.threads, 1024, "N", "threads of the private onpd (default: one a core)"},
        {"fail-on", 0, OPTION_LIST, &run.fail_on, 0, "GATE", "exit with 3 if this holds, such as 'asr_after>0.05'"},
        COMMAND_OPTION_ROWS(run.options),
        COMMAND_OPTION_END,
    };
    struct command_words words;
    struct error error = {0};
    int exit_code = EXIT_USAGE;
    if (!command_parse(command, table, &run.options.help, argc, argv, 1, 1, &words, &exit_code)) {
        return exit_code;
    }
    run.words.model = words.items[0];
    enum status status = check_words(&run, &error);
    if (status == STATUS_IO) {
        exit_code = command_fail(&error);
    } else if (status != STATUS_OK) {
        exit_code = command_usage(command, &error);
    } else {
        exit_code = run_job(&run);
    }
    json_decref(run.body);
    return exit_code;
}
