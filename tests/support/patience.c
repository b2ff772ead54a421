/* Patience, by counted naps. */
#include "tests/support/patience.h"

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

enum { NAP_MS = 5 };

double patience_s(double seconds) {
    const char *text = getenv("ONP_TEST_PATIENCE");
    const double factor = text != NULL ? strtod(text, NULL) : 1.0;
    return seconds * (factor > 1.0 ? factor : 1.0);
}

/* Counts one nap, if there is patience left. */
static bool spend(struct patience *patience) {
    if ((double)patience->naps * NAP_MS >= patience_s(60) * 1000) {
        return false;
    }
    patience->naps++;
    return true;
}

bool patience_nap(struct patience *patience) {
    if (!spend(patience)) {
        return false;
    }
    (void)usleep(NAP_MS * 1000);
    return true;
}

bool patience_read(struct patience *patience, int fd) {
    struct pollfd poll_fd = {fd, POLLIN, 0};

    while (poll(&poll_fd, 1, NAP_MS) <= 0) {
        if (!spend(patience)) {
            return false;
        }
    }
    return true;
}
