/* Signal handlers can only reach what is static, so the one counter of this program stands here, alone. A handler that
 * ended the process would leave a private onpd and its folder behind. */
#include "client/interrupt.h"

#include <signal.h>
#include <string.h>
#include <time.h>

static volatile sig_atomic_t received = 0;

static void on_signal(int number) {
    (void)number;
    if (received < 100) {
        received++;
    }
}

void interrupt_install(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal; /* without SA_RESTART: a blocking call must come back */
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    struct sigaction hangup;
    if (sigaction(SIGHUP, NULL, &hangup) == 0 && hangup.sa_handler != SIG_IGN) { /* nohup is respected */
        (void)sigaction(SIGHUP, &action, NULL);
    }
    action.sa_handler = SIG_IGN;
    (void)sigaction(SIGPIPE, &action, NULL);
}

int interrupt_count(void) {
    return (int)received;
}

bool interrupt_sleep(double seconds) {
    int before = interrupt_count();
    if (seconds > 0) {
        time_t whole = (time_t)seconds;
        struct timespec left = {.tv_sec = whole, .tv_nsec = (long)((seconds - (double)whole) * 1e9)};
        (void)nanosleep(&left, NULL);
    }
    return interrupt_count() == before;
}
