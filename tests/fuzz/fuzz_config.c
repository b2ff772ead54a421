/* Configuration files of the daemon. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/file.h"
#include "server/settings.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct settings settings;
    struct error error = {0};
    char path[64], program[] = "onpd";
    char *argv[] = {program, path, NULL};
    int fd = memfd_create("config", MFD_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    if (!file_write_all(fd, bytes, length)) {
        (void)close(fd);
        return 0;
    }
    (void)snprintf(path, sizeof path, "--config=/proc/self/fd/%d", fd);
    (void)settings_load(&settings, 2, argv, &error);
    settings_deinit(&settings);
    (void)close(fd);
    return 0;
}
