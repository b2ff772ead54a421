/* Sample files, whatever they are: the zip, its arrays or images, and what becomes of them. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/file.h"
#include "server/data/samples.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length) {
    struct samples_limits limits = samples_default_limits;
    struct samples *samples = NULL;
    struct error error = {0};
    char path[64];
    int fd = memfd_create("samples", MFD_CLOEXEC);
    limits.max_unpacked_bytes = 1 << 24;
    if (fd < 0) {
        return 0;
    }
    if (!file_write_all(fd, bytes, length)) {
        (void)close(fd);
        return 0;
    }
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (samples_load(path, &limits, &samples, &error) == STATUS_OK) {
        samples_free(samples);
    }
    (void)close(fd);
    return 0;
}
