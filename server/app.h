/* The daemon: owns every long-lived object, starts them in order and stops them in reverse. */
#ifndef ONP_SERVER_APP_H
#define ONP_SERVER_APP_H

#include "common/error.h"
#include "server/jobs/jobs.h"
#include "server/settings.h"

struct app;

/* What jobs run: the functions of server/mitigate. */
extern const struct job_methods app_methods;

/* Opens the store, starts workers and server, listens. The settings must outlive it; SIGHUP reads the token in them again. */
enum status app_start(struct settings *settings, struct app **app, struct error *error);
/* Serves until SIGTERM or SIGINT has drained it; SIGHUP reads tokens and certificate again. A second signal ends the process at once; nothing that was accepted is lost,
 * running jobs run again after the next start. */
void app_run(struct app *app);
/* Stops what is left and frees everything. Accepts NULL. */
void app_free(struct app *app);

#endif
