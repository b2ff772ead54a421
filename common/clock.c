/* Time from the two clocks that the kernel offers without a system call. */
#include "common/clock.h"

#include <stdio.h>
#include <time.h>

double clock_seconds(void) {
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail for this clock */
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int64_t clock_wall_ms(void) {
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void clock_rfc3339(int64_t wall_ms, char out[CLOCK_RFC3339_SIZE]) {
    time_t seconds = (time_t)(wall_ms / 1000);
    int millis = (int)(wall_ms % 1000);
    if (millis < 0) {
        millis += 1000; /* before 1970 the division rounds up */
        seconds -= 1;
    }
    struct tm parts = {0};
    char date[24] = "";
    if (gmtime_r(&seconds, &parts) == NULL || strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &parts) == 0) {
        (void)snprintf(out, CLOCK_RFC3339_SIZE, "1970-01-01T00:00:00.000Z"); /* a year that no calendar has */
        return;
    }
    (void)snprintf(out, CLOCK_RFC3339_SIZE, "%s.%03dZ", date, millis);
}
