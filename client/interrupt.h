/* SIGINT and SIGTERM as something that loops can ask for, so that every exit goes through the ordinary clean-up. */
#ifndef ONP_CLIENT_INTERRUPT_H
#define ONP_CLIENT_INTERRUPT_H

#include <stdbool.h>

/* Counts SIGINT, SIGTERM and SIGHUP instead of dying of them; SIGPIPE is ignored. Call once, from main. */
void interrupt_install(void);
/* Signals received since start: 0 none, 1 stop in order, 2 or more leave now. */
int interrupt_count(void);
/* Sleeps, but no longer than until the next signal. false if a signal came in meanwhile. */
bool interrupt_sleep(double seconds);

#endif
