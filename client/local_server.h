/* A private onpd for one `onp run`: on a unix socket in a temporary folder of its own, gone when it is stopped. */
#ifndef ONP_CLIENT_LOCAL_SERVER_H
#define ONP_CLIENT_LOCAL_SERVER_H

#include <stdint.h>
#include <stdio.h>

#include "client/command.h"
#include "common/error.h"

struct local_server;

/* Starts it and waits until it listens. threads: of the job; 0: one a core. On failure the folder is gone and the end of
 * onpd's log is on stderr. */
enum status local_server_start(uint64_t threads, struct local_server **out, struct error *error);
/* "unix:/tmp/onp-.../sock"; borrowed. */
const char *local_server_address(const struct local_server *server);
/* Connects to the server that was named; if none was, to a private one that it starts (*server, else left NULL). */
enum status local_server_connect(const struct command_options *options, uint64_t threads, struct local_server **server,
                                 struct api_client **client, struct error *error);
/* The last lines of onpd's log. */
void local_server_print_log(const struct local_server *server, FILE *file);
/* SIGTERM, SIGKILL after a grace time, removes the folder. Accepts NULL. */
void local_server_stop(struct local_server *server);

#endif
