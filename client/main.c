/* onp: the command-line client of onpd. A table of commands; each is a file cmd_*.c. */
#include <curl/curl.h>
#include <locale.h>
#include <stdio.h>
#include <string.h>

#include "client/command.h"
#include "client/interrupt.h"
#include "client/nearest.h"
#include "common/text_wrap.h"

static const struct command COMMANDS[] = {
    {"run", "run MODEL.onnx --samples CLEAN.npz [--probe PROBE.npz] [-o OUT.onnx] [options]",
     "Repairs a model, from file to file; without --server it starts a private onpd for it.",
     "  onp run model.onnx --samples clean.npz -o repaired.onnx\n"
     "  onp run model.onnx --samples clean.npz --probe triggered.npz --report report.json\n"
     "  onp run model.onnx --samples clean.npz --set max_accuracy_drop=0.01 --fail-on 'verdict!=removed'\n",
     cmd_run},
    {"serve", "serve [options of onpd]", "Runs onpd, the server; all words are handed to it.",
     "  onp serve --listen 127.0.0.1:8080 --data /var/lib/onp\n  onp serve --help\n", cmd_serve},
    {"upload", "upload FILE... [--kind model|samples] [options]",
     "Uploads models (.onnx) and samples (.npz, .zip); prints an id a file.",
     "  onp upload model.onnx clean.npz probe.npz\n  onp upload --kind samples images.bin --name signs\n", cmd_upload},
    {"submit", "submit MODEL --samples SAMPLES [--probe SAMPLES] [options]",
     "Queues a job; prints its id. MODEL and SAMPLES are ids or files to upload.",
     "  onp submit mdl_01J... --samples smp_01J... --seed 7\n"
     "  onp submit model.onnx --samples clean.npz --set iterations=40 --watch\n",
     cmd_submit},
    {"status", "status JOB [options]", "Shows the state of a job.",
     "  onp status job_01J...\n  onp status job_01J... --json\n", cmd_status},
    {"watch", "watch JOB [options]", "Follows a job until it ends, with a progress bar.",
     "  onp watch job_01J...\n  onp watch job_01J... --json | jq .progress.stage\n", cmd_watch},
    {"wait", "wait JOB [--fail-on GATE]... [--timeout SECONDS] [options]",
     "Waits for a job and checks gates on its report: for pipelines.",
     "  onp wait job_01J... --fail-on 'asr_after>0.05' --fail-on 'accuracy_drop>0.02'\n"
     "  onp wait job_01J... --timeout 600 --fail-on 'verdict!=removed'\n",
     cmd_wait},
    {"cancel", "cancel JOB... [options]", "Cancels queued or running jobs.", "  onp cancel job_01J...\n", cmd_cancel},
    {"result", "result JOB [--fail-on GATE]... [options]", "Prints the result of a finished job.",
     "  onp result job_01J...\n  onp result job_01J... --json | jq .probe.asr_after\n", cmd_result},
    {"download", "download JOB [ARTIFACT] [-o FILE] [options]",
     "Downloads what a job made: model.onnx (the default), report.json, mask.json, trace.jsonl, triggers.json, "
     "units.json.",
     "  onp download job_01J... -o repaired.onnx\n  onp download job_01J... report.json -o -\n", cmd_download},
    {"list", "list [jobs|models|samples] [options]", "Lists what the server has, newest first.",
     "  onp list\n  onp list jobs --state running\n  onp list models --json\n", cmd_list},
    {"report", "report FILE|JOB [options]", "Shows a report in full: tables and small bars.",
     "  onp report report.json\n  onp report job_01J...\n  onp report report.json --html report.html\n", cmd_report},
    {"compare", "compare MODEL.onnx --samples CLEAN.npz [--probe PROBE.npz] [--methods A,B,...] [options]",
     "Runs several methods on one model and shows their figures side by side.",
     "  onp compare model.onnx --samples clean.npz --probe triggered.npz\n"
     "  onp compare model.onnx --samples clean.npz --methods onp,clp,fp --set clp.deviations=2.5 --json\n",
     cmd_compare},
    {"tokens", "tokens [list|create|revoke TOKEN_ID...] [options]",
     "Lists, makes and revokes the tokens of the server; needs one of the scope admin.",
     "  onp tokens\n  onp tokens create --name ci --scopes read,write --days 90\n  onp tokens revoke tok_01J...\n",
     cmd_tokens},
    {"capabilities", "capabilities [options]", "Shows the methods of the server with their parameters, and its limits.",
     "  onp capabilities\n  onp capabilities --json | jq .methods\n", cmd_capabilities},
    {"version", "version", "Prints the version.", "  onp version\n", cmd_version},
};

enum { COMMAND_COUNT = sizeof COMMANDS / sizeof COMMANDS[0] };

static int print_help(FILE *file) {
    size_t width = text_terminal_width(file);
    text_wrap(file, "onp finds backdoors in neural networks and prunes the neurons that carry them.", 0, 0, width);
    (void)fprintf(file, "\n\nusage: onp COMMAND [words and options]\n\ncommands:\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        (void)fprintf(file, "  %-13s ", COMMANDS[i].name);
        text_wrap(file, COMMANDS[i].summary, 16, 16, width);
        (void)fputc('\n', file);
    }
    static const char *const lines[] = {"onp COMMAND --help shows its options and examples.",
                                        "environment: ONP_SERVER, ONP_TOKEN, ONPD (path of onpd), NO_COLOR",
                                        "exit status: " COMMAND_EXIT_STATUS};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        (void)fputc('\n', file);
        text_wrap(file, lines[i], 0, 4, width);
    }
    (void)fputc('\n', file);
    return file == stdout ? EXIT_DONE : EXIT_USAGE;
}

static const struct command *find_command(const char *name) {
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(COMMANDS[i].name, name) == 0) {
            return &COMMANDS[i];
        }
    }
    return NULL;
}

static int unknown_command(const char *name) {
    const char *names[COMMAND_COUNT];
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        names[i] = COMMANDS[i].name;
    }
    (void)fprintf(stderr, "onp: got unknown command \"%.64s\", expected perhaps %s (onp --help lists them)\n", name,
                  nearest_word(name, names, COMMAND_COUNT));
    return EXIT_USAGE;
}

int main(int argc, char **argv) {
    (void)setlocale(LC_CTYPE, ""); /* for the letters of the bar; numbers stay in the C locale */
    if (argc < 2) {
        return print_help(stderr);
    }
    const char *name = argv[1];
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        const struct command *about = argc > 2 ? find_command(argv[2]) : NULL;
        char help[] = "--help";
        char *words[] = {argv[0], help, NULL};
        return about != NULL ? about->run(about, 2, words) : print_help(stdout);
    }
    const struct command *command = find_command(strcmp(name, "--version") == 0 ? "version" : name);
    if (command == NULL) {
        return unknown_command(name);
    }
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        (void)fprintf(stderr, "onp: failed to start libcurl\n");
        return EXIT_FAILED;
    }
    interrupt_install();
    int exit_code = command->run(command, argc - 1, argv + 1);
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        (void)fprintf(stderr, "onp: failed to write standard output\n");
        exit_code = exit_code == EXIT_DONE ? EXIT_FAILED : exit_code;
    }
    curl_global_cleanup();
    return exit_code;
}
