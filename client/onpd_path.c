/* The client and the server are installed side by side and must be of one version, so the neighbour comes before PATH. */
#include "client/onpd_path.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum status onpd_path_find(char *out, size_t size, struct error *error) {
    const char *given = getenv("ONPD");
    char self[PATH_MAX];
    if (given != NULL && given[0] != '\0') {
        if (access(given, X_OK) != 0) {
            return error_io(error, "ONPD", "failed to find onpd at %.200s", given);
        }
        int length = snprintf(out, size, "%s", given);
        return length >= 0 && (size_t)length < size
                   ? STATUS_OK
                   : error_set(error, STATUS_LIMIT, "ONPD", "failed to read ONPD: got too long a path");
    }
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length > 0) {
        self[length] = '\0';
        char *slash = strrchr(self, '/');
        if (slash != NULL) {
            slash[1] = '\0';
            int written = snprintf(out, size, "%sonpd", self);
            if (written >= 0 && (size_t)written < size && access(out, X_OK) == 0) {
                return STATUS_OK;
            }
        }
    }
    (void)snprintf(out, size, "onpd");
    return STATUS_OK;
}
