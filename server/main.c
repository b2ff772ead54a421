/* onpd: a table of contents. The same binary is also the child that runs one job. */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/words.h"
#include "server/app.h"
#include "server/cmd_backup.h"
#include "server/cmd_token.h"
#include "server/jobs/job_child.h"
#include "server/settings.h"

static int fail(const struct error *error, int code) {
    bool named = error->where[0] == '\0' || strstr(error->message, error->where) != NULL;

    (void)fprintf(stderr, "onpd: %s%s%s\n", named ? "" : error->where, named ? "" : ": ", error->message);
    return code;
}

static int serve(struct settings *settings) {
    struct app *app = NULL;
    struct error error = {0};

    if (app_start(settings, &app, &error) != STATUS_OK) {
        return fail(&error, EXIT_FAILED);
    }
    app_run(app);
    app_free(app);
    return EXIT_DONE;
}

int main(int argc, char **argv) {
    struct settings settings;
    struct error error = {0};
    int code = EXIT_DONE;

    json_object_seed(0); /* once, before there are threads */
    if (argc > 1 && strcmp(argv[1], JOB_CHILD_ARGUMENT) == 0) {
        return job_child_main(argc, argv, &app_methods);
    }
    if (argc > 1 && strcmp(argv[1], "token") == 0) {
        return cmd_token(argc - 1, argv + 1);
    }
    if (argc > 1 && (strcmp(argv[1], "backup") == 0 || strcmp(argv[1], "restore") == 0)) {
        return cmd_backup(argc - 1, argv + 1);
    }
    if (settings_load(&settings, argc, argv, &error) != STATUS_OK) {
        code = fail(&error, EXIT_USAGE);
    } else if (settings.help) {
        settings_print_help(stdout);
    } else if (settings.version) {
        (void)printf("onpd %s\n", ONP_VERSION);
    } else if (settings.print_config) {
        settings_print(stdout, &settings);
    } else if (!settings.check) {
        log_set_level(settings.log_level);
        code = serve(&settings);
    }
    settings_deinit(&settings);
    return code;
}
