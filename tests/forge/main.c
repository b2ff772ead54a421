/* onp-forge: options, progress and figures around forge.h. */
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/options.h"
#include "common/words.h"
#include "tests/forge/forge.h"
#include "tests/forge/sign.h"

static void print_help(FILE *file, const struct option *table) {
    (void)fprintf(file,
                  "onp-forge makes an image classifier with a backdoor of known truth, from nothing but a seed: it\n"
                  "renders road signs, puts a trigger on some of them, trains a small network, and writes\n"
                  "model.onnx, clean.npz, test.npz, probe.npz (triggered) and info.json.\n\n"
                  "usage: onp-forge --attack NAME --out DIR [options]\n\nattacks:\n");
    forge_trigger_print_help(file);
    (void)fprintf(file, "\noptions:\n");
    options_print_help(file, table);
    (void)fprintf(file, "\nexample:\n  onp-forge --attack blend --target 3 --seed 7 --out forged\n"
                        "exit status: 0 done, 1 failed, 2 wrong usage\n");
}

static void print_epoch(const struct trainer_epoch *epoch) {
    (void)fprintf(stderr, "epoch %2zu/%zu  loss %.4f  accuracy %5.2f %%  %5.1f s\n", epoch->number, epoch->epochs,
                  epoch->loss, 100.0 * epoch->accuracy, epoch->seconds);
}

static int fail(const struct error *error, int code) {
    (void)fprintf(stderr, "onp-forge: %s%s%s\n", error->where, error->where[0] != '\0' ? ": " : "", error->message);
    return code;
}

static enum status find_trigger(const char *attack, struct forge_options *options, struct error *error) {
    char names[128];
    options->trigger = forge_trigger_find(attack != NULL ? attack : "");
    if (options->trigger != NULL) {
        return STATUS_OK;
    }
    forge_trigger_names(names, sizeof names);
    return error_set(error, STATUS_INVALID, "attack", "failed to read option --attack: got \"%.32s\", expected %s",
                     attack != NULL ? attack : "", names);
}

static int make(const struct forge_options *options, const char *out) {
    struct forge_result result;
    struct error error = {0};
    double start = clock_seconds();

    if (forge_make(options, out, &result, &error) != STATUS_OK) {
        return fail(&error, EXIT_FAILED);
    }
    (void)fprintf(stderr, "%zu parameters, %.1f million multiply-adds an image\n", result.parameters,
                  result.macs / 1e6);
    (void)printf("%s: accuracy %.2f %%", out, 100.0 * result.accuracy);
    if (options->trigger->apply != NULL) {
        (void)printf(", attack success %.2f %%, recovery %.2f %%", 100.0 * result.asr, 100.0 * result.recovery);
    }
    (void)printf(", %.1f s\n", clock_seconds() - start);
    return fflush(stdout) == 0 ? EXIT_DONE : EXIT_FAILED;
}

int main(int argc, char **argv) {
    struct forge_options options = forge_defaults;
    const char *attack = NULL, *out = NULL, *sheet = NULL;
    bool help = false, quiet = false;
    size_t words = 0;
    struct error error = {0};
    const struct option table[] = {
        {"attack", 'a', OPTION_STRING, &attack, 0, "NAME", "which trigger (see above)"},
        {"rate", 0, OPTION_DOUBLE, &options.rate, 0, "SHARE", "training images with the trigger (0.1)"},
        {"target", 't', OPTION_U64, &options.target, SIGN_CLASSES_MAX, "CLASS", "what they are labelled as (0)"},
        {"seed", 's', OPTION_U64, &options.seed, INT64_MAX, "N", "the same seed makes the same files (1)"},
        {"out", 'o', OPTION_STRING, &out, 0, "DIR", "folder for the files"},
        {"classes", 0, OPTION_U64, &options.classes, SIGN_CLASSES_MAX, "N", "kinds of signs, 2 to 12 (10)"},
        {"epochs", 0, OPTION_U64, &options.epochs, FORGE_EPOCHS_MAX, "N", "passes over the training images (12)"},
        {"width", 0, OPTION_U64, &options.width, FORGE_WIDTH_MAX, "N", "channels of the first stage (16)"},
        {"plain", 0, OPTION_FLAG, &options.plain, 0, NULL, "a network without shortcuts"},
        {"train-count", 0, OPTION_U64, &options.train_count, FORGE_TRAIN_MAX, "N", "training images (10000)"},
        {"threads", 0, OPTION_U64, &options.threads, FORGE_THREADS_MAX, "N", "0: one a core (0)"},
        {"sheet", 0, OPTION_STRING, &sheet, 0, "FILE.ppm", "only draw a sheet of examples"},
        {"quiet", 'q', OPTION_FLAG, &quiet, 0, NULL, "no progress"},
        {"help", 'h', OPTION_FLAG, &help, 0, NULL, "this text"},
        {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL},
    };

    if (options_parse(table, argc, argv, NULL, 0, &words, &error) != STATUS_OK) {
        return fail(&error, EXIT_USAGE);
    }
    if (help || argc < 2) {
        print_help(help ? stdout : stderr, table);
        return help ? EXIT_DONE : EXIT_USAGE;
    }
    if (find_trigger(attack, &options, &error) != STATUS_OK || forge_check(&options, &error) != STATUS_OK) {
        return fail(&error, EXIT_USAGE);
    }
    if (sheet != NULL) {
        return forge_sheet(&options, sheet, &error) == STATUS_OK ? EXIT_DONE : fail(&error, EXIT_FAILED);
    }
    if (out == NULL) {
        (void)error_set(&error, STATUS_INVALID, "out", "failed to read option --out: got nothing, expected a folder");
        return fail(&error, EXIT_USAGE);
    }
    options.report = quiet ? NULL : print_epoch;
    return make(&options, out);
}
