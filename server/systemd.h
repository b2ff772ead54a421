/* What systemd wants to hear (sd_notify(3)): datagrams of NAME=VALUE lines to the socket that NOTIFY_SOCKET names. */
#ifndef ONP_SERVER_SYSTEMD_H
#define ONP_SERVER_SYSTEMD_H

/* Sends "READY=1" and the like; nothing happens without systemd. A RELOADING=1 gets the time that belongs to it. */
void systemd_notify(const char *state);
/* Seconds within which it must hear WATCHDOG=1; 0: it does not watch us. */
double systemd_watchdog_s(void);

#endif
