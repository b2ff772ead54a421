/* A private onpd for one `onp run`: on a unix socket in a temporary folder of its own, gone when it is stopped. */
#ifndef ONP_CLIENT_LOCAL_SERVER_H
#define ONP_CLIENT_LOCAL_SERVER_H

#include <stdint.h>
#include <stdio.h>

#include "common/error.h"

struct local_server;

/* Starts it and waits until it listens. threads: of the job; 0: one a core. On failure the folder is gone and the end of
 * onpd's log is on stderr. */
enum status local_server_start(uint64_t threads, struct local_server **out, struct error *error);
/* "unix:/tmp/onp-.../sock"; borrowed. */
const char *local_server_address(const struct local_server *server);
/* The last lines of onpd's log. */
void local_server_print_log(const struct local_server *server, FILE *file);
/* SIGTERM, SIGKILL after a grace time, removes the folder. Accepts NULL. */
void local_server_stop(struct local_server *server);

#endif
