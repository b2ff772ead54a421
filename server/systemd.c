/* The few lines of libsystemd that a daemon needs. */
#include "server/systemd.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/parse.h"

void systemd_notify(const char *state) {
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timespec now;
    char text[160];
    if (path == NULL || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof address.sun_path) {
        return;
    }
    const size_t length = strlen(path);
    memcpy(address.sun_path, path, length);
    if (path[0] == '@') {
        address.sun_path[0] = '\0'; /* an abstract name */
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    const uint64_t usec = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    const int size = strncmp(state, "RELOADING=1", 11) == 0
                         ? snprintf(text, sizeof text, "%s\nMONOTONIC_USEC=%llu", state, (unsigned long long)usec)
                         : snprintf(text, sizeof text, "%s", state);
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        /* A manager that does not listen is no reason to fail. */
        (void)!sendto(fd, text, size < (int)sizeof text ? (size_t)size : sizeof text - 1, MSG_NOSIGNAL,
                      (const struct sockaddr *)&address,
                      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (path[0] == '/' ? 1 : 0)));
        (void)close(fd);
    }
}

double systemd_watchdog_s(void) {
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    uint64_t value = 0, owner = 0;
    if (usec == NULL || !parse_u64(usec, UINT64_MAX, &value) ||
        (pid != NULL && (!parse_u64(pid, INT32_MAX, &owner) || owner != (uint64_t)getpid()))) {
        return 0;
    }
    return (double)value / 1e6;
}
