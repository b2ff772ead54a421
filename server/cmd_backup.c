/* Backup and restore from the command line. */
#include "server/cmd_backup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/options.h"
#include "common/words.h"
#include "server/store/store_upkeep.h"

int cmd_backup(int argc, char **argv) {
    const bool out = strcmp(argv[0], "backup") == 0;
    const char *data_dir = NULL, *words[1] = {NULL};
    bool help = false;
    size_t count = 0;
    struct error error = {0};
    struct store_backup_figures figures;
    const struct option table[] = {
        {"data", 'd', OPTION_STRING, &data_dir, 0, "DIR", "folder of the server (ONP_DATA, default onp-data)"},
        {"help", 'h', OPTION_FLAG, &help, 0, NULL, "print this, and end"},
        {NULL, 0, OPTION_FLAG, NULL, 0, NULL, NULL},
    };
    enum status status = options_parse(table, argc, argv, words, 1, &count, &error);
    if (status == STATUS_OK && (help || count == 0)) {
        (void)fprintf(help ? stdout : stderr, "usage: onpd %s DIR [--data DIR]\n%s\n", argv[0],
                      out ? "Copies database and files into DIR. A server may go on working meanwhile; what is there "
                            "already is kept."
                          : "Copies a backup into a data folder that holds no store yet. No server may use it.");
        options_print_help(help ? stdout : stderr, table);
        return help ? EXIT_DONE : EXIT_USAGE;
    }
    if (data_dir == NULL) {
        data_dir = getenv("ONP_DATA");
    }
    data_dir = data_dir != NULL && data_dir[0] != '\0' ? data_dir : "onp-data";
    if (status == STATUS_OK) {
        status = out ? store_backup(data_dir, words[0], &figures, &error)
                     : store_restore(words[0], data_dir, &figures, &error);
    }
    if (status != STATUS_OK) {
        (void)fprintf(stderr, "onpd %s: %s\n", argv[0], error.message);
        return status == STATUS_INVALID && count == 0 ? EXIT_USAGE : EXIT_FAILED;
    }
    (void)printf("%llu files, %llu of them copied (%.1f MB)\n", (unsigned long long)figures.blobs,
                 (unsigned long long)figures.copied, (double)figures.bytes / 1e6);
    return EXIT_DONE;
}
