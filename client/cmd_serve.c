/* onp serve: becomes onpd. One name to remember for both. */
#include <limits.h>
#include <signal.h>
#include <unistd.h>

#include "client/command.h"
#include "client/onpd_path.h"

int cmd_serve(const struct command *command, int argc, char **argv) {
    char path[PATH_MAX];
    struct error error = {0};
    (void)argc;
    (void)command;
    if (onpd_path_find(path, sizeof path, &error) != STATUS_OK) {
        return command_fail(&error);
    }
    /* Ignored signals stay ignored across exec; handled ones fall back by themselves. */
    (void)signal(SIGPIPE, SIG_DFL);
    argv[0] = path;
    (void)execvp(path, argv);
    (void)error_io(&error, NULL, "failed to start %.200s", path);
    return command_fail(&error);
}
